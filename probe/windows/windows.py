"""Which rows of a map, and of the padding around it, the windows of a layer read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from probe.models.geometry import pair, sides_of

__all__ = ["WINDOWED", "Windows", "windows_of"]

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
"""Layers that slide a window over their map."""


@dataclass(frozen=True)
class Windows:
    """The windows of a layer along one axis; what is said of rows goes for columns too.

    Attributes
    ----------
    kernel, stride, dilation : int
        As in ``torch.nn.Conv2d``.
    before, after : int
        Rows of padding on either side.
    ceil_mode : bool
        Whether a last window may reach beyond the padding, as in ``torch.nn.MaxPool2d``.

    Examples
    --------
    A 3×3 convolution of stride 2 on 8 rows never reads the padding below; on 9 it does.

    >>> windows = Windows(kernel=3, stride=2, dilation=1, before=1, after=1)
    >>> windows.unread(8), windows.unread(9)
    ((0, 1), (0, 0))
    """

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil_mode: bool = False

    def count(self, size: int) -> int:
        """Return the number of windows on a map of `size` rows: the rows of the output."""
        room = size + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        if not self.ceil_mode:
            return max(room // self.stride + 1, 0)
        count = -(-room // self.stride) + 1
        starts_beyond_map = (count - 1) * self.stride >= size + self.before
        return max(count - starts_beyond_map, 0)

    def reads(self, size: int) -> np.ndarray:
        """Return how often each row of the padded map is read, shape (before + size + after,)."""
        padded = self.before + size + self.after
        places = np.add.outer(np.arange(self.count(size)) * self.stride, np.arange(self.kernel) * self.dilation)
        return np.bincount(places[places < padded], minlength=padded)

    def unread(self, size: int) -> tuple[int, int]:
        """Return how many rows of the padding before and behind the map no window reads."""
        reads = self.reads(size)
        return int((reads[: self.before] == 0).sum()), int((reads[self.before + size :] == 0).sum())

    def unread_inside(self, size: int) -> tuple[int, int]:
        """Return how many rows of the map itself, from its first and from its last inwards, no window reads."""
        read = self.reads(size)[self.before : self.before + size] > 0
        return (int(read.argmax()), int(read[::-1].argmax())) if read.any() else (size, size)


def windows_of(layer: Any) -> tuple[Windows, Windows]:
    """Return the windows of a layer of a kind in `WINDOWED`, along rows and along columns."""
    left, right, top, bottom = _sides(layer)
    kernel = pair(layer.kernel_size)
    stride = pair(layer.stride or layer.kernel_size)
    dilation = pair(getattr(layer, "dilation", 1))
    # Pooling layers that were converted to another padding pad beforehand, without ceil_mode.
    ceil_mode = bool(getattr(layer, "ceil_mode", False)) and not hasattr(layer, "sides")
    return (
        Windows(kernel[0], stride[0], dilation[0], top, bottom, ceil_mode),
        Windows(kernel[1], stride[1], dilation[1], left, right, ceil_mode),
    )


def _sides(layer: Any) -> tuple[int, int, int, int]:
    if hasattr(layer, "sides"):
        return layer.sides
    return sides_of(layer) if hasattr(layer, "padding") else (0, 0, 0, 0)
