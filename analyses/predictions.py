"""What swapping the padding does to a classifier's predictions: which of them are right, and which stay the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from probe.analyses.training import predicted_classes
from probe.errors import ArgumentError
from probe.images.folders import Folder
from probe.images.numbering import evenly_spaced
from probe.reading.options import Options

__all__ = ["Predictions", "find_labels"]


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
