"""What a position readout loses without each of its channels, for all channels at once, in closed form.

Everything is computed from a Gram, in double precision, for the readout that `probe.readouts.scores` scores: ridge
regression on standardised features, w = A⁻¹c with A = S + alpha·1, where S and c are correlations over the training
folds. Without channel j the same penalty gives w − A⁻¹e_j · w_j / (A⁻¹)_jj, with a zero in place j.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from probe.errors import IllConditionedError
from probe.readouts.fitting import disjoint_halves, live_channels
from probe.sums.expansion_gram import ChannelGram
from probe.sums.gram import symmetric
from probe.sums.rounding import is_constant

__all__ = ["OmissionScores", "Ridge", "fit_ridge", "score_omissions"]


@dataclass(frozen=True)
class OmissionScores:
    """Held-out R² of the readouts of one layer, and what it loses without each channel.

    Attributes
    ----------
    r2 : numpy.ndarray
        Shape (target,). R² of the whole readout, as `probe.readouts.scores` gives it; NaN for a constant target.
    losses : numpy.ndarray
        Shape (channel, target). R² of the whole readout − R² of the one refitted without the channel. Negative where
        the readout is better off without it; NaN for a channel that does not vary, or is not finite.
    """

    r2: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Ridge:
    """Readouts of all targets, fitted to some folds: target mean + weights · (features − mean) / scale.

    Attributes
    ----------
    live : torch.Tensor
        Shape (channel,). Whether the channel varies and is finite; the others are left out of all that follows.
    weights : torch.Tensor
        Shape (live channel, target), of standardised features.
    inverse : torch.Tensor
        Shape (live channel, live channel). A⁻¹.
    mean, scale : torch.Tensor
        Shape (live channel,). Mean, about the Gram's pilot, and standard deviation over the training samples.
    target_mean : torch.Tensor
        Shape (target,).
    """

    live: Tensor
    weights: Tensor
    inverse: Tensor
    mean: Tensor
    scale: Tensor
    target_mean: Tensor


@dataclass(frozen=True)
class _Sums:
    """The sums of a Gram over some folds: of the targets y, and of the features x about the pilot."""

    count: Tensor
    y: Tensor  # (target,)
    yy: Tensor  # (target,), squares
    x: Tensor  # (channel,)
    xx: Tensor  # (channel, channel)
    xy: Tensor  # (channel, target)

    def of(self, channels: Tensor) -> "_Sums":
        """Return the sums of some channels alone."""
        xx = self.xx[channels][:, channels]
        return replace(self, x=self.x[channels], xx=xx, xy=self.xy[channels])


def _sums(gram: ChannelGram, folds: Sequence[int], n_targets: int) -> _Sums:
    upper = gram.upper(folds)
    first = len(upper) - len(gram.pilot)
    features = upper[first:, first:]
    targets = slice(1, 1 + n_targets)
    return _Sums(
        count=upper[0, 0],
        y=upper[0, targets],
        yy=upper.diagonal()[targets],
        x=upper[0, first:],
        xx=symmetric(features),
        xy=upper[targets, first:].T,
    )


def fit_ridge(gram: ChannelGram, folds: Sequence[int], n_targets: int, alpha: float) -> Ridge:
    """Fit the readouts of all targets to some folds.

    Parameters
    ----------
    gram
        Of one layer under one stimulus; its first `n_targets` design columns are the targets.
    folds
        The folds to fit to.
    n_targets
        Number of targets.
    alpha
        Ridge penalty, relative to the variance of each feature.

    Raises
    ------
    IllConditionedError
        If `alpha` is too small for the features' dependence.
    """
    return _fit(_sums(gram, folds, n_targets), gram, alpha)


def _fit(sums: _Sums, gram: ChannelGram, alpha: float) -> Ridge:
    mean = sums.x / sums.count
    squares = sums.xx.diagonal() - sums.x * mean
    # A channel that is not finite in some other fold could not be scored there.
    live = live_channels(gram, squares, sums.xx.diagonal(), mean, sums.count) & gram.finite_channels
    mean, spread = mean[live], squares[live].sqrt()
    covariances = sums.xx[live][:, live] - torch.outer(mean, sums.x[live])
    system = covariances / spread / spread[:, None]
    system.diagonal().fill_(1 + alpha)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise IllConditionedError(
            f"alpha={alpha:g} is too small for channels that depend on each other. Pass more images or a larger alpha=."
        )
    inverse = torch.cholesky_inverse(factor)
    scale = spread / sums.count.sqrt()
    cross = (sums.xy[live] - torch.outer(mean, sums.y)) / (sums.count * scale[:, None])
    return Ridge(live, inverse @ cross, inverse, mean, scale, sums.y / sums.count)


def score_omissions(gram: ChannelGram, folds: Sequence[Sequence[int]], n_targets: int, alpha: float) -> OmissionScores:
    """Score the readouts of one layer, and those without each single channel.

    Parameters
    ----------
    gram, n_targets, alpha
        As in `fit_ridge`.
    folds
        The folds of the Gram that make each fold of the cross-validation.

    Raises
    ------
    ArgumentError
        If there are fewer than three folds.
    IllConditionedError
        If `alpha` is too small for the features' dependence.

    Examples
    --------
    The target is the first feature; the second one is noise.

    >>> features = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> from probe.sums.gram import Gram
    >>> gram = Gram(n_folds=4, n_design=1, pilot=torch.zeros(2, dtype=torch.float64))
    >>> gram.update(features[:, :1], features, parts=[(fold, 50 * fold, 50 * fold + 50) for fold in range(4)])
    >>> score_omissions(gram, [[0], [1], [2], [3]], n_targets=1, alpha=1e-3).losses > 0.5
    array([[ True],
           [False]])
    """
    whole = _sums(gram, [fold for part in folds for fold in part], n_targets)
    mean = whole.y / whole.count
    sst = whole.yy - whole.y * mean
    sst = torch.where(is_constant(sst, whole.yy), torch.nan, sst)
    pairs = [disjoint_halves(len(folds), held_out) for held_out in range(len(folds))]
    omissions = {
        half: _Omissions(fit_ridge(gram, [fold for part in half for fold in folds[part]], n_targets, alpha))
        for half in sorted({half for of_fold in pairs for pair in of_fold for half in pair})
    }
    finite = gram.finite_channels
    errors = torch.zeros_like(sst)
    added = sst.new_zeros(len(gram.pilot), n_targets)
    for held_out, of_fold in zip(folds, pairs, strict=True):
        sums = _sums(gram, held_out, n_targets).of(finite)
        for first, second in of_fold:
            fold_errors, fold_added = _crossed_errors(omissions[first].of(finite), omissions[second].of(finite), sums)
            errors += fold_errors / len(of_fold)
            added[finite] += fold_added / len(of_fold)
    ever_live = torch.stack([item.live for item in omissions.values()]).any(dim=0)
    losses = torch.where(ever_live[:, None], added / sst, torch.nan)
    return OmissionScores(r2=(1 - errors / sst).cpu().numpy(), losses=losses.cpu().numpy())


class _Omissions:
    """A ridge, and how its prediction changes without each channel, for features in their own units.

    It predicts target mean + weightsᵀ(x − mean). Without channel j, factors_j · steps_jᵀ(x − mean) is taken away.
    """

    def __init__(self, ridge: Ridge) -> None:
        n_channels = len(ridge.live)
        self.live, self.target_mean = ridge.live, ridge.target_mean
        self.mean = ridge.mean.new_zeros(n_channels)
        self.weights = ridge.weights.new_zeros(n_channels, ridge.weights.shape[1])
        self.factors, self.steps = torch.zeros_like(self.weights), ridge.mean.new_zeros(n_channels, n_channels)
        self.mean[self.live] = ridge.mean
        self.weights[self.live] = ridge.weights / ridge.scale[:, None]
        self.factors[self.live] = ridge.weights / ridge.inverse.diagonal()[:, None]
        places = self.live.nonzero().ravel()
        self.steps[places[:, None], places] = ridge.inverse / ridge.scale[:, None]

    def of(self, channels: Tensor) -> "_Omissions":
        """Return it for some channels, to which all that are live belong."""
        chosen = copy.copy(self)
        chosen.mean, chosen.weights, chosen.factors = (
            self.mean[channels],
            self.weights[channels],
            self.factors[channels],
        )
        chosen.steps = self.steps[channels][:, channels]
        return chosen

    def residuals(self, sums: _Sums) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of the residual e, of x·e and of y·e, shape (target,), (channel, target), (target,)."""
        level = self.target_mean - self.mean @ self.weights
        by_sample = sums.y - sums.count * level - sums.x @ self.weights
        by_feature = sums.xy - torch.outer(sums.x, level) - sums.xx @ self.weights
        by_target = sums.yy - sums.y * level - (sums.xy * self.weights).sum(dim=0)
        return by_sample, by_feature, by_target


def _crossed_errors(first: _Omissions, second: _Omissions, sums: _Sums) -> tuple[Tensor, Tensor]:
    """Return Σ e₁·e₂ over held-out samples, (target,), and what each omission adds to it, (channel, target)."""
    e, xe, ye = second.residuals(sums)
    f, xf, _ = first.residuals(sums)
    errors = ye - first.target_mean * e - (first.weights * (xe - torch.outer(first.mean, e))).sum(dim=0)
    squares = sums.xx - torch.outer(first.mean, sums.x) - torch.outer(sums.x - sums.count * first.mean, second.mean)
    curvature = (first.steps * (squares @ second.steps)).sum(dim=0)
    added = first.factors * (first.steps.T @ (xe - torch.outer(first.mean, e)))
    added += second.factors * (second.steps.T @ (xf - torch.outer(second.mean, f)))
    return errors, added + first.factors * second.factors * curvature[:, None]
