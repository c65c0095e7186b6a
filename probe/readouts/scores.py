"""Scores from statistics: cross-validated ridge readouts, their controls, and scores of single channels.

Knows neither models nor images. Every score follows from the sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.intervals import jackknife
from probe.readouts.fitting import Fit, fit_readouts
from probe.readouts.targets import N_CONTROLS
from probe.sums.expansion_gram import ChannelGram, ExpansionGram, kept_sums
from probe.sums.gram import PositionMoments
from probe.sums.rounding import varies

__all__ = [
    "ChannelScores",
    "ReadoutScores",
    "decode",
    "position_bits",
    "score_channels",
    "score_readout",
]


@dataclass(frozen=True)
class ReadoutScores:
    """Scores of the readouts of one layer under one stimulus, one value a target.

    Attributes
    ----------
    r2 : numpy.ndarray
        Shape (target,). 1 − SSE/SST over all held-out samples, SST about the target's mean. 1: position can be read
        exactly; 0: not at all; below 0: worse than a constant. NaN for a constant target.
    r2_fold : numpy.ndarray
        Shape (target, fold). The same within each fold, SST about the mean over all folds.
    r2_se : numpy.ndarray
        Shape (target,). Standard error of `r2`: jackknife over the folds, without refitting.
    r2_null : numpy.ndarray
        Shape (target,). `r2` with the positions shuffled anew in every image: at most 0, up to noise.
    r2_control : numpy.ndarray
        Shape (target,). Mean `r2` of fixed random permutations of the target's map, orthogonal to the target.
    samples_per_feature : float
        Number of samples over the number of channels that vary.
    n_dead : int
        Number of channels that do not vary, which are left out.
    """

    r2: np.ndarray
    r2_fold: np.ndarray
    r2_se: np.ndarray
    r2_null: np.ndarray
    r2_control: np.ndarray
    samples_per_feature: float
    n_dead: int


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
        Shape (channel, row, column). Mean over the images; None for images of several sizes.
    """

    r2: np.ndarray
    r2_se: np.ndarray
    omega2: np.ndarray
    omega2_se: np.ndarray
    mean_map: np.ndarray | None


def _squared_errors(upper: Tensor, fits: list[Fit], n_design: int) -> Tensor:
    """Return the squared errors of each fit over all samples, shape (fit, design column).

    `upper` is the triangle of the sums over all folds, with zeros below.
    """
    columns = upper.new_zeros(len(upper), len(fits), n_design)
    for index, fit in enumerate(fits):
        columns[0, index] = -fit.intercepts
        columns[1 : 1 + n_design, index] = torch.eye(n_design).to(columns)
        columns[1 + n_design :, index] = -fit.weights
    flat = columns.flatten(1)
    products = upper @ flat + upper.T @ flat - upper.diagonal()[:, None] * flat
    return (columns * products.view_as(columns)).sum(dim=0)


def score_readout(gram: ChannelGram, n_targets: int, alpha: float) -> ReadoutScores:
    """Score the cross-validated ridge readouts of one layer.

    Parameters
    ----------
    gram
        Its design columns are the targets, the targets shuffled in every image, and `N_CONTROLS` permutations of
        each target, in this order.
    n_targets
        Number of targets.
    alpha
        Ridge penalty, relative to the variance of each feature.

    Raises
    ------
    ArgumentError
        If `alpha` is too small for the features' dependence.
    """
    n_design = n_targets * (2 + N_CONTROLS)
    folds = range(len(gram.totals))
    sums = None
    fits = []
    for held_out in folds:
        training = [fold for fold in folds if fold != held_out]
        fit, sums = fit_readouts(gram, training, n_design, alpha, out=sums)
        fits.append(fit)
    kept = kept_sums(gram)
    on_all = _squared_errors(kept.upper(folds, out=sums).triu_(), fits, n_design)
    sse = torch.stack([errors - fit.squared_errors for errors, fit in zip(on_all, fits, strict=True)], dim=1)

    counts, totals = kept.totals[:, 0], kept.totals[:, 1 : 1 + n_design].T
    squares = kept.squares[:, 1 : 1 + n_design].T
    mean = (totals.sum(dim=1) / counts.sum())[:, None]
    sst = squares - 2 * mean * totals + counts * mean**2
    constant = sst.sum(dim=1) <= 1e-6 * squares.sum(dim=1)
    sst = torch.where(constant[:, None], torch.nan, sst)

    r2 = (1 - sse.sum(dim=1) / sst.sum(dim=1)).cpu().numpy()
    left_out = 1 - (sse.sum(dim=1, keepdim=True) - sse) / (sst.sum(dim=1, keepdim=True) - sst)
    controls = r2[2 * n_targets :].reshape(N_CONTROLS, n_targets)
    n_live = int(torch.stack([fit.live for fit in fits]).any(dim=0).sum())
    return ReadoutScores(
        r2=r2[:n_targets],
        r2_fold=(1 - sse / sst)[:n_targets].cpu().numpy(),
        r2_se=jackknife(left_out[:n_targets].cpu().numpy().T),
        r2_null=r2[n_targets : 2 * n_targets],
        r2_control=np.where(np.isnan(controls).all(axis=0), np.nan, np.nan_to_num(controls).sum(axis=0))
        / np.maximum(1, (~np.isnan(controls)).sum(axis=0)),
        samples_per_feature=float(counts.sum()) / n_live if n_live else np.nan,
        n_dead=len(gram.pilot) - n_live,
    )


def position_bits(r2: np.ndarray, n_values: int) -> np.ndarray:
    """Express `r2` as bits of position, −½ log₂(1 − max(r2, 0)): a Gaussian-equivalent scale.

    Parameters
    ----------
    r2
        Cross-validated R² of a coordinate.
    n_values
        Number of distinct values of the coordinate; its log₂ is the cap.

    Examples
    --------
    >>> position_bits(np.array([-0.1, 0.75, 1.0]), n_values=8)
    array([0., 1., 3.])
    """
    with np.errstate(divide="ignore"):
        bits = -0.5 * np.log2(1 - np.clip(r2, 0, 1))
    return np.minimum(bits, np.log2(n_values)) + 0.0


def decode(gram: ChannelGram, mean_map: np.ndarray, n_targets: int, alpha: float) -> np.ndarray:
    """Apply the readouts, fitted to all folds, to the mean map of a layer.

    Parameters
    ----------
    gram, n_targets, alpha
        As in `score_readout`.
    mean_map
        Shape (channel, row, column).

    Returns
    -------
    numpy.ndarray
        Shape (target, row, column): the decoded value of each design column that is a target, at each position.
    """
    fit, _ = fit_readouts(gram, range(len(gram.totals)), n_targets * (2 + N_CONTROLS), alpha)
    weights = fit.weights[:, :n_targets]
    if isinstance(gram, ExpansionGram):
        weights = gram.of_channels(weights, fit.live)
    features = torch.as_tensor(mean_map).to(gram.pilot) - gram.pilot[:, None, None]
    decoded = torch.einsum("ct,chw->thw", weights, features)
    return (decoded + fit.intercepts[:n_targets, None, None]).cpu().numpy()


def score_channels(moments: PositionMoments) -> ChannelScores:
    """Score the single channels of one layer."""
    r2, omega2 = zip(*[(_correlation(s), _omega_squared(s)) for s in _selections(moments)], strict=True)
    mean_map = None
    if moments.maps is not None:
        mean_map = (moments.pilot[:, None, None] + moments.maps.sum(dim=0) / moments.images.sum()).cpu().numpy()
    return ChannelScores(
        r2=r2[0],
        r2_se=jackknife(np.stack(r2[1:])),
        omega2=omega2[0],
        omega2_se=jackknife(np.stack(omega2[1:])),
        mean_map=mean_map,
    )


@dataclass(frozen=True)
class _Sums:
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


def _selections(moments: PositionMoments) -> Iterator[_Sums]:
    """Yield the sums over all folds, then over all but each one."""
    n_folds = len(moments.images)
    for keep in [torch.arange(n_folds), *(torch.arange(n_folds)[torch.arange(n_folds) != f] for f in range(n_folds))]:
        cells, squares, cross = (getattr(moments, n)[keep].sum(dim=0) for n in ("cells", "squares", "cross"))
        mean = cross[1:, 0] / cells
        deviation = (squares / cells - mean**2).clamp(min=0).sqrt()
        yield _Sums(
            images=float(moments.images[keep].sum()),
            cells=float(cells),
            squares=squares.cpu().numpy(),
            image_squares=moments.image_squares[keep].sum(dim=0).cpu().numpy(),
            cross=cross.cpu().numpy(),
            target_squares=moments.target_squares[keep].sum(dim=0).cpu().numpy(),
            maps=None if moments.maps is None else moments.maps[keep].sum(dim=0).flatten(1).cpu().numpy(),
            varies=varies(deviation, mean + moments.pilot, moments.dtype).cpu().numpy(),
        )


def _correlation(sums: _Sums) -> np.ndarray:
    """Return the squared correlation of each channel with each target, shape (channel, target)."""
    target_sums = sums.cross[0, 1:]
    covariance = sums.cross[1:, 1:] - np.outer(sums.cross[1:, 0], target_sums) / sums.cells
    target_deviations = sums.target_squares - target_sums**2 / sums.cells
    constant = target_deviations <= 1e-12 * sums.target_squares
    target_deviations = np.where(constant, np.nan, target_deviations)
    return covariance**2 / (sums.deviations[:, None] * target_deviations)


def _omega_squared(sums: _Sums) -> np.ndarray:
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
