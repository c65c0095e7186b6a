"""Cells near each border, and what differs there, against the formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from probe.analyses.border_reach.profiles import BorderProfile, Site, align, by_distance, reach
from probe.models.capture import survey
from probe.testing import padded_net

LAYER = survey(nn.ReLU(), torch.ones(1, 3, 7, 6))[-1]


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


def test_differences_are_mean_squares_over_channels_relative_to_the_variance_within_a_channel():
    generator = np.random.default_rng(0)
    alone, inside = generator.normal(size=(2, 5, 3, 7, 6)) * [[[1.0]], [[2.0]], [[5.0]]] + 3
    profile = BorderProfile(Site(LAYER, (1, 1), (slice(0, 7), slice(0, 6))))
    for part in (slice(0, 2), slice(2, 5)):
        profile.update(torch.from_numpy(alone[part]), torch.from_numpy(inside[part]))
    assert profile.n_images == 5
    signal = inside.var(axis=(0, 2, 3)).mean()
    assert profile.signal() == pytest.approx(signal)
    squares = ((alone - inside) ** 2).mean(axis=1)
    difference, error = profile.difference()
    for side in range(4):
        for distance in range(3):
            by_image = squares[:, by_distance(7, 6)[side, distance]].mean(axis=1)
            assert difference[side, distance] == pytest.approx(by_image.mean() / signal)
            assert error[side, distance] == pytest.approx(by_image.std(ddof=1) / 5**0.5 / signal)
    by_image = squares.mean(axis=(1, 2))
    assert profile.share() == pytest.approx((by_image.mean() / signal, by_image.std(ddof=1) / 5**0.5 / signal))


def test_one_image_has_no_error_and_dead_maps_have_no_share():
    maps = torch.randn(1, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    profile = BorderProfile(Site(LAYER, (1, 1), (slice(0, 7), slice(0, 6))))
    profile.update(maps, maps + 1)
    assert profile.share()[0] > 0 and np.isnan(profile.share()[1])
    dead = BorderProfile(Site(LAYER, (1, 1), (slice(0, 7), slice(0, 6))))
    dead.update(maps, torch.ones_like(maps))
    assert np.isnan(dead.share()).all() and np.isnan(dead.difference()).all()


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
