"""Scores of cross-validated ridge readouts, and of their controls, from a Gram.

Knows neither models nor images. Every score follows from the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.axes import on_cells
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
    count, total, square = upper[0, 0], upper[0, 1 : 1 + n_design], upper.diagonal()[1 : 1 + n_design]
    sums, cross, products = upper[0, 1 + n_design :], upper[1 : 1 + n_design, 1 + n_design :].T, upper[1 + n_design :]
    products = products[:, 1 + n_design :]
    errors = torch.zeros_like(total)
    # Of all pairs at once: reading the products takes longer than multiplying them.
    every = torch.cat([second.weights for _, second in pairs], dim=1)
    every_predicted = products @ every + products.T @ every - products.diagonal()[:, None] * every
    for (first, second), predicted in zip(pairs, every_predicted.split(n_design, dim=1), strict=True):
        weights, intercepts = second.weights, second.intercepts
        # Sums of the second residual, by itself, with the target, and with the features.
        alone = total - count * intercepts - sums @ weights
        with_target = square - total * intercepts - (cross * weights).sum(dim=0)
        with_features = cross - torch.outer(sums, intercepts) - predicted
        errors += with_target - first.intercepts * alone - (first.weights * with_features).sum(dim=0)
    return errors / len(pairs)


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

    @property
    def r2(self) -> np.ndarray:
        """1 − Σ errors / Σ deviations over all folds, shape (design column,)."""
        return (1 - self.errors.sum(dim=1) / self.deviations.sum(dim=1)).cpu().numpy()

    @property
    def r2_left_out(self) -> np.ndarray:
        """The same over all folds but one, shape (design column, fold)."""
        errors, deviations = (sums.sum(dim=1, keepdim=True) - sums for sums in (self.errors, self.deviations))
        return (1 - errors / deviations).cpu().numpy()

    @property
    def r2_se(self) -> np.ndarray:
        """Standard error of `r2`, shape (design column,): jackknife over the folds, without refitting."""
        return jackknife(self.r2, self.r2_left_out.T, self.counts.cpu().numpy())


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
    r2, left_out = crossed.r2, crossed.r2_left_out[:n_targets]
    controls = r2[2 * n_targets :].reshape(N_CONTROLS, n_targets)
    n_live = int(crossed.live.sum())
    return ReadoutScores(
        r2=r2[:n_targets],
        r2_fold=(1 - crossed.errors / crossed.deviations)[:n_targets].cpu().numpy(),
        r2_left_out=left_out,
        r2_se=crossed.r2_se[:n_targets],
        r2_null=r2[n_targets : 2 * n_targets],
        r2_control=np.where(np.isnan(controls).all(axis=0), np.nan, np.nan_to_num(controls).sum(axis=0))
        / np.maximum(1, (~np.isnan(controls)).sum(axis=0)),
        samples_per_feature=float(crossed.counts.sum()) / n_live if n_live else np.nan,
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
        Shape (channel, *size).

    Returns
    -------
    numpy.ndarray
        Shape (target, *size): the decoded value of each design column that is a target, at each position.
    """
    fit, _ = fit_readouts(gram, range(len(gram.totals)), n_targets * (2 + N_CONTROLS), alpha)
    weights = gram.of_channels(fit.weights[:, :n_targets], fit.live)
    on_map = on_cells(mean_map.shape[1:])
    features = torch.as_tensor(mean_map, device=gram.pilot.device).to(gram.pilot) - gram.pilot[on_map]
    decoded = torch.einsum("ct,c...->t...", weights, features)
    return (decoded + fit.intercepts[:n_targets][on_map]).cpu().numpy()
