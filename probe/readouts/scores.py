"""Scores of cross-validated ridge readouts, and of their controls, from a Gram.

Knows neither models nor images. Every score follows from the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.intervals import jackknife
from probe.readouts.fitting import Fit, Half, disjoint_halves, fit_readouts
from probe.readouts.targets import N_CONTROLS
from probe.sums.expansion_gram import ChannelGram
from probe.sums.rounding import is_constant

__all__ = [
    "CrossedSums",
    "ReadoutScores",
    "crossed_sums",
    "decode",
    "position_bits",
    "score_readout",
]


@dataclass(frozen=True)
class ReadoutScores:
    """Scores of the readouts of one layer under one stimulus, one value a target.

    Attributes
    ----------
    r2 : numpy.ndarray
        Shape (target,). 1 − Σ e₁·e₂ / SST over all held-out samples: the residuals of two ridges that were fitted to
        disjoint halves of the other folds, SST about the target's mean. Their errors are independent, so what they
        overfit cancels. 1: position can be read exactly; 0: not at all, whatever the number of samples; below 0: by
        chance. NaN for a constant target.
    r2_fold : numpy.ndarray
        Shape (target, fold). The same within each fold, SST about the mean over all folds.
    r2_left_out : numpy.ndarray
        Shape (target, fold). The same over all folds but one.
    r2_se : numpy.ndarray
        Shape (target,). Standard error of `r2`: jackknife over the folds, without refitting.
    r2_null : numpy.ndarray
        Shape (target,). `r2` with the positions shuffled anew in every image: 0, up to noise.
    r2_control : numpy.ndarray
        Shape (target,). Mean `r2` of fixed random permutations of the target's map, orthogonal to the target.
    samples_per_feature : float
        Number of samples over the number of channels that vary.
    n_dead : int
        Number of channels that do not vary, which are left out.
    """

    r2: np.ndarray
    r2_fold: np.ndarray
    r2_left_out: np.ndarray
    r2_se: np.ndarray
    r2_null: np.ndarray
    r2_control: np.ndarray
    samples_per_feature: float
    n_dead: int

    @classmethod
    def unknown(cls, n_targets: int, n_folds: int) -> "ReadoutScores":
        """Return the scores of a layer that cannot be scored: NaN."""
        none, by_fold = np.full(n_targets, np.nan), np.full((n_targets, n_folds), np.nan)
        return cls(none, by_fold, by_fold, none, none, none, np.nan, 0)


def _crossed_errors(upper: Tensor, pairs: Sequence[tuple[Fit, Fit]], n_design: int) -> Tensor:
    """Return Σ e₁·e₂ over the samples of some sums, shape (design column,), mean over pairs of fits.

    `upper` is the triangle of the sums, with zeros below.
    """
    first, second = (
        torch.stack([_residual(fit, n_design) for fit in fits], dim=1) for fits in zip(*pairs, strict=True)
    )
    flat = second.flatten(1)
    products = upper @ flat + upper.T @ flat - upper.diagonal()[:, None] * flat
    return (first * products.view_as(second)).sum(dim=0).mean(dim=0)


def _residual(fit: Fit, n_design: int) -> Tensor:
    """Return the residuals of readouts as combinations of the columns of a Gram, shape (column, design column)."""
    return torch.cat(
        [-fit.intercepts[None], torch.eye(n_design, dtype=fit.weights.dtype, device=fit.weights.device), -fit.weights]
    )


@dataclass(frozen=True)
class CrossedSums:
    """What the readouts of all design columns leave unexplained in each held-out fold.

    Attributes
    ----------
    errors : torch.Tensor
        Σ e₁·e₂ of the residuals of two ridges that were fitted to disjoint halves of the other folds, mean over the
        pairs of halves, shape (design column, fold).
    deviations : torch.Tensor
        Sum of squares of each column about its mean over all folds, shape (design column, fold); NaN for a constant
        one.
    counts : torch.Tensor
        Number of samples, shape (fold,).
    live : torch.Tensor
        Whether a channel varies in any half, shape (channel,).
    """

    errors: Tensor
    deviations: Tensor
    counts: Tensor
    live: Tensor


def crossed_sums(gram: ChannelGram, n_design: int, alpha: float) -> CrossedSums:
    """Fit the readouts of all design columns to halves of the folds, and sum their errors in the others.

    Parameters
    ----------
    gram
        Of at least three folds.
    n_design
        Number of design columns.
    alpha
        Ridge penalty, relative to the variance of each feature.

    Raises
    ------
    ArgumentError
        If there are fewer than three folds.
    IllConditionedError
        If `alpha` is too small for the features' dependence.
    """
    folds = range(len(gram.totals))
    pairs = [disjoint_halves(len(folds), held_out) for held_out in folds]
    sums = None
    fits: dict[Half, Fit] = {}
    for half in sorted({half for of_fold in pairs for pair in of_fold for half in pair}):
        fits[half], sums = fit_readouts(gram, half, n_design, alpha, out=sums)
    kept = gram.kept
    errors = []
    for held_out, of_fold in zip(folds, pairs, strict=True):
        upper = kept.upper([held_out], out=sums).triu_()
        errors.append(_crossed_errors(upper, [(fits[a], fits[b]) for a, b in of_fold], n_design))

    counts, totals = kept.totals[:, 0], kept.totals[:, 1 : 1 + n_design].T
    squares = kept.squares[:, 1 : 1 + n_design].T
    mean = (totals.sum(dim=1) / counts.sum())[:, None]
    sst = squares - 2 * mean * totals + counts * mean**2
    sst = torch.where(is_constant(sst.sum(dim=1), squares.sum(dim=1))[:, None], torch.nan, sst)
    live = torch.stack([fit.live for fit in fits.values()]).any(dim=0)
    return CrossedSums(torch.stack(errors, dim=1), sst, counts, live)


def score_readout(gram: ChannelGram, n_targets: int, alpha: float) -> ReadoutScores:
    """Score the cross-validated ridge readouts of one layer.

    Parameters
    ----------
    gram
        Of at least three folds. Its design columns are the targets, the targets shuffled in every image, and
        `N_CONTROLS` permutations of each target, in this order.
    n_targets
        Number of targets.
    alpha
        Ridge penalty, relative to the variance of each feature.

    Raises
    ------
    ArgumentError
        If there are fewer than three folds.
    IllConditionedError
        If `alpha` is too small for the features' dependence.
    """
    n_design = n_targets * (2 + N_CONTROLS)
    crossed = crossed_sums(gram, n_design, alpha)
    sse, sst, counts = crossed.errors, crossed.deviations, crossed.counts
    r2 = (1 - sse.sum(dim=1) / sst.sum(dim=1)).cpu().numpy()
    without_fold = 1 - (sse.sum(dim=1, keepdim=True) - sse) / (sst.sum(dim=1, keepdim=True) - sst)
    left_out = without_fold[:n_targets].cpu().numpy()
    controls = r2[2 * n_targets :].reshape(N_CONTROLS, n_targets)
    n_live = int(crossed.live.sum())
    return ReadoutScores(
        r2=r2[:n_targets],
        r2_fold=(1 - sse / sst)[:n_targets].cpu().numpy(),
        r2_left_out=left_out,
        r2_se=jackknife(r2[:n_targets], left_out.T, counts.cpu().numpy()),
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
    weights = gram.of_channels(fit.weights[:, :n_targets], fit.live)
    features = torch.as_tensor(mean_map, device=gram.pilot.device).to(gram.pilot) - gram.pilot[:, None, None]
    decoded = torch.einsum("ct,chw->thw", weights, features)
    return (decoded + fit.intercepts[:n_targets, None, None]).cpu().numpy()
