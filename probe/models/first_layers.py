"""What the first layer of a model takes: how many channels, axes or numbers."""

import math

from torch import nn

from probe.models.kinds import Convolution, plain_convolutions

__all__ = ["axes_taken", "first_convolution", "first_inputs", "takes_grey"]


def first_convolution(model: nn.Module) -> Convolution | None:
    """Return the first convolution among a model's modules, None where there is none; transposed ones aside.

    Examples
    --------
    >>> first_convolution(nn.Sequential(nn.ReLU(), nn.Conv3d(1, 4, 3)))
    Conv3d(1, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1))
    """
    return next(plain_convolutions(model), None)


def axes_taken(model: nn.Module) -> int | None:
    """Return how many axes the maps have that a model's first convolution takes; None where it has none.

    Examples
    --------
    >>> axes_taken(nn.Conv2d(3, 4, 3)), axes_taken(nn.Conv3d(3, 4, 3)), axes_taken(nn.Linear(3, 4))
    (2, 3, None)
    """
    first = first_convolution(model)
    return None if first is None else len(first.kernel_size)


def takes_grey(model: nn.Module, *, square: bool = False) -> bool:
    """Return whether a model's images have one channel.

    Its first convolution takes one, and none takes three. Without convolutions, its first weight takes all pixels of a
    square image at once, and as many as three channels cannot have.

    Parameters
    ----------
    model
        Any module.
    square
        Whether images are known to be square. Three channels of others may have as many pixels: 3·48·64 = 96².

    Examples
    --------
    >>> takes_grey(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)))
    True
    >>> takes_grey(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)))
    True
    """
    widths = [module.in_channels for module in plain_convolutions(model)]
    if widths:
        return widths[0] == 1 and 3 not in widths
    n_pixels = first_inputs(model)
    return n_pixels > 0 and math.isqrt(n_pixels) ** 2 == n_pixels and (square or n_pixels % 3 != 0)


def first_inputs(model: nn.Module) -> int:
    """Return how many numbers the first weight of a model takes, where it is that of a linear layer; else 0.

    Examples
    --------
    >>> first_inputs(nn.Sequential(nn.Flatten(), nn.Linear(12, 10))), first_inputs(nn.Conv2d(1, 4, 3))
    (12, 0)
    """
    first = next(model.parameters(), None)
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return next((module.in_features for module in linear if module.weight is first), 0)
