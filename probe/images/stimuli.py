"""What the model is shown: the images themselves, or stand-ins without content, position or structure.

Photographs have sky on top and objects in the middle, so their content tells position even to a network that has no
way to know it. Each stimulus is drawn for each image from (seed, image number).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from probe.errors import ArgumentError

__all__ = ["CLIP_STIMULI", "STIMULI", "apply_stimulus", "check_stimuli"]


def _natural(image: Tensor, generator: np.random.Generator) -> Tensor:
    return image


def _rolled(image: Tensor, generator: np.random.Generator) -> Tensor:
    return _rolled_along(image, generator, _cells(image))


def _rolled_space(image: Tensor, generator: np.random.Generator) -> Tensor:
    return _rolled_along(image, generator, _cells(image)[-2:])


def _rolled_time(image: Tensor, generator: np.random.Generator) -> Tensor:
    return _rolled_along(image, generator, _cells(image)[:1])


def _rolled_along(image: Tensor, generator: np.random.Generator, dims: tuple[int, ...]) -> Tensor:
    return image.roll([int(generator.integers(image.shape[dim])) for dim in dims], dims=dims)


def _cells(image: Tensor) -> tuple[int, ...]:
    return tuple(range(1, image.ndim))


def _noise(image: Tensor, generator: np.random.Generator) -> Tensor:
    noise = generator.standard_normal(image.shape, dtype=np.float32 if image.dtype != torch.float64 else np.float64)
    deviation, mean = torch.std_mean(image, dim=_cells(image), correction=0, keepdim=True)
    return torch.from_numpy(noise).to(image) * deviation + mean


def _constant(image: Tensor, generator: np.random.Generator) -> Tensor:
    return image.mean(dim=_cells(image), keepdim=True).expand_as(image)


STIMULI: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "natural": _natural,
    "rolled": _rolled,
    "noise": _noise,
    "constant": _constant,
}
"""The stimuli, each a function (image of shape (channel, *size), generator) -> image.

``natural``: the image itself; ``rolled``: a circular shift by a uniform offset on every axis, which makes content
independent of position; ``noise``: Gaussian, with the mean and variance of each channel of that image; ``constant``:
the means of its channels.
"""

CLIP_STIMULI: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "rolled_space": _rolled_space,
    "rolled_time": _rolled_time,
}
"""Those of clips and volumes alone, which begin and end: a shift in time puts the end before the beginning.

``rolled_space`` shifts rows and columns and leaves time as it is; ``rolled_time`` shifts frames alone.
"""

_ALL = {**STIMULI, **CLIP_STIMULI}


def check_stimuli(stimuli: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of the stimuli as a tuple.

    Raises
    ------
    ArgumentError
        If a name is unknown, is given twice, or none is given.

    Examples
    --------
    >>> check_stimuli("rolled")
    ('rolled',)
    """
    if isinstance(stimuli, str) or not isinstance(stimuli, Iterable):
        names: tuple[str, ...] = (stimuli,)
    else:
        names = tuple(stimuli)
    unknown = [name for name in names if name not in _ALL]
    if unknown or not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"stimuli={stimuli!r}: choose one or more, each once, from {', '.join(STIMULI)}; of clips also from "
            f"{', '.join(CLIP_STIMULI)}."
        )
    return names


def apply_stimulus(name: str, images: Tensor, numbers: Sequence[int], seed: int) -> Tensor:
    """Make a stimulus from each image of a batch.

    Parameters
    ----------
    name
        One of `STIMULI` or, of clips, `CLIP_STIMULI`.
    images
        Shape (image, channel, *size).
    numbers
        The image numbers.
    seed
        Seed of all draws.

    Returns
    -------
    torch.Tensor
        New, with the same shape, memory format, precision and device: what a model does to it in place does not
        reach the images.

    Raises
    ------
    ArgumentError
        If it is one of clips alone, and the images have no frames, or one alone to roll.

    Examples
    --------
    >>> apply_stimulus("constant", torch.tensor([[[[1.0, 3.0]]]]), numbers=[0], seed=0)
    tensor([[[[2., 2.]]]])
    """
    if name in CLIP_STIMULI and images.ndim == 4:
        raise ArgumentError(
            f"stimuli: {name!r} is for clips and volumes, and these images have no frames. Choose 'rolled'."
        )
    if name == "rolled_time" and images.shape[2] == 1:
        raise ArgumentError("stimuli: 'rolled_time' leaves clips of one frame as they are. Show longer ones.")
    stimulus, kind = _ALL[name], list(_ALL).index(name)
    result = torch.empty_like(images)
    for index, number in enumerate(numbers):
        result[index] = stimulus(images[index], np.random.default_rng((seed, number, kind)))
    return result
