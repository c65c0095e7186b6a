"""Means with their intervals, and how pages word them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from probe.intervals import half_width

__all__ = ["NEGLIGIBLE", "Estimate", "estimate", "interval", "listed"]

NEGLIGIBLE = 0.01
"""An R² or a difference below this, in its own units, is called none, whatever its error."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` independent values, ± `half_width` of its 95 % t interval (NaN for a single value)."""

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself where there is no error."""
        return self.mean - np.nan_to_num(self.half_width)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself where there is no error."""
        return self.mean + np.nan_to_num(self.half_width)

    @property
    def is_known(self) -> bool:
        """Whether there is a mean."""
        return self.count > 0

    @property
    def is_none(self) -> bool:
        """Whether it is so small, or below 0, that it counts for nothing."""
        is_narrow = np.nan_to_num(self.half_width) < NEGLIGIBLE
        return self.is_known and (self.high < NEGLIGIBLE or (is_narrow and abs(self.mean) < NEGLIGIBLE))

    @property
    def is_present(self) -> bool:
        """Whether it is above 0 beyond its error, and not negligible."""
        return self.is_known and not self.is_none and self.low > 0

    @property
    def is_tie(self) -> bool:
        """Whether, as a difference, it cannot be told from 0."""
        if np.isnan(self.half_width):
            return abs(self.mean) < NEGLIGIBLE
        return self.low <= 0 <= self.high

    @property
    def differs(self) -> bool:
        """Whether, as a difference, it can be told from 0, and is not negligible."""
        return self.is_known and not self.is_tie and abs(self.mean) >= NEGLIGIBLE

    def __str__(self) -> str:
        return self.told("z.3f")

    def told(self, form: str) -> str:
        """Return the mean in a format, and its interval, where there is one, in as many decimals."""
        mean = format(self.mean, form).replace("-", "−")
        if np.isnan(self.half_width):
            return mean
        decimals = form.rpartition(".")[2]
        return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{format(self.half_width, f'.{decimals}')}"


def estimate(values: np.ndarray) -> Estimate:
    """Return the mean of independent values with its 95 % t interval; values that are not finite are left out.

    Examples
    --------
    >>> round(estimate(np.array([0.1, 0.2, 0.3])).half_width, 3)
    0.248
    """
    known = np.asarray(values, dtype=float).ravel()
    known = known[np.isfinite(known)]
    if known.size < 2:
        return Estimate(float(known[0]) if known.size else np.nan, np.nan, known.size)
    error = known.std(ddof=1) / np.sqrt(known.size)
    return Estimate(float(known.mean()), interval(0, error, degrees=known.size - 1).half_width, known.size)


def interval(mean: float, standard_error: float, *, degrees: int) -> Estimate:
    """Return a mean with its 95 % interval, Student's t with so many degrees of freedom.

    Examples
    --------
    >>> round(interval(0.5, 0.1, degrees=4).half_width, 3)
    0.278
    """
    return Estimate(float(mean), float(half_width(standard_error, degrees)), int(np.isfinite(mean)))


def listed(words: Iterable[str]) -> str:
    """Join words as in a sentence.

    Examples
    --------
    >>> listed(["zeros", "partial", "full"])
    'zeros, partial and full'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
