"""The layers that take the place of a stride."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.models.geometry import pair, reach_of
from probe.variants.borders import extend

__all__ = ["BlurPool", "PhaseChoice", "PolyphasePool", "Wrapped"]

Step = tuple[int, int]


class BlurPool(nn.Module):
    """Blur each channel with a binomial filter, then keep every `stride`-th row and column.

    Parameters
    ----------
    stride
        Step of the sub-sampling, for rows and columns where it is a pair.
    size
        Length of the filter: 1 does not blur, 3 is (1, 2, 1) / 4.
    border
        How the map is continued: ``"reflect"``, as Zhang does, ``"circular"``, ``"zeros"``, or ``"full"``, with as many
        zeros on each side as the filter is long, less 1, so that maps grow.

    References
    ----------
    Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019.

    Examples
    --------
    >>> BlurPool(stride=2, size=3)(torch.tensor([[[[0.0, 4.0, 0.0, 4.0]]]]))
    tensor([[[[2., 2.]]]])
    """

    def __init__(self, stride: int | Step, size: int = 4, border: str = "reflect") -> None:
        super().__init__()
        self.stride, self.size, self.border = stride, size, border
        row = torch.ones(1, device="cpu")
        for _ in range(size - 1):
            row = functional.pad(row, (1, 0)) + functional.pad(row, (0, 1))
        self.kernel: Tensor
        self.register_buffer("kernel", torch.outer(row, row) / row.sum() ** 2, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of shape (image, channel, row / stride, column / stride), rounded up; under ``"full"`` larger."""
        before, behind = (self.size - 1) // 2, self.size // 2
        if self.border == "full":
            before = behind = self.size - 1
        sides = (before, behind, before, behind)
        with_zeros = self.border in ("zeros", "full")
        extended = functional.pad(maps, sides) if with_zeros else extend(maps, sides, self.border)
        kernel = self.kernel.to(maps).expand(maps.shape[1], 1, -1, -1)
        return functional.conv2d(extended, kernel, stride=self.stride, groups=maps.shape[1])


class PhaseChoice(nn.Module):
    """Choose, for each image, which cell to begin with so that the cells kept have the largest norm over all channels.

    Parameters
    ----------
    stride
        Steps of the sub-sampling, for rows and columns.

    References
    ----------
    Chaman and Dokmanić: Truly Shift-Invariant Convolutional Neural Networks. CVPR 2021.

    Examples
    --------
    >>> PhaseChoice((2, 2))(torch.tensor([[[[0.0, 4.0, 0.0, 4.0], [5.0, 0.0, 5.0, 1.0]]]]))
    tensor([2])
    """

    def __init__(self, stride: Step) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Return the number of each image's phase, its first row · the stride of columns + its first column."""
        # Two phases whose norms differ by less than rounding would be chosen between by the shift.
        precise = torch.float32 if maps.device.type == "mps" else torch.float64
        power = torch.linalg.vector_norm(maps, dim=1, keepdim=True, dtype=precise) ** 2
        rows, columns = (
            _places(torch.arange(step, device=maps.device), size, step)
            for step, size in zip(self.stride, maps.shape[2:], strict=True)
        )
        kept = power[:, 0][:, rows][..., columns]  # image, first row, row, first column, column
        return kept.transpose(2, 3).flatten(3).flatten(1, 2).sum(dim=2).argmax(dim=1)


class PolyphasePool(nn.Module):
    """Keep every `stride`-th row and column of each image from the cell on that was chosen for it.

    Where a map is no whole number of strides, the last cells of some phases are those of its other side.

    Parameters
    ----------
    stride
        Steps of the sub-sampling, for rows and columns.

    Examples
    --------
    >>> PolyphasePool((2, 2))(torch.arange(8.0).reshape(1, 1, 2, 4), torch.tensor([2]))
    tensor([[[[4., 6.]]]])
    """

    def __init__(self, stride: Step) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, maps: Tensor, phases: Tensor) -> Tensor:
        """Return maps of shape (image, channel, row / stride, column / stride), rounded up."""
        firsts = (phases // self.stride[1], phases % self.stride[1])
        rows, columns = (
            _places(first, size, step) for first, size, step in zip(firsts, maps.shape[2:], self.stride, strict=True)
        )
        image = torch.arange(len(maps), device=maps.device)[:, None, None, None]
        channel = torch.arange(maps.shape[1], device=maps.device)[:, None, None]
        return maps[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _places(first: Tensor, size: int, step: int) -> Tensor:
    """Return the places of every `step`-th cell from some first ones on, shape (first, cell)."""
    return (first[:, None] + torch.arange(0, size, step, device=first.device)) % size


class Wrapped(nn.Module):
    """Continue a map around its other side, as far as the windows of all phases reach.

    Parameters
    ----------
    layer
        A strided layer without padding, whose settings are noted.

    Examples
    --------
    >>> Wrapped(nn.MaxPool2d(2))(torch.arange(4.0).reshape(1, 1, 1, 4))[0, 0, 0]
    tensor([0., 1., 2., 3., 0.])
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.stride, self.reach = pair(layer.stride), reach_of(layer)
        self.rounds_up = bool(getattr(layer, "ceil_mode", False))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps with up to a stride, less one, of further rows and columns."""
        height, width = maps.shape[2:]
        bottom, right = (
            self._missing(size - reach, size, step)
            for size, reach, step in zip((height, width), self.reach, self.stride, strict=True)
        )
        return extend(maps, (0, right, 0, bottom), "circular") if bottom or right else maps

    def _missing(self, n_windows: int, size: int, step: int) -> int:
        """Return how many windows of stride 1 are missing to as many of each phase as the strided layer has."""
        n_kept = -(-n_windows // step)
        if self.rounds_up and (n_windows - 1) % step and n_kept * step < size:
            n_kept += 1
        return n_kept * step - n_windows
