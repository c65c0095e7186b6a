"""Means with their intervals, and how pages word them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from probe.intervals import half_width

__all__ = ["NEGLIGIBLE", "Estimate", "bars", "estimate", "interval", "joined", "written"]

NEGLIGIBLE = 0.01
"""An R² or a difference below this, in its own units, is called none, whatever its error."""


_DECIMALS = 3  # of numbers without an error
_MOST_DECIMALS = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` independent values, ± `half_width` of its 95 % t interval.

    Of a single value it is NaN, unless the value has an error of its own.

    Of two values the interval is twelve times as wide as their spread, so `pair` holds them, and they are shown in
    its place. `within` is what the mean can be at all, as 0 and 100 of a percentage: an interval that goes beyond is
    cut, and shown by its ends.
    """

    mean: float
    half_width: float
    count: int
    pair: tuple[float, ...] = ()
    within: tuple[float, float] | None = None

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
        return self.formatted()

    def formatted(
        self, *, decimals: int = _DECIMALS, sign: bool = False, within: tuple[float, float] | None = None
    ) -> str:
        """Return the mean and its interval, rounded to two significant digits of the interval's half width.

        Parameters
        ----------
        decimals
            Of a mean without an interval. A pair is rounded to two significant digits of its difference, and to
            these decimals at most.
        sign
            Write a plus sign before what is above 0.
        within
            In place of its own.

        Examples
        --------
        >>> Estimate(0.5123, 0.0247, 5).formatted().replace("\N{NO-BREAK SPACE}", " ")
        '0.512 ± 0.025'
        >>> Estimate(97.0, 8.1, 3).formatted(within=(0, 100))
        '97.0 (88.9 to 100.0)'
        >>> estimate(np.array([50.0, 50.0])).formatted(), estimate(np.array([0.81, 0.36])).formatted()
        ('50 (both)', '0.58 (0.81 and 0.36)')
        """
        within = within or self.within
        if not np.isfinite(self.mean):
            return "not known"
        if len(self.pair) == 2:
            decimals = min(decimals, _decimals_of(self.pair))
            first, second = (written(value, decimals) for value in self.pair)
            both = "both" if first == second else f"{first} and {second}"
            return f"{written(self.mean, decimals, sign=sign)} ({both})"
        if np.isnan(self.half_width):
            return written(self.mean, decimals, sign=sign)
        if self.half_width >= 0.5 * 10.0**-_MOST_DECIMALS:
            decimals = int(np.clip(1 - np.floor(np.log10(self.half_width)), 0, _MOST_DECIMALS))
        elif self.half_width == 0 and float(self.mean).is_integer():
            decimals = 0
        mean = written(self.mean, decimals, sign=sign)
        if within is not None and (self.low < within[0] or self.high > within[1]):
            low, high = (written(float(end), decimals) for end in np.clip([self.low, self.high], *within))
            return f"{mean} ({low} to {high})"
        return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{written(self.half_width, decimals)}"


def _decimals_of(pair: tuple[float, ...]) -> int:
    """Return decimals that leave two significant digits of the difference; of equal whole numbers none."""
    difference = abs(pair[1] - pair[0])
    if difference:
        return max(int(1 - np.floor(np.log10(difference))), 0)
    return 0 if float(pair[0]).is_integer() else _MOST_DECIMALS


def bars(estimates: Sequence[Estimate], within: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
    """Return how far error bars reach below and above the means, shape (2, estimate); 0 where there is no error.

    They end where the interval does; of two values, at these.

    Parameters
    ----------
    estimates
        What is drawn.
    within
        What the means can be at all, as in `Estimate.formatted`.

    Examples
    --------
    >>> bars([Estimate(97.0, 8.0, 3), estimate(np.array([40.0, 60.0]))], within=(0, 100)).tolist()
    [[8.0, 10.0], [3.0, 10.0]]
    """
    means = np.array([one.mean for one in estimates])
    ends = np.array([(min(one.pair), max(one.pair)) if one.pair else (one.low, one.high) for one in estimates])
    low, high = np.clip(ends.reshape(-1, 2), *within).T
    return np.nan_to_num([means - low, high - means])


def written(value: float, decimals: int = _DECIMALS, *, sign: bool = False) -> str:
    """Write a number with a true minus sign, and say so where it is none.

    Examples
    --------
    >>> written(-0.25), written(float("nan"))
    ('−0.250', 'not known')
    """
    if not np.isfinite(value):
        return "not known"
    return format(value, f"{'+' if sign else ''}z.{decimals}f").replace("-", "−")


def estimate(
    values: np.ndarray, within: tuple[float, float] | None = None, *, errors: np.ndarray | None = None, degrees: int = 0
) -> Estimate:
    """Return the mean of independent values with its 95 % t interval; values that are not finite are left out.

    Parameters
    ----------
    values
        Of networks, one each.
    within
        What the mean can be at all.
    errors
        Standard error of each value over images, with so many `degrees` of freedom. It gives the interval of a single
        value, which has no spread. It is 0 for shares of 0 and 1, which have no error, and gives none.

    Examples
    --------
    >>> round(estimate(np.array([0.1, 0.2, 0.3])).half_width, 3)
    0.248
    >>> round(estimate(np.array([0.2, np.nan]), errors=np.array([0.01, np.nan]), degrees=499).half_width, 4)
    0.0196
    """
    given = np.asarray(values, dtype=float).ravel()
    is_known = np.isfinite(given)
    known = given[is_known]
    if known.size == 1 and errors is not None:
        error = float(np.ravel(errors)[is_known][0])
        half = float(half_width(error, max(degrees, 1))) if error > 0 else np.nan
        return Estimate(float(known[0]), half, 1, within=within)
    if known.size < 2:
        return Estimate(float(known[0]) if known.size else np.nan, np.nan, known.size, within=within)
    error = known.std(ddof=1) / np.sqrt(known.size)
    half = interval(0, error, degrees=known.size - 1).half_width
    return Estimate(float(known.mean()), half, known.size, tuple(known.tolist()) if known.size == 2 else (), within)


def interval(mean: float, standard_error: float, *, degrees: int) -> Estimate:
    """Return a mean with its 95 % interval, Student's t with so many degrees of freedom.

    Examples
    --------
    >>> round(interval(0.5, 0.1, degrees=4).half_width, 3)
    0.278
    """
    return Estimate(float(mean), float(half_width(standard_error, degrees)), int(np.isfinite(mean)))


def joined(words: Iterable[str]) -> str:
    """Join words as in a sentence.

    Examples
    --------
    >>> joined(["zeros", "partial", "full"])
    'zeros, partial and full'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
