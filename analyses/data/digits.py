"""Handwritten digits on a canvas, placed with the habits of photographers."""

from collections.abc import Iterator
from dataclasses import dataclass

import sklearn.datasets
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CANVAS", "Digits", "digit_batches", "load_digits", "place_digits"]

CANVAS = 32
"""Rows and columns of the images, in pixels."""

_CONTRAST = 1.5
_HABIT = 4.0  # pixels from the middle, standard deviation on each axis
_LIGHT = (0.6, 0.35)  # direction of the light, from above towards the left, mean and standard deviation in radians
_STRONGEST_SHADING = 0.5
_EXPOSURE = 0.15
_NOISE = 0.05
_HELD_OUT = 4  # every fourth digit


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: `strokes` of shape (digit, row, column) in [0, 1], and their `labels`."""

    strokes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(*, enlarged: int = 2) -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits of 8×8 pixels.

    Parameters
    ----------
    enlarged
        How many times as many rows and columns to bring them to.

    Returns
    -------
    tuple of Digits
        Those to train on, and every fourth one, held out.

    References
    ----------
    Alpaydin, Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998.

    Examples
    --------
    >>> training, held_out = load_digits()
    >>> len(training), len(held_out)
    (1347, 450)
    """
    bunch = sklearn.datasets.load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] / bunch.images.max()
    strokes = functional.interpolate(small, scale_factor=enlarged, mode="bilinear")[:, 0]
    labels = torch.from_numpy(bunch.target).long()
    held_out = torch.arange(len(labels)) % _HELD_OUT == 0
    return Digits(strokes[~held_out], labels[~held_out]), Digits(strokes[held_out], labels[held_out])


def place_digits(strokes: Tensor, generator: torch.Generator) -> Tensor:
    """Place each digit on a canvas of its own, with the habits of photographs.

    Digits stand near the middle more often than at the border (a Gaussian of 4 pixels around the middle on each
    axis), and light falls on the background from above and somewhat from the left, in every image from a direction
    and of a strength of its own. So position can be told from content alone. Exposure and noise vary as well.

    Parameters
    ----------
    strokes
        Shape (digit, row, column).
    generator
        Of all draws.

    Returns
    -------
    torch.Tensor
        Shape (image, 1, 32, 32).

    Examples
    --------
    >>> training, _ = load_digits()
    >>> place_digits(training.strokes[:5], torch.Generator().manual_seed(0)).shape
    torch.Size([5, 1, 32, 32])
    """
    count, size = strokes.shape[:2]
    images = _shading(count, generator)
    room = CANVAS - size
    corner = (room / 2 + _HABIT * torch.randn(count, 2, generator=generator)).round().clamp(0, room).long()
    rows = corner[:, 0, None] + torch.arange(size)
    columns = corner[:, 1, None] + torch.arange(size)
    images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]] += _CONTRAST * strokes
    images += _NOISE * torch.randn(images.shape, generator=generator)
    return images[:, None]


def _shading(count: int, generator: torch.Generator) -> Tensor:
    """Draw backgrounds that are brightest where the light comes from, shape (image, row, column)."""
    mean, deviation = _LIGHT
    angle = mean + deviation * torch.randn(count, 1, 1, generator=generator)
    strength = _STRONGEST_SHADING * torch.rand(count, 1, 1, generator=generator)
    exposure = _EXPOSURE * torch.randn(count, 1, 1, generator=generator)
    centre = torch.linspace(-1, 1, CANVAS)
    return exposure - strength * (angle.cos() * centre[:, None] + angle.sin() * centre)


def digit_batches(digits: Digits, *, steps: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of digits placed anew, (images, labels); the same for the same seed.

    Parameters
    ----------
    digits
        What to draw from, with replacement.
    steps
        Number of batches.
    batch_size
        Images in each.
    seed
        Seed of digits and placements.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(digits), (batch_size,), generator=generator)
        yield place_digits(digits.strokes[chosen], generator), digits.labels[chosen]
