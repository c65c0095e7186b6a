"""Scores of single channels, from their sums at each position."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probe.axes import on_cells
from probe.intervals import jackknife
from probe.sums.moments import PositionMoments
from probe.sums.rounding import is_constant, varies

__all__ = ["ChannelScores", "score_channels", "summed"]


@dataclass(frozen=True)
class ChannelScores:
    """Scores of the single channels of one layer under one stimulus, exact, from every cell.

    Attributes
    ----------
    r2, r2_se : numpy.ndarray
        Shape (channel, target). Squared correlation of the channel with the target, from 0 to 1, and its standard
        error (jackknife over the folds). NaN for a channel or a target that does not vary.
    omega2, omega2_se : numpy.ndarray
        Shape (channel,). Share of the channel's variance that position explains at all, linearly or not; 0 in
        expectation when position plays no part. NaN for a channel that does not vary, or images of several sizes.
    mean_map : numpy.ndarray or None
        Shape (channel, *size). Mean over the images; None for images of several sizes.
    """

    r2: np.ndarray
    r2_se: np.ndarray
    omega2: np.ndarray
    omega2_se: np.ndarray
    mean_map: np.ndarray | None


def score_channels(moments: PositionMoments) -> ChannelScores:
    """Score the single channels of one layer."""
    r2, omega2 = zip(*[(_correlation(s), _omega_squared(s)) for s in _selections(moments)], strict=True)
    sizes = moments.images.cpu().numpy()
    mean_map = None
    if moments.maps is not None:
        pilot = moments.pilot[on_cells(moments.maps.shape[2:])]
        mean_map = (pilot + moments.maps.sum(dim=0) / moments.images.sum()).cpu().numpy()
    return ChannelScores(
        r2=r2[0],
        r2_se=jackknife(r2[0], np.stack(r2[1:]), sizes),
        omega2=omega2[0],
        omega2_se=jackknife(omega2[0], np.stack(omega2[1:]), sizes),
        mean_map=mean_map,
    )


@dataclass(frozen=True)
class ChannelSums:
    """The sums of `PositionMoments` over some of its folds, as arrays; `maps` has shape (channel, cell)."""

    images: float
    cells: float
    squares: np.ndarray
    image_squares: np.ndarray
    cross: np.ndarray
    target_squares: np.ndarray
    maps: np.ndarray | None
    varies: np.ndarray

    @property
    def deviations(self) -> np.ndarray:
        """Sum of squared deviations of each channel from its mean; NaN where it does not vary."""
        deviations = self.squares - self.cross[1:, 0] ** 2 / self.cells
        return np.where(self.varies, deviations, np.nan)


def _selections(moments: PositionMoments) -> Iterator[ChannelSums]:
    """Yield the sums over all folds, then over all but each one."""
    folds = range(len(moments.images))
    yield summed(moments)
    for left_out in folds:
        yield summed(moments.of([fold for fold in folds if fold != left_out]))


def summed(moments: PositionMoments) -> ChannelSums:
    """Return the sums over all folds."""
    cells, squares, cross = (sums.sum(dim=0) for sums in (moments.cells, moments.squares, moments.cross))
    mean = cross[1:, 0] / cells
    deviation = (squares / cells - mean**2).clamp(min=0).sqrt()
    return ChannelSums(
        images=float(moments.images.sum()),
        cells=float(cells),
        squares=squares.cpu().numpy(),
        image_squares=moments.image_squares.sum(dim=0).cpu().numpy(),
        cross=cross.cpu().numpy(),
        target_squares=moments.target_squares.sum(dim=0).cpu().numpy(),
        maps=None if moments.maps is None else moments.maps.sum(dim=0).flatten(1).cpu().numpy(),
        varies=varies(deviation, mean + moments.pilot, moments.dtype).cpu().numpy(),
    )


def _correlation(sums: ChannelSums) -> np.ndarray:
    """Return the squared correlation of each channel with each target, shape (channel, target)."""
    target_sums = sums.cross[0, 1:]
    covariance = sums.cross[1:, 1:] - np.outer(sums.cross[1:, 0], target_sums) / sums.cells
    target_deviations = sums.target_squares - target_sums**2 / sums.cells
    target_deviations = np.where(is_constant(target_deviations, sums.target_squares), np.nan, target_deviations)
    return covariance**2 / (sums.deviations[:, None] * target_deviations)


def _omega_squared(sums: ChannelSums) -> np.ndarray:
    """Return ω² of position in the two-way layout positions × images without replication, shape (channel,)."""
    if sums.maps is None:
        return np.full(len(sums.squares), np.nan)
    if sums.images < 2:
        return np.full(len(sums.squares), np.nan)
    n_cells = sums.maps.shape[1]
    about_mean = sums.cross[1:, 0] ** 2 / sums.cells
    ss_total = sums.deviations
    ss_position = (sums.maps**2).sum(axis=1) / sums.images - about_mean
    ss_image = sums.image_squares / n_cells - about_mean
    ms_error = (ss_total - ss_position - ss_image) / ((n_cells - 1) * (sums.images - 1))
    return (ss_position - (n_cells - 1) * ms_error) / (ss_total + ms_error)
