"""Convolutions and pooling layers with the border that a padding asks for, on maps of two and three axes."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from probe.axes import AXES
from probe.models.geometry import (
    TRANSPOSED,
    Sides,
    along_each,
    n_axes_of,
    reach_of,
    sides_along,
    sides_from,
    sides_of,
)
from probe.variants.taps import taps_over_taps_inside

__all__ = ["CONVERTIBLE", "Bordered", "convert", "extend", "is_convertible", "is_padded"]

_EXTENSIONS = ("reflect", "replicate", "circular")
_FILLED = {"zeros": 0.0, "lowest": -torch.inf}
_CONVOLVE: dict[int, Any] = {2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE: dict[int, Any] = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_MAXIMUM: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE: dict[int, Any] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def extend(maps: Tensor, sides: Sides, mode: str) -> Tensor:
    """Continue maps beyond their border.

    One row of four pixels, continued by two on each side::

        reflect     3 2 | 1 2 3 4 | 3 2
        replicate   1 1 | 1 2 3 4 | 4 4
        circular    3 4 | 1 2 3 4 | 1 2

    Unlike ``torch.nn.functional.pad`` it goes on periodically where the sides exceed the map, as ``numpy.pad`` does.

    Parameters
    ----------
    maps : Tensor
        Shape (..., row, column) or (..., frame, row, column).
    sides : tuple of int
        Cells to add at the left, right, top and bottom, and before the first and behind the last frame.
    mode : {"reflect", "replicate", "circular"}
    """
    n_axes = len(sides) // 2
    along = list(sides_along(sides).values())
    shortest = 1 if mode == "reflect" else 0
    fits = all(max(amounts) <= size - shortest for amounts, size in zip(along, maps.shape[-n_axes:], strict=True))
    if mode == "replicate" or fits:
        return functional.pad(maps, sides, mode=mode)
    for axis, (before, behind) in enumerate(along, start=-n_axes):
        if before or behind:
            maps = maps.index_select(axis, _continued(maps.shape[axis], before, behind, mode, maps.device))
    return maps


def _continued(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Return which pixel stands at each place of a continued row."""
    places = torch.arange(-before, size + after, device=device)
    if mode == "circular":
        return places % size
    period = max(2 * (size - 1), 1)
    return torch.minimum(places % period, -places % period)


class Bordered:
    """What makes a layer, beside its own class, see another border than torch gives it.

    Attributes
    ----------
    sides : tuple of int
        How far its windows reach beyond the map, whatever they find there.
    extensions : list of (str, tuple of int)
        How the map is continued before torch applies the layer: ways, each with the sides where it applies.
    rest : tuple of int
        How far torch pads both sides of each axis.
    weighed : tuple of bool
        Whether, along each axis, the taps inside the map alone count.
    """

    sides: Sides
    extensions: list[tuple[str, Sides]]
    rest: tuple[int, ...]
    weighed: tuple[bool, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        # No module holds these classes, by whose name they could be found.
        return _restored, (type(self).__bases__[1],), self.__getstate__()

    def _continued(self, maps: Tensor) -> Tensor:
        for way, sides in self.extensions:
            maps = extend(maps, sides, way) if way in _EXTENSIONS else functional.pad(maps, sides, value=_FILLED[way])
        return maps

    def _ratio(self, maps: Tensor, response: Tensor) -> Tensor:
        """Return the taps of a window over those inside the map, for each cell of the response."""
        layer: Any = self
        n_axes = len(self.weighed)
        is_transposed = isinstance(self, TRANSPOSED)
        return taps_over_taps_inside(
            tuple(maps.shape[-n_axes:]),
            tuple(response.shape[-n_axes:]),
            along_each(layer.kernel_size, n_axes),
            along_each(layer.stride, n_axes),
            layer.padding if is_transposed else tuple(before for before, _ in sides_along(self.sides).values()),
            along_each(getattr(layer, "dilation", 1), n_axes),
            self.weighed,
            response.dtype,
            response.device,
            is_transposed=is_transposed,
        )


def _with_bias(response: Tensor, ratio: Tensor, bias: Tensor | None) -> Tensor:
    """Return a reweighted response, and its bias where a tap is inside the map."""
    if bias is None:
        return response * ratio
    return response * ratio + bias.to(response.dtype).reshape(-1, *[1] * ratio.ndim) * (ratio > 0)


class _BorderedConvolution(Bordered):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        layer: Any = self
        convolve, is_weighed = _CONVOLVE[len(self.rest)], any(self.weighed)
        response: Tensor = convolve(
            self._continued(input),
            weight,
            None if is_weighed else bias,
            layer.stride,
            self.rest,
            layer.dilation,
            layer.groups,
        )
        return _with_bias(response, self._ratio(input, response), bias) if is_weighed else response


class _BorderedTransposed(Bordered):
    borders: tuple[str, ...]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        layer: Any = self
        n_axes = len(self.borders)
        added = layer._output_padding(
            input, output_size, layer.stride, layer.padding, layer.kernel_size, n_axes, layer.dilation
        )
        along = sides_along(sides_of(layer, added)).values()
        maps = input
        for way in _EXTENSIONS:
            chosen = [sides if border == way else (0, 0) for border, sides in zip(self.borders, along, strict=True)]
            if any(map(any, chosen)):
                maps = extend(maps, sides_from(chosen), way)
        settings = (self.borders, input.shape[-n_axes:], along, reach_of(layer), layer.stride, layer.padding, added)
        cut, more, kept = zip(*[_transposed_border(*axis) for axis in zip(*settings, strict=True)], strict=True)
        is_weighed = any(self.weighed)
        bias = None if is_weighed else layer.bias
        transpose = _TRANSPOSE[n_axes]
        response = transpose(maps, layer.weight, bias, layer.stride, cut, more, layer.groups, layer.dilation)
        response = response[(..., *kept)]
        return _with_bias(response, self._ratio(input, response), layer.bias) if is_weighed else response


def _transposed_border(
    border: str, size: int, sides: tuple[int, int], reach: int, stride: int, cut: int, added: int
) -> tuple[int, int, slice]:
    """Return what torch is to cut from the response along an axis, to add to it, and which cells of it are kept."""
    if border == "full":
        return 0, 0, slice(None)
    if border == "valid":
        return cut, added, slice(max(reach - stride + 1 - cut, 0), max(size * stride - cut, 0))
    if border not in _EXTENSIONS or not any(sides):
        return cut, added, slice(None)
    before, behind = sides
    first, length = before * stride + cut, (size - 1) * stride - 2 * cut + reach + added + 1
    return 0, max(added - cut - behind * stride, 0), slice(first, first + length)


class _BorderedMaximum(Bordered):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        layer: Any = self
        pool = _MAXIMUM[len(self.rest)]
        return pool(self._continued(input), layer.kernel_size, layer.stride, self.rest, layer.dilation)


class _BorderedAverage(Bordered):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        layer: Any = self
        mean: Tensor = _AVERAGE[len(self.rest)](
            self._continued(input),
            layer.kernel_size,
            layer.stride,
            self.rest,
            count_include_pad=layer.count_include_pad,
            divisor_override=layer.divisor_override,
        )
        return mean * self._ratio(input, mean) if any(self.weighed) else mean


_BORDERED: dict[type[nn.Module], type[Bordered]] = {
    **dict.fromkeys((nn.Conv2d, nn.Conv3d), _BorderedConvolution),
    **dict.fromkeys((nn.ConvTranspose2d, nn.ConvTranspose3d), _BorderedTransposed),
    **dict.fromkeys((nn.MaxPool2d, nn.MaxPool3d), _BorderedMaximum),
    **dict.fromkeys((nn.AvgPool2d, nn.AvgPool3d), _BorderedAverage),
}
CONVERTIBLE = tuple(_BORDERED)


def is_convertible(layer: nn.Module) -> bool:
    """Tell whether a layer computes what its kind in `CONVERTIBLE` does, so that its border can be told to it.

    A class that makes such layers with settings of its own does; one with code of its own may do anything.

    Examples
    --------
    >>> class Three(nn.Conv2d):
    ...     def __init__(self, *widths):
    ...         super().__init__(*widths, 3, padding=1)
    >>> is_convertible(Three(3, 8)), is_convertible(nn.Conv1d(3, 8, 3))
    (True, False)
    """
    kind = next((kind for kind in CONVERTIBLE if isinstance(layer, kind)), None)
    methods = ("__call__", "forward", "_conv_forward", "_output_padding")
    # A lazy layer takes another class when it first runs, and one with parametrisations has a class of its own.
    if kind is None or isinstance(layer, LazyModuleMixin) or parametrize.is_parametrized(layer):
        return False
    has_own = any(name in vars(layer) for name in methods)
    return not has_own and all(getattr(type(layer), name, 0) is getattr(kind, name, 0) for name in methods)


_made: dict[type[nn.Module], type[nn.Module]] = {}


def _bordered(own: type[nn.Module]) -> type[nn.Module]:
    """Return a class like a layer's own, with another border; always the same for the same."""
    if own not in _made:
        kind = next(kind for kind in CONVERTIBLE if issubclass(own, kind))
        _made[own] = type(f"Bordered{own.__name__}", (_BORDERED[kind], own), {"__module__": __name__})
    return _made[own]


def _restored(own: type[nn.Module]) -> nn.Module:
    layer: nn.Module = object.__new__(_bordered(own))
    return layer


def is_padded(layer: Any, padding: str, axes: Collection[str] = AXES) -> bool:
    """Tell whether a layer pads along some axes, or would under full padding, so that the padding has a meaning for it.

    Examples
    --------
    >>> patches = nn.Conv3d(3, 8, (1, 4, 4), stride=(1, 4, 4))
    >>> is_padded(patches, "circular"), is_padded(patches, "full"), is_padded(nn.MaxPool3d(2), "full", ["frame"])
    (False, False, True)
    """
    is_pooling = not hasattr(layer, "weight")
    if padding == "partial" and is_pooling:
        return False
    along = sides_along(sides_of(layer))
    if any(any(sides) for axis, sides in along.items() if axis in axes):
        return True
    strides = (1,) * len(along) if is_pooling else layer.stride
    overlaps = [reach >= stride for reach, stride in zip(reach_of(layer), strides, strict=True)]
    return padding == "full" and any(does for axis, does in zip(along, overlaps, strict=True) if axis in axes)


def convert(layer: nn.Module, padding: str, axes: Collection[str] = AXES) -> None:
    """Give a layer another border.

    The layer is changed in place, its class included, so that its hooks and every reference to it stay valid.

    Parameters
    ----------
    layer : nn.Module
        One that `is_convertible`.
    padding : str
        One of ``probe.PADDINGS``.
    axes
        Along which; along others the border stays as it is.
    """
    if not is_padded(layer, padding, axes):
        return
    if isinstance(layer, TRANSPOSED):
        _convert_transposed(layer, padding, axes)
    else:
        _convert_windowed(layer, padding, axes)


def _convert_transposed(layer: Any, padding: str, axes: Collection[str]) -> None:
    if padding == "zeros":
        return
    layer.__class__ = _bordered(type(layer))
    layer.padding_mode = padding
    layer.borders = tuple(padding if axis in axes else "zeros" for axis in AXES[-n_axes_of(layer) :])
    layer.weighed = tuple(border == "partial" for border in layer.borders)


def _convert_windowed(layer: Any, padding: str, axes: Collection[str]) -> None:
    former, before = getattr(layer, "padding_mode", "zeros"), sides_along(sides_of(layer))
    sides, ways = dict(before), dict.fromkeys(before, former)
    for axis, reach in zip(before, reach_of(layer), strict=True):
        if axis in axes:
            ways[axis] = padding
            sides[axis] = {"valid": (0, 0), "full": (reach, reach)}.get(padding, sides[axis])
    ways = {axis: way if any(sides[axis]) else "zeros" for axis, way in ways.items()}

    def within(*chosen: str) -> Sides:
        return sides_from(amounts if ways[axis] in chosen else (0, 0) for axis, amounts in sides.items())

    extensions = [(way, within(way)) for way in _EXTENSIONS]
    if hasattr(layer, "weight"):
        by_torch = sides_along(within("zeros", "partial", "full")).values()
        # Torch pads both sides alike.
        uneven = [(first - min(first, last), last - min(first, last)) for first, last in by_torch]
        extensions.append(("zeros", sides_from(uneven)))
        weighed = [way == "partial" for way in ways.values()]
        layer.padding_mode = padding if any(way not in ("zeros", "full") for way in ways.values()) else "zeros"
    else:
        by_torch = sides_along(within("zeros")).values()
        # Torch pads by half a window at most.
        is_maximum = isinstance(layer, nn.MaxPool2d | nn.MaxPool3d)
        extensions.append(("lowest" if is_maximum else "zeros", within("full")))
        weighed = [way == "full" and not is_maximum and not layer.divisor_override for way in ways.values()]
    rest = tuple(map(min, by_torch))
    extensions = [(way, amounts) for way, amounts in extensions if any(amounts)]
    if extensions or any(weighed):
        layer.__class__ = _bordered(type(layer))
        layer.sides, layer.extensions = sides_from(sides.values()), extensions
        layer.rest, layer.weighed = rest, tuple(weighed)
    elif sides != before:
        layer.padding = rest
