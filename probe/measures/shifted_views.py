"""What a model tells of each image at several shifts, reduced at once to what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.axes import axes_of_size
from probe.errors import ArgumentError, ImagesError, warn
from probe.images.labels import LabelCheck, Labels
from probe.images.laws import Law, resolve_law
from probe.models.layouts import first_tensor
from probe.models.loan import run_model
from probe.reading.memory import IMAGES_WHERE_UNKNOWN, check_memory
from probe.reading.options import Options
from probe.reading.reader import Reader, noting_images

__all__ = ["COMPARED", "Plan", "Readings", "Stage", "read_views"]

COMPARED = ("classes", "embedding")
"""What of a model's output is compared: the predicted class, or the direction of the vector."""

_UNKNOWN = -1


class Stage:
    """Shows the reader each image as it stands, and keeps the images of the latest batch, of which shifts are made."""

    def __init__(self, name: str, reach: int | None, axes: tuple[str, ...]) -> None:
        self._name, self._reach, self._axes = name, reach, axes
        self.law: Law | None = None
        self.whole = torch.empty(0, device="cpu")

    def __call__(self, shown: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return each image as it stands, for crops its central window."""
        if self.law is None:
            along = dict(zip(axes_of_size(shown.shape[2:]), shown.shape[2:], strict=True))
            if missing := [axis for axis in self._axes if axis not in along]:
                raise ArgumentError(f"axes={self._axes!r}: images have no {missing[0]}s to shift along; clips have.")
            self.law = resolve_law(self._name, self._reach, [along[axis] for axis in self._axes], self._axes)
        self.whole = shown
        return self.law.shifted(shown, [(self.law.unshifted,) * len(self._axes)] * len(shown))


@dataclass(frozen=True)
class Plan:
    """The shifts of each image: those that all images share, and its pairs."""

    law: Law
    pairs: int
    reference: str
    has_diagonal: bool
    seed: int

    @property
    def shared(self) -> list[int]:
        """Offsets along each axis: the diagonal, or the image as it stands."""
        return list(self.law.diagonal) if self.has_diagonal else [self.law.unshifted]

    def of_pairs(self, number: int) -> np.ndarray:
        """Draw the offsets of an image's pairs, shape (pair, view, axis)."""
        return self.law.pair_offsets(
            number, pairs=self.pairs, from_unshifted=self.reference == "unshifted", seed=self.seed
        )


@dataclass
class Readings:
    """What is kept of each image, the values along the first axis in the order of `numbers`.

    `same` on (image, pair); `apart` on (image, distance); `unchanged` and `correct` on (image,) and (image, diagonal);
    the embeddings of the first pair on (image, view, number).
    """

    numbers: list[int] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    same: list[np.ndarray] = field(default_factory=list)
    apart: list[np.ndarray] = field(default_factory=list)
    unchanged: list[np.ndarray] = field(default_factory=list)
    correct: list[np.ndarray] = field(default_factory=list)
    first_pair: list[Tensor] = field(default_factory=list)
    void: dict[str, float] = field(default_factory=dict)


def read_views(
    reader: Reader, options: Options, stage: Stage, plan: Plan, compare: str, labels: LabelCheck | None
) -> Readings:
    """Run the model on each image at all its shifts.

    Parameters
    ----------
    reader
        Opened with the stage.
    options
        As in `probe.collect`.
    stage, plan
        Which shifts.
    compare
        One of `COMPARED`.
    labels
        Is shown the labels, where there are any.
    """
    read = Readings()
    agree = _same_class if compare == "classes" else _cosine
    for batch, as_they_stand in reader.batches():
        offsets = np.stack([plan.of_pairs(number) for number in batch.numbers])
        shifts = [np.full((len(batch.numbers), len(plan.law.axes)), offset) for offset in plan.shared]
        shifts += [offsets[:, pair, view] for pair in range(plan.pairs) for view in range(2)]
        whole = stage.whole.contiguous(memory_format=_memory_format(as_they_stand))
        outputs = []
        for places in shifts:
            shown = plan.law.shifted(whole, places)
            with noting_images(batch.numbers, f"law {plan.law.move!r}", shown):
                output = run_model(reader.model, shown, options.forward)
            outputs.append(_told(output, compare))
        told = torch.stack(outputs)
        n_shared = len(plan.shared)
        read.numbers.extend(batch.numbers)
        read.offsets.append(offsets)
        read.same.append(agree(told[n_shared::2], told[n_shared + 1 :: 2]).T.numpy())
        read.apart.append(
            np.stack(
                [agree(told[: n_shared - far], told[far:n_shared]).mean(dim=0) for far in range(1, n_shared)], axis=1
            )
            if n_shared > 1
            else np.empty((len(batch.numbers), 0))
        )
        if compare == "embedding":
            if not read.first_pair:
                _check_embeddings(reader, options, told.shape[2])
            read.first_pair.append(told[n_shared : n_shared + 2].transpose(0, 1))
            continue
        # NaN at one shift leaves it unknown whether there was another prediction.
        alike = agree(told[:1], told)
        read.unchanged.append(alike.amin(dim=0).where(~alike.isnan().any(dim=0), torch.nan).numpy())
        if labels is not None:
            classes = Labels(batch.labels).classes.cpu()
            if classes.ndim != 1:
                raise ImagesError("labels: expected one class for each image, found a map of classes.")
            n_classes = _n_classes(output)
            labels.count(classes, n_classes)
            targets = torch.where((classes >= 0) & (classes < n_classes), classes, _UNKNOWN)
            read.correct.append(agree(told[:n_shared], targets[None].to(told)).T.numpy())
    if labels is not None:
        for message in labels.findings():
            warn(message, reader.warned)
        read.void = labels.void
    unknown = int(np.isnan(np.concatenate(read.same)).any(axis=1).sum())
    if unknown:
        cause = "NaN" if compare == "classes" else "NaN or nothing but 0"
        warn(
            f"images: for {unknown} of {len(read.numbers)} the model gave {cause}; such pairs are left out.",
            reader.warned,
        )
    return read


def _memory_format(images: Tensor) -> torch.memory_format:
    contiguous = images.is_contiguous()
    return torch.contiguous_format if contiguous else torch.channels_last


def _told(output: Any, compare: str) -> Tensor:
    """Return the classes that are predicted, shape (image,), or the directions of embeddings, (image, number)."""
    tensor = first_tensor(output)
    if tensor is None or tensor.ndim != 2 or tensor.shape[1] < 2:
        shape = None if tensor is None else tuple(tensor.shape)
        raise ArgumentError(
            f"model: its output has the shape {shape}; expected (image, class), or (image, number) with "
            "compare='embedding'. Pass forward=, a function (model, images) -> such an output."
        )
    if compare == "classes":
        return tensor.argmax(dim=1).masked_fill(tensor.isnan().any(dim=1), _UNKNOWN).cpu()
    vectors = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
    # A vector of nothing but 0 has no direction: the quotient is NaN.
    return (vectors / vectors.norm(dim=1, keepdim=True)).cpu()


def _n_classes(output: Any) -> int:
    tensor = first_tensor(output)
    assert tensor is not None
    return tensor.shape[1]


def _same_class(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 where two predictions are the same, else 0; NaN where one is unknown."""
    return (one == other).double().where((one != _UNKNOWN) & (other != _UNKNOWN), torch.nan)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=-1).double()


def _check_embeddings(reader: Reader, options: Options, width: int) -> None:
    n_images = reader.length or options.max_images or IMAGES_WHERE_UNKNOWN
    check_memory(
        n_images * width * 2 * 8,
        torch.device("cpu"),
        f"the embeddings of {n_images:,} images at two shifts",
        "Choose fewer max_images=.",
    )
