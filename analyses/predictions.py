"""What a classifier predicts, and what a change of it does to that: what is still right, and what stays the same."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.analyses.training import fitting_into_memory
from probe.errors import ArgumentError
from probe.images.batches import as_floats, open_images
from probe.images.folders import Folder
from probe.images.numbering import evenly_spaced
from probe.images.stimuli import apply_stimulus
from probe.models.first_layers import takes_grey
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import unwrap
from probe.reading.options import Options

__all__ = ["Predictions", "find_labels", "gives_embedding", "predict", "predicted_classes", "rolled_agreement"]

_PREDICTED_AT_ONCE = 256


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the predicted class of each image, shape (image,); the model should be in evaluation mode.

    Raises
    ------
    TooLargeError
        If a batch does not fit into memory.
    """
    shape = (min(len(images), _PREDICTED_AT_ONCE), *images.shape[1:])
    with torch.no_grad(), fitting_into_memory(f"testing: a batch of shape {shape}", images.device):
        return torch.cat([model(part).argmax(dim=1) for part in images.split(_PREDICTED_AT_ONCE)])


def predicted_classes(model: nn.Module, images: Any, options: Options) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which class a classifier gives to each image.

    Parameters
    ----------
    model
        Any classifier; it is left as it was found.
    images, options
        As in `probe.collect`.

    Returns
    -------
    tuple
        The image numbers in ascending order, the classes in the same order (−1 where the model gives NaN), and the
        number of classes. Empty, and 0, if the model's output is not one row of logits for each image, or the model
        says with ``num_classes`` that it has none, as timm's do without their head.
    """
    numbers: list[int] = []
    classes: list[Tensor] = [torch.zeros(0, dtype=torch.long)]
    n_classes = 0
    with closing(_outputs(model, images, options, lambda pixels, _: [pixels])) as outputs:
        for these, (logits,) in outputs:
            if not _are_logits(logits) or gives_embedding(model):
                return np.zeros(0, dtype=int), np.zeros(0, dtype=int), 0
            n_classes = logits.shape[1]
            numbers += these
            classes.append(torch.where(logits.isnan().any(dim=1), -1, logits.argmax(dim=1)).cpu())
    order = np.argsort(numbers)
    return np.array(numbers, dtype=int)[order], torch.cat(classes).numpy()[order], n_classes


def gives_embedding(model: nn.Module) -> bool:
    """Return whether a model says that it has no classes, so that its output is an embedding.

    Examples
    --------
    >>> net = nn.Flatten()
    >>> net.num_classes = 0
    >>> gives_embedding(net), gives_embedding(nn.Flatten())
    (True, False)
    """
    return getattr(unwrap(model), "num_classes", None) == 0


def rolled_agreement(model: nn.Module, images: Any, options: Options) -> float:
    """Return the share of images with the same predicted class at two independent circular shifts.

    Parameters
    ----------
    model
        Any classifier; it is left as it was found.
    images, options
        As in `probe.collect`.

    Returns
    -------
    float
        In [0, 1]; NaN if the model's output is not one row of logits for each image.
    """

    def roll_twice(pixels: Tensor, numbers: list[int]) -> list[Tensor]:
        return [apply_stimulus("rolled", pixels, numbers, options.seed + draw) for draw in (0, 1)]

    same = count = 0
    with closing(_outputs(model, images, options, roll_twice)) as outputs:
        for numbers, (first, second) in outputs:
            if not _are_logits(first):
                return float("nan")
            same += int((first.argmax(1) == second.argmax(1)).sum())
            count += len(numbers)
    return same / count if count else float("nan")


@dataclass(frozen=True)
class Predictions:
    """The classes that the model gives to the images as it is, and the labels where they are known.

    Attributes
    ----------
    numbers, classes
        Image numbers in ascending order, and the class of each; empty of what is no classifier.
    labels
        Of the same images, or None.
    """

    numbers: np.ndarray
    classes: np.ndarray
    labels: np.ndarray | None

    @classmethod
    def of(cls, model: nn.Module, images: Any, options: Options, labels: Sequence[int] | None) -> "Predictions":
        """Run the model as it is, and find the labels of the images that it is shown."""
        numbers, classes, n_classes = predicted_classes(model, images, options)
        every = find_labels(images, n_classes) if labels is None else _checked(labels, images, n_classes)
        if every is None or not len(numbers):
            return cls(numbers, classes, None)
        shown = evenly_spaced(len(every), options.max_images)
        return cls(numbers, classes, every[[shown[number] for number in numbers]])

    def compare(self, model: nn.Module, images: Any, options: Options) -> dict[str, float]:
        """Return the shares of images that another model gets right, calls the same, and calls by one class."""
        numbers, classes, _ = predicted_classes(model, images, options)
        if not len(numbers) or not np.array_equal(numbers, self.numbers):
            return {}
        return self._shares(classes)

    @property
    def intact(self) -> dict[str, float]:
        """The same shares of the model as it is."""
        return self._shares(self.classes) if len(self.numbers) else {}

    @property
    def chance(self) -> dict[str, float]:
        """What a constant answer would get: the share of the commonest label, and of the commonest prediction."""
        if not len(self.numbers):
            return {}
        found = {"agreement_with_own": _commonest(self.classes)}
        return found if self.labels is None else {**found, "accuracy": _commonest(self.labels)}

    def _shares(self, classes: np.ndarray) -> dict[str, float]:
        shares = {
            "agreement_with_own": float(((classes == self.classes) & (classes >= 0)).mean()),
            "commonest_share": _commonest(classes),
        }
        return shares if self.labels is None else {**shares, "accuracy": float((classes == self.labels).mean())}


def find_labels(images: Any, n_classes: int) -> np.ndarray | None:
    """Return the class of every image, where images tell it and there are as many classes as the model has outputs.

    A folder tells it by the folders in it, in sorted order; a Dataset by its ``targets``.

    Examples
    --------
    >>> find_labels(np.zeros((2, 3, 8, 8)), 10) is None
    True
    """
    if isinstance(images, str | Path):
        root = Path(images)
        inner = [path.relative_to(root).parts for path in Folder(root).paths]
        names = sorted({parts[0] for parts in inner})
        if any(len(parts) < 2 for parts in inner) or len(names) != n_classes:
            return None
        return np.array([names.index(parts[0]) for parts in inner])
    targets = getattr(images, "targets", None)
    if targets is None or not hasattr(images, "__len__") or len(targets) != len(images):
        return None
    found = np.asarray(targets)
    fits = found.ndim == 1 and found.dtype.kind in "iu" and len(np.unique(found)) == n_classes
    return found if fits else None


def _checked(labels: Sequence[int], images: Any, n_classes: int) -> np.ndarray:
    found = np.asarray(labels)
    length = len(Folder(Path(images))) if isinstance(images, str | Path) else len(images)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != length:
        raise ArgumentError(
            f"labels: expected a whole number for each of the {length} images, found shape {found.shape} of "
            f"{found.dtype}."
        )
    if n_classes and not ((found >= 0) & (found < n_classes)).all():
        raise ArgumentError(
            f"labels: found {found.min()} to {found.max()}; the model has {n_classes} outputs, so expected 0 to "
            f"{n_classes - 1}."
        )
    return found


def _commonest(classes: np.ndarray) -> float:
    return float(np.unique(classes, return_counts=True)[1].max() / len(classes))


def _are_logits(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 2


def _outputs(
    model: nn.Module, images: Any, options: Options, placed: Callable[[Tensor, list[int]], list[Tensor]]
) -> Generator[tuple[list[int], list[Any]]]:
    """Yield the image numbers of each batch, and what the model gives for each placement of its pixels."""
    model = unwrap(model)
    device = resolve_device(options.device, model)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with borrowed(model, device, options.seed):
        for numbers, pixels in _numbered(images, options, takes_grey(model)):
            yield numbers, [model(as_floats(item, dtype)[0].to(device)) for item in placed(pixels, numbers)]


def _numbered(images: Any, options: Options, grey: bool) -> Iterable[tuple[list[int], Tensor]]:
    source = open_images(
        images,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        transform=options.transform,
        input_key=options.input_key,
        max_images=options.max_images,
        first_image=0,
        fold_of=lambda number, origin: 0,
        grey=grey,
    )
    return ((batch.numbers, batch.pixels) for batch in source)
