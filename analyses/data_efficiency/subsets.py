"""Nested subsets of training images, how they are shown in training, and how networks trained on them are tested."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2 as transforms

from probe.analyses.data.crops import RandomCrops
from probe.analyses.data.digits import load_digits
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import Split, open_splits, read_splits
from probe.analyses.predictions import predict, predicted_classes
from probe.errors import ImagesError
from probe.images.canvases import place_at
from probe.images.numbering import evenly_spaced
from probe.images.rows import Transform
from probe.reading.options import Options

__all__ = ["SCORES", "OnCanvases", "OnFiles", "Shown", "digits_on_canvases", "files", "nested_subset", "small_folder"]

SCORES = ("accuracy", "elsewhere")
"""On test images as in training, and where no image of training stood."""

_IMAGE, _CANVAS = 16, 32  # pixels
_ROWS = 5  # so many rows that the upper border of an image may be at, in training the first ones, elsewhere the last
_LARGE, _WINDOW = 256, 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def nested_subset(labels: Tensor, per_class: int | None, seed: int) -> Tensor:
    """Draw images of each class; fewer are among more, of one seed.

    Parameters
    ----------
    labels
        Class of each image.
    per_class
        How many of each class; None for all.
    seed
        Of the draw.

    Returns
    -------
    torch.Tensor
        Their numbers, in ascending order.

    Raises
    ------
    ImagesError
        If a class has fewer.

    Examples
    --------
    >>> nested_subset(torch.tensor([0, 1, 0, 1]), 1, seed=0).shape
    torch.Size([2])
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    chosen = []
    for label in labels.unique():
        members = order[labels[order] == label]
        if per_class is not None and len(members) < per_class:
            raise ImagesError(
                f"images: class {int(label)} has {len(members)} of training, {per_class} needed. Add images, or choose "
                "a smaller preset."
            )
        chosen.append(members[:per_class])
    return torch.cat(chosen).sort().values


class Shown(Protocol):
    """Images to train and to test on."""

    @property
    def labels(self) -> Tensor:
        """Class of each training image."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def source(self) -> str:
        """What the images are."""
        ...

    def batches(
        self, chosen: Tensor, *, steps: int, batch_size: int, seed: int, anew: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield some of the training images, placed anew each time that they are shown, or as they always stand."""
        ...

    def test(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return the `SCORES` of a model, from 0 to 1."""
        ...


@dataclass(frozen=True)
class OnCanvases:
    """Small images on canvases of zeros: in training in the upper part, elsewhere in the lower one."""

    training: Split
    held_out: Split
    n_classes: int
    source: str

    @property
    def labels(self) -> Tensor:
        """Class of each training image."""
        return self.training.labels

    def place(self, images: Tensor, generator: torch.Generator, *, elsewhere: bool) -> Tensor:
        """Place images in the upper or in the lower part, at any column."""
        room = _CANVAS - images.shape[-1]
        rows = torch.randint(_ROWS, (len(images),), generator=generator) + elsewhere * (room - _ROWS + 1)
        columns = torch.randint(room + 1, (len(images),), generator=generator)
        return place_at(images, torch.stack([rows, columns], dim=1), (_CANVAS, _CANVAS))

    def batches(
        self, chosen: Tensor, *, steps: int, batch_size: int, seed: int, anew: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches, in a new order each time that all have been shown."""
        generator = torch.Generator().manual_seed(seed)
        pool = self.training[chosen]
        size = min(batch_size, len(pool))
        if not anew:
            pool = replace(pool, images=self.place(pool.images, generator, elsewhere=False))
        order = torch.zeros(0, dtype=torch.long)
        for _ in range(steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(pool), generator=generator)])
            part, order = pool[order[:size]], order[size:]
            yield self.place(part.images, generator, elsewhere=False) if anew else part.images, part.labels

    def test(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return the shares of held-out images that are classified right in the upper and in the lower part."""
        generator = torch.Generator().manual_seed(0)
        found = {}
        for score, elsewhere in zip(SCORES, (False, True), strict=True):
            canvases = self.place(self.held_out.images, generator, elsewhere=elsewhere)
            right = predict(model, canvases.to(device)).cpu() == self.held_out.labels
            found[score] = float(right.float().mean())
        return found


def digits_on_canvases(n_training: int | None, n_test: int | None) -> OnCanvases:
    """Return scikit-learn's digits, white on black."""
    parts = [
        Split(digits.strokes[:count, None].expand(-1, 3, -1, -1), digits.labels[:count])
        for digits, count in zip(load_digits(), (n_training, n_test), strict=True)
    ]
    return OnCanvases(parts[0], parts[1], 10, "digits")


def small_folder(images: str | Path, most_tested: int) -> OnCanvases:
    """Return the images of a folder such as CIFAR-10 at 16×16 pixels, normalised, so that canvases are their mean."""
    training, test, classes = read_splits(images, size=_IMAGE, counts=(None, None), where="CIFAR-10")
    test = test[evenly_spaced(len(test), most_tested)]
    deviation, mean = torch.std_mean(training.images, dim=(0, 2, 3), keepdim=True)
    parts = [Split((part.images - mean) / deviation, part.labels) for part in (training, test)]
    return OnCanvases(parts[0], parts[1], len(classes), "folder")


@dataclass(frozen=True)
class OnFiles:
    """Large images: in training windows of any size and place; elsewhere half as large, in a corner of a canvas."""

    training: ClassFolder
    held_out: ClassFolder
    num_workers: int
    source: str = "folder"

    @property
    def labels(self) -> Tensor:
        """Class of each training image."""
        return torch.tensor(self.training.labels)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.training.classes)

    def batches(
        self, chosen: Tensor, *, steps: int, batch_size: int, seed: int, anew: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; unless they are placed anew, images are cut to their middle."""
        windows = RandomCrops(self.training, _WINDOW, seed=seed, chosen=chosen.tolist(), anew=anew)
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        size = min(batch_size, len(chosen))
        for pixels, labels in windows.batches(steps=steps, batch_size=size, num_workers=self.num_workers):
            yield (pixels - mean) / deviation, labels

    def test(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return the shares of test images that are classified right as they are, and in the corners, on average."""
        right = [self._right(model, device, transform) for transform in (whole_image(), *corner_images())]
        return dict(zip(SCORES, (right[0], float(np.mean(right[1:]))), strict=True))

    def _right(self, model: nn.Module, device: torch.device, transform: Transform) -> float:
        options = Options(
            transform=transform, device=str(device), batch_size=256, num_workers=self.num_workers, progress=False
        )
        numbers, classes, _ = predicted_classes(model, self.held_out, options)
        return float((classes == np.array(self.held_out.labels)[numbers]).mean())


def whole_image() -> Transform:
    """Return what brings the shorter side to 256 pixels and cuts the middle 224."""
    return _normalised(transforms.Resize(_LARGE), transforms.CenterCrop(_WINDOW))


def corner_images() -> list[Transform]:
    """Return the same at half the size, in each of the four corners of a canvas of the mean colour."""
    half = _WINDOW // 2
    corners = [(left, upper) for left in (0, half) for upper in (0, half)]
    return [
        _normalised(
            transforms.Resize(_LARGE // 2), transforms.CenterCrop(half),
            last=transforms.Pad([left, upper, half - left, half - upper]),
        )
        for left, upper in corners
    ]  # fmt: skip


def _normalised(*steps: Any, last: Any = None) -> Transform:
    to_tensor = [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True)]
    return transforms.Compose(
        [*steps, *to_tensor, transforms.Normalize(_MEAN, _DEVIATION), *([] if last is None else [last])]
    )


def files(images: str | Path, num_workers: int) -> OnFiles:
    """Return the images of folders such as ImageNet, which are read as they are needed."""
    return OnFiles(*open_splits(images, where="ImageNet"), num_workers)
