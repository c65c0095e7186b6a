"""Which pixels the cells of a layer can read, and which they do read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.models.capture import reading
from probe.models.layers import Layer
from probe.windows.paths import PathCounting, paths_from, paths_in

__all__ = ["Window", "effective_field", "reached_cells", "readable_pixels"]

Window = tuple[Any, ...]
"""Slices of the rows and columns of a map, of clips of the frames before them."""


def reached_cells(model: nn.Module, layers: Sequence[Layer], pixels: Tensor) -> dict[str, np.ndarray]:
    """Tell which cells of each layer can read some of the pixels.

    Parameters
    ----------
    model
        An eager model, whose modes the caller has set; see `probe.models.loan.borrowed`.
    layers
        From `probe.models.survey.survey` at this size.
    pixels
        Shape (1, channel, *size): 1 for the pixels in question, 0 for the others.

    Returns
    -------
    dict
        By name of the layer: whether there is a path, shape (*size).

    Raises
    ------
    ModelError
        If the model reads by content, as attention does, or by functions of which it is not known what they read.
    """
    counts = pixels.double().clone()  # a copy, since the model may write into it

    def count(layer: Layer, maps: Tensor) -> Tensor:
        return paths_in(maps, layer.name)[0].sum(dim=0)

    with torch.no_grad(), reading(model, layers, count) as run, PathCounting(model, counts):
        paths = run(counts)
    return {name: (count > 0).cpu().numpy() for name, count in paths.items()}


def readable_pixels(
    model: nn.Module, layers: Sequence[Layer], windows: Mapping[str, Window], pixels: Tensor
) -> dict[str, np.ndarray]:
    """Tell which pixels a window of each layer can read: its theoretical receptive field.

    Parameters
    ----------
    model, layers
        As in `reached_cells`.
    windows
        The cells in question, by name of the layer.
    pixels
        Shape (1, channel, *size), of any values.

    Returns
    -------
    dict
        By name of the layer: whether there is a path, shape (*size).

    Raises
    ------
    ModelError
        If the model reads by content, as attention does, or by functions of which it is not known what they read.
    """
    ones = torch.ones_like(pixels, dtype=torch.float64).requires_grad_()

    def count(layer: Layer, maps: Tensor) -> Tensor:
        return paths_in(maps, layer.name)[..., *windows[layer.name]].sum()

    with torch.enable_grad(), reading(model, layers, count) as run:
        counts = ones.clone()  # a copy, since the model may write into it
        with PathCounting(model, counts):
            paths = run(counts)
        by_pixel = {name: paths_from(ones, total) for name, total in paths.items()}
    return {name: (count[0].sum(dim=0) > 0).cpu().numpy() for name, count in by_pixel.items()}


def effective_field(
    model: nn.Module, layers: Sequence[Layer], windows: Mapping[str, Window], images: Tensor, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Measure how strongly a window of each layer answers to each pixel (Luo et al. 2016).

    Parameters
    ----------
    model, layers, windows
        As in `readable_pixels`.
    images
        Shape (image, channel, *size).
    seed
        Of the random signs by which channels are summed, so that one gradient stands for all of them.

    Returns
    -------
    dict
        By name of the layer: mean square of the gradient over images, channels and colours, shape (*size).

    References
    ----------
    Luo, Li, Urtasun, Zemel: Understanding the effective receptive field in deep convolutional neural networks.
    NeurIPS 2016.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = images.detach().clone().requires_grad_()

    def signed_sum(layer: Layer, maps: Tensor) -> Tensor:
        cells = maps[..., *windows[layer.name]]
        signs = torch.randint(0, 2, cells.shape, generator=generator, device="cpu").to(cells) * 2 - 1
        return (cells * signs).sum()

    with torch.enable_grad(), reading(model, layers, signed_sum) as run:
        totals = run(pixels)
        gradients = {name: torch.autograd.grad(total, pixels, retain_graph=True)[0] for name, total in totals.items()}
    return {
        name: gradient.double().square().sum(dim=1).mean(dim=0).cpu().numpy() for name, gradient in gradients.items()
    }
