"""Ranges of image numbers hold the numbers that sets would."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from probe.images.numbering import as_ranges, common_numbers, missing_numbers, ranges_of_both

NUMBERS = st.lists(st.integers(0, 60), unique=True)


def numbers_in(ranges):
    held = list(chain(*ranges))
    assert len(held) == len(set(held))
    return set(held)


@given(NUMBERS, NUMBERS)
def test_they_hold_what_sets_hold(first, second):
    ours, theirs = as_ranges(first), as_ranges(second)
    assert numbers_in(ours) == set(first)
    assert numbers_in(ranges_of_both(ours, theirs)) == {*first, *second}
    assert common_numbers(ours, theirs) == sorted({*first} & {*second})
    assert missing_numbers(ours, theirs) == sorted({*second} - {*first})


def test_a_million_images_are_few_ranges():
    """In the order of reading: fold by fold, every eighth of them."""
    order = sorted(range(3, 1_000_000, 8), key=lambda number: number % 5)
    assert len(as_ranges(order[:110_000])) == 5
    assert as_ranges(order) == [range(3, 999_996, 8)]


def test_shares_that_are_merged_one_after_the_other_end_as_one_range():
    held = []
    for place in (2, 0, 3, 1):
        held = ranges_of_both(held, [range(place, 1_000_000, 4)])
    assert held == [range(1_000_000)]
