"""What two borders around the same crop do to its features, by distance to the border."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.models.layers import Layer
from probe.windows.receptive_fields import Window

__all__ = ["SIDES", "BorderProfile", "Site", "align", "by_distance", "reach"]

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
        )  # type: ignore[return-value]


def align(of_crop: Sequence[Layer], in_context: Sequence[Layer], *, margin: int) -> tuple[list[Site], dict[str, str]]:
    """Find the cells that show the crop in the maps of the larger image.

    Both maps begin with the same padding above and to the left, so cell i of the crop is cell i + margin / stride of
    the larger map. The total stride is how many pixels make the map one cell larger.

    Parameters
    ----------
    of_crop, in_context
        The layers as `probe.models.capture.survey` lists them for the crop and for the larger image.
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
    central_rows = (row >= height // 3) & (row < height - height // 3)
    central_columns = (column >= width // 3) & (column < width - width // 3)
    is_central = np.stack([central_columns, central_columns, central_rows, central_rows])
    steps = np.arange((min(height, width) + 1) // 2)
    return is_central[:, None] & (distances[:, None] == steps[:, None, None])


def reach(difference: np.ndarray, threshold: float) -> np.ndarray:
    """Return up to how many cells from the border a difference, shape (..., distance), exceeds a threshold.

    Examples
    --------
    >>> reach(np.array([[0.9, 0.0, 0.2, 0.0], [0.0, 0.0, 0.0, np.nan]]), 0.1)
    array([3, 0])
    """
    exceeds = difference > threshold
    return np.where(exceeds.any(axis=-1), exceeds.shape[-1] - exceeds[..., ::-1].argmax(axis=-1), 0)


class BorderProfile:
    """Differences between two versions of the maps of a layer, summed up over images.

    Parameters
    ----------
    site
        The layer.
    """

    def __init__(self, site: Site) -> None:
        self._masks = by_distance(*site.size)
        self._by_distance: list[np.ndarray] = []
        self._overall: list[np.ndarray] = []
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def update(self, alone: Tensor, inside: Tensor) -> None:
        """Add the maps of some images under the two borders, each of shape (image, channel, row, column)."""
        squares = (alone.double() - inside.double()).square().mean(dim=1).cpu().numpy()
        cells = self._masks.sum(axis=(2, 3))
        self._by_distance.append(np.einsum("nrc,sdrc->nsd", squares, self._masks) / cells)
        self._overall.append(squares.mean(axis=(1, 2)))
        values = inside.double().transpose(0, 1).flatten(1)
        self._count += values.shape[1]
        self._sum = self._sum + values.sum(dim=1)
        self._squares = self._squares + values.square().sum(dim=1)

    @property
    def n_images(self) -> int:
        """Number of images so far."""
        return sum(map(len, self._overall))

    def signal(self) -> float:
        """Return the variance of the features inside the larger image within a channel, averaged over channels."""
        mean = self._sum / self._count
        return float(torch.as_tensor(self._squares / self._count - mean**2).mean())

    def difference(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the difference over the signal, and its standard error over images, each on (side, distance)."""
        return self._over_signal(self._by_distance)

    def share(self) -> tuple[float, float]:
        """Return the difference of the whole map over the signal, and its standard error over images."""
        mean, error = self._over_signal(self._overall)
        return float(mean), float(error)

    def _over_signal(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        values, signal = np.concatenate(parts), self.signal()
        if not signal > 0:
            unknown = np.full(values.shape[1:], np.nan)
            return unknown, unknown
        error = (
            values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full_like(values[0], np.nan)
        )
        return values.mean(axis=0) / signal, error / signal
