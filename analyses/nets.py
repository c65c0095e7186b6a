"""Networks that studies train: small ones, residual networks with their border and sampling to choose, AugShift."""

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from probe.errors import ArgumentError, ModelError
from probe.models.copies import copied
from probe.models.layers import unwrap
from probe.variants.samplers import BlurPool

__all__ = [
    "BORDERS",
    "DEPTHS",
    "AugShift",
    "AugShiftLoss",
    "CifarResNet",
    "ResidualNet",
    "cifar_resnet",
    "matched_width",
    "multiply_adds",
    "residual_net",
    "seeded",
    "small_net",
    "small_segmenter",
]

BORDERS = ("same", "full")
"""Zeros around each map: half a kernel (S-Conv), or a kernel less one pixel (F-Conv)."""

DEPTHS = (18, 34, 50, 101)
"""Of `residual_net`."""

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


class _Block(nn.Module):
    """A residual block, basic or bottleneck, whose border and sub-sampling are chosen.

    Its shortcut projects, as in the networks of ImageNet, or keeps every second pixel and adds channels of zeros on
    both sides, as in those of CIFAR (option A of He et al. 2016).
    """

    def __init__(
        self, n_in: int, n_middle: int, stride: int, *, bottleneck: bool, projects: bool, border: str, blur: int
    ) -> None:
        super().__init__()
        n_out = n_middle * (_EXPANSION if bottleneck else 1)
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
        self.blur, self.shortcut_blur = _blur(blur, stride, border), _blur(blur, stride, border)
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


def _blur(size: int, stride: int, border: str) -> nn.Module:
    if not size or stride == 1:
        return nn.Identity()
    return BlurPool(stride, size, "full" if border == "full" else "zeros")


def _check(border: str, blur: int) -> None:
    if border not in BORDERS:
        raise ArgumentError(f"border={border!r}: expected one of {', '.join(BORDERS)}.")
    if blur < 0 or blur == 1:
        raise ArgumentError(f"blur={blur!r}: expected the length of a filter, at least 2, or 0 for none.")


class CifarResNet(nn.Module):
    """The residual network that He et al. 2016 made for CIFAR; see `cifar_resnet`."""

    def __init__(self, depth: int, n_classes: int, *, width: int, border: str, blur: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 2 if border == "full" else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        given: dict[str, Any] = {"bottleneck": False, "projects": False, "border": border, "blur": blur}
        n_blocks = (depth - 2) // 6
        self.layer1 = _stage(width, width, 1, n_blocks, given)
        self.layer2 = _stage(width, 2 * width, 2, n_blocks, given)
        self.layer3 = _stage(2 * width, 4 * width, 2, n_blocks, given)
        self.linear = nn.Linear(4 * width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(images))))))
        return self.linear(maps.mean(dim=(2, 3)))


def _stage(n_in: int, n_middle: int, stride: int, n_blocks: int, given: dict[str, Any]) -> nn.Sequential:
    n_out = n_middle * (_EXPANSION if given["bottleneck"] else 1)
    first = _Block(n_in, n_middle, stride, **given)
    return nn.Sequential(first, *[_Block(n_out, n_middle, 1, **given) for _ in range(n_blocks - 1)])


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
    _check(border, blur)
    return CifarResNet(depth, n_classes, width=width, border=border, blur=blur)


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
            self.maxpool = nn.Sequential(nn.MaxPool2d(2, 1), _blur(blur, 2, border))
        else:
            self.maxpool = nn.MaxPool2d(2, 2) if pool == "full" else nn.MaxPool2d(3, 2, 1)
        given: dict[str, Any] = {"bottleneck": bottleneck, "projects": True, "border": border, "blur": blur}
        expansion = _EXPANSION if bottleneck else 1
        self.layer1 = _stage(width, width, 1, n_blocks[0], given)
        self.layer2 = _stage(expansion * width, 2 * width, 2, n_blocks[1], given)
        self.layer3 = _stage(2 * expansion * width, 4 * width, 2, n_blocks[2], given)
        self.layer4 = _stage(4 * expansion * width, 8 * width, 2, n_blocks[3], given)
        self.fc = nn.Linear(8 * expansion * width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(maps.mean(dim=(2, 3)))


_EXPANSION = 4
_LAYOUTS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True), 101: ((3, 4, 23, 3), True)}


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
    >>> net = residual_net(18, n_classes=5, border="full", width=8)
    >>> net(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 5])
    """
    if depth not in _LAYOUTS:
        raise ArgumentError(f"depth={depth!r}: expected one of {', '.join(map(str, DEPTHS))}.")
    _check(border, blur)
    if pool is not None and (pool not in BORDERS or blur or small_images):
        raise ArgumentError(
            f"pool={pool!r}: expected one of {', '.join(BORDERS)}, or None, as with blur= and with small_images=."
        )
    return ResidualNet(
        depth, n_classes, width=width, border=border, blur=blur, pool=pool or border, small_images=small_images
    )


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a network with the weights of a seed; the random state of torch stays as it was.

    Examples
    --------
    >>> first, again = (seeded(lambda: nn.Linear(2, 2), 3) for _ in range(2))
    >>> torch.equal(first.weight, again.weight)
    True
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make()


def multiply_adds(net: nn.Module, size: tuple[int, ...]) -> int:
    """Return how many multiplications of convolutions and linear layers one image takes; nothing is computed.

    Parameters
    ----------
    net
        Is left as it was.
    size
        Of an image: (channel, row, column).

    Examples
    --------
    >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10))
    21600
    """
    without_values = deepcopy(net).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        without_values(torch.zeros(1, *size, device="meta"))
    return counter.get_total_flops() // 2


def matched_width(make: Callable[[int], nn.Module], budget: int, size: tuple[int, ...], *, widest: int) -> int:
    """Return the width at which a network takes at most so many multiplications, the largest even one.

    Parameters
    ----------
    make
        Makes the network of a width.
    budget
        Multiplications for an image, as `multiply_adds` counts them.
    size
        As in `multiply_adds`.
    widest
        The largest width to try.

    Raises
    ------
    ArgumentError
        If not even two channels are cheap enough.

    Examples
    --------
    >>> matched_width(lambda width: nn.Conv2d(3, width, 1), 700, (3, 10, 10), widest=16)
    2
    """
    for width in range(widest - widest % 2, 0, -2):
        if multiply_adds(make(width), size) <= budget:
            return width
    raise ArgumentError(f"budget={budget!r}: the narrowest network takes more multiplications.")


@dataclass(frozen=True)
class AugShiftLoss:
    """The terms of the loss of `AugShift`: of two views, the mean cross-entropy, and the distance of their latents."""

    total: Tensor
    classes: Tensor
    distance: Tensor


class AugShift(nn.Module):
    """A classifier that is trained on two shifted views of each image, whose pooled features are pulled together.

    The commonest uses::

        net = AugShift(cifar_resnet(20))
        net.loss(first_crops, second_crops, labels).total.backward()
        net.loss(first_crops, second_crops, labels, weight=0.1).total.backward()

    Loss = ½ · (cross-entropy of the first view + that of the second) + weight · mean over images and channels of
    (latent of the first view − latent of the second)². The latent is what the last linear layer is given, the map
    after global pooling. Both views go through the network in one batch, so that batch normalisation sees them
    together. Weight, latent and mean are ours: the source tells the two terms, and has published no code.

    Parameters
    ----------
    model : nn.Module
        A classifier whose output is that of its last linear layer. It stays as it was; a copy is trained.

    Attributes
    ----------
    encoder : nn.Module
        The copy, with the identity in the place of its last linear layer: images in, latents out.
    head : nn.Linear
        That layer.

    Raises
    ------
    ModelError
        If the model has no linear layer.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global Pooling, More than Meets the Eye. ICCV 2021.

    Examples
    --------
    >>> net = AugShift(small_net())
    >>> images, labels = torch.zeros(4, 1, 16, 16), torch.zeros(4, dtype=torch.long)
    >>> net(images).shape, net.loss(images, images, labels).distance.item()
    (torch.Size([4, 10]), 0.0)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = copied(unwrap(model))
        names = [name for name, module in self.encoder.named_modules() if isinstance(module, nn.Linear)]
        if not names or not names[-1]:
            raise ModelError(
                f"model: {type(model).__name__} has no linear layer behind others, so it has no latent. Pass a "
                "classifier that ends in one."
            )
        self.head = self.encoder.get_submodule(names[-1])
        self.encoder.set_submodule(names[-1], nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        return self.head(self.encoder(images))

    def loss(self, first: Tensor, second: Tensor, labels: Tensor, *, weight: float = 1.0) -> AugShiftLoss:
        """Return the loss of two views of the same images.

        Parameters
        ----------
        first, second
            Shape (image, channel, row, column).
        labels
            Shape (image,).
        weight
            Of the distance of the latents.
        """
        latents = self.encoder(torch.cat([first, second]))
        classes = functional.cross_entropy(self.head(latents), torch.cat([labels, labels]))
        distance = functional.mse_loss(*latents.chunk(2))
        return AugShiftLoss(classes + weight * distance, classes, distance)
