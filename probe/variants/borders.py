"""Convolutions and pooling layers with the border that a padding asks for."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.models.geometry import Sides, pair, reach_of, sides_of

__all__ = ["CONVERTED", "CONVERTIBLE", "convert", "extend"]

_EXTENSIONS = ("reflect", "replicate", "circular")


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
        Shape (..., row, column).
    sides : tuple of int
        Pixels to add at the left, right, top and bottom.
    mode : {"reflect", "replicate", "circular"}
    """
    left, right, top, bottom = sides
    height, width = maps.shape[-2:]
    shortest = 1 if mode == "reflect" else 0
    if mode == "replicate" or (max(top, bottom) <= height - shortest and max(left, right) <= width - shortest):
        return functional.pad(maps, sides, mode=mode)
    rows = _continued(height, top, bottom, mode, maps.device)
    columns = _continued(width, left, right, mode, maps.device)
    return maps[..., rows[:, None], columns]


def _continued(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Return which pixel stands at each place of a continued row."""
    places = torch.arange(-before, size + after, device=device)
    if mode == "circular":
        return places % size
    period = max(2 * (size - 1), 1)
    return torch.minimum(places % period, -places % period)


def _reweighting(layer: Any, map_: Tensor, response: Tensor) -> Tensor:
    """Return the taps of a layer's window over those inside the map, for each row and column of its response."""
    return _taps_over_taps_inside(
        tuple(map_.shape[-2:]),
        tuple(response.shape[-2:]),
        pair(layer.kernel_size),
        pair(layer.stride),
        layer.sides,
        pair(getattr(layer, "dilation", 1)),
        response.dtype,
        response.device,
    )


@functools.lru_cache(maxsize=256)
def _taps_over_taps_inside(
    size: tuple[int, ...],
    response_size: tuple[int, ...],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    sides: Sides,
    dilation: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return the ratio of shape (row, column); 0 where no tap is inside."""
    left, _, top, _ = sides
    counts = []
    # What is kept serves training too, so it must be no inference tensor.
    with torch.inference_mode(False):
        for axis, before in enumerate((top, left)):
            starts = torch.arange(response_size[axis], device="cpu") * stride[axis] - before
            taps = starts[:, None] + torch.arange(kernel_size[axis], device="cpu") * dilation[axis]
            counts.append(((taps >= 0) & (taps < size[axis])).sum(dim=1))
        inside = torch.outer(*counts).double()
        ratio = torch.where(inside > 0, kernel_size[0] * kernel_size[1] / inside, 0)
        return ratio.to(device=device, dtype=dtype)


class ExtendedConv2d(nn.Conv2d):
    """A convolution of the map continued by reflection, replication or around the other side."""

    sides: Sides

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        extended = extend(input, self.sides, self.padding_mode)
        return functional.conv2d(extended, weight, bias, self.stride, 0, self.dilation, self.groups)


class PartialConv2d(nn.Conv2d):
    """A convolution whose response counts only the pixels inside the map (Liu et al. 2018).

    The mask of the paper is one inside the map and zero in the padding, so x' = (Wᵀx)·(taps / taps inside) + b, and 0
    where no tap is inside.
    """

    sides: Sides

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        response = functional.conv2d(input, weight, None, self.stride, self.padding, self.dilation, self.groups)
        ratio = _reweighting(self, input, response)
        if bias is None:
            return response * ratio
        return response * ratio + bias.to(response.dtype)[:, None, None] * (ratio > 0)


class ExtendedMaxPool2d(nn.MaxPool2d):
    """Max pooling of the continued map."""

    sides: Sides
    padding_mode: str

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.max_pool2d(
            extend(input, self.sides, self.padding_mode), self.kernel_size, self.stride, 0, self.dilation
        )


class ExtendedAvgPool2d(nn.AvgPool2d):
    """Average pooling of the continued map; the added pixels count as pixels."""

    sides: Sides
    padding_mode: str

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        extended = extend(input, self.sides, self.padding_mode)
        return functional.avg_pool2d(extended, self.kernel_size, self.stride, divisor_override=self.divisor_override)


class FullMaxPool2d(nn.MaxPool2d):
    """Max pooling over every window that meets the map; torch itself pads by half a window at most."""

    sides: Sides

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        padded = functional.pad(input, self.sides, value=-torch.inf)
        return functional.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


class FullAvgPool2d(nn.AvgPool2d):
    """Average pooling over every window that meets the map; only pixels inside are counted."""

    sides: Sides

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        padded = functional.pad(input, self.sides)
        mean = functional.avg_pool2d(padded, self.kernel_size, self.stride, divisor_override=self.divisor_override)
        return mean if self.divisor_override else mean * _reweighting(self, input, mean)


CONVERTIBLE = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
CONVERTED = (ExtendedConv2d, PartialConv2d, ExtendedMaxPool2d, ExtendedAvgPool2d, FullMaxPool2d, FullAvgPool2d)


def convert(layer: nn.Module, padding: str) -> None:
    """Give a layer another border.

    The layer is changed in place, its class included, so that its hooks and every reference to it stay valid.

    Parameters
    ----------
    layer : nn.Module
        Of class ``nn.Conv2d``, ``nn.MaxPool2d`` or ``nn.AvgPool2d`` exactly.
    padding : str
        One of ``probe.variants.padding.PADDINGS``.
    """
    if isinstance(layer, nn.Conv2d):
        _convert_convolution(layer, padding)
    elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        _convert_pooling(layer, padding)


def _convert_convolution(convolution: Any, padding: str) -> None:
    sides = sides_of(convolution)
    convolution.padding_mode = "zeros"
    if padding == "valid":
        convolution.padding = (0, 0)
    elif padding == "full":
        if any(sides) or _windows_overlap(convolution):
            convolution.padding = reach_of(convolution)
    elif padding != "zeros" and any(sides):
        convolution.__class__ = PartialConv2d if padding == "partial" else ExtendedConv2d
        convolution.padding_mode = padding
        convolution.sides = sides


def _convert_pooling(pooling: Any, padding: str) -> None:
    is_maximum = isinstance(pooling, nn.MaxPool2d)
    if padding == "valid":
        pooling.padding = 0
    elif padding == "full":
        height, width = reach_of(pooling)
        pooling.__class__ = FullMaxPool2d if is_maximum else FullAvgPool2d
        pooling.sides = (width, width, height, height)
    elif padding in _EXTENSIONS and any(sides_of(pooling)):
        pooling.sides = sides_of(pooling)
        pooling.__class__ = ExtendedMaxPool2d if is_maximum else ExtendedAvgPool2d
        pooling.padding_mode = padding


def _windows_overlap(convolution: nn.Conv2d) -> bool:
    return any(reach >= stride for reach, stride in zip(reach_of(convolution), convolution.stride, strict=True))
