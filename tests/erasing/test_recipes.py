"""Which ways to erase are compared."""

import pytest
import torch

import probe
from probe.erasing.recipes import COMPARED, INTACT, Recipe, as_costly, directions_of, recipes_for
from probe.readouts.fitted_erasers import covariances_of
from tests.readouts.features import CHANNELS, feature_maps, positions, samples, statistics_of


@pytest.fixture(scope="module")
def statistics():
    return statistics_of(feature_maps())


def known(statistics):
    return covariances_of(statistics, statistics.layers[0], "natural", range(5))


def test_ranks_that_a_method_does_not_have_are_left_out(statistics):
    wanted = ([1, 2, 4, 7, 8, 40], ("row", "column"), "natural")
    ranks = {
        method: [recipe.rank for recipe in recipes_for(statistics, "layer", [method], *wanted)] for method in COMPARED
    }
    together = recipes_for(statistics, "layer", COMPARED, *wanted)
    assert {method: [one.rank for one in together if one.method == method] for method in COMPARED[:-1]} == {
        method: ranks[method] for method in COMPARED[:-1]
    }
    assert ranks == {
        "leace": [1, 2],
        "cells": [1, 2, 4, 7, 8],
        "iterated": [2, 4, 8],
        "mean_map": [1, 2, 4, 7, 8],
        "channels": [1, 2, 4, 7, 8],
    }


@pytest.mark.parametrize("method", ["leace", "iterated", "mean_map"])
def test_they_are_the_erasers_of_the_same_name(method, statistics):
    found = directions_of(statistics, Recipe(method, 2, "natural", ("row", "column")), known(statistics))
    eraser = probe.fit_eraser(statistics, "layer", method=method, rank=2, stimulus="natural")
    assert torch.equal(found.left, eraser.left) and torch.equal(found.right, eraser.right)


def test_intact_takes_nothing_and_channels_go_to_zero_in_the_order_of_their_correlation(statistics):
    maps = feature_maps()
    assert directions_of(statistics, Recipe(INTACT, 0, "natural", ("row",)), known(statistics)).rank == 0
    found = directions_of(statistics, Recipe("channels", 3, "natural", ("row", "column")), known(statistics))
    together = torch.cat([samples(maps), positions(maps)], dim=1).T.corrcoef()
    strongest = together[:CHANNELS, CHANNELS:].square().sum(dim=1).argsort(descending=True)[:3]
    assert found.left.nonzero()[:, 0].sort().values.tolist() == strongest.sort().values.tolist()
    assert (found.mean == 0).all()


def test_as_many_channels_cost_as_much_and_no_more_than_needed():
    maps = feature_maps()
    statistics = statistics_of(maps)
    (leace, *channels) = recipes_for(statistics, "layer", ["channels", "leace"], [2], ("row", "column"), "natural")
    wanted = as_costly(statistics, leace, known(statistics))
    assert [recipe.rank for recipe in channels] == sorted({2, wanted})
    variances = samples(maps).var(dim=0)
    together = torch.cat([samples(maps), positions(maps)], dim=1).T.corrcoef()
    order = together[:CHANNELS, CHANNELS:].square().sum(dim=1).argsort(descending=True)
    shares = (variances[order].cumsum(0) / variances.sum()).tolist()
    cost = probe.fit_eraser(statistics, "layer", stimulus="natural").erasure.cost
    assert shares[wanted - 1] >= cost and (wanted == 1 or shares[wanted - 2] < cost)


def test_channels_that_are_erased_are_as_costly_as_themselves():
    statistics = statistics_of(feature_maps())
    for count in (1, 3, CHANNELS):
        assert as_costly(statistics, Recipe("channels", count, "natural", ("row",)), known(statistics)) == count
