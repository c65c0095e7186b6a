"""Standard errors and intervals: the only home of the jackknife, of Student's t and of the level of confidence."""

from typing import Any

import numpy as np
from scipy.special import betaincinv, stdtrit

__all__ = ["CONFIDENCE", "half_width", "jackknife", "mean_over_images", "proportion"]

CONFIDENCE = 0.95
"""Level of every interval."""


def jackknife(whole: np.ndarray, left_out: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the jackknife standard error of an estimate from those that each left one fold out.

    Folds need not be of one size (the delete-m_j jackknife); of equal folds it is the delete-one jackknife.

    Parameters
    ----------
    whole
        Shape (...). The estimate from all folds.
    left_out
        Shape (fold, ...). The estimates without each fold.
    sizes
        Shape (fold,). How much is in each fold, in images or samples.

    Returns
    -------
    numpy.ndarray
        Shape (...). NaN for a single fold.

    References
    ----------
    Busing, Meijer, van der Leeden: Delete-m jackknife for unequal m. Statistics and Computing 9 (1999).

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> means = (values.sum() - values) / 3
    >>> np.isclose(jackknife(values.mean(), means, np.ones(4)), values.std(ddof=1) / np.sqrt(4))
    np.True_
    """
    whole, left_out, sizes = np.asarray(whole), np.asarray(left_out), np.asarray(sizes, dtype=float)
    n_folds = len(left_out)
    if n_folds < 2:
        return np.full(whole.shape, np.nan)
    parts = (sizes.sum() / sizes).reshape(-1, *[1] * whole.ndim)  # as many as there would be, were all of this size
    pseudo_values = parts * whole - (parts - 1) * left_out
    estimate = n_folds * whole - ((1 - 1 / parts) * left_out).sum(axis=0)
    return np.sqrt(((pseudo_values - estimate) ** 2 / (parts - 1)).mean(axis=0))


def mean_over_images(values: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over images, and its jackknife error over units of them.

    Parameters
    ----------
    values
        Shape (image, ...); NaN is left out.
    units
        Shape (image,), whole numbers from 0: images of one unit are left out together.

    Returns
    -------
    mean, error : numpy.ndarray
        Shape (...). The error is NaN of fewer than two units.
    n_units : numpy.ndarray
        Shape (...). Number of units of which something is known.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, np.nan, 6.0])
    >>> mean, error, n_units = mean_over_images(values, np.arange(4))
    >>> mean.item(), n_units.item(), np.isclose(error, np.std([1, 2, 6], ddof=1) / np.sqrt(3)).item()
    (3.0, 3, True)
    """
    known = np.isfinite(values)
    shape = (int(np.max(units)) + 1, *values.shape[1:])
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, units, np.where(known, values, 0))
    np.add.at(counts, units, known)
    n_units = (counts > 0).sum(axis=0)
    mean, error = np.full(shape[1:], np.nan), np.full(shape[1:], np.nan)
    for place in np.ndindex(shape[1:]):
        part = (slice(None), *place)
        members = counts[part] > 0  # a unit of which nothing is known changes nothing when it is left out
        total, sizes = sums[part][members], counts[part][members]
        if len(sizes):
            mean[place] = total.sum() / sizes.sum()
        if len(sizes) > 1:
            error[place] = jackknife(mean[place], (total.sum() - total) / (sizes.sum() - sizes), sizes)
    return mean, error, n_units


def half_width(standard_error: Any, degrees: Any) -> Any:
    """Return half of the 95 % interval of an estimate, by Student's t.

    Parameters
    ----------
    standard_error
        Of the estimate; a number or an array.
    degrees
        Degrees of freedom of the error: folds − 1 of a jackknife, values − 1 of a mean.

    Examples
    --------
    >>> half_width(0.1, degrees=4).round(3)
    np.float64(0.278)
    """
    return stdtrit(degrees, (1 + CONFIDENCE) / 2) * standard_error


def proportion(share: Any, standard_error: Any, count: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a share of images, honest for few images and for shares of 0 and 1.

    It is the interval of Clopper and Pearson, for fewer images where the jackknife tells that they are not independent.

    Parameters
    ----------
    share
        From 0 to 1; a number or an array.
    standard_error
        Its jackknife error.
    count
        Number of images.

    Returns
    -------
    low, high : numpy.ndarray
        NaN where the share is.

    References
    ----------
    Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the binomial. Biometrika 1934.

    Examples
    --------
    >>> low, high = proportion(1.0, 0.0, count=100)
    >>> low.round(3), high
    (np.float64(0.964), np.float64(1.0))
    """
    share, standard_error = np.asarray(share, dtype=float), np.asarray(standard_error, dtype=float)
    binomial = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of shares of 0 and 1 all errors are 0 but for rounding.
        fewer = (binomial > 0) & (standard_error**2 * count > binomial)
        n = np.where(fewer, np.maximum(binomial / standard_error**2, 1), count)
        tail, k = (1 - CONFIDENCE) / 2, share * n
        low = np.where(k > 0, betaincinv(k, n - k + 1, tail), 0.0)
        high = np.where(k < n, betaincinv(k + 1, n - k, 1 - tail), 1.0)
    known = np.isfinite(share)
    return np.where(known, low, np.nan)[()], np.where(known, high, np.nan)[()]
