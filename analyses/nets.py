"""Networks small enough to be trained many times over, the residual networks of CIFAR, and BagNet-33."""

from collections import OrderedDict

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from probe.errors import ArgumentError

__all__ = ["BagNet", "CifarResNet", "bagnet33", "cifar_resnet", "small_net", "small_segmenter"]

_WIDTHS = (16, 24, 32, 32)
_STRIDES = (2, 1, 2, 1)


def small_net(*, n_classes: int = 10, n_channels: int = 1, width: int = 1, seed: int = 0) -> nn.Sequential:
    """Make an untrained classifier: four 3×3 convolutions, two of them with stride 2.

    Each convolution is followed by batch normalisation and ReLU, the last by the mean over its map and a linear
    layer, so that nothing but the borders of the maps can tell the network where things are.

    Parameters
    ----------
    n_classes
        Number of classes.
    n_channels
        Number of channels of the images.
    width
        Factor to the numbers of channels of all convolutions.
    seed
        Seed of the weights. The random state of torch stays as it was.

    Returns
    -------
    torch.nn.Sequential
        Takes images of shape (image, channel, row, column). Heights and widths divisible by 4 keep the maps of all
        convolutions in step with the image, as circular padding needs to be the same everywhere.

    Examples
    --------
    >>> small_net()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        modules = _small_convolutions(n_channels, width)
        modules["mean"] = nn.AdaptiveAvgPool2d(1)
        modules["flatten"] = nn.Flatten()
        modules["classes"] = nn.Linear(width * _WIDTHS[-1], n_classes)
        return nn.Sequential(modules)


def small_segmenter(*, n_classes: int, n_channels: int = 1, width: int = 1, seed: int = 0) -> nn.Sequential:
    """Make the convolutions of `small_net`, and behind them one of 1×1 that scores the classes at each place.

    Parameters
    ----------
    n_classes, n_channels, width, seed
        As in `small_net`.

    Returns
    -------
    torch.nn.Sequential
        Its maps have a quarter of the rows and columns of the images.

    Examples
    --------
    >>> small_segmenter(n_classes=11)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 11, 8, 8])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        modules = _small_convolutions(n_channels, width)
        modules["classes"] = nn.Conv2d(width * _WIDTHS[-1], n_classes, 1)
        return nn.Sequential(modules)


def _small_convolutions(n_channels: int, factor: int) -> OrderedDict[str, nn.Module]:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    n_inputs = n_channels
    for number, (width, stride) in enumerate(zip(_WIDTHS, _STRIDES, strict=True), start=1):
        n_outputs = factor * width
        modules[f"conv{number}"] = nn.Conv2d(n_inputs, n_outputs, 3, stride=stride, padding=1, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm2d(n_outputs)
        modules[f"relu{number}"] = nn.ReLU()
        n_inputs = n_outputs
    return modules


class _BasicBlock(nn.Module):
    """Two convolutions and the shortcut A of He et al. 2016: every second pixel, zero channels on both sides."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.added = stride, (n_out - n_in) // 2

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        maps = functional.relu(self.bn1(self.conv1(maps)))
        return functional.relu(self.bn2(self.conv2(maps)) + shortcut)


class CifarResNet(nn.Module):
    """The residual network that He et al. 2016 made for CIFAR; see `cifar_resnet`."""

    def __init__(self, depth: int, n_classes: int) -> None:
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, n_blocks)
        self.layer2 = _stage(16, 32, n_blocks)
        self.layer3 = _stage(32, 64, n_blocks)
        self.linear = nn.Linear(64, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(images))))))
        return self.linear(maps.mean(dim=(2, 3)))


def _stage(n_in: int, n_out: int, n_blocks: int) -> nn.Sequential:
    first = _BasicBlock(n_in, n_out, stride=n_out // n_in)
    return nn.Sequential(first, *[_BasicBlock(n_out, n_out, stride=1) for _ in range(n_blocks - 1)])


def cifar_resnet(depth: int = 20, *, n_classes: int = 10) -> CifarResNet:
    """Make an untrained ResNet for images of 32 by 32 pixels, with shortcuts that have no weights.

    Parameters
    ----------
    depth
        Number of layers with weights: 20, 32, 44, 56, or any other 6n + 2.
    n_classes
        Number of classes.

    Returns
    -------
    CifarResNet
        Takes images of shape (image, 3, row, column).

    Raises
    ------
    ArgumentError
        If the depth is not of the form 6n + 2.

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016, section 4.2, option A.

    Examples
    --------
    >>> net = cifar_resnet(20)
    >>> sum(parameter.numel() for parameter in net.parameters())
    269722
    """
    if depth < 8 or depth % 6 != 2:
        raise ArgumentError(f"depth={depth!r}: expected 6n + 2 layers, for example 20, 32, 44 or 56.")
    return CifarResNet(depth, n_classes)


class _BagBlock(nn.Module):
    """A bottleneck without padding; where its window is 3×3, the shortcut loses its last rows and columns."""

    def __init__(self, n_in: int, n_middle: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        n_out = 4 * n_middle
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_middle, 1, bias=False), nn.BatchNorm2d(n_middle)
        self.conv2, self.bn2 = nn.Conv2d(n_middle, n_middle, kernel, stride, bias=False), nn.BatchNorm2d(n_middle)
        self.conv3, self.bn3 = nn.Conv2d(n_middle, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        self.downsample: nn.Module = nn.Identity()
        if kernel > 1:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = self.downsample(maps)
        maps = functional.relu(self.bn1(self.conv1(maps)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        maps = self.bn3(self.conv3(maps))
        return functional.relu(maps + shortcut[:, :, : maps.shape[2], : maps.shape[3]])


class BagNet(nn.Module):
    """The ResNet-50 whose last units see 33×33 pixels; see `bagnet33`."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 1, bias=False), nn.Conv2d(64, 64, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64, momentum=0.001)
        self.layer1 = _bag_stage(64, 64, n_blocks=3, stride=2)
        self.layer2 = _bag_stage(256, 128, n_blocks=4, stride=2)
        self.layer3 = _bag_stage(512, 256, n_blocks=6, stride=2)
        self.layer4 = _bag_stage(1024, 512, n_blocks=3, stride=1)
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(2048, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = functional.relu(self.bn1(self.conv2(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(self.avgpool(maps).flatten(1))


def _bag_stage(n_in: int, n_middle: int, *, n_blocks: int, stride: int) -> nn.Sequential:
    first = _BagBlock(n_in, n_middle, kernel=3, stride=stride)
    return nn.Sequential(first, *[_BagBlock(4 * n_middle, n_middle) for _ in range(n_blocks - 1)])


def bagnet33(*, n_classes: int = 1000) -> BagNet:
    """Make an untrained BagNet-33: a ResNet-50 of mostly 1×1 convolutions, without any padding.

    Its modules are named as those of the released weights, so that these can be loaded.

    Parameters
    ----------
    n_classes
        Number of classes.

    Returns
    -------
    BagNet
        Takes images of shape (image, 3, row, column), at least 33×33 pixels.

    References
    ----------
    Brendel, Bethge: Approximating CNNs with bag-of-local-features models works surprisingly well on ImageNet.
    ICLR 2019.

    Examples
    --------
    >>> bagnet33(n_classes=2)(torch.zeros(2, 3, 33, 33)).shape
    torch.Size([2, 2])
    """
    return BagNet(n_classes)
