"""Interest points of photographs, and views of them under homographies that are known."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

__all__ = ["PATCH", "REACH", "cut", "draw_view", "interest_points", "moved", "relit"]

PATCH = 64
"""Rows and columns that a patch is cut with; it is then brought to half of them."""

REACH = 62
"""Pixels from a point along either axis that no view of it goes beyond."""

_FINE, _COARSE = 1.0, 2.0  # pixels: of the gradients, and of the window that they are summed over
_HARRIS = 0.04
_ROTATION = np.deg2rad(15)
_SCALES = (0.8, 1.25)
_PERSPECTIVE = 0.1  # at the middle of a side
_JITTER = 1.5  # pixels
_GAMMAS = (0.7, 1.4)
_GAINS = (0.7, 1.3)
_NOISE = 0.02  # of the range of greys


def interest_points(
    grey: np.ndarray, *, apart: float = 24, margin: float = REACH, most: int | None = None
) -> np.ndarray:
    """Return the corners of a photograph, the strongest first, shape (point, 2), as (x, y) in pixels.

    They are the local maxima of Harris's measure, from the strongest on, each kept that is far enough from those
    kept before.

    Parameters
    ----------
    grey
        Shape (row, column), in [0, 1].
    apart
        Least distance of two of them, in pixels.
    margin
        Least distance from every border, in pixels.
    most
        Return so many at most.

    References
    ----------
    Harris, Stephens: A combined corner and edge detector. Alvey Vision Conference 1988.

    Examples
    --------
    >>> square = np.zeros((80, 80))
    >>> square[30:50, 20:60] = 1
    >>> sorted(map(tuple, interest_points(square, apart=8, margin=8).tolist()))
    [(21.0, 31.0), (21.0, 48.0), (58.0, 31.0), (58.0, 48.0)]
    """
    across, down = (ndimage.gaussian_filter(grey, _FINE, order=order) for order in ((0, 1), (1, 0)))
    xx, yy, xy = (ndimage.gaussian_filter(part, _COARSE) for part in (across**2, down**2, across * down))
    response = xx * yy - xy**2 - _HARRIS * (xx + yy) ** 2
    is_corner = (response == ndimage.maximum_filter(response, 3)) & (response > 1e-9)
    rows, columns = np.nonzero(is_corner)
    order = np.argsort(-response[rows, columns], kind="stable")
    height, width = grey.shape
    kept: list[tuple[float, float]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if most is not None and len(kept) == most:
            break
        inside = margin <= row <= height - 1 - margin and margin <= column <= width - 1 - margin
        if inside and all((column - x) ** 2 + (row - y) ** 2 >= apart**2 for x, y in kept):
            kept.append((column, row))
    return np.array(kept, dtype=float).reshape(-1, 2)


def draw_view(point: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw the homography, shape (3, 3), that takes (x, y) of a patch, (0, 0) in its middle, to the photograph.

    Rotation within 15°, scale from 0.8 to 1.25, perspective up to a tenth at the middle of a side, and the middle up
    to 1.5 pixels from the point along each axis.

    Parameters
    ----------
    point
        (x, y) in the photograph, in pixels.
    random
        Of all draws.
    """
    angle, scale = random.uniform(-_ROTATION, _ROTATION), np.exp(random.uniform(*np.log(_SCALES)))
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed = np.eye(3)
    placed[:2, :2] = turned
    placed[:2, 2] = point + random.uniform(-_JITTER, _JITTER, 2)
    tilted = np.eye(3)
    tilted[2, :2] = random.uniform(-_PERSPECTIVE, _PERSPECTIVE, 2) / (PATCH / 2)
    return placed @ tilted


def moved(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where a homography, shape (3, 3), takes points (x, y), both of shape (point, 2).

    Examples
    --------
    >>> moved(np.array([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]]), np.array([[3.0, 4.0]])).tolist()
    [[7.0, 8.0]]
    """
    x, y, w = homography @ np.append(points, np.ones((len(points), 1)), axis=1).T
    return np.stack([x / w, y / w], axis=1)


def cut(grey: Tensor, homographies: np.ndarray) -> Tensor:
    """Cut the patches out of a photograph that homographies lead to, and bring them to half the size.

    Parameters
    ----------
    grey
        Shape (row, column).
    homographies
        Shape (patch, 3, 3), as from `draw_view`.

    Returns
    -------
    torch.Tensor
        Shape (patch, 1, 32, 32). What lies outside the photograph repeats its border.
    """
    height, width = grey.shape
    steps = np.arange(PATCH) - (PATCH - 1) / 2
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    places = np.stack([moved(homography, grid) for homography in homographies])
    scaled = torch.from_numpy((2 * places + 1) / [width, height] - 1).to(grey).reshape(-1, PATCH, PATCH, 2)
    seen = functional.grid_sample(
        grey.expand(len(homographies), 1, height, width), scaled, padding_mode="border", align_corners=False
    )
    return functional.avg_pool2d(seen, 2)


def relit(patches: Tensor, random: np.random.Generator) -> Tensor:
    """Give each patch a gamma, a gain and noise of its own; values stay in [0, 1]."""
    drawn = [random.uniform(*ends, (len(patches), 1, 1, 1)) for ends in (_GAMMAS, _GAINS)]
    gamma, gain = (torch.from_numpy(values).to(patches) for values in drawn)
    noise = torch.from_numpy(random.normal(0, _NOISE, patches.shape)).to(patches)
    return (gain * patches.clamp(0, 1) ** gamma + noise).clamp(0, 1)
