"""Ridge readouts fitted to sums.

The readout of a target y from the p features x of a sample is ridge regression on standardised features with an
intercept, w = (C + alpha·S)⁻¹ c, with C and c the covariances over the training folds and S the diagonal of C: what
scikit-learn calls ``Ridge(n·alpha)`` after ``StandardScaler``.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.errors import ArgumentError, IllConditionedError
from probe.sums.expansion_gram import ChannelGram
from probe.sums.gram import symmetric
from probe.sums.products import add_products
from probe.sums.rounding import keeps_digits, varies

__all__ = ["Fit", "Half", "disjoint_halves", "fit_readouts", "live_channels"]

_BLOCK = 128
_LEAST_FOLDS = 3
_MOST_IN_ALL_HALVES = 5

Half = tuple[int, ...]
"""Numbers of the folds that a ridge is fitted to."""


@dataclass(frozen=True)
class Fit:
    """Ridge readouts of all design columns.

    Attributes
    ----------
    weights : torch.Tensor
        Shape (feature, design column), of the features of which the Gram keeps sums.
    intercepts : torch.Tensor
        Shape (design column,).
    live : torch.Tensor
        Shape (channel,). Whether the channel varies; the others are left out.
    """

    weights: Tensor
    intercepts: Tensor
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
    IllConditionedError
        If `alpha` is too small for the channels' dependence.
    """
    upper = gram.kept.upper(folds, out=out)
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
    made_of = gram.made_of
    weights, live = _solve(sums, gram, alpha) if made_of is None else _solve_made(sums, gram, made_of, alpha)
    return Fit(weights, design / count - mean @ weights, live), upper


def disjoint_halves(n_folds: int, held_out: int) -> list[tuple[Half, Half]]:
    """Return pairs of disjoint halves of the folds but one, to each of which a ridge is fitted.

    What the two ridges of a pair overfit is independent, so that the product of their held-out errors is free of it.

    Up to five folds all pairs of halves, as equal as can be; of more folds one pair, the next half of the folds, in
    a circle, and the rest, so that the number of fits grows no faster than that of the folds.

    Raises
    ------
    ArgumentError
        If there are fewer than three folds.

    Examples
    --------
    >>> disjoint_halves(5, held_out=4)
    [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    >>> disjoint_halves(7, held_out=5)
    [((0, 1, 6), (2, 3, 4))]
    """
    if n_folds < _LEAST_FOLDS:
        raise ArgumentError(
            f"folds={n_folds}: a readout needs at least {_LEAST_FOLDS}, one that is held out and one for each of the "
            "two fits whose errors are compared. The default is 5."
        )
    rest = [fold for fold in range(n_folds) if fold != held_out]
    size = len(rest) // 2
    if n_folds > _MOST_IN_ALL_HALVES:
        first = tuple(sorted((held_out + step) % n_folds for step in range(1, size + 1)))
        return [(first, tuple(fold for fold in rest if fold not in first))]
    halves = [(half, tuple(fold for fold in rest if fold not in half)) for half in itertools.combinations(rest, size)]
    # Halves of one size come twice, once as the first and once as the second.
    return [(first, second) for first, second in halves if len(first) < len(second) or first < second]


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
    return varies(deviation, mean + gram.pilot, gram.dtype) & keeps_digits(squares, raw, gram.kept.dtype)


def _solve(sums: _Sums, gram: ChannelGram, alpha: float) -> tuple[Tensor, Tensor]:
    """Solve for the channels themselves; the products are overwritten."""
    live = live_channels(gram, sums.squares, sums.raw, sums.mean, sums.count)
    inverse_scale = torch.where(live, sums.squares.rsqrt(), 0.0)
    system = sums.products
    system.mul_(inverse_scale[:, None]).mul_(inverse_scale)
    system.diagonal().fill_(1 + alpha)
    _check_alpha(alpha, system.triu().norm() * 2**0.5, gram.kept.dtype)
    try:
        _factorise(system)
    except torch.linalg.LinAlgError:
        raise _too_small(alpha) from None
    return torch.cholesky_solve(sums.cross * inverse_scale[:, None], system.T) * inverse_scale[:, None], live


def _solve_made(sums: _Sums, gram: ChannelGram, made_of: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Solve for the sources, of which there are fewer than channels.

    Channels are y = W·x. For x with covariances C and c, and standardised y, L = S^(−1/2)·W = Q·R with orthonormal
    columns of Q, the readout L·C·Lᵀ + alpha of y becomes u = (R·C·Rᵀ + alpha)⁻¹R·c, and that of x is Rᵀ·u. All of it
    for standardised x, too.
    """
    varying = keeps_digits(sums.squares, sums.raw, gram.kept.dtype)
    inverse_scale = torch.where(varying, sums.squares.rsqrt(), 0.0)
    correlations = symmetric(sums.products) * inverse_scale * inverse_scale[:, None]
    cross = sums.cross * inverse_scale[:, None]
    # Sources that do not vary in the training folds may vary in the others, where their channels then do: scale 1.
    scale = torch.where(varying, sums.squares.sqrt(), 1.0)
    weight = made_of.double()
    loads = weight * scale
    squares = _variances(made_of, scale, correlations)
    live = live_channels(gram, squares, weight.square() @ sums.raw, weight @ sums.mean, sums.count)
    loads *= torch.where(live, squares.rsqrt(), 0.0)[:, None]
    triangle = _triangle(loads, alpha)
    system = triangle @ correlations @ triangle.T
    _check_alpha(alpha, system.norm(), system.dtype)
    system.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise _too_small(alpha)
    solved = torch.cholesky_solve(triangle @ cross, factor)
    return triangle.T @ solved / scale[:, None], live


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


def _check_alpha(alpha: float, norm: Tensor, dtype: torch.dtype) -> None:
    """Raise unless the penalty is more than the rounding of a system of this norm."""
    if alpha < torch.finfo(dtype).eps * norm:
        raise _too_small(alpha)


def _too_small(alpha: float) -> IllConditionedError:
    return IllConditionedError(
        f"alpha={alpha:g} is too small for channels that depend on each other. Pass more images or a larger alpha=."
    )


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
