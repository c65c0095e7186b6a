"""Patches to train and to test descriptors on: made from photographs, or of the data set of Brown et al."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.analyses.patch_matching.points import cut, draw_view, interest_points, relit
from probe.errors import ImagesError

__all__ = [
    "OTHER",
    "SAME",
    "Patches",
    "TestPairs",
    "draw_pairs",
    "draw_test_pairs",
    "in_floats",
    "made_patches",
    "taken",
]

SAME, OTHER = "same photograph", "other photographs"
"""Where the two patches of a pair that does not match come from."""

_TRIES = 50  # pairs that are drawn for each that is wanted


@dataclass(frozen=True)
class Patches:
    """Patches, what each shows, and where it is from.

    Attributes
    ----------
    pixels
        Shape (patch, 1, 32, 32), in [0, 1].
    points
        Shape (patch,). Which point each shows.
    sources
        Shape (patch,). Which photograph it is from.
    """

    pixels: Tensor
    points: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True)
class TestPairs:
    """Pairs of patches, shape (pair, 2), by what they are: ``matching``, or one kind of those that do not match."""

    matching: np.ndarray
    others: dict[str, np.ndarray]


def made_patches(photographs: Sequence[np.ndarray], *, views: int, seed: int, most: int | None = None) -> Patches:
    """Cut several views out of photographs around their corners, each under a homography of its own.

    Parameters
    ----------
    photographs
        Greys in [0, 1], each of shape (row, column).
    views
        Of each point.
    seed
        What is drawn for a photograph depends on it and on the photograph's place in the list alone.
    most
        Points of a photograph at most.
    """
    pixels, points, sources = [], [], []
    n_points = 0
    for number, grey in enumerate(photographs):
        random = np.random.default_rng((seed, number))
        found = interest_points(grey, most=most)
        if not len(found):
            continue
        homographies = np.stack([draw_view(point, random) for point in found for _ in range(views)])
        pixels.append(relit(cut(torch.from_numpy(grey).float(), homographies), random))
        points.append(n_points + np.arange(len(found)).repeat(views))
        sources.append(np.full(len(homographies), number))
        n_points += len(found)
    if not pixels:
        raise ImagesError(
            f"images: no corner was found in {len(photographs)} photographs that is 62 pixels from every border. "
            "Expected photographs with at least 125 rows and columns."
        )
    return Patches(torch.cat(pixels), np.concatenate(points), np.concatenate(sources))


def draw_pairs(points: np.ndarray, *, count: int, batch: int, seed: int) -> np.ndarray:
    """Draw pairs of patches of one point, shape (pair, 2); no point comes twice within a batch.

    Parameters
    ----------
    points
        Shape (patch,). Which point each shows.
    count
        Number of pairs. Of more pairs, the first are the same.
    batch
        Pairs of a batch.
    seed
        Of the draws.

    Raises
    ------
    ImagesError
        If fewer points than pairs of a batch are shown by two patches.
    """
    order = np.argsort(points, kind="stable")
    ids, starts, sizes = np.unique(points[order], return_index=True, return_counts=True)
    usable = np.flatnonzero(sizes > 1)
    if len(usable) < batch:
        raise ImagesError(
            f"images: {len(usable)} of {len(ids)} points are shown by two patches or more; a batch needs {batch} of "
            "them. Give more or larger images."
        )
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(-(-count // batch)):
        chosen = random.choice(usable, batch, replace=False)
        first = random.integers(sizes[chosen])
        second = (first + random.integers(1, sizes[chosen])) % sizes[chosen]
        drawn.append(np.stack([order[starts[chosen] + place] for place in (first, second)], axis=1))
    return np.concatenate(drawn)[:count]


def draw_test_pairs(patches: Patches, *, count: int, seed: int) -> TestPairs:
    """Draw pairs that match, and as many of each kind that does not; a kind that cannot be had is left out.

    Parameters
    ----------
    patches
        Of several photographs, or of one alone.
    count
        Number of pairs of each.
    seed
        Of the draws.
    """
    points, sources = patches.points, patches.sources
    matching = draw_pairs(points, count=count, batch=1, seed=seed)
    random = np.random.default_rng((seed, 1))
    others = {}
    for kind in (SAME, OTHER):
        first = random.integers(len(points), size=_TRIES * count)
        second = random.integers(len(points), size=_TRIES * count)
        if kind == SAME:  # a neighbour in the list, in which the patches of a photograph stand together
            near = np.bincount(sources).max()
            second = (first + random.integers(-near, near + 1, size=_TRIES * count)) % len(points)
        fits = (points[first] != points[second]) & ((sources[first] == sources[second]) == (kind == SAME))
        chosen = np.flatnonzero(fits)[:count]
        if len(chosen) == count:
            others[kind] = np.stack([first[chosen], second[chosen]], axis=1)
    return TestPairs(matching, others)


def taken(patches: Patches, indices: np.ndarray) -> Tensor:
    """Return some patches, with values in [0, 1]."""
    return in_floats(patches.pixels[torch.from_numpy(indices)])


def in_floats(pixels: Tensor) -> Tensor:
    """Return pixels with values in [0, 1]."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
