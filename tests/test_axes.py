"""The names of axes."""

import pytest

from probe.axes import axes_of_size, sized


@pytest.mark.parametrize(
    ("size", "names"), [((4, 5), ("row", "column")), ((3, 4, 5), ("frame", "row", "column")), ((1,), ("column",))]
)
def test_the_last_axes_are_rows_and_columns(size, names):
    assert axes_of_size(size) == names


def test_sizes_are_written_with_crosses():
    assert sized((3, 4, 5)) == "3×4×5"
