"""Arguments that are whole numbers: Python's and NumPy's alike."""

import numpy as np
import pytest
import torch

import probe
from probe.analyses import rook
from probe.checks import is_whole, whole_number
from probe.errors import ArgumentError
from probe.images.canvases import grid_along
from probe.testing import noise_images, padded_net


@pytest.mark.parametrize("value", [4, np.int64(4), np.uint8(4)])
def test_whole_numbers_become_pythons_own(value):
    found = whole_number("frames", value, 4)
    assert found == 4 and type(found) is int and is_whole(value)


@pytest.mark.parametrize("value", [True, np.True_, 4.0, np.float64(4), "4", None, torch.ones(2), 3])
def test_others_and_smaller_ones_are_refused(value):
    with pytest.raises(ArgumentError, match=r"frames=.*: expected None or a whole number of at least 4, better 20\.$"):
        whole_number("frames", value, 4, otherwise="None or ", better=", better 20")


def test_measurements_take_the_integers_of_numpy():
    model, images = padded_net(depth=1), noise_images(60, 8)
    given = {"batch_size": 16, "max_images": 50, "seed": 3, "folds": 3}
    expected = probe.layerwise(model, images, progress=False, **given)
    found = probe.layerwise(model, images, progress=False, **{name: np.int64(value) for name, value in given.items()})
    assert found.equals(expected) and found.attrs["settings"] == expected.attrs["settings"]
    pooled = [probe.pooled(model, images, grid=grid, progress=False) for grid in (2, np.int64(2), (np.int64(2), 2))]
    assert pooled[0].equals(pooled[1]) and pooled[0].equals(pooled[2])
    assert pooled[0].attrs["settings"] == pooled[1].attrs["settings"]
    assert grid_along(np.int64(3), 2) == (3, 3)
    ranking = probe.rank_channels(model, images, "conv1", method="omega2", progress=False)
    probe.plot_ranking(ranking, named=np.int64(2))


@pytest.mark.parametrize("seeds", [2.5, True, "3", 0])
def test_studies_take_whole_numbers_of_seeds_alone(seeds):
    with pytest.raises(ArgumentError, match=f"seeds={seeds!r}: expected a whole number of at least 1"):
        rook.run(preset="tiny", seeds=seeds, progress=False)
