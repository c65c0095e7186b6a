"""What the model is shown: the images themselves, or stand-ins without content, position or structure.

Photographs have sky on top and objects in the middle, so their content tells position even to a network that has no
way to know it. Each stimulus is drawn for each image from (seed, image number).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from probe.errors import ArgumentError

__all__ = ["STIMULI", "apply_stimulus", "check_stimuli"]


def _natural(image: Tensor, generator: np.random.Generator) -> Tensor:
    return image


def _rolled(image: Tensor, generator: np.random.Generator) -> Tensor:
    height, width = image.shape[1:]
    offsets = int(generator.integers(height)), int(generator.integers(width))
    return image.roll(offsets, dims=(1, 2))


def _noise(image: Tensor, generator: np.random.Generator) -> Tensor:
    noise = generator.standard_normal(image.shape, dtype=np.float32 if image.dtype != torch.float64 else np.float64)
    deviation, mean = torch.std_mean(image, dim=(1, 2), correction=0, keepdim=True)
    return torch.from_numpy(noise).to(image) * deviation + mean


def _constant(image: Tensor, generator: np.random.Generator) -> Tensor:
    return image.mean(dim=(1, 2), keepdim=True).expand_as(image)


STIMULI: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "natural": _natural,
    "rolled": _rolled,
    "noise": _noise,
    "constant": _constant,
}
"""The stimuli, each a function (image of shape (channel, row, column), generator) -> image.

``natural``: the image itself; ``rolled``: a circular shift by a uniform offset on both axes, which makes content
independent of position; ``noise``: Gaussian, with the mean and variance of each channel of that image; ``constant``:
the means of its channels.
"""


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
    unknown = [name for name in names if name not in STIMULI]
    if unknown or not names or len(set(names)) < len(names):
        raise ArgumentError(f"stimuli={stimuli!r}: choose one or more, each once, from {', '.join(STIMULI)}.")
    return names


def apply_stimulus(name: str, images: Tensor, numbers: Sequence[int], seed: int) -> Tensor:
    """Make a stimulus from each image of a batch.

    Parameters
    ----------
    name
        One of `STIMULI`.
    images
        Shape (image, channel, row, column).
    numbers
        The image numbers.
    seed
        Seed of all draws.

    Returns
    -------
    torch.Tensor
        New, with the same shape, memory format, precision and device: what a model does to it in place does not
        reach the images.

    Examples
    --------
    >>> apply_stimulus("constant", torch.tensor([[[[1.0, 3.0]]]]), numbers=[0], seed=0)
    tensor([[[[2., 2.]]]])
    """
    stimulus = STIMULI[name]
    result = torch.empty_like(images)
    for index, number in enumerate(numbers):
        result[index] = stimulus(images[index], np.random.default_rng((seed, number, list(STIMULI).index(name))))
    return result
