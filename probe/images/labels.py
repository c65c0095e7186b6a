"""The labels of what a model is scored on, and whether they are the model's classes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from probe.errors import ImagesError, counted
from probe.images.rows import as_label, as_tensor

__all__ = ["LabelCheck", "Labels", "named_classes"]

_VOID = (-100, -1, 255)  # of which data sets and torch make use
_NEARLY_ALL = 0.95
_MUCH = 0.2
_MOST_TOLD = 5
_LABEL_KEYS = ("label", "labels")


class Labels(list[Any]):
    """The labels of some images, as the data set gives them."""

    @cached_property
    def classes(self) -> Tensor:
        """The class of each image, shape (image,), or of each pixel, shape (image, row, column)."""
        labels = [as_label(label) for label in self]
        shapes = sorted({tuple(label.shape) for label in labels})
        if len(shapes) > 1:
            raise ImagesError(f"images: one batch holds labels of shape {shapes[0]} and {shapes[1]}. Use batch_size=1.")
        return torch.stack(labels).to(torch.int32)

    @cached_property
    def values(self) -> "Tensor | list[Any]":
        """The labels as they are: one tensor, where they are numbers or arrays of one shape, else a list."""
        kinds = Tensor | np.ndarray | np.generic | int | float | Image.Image
        if not all(isinstance(label, kinds) for label in self):
            return list(self)
        try:
            tensors = [label if isinstance(label, Tensor) else as_tensor(np.asarray(label)) for label in self]
            return torch.stack(tensors)
        except (ImagesError, RuntimeError):
            return list(self)


def named_classes(images: Any) -> int | None:
    """Return how many classes a data set names, where its labels are their places; None where that is not known.

    Known it is of data sets with ``classes``, such as torchvision's ImageFolder, and of those of Hugging Face.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> named_classes(SimpleNamespace(classes=["cat", "dog"]))
    2
    """
    while isinstance(images, DataLoader | Subset):
        images = images.dataset
    if getattr(images, "target_transform", None) is not None:
        return None
    names = getattr(images, "classes", None)
    features = getattr(images, "features", None)
    if names is None and isinstance(features, Mapping):
        names = next((getattr(features[key], "names", None) for key in _LABEL_KEYS if key in features), None)
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return len(names)
    return None


class LabelCheck:
    """Counts labels, and finds out whether they are classes of the model.

    Parameters
    ----------
    n_named
        How many classes the data set names; see `named_classes`.

    Examples
    --------
    >>> check = LabelCheck(None)
    >>> check.count(torch.tensor([[[0, 1, 1, 255]]]), n_classes=2)
    >>> check.void
    {'255': 0.25}
    """

    def __init__(self, n_named: int | None) -> None:
        self._n_named, self._n_classes = n_named, 0
        self._counts: Counter[int] = Counter()

    @property
    def void(self) -> dict[str, float]:
        """Label that is no class -> its share of all, the commonest first."""
        return {str(value): round(share, 6) for value, share in self._outside()}

    def count(self, classes: Tensor, n_classes: int) -> None:
        """Count the labels of some images.

        Parameters
        ----------
        classes
            Shape (image,) or (image, row, column).
        n_classes
            Of the model.

        Raises
        ------
        ImagesError
            If labels of whole images are no classes of the model, or count other classes.
        """
        self._n_classes = n_classes
        values, counts = (part.tolist() for part in classes.unique(return_counts=True))
        self._counts.update(dict(zip(values, counts, strict=True)))
        if classes.ndim == 1:
            self._check_of_images(values)

    def add(self, other: "LabelCheck") -> None:
        """Add the labels that another one has counted."""
        self._n_classes = max(self._n_classes, other._n_classes)
        self._counts.update(other._counts)

    def findings(self) -> list[str]:
        """Return what is to be warned of.

        Raises
        ------
        ImagesError
            If nearly all labels are outside the classes of the model, or are counted from 1, or 0 and 255 alone.
        """
        outside = self._outside()
        if not outside:
            return []
        share = sum(share for _, share in outside)
        found = ", ".join(f"{value} ({100 * part:.2g} %)" for value, part in outside[:_MOST_TOLD])
        found += ", …" if len(outside) > _MOST_TOLD else ""
        classes = f"the {self._n_classes} classes of the model, 0 to {self._n_classes - 1}"
        if share > _NEARLY_ALL:
            raise ImagesError(
                f"labels: {found} are none of {classes}: {100 * share:.3g} % of all labels. Give each the number of "
                "its class, from 0 on."
            )
        known = set(self._counts) - set(_VOID)
        if self._n_classes in known and min(known) > 0:
            raise ImagesError(
                f"labels: from {min(known)} to {max(known)}, where the model's classes are 0 to {self._n_classes - 1}: "
                f"they are counted from 1. Subtract 1; if {self._n_classes} is void, give it as 255."
            )
        if set(self._counts) == {0, 255}:
            raise ImagesError(
                "labels: 0 and 255 alone, as in masks of black and white; all that is left are 0. Divide them by 255."
            )
        if share > _MUCH or {value for value, _ in outside} - {*_VOID, self._n_classes}:
            return [
                f"labels: {found} are none of {classes}, and are left out as void: {100 * share:.2g} % of all labels."
            ]
        return []

    def _outside(self) -> list[tuple[int, float]]:
        total = sum(self._counts.values())
        return [
            (value, count / total) for value, count in self._counts.most_common() if not 0 <= value < self._n_classes
        ]

    def _check_of_images(self, values: Iterable[int]) -> None:
        n_classes, largest = self._n_classes, max(values)
        if self._n_named is not None and self._n_named != n_classes and largest < self._n_named:
            raise ImagesError(
                f"labels: the data set has {counted(self._n_named, 'class')}, and the model "
                f"{counted(n_classes, 'output')}, so that labels do not count its outputs. Sort the images into one "
                "folder for each output, in the order of the outputs, empty ones too (ImageFolder(..., "
                "allow_empty=True)), or give the data set a target_transform= that takes its classes to outputs."
            )
        wrong = [value for value in values if not (0 <= value < n_classes or value in _VOID[:2])]
        if wrong:
            cure = "Labels counted from 1 are mended by subtracting 1." if largest == n_classes else "Pass its outputs."
            raise ImagesError(
                f"labels: an image has the label {wrong[-1]}, and the model's {n_classes} classes are 0 to "
                f"{n_classes - 1}. {cure}"
            )
