"""Images on larger canvases: where on the canvas an image stands is drawn, so its content cannot tell the place."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from probe.errors import ArgumentError

__all__ = ["COLOURS", "CanvasColour", "Normalisation", "assign_cells", "canvas_colour", "place_at", "place_on_grid"]

CanvasColour = str | float | Sequence[float]
Normalisation = tuple[Sequence[float], Sequence[float]]

COLOURS = ("zero", "black", "white", "mean")
"""Colours of a canvas that have a name; see `canvas_colour`."""


def assign_cells(numbers: Sequence[int], n_cells: int, seed: int) -> Tensor:
    """Draw the cell of each image from (seed, image number), balanced.

    Parameters
    ----------
    numbers
        The image numbers.
    n_cells
        Number of cells; among as many consecutive numbers each cell comes once, in random order.
    seed
        Seed of the draw.

    Returns
    -------
    torch.Tensor
        Shape (image,), from 0 to n_cells − 1.

    Examples
    --------
    >>> assign_cells(range(9), n_cells=9, seed=0).sort().values
    tensor([0, 1, 2, 3, 4, 5, 6, 7, 8])
    """
    blocks = {number // n_cells for number in numbers}
    order = {block: np.random.default_rng((seed, block)).permutation(n_cells) for block in blocks}
    return torch.tensor(
        [order[number // n_cells][number % n_cells] for number in numbers], dtype=torch.long, device="cpu"
    )


def place_on_grid(
    images: Tensor,
    cells: Tensor,
    grid: int,
    colour: CanvasColour = "zero",
    *,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Place each image in one cell of a canvas of grid × grid cells, each as large as the image.

    Parameters
    ----------
    images
        Shape (image, channel, row, column).
    cells
        Shape (image,): row of the cell times `grid` plus its column.
    grid
        Cells along each side.
    colour, normalisation
        Of what the image leaves free; see `canvas_colour`.

    Returns
    -------
    torch.Tensor
        Shape (image, channel, grid · row, grid · column), on the device and in the precision of the images.

    Raises
    ------
    ArgumentError
        If a cell lies off the canvas, or the colour is unknown or does not fit the images.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global Pooling, More than Meets the Eye. ICCV 2021.

    Examples
    --------
    >>> place_on_grid(torch.ones(1, 1, 1, 1), torch.tensor([2]), grid=2)
    tensor([[[[0., 0.],
              [1., 0.]]]])
    """
    height, width = images.shape[2:]
    corners = torch.stack([cells // grid * height, cells % grid * width], dim=1)
    return place_at(images, corners, (grid * height, grid * width), colour, normalisation=normalisation)


def place_at(
    images: Tensor,
    corners: Tensor,
    size: tuple[int, int],
    colour: CanvasColour = "zero",
    *,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Place each image on a canvas of its own, its upper left pixel at a given row and column.

    Parameters
    ----------
    images
        Shape (image, channel, row, column).
    corners
        Shape (image, 2): row and column of the upper left pixel.
    size
        Rows and columns of the canvas.
    colour, normalisation
        Of what the image leaves free; see `canvas_colour`.

    Returns
    -------
    torch.Tensor
        Shape (image, channel, row, column), on the device and in the precision of the images.

    Raises
    ------
    ArgumentError
        If an image would lie off the canvas, or the colour is unknown or does not fit the images.

    Examples
    --------
    >>> place_at(torch.ones(1, 1, 1, 1), torch.tensor([[0, 1]]), (1, 3), colour=0.5)
    tensor([[[[0.5000, 1.0000, 0.5000]]]])
    """
    count, n_channels, height, width = images.shape
    corners = corners.to(images.device)
    room = torch.tensor([size[0] - height, size[1] - width], device=images.device)
    if len(corners) != count or ((corners < 0) | (corners > room)).any():
        raise ArgumentError(
            f"corners: expected one for each of {count} images of {height}×{width} pixels, all inside a canvas of "
            f"{size[0]}×{size[1]}; found {len(corners)}, from {corners.min().item()} to {corners.max().item()}."
        )
    canvases = canvas_colour(images, colour, normalisation).expand(count, n_channels, *size).clone()
    rows = corners[:, 0, None] + torch.arange(height, device=images.device)
    columns = corners[:, 1, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    canvases[image, :, rows[:, :, None], columns[:, None, :]] = images.permute(0, 2, 3, 1)
    return canvases


def canvas_colour(images: Tensor, colour: CanvasColour, normalisation: Normalisation | None = None) -> Tensor:
    """Return a colour in the units of the images.

    Parameters
    ----------
    images
        Shape (image, channel, row, column), as the model takes them.
    colour
        ``"zero"``: 0 as the model takes it, which for normalised images is the mean colour of the data set;
        ``"mean"``: the mean of each channel over that image; ``"black"`` and ``"white"``: 0 and 1 before
        normalisation; or one number, or one for each channel, in the units of the images.
    normalisation
        Mean and standard deviation of each channel with which the images were normalised; none: they are in [0, 1].

    Returns
    -------
    torch.Tensor
        Of a shape that broadcasts to (image, channel, row, column).

    Raises
    ------
    ArgumentError
        If the colour is unknown, has another number of channels, or is black or white and the images are not
        in [0, 1] although no normalisation is given.

    Examples
    --------
    >>> canvas_colour(torch.zeros(1, 1, 2, 2), "white", normalisation=([0.5], [0.25])).item()
    2.0
    """
    if colour == "mean":
        return images.mean(dim=(2, 3), keepdim=True)
    if colour in ("black", "white"):
        mean, deviation = _normalisation_of(images, normalisation)
        return (float(colour == "white") - mean) / deviation
    if isinstance(colour, str) and colour != "zero":
        raise ArgumentError(
            f"colour={colour!r}: expected one of {', '.join(COLOURS)}, a number, or one for each channel."
        )
    return _by_channel(images, 0.0 if isinstance(colour, str) else colour, "colour")


def _normalisation_of(images: Tensor, normalisation: Normalisation | None) -> tuple[Tensor, Tensor]:
    if normalisation is not None:
        mean, deviation = normalisation
        return _by_channel(images, mean, "normalisation"), _by_channel(images, deviation, "normalisation")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise ArgumentError(
            f"colour: black and white are not known for images with values from {low:.3g} to {high:.3g}. Pass "
            "normalisation=(mean, standard deviation) of each channel, or the colour as numbers."
        )
    return _by_channel(images, 0.0, "normalisation"), _by_channel(images, 1.0, "normalisation")


def _by_channel(images: Tensor, values: float | Sequence[float], argument: str) -> Tensor:
    vector = torch.as_tensor(values, dtype=images.dtype, device=images.device).reshape(1, -1, 1, 1)
    if vector.shape[1] not in (1, images.shape[1]):
        raise ArgumentError(
            f"{argument}: {vector.shape[1]} values for images of {images.shape[1]} channels. Pass one for each."
        )
    return vector
