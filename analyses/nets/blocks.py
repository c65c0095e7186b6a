"""The residual blocks of all residual networks, with their border and sub-sampling to choose."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from probe.errors import ArgumentError
from probe.variants.samplers import BlurPool

__all__ = ["BORDERS", "EXPANSION", "blur_pool", "check_border_and_blur", "stage"]

BORDERS = ("same", "full")
"""Zeros around each map: half a kernel (S-Conv), or a kernel less one pixel (F-Conv)."""


EXPANSION = 4
"""How many times as many channels leave a bottleneck as are in its middle."""


class _Block(nn.Module):
    """A residual block, basic or bottleneck, whose border and sub-sampling are chosen.

    Its shortcut projects, as in the networks of ImageNet, or keeps every second pixel and adds channels of zeros on
    both sides, as in those of CIFAR (option A of He et al. 2016).
    """

    def __init__(
        self, n_in: int, n_middle: int, stride: int, *, bottleneck: bool, projects: bool, border: str, blur: int
    ) -> None:
        super().__init__()
        n_out = n_middle * (EXPANSION if bottleneck else 1)
        sides, blurs = (2 if border == "full" else 1), bool(blur) and stride > 1
        step = 1 if blurs else stride
        if bottleneck:
            self.conv1, self.bn1 = nn.Conv2d(n_in, n_middle, 1, bias=False), nn.BatchNorm2d(n_middle)
            self.conv2 = nn.Conv2d(n_middle, n_middle, 3, step, sides, bias=False)
            self.bn2 = nn.BatchNorm2d(n_middle)
            self.conv3, self.bn3 = nn.Conv2d(n_middle, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        else:
            self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, step, sides, bias=False), nn.BatchNorm2d(n_out)
            self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, 1, sides, bias=False), nn.BatchNorm2d(n_out)
        self.blur, self.shortcut_blur = blur_pool(blur, stride, border), blur_pool(blur, stride, border)
        self.downsample: nn.Module | None = None
        if projects and (stride > 1 or n_in != n_out):
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, step, bias=False), nn.BatchNorm2d(n_out))
        self.step, self.added, self.bottleneck = step, (n_out - n_in) // 2, bottleneck
        self.grown = 0
        if border == "full":
            self.grown = 1 if bottleneck else 2 if stride == 1 else 3

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = functional.pad(maps, (self.grown,) * 4) if self.grown else maps
        shortcut = self.shortcut_blur(shortcut)
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        elif self.step > 1 or self.added:
            shortcut = shortcut[:, :, :: self.step, :: self.step]
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.added, self.added))
        maps = functional.relu(self.bn1(self.conv1(maps)))
        if self.bottleneck:
            maps = self.bn3(self.conv3(self.blur(functional.relu(self.bn2(self.conv2(maps))))))
        else:
            maps = self.bn2(self.conv2(self.blur(maps)))
        return functional.relu(maps + shortcut)


def blur_pool(size: int, stride: int, border: str) -> nn.Module:
    """Return the filter that stands before sub-sampling by a stride, or nothing where there is none."""
    if not size or stride == 1:
        return nn.Identity()
    return BlurPool(stride, size, "full" if border == "full" else "zeros")


def check_border_and_blur(border: str, blur: int) -> None:
    """Raise an `ArgumentError` unless a network can have this border and this length of a filter."""
    if border not in BORDERS:
        raise ArgumentError(f"border={border!r}: expected one of {', '.join(BORDERS)}.")
    if blur < 0 or blur == 1:
        raise ArgumentError(f"blur={blur!r}: expected the length of a filter, at least 2, or 0 for none.")


def stage(n_in: int, n_middle: int, stride: int, n_blocks: int, given: dict[str, Any]) -> nn.Sequential:
    """Return so many blocks, of which the first one sub-samples; `given` is for each of them."""
    n_out = n_middle * (EXPANSION if given["bottleneck"] else 1)
    first = _Block(n_in, n_middle, stride, **given)
    return nn.Sequential(first, *[_Block(n_out, n_middle, 1, **given) for _ in range(n_blocks - 1)])
