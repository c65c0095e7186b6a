"""Image numbers: a few of many, and all of them as a few ranges."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["as_ranges", "common_numbers", "evenly_spaced", "first_few", "missing_numbers", "ranges_of_both"]

_SHOWN = 5


def evenly_spaced(length: int, most: int | None) -> list[int]:
    """Return the numbers below `length`, or `most` of them, evenly spaced.

    Examples
    --------
    >>> evenly_spaced(7, most=3), evenly_spaced(2, most=None)
    ([0, 2, 4], [0, 1])
    """
    count = length if most is None else min(length, most)
    return [rank * length // count for rank in range(count)]


def as_ranges(numbers: Iterable[int]) -> list[range]:
    """Return ranges of the same numbers, few where the numbers rise in equal steps, and one where they all do.

    Parameters
    ----------
    numbers
        Each once. Those of a data set that is read fold by fold take a range for each fold.

    Examples
    --------
    >>> as_ranges([0, 5, 10, 1, 6])
    [range(0, 11, 5), range(1, 7, 5)]
    >>> as_ranges([0, 4, 8, 2, 6])
    [range(0, 9, 2)]
    """
    runs: list[tuple[int, int, int]] = []
    for number in numbers:
        if runs:
            first, last, step = runs[-1]
            if number > last and number - last == (step or number - last):
                runs[-1] = (first, number, number - last)
                continue
        runs.append((number, number, 0))
    return _tidy([range(first, last + 1, step or 1) for first, last, step in runs])


def ranges_of_both(first: Sequence[range], second: Sequence[range]) -> list[range]:
    """Return the numbers that are in one of two lists of ranges, or in both.

    Examples
    --------
    >>> ranges_of_both([range(0, 9)], [range(9, 23)]), ranges_of_both([range(0, 8, 4)], [range(1, 8, 4)])
    ([range(0, 23)], [range(0, 5, 4), range(1, 6, 4)])
    """
    if not first or not second:
        return [*first, *second]
    if common_numbers(first, second):
        low, held = _held([*first, *second])
        return as_ranges((low + np.flatnonzero(held)).tolist())
    return _tidy([*first, *second])


def common_numbers(first: Sequence[range], second: Sequence[range]) -> list[int]:
    """Return the numbers that are in both, in order.

    Examples
    --------
    >>> common_numbers([range(0, 10, 2)], [range(3), range(7, 9)])
    [0, 2, 8]
    """
    if not first or not second:
        return []
    low, held = _held([*first, *second])
    twice = np.zeros_like(held)
    for numbers in second:
        twice[_places(numbers, low)] = True
    held[:] = False
    for numbers in first:
        held[_places(numbers, low)] = True
    return (low + np.flatnonzero(held & twice)).tolist()


def missing_numbers(present: Sequence[range], whole: Sequence[range]) -> list[int]:
    """Return the numbers of `whole` that are not present, in order.

    Examples
    --------
    >>> missing_numbers([range(0, 10, 2)], [range(6)])
    [1, 3, 5]
    """
    if not whole:
        return []
    low, held = _held([*whole, *present])
    missing = np.zeros_like(held)
    for numbers in whole:
        missing[_places(numbers, low)] = True
    for numbers in present:
        missing[_places(numbers, low)] = False
    return (low + np.flatnonzero(missing)).tolist()


def first_few(numbers: Sequence[int]) -> str:
    """Return numbers as text, the first ones of many.

    Examples
    --------
    >>> first_few([4]), first_few(range(2, 200, 2))
    ('image 4', 'images 2, 4, 6, 8, 10 and 94 more')
    """
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"image{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _tidy(ranges: Sequence[range]) -> list[range]:
    """Return one range in place of several that have no number in common, if it is the same numbers."""
    found = [range(numbers[0], numbers[-1] + 1, numbers.step) for numbers in ranges if numbers]
    if not found:
        return []
    low, high = min(numbers[0] for numbers in found), max(numbers[-1] for numbers in found)
    steps = [step for numbers in found for step in (numbers[0] - low, numbers.step if len(numbers) > 1 else 0)]
    step = math.gcd(*steps) or 1
    if sum(map(len, found)) == (high - low) // step + 1:
        return [range(low, high + 1, step)]
    return sorted(found, key=lambda numbers: (numbers.start, numbers.stop))


def _held(ranges: Sequence[range]) -> tuple[int, np.ndarray]:
    """Return the least number, and for each number from there on whether it is in one of the ranges."""
    low, high = min(numbers[0] for numbers in ranges if numbers), max(numbers[-1] for numbers in ranges if numbers)
    held = np.zeros(high + 1 - low, dtype=bool)
    for numbers in ranges:
        held[_places(numbers, low)] = True
    return low, held


def _places(numbers: range, low: int) -> slice:
    if not numbers:
        return slice(0)
    return slice(numbers.start - low, numbers.stop - low, numbers.step)
