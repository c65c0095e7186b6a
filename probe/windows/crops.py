"""The same cells in the maps of a crop and of a larger image, and how far from its sides they read beyond it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from probe.models.layers import Layer
from probe.windows.receptive_fields import Window, reached_cells

__all__ = ["SIDES", "Site", "align", "by_distance", "middle_third", "reach", "reading_beyond"]

SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class Site:
    """A layer, and where its map of the crop lies in its map of the larger image.

    Attributes
    ----------
    layer
        As the larger image shows it.
    stride
        Pixels from one row and one column to the next.
    window
        Rows and columns of the larger map.
    """

    layer: Layer
    stride: tuple[int, int]
    window: Window

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the map of the crop."""
        rows, columns = self.window
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def middle(self) -> Window:
        """The cell in the middle of the window."""
        return tuple(
            slice(axis.start + size // 2, axis.start + size // 2 + 1)
            for axis, size in zip(self.window, self.size, strict=True)
        )


def align(of_crop: Sequence[Layer], in_context: Sequence[Layer], *, margin: int) -> tuple[list[Site], dict[str, str]]:
    """Find the cells that show the crop in the maps of the larger image.

    Both maps begin with the same padding above and to the left, so cell i of the crop is cell i + margin / stride of
    the larger map. The total stride is how many pixels make the map one cell larger.

    Parameters
    ----------
    of_crop, in_context
        The layers as `probe.models.survey.survey` lists them for the crop and for the larger image.
    margin
        Pixels of the context on each side.

    Returns
    -------
    sites : list of Site
        Of the layers in `in_context`.
    skipped : dict
        Layers whose cells do not correspond, with the reason.
    """
    smaller = {layer.name: layer for layer in of_crop}
    sites, skipped = [], {}
    for layer in in_context:
        alone = smaller.get(layer.name)
        if alone is None or alone.problem:
            skipped[layer.name] = "it has no map of the crop"
            continue
        growth = (layer.height - alone.height, layer.width - alone.width)
        if min(growth) <= 0:
            skipped[layer.name] = "its map does not grow with the image"
        elif any(2 * margin % cells or margin % (2 * margin // cells) for cells in growth):
            skipped[layer.name] = f"its total stride does not divide the margin of {margin} pixels"
        else:
            rows, columns = (2 * margin // cells for cells in growth)
            top, left = margin // rows, margin // columns
            window = (slice(top, top + alone.height), slice(left, left + alone.width))
            sites.append(Site(layer, (rows, columns), window))
    return sites, skipped


def by_distance(height: int, width: int) -> np.ndarray:
    """Return the cells of a map at each distance from each side, in the middle third along the side.

    Near its corners a side would be confused with the other one.

    Returns
    -------
    numpy.ndarray
        Shape (side, distance, row, column), of bool; distances up to the middle of the map.

    Examples
    --------
    >>> by_distance(4, 4)[0].astype(int)  # the top
    array([[[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
           [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    """
    row, column = np.indices((height, width))
    distances = np.stack([row, height - 1 - row, column, width - 1 - column])
    central_rows, central_columns = _central(height)[:, None], _central(width)[None, :]
    is_central = np.stack(np.broadcast_arrays(central_columns, central_columns, central_rows, central_rows, row)[:4])
    steps = np.arange((min(height, width) + 1) // 2)
    return is_central[:, None] & (distances[:, None] == steps[:, None, None])


def middle_third(height: int, width: int) -> np.ndarray:
    """Return the cells in the middle of a map, shape (row, column), of bool.

    Examples
    --------
    >>> middle_third(3, 4).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    return np.outer(_central(height), _central(width))


def _central(size: int) -> np.ndarray:
    place = np.arange(size)
    return (place >= size // 3) & (place < size - size // 3)


def reach(difference: np.ndarray, threshold: float) -> np.ndarray:
    """Return up to how many cells from the border a difference, shape (..., distance), exceeds a threshold.

    Examples
    --------
    >>> reach(np.array([[0.9, 0.0, 0.2, 0.0], [0.0, 0.0, 0.0, np.nan]]), 0.1)
    array([3, 0])
    """
    exceeds = difference > threshold
    return np.where(exceeds.any(axis=-1), exceeds.shape[-1] - exceeds[..., ::-1].argmax(axis=-1), 0)


def reading_beyond(model: nn.Module, sites: Sequence[Site], outside: Tensor) -> dict[str, np.ndarray]:
    """Tell how far from each side the cells of a crop can read pixels beyond it.

    Parameters
    ----------
    model
        As in `probe.windows.receptive_fields.reached_cells`.
    sites
        From `align`.
    outside
        Shape (1, channel, row, column): 1 for the pixels of the larger image, 0 for those of the crop.

    Returns
    -------
    dict
        By name of the layer: cells from each of `SIDES`.

    Raises
    ------
    ModelError
        If the model reads by content, as attention does, or by functions of which it is not known what they read.
    """
    touched = reached_cells(model, [site.layer for site in sites], outside)
    found = {}
    for site in sites:
        cells = touched[site.layer.name][site.window]
        masks = by_distance(*cells.shape)
        found[site.layer.name] = reach((masks & cells).any(axis=(2, 3)).astype(float), 0)
    return found
