"""The axes of maps by name: those of an image are rows and columns; clips and volumes have frames before them."""

from collections.abc import Sequence
from typing import Any

__all__ = ["AXES", "axes_of_size", "on_cells", "sized"]

AXES = ("frame", "row", "column")


def axes_of_size(size: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the axes of a map, the last ones of `AXES`.

    Examples
    --------
    >>> axes_of_size((14, 14)), axes_of_size((8, 14, 14))
    (('row', 'column'), ('frame', 'row', 'column'))
    """
    return AXES[-len(size) :]


def on_cells(size: Sequence[int]) -> tuple[Any, ...]:
    """Return the index that lets one value for each channel stand on every cell of a map of this size.

    Examples
    --------
    >>> import numpy as np
    >>> np.ones(3)[on_cells((14, 14))].shape
    (3, 1, 1)
    """
    return (..., *[None] * len(size))


def sized(size: Sequence[int]) -> str:
    """Return a size as it is written in messages.

    Examples
    --------
    >>> sized((8, 14, 14))
    '8×14×14'
    """
    return "×".join(map(str, size))
