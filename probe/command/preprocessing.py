"""From a picture to what a model is shown: sizes that do what they say, and what was done in one line."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

from probe.axes import sized
from probe.errors import warn

__all__ = [
    "IMAGENET",
    "Normalisation",
    "OfFrames",
    "Transform",
    "Watched",
    "of_grey",
    "plain",
    "shown_grey",
    "standard",
    "told_of",
]

Transform = Callable[[Any], Tensor]
Normalisation = tuple[Sequence[float], Sequence[float]]

IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel; one of each for grey images."""

_CROP, _RESIZE = 224, 256  # of the evaluation that networks for ImageNet are published with


def of_grey(normalisation: Normalisation) -> Normalisation:
    """Return the one mean and standard deviation that grey images take: the averages of those of the channels.

    Examples
    --------
    >>> [round(value, 3) for value, in of_grey(IMAGENET)]
    [0.449, 0.226]
    """
    mean, deviation = normalisation
    return (sum(mean) / len(mean),), (sum(deviation) / len(deviation),)


def shown_grey(normalisation: Normalisation) -> bool:
    """Return whether images are shown with one channel."""
    return len(normalisation[0]) == 1


class Watched:
    """A transform that warns once of images that it enlarges.

    Parameters
    ----------
    transform
        Takes a PIL image to a tensor.
    side
        What it makes of the shorter side, in pixels.
    warned
        Takes the warning up.
    """

    def __init__(self, transform: Transform, side: int, warned: list[str]) -> None:
        self.transform, self.side, self.warned = transform, side, warned

    def __call__(self, image: Any) -> Tensor:
        """Return what the transform makes of an image."""
        worker = get_worker_info()
        # Each process that reads images has a copy of its own; one of them speaks.
        if not self.warned and min(image.size) < self.side and (worker is None or worker.id == 0):
            width, height = image.size
            warn(
                f"images are enlarged: one of {height}×{width} pixels to {self.side} along its shorter side. Position "
                "is then told of pixels that were made up; --size own takes images as large as they are.",
                self.warned,
            )
        return self.transform(image)


class OfFrames:
    """A transform of pictures, from one of whole clips as those of torchvision's video networks are.

    Parameters
    ----------
    preset
        Takes clips of shape (1, frame, channel, row, column) to (1, channel, frame, row, column), each frame by itself.
    """

    def __init__(self, preset: Transform) -> None:
        self.preset = preset

    def __call__(self, image: Any) -> Tensor:
        """Return what the transform makes of a clip of this one picture, shape (channel, row, column)."""
        return self.preset(pil_to_tensor(image)[None, None])[0, :, 0]


def plain(normalisation: Normalisation = IMAGENET) -> tuple[Transform, str]:
    """Return a transform that leaves sizes alone, and what it does.

    Examples
    --------
    >>> plain()[1]
    'own size, ImageNet mean and standard deviation'
    """
    steps = [*_to_channels(normalisation), *_to_tensor(normalisation)]
    return transforms.Compose(steps), f"own size, {_phrase(normalisation)}"


def standard(size: int | None, warned: list[str], normalisation: Normalisation = IMAGENET) -> tuple[Transform, str]:
    """Return a transform that resizes in proportion and crops the centre, and what it does.

    Parameters
    ----------
    size
        Rows and columns of the crop; the shorter side becomes as long before, so that nothing is magnified. None is
        the evaluation on ImageNet: a shorter side of 256, and a crop of 224.
    warned
        Takes up the warning that images are enlarged.
    normalisation
        Mean and standard deviation of each channel; of one channel, pictures become grey.

    Examples
    --------
    >>> standard(32, [])[1]
    'resize 32, crop 32, ImageNet mean and standard deviation'
    >>> standard(None, [])[1]
    'resize 256, crop 224, ImageNet mean and standard deviation'
    """
    crop = size or _CROP
    side = size or _RESIZE
    resized = [transforms.Resize(side), transforms.CenterCrop(crop)]
    steps = [*_to_channels(normalisation), *resized, *_to_tensor(normalisation)]
    watched = Watched(transforms.Compose(steps), side, warned)
    return watched, f"resize {side}, crop {crop}, {_phrase(normalisation)}"


def told_of(transform: Any) -> str:
    """Return what a transform of a library does, in one line.

    Examples
    --------
    >>> steps = [transforms.Resize(248, interpolation="bicubic"), transforms.CenterCrop((224, 224))]
    >>> told_of(transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*IMAGENET)]))
    'resize 248 bicubic, crop 224, ImageNet mean and standard deviation'
    """
    if isinstance(transform, transforms.Compose):
        return ", ".join(filter(None, map(told_of, transform.transforms)))
    if isinstance(transform, transforms.Resize):
        return f"resize {_side(transform.size)} {getattr(transform.interpolation, 'value', transform.interpolation)}"
    if isinstance(transform, transforms.CenterCrop):
        return f"crop {_side(transform.size)}"
    if isinstance(transform, transforms.Normalize):
        return _phrase((_floats(transform.mean), _floats(transform.std)))
    if type(transform).__name__ in ("Grayscale", "ToTensor", "MaybeToTensor"):
        return ""  # what every transform does; greys are told by their mean
    sides = {name: getattr(transform, f"{name}_size", None) for name in ("resize", "crop")}
    if sides["resize"] is None:
        return " ".join(repr(transform).split())
    told = [f"{name} {_side(side)}" for name, side in sides.items() if side is not None]
    told[0] += f" {transform.interpolation.value}"
    return ", ".join([*told, _phrase((transform.mean, transform.std))])


def _side(size: Any) -> str:
    sides = list(size) if isinstance(size, list | tuple) else [size]
    return str(sides[0]) if len(set(sides)) == 1 else sized(sides)


def _floats(values: Any) -> Sequence[float]:
    return [float(value) for value in values]


def _to_channels(normalisation: Normalisation) -> list[torch.nn.Module]:
    return [transforms.Grayscale()] if shown_grey(normalisation) else []


def _to_tensor(normalisation: Normalisation) -> list[torch.nn.Module | Transform]:
    return [transforms.ToTensor(), transforms.Normalize(*normalisation)]


def _phrase(normalisation: Normalisation) -> str:
    if shown_grey(normalisation):
        (mean,), (deviation,) = normalisation
        return f"grey, mean {mean:.4g}, standard deviation {deviation:.4g}"
    means, deviations = (tuple(round(float(value), 4) for value in values) for values in normalisation)
    return (
        "ImageNet mean and standard deviation"
        if (means, deviations) == IMAGENET
        else f"mean {means}, standard deviation {deviations}"
    )
