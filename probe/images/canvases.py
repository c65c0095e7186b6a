"""Images and clips on larger canvases: where on the canvas one stands is drawn, so content cannot tell the place."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.axes import axes_of_size, sized
from probe.checks import is_whole
from probe.errors import ArgumentError

__all__ = [
    "COLOURS",
    "CanvasColour",
    "Normalisation",
    "assign_cells",
    "canvas_colour",
    "grid_along",
    "place_at",
    "place_on_grid",
]

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
    grid: int | Sequence[int],
    colour: CanvasColour = "zero",
    *,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Place each image in one cell of a canvas of grid × grid cells, or each clip of grid × grid × grid cells.

    Parameters
    ----------
    images
        Shape (image, channel, row, column), or with frames before the rows. Cells are as large.
    cells
        Shape (image,): row of the cell times `grid` plus its column, and so on for frames.
    grid
        Cells along each axis, or one number for all.
    colour, normalisation
        Of what the image leaves free; see `canvas_colour`.

    Returns
    -------
    torch.Tensor
        Shape (image, channel, *(grid · size)), on the device and in the precision of the images.

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
    size = images.shape[2:]
    along = grid_along(grid, len(size))
    corners = torch.stack([place * n for place, n in zip(_unravelled(cells, along), size, strict=True)], dim=1)
    whole = tuple(count * n for count, n in zip(along, size, strict=True))
    return place_at(images, corners, whole, colour, normalisation=normalisation)


def grid_along(grid: int | Sequence[int], n_axes: int) -> tuple[int, ...]:
    """Return the cells of a grid along each axis.

    Raises
    ------
    ArgumentError
        If they are given for other axes, or make no grid of several cells.

    Examples
    --------
    >>> grid_along(3, 2), grid_along((4, 1, 1), 3)
    ((3, 3), (4, 1, 1))
    """
    along = tuple(grid) if isinstance(grid, Iterable) else (grid,) * n_axes
    is_grid = all(is_whole(count) and count >= 1 for count in along) and math.prod(along) > 1
    if len(along) != n_axes or not is_grid:
        names = ", ".join(axes_of_size((1,) * n_axes))
        raise ArgumentError(f"grid={grid!r}: expected the number of cells along all axes, or along each: {names}.")
    return tuple(map(int, along))


def _unravelled(cells: Tensor, grid: Sequence[int]) -> list[Tensor]:
    """Return the place of cells along each axis of a grid."""
    places = []
    for count in reversed(grid[1:]):
        places.append(cells % count)
        cells = cells // count
    return [cells, *reversed(places)]  # a cell beyond the last is off the canvas along the first axis


def place_at(
    images: Tensor,
    corners: Tensor,
    size: tuple[int, ...],
    colour: CanvasColour = "zero",
    *,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Place each image or clip on a canvas of its own, its first pixel at a given place.

    Parameters
    ----------
    images
        Shape (image, channel, row, column), or with frames before the rows.
    corners
        Shape (image, axis): where the upper left pixel is, of clips that of the first frame.
    size
        Of the canvas.
    colour, normalisation
        Of what the image leaves free; see `canvas_colour`.

    Returns
    -------
    torch.Tensor
        Shape (image, channel, *size), on the device and in the precision of the images.

    Raises
    ------
    ArgumentError
        If an image would lie off the canvas, or the colour is unknown or does not fit the images.

    Examples
    --------
    >>> place_at(torch.ones(1, 1, 1, 1), torch.tensor([[0, 1]]), (1, 3), colour=0.5)
    tensor([[[[0.5000, 1.0000, 0.5000]]]])
    """
    count, n_channels, *own = images.shape
    corners = corners.to(images.device)
    room = torch.tensor([whole - part for whole, part in zip(size, own, strict=True)], device=images.device)
    if len(corners) != count or ((corners < 0) | (corners > room)).any():
        raise ArgumentError(
            f"corners: expected one for each of {count} images of {sized(own)} pixels, all inside a canvas of "
            f"{sized(size)}; found {len(corners)}, from {corners.min().item()} to {corners.max().item()}."
        )
    canvases = canvas_colour(images, colour, normalisation).expand(count, n_channels, *size).clone()
    mesh = [torch.arange(count, device=images.device).reshape(-1, *[1] * len(own))]
    for axis, length in enumerate(own):
        along = corners[:, axis, None] + torch.arange(length, device=images.device)
        mesh.append(along.reshape(count, *[length if other == axis else 1 for other in range(len(own))]))
    places: tuple[Any, ...] = (mesh[0], slice(None), *mesh[1:])
    canvases[places] = images.movedim(1, -1)
    return canvases


def canvas_colour(images: Tensor, colour: CanvasColour, normalisation: Normalisation | None = None) -> Tensor:
    """Return a colour in the units of the images.

    Parameters
    ----------
    images
        Shape (image, channel, *size), as the model takes them.
    colour
        ``"zero"``: 0 as the model takes it, which for normalised images is the mean colour of the data set;
        ``"mean"``: the mean of each channel over that image; ``"black"`` and ``"white"``: 0 and 1 before
        normalisation; or one number, or one for each channel, in the units of the images.
    normalisation
        Mean and standard deviation of each channel with which the images were normalised; none: they are in [0, 1].

    Returns
    -------
    torch.Tensor
        Of a shape that broadcasts to (image, channel, *size).

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
        return images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
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
    vector = torch.as_tensor(values, dtype=images.dtype, device=images.device)
    vector = vector.reshape(1, -1, *[1] * (images.ndim - 2))
    if vector.shape[1] not in (1, images.shape[1]):
        raise ArgumentError(
            f"{argument}: {vector.shape[1]} values for images of {images.shape[1]} channels. Pass one for each."
        )
    return vector
