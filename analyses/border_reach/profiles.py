"""What two borders around the same crop do to its features, by distance to the border."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from probe.windows.crops import Site, by_distance

__all__ = ["BorderProfile"]


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
