"""What a position readout loses without each of its channels, for all channels at once, in closed form.

Everything is computed from a Gram, in double precision, for the readout that `probe.readouts.scores` scores: ridge
regression on standardised features, w = A⁻¹c with A = S + alpha·1, where S and c are correlations over the training
folds. Without channel j the same penalty gives w − A⁻¹e_j · w_j / (A⁻¹)_jj, with a zero in place j.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.errors import ArgumentError
from probe.readouts.fitting import live_channels
from probe.sums.expansion_gram import ChannelGram

__all__ = ["OmissionScores", "Ridge", "fit_ridge", "score_omissions"]


@dataclass(frozen=True)
class OmissionScores:
    """Held-out R² of the readouts of one layer, and what it loses without each channel.

    Attributes
    ----------
    r2 : numpy.ndarray
        Shape (target,). R² of the whole readout; NaN for a constant target.
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
        xx=features.triu() + features.triu(1).T,
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
    ArgumentError
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
        raise ArgumentError(
            f"alpha={alpha:g} is too small for channels that depend on each other. The default is 1e-3."
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
        If `alpha` is too small for the features' dependence.

    Examples
    --------
    The target is the first feature; the second one is noise.

    >>> features = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> from probe.sums.gram import Gram
    >>> gram = Gram(n_folds=2, n_design=1, pilot=torch.zeros(2, dtype=torch.float64))
    >>> gram.update(design=features[:, :1], features=features, parts=[(0, 0, 100), (1, 100, 200)])
    >>> score_omissions(gram, [[0], [1]], n_targets=1, alpha=1e-3).losses > 0.5
    array([[ True],
           [False]])
    """
    whole = _sums(gram, [fold for part in folds for fold in part], n_targets)
    mean = whole.y / whole.count
    sst = whole.yy - whole.y * mean
    sst = torch.where(sst <= 1e-6 * whole.yy, torch.nan, sst)
    errors = torch.zeros_like(sst)
    added = sst.new_zeros(len(gram.pilot), n_targets)
    ever_live = torch.zeros_like(gram.pilot, dtype=torch.bool)
    for held_out in folds:
        training = [fold for part in folds if part is not held_out for fold in part]
        ridge = fit_ridge(gram, training, n_targets, alpha)
        fold_errors, fold_added = _held_out_errors(ridge, _sums(gram, held_out, n_targets))
        errors += fold_errors
        added[ridge.live] += fold_added
        ever_live |= ridge.live
    losses = torch.where(ever_live[:, None], added / sst, torch.nan)
    return OmissionScores(r2=(1 - errors / sst).cpu().numpy(), losses=losses.cpu().numpy())


def _held_out_errors(ridge: Ridge, held_out: _Sums) -> tuple[Tensor, Tensor]:
    """Return the squared errors on held-out samples, (target,), and what each omission adds, (live channel, target).

    With the held-out features x and targets y centred and scaled as in training, G = Σxxᵀ, g = Σxy: weights w have
    the squared error Σy² − 2wᵀg + wᵀGw, and w − d has 2dᵀ(g − Gw) + dᵀGd more.
    """
    live, mean, scale = ridge.live, ridge.mean, ridge.scale
    x, count, shift = held_out.x[live], held_out.count, ridge.target_mean
    cross = held_out.xy[live] - torch.outer(mean, held_out.y) - torch.outer(x - count * mean, shift)
    cross = cross / scale[:, None]
    squares = held_out.xx[live][:, live] - torch.outer(mean, x) - torch.outer(x - count * mean, mean)
    squares = squares / scale / scale[:, None]
    target_squares = held_out.yy - 2 * shift * held_out.y + count * shift**2

    residual = cross - squares @ ridge.weights
    errors = target_squares - (ridge.weights * (cross + residual)).sum(dim=0)
    step = ridge.weights / ridge.inverse.diagonal()[:, None]
    curvature = ((squares @ ridge.inverse) * ridge.inverse).sum(dim=0)
    added = 2 * step * (ridge.inverse @ residual) + step**2 * curvature[:, None]
    return errors, added
