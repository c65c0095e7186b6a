"""Which cells of each image's map enter a readout, and which positions its null is told instead."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["cells_per_image", "draw_cells"]

_LEAST_SAMPLES = 20_000
_SAMPLES_PER_CHANNEL = 10


def cells_per_image(positions: str | int | None, n_channels: int, n_images: int, n_sources: int = 0) -> int | None:
    """Return how many cells of each image to read in a layer; None for all.

    Parameters
    ----------
    positions
        ``"auto"`` for enough cells to give 10 samples a channel, and at least 20,000; a number; or None for all.
    n_channels
        Number of channels of the layer.
    n_images
        Number of images that are expected.
    n_sources
        Number of channels that a pointwise expansion makes them of, which then count in place of the channels; 0 for
        all other layers.

    Examples
    --------
    >>> [cells_per_image("auto", n_channels, n_images=1000) for n_channels in (64, 2048, 4096)]
    [20, 21, 41]
    """
    if positions == "auto":
        return math.ceil(max(_LEAST_SAMPLES, _SAMPLES_PER_CHANNEL * (n_sources or n_channels)) / n_images)
    assert not isinstance(positions, str)
    return positions


def draw_cells(seed: int, numbers: Sequence[int], n_cells: int, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Draw the cells of each image, and as many positions for its null, each without replacement.

    The draws of an image follow from (seed, image number, size of the grid, count); layers with the same grid and
    count share them.

    Parameters
    ----------
    seed
        Seed of all draws.
    numbers
        Image numbers.
    n_cells
        Number of cells of the grid.
    count
        Cells to draw; None, or as many as there are, for every cell in order.

    Returns
    -------
    cells, shuffled : numpy.ndarray
        Shape (image, cell), indices into the flattened grid.
    """
    n_drawn = n_cells if count is None else min(count, n_cells)
    cells = np.empty((len(numbers), n_drawn), dtype=np.int64)
    shuffled = np.empty_like(cells)
    for index, number in enumerate(numbers):
        generator = np.random.default_rng((seed, number, n_cells, n_drawn))
        cells[index] = np.arange(n_cells) if n_drawn == n_cells else generator.choice(n_cells, n_drawn, replace=False)
        shuffled[index] = generator.choice(n_cells, n_drawn, replace=False)
    return cells, shuffled
