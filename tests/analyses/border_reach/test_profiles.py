"""Cells near each border, and what differs there, against the formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from probe.analyses.border_reach.profiles import BorderProfile
from probe.models.survey import survey
from probe.windows.crops import Site, by_distance

LAYER = survey(nn.ReLU(), torch.ones(1, 3, 7, 6))[-1]


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
