"""How many cells find their like again in the same image seen from elsewhere: matching under a known homography."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from probe.models.layers import Layer
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.readouts.targets import pixel_centres

__all__ = ["corners_for", "homography", "matched_shares"]

_MOVED = 0.2  # of a side, at most: what a corner is moved by


def matched_shares(model: nn.Module, images: Any, options: Options, *, reach: int = 1) -> np.ndarray:
    """Return the share of cells of each image that find their like within `reach` cells of where it is, shape (image,).

    Each image is shown as it is and under a homography that is drawn from (seed, image number). Of each cell whose
    place is still within the other view, the most similar (cosine) among all cells there is sought.

    Parameters
    ----------
    model, images
        As in `probe.collect`; within ``with probe.ablate(...)`` the changed features are matched.
    options
        With the name of one layer in ``layers``.
    reach
        In cells, along rows and along columns.
    """
    shares: list[float] = []

    def keep(layer: Layer, maps: Tensor) -> Tensor:
        return maps

    with open_reader(model, images, options) as reader:
        place = reader.layer(options.layers)
        with reader.reading([place], keep) as run:
            for batch, pixels in reader.batches():
                size = (pixels.shape[2], pixels.shape[3])
                corners = [corners_for(options.seed, number, size) for number in batch.numbers]
                moved = torch.stack([_seen(image, *ends) for image, ends in zip(pixels, corners, strict=True)])
                here, there = run(pixels)[place.name], run(moved)[place.name]
                for first, second, (start, end) in zip(here, there, corners, strict=True):
                    shares.append(_share(first, second, homography(start, end), size, reach))
    return np.array(shares)


def corners_for(seed: int, number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of an image as (x, y), and where a homography puts them, both of shape (4, 2)."""
    height, width = size
    start = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=float)
    inwards = np.sign(start.mean(axis=0) - start)
    drawn = np.random.default_rng((seed, number)).uniform(0, _MOVED, (4, 2))
    return start, np.round(start + inwards * drawn * [width, height])  # images are warped to whole pixels


def homography(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the matrix, shape (3, 3), that takes four points (x, y) to four others.

    Examples
    --------
    >>> square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    >>> homography(square, 2 * square + 3).round(6) + 0.0
    array([[2., 0., 3.],
           [0., 2., 3.],
           [0., 0., 1.]])
    """
    rows = []
    for (x, y), (u, v) in zip(start, end, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.append(np.linalg.solve(np.array(rows), end.ravel()), 1).reshape(3, 3)


def _seen(image: Tensor, start: np.ndarray, end: np.ndarray) -> Tensor:
    fill = image.mean(dim=(1, 2)).tolist()
    return transforms.perspective(image, start.astype(int).tolist(), end.astype(int).tolist(), fill=fill)


def _share(first: Tensor, second: Tensor, moving: np.ndarray, size: tuple[int, int], reach: int) -> float:
    height, width = first.shape[1:]
    rows, columns = (
        (pixel_centres(cells) + 1) / 2 * pixels - 0.5 for cells, pixels in zip((height, width), size, strict=True)
    )
    x, y = np.meshgrid(columns, rows)
    u, v, w = moving @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    there = np.stack([(v / w + 0.5) / size[0] * height - 0.5, (u / w + 0.5) / size[1] * width - 0.5])
    inside = (np.round(there) >= 0).all(axis=0) & ([height - 1, width - 1] >= np.round(there).T).all(axis=1)
    ours, theirs = (functional.normalize(maps.flatten(1).T.float(), dim=1) for maps in (first, second))
    nearest = (ours[torch.from_numpy(np.flatnonzero(inside))] @ theirs.T).argmax(dim=1).cpu().numpy()
    found = np.stack(np.unravel_index(nearest, (height, width)))
    return float((np.abs(found - np.round(there[:, inside])) <= reach).all(axis=0).mean())
