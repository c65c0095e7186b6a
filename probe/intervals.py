"""Standard errors and intervals: the only home of the jackknife, of Student's t and of the level of confidence."""

from typing import Any

import numpy as np
from scipy.special import stdtrit

__all__ = ["CONFIDENCE", "half_width", "jackknife"]

CONFIDENCE = 0.95
"""Level of every interval."""


def jackknife(left_out: np.ndarray) -> np.ndarray:
    """Return the delete-one jackknife standard error of estimates that each left one fold out.

    Parameters
    ----------
    left_out
        Shape (fold, ...).

    Returns
    -------
    numpy.ndarray
        Shape (...). NaN for a single fold.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> means = (values.sum() - values) / 3
    >>> np.isclose(jackknife(means), values.std(ddof=1) / np.sqrt(4))
    np.True_
    """
    n_folds = len(left_out)
    if n_folds < 2:
        return np.full(np.shape(left_out)[1:], np.nan)
    return np.sqrt((n_folds - 1) * np.var(left_out, axis=0))


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
