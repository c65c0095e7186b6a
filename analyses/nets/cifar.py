"""The residual networks of CIFAR, whose shortcuts have no weights, as S-Conv or F-Conv."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from probe.analyses.nets.blocks import check_border_and_blur, stage
from probe.errors import ArgumentError

__all__ = ["CifarResNet", "cifar_resnet"]


class CifarResNet(nn.Module):
    """The residual network that He et al. 2016 made for CIFAR; see `cifar_resnet`."""

    def __init__(self, depth: int, n_classes: int, *, width: int, border: str, blur: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 2 if border == "full" else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        given: dict[str, Any] = {"bottleneck": False, "projects": False, "border": border, "blur": blur}
        n_blocks = (depth - 2) // 6
        self.layer1 = stage(width, width, 1, n_blocks, given)
        self.layer2 = stage(width, 2 * width, 2, n_blocks, given)
        self.layer3 = stage(2 * width, 4 * width, 2, n_blocks, given)
        self.linear = nn.Linear(4 * width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(images))))))
        return self.linear(maps.mean(dim=(2, 3)))


def cifar_resnet(
    depth: int = 20, *, n_classes: int = 10, width: int = 16, border: str = "same", blur: int = 0
) -> CifarResNet:
    """Make an untrained ResNet for images of 32 by 32 pixels, with shortcuts that have no weights.

    Parameters
    ----------
    depth
        Number of layers with weights: 20, 32, 44, 56, or any other 6n + 2.
    n_classes
        Number of classes.
    width
        Channels of the first stage, an even number; the others have twice and four times as many.
    border, blur
        As in `residual_net`.

    Returns
    -------
    CifarResNet
        Takes images of shape (image, 3, row, column).

    Raises
    ------
    ArgumentError
        If the depth is not of the form 6n + 2, or another argument has no such value.

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
    if width < 2 or width % 2:
        raise ArgumentError(f"width={width!r}: expected an even number of channels, at least 2.")
    check_border_and_blur(border, blur)
    return CifarResNet(depth, n_classes, width=width, border=border, blur=blur)
