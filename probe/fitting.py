"""Ridge readouts fitted to sums.

The readout of a target y from the p features x of a sample is ridge regression on standardised features with an
intercept, w = (C + alpha·S)⁻¹ c, with C and c the covariances over the training folds and S the diagonal of C: what
scikit-learn calls ``Ridge(n·alpha)`` after ``StandardScaler``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.errors import ArgumentError
from probe.expansion_gram import ChannelGram, ExpansionGram, kept_sums
from probe.products import product
from probe.rounding import keeps_digits, varies

__all__ = ["Fit", "fit_readouts", "live_channels"]

_BLOCK = 128


@dataclass(frozen=True)
class Fit:
    """Ridge readouts of all design columns.

    Attributes
    ----------
    weights : torch.Tensor
        Shape (feature, design column), of the features of which the Gram keeps sums.
    channel_weights : torch.Tensor
        Shape (channel, design column). The same readouts, of the channels.
    intercepts : torch.Tensor
        Shape (design column,).
    squared_errors : torch.Tensor
        Shape (design column,). On the samples that the readouts were fitted to.
    live : torch.Tensor
        Shape (channel,). Whether the channel varies; the others are left out.
    """

    weights: Tensor
    channel_weights: Tensor
    intercepts: Tensor
    squared_errors: Tensor
    live: Tensor


@dataclass(frozen=True)
class _Sums:
    """Sums over the training folds: of the features about their pilot and their means, and with the design."""

    count: Tensor
    mean: Tensor  # (feature,)
    raw: Tensor  # (feature,), squares about the pilot
    squares: Tensor  # (feature,), squares about the mean
    products: Tensor  # (feature, feature), about the mean, upper triangle
    cross: Tensor  # (feature, design column)


@dataclass(frozen=True)
class _Solution:
    weights: Tensor
    channel_weights: Tensor
    penalty: Tensor  # (design column,)
    live: Tensor


def fit_readouts(
    gram: ChannelGram, folds: Sequence[int], n_design: int, alpha: float, out: Tensor | None = None
) -> tuple[Fit, Tensor]:
    """Fit the readouts of all design columns to some folds.

    Parameters
    ----------
    gram
        Of one layer under one stimulus.
    folds
        The folds to fit to.
    n_design
        Number of design columns.
    alpha
        Ridge penalty, relative to the variance of each channel.
    out
        The second result of an earlier call, which is overwritten: this saves the memory of a new tensor.

    Raises
    ------
    ArgumentError
        If `alpha` is too small for the channels' dependence.
    """
    upper = kept_sums(gram).upper(folds, out=out)
    first = 1 + n_design
    count, totals, diagonal = upper[0, 0], upper[0, 1:], upper.diagonal().clone()
    design, features = totals[:n_design], totals[n_design:]
    mean = features / count
    sums = _Sums(
        count=count,
        mean=mean,
        raw=diagonal[first:],
        squares=diagonal[first:] - features * mean,
        products=upper[first:, first:].addr_(mean, features, alpha=-1),
        cross=upper[1:first, first:].T - torch.outer(mean, design),
    )
    solution = _solve_expansion(sums, gram, alpha) if isinstance(gram, ExpansionGram) else _solve(sums, gram, alpha)
    design_mean = design / count
    # The normal equations give the errors on the training samples without another pass over the sums.
    explained = (solution.weights * sums.cross).sum(dim=0) + solution.penalty
    fit = Fit(
        weights=solution.weights,
        channel_weights=solution.channel_weights,
        intercepts=design_mean - mean @ solution.weights,
        squared_errors=diagonal[1:first] - design * design_mean - explained,
        live=solution.live,
    )
    return fit, upper


def live_channels(gram: ChannelGram, squares: Tensor, raw: Tensor, mean: Tensor, count: Tensor) -> Tensor:
    """Tell which channels of a Gram vary by more than rounding; the others are left out of readouts.

    Parameters
    ----------
    gram
        Where the sums come from.
    squares, raw
        Shape (channel,). Sums of squares about the mean, and about the pilot.
    mean
        Shape (channel,). About the pilot.
    count
        Number of samples.
    """
    deviation = (squares.clamp(min=0) / count).sqrt()
    return varies(deviation, mean + gram.pilot, gram.dtype) & keeps_digits(squares, raw, gram.dtype)


def _solve(sums: _Sums, gram: ChannelGram, alpha: float) -> _Solution:
    """Solve for the channels themselves; the products are overwritten."""
    live = live_channels(gram, sums.squares, sums.raw, sums.mean, sums.count)
    inverse_scale = torch.where(live, sums.squares.rsqrt(), 0.0)
    system = sums.products
    system.mul_(inverse_scale[:, None]).mul_(inverse_scale)
    system.diagonal().fill_(1 + alpha)
    try:
        _factorise(system)
    except torch.linalg.LinAlgError:
        raise _too_small(alpha) from None
    weights = torch.cholesky_solve(sums.cross * inverse_scale[:, None], system.T) * inverse_scale[:, None]
    penalty = alpha * (weights.square() * sums.squares[:, None]).sum(dim=0)
    return _Solution(weights, weights, penalty, live)


def _solve_expansion(sums: _Sums, gram: ExpansionGram, alpha: float) -> _Solution:
    """Solve for the sources, of which there are fewer than channels.

    With channels y = W·x, their readout w is the readout v = Wᵀw of x, and the least penalty wᵀS·w of all w with
    this v is vᵀM⁻¹v, with M = WᵀS⁻¹W. So v = (C + alpha·M⁻¹)⁻¹c for the covariances C, c of x, or v = M·z with
    (C·M + alpha)·z = c, which needs no inverse of M; and w = S⁻¹W·z. All of it for standardised x.
    """
    live_sources = live_channels(gram.sources, sums.squares, sums.raw, sums.mean, sums.count)
    inverse_scale = torch.where(live_sources, sums.squares.rsqrt(), 0.0)
    correlations = (sums.products.triu() + sums.products.triu(1).T) * inverse_scale * inverse_scale[:, None]
    weight = gram.weight.double()
    loads = weight * torch.where(live_sources, sums.squares.sqrt(), 0.0)
    squares = (product(loads.to(gram.dtype), correlations.to(gram.dtype)) * loads).sum(dim=1)
    live = live_channels(gram, squares, weight.square() @ sums.raw, weight @ sums.mean, sums.count)
    channel_scale = torch.where(live, squares.rsqrt(), 0.0)[:, None]
    loads *= channel_scale
    metric = loads.T @ loads
    system = correlations @ metric
    system.diagonal().add_(alpha)
    if alpha < torch.finfo(system.dtype).eps * system.norm():
        raise _too_small(alpha)
    solved = torch.linalg.solve(system, sums.cross * inverse_scale[:, None])
    standardised = metric @ solved
    return _Solution(
        weights=standardised * inverse_scale[:, None],
        channel_weights=loads @ solved * channel_scale,
        penalty=alpha * (solved * standardised).sum(dim=0),
        live=live,
    )


def _too_small(alpha: float) -> ArgumentError:
    return ArgumentError(f"alpha={alpha:g} is too small for channels that depend on each other. The default is 1e-3.")


def _factorise(upper: Tensor) -> None:
    """Replace the upper triangle of a positive definite matrix by its Cholesky factor, in place.

    By blocks, so that nearly all work is matrix products: for 1,000 channels two to three times as fast as
    ``torch.linalg.cholesky`` on a CPU, where the factorisations would otherwise be half the cost of scoring.
    """
    for start in range(0, len(upper), _BLOCK):
        block = slice(start, start + _BLOCK)
        upper[block, start:].addmm_(upper[:start, block].T, upper[:start, start:], alpha=-1)
        factor = torch.linalg.cholesky(upper[block, block].T)
        upper[block, block] = factor.T
        behind = upper[block, start + _BLOCK :]
        behind.copy_(torch.linalg.solve_triangular(factor, behind, upper=False))
