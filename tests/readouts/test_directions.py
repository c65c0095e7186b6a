"""Covariances from sums, and the directions that follow from them."""

import pytest
import torch

from probe.errors import ArgumentError
from probe.readouts.directions import Covariances, find_directions, first_channels, removed_variance
from probe.readouts.erasers import ErasedPlace, erased
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
    variances = samples(maps).var(dim=0, correction=0)
    assert removed_variance(taken, found) == pytest.approx(float(variances[[3, 1]].sum() / variances.sum()))
    oblique = find_directions(found, "leace", concept=found.targets, rank=2, seed=0)
    after = samples(erased(maps, oblique, ErasedPlace("NCHW"))).var(dim=0, correction=0)
    assert removed_variance(oblique, found) == pytest.approx(float(1 - after.sum() / variances.sum()))
    nothing = first_channels(found, [3], 0)
    assert removed_variance(nothing, found) == 0


def test_random_directions_lie_in_the_channels_that_vary():
    maps = feature_maps()
    maps[:, 2:6] = 1.0
    found = covariances_of(maps)
    taken = find_directions(found, "random", concept=found.targets, rank=4, seed=0)
    assert (taken.left[2:6] == 0).all()
    assert removed_variance(taken, found) == pytest.approx(1)


def test_of_channels_that_do_not_vary_there_is_nothing_to_erase():
    found = covariances_of(torch.ones(10, 3, 6, 5, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="none of its channels varies"):
        find_directions(found, "leace", concept=found.targets, rank=None, seed=0)


def test_a_concept_that_nothing_tells_of():
    found = covariances_of(feature_maps())
    with pytest.raises(ArgumentError, match="none varies on the grid"):
        find_directions(found, "leace", concept=torch.zeros_like(found.targets), rank=None, seed=0)


def test_targets_that_say_the_same_have_one_direction():
    found = covariances_of(feature_maps())
    twice = torch.cat([found.targets[:, :1], -2 * found.targets[:, :1]], dim=1)
    assert find_directions(found, "leace", concept=twice, rank=None, seed=0).rank == 1
