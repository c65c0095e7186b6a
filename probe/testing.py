"""Tiny networks with known answers, and images that know nothing of position."""

import itertools
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["CoordinateNet", "noise_images", "padded_net", "pointwise_net"]

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


def noise_images(count: int, size: int | tuple[int, ...] = 24, *, smooth: int = 1, seed: int = 0) -> Tensor:
    """Draw images of Gaussian noise: content independent of position.

    Parameters
    ----------
    count
        Number of images.
    size
        Rows and columns, as one number for both; of clips (frames, rows, columns).
    smooth
        Side of a box filter that correlates neighbouring pixels, wrapping around; 1 leaves them independent.
    seed
        Seed of the draw.

    Returns
    -------
    torch.Tensor
        Shape (image, 3, ``*size``).

    Examples
    --------
    >>> from probe.testing import noise_images
    >>> noise_images(2, size=8).shape, noise_images(2, size=(4, 8, 8)).shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 4, 8, 8]))
    """
    sizes = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(count, 3, *sizes, generator=torch.Generator().manual_seed(seed), device="cpu")
    cells = tuple(range(2, images.ndim))
    shifted = [images.roll(shift, dims=cells) for shift in itertools.product(range(smooth), repeat=len(cells))]
    return torch.stack(shifted).mean(dim=0) * smooth


def padded_net(
    padding: str = "zeros", *, depth: int = 4, width: int = 16, n_axes: int = 2, seed: int = 0
) -> nn.Sequential:
    """Make a stride-1 net of 3×3 convolutions and ReLUs with random weights.

    With ``circular`` padding it commutes with circular shifts, so it cannot know position; with ``valid`` (none) it
    sees no border; with ``zeros`` each layer carries the border's trace one pixel further in.

    Parameters
    ----------
    padding
        ``zeros``, ``reflect``, ``replicate``, ``circular``, or ``valid``.
    depth
        Number of convolutions, named conv1, conv2, and so on, each with a ReLU behind it.
    width
        Number of channels.
    n_axes
        2 for images, 3 for clips, whose convolutions span three frames too.
    seed
        Seed of the weights: nets that differ in padding alone have the same.

    Examples
    --------
    >>> from probe.testing import noise_images, padded_net
    >>> padded_net("valid", depth=2)(noise_images(1, size=8)).shape
    torch.Size([1, 16, 4, 4])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers: dict[str, nn.Module] = {}
        for index in range(depth):
            mode: dict[str, Any] = {"padding": 0} if padding == "valid" else {"padding": 1, "padding_mode": padding}
            layers[f"conv{index + 1}"] = _CONVOLUTIONS[n_axes](3 if index == 0 else width, width, 3, **mode)
            layers[f"relu{index + 1}"] = nn.ReLU()
    return nn.Sequential(OrderedDict(layers))


def pointwise_net(*, depth: int = 3, width: int = 16, seed: int = 0) -> nn.Sequential:
    """Make a net of random 1×1 convolutions and ReLUs, which treats all positions alike.

    Examples
    --------
    >>> from probe.testing import noise_images, pointwise_net
    >>> pointwise_net(depth=1)(noise_images(1, size=4)).shape
    torch.Size([1, 16, 4, 4])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = [layer for i in range(depth) for layer in (nn.Conv2d(3 if i == 0 else width, width, 1), nn.ReLU())]
    return nn.Sequential(*layers)


class CoordinateNet(nn.Module):
    """Append the coordinates as channels (CoordConv), row and column, of clips frame first: position is read exactly.

    Parameters
    ----------
    n_axes
        2 for images, 3 for clips.

    Examples
    --------
    >>> from probe.testing import CoordinateNet, noise_images
    >>> CoordinateNet()(noise_images(1, size=4))[0, 3:, 0, 0]
    tensor([-0.7500, -0.7500])
    """

    def __init__(self, n_axes: int = 2) -> None:
        super().__init__()
        self.identity = _CONVOLUTIONS[n_axes](3 + n_axes, 3 + n_axes, 1, bias=False)
        nn.init.dirac_(self.identity.weight)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with a channel more for each axis, shape (image, 3 + axis, ``*size``)."""
        size = images.shape[2:]
        centres = [(2 * torch.arange(length, device=images.device).to(images) + 1) / length - 1 for length in size]
        coordinates = torch.stack(torch.meshgrid(*centres, indexing="ij")).expand(len(images), -1, *size)
        return self.identity(torch.cat([images, coordinates], dim=1))
