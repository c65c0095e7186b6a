"""Networks small enough to be trained many times over."""

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["small_net"]

_WIDTHS = (16, 24, 32, 32)
_STRIDES = (2, 1, 2, 1)


def small_net(*, n_classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Make an untrained classifier of grey images: four 3×3 convolutions, two of them with stride 2.

    Each convolution is followed by batch normalisation and ReLU, the last by the mean over its map and a linear
    layer, so that nothing but the borders of the maps can tell the network where things are.

    Parameters
    ----------
    n_classes
        Number of classes.
    seed
        Seed of the weights. The random state of torch stays as it was.

    Returns
    -------
    torch.nn.Sequential
        Takes images of shape (image, 1, row, column). Heights and widths divisible by 4 keep the maps of all
        convolutions in step with the image, as circular padding needs to be the same everywhere.

    Examples
    --------
    >>> small_net()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        n_inputs = 1
        for number, (width, stride) in enumerate(zip(_WIDTHS, _STRIDES, strict=True), start=1):
            modules[f"conv{number}"] = nn.Conv2d(n_inputs, width, 3, stride=stride, padding=1, bias=False)
            modules[f"norm{number}"] = nn.BatchNorm2d(width)
            modules[f"relu{number}"] = nn.ReLU()
            n_inputs = width
        modules["mean"] = nn.AdaptiveAvgPool2d(1)
        modules["flatten"] = nn.Flatten()
        modules["classes"] = nn.Linear(n_inputs, n_classes)
        return nn.Sequential(modules)
