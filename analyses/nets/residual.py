"""The residual networks of ImageNet, with torchvision's names of layers, as S-Conv or F-Conv."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from probe.analyses.nets.blocks import BORDERS, EXPANSION, blur_pool, check_border_and_blur, stage
from probe.errors import ArgumentError

__all__ = ["DEPTHS", "ResidualNet", "residual_net"]

DEPTHS = (18, 34, 50, 101)
"""Of `residual_net`."""

_LAYOUTS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True), 101: ((3, 4, 23, 3), True)}


class ResidualNet(nn.Module):
    """A ResNet with torchvision's names of layers, whose border and sub-sampling are chosen; see `residual_net`."""

    def __init__(
        self, depth: int, n_classes: int, *, width: int, border: str, blur: int, pool: str, small_images: bool
    ) -> None:
        super().__init__()
        n_blocks, bottleneck = _LAYOUTS[depth]
        kernel, stride = (3, 1) if small_images else (7, 2)
        sides = kernel - 1 if border == "full" else kernel // 2
        self.conv1 = nn.Conv2d(3, width, kernel, stride, sides, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        if small_images:
            self.maxpool: nn.Module = nn.Identity()
        elif blur:
            self.maxpool = nn.Sequential(nn.MaxPool2d(2, 1), blur_pool(blur, 2, border))
        else:
            self.maxpool = nn.MaxPool2d(2, 2) if pool == "full" else nn.MaxPool2d(3, 2, 1)
        given: dict[str, Any] = {"bottleneck": bottleneck, "projects": True, "border": border, "blur": blur}
        expansion = EXPANSION if bottleneck else 1
        self.layer1 = stage(width, width, 1, n_blocks[0], given)
        self.layer2 = stage(expansion * width, 2 * width, 2, n_blocks[1], given)
        self.layer3 = stage(2 * expansion * width, 4 * width, 2, n_blocks[2], given)
        self.layer4 = stage(4 * expansion * width, 8 * width, 2, n_blocks[3], given)
        self.fc = nn.Linear(8 * expansion * width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(maps.mean(dim=(2, 3)))


def residual_net(
    depth: int = 18,
    *,
    n_classes: int = 1000,
    border: str = "same",
    blur: int = 0,
    pool: str | None = None,
    width: int = 64,
    small_images: bool = False,
) -> ResidualNet:
    """Make an untrained ResNet-18, 34, 50 or 101 as S-Conv or F-Conv, with or without BlurPool.

    The commonest uses::

        residual_net(18)                              # S-Conv: torchvision's resnet18
        residual_net(18, border="full")               # F-Conv
        residual_net(18, border="full", blur=3)       # F-Conv + BlurPool

    All four have the parameters of torchvision's nets, under the same names, so that weights go from one to the
    other. `probe.with_padding` with ``"full"`` is not the same: there the shortcut is aligned afterwards, and the max
    pooling keeps its window.

    Parameters
    ----------
    depth
        One of `DEPTHS`.
    n_classes
        Number of classes.
    border
        ``"same"``: each map is padded with half a kernel of zeros. ``"full"``: with a kernel less one pixel, so that
        every value of the map is seen by every weight. Shortcuts grow along: by 2 pixels on each side of a basic block,
        3 before a strided projection, 1 in a bottleneck.
    blur
        Length of the binomial filter that stands before each sub-sampling, but that of the first convolution: 3 is
        (1, 2, 1) / 4. 0 for none. Here maps are continued with zeros, under ``"full"`` by as many as the filter less 1;
        Zhang continues them by reflection.
    pool
        Max pooling: ``"same"``, 3×3 with a border of 1, or ``"full"``, 2×2 without. By default that of the published
        net of this border. With `blur` it is 2×2 with stride 1 before the filter, and nothing can be chosen.
    width
        Channels of the first stage.
    small_images
        Begin with 3×3 and stride 1 and without max pooling, as for CIFAR.

    Returns
    -------
    ResidualNet
        Takes images of shape (image, 3, row, column).

    Raises
    ------
    ArgumentError
        If an argument has no such value, or would have no effect.

    References
    ----------
    Kayhan, van Gemert: On Translation Invariance in CNNs. CVPR 2020, and its code. Zhang: Making Convolutional Networks
    Shift-Invariant Again. ICML 2019.

    Examples
    --------
    >>> import torch
    >>> net = residual_net(18, n_classes=5, border="full", width=8)
    >>> net(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 5])
    """
    if depth not in _LAYOUTS:
        raise ArgumentError(f"depth={depth!r}: expected one of {', '.join(map(str, DEPTHS))}.")
    check_border_and_blur(border, blur)
    if pool is not None and (pool not in BORDERS or blur or small_images):
        raise ArgumentError(
            f"pool={pool!r}: expected one of {', '.join(BORDERS)}, or None, as with blur= and with small_images=."
        )
    return ResidualNet(
        depth, n_classes, width=width, border=border, blur=blur, pool=pool or border, small_images=small_images
    )
