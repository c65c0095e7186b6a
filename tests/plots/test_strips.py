"""Frames side by side."""

import numpy as np
import pytest

from probe.plots.strips import MOST_FRAMES, strip_of, strip_width


@pytest.mark.parametrize("n_frames", [1, 2, 7, 8, 9, 100])
def test_frames_stand_above_their_numbers(n_frames):
    values = np.arange(n_frames, dtype=float)[:, None, None] * np.ones((n_frames, 5, 12))
    image, middles, numbers = strip_of(values)
    assert len(numbers) == min(n_frames, MOST_FRAMES) and numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, n_frames - 1)
    for middle, number in zip(middles, numbers, strict=True):
        columns = image[:, int(middle - 5.5) : int(middle + 6.5)]
        assert columns.shape == (5, 12) and (columns == number).all()
    assert np.isnan(image).sum() == 5 * (len(numbers) - 1)
    assert strip_width(values.shape) == image.shape[1] / image.shape[0]


def test_a_map_without_frames_is_as_wide_as_it_is():
    assert strip_width((10, 25)) == 2.5
