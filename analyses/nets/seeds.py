"""Weights of a seed, with the random state left as it was."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

__all__ = ["seeded"]

Net = TypeVar("Net", bound=nn.Module)


def seeded(make: Callable[[], Net], seed: int) -> Net:
    """Make a network with the weights of a seed; the random state of torch stays as it was.

    Examples
    --------
    >>> first, again = (seeded(lambda: nn.Linear(2, 2), 3) for _ in range(2))
    >>> torch.equal(first.weight, again.weight)
    True
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make()
