"""Kernel, stride and sides of a layer that slides a window over its map."""

from typing import Any

__all__ = ["Sides", "pair", "reach_of", "sides_of"]

Sides = tuple[int, int, int, int]
"""Left, right, top and bottom, as `torch.nn.functional.pad` takes them."""


def pair(value: Any) -> tuple[int, int]:
    """Return rows and columns of a setting that may be given as one number for both.

    Examples
    --------
    >>> pair(3), pair([1, 2])
    ((3, 3), (1, 2))
    """
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def reach_of(layer: Any) -> tuple[int, int]:
    """Return how many rows and columns a window spans besides the first.

    Examples
    --------
    >>> import torch
    >>> reach_of(torch.nn.Conv2d(1, 1, (3, 5), dilation=2))
    (4, 8)
    """
    rows, columns = pair(layer.kernel_size)
    row_step, column_step = pair(getattr(layer, "dilation", 1))
    return row_step * (rows - 1), column_step * (columns - 1)


def sides_of(layer: Any) -> Sides:
    """Return how far a layer pads its map; an odd total of ``padding="same"`` goes to the right and bottom.

    Examples
    --------
    >>> import torch
    >>> sides_of(torch.nn.Conv2d(1, 1, (1, 4), padding="same"))
    (1, 2, 0, 0)
    """
    if layer.padding == "valid":
        return 0, 0, 0, 0
    if layer.padding == "same":
        rows, columns = reach_of(layer)
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
    rows, columns = pair(layer.padding)
    return columns, columns, rows, rows
