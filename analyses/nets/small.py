"""Small networks of four convolutions: a classifier, and one that labels places."""

from collections import OrderedDict

from torch import nn

from probe.analyses.nets.seeds import seeded

__all__ = ["small_net", "small_segmenter"]

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
    >>> import torch
    >>> small_net()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def make() -> nn.Sequential:
        modules = _small_convolutions(n_channels, width)
        modules["mean"] = nn.AdaptiveAvgPool2d(1)
        modules["flatten"] = nn.Flatten()
        modules["classes"] = nn.Linear(width * _WIDTHS[-1], n_classes)
        return nn.Sequential(modules)

    return seeded(make, seed)


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
    >>> import torch
    >>> small_segmenter(n_classes=11)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 11, 8, 8])
    """

    def make() -> nn.Sequential:
        modules = _small_convolutions(n_channels, width)
        modules["classes"] = nn.Conv2d(width * _WIDTHS[-1], n_classes, 1)
        return nn.Sequential(modules)

    return seeded(make, seed)


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
