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
from probe.sums.expansion_gram import ChannelGram, ExpansionGram, kept_sums
from probe.sums.products import add_products
from probe.sums.rounding import keeps_digits, varies

__all__ = ["Fit", "fit_readouts", "live_channels"]

_BLOCK = 128


@dataclass(frozen=True)
class Fit:
    """Ridge readouts of all design columns.

    Attributes
    ----------
    weights : torch.Tensor
        Shape (feature, design column), of the features of which the Gram keeps sums.
    intercepts : torch.Tensor
        Shape (design column,).
    squared_errors : torch.Tensor
        Shape (design column,). On the samples that the readouts were fitted to.
    live : torch.Tensor
        Shape (channel,). Whether the channel varies; the others are left out.
    """

    weights: Tensor
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
    return varies(deviation, mean + gram.pilot, gram.dtype) & keeps_digits(squares, raw, kept_sums(gram).dtype)


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
    return _Solution(weights, penalty, live)


def _solve_expansion(sums: _Sums, gram: ExpansionGram, alpha: float) -> _Solution:
    """Solve for the sources, of which there are fewer than channels.

    Channels are y = W·x. For x with covariances C and c, and standardised y, L = S^(−1/2)·W = Q·R with orthonormal
    columns of Q, the readout L·C·Lᵀ + alpha of y becomes u = (R·C·Rᵀ + alpha)⁻¹R·c, and that of x is Rᵀ·u. All of it
    for standardised x, too.
    """
    varying = keeps_digits(sums.squares, sums.raw, gram.sources.dtype)
    inverse_scale = torch.where(varying, sums.squares.rsqrt(), 0.0)
    correlations = (sums.products.triu() + sums.products.triu(1).T) * inverse_scale * inverse_scale[:, None]
    cross = sums.cross * inverse_scale[:, None]
    # Sources that do not vary in the training folds may vary in the others, where their channels then do: scale 1.
    scale = torch.where(varying, sums.squares.sqrt(), 1.0)
    weight = gram.weight.double()
    loads = weight * scale
    squares = _variances(gram.weight, scale, correlations)
    live = live_channels(gram, squares, weight.square() @ sums.raw, weight @ sums.mean, sums.count)
    loads *= torch.where(live, squares.rsqrt(), 0.0)[:, None]
    triangle = _triangle(loads, alpha)
    system = triangle @ correlations @ triangle.T
    if alpha < torch.finfo(system.dtype).eps * system.norm():
        raise _too_small(alpha)
    system.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise _too_small(alpha)
    solved = torch.cholesky_solve(triangle @ cross, factor)
    return _Solution(triangle.T @ solved / scale[:, None], alpha * solved.square().sum(dim=0), live)


def _variances(weight: Tensor, scale: Tensor, correlations: Tensor) -> Tensor:
    """Return the diagonal of L·C·Lᵀ, L = weight · scale, in the precision of the weights where none nearly cancels."""
    loads = weight * scale.to(weight.dtype)
    products = torch.zeros_like(loads)
    add_products(products, loads, correlations.to(weight.dtype))
    variances, parts = (products * loads).sum(dim=1), loads.square().sum(dim=1)
    if (keeps_digits(variances, parts, weight.dtype) | (parts == 0)).all():
        return variances.double()
    loads = weight.double() * scale
    return ((loads @ correlations) * loads).sum(dim=1)


def _triangle(loads: Tensor, alpha: float) -> Tensor:
    """Return R of loads = Q·R, fast by way of loadsᵀ·loads where its rounding is nothing beside `alpha`."""
    squared = loads.T @ loads
    factor, failed = torch.linalg.cholesky_ex(squared)
    if failed or torch.finfo(squared.dtype).eps * squared.trace() > 1e-6 * alpha:
        return torch.linalg.qr(loads, mode="r").R
    return factor.T


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
