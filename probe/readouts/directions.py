"""Which directions of a layer's features tell position: found from sums, in double precision.

With Σ the covariance of the features and c their covariance with a concept z (values of targets, or which of all
cells it is), each method gives the parts of a `Projection`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.errors import ArgumentError, IllConditionedError
from probe.readouts.erasers import Projection
from probe.readouts.fitting import live_channels
from probe.sums.expansion_gram import ChannelGram
from probe.sums.gram import symmetric
from probe.sums.moments import PositionMoments
from probe.sums.rounding import is_constant

__all__ = ["CELLS", "METHODS", "Covariances", "find_directions", "first_channels", "n_directions", "removed_variance"]

METHODS = ("leace", "iterated", "mean_map", "random")
"""How the directions of an eraser are found; see `fit_eraser`."""

CELLS = "cells"
"""The concept of every position: which of all cells it is."""

_NO_DIRECTION = 1e3  # rounding errors: so much smaller than the largest, a singular value is none
_ATTEMPTS = 6


@dataclass(frozen=True)
class Covariances:
    """What the sums of a layer tell of its features, over some folds of images.

    Attributes
    ----------
    mean : torch.Tensor
        Shape (channel,).
    features : torch.Tensor
        Σ, shape (channel, channel); zero where a channel does not vary.
    targets : torch.Tensor
        Covariance of the features with the targets, each of which has variance 1, shape (channel, target); zero for a
        target that does not vary.
    live : torch.Tensor
        Shape (channel,). Whether the channel varies.
    maps : torch.Tensor or None
        Mean map over images, about its mean, shape (channel, cell); None without moments of images of one size.
    precision : float
        Rounding of the products from which the sums were made.
    """

    mean: Tensor
    features: Tensor
    targets: Tensor
    live: Tensor
    maps: Tensor | None
    precision: float

    @classmethod
    def of(
        cls, gram: ChannelGram, moments: PositionMoments | None, folds: Sequence[int], n_targets: int
    ) -> "Covariances":
        """Take them from the sums of a layer under one stimulus."""
        upper = gram.upper(folds)
        first = len(upper) - len(gram.pilot)
        count, totals, squares = upper[0, 0], upper[0, first:], upper.diagonal()
        mean = totals / count
        products = upper[first:, first:]
        features = symmetric(products) / count - torch.outer(mean, mean)
        variances = squares[1 : 1 + n_targets] / count - (upper[0, 1 : 1 + n_targets] / count).square()
        cross = upper[1 : 1 + n_targets, first:].T / count - torch.outer(mean, upper[0, 1 : 1 + n_targets] / count)
        live = live_channels(gram, features.diagonal() * count, squares[first:], mean, count)
        constant = is_constant(variances, squares[1 : 1 + n_targets] / count)
        scale = torch.where(constant, 0.0, variances.clamp(min=0).rsqrt())
        return cls(
            mean=mean + gram.pilot,
            features=features * live * live[:, None],
            targets=cross * scale * live[:, None],
            live=live,
            maps=_mean_map(moments, folds, live),
            precision=torch.finfo(gram.kept.dtype).eps,
        )


def _mean_map(moments: PositionMoments | None, folds: Sequence[int], live: Tensor) -> Tensor | None:
    chosen = None if moments is None else moments.of(folds)
    if chosen is None or chosen.maps is None:
        return None
    maps = (chosen.maps.sum(dim=0) / chosen.images.sum()).flatten(1)
    return (maps - maps.mean(dim=1, keepdim=True)) * live[:, None]


def find_directions(
    covariances: Covariances, method: str, *, concept: Tensor, rank: int | None, seed: int
) -> Projection:
    """Find the directions that a method takes out.

    Parameters
    ----------
    covariances
        Of the layer.
    method
        One of `METHODS`.
    concept
        c, shape (channel, column of the concept): covariances with targets, or the mean map for every position.
    rank
        Number of directions; None for as many as the concept has, or two.
    seed
        Of ``random``.

    Raises
    ------
    ArgumentError
        If the rank is more than there are directions.
    IllConditionedError
        If the features' covariance cannot be factorised.
    """
    most = int(covariances.live.sum())
    if not most:
        raise ArgumentError("layer: none of its channels varies, so there is nothing to erase.")
    if method == "random":
        vectors = _random(covariances.live, _checked(rank or min(2, most), most, method), seed, concept)
        return Projection(covariances.mean, vectors, vectors)
    if method == "mean_map":
        vectors = _leading(concept, covariances.precision)
        vectors = vectors[:, : _checked(rank or min(2, vectors.shape[1]), vectors.shape[1], method)]
        return Projection(covariances.mean, vectors, vectors)
    if method == "iterated":
        vectors = _iterated(covariances, concept, rank or concept.shape[1])
        return Projection(covariances.mean, vectors, vectors)
    return _leace(covariances, concept, rank)


def n_directions(covariances: Covariances, method: str, concept: Tensor) -> int:
    """Return how many directions a method can take out."""
    n_live = int(covariances.live.sum())
    if method in ("random", "iterated"):
        return n_live
    return min(n_live, int(_is_direction(torch.linalg.svdvals(concept), covariances.precision).sum()))


def _checked(rank: int, most: int, method: str) -> int:
    if rank > most:
        raise ArgumentError(f"rank={rank}: {method!r} finds at most {most} directions here. Choose a smaller rank=.")
    return rank


def _leace(covariances: Covariances, concept: Tensor, rank: int | None) -> Projection:
    """Erase what tells a concept linearly, at the least mean squared change.

    A = W⁻¹·P·W, where WᵀW = Σ⁻¹ and P projects onto the columns of W·c. Here W = L⁻¹ of the Cholesky factor L of Σ,
    which differs from Σ^(−½) by a rotation, and so gives the same A.

    References
    ----------
    Belrose et al.: LEACE: Perfect linear concept erasure in closed form. NeurIPS 2023.
    """
    live = covariances.live
    scale = covariances.features.diagonal()[live].sqrt()
    correlations = covariances.features[live][:, live] / scale / scale[:, None]
    factor = _factor(correlations, covariances.precision)
    whitened = torch.linalg.solve_triangular(factor, concept[live] / scale[:, None], upper=False)
    vectors = _leading(whitened, covariances.precision)
    vectors = vectors[:, : _checked(rank or vectors.shape[1], vectors.shape[1], "leace")]
    left, right = (concept.new_zeros(len(live), vectors.shape[1]) for _ in range(2))
    left[live] = scale[:, None] * (factor @ vectors)
    right[live] = torch.linalg.solve_triangular(factor.T, vectors, upper=True) / scale[:, None]
    return Projection(covariances.mean, left, right)


def _iterated(covariances: Covariances, concept: Tensor, rank: int) -> Tensor:
    """Fit the linear readout of the concept, project its directions out, and fit again: the rank is that of all rounds.

    References
    ----------
    Venkataramanan et al.: Franca: Nested Matryoshka clustering for scalable visual representation learning. 2025;
    there by gradient descent.
    """
    n_columns = concept.shape[1]
    if rank % n_columns:
        raise ArgumentError(
            f"rank={rank}: 'iterated' takes out {n_columns} directions in each round, one for each target. "
            f"Choose a multiple of {n_columns}."
        )
    _checked(rank, int(covariances.live.sum()), "iterated")
    found = concept.new_zeros(len(concept), 0)
    for _ in range(rank // n_columns):
        features = _project(_project(covariances.features, found).T, found)
        cross = _project(concept, found)
        scale = features.diagonal().clamp(min=0).sqrt()
        scale = torch.where(scale > covariances.precision * scale.max(), scale, torch.inf)
        factor = _factor(features / scale / scale[:, None], covariances.precision)
        weights = torch.cholesky_solve(cross / scale[:, None], factor) / scale[:, None]
        vectors = _leading(_project(weights, found), covariances.precision)
        found = torch.cat([found, vectors], dim=1)
    return found


def _project(columns: Tensor, vectors: Tensor) -> Tensor:
    """Take orthonormal vectors out of columns, twice over, since rounding leaves a trace the first time."""
    for _ in range(2):
        columns = columns - vectors @ (vectors.T @ columns)
    return columns


def _factor(matrix: Tensor, precision: float) -> Tensor:
    """Return the Cholesky factor of a covariance, raised by the rounding of its sums, so that it has one.

    An eraser that is made of it erases exactly: only that its change is the least is true up to this.
    """
    rounding = precision * matrix.norm()
    for attempt in range(_ATTEMPTS):
        raised = matrix + torch.diag(torch.full_like(matrix.diagonal(), float(rounding) * 10**attempt))
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not failed:
            return factor
    raise IllConditionedError("the features' covariance has no Cholesky factor. Collect them in double precision.")


def _leading(columns: Tensor, precision: float) -> Tensor:
    """Return the left singular vectors of columns, the strongest first, as many as are more than rounding."""
    vectors, values, _ = torch.linalg.svd(columns, full_matrices=False)
    is_direction = _is_direction(values, precision)
    if not is_direction.any():
        raise ArgumentError(
            "targets: none varies on the grid of this layer together with a channel, so there is nothing to erase."
        )
    return vectors[:, is_direction]


def _is_direction(values: Tensor, precision: float) -> Tensor:
    return values > _NO_DIRECTION * precision * values[:1]


def _random(live: Tensor, rank: int, seed: int, like: Tensor) -> Tensor:
    """Return a random subspace of the channels that vary; in the others it would take nothing out."""
    drawn = np.random.default_rng(seed).standard_normal((int(live.sum()), rank))
    vectors = like.new_zeros(len(live), rank)
    vectors[live] = torch.linalg.qr(torch.from_numpy(drawn).to(like)).Q
    return vectors


def first_channels(covariances: Covariances, order: Sequence[int], count: int) -> Projection:
    """Return what sets the first channels of an order to 0."""
    chosen = torch.eye(len(covariances.mean), dtype=covariances.mean.dtype, device=covariances.mean.device)
    chosen = chosen[:, list(order)[:count]]
    return Projection(torch.zeros_like(covariances.mean), chosen, chosen)


def removed_variance(projection: Projection, covariances: Covariances) -> float:
    """Return the share of the variance of all channels that is gone: 0 for none, 1 for all; below 0 it has grown.

    Examples
    --------
    >>> first = torch.tensor([[1.0], [0.0]])
    >>> two = Covariances(torch.zeros(2), torch.eye(2), torch.zeros(2, 1), torch.ones(2) > 0, None, 1e-16)
    >>> removed_variance(Projection(torch.zeros(2), first, first), two)
    0.5
    """
    read = covariances.features @ projection.right
    inner = projection.right.T @ read
    removed = 2 * (read * projection.left).sum() - ((projection.left @ inner) * projection.left).sum()
    return float(removed / covariances.features.trace())
