"""Which of several classes vectors belong to: a linear discriminant, cross-validated over folds of images.

Linear discriminant analysis is the linear classifier in closed form: with C(within) the covariance about the class
means, class k scores xᵀw_k − ½ m_kᵀw_k with w_k = (C(within) + alpha·diag C)⁻¹ m_k. Classes are taken as equally
likely: a class that is by chance more common in the training folds is less common in the held-out one. Like the ridge
readouts of maps it does not depend on the scales of the features, and follows from sums that are downdated fold by
fold. Least squares on class indicators would be as fast, but never predicts classes that lie between others, which
matters where there are few features; logistic regression would take many passes for the same answer.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from probe.errors import ArgumentError
from probe.sums.rounding import ROUNDING_ERRORS

__all__ = ["count_correct"]

_NEGLIGIBLE = 1e-9  # of the variance over all images, which is 1


@dataclass(frozen=True)
class _Sums:
    """Sums over some vectors: `counts` (class,), `totals` (class, feature), `squares` (feature, feature)."""

    counts: np.ndarray
    totals: np.ndarray
    squares: np.ndarray

    def without(self, other: "_Sums") -> "_Sums":
        return _Sums(self.counts - other.counts, self.totals - other.totals, self.squares - other.squares)


def count_correct(
    vectors: np.ndarray,
    classes: np.ndarray,
    folds: np.ndarray,
    *,
    n_classes: int,
    alpha: float = 1e-4,
    precision: np.dtype | type = np.float32,
) -> np.ndarray:
    """Count the held-out vectors whose class a linear discriminant predicts, fold by fold.

    Parameters
    ----------
    vectors
        Shape (image, feature), finite.
    classes, folds
        Shape (image,): class and fold of each, from 0. Every class is in at least two folds.
    n_classes
        Number of classes.
    alpha
        Penalty, relative to the variance of each feature.
    precision
        Of the activations: features that vary by less than their rounding errors are left out.

    Returns
    -------
    numpy.ndarray
        Shape (fold,).

    Raises
    ------
    ArgumentError
        If `alpha` is too small for features that depend on each other.

    See Also
    --------
    sklearn.discriminant_analysis.LinearDiscriminantAnalysis : the same, with this covariance, on standardised vectors.

    References
    ----------
    Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd edition 2009, section 4.3.

    Examples
    --------
    >>> vectors = np.array([[0.0], [0.1], [1.0], [1.1], [2.0], [2.1]])
    >>> count_correct(vectors, np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1]), n_classes=3)
    array([3, 3])
    """
    standardised = _standardised(vectors, precision)
    numbers = np.unique(folds)
    by_fold = [_sums(standardised[folds == fold], classes[folds == fold], n_classes) for fold in numbers]
    everything = _Sums(
        *(np.sum([getattr(s, name) for s in by_fold], axis=0) for name in ("counts", "totals", "squares"))
    )
    correct = []
    for fold, sums in zip(numbers, by_fold, strict=True):
        weights, offsets = _fit(everything.without(sums), alpha)
        held_out = folds == fold
        predicted = (standardised[held_out] @ weights + offsets).argmax(axis=1)
        correct.append(int((predicted == classes[held_out]).sum()))
    return np.array(correct)


def _standardised(vectors: np.ndarray, precision: np.dtype | type) -> np.ndarray:
    """Bring the features that vary to mean 0 and variance 1, for the sake of rounding; scores do not depend on it."""
    vectors = vectors.astype(np.float64)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    live = deviation > ROUNDING_ERRORS * np.finfo(precision).eps * (np.abs(mean) + deviation)
    return (vectors[:, live] - mean[live]) / deviation[live]


def _sums(vectors: np.ndarray, classes: np.ndarray, n_classes: int) -> _Sums:
    members = np.eye(n_classes)[classes]
    return _Sums(members.sum(axis=0), members.T @ vectors, vectors.T @ vectors)


def _fit(sums: _Sums, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of shape (feature, class) and offsets of shape (class,)."""
    count = sums.counts.sum()
    means = sums.totals / sums.counts[:, None]
    if means.size == 0:  # which older versions of scipy cannot solve for
        return means.T, np.zeros(len(means))
    mean = sums.totals.sum(axis=0) / count
    variances = sums.squares.diagonal() / count - mean**2
    within = (sums.squares - means.T @ (sums.counts[:, None] * means)) / count
    # A feature may vary in the held-out fold alone; over all images its variance is 1.
    live = variances > _NEGLIGIBLE
    scales = np.where(live, 1 / np.sqrt(np.where(live, variances, 1)), 0)
    within *= np.outer(scales, scales)
    within[np.diag_indices_from(within)] += np.where(live, alpha, 1)
    try:
        weights = scales[:, None] * cho_solve(cho_factor(within, overwrite_a=True), scales[:, None] * means.T)
    except LinAlgError:
        raise ArgumentError(
            f"alpha={alpha:g} is too small for channels that depend on each other. Pass more images or a larger alpha=."
        ) from None
    return weights, -(means * weights.T).sum(axis=1) / 2
