"""Networks of clips whose convolutions are truncated, full or circular, in space or in space and time."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.errors import ArgumentError

__all__ = ["ARMS", "DEPTHS", "SMALL", "Arm", "ClipResNet", "bare_net", "clip_resnet", "make_net", "small_clip_net"]

SMALL = "small"
"""The name of the small network; residual networks are called by their depth, such as ``RN18``."""

_WIDTHS = (16, 32, 64)
_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_CHANNELS = (64, 128, 256, 512)
_EXPANSION = 4  # of a bottleneck

DEPTHS = tuple(_STAGES)
"""Layers of the residual networks that there are."""


@dataclass(frozen=True)
class Arm:
    """What a network's convolutions do at the borders.

    Attributes
    ----------
    full
        Of time, rows and columns: whether every place is seen by every weight (padding of kernel − 1), or by as many
        as keep the size (half of it).
    time_stride
        Of the first convolution of a residual network, along time.
    mode
        Of the padding.
    """

    full: tuple[bool, bool, bool] = (False, False, False)
    time_stride: int = 1
    mode: Literal["zeros", "circular"] = "zeros"

    def padding(self, window: int) -> tuple[int, int, int]:
        """Return the padding of a convolution with so many places along each axis."""
        time, rows, columns = (window - 1 if full else window // 2 for full in self.full)
        return time, rows, columns

    def around(self, maps: Tensor, places: int) -> Tensor:
        """Pad maps with zeros by so many places, along the axes that are full."""
        time, rows, columns = (places * full for full in self.full)
        return functional.pad(maps, (columns, columns, rows, rows, time, time))


ARMS = {
    "S-Conv": Arm(),
    "F-Conv in space": Arm(full=(False, True, True)),
    "F-Conv in space and time": Arm(full=(True, True, True)),
    "F-Conv in space and time, stride 2": Arm(full=(True, True, True), time_stride=2),
    "circular": Arm(mode="circular"),
}
"""By name. The published F-Conv in space and time has stride 2 along time in its first convolution, all others 1."""


def _convolution(arm: Arm, n_in: int, n_out: int, window: int, stride: int | tuple[int, int, int] = 1) -> nn.Conv3d:
    return nn.Conv3d(n_in, n_out, window, stride, arm.padding(window), padding_mode=arm.mode, bias=False)


def small_clip_net(arm: Arm, *, n_classes: int, n_channels: int = 1, seed: int = 0) -> nn.Sequential:
    """Make an untrained classifier of clips: three 3×3×3 convolutions, and the mean over what they give.

    Each clip is brought to mean 0 and deviation 1 first, so that how bright a scene is hides nothing of what moves in
    it. Strides are 2 along rows and columns, and along time that of the arm, 2 and 2.

    Parameters
    ----------
    arm
        One of `ARMS`.
    n_classes, n_channels
        Number of classes, and of channels of the clips.
    seed
        Of the weights. The random state of torch stays as it was.

    Examples
    --------
    >>> small_clip_net(ARMS["circular"], n_classes=8)(torch.zeros(2, 1, 16, 32, 32)).shape
    torch.Size([2, 8])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        modules: list[nn.Module] = [_Standardised()]
        n_inputs = n_channels
        for width, time_stride in zip(_WIDTHS, (arm.time_stride, 2, 2), strict=True):
            modules += [_convolution(arm, n_inputs, width, 3, (time_stride, 2, 2)), nn.BatchNorm3d(width), nn.ReLU()]
            n_inputs = width
        return nn.Sequential(*modules, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(n_inputs, n_classes))


class _Standardised(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(clips, dim=(1, 2, 3, 4), keepdim=True)
        return (clips - mean) / (deviation + 1e-6)


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, arm: Arm, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(arm, n_in, width, 3, stride), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = _convolution(arm, width, width, 3), nn.BatchNorm3d(width)
        # With full convolution the maps grow by two places on either side; a projection of stride 2 skips one more.
        self.shortcut = _Shortcut(arm, n_in, width, stride, grows=2 if n_in == width and stride == 1 else 3)

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = self.shortcut(maps)
        maps = functional.relu(self.bn1(self.conv1(maps)))
        return functional.relu(self.bn2(self.conv2(maps)) + shortcut)


class _Bottleneck(nn.Module):
    expansion = _EXPANSION

    def __init__(self, arm: Arm, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        n_out = width * self.expansion
        self.conv1, self.bn1 = nn.Conv3d(n_in, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = _convolution(arm, width, width, 3, stride), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, n_out, 1, bias=False), nn.BatchNorm3d(n_out)
        self.shortcut = _Shortcut(arm, n_in, n_out, stride, grows=1)

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = self.shortcut(maps)
        maps = functional.relu(self.bn1(self.conv1(maps)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        return functional.relu(self.bn3(self.conv3(maps)) + shortcut)


class _Shortcut(nn.Module):
    """The maps themselves, or a 1×1×1 convolution of them, with zeros around them where the main branch grows."""

    def __init__(self, arm: Arm, n_in: int, n_out: int, stride: int, *, grows: int) -> None:
        super().__init__()
        self.arm, self.grows = arm, grows
        self.projection: nn.Module = nn.Identity()
        if n_in != n_out or stride > 1:
            self.projection = nn.Sequential(nn.Conv3d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm3d(n_out))

    def forward(self, maps: Tensor) -> Tensor:
        return self.projection(self.arm.around(maps, self.grows))


class ClipResNet(nn.Module):
    """The residual network of three axes of Hara et al.; see `clip_resnet`."""

    def __init__(self, depth: int, arm: Arm, n_classes: int) -> None:
        super().__init__()
        self.arm = arm
        self.conv1 = _convolution(arm, 3, _CHANNELS[0], 7, (arm.time_stride, 2, 2))
        self.bn1 = nn.BatchNorm3d(_CHANNELS[0])
        block: type[_BasicBlock | _Bottleneck] = _Bottleneck if depth >= 50 else _BasicBlock
        stages: list[nn.Module] = []
        n_inputs = _CHANNELS[0]
        for number, (width, count) in enumerate(zip(_CHANNELS, _STAGES[depth], strict=True)):
            blocks: list[nn.Module] = []
            for place in range(count):
                blocks.append(block(arm, n_inputs, width, 2 if number and not place else 1))
                n_inputs = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(n_inputs, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, clips: Tensor) -> Tensor:
        """Return the class scores of clips of shape (clip, 3, frame, row, column), shape (clip, class)."""
        return self.fc(self.maps(clips).mean(dim=(2, 3, 4)))

    def maps(self, clips: Tensor) -> Tensor:
        """Return the last maps, shape (clip, channel, frame, row, column)."""
        maps = functional.relu(self.bn1(self.conv1(clips)))
        if self.arm.mode == "circular":
            maps = functional.max_pool3d(functional.pad(maps, (1, 1) * 3, mode="circular"), 3, 2)
        else:
            maps = functional.max_pool3d(maps, 3, 2, 1)
        return self.layers(maps)


def clip_resnet(depth: int, arm: Arm, *, n_classes: int, seed: int = 0) -> ClipResNet:
    """Make an untrained residual network of clips, with full convolution as Kayhan and van Gemert published it.

    Where convolutions are full, so are those of the identity branch: it is padded with zeros as far as the main branch
    grows. The pooling behind the first convolution is the same in all.

    Parameters
    ----------
    depth
        18, 34 or 50.
    arm
        One of `ARMS`.
    n_classes
        Number of classes.
    seed
        Of the weights. The random state of torch stays as it was.

    Raises
    ------
    ArgumentError
        If there is no such depth.

    References
    ----------
    Hara, Kataoka, Satoh: Can spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet? CVPR 2018.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     net, clips = ClipResNet(18, ARMS["F-Conv in space"], n_classes=101), torch.zeros(1, 3, 16, 112, 112)
    >>> net.maps(clips).shape
    torch.Size([1, 512, 1, 17, 17])
    """
    if depth not in _STAGES:
        raise ArgumentError(f"depth={depth!r}: expected one of {', '.join(map(str, DEPTHS))}.")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return ClipResNet(depth, arm, n_classes)


def make_net(net: str, arm: Arm, *, n_classes: int, n_channels: int, seed: int) -> nn.Module:
    """Make an untrained network by its name; those of residual networks take clips of three channels."""
    if net == SMALL:
        return small_clip_net(arm, n_classes=n_classes, n_channels=n_channels, seed=seed)
    return clip_resnet(int(net.removeprefix("RN")), arm, n_classes=n_classes, seed=seed)


def bare_net(net: str, arm: Arm, n_classes: int, n_channels: int) -> nn.Module:
    """Make a network by its name without drawing its weights."""
    if net == SMALL:
        return small_clip_net(arm, n_classes=n_classes, n_channels=n_channels)
    return ClipResNet(int(net.removeprefix("RN")), arm, n_classes)
