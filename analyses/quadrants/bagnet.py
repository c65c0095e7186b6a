"""BagNet-33: a residual network whose last units see 33×33 pixels."""

import torch.nn.functional as functional
from torch import Tensor, nn

__all__ = ["BagNet", "bagnet33"]


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
    >>> import torch
    >>> bagnet33(n_classes=2)(torch.zeros(2, 3, 33, 33)).shape
    torch.Size([2, 2])
    """
    return BagNet(n_classes)
