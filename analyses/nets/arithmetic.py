"""How many multiplications a network takes, and the width at which it takes no more than another."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from probe.errors import ArgumentError

__all__ = ["matched_width", "multiply_adds"]


def multiply_adds(net: nn.Module, size: tuple[int, ...]) -> int:
    """Return how many multiplications of convolutions and linear layers one image takes; nothing is computed.

    Parameters
    ----------
    net
        Is left as it was.
    size
        Of an image: (channel, row, column).

    Examples
    --------
    >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10))
    21600
    """
    without_values = deepcopy(net).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        without_values(torch.zeros(1, *size, device="meta"))
    return counter.get_total_flops() // 2


def matched_width(make: Callable[[int], nn.Module], budget: int, size: tuple[int, ...], *, widest: int) -> int:
    """Return the width at which a network takes at most so many multiplications, the largest even one.

    Parameters
    ----------
    make
        Makes the network of a width.
    budget
        Multiplications for an image, as `multiply_adds` counts them.
    size
        As in `multiply_adds`.
    widest
        The largest width to try.

    Raises
    ------
    ArgumentError
        If not even two channels are cheap enough.

    Examples
    --------
    >>> matched_width(lambda width: nn.Conv2d(3, width, 1), 700, (3, 10, 10), widest=16)
    2
    """
    for width in range(widest - widest % 2, 0, -2):
        if multiply_adds(make(width), size) <= budget:
            return width
    raise ArgumentError(f"budget={budget!r}: the narrowest network takes more multiplications.")
