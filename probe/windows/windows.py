"""Which cells of a map, and of the padding around it, the windows of a layer read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from probe.models.geometry import along_each, n_axes_of, sides_along, sides_of

__all__ = ["WINDOWED", "Windows", "windows_of"]

WINDOWED = (
    *(nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d),
    *(nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d),
)
"""Layers that slide a window over their map."""


@dataclass(frozen=True)
class Windows:
    """The windows of a layer along one axis; what is said of rows goes for columns and frames too.

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


def windows_of(layer: Any) -> tuple[Windows, ...]:
    """Return the windows of a layer of a kind in `WINDOWED` along each axis.

    Examples
    --------
    >>> [windows.count(8) for windows in windows_of(nn.MaxPool3d((1, 2, 4)))]
    [8, 4, 2]
    """
    n_axes = n_axes_of(layer)
    settings = (layer.kernel_size, layer.stride or layer.kernel_size, getattr(layer, "dilation", 1))
    # Pooling layers that were converted to another padding pad beforehand, without ceil_mode.
    ceil_mode = bool(getattr(layer, "ceil_mode", False)) and not hasattr(layer, "sides")
    sides = sides_along(getattr(layer, "sides", None) or sides_of(layer)).values()
    along = zip(*(along_each(setting, n_axes) for setting in settings), sides, strict=True)
    return tuple(
        Windows(kernel, stride, dilation, before, behind, ceil_mode)
        for kernel, stride, dilation, (before, behind) in along
    )
