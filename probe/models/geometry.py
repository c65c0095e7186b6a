"""Kernel, stride and sides of a layer that slides a window over its map."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from probe.axes import AXES

__all__ = [
    "TRANSPOSED",
    "WINDOWED",
    "Sides",
    "along_each",
    "n_axes_of",
    "pair",
    "reach_of",
    "sides_along",
    "sides_from",
    "sides_of",
]

Sides = tuple[int, ...]
"""Before and behind the last axis, then the axis before it: left, right, top and bottom, and the first and last frames,
as `torch.nn.functional.pad` takes them."""

WINDOWED = {
    1: (nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d),
}
"""Layers that slide a window over their map, by the number of its axes."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def n_axes_of(layer: nn.Module) -> int:
    """Return over how many axes a layer slides its window, 0 if it slides none.

    Examples
    --------
    >>> n_axes_of(nn.MaxPool3d(2)), n_axes_of(nn.ReLU())
    (3, 0)
    """
    return next((n_axes for n_axes, kinds in WINDOWED.items() if isinstance(layer, kinds)), 0)


def along_each(value: Any, n_axes: int) -> tuple[int, ...]:
    """Return a setting along each axis that may be given as one number for all.

    Examples
    --------
    >>> along_each(3, 2), along_each([3], 2), along_each((1, 2, 2), 3)
    ((3, 3), (3, 3), (1, 2, 2))
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * n_axes if len(values) == 1 else values


def pair(value: Any) -> tuple[int, int]:
    """Return rows and columns of a setting that may be given as one number for both.

    Examples
    --------
    >>> pair(3), pair([1, 2])
    ((3, 3), (1, 2))
    """
    rows, columns = along_each(value, 2)
    return rows, columns


def reach_of(layer: Any) -> tuple[int, ...]:
    """Return how many cells a window spans along each axis besides the first.

    Examples
    --------
    >>> reach_of(nn.Conv2d(1, 1, (3, 5), dilation=2))
    (4, 8)
    """
    n_axes = n_axes_of(layer) or 2
    kernel, dilation = along_each(layer.kernel_size, n_axes), along_each(getattr(layer, "dilation", 1), n_axes)
    return tuple(tap * (size - 1) for size, tap in zip(kernel, dilation, strict=True))


def sides_of(layer: Any, added: Sequence[int] | None = None) -> Sides:
    """Return how far a layer pads its map; an odd total of ``padding="same"`` goes to the right, bottom and end.

    A transposed convolution pads as far as its response reads beyond the map; `added` takes the place of its
    ``output_padding``.

    Examples
    --------
    >>> sides_of(nn.Conv2d(1, 1, (1, 4), padding="same"))
    (1, 2, 0, 0)
    >>> sides_of(nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)), sides_of(nn.ConvTranspose2d(1, 1, 2, stride=2))
    ((1, 1, 1, 1), (0, 0, 0, 0))
    """
    n_axes, padding = n_axes_of(layer), getattr(layer, "padding", 0)
    if padding == "valid":
        return (0, 0) * n_axes
    if padding == "same":
        along = [(reach // 2, reach - reach // 2) for reach in reach_of(layer)]
    elif isinstance(layer, TRANSPOSED):
        cut = along_each(padding, n_axes)
        more = along_each(added or layer.output_padding, n_axes)
        room = [reach - amount for reach, amount in zip(reach_of(layer), cut, strict=True)]
        along = [
            (max(cells // step, 0), max((cells + behind) // step, 0))
            for cells, behind, step in zip(room, more, layer.stride, strict=True)
        ]
    else:
        along = [(amount, amount) for amount in along_each(padding, n_axes)]
    return sides_from(along)


def sides_from(along: Iterable[tuple[int, int]]) -> Sides:
    """Return sides from what is before and behind each axis; the reverse of `sides_along`.

    Examples
    --------
    >>> sides_from([(0, 0), (1, 2)])
    (1, 2, 0, 0)
    """
    return tuple(amount for amounts in reversed(list(along)) for amount in amounts)


def sides_along(sides: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Return what is before and behind each axis, by its name, in the order of the axes.

    Examples
    --------
    >>> sides_along((1, 2, 0, 0))
    {'row': (0, 0), 'column': (1, 2)}
    """
    along = zip(sides[-2::-2], sides[-1::-2], strict=True)
    return dict(zip(AXES[-len(sides) // 2 :], along, strict=True))
