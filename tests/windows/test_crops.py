"""Cells near each side, those that a crop shares with a larger image, and how far they read beyond it."""

import numpy as np
import pytest
import torch
from torch import nn

from probe.errors import ModelError
from probe.models.survey import survey
from probe.testing import padded_net
from probe.windows.crops import SIDES, align, by_distance, middle_third, reach, reading_beyond


def test_sides_are_told_apart_in_the_middle_third():
    masks = by_distance(7, 6)
    assert masks.shape == (4, 3, 7, 6)
    assert masks[0, 1].nonzero()[0].tolist() == [1, 1] and masks[0, 1].nonzero()[1].tolist() == [2, 3]
    assert masks[1, 2].nonzero()[0].tolist() == [4, 4] and masks[1, 2].nonzero()[1].tolist() == [2, 3]
    assert masks[2, 0].nonzero()[0].tolist() == [2, 3, 4] and masks[2, 0].nonzero()[1].tolist() == [0, 0, 0]
    assert masks[3, 0].nonzero()[0].tolist() == [2, 3, 4] and masks[3, 0].nonzero()[1].tolist() == [5, 5, 5]
    assert by_distance(1, 1).all() and by_distance(2, 2).sum() == 8


@pytest.mark.parametrize(
    ("difference", "cells"),
    [([0.5, 0.1, 0.0], 1), ([0.0, 0.0, 0.5], 3), ([0.1, 0.1, 0.1], 0), ([0.5, 0.5, 0.5], 3), ([0.2, np.nan, 0.2], 3)],
)
def test_the_reach_is_up_to_the_last_cell_above_the_threshold(difference, cells):
    assert reach(np.array(difference), 0.1) == cells


def test_cells_of_the_crop_are_found_in_the_larger_map():
    net = nn.Sequential(*padded_net(depth=1), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d(1))
    crop, context = (survey(net, torch.zeros(1, 3, size, size)) for size in (16, 16 + 2 * 6))
    sites, skipped = align(crop, context, margin=6)
    found = {site.layer.name: (site.stride, site.window) for site in sites}
    assert found["0"] == ((1, 1), (slice(6, 22), slice(6, 22)))
    assert found["2"] == ((2, 2), (slice(3, 11), slice(3, 11)))
    assert skipped["3"] == "its map does not grow with the image"
    assert align(crop, survey(net, torch.zeros(1, 3, 26, 26)), margin=5)[1]["2"].startswith("its total stride does not")
    assert align([], context, margin=6) == (
        [],
        dict.fromkeys([layer.name for layer in context], "it has no map of the crop"),
    )


def test_the_middle_is_that_of_both_axes():
    found = middle_third(7, 4)
    assert found.nonzero()[0].tolist() == [2, 2, 3, 3, 4, 4] and found.nonzero()[1].tolist() == [1, 2] * 3
    assert middle_third(1, 1).all() and middle_third(2, 2).all()


@pytest.mark.parametrize(
    ("net", "cells"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), [1, 1, 1, 1]),
        (nn.Sequential(nn.Conv2d(3, 4, (5, 1), padding=(2, 0))), [2, 2, 0, 0]),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=4, dilation=4)), [4, 4, 4, 4]),
        (nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, padding=1)), [2, 1, 2, 1]),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), [0, 0, 0, 0]),
    ],
    ids=["3x3", "5x1", "dilated", "strided", "1x1"],
)
def test_windows_read_beyond_the_crop_as_their_kernels_tell(net, cells):
    crop, context = survey(net, torch.zeros(1, 3, 16, 16)), survey(net, torch.zeros(1, 3, 32, 32))
    outside = torch.ones(1, 3, 32, 32)
    outside[..., 8:-8, 8:-8] = 0
    last = [layer for layer in context if layer.name == str(len(net) - 1)]
    sites, _ = align(crop, last, margin=8)
    found = reading_beyond(net, sites, outside)
    assert list(found) == [last[0].name] and found[last[0].name].tolist() == cells and len(SIDES) == 4


def test_attention_cannot_be_followed():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Softmax(-1), nn.Unflatten(2, (16, 16)))
    context = survey(net, torch.zeros(1, 3, 16, 16))
    with pytest.raises(ModelError, match="paths cannot be counted"):
        reading_beyond(net, align(context, [], margin=8)[0] or [], torch.ones(1, 3, 16, 16))
