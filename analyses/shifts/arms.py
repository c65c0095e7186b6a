"""The networks that are compared, and the data that they are trained and tested on."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2 as transforms

from probe.analyses.data.crops import RandomCrops, crop_batches
from probe.analyses.data.digits import CANVAS
from probe.analyses.data.splits import Split, open_splits, small_images
from probe.analyses.nets import cifar_resnet, matched_width, multiply_adds, residual_net, seeded
from probe.errors import ArgumentError
from probe.images.rows import Transform

__all__ = ["ARMS", "MATCHED", "SMALL_NET", "Task", "large_task", "make_arm", "small_task"]

SMALL_NET = "ResNet-8"
"""The residual network of CIFAR with three blocks; it has no max pooling."""

MATCHED = "F, S's arithmetic"

ARMS = ("S", "F", "S+B", "F+B", "F, S's pool", MATCHED)
"""S-Conv, F-Conv, both with BlurPool, and two controls: F-Conv with the pooling of S-Conv, and a narrower F-Conv."""

_GIVEN: dict[str, dict[str, Any]] = {
    "S": {},
    "F": {"border": "full"},
    "S+B": {"blur": 3},
    "F+B": {"border": "full", "blur": 3},
    "F, S's pool": {"border": "full", "pool": "same"},
    MATCHED: {"border": "full"},
}
_WINDOW = 24  # pixels of what a network sees of a small image
_LARGE, _LARGE_WINDOW = 288, 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True)
class Task:
    """What networks are trained and tested on.

    Attributes
    ----------
    training
        Images in memory, or files.
    test
        Rows (image, label), larger than the windows by `room`.
    transform
        Of the test images.
    n_classes, window, room
        Number of classes, rows and columns that networks see, and by how much windows can be moved.
    flipped
        Whether mirrored images are of the same class.
    source
        What the images are.
    """

    training: Split | RandomCrops
    test: Any
    transform: Transform | None
    n_classes: int
    window: int
    room: int
    flipped: bool
    source: str

    def batches(self, *, steps: int, batch_size: int, seed: int, num_workers: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches to train on, the same for the same seed."""
        if isinstance(self.training, Split):
            return crop_batches(
                self.training, self.window, steps=steps, batch_size=batch_size, seed=seed, flipped=self.flipped
            )
        return self._windows(steps=steps, batch_size=batch_size, seed=seed, num_workers=num_workers)

    def _windows(self, *, steps: int, batch_size: int, seed: int, num_workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        assert isinstance(self.training, RandomCrops)
        own = RandomCrops(self.training.files, self.window, seed=seed)
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        for pixels, labels in own.batches(steps=steps, batch_size=batch_size, num_workers=num_workers):
            yield (pixels - mean) / deviation, labels


def small_task(images: str | Path | None, n_training: int, n_test: int) -> Task:
    """Return digits, or the images of a folder such as CIFAR-10, of 32×32 pixels, of which networks see 24×24."""
    found = small_images(images, (n_training, n_test))
    rows = TensorDataset(found.test.images, found.test.labels)
    n_classes, room = len(found.classes), CANVAS - _WINDOW
    return Task(found.training, rows, None, n_classes, _WINDOW, room, found.flipped, found.source)


def large_task(images: str | Path) -> Task:
    """Return the images of folders as they are published: windows of 224 of 288 pixels in the test."""
    training, test = open_splits(images, where="ImageNet")
    transform = transforms.Compose(
        [
            transforms.Resize(_LARGE),
            transforms.CenterCrop(_LARGE),
            transforms.ToImage(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(_MEAN, _DEVIATION),
        ]
    )
    crops = RandomCrops(training, _LARGE_WINDOW, seed=0)
    return Task(crops, test, transform, len(training.classes), _LARGE_WINDOW, _LARGE - _LARGE_WINDOW, True, "folder")


def make_arm(net: str, arm: str, *, n_classes: int, window: int, seed: int, width: int | None = None) -> nn.Module:
    """Make an untrained network.

    Parameters
    ----------
    net
        `SMALL_NET`, or ``ResNet-18``, ``ResNet-34``, ``ResNet-50``, ``ResNet-101``.
    arm
        One of `ARMS`.
    n_classes
        Of every arm alike.
    window
        Rows and columns of what it sees; the narrower F-Conv depends on it.
    seed
        Of the weights. All arms but the narrower one begin with the same ones.
    width
        Channels of the first stage, 16 or 64 by default.

    Raises
    ------
    ArgumentError
        If there is no such network or arm, or the network has no max pooling to choose.

    Examples
    --------
    >>> make_arm("ResNet-8", "F+B", n_classes=3, window=24, seed=0)(torch.zeros(1, 3, 24, 24)).shape
    torch.Size([1, 3])
    """
    if arm not in ARMS or (net == SMALL_NET and "pool" in _GIVEN[arm]):
        raise ArgumentError(f"arm={arm!r}: {net} has none of this name. Expected one of {', '.join(ARMS)}.")
    chosen = width or (16 if net == SMALL_NET else 64)
    if arm == MATCHED:
        chosen = _as_cheap(net, chosen, n_classes, window)
    return seeded(lambda: _make(net, chosen, n_classes, **_GIVEN[arm]), seed)


def _make(net: str, width: int, n_classes: int, **given: Any) -> nn.Module:
    maker: Any = cifar_resnet if net == SMALL_NET else residual_net
    return maker(int(net.rpartition("-")[2]), n_classes=n_classes, width=width, **given)


@cache
def _as_cheap(net: str, width: int, n_classes: int, window: int) -> int:
    """Return the width at which F-Conv takes no more multiplications than S-Conv of a width."""
    size = (3, window, window)
    with torch.device("meta"):
        budget = multiply_adds(_make(net, width, n_classes), size)
        return matched_width(
            lambda narrower: _make(net, narrower, n_classes, border="full"), budget, size, widest=width
        )
