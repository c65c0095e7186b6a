"""Covariances from sums, and the directions that follow from them."""

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError
from probe.readouts.directions import Covariances, find_directions, first_channels, removed_variance
from tests.readouts.features import CHANNELS, feature_maps, positions, samples, statistics_of

KEY = ("natural", "layer")


def covariances_of(maps, folds=range(5)):
    statistics = statistics_of(maps)
    return Covariances.of(statistics.grams[KEY], statistics.moments[KEY], list(folds), 2)


@pytest.mark.parametrize("folds", [range(5), [1, 4]])
def test_they_are_those_of_the_samples(folds):
    maps = feature_maps()
    chosen = torch.cat([maps[fold::5] for fold in folds])
    features, values = samples(chosen), positions(chosen)
    found = covariances_of(maps, folds)
    assert torch.allclose(found.mean, features.mean(dim=0), atol=1e-12)
    assert torch.allclose(found.features, features.T.cov(correction=0), atol=1e-10)
    together = torch.cat([features, values / values.std(dim=0, correction=0)], dim=1).T.cov(correction=0)
    assert torch.allclose(found.targets, together[:CHANNELS, CHANNELS:], atol=1e-10)
    means = chosen.mean(dim=0).flatten(1)
    assert torch.allclose(found.maps, means - means.mean(dim=1, keepdim=True), atol=1e-10)


def test_directions_are_projectors_that_leave_the_mean():
    found = covariances_of(feature_maps())
    for method, concept in (("leace", found.targets), ("iterated", found.targets), ("mean_map", found.maps)):
        projection = find_directions(found, method, concept=concept, rank=2, seed=0)
        assert torch.allclose(projection.right.T @ projection.left, torch.eye(2, dtype=torch.float64), atol=1e-9)
        assert torch.equal(projection.mean, found.mean)


def test_the_variance_that_is_removed():
    maps = feature_maps()
    found = covariances_of(maps)
    taken = first_channels(found, [3, 1, 0], 2)
    energy = samples(maps).square().mean(dim=0)[[3, 1]].sum() / samples(maps).var(dim=0, correction=0).sum()
    assert removed_variance(taken, found) == pytest.approx(float(energy))
    nothing = first_channels(found, [3], 0)
    assert removed_variance(nothing, found) == 0


def test_a_concept_that_nothing_tells_of():
    found = covariances_of(feature_maps())
    with pytest.raises(ArgumentError, match="none varies on the grid"):
        find_directions(found, "leace", concept=torch.zeros_like(found.targets), rank=None, seed=0)


def test_targets_that_say_the_same_have_one_direction():
    found = covariances_of(feature_maps())
    twice = torch.cat([found.targets[:, :1], -2 * found.targets[:, :1]], dim=1)
    assert find_directions(found, "leace", concept=twice, rank=None, seed=0).rank == 1
    assert np.isclose(float(found.features.trace()), float(found.features.diagonal().sum()))
