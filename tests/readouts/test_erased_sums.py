"""Sums after erasing, against the sums of features that were erased one by one."""

import pytest
import torch

import probe
from probe.readouts.erased_sums import cells_gram, erased_gram, of_neighbourhoods
from probe.readouts.erasers import ErasedPlace, Projection, erased
from probe.sums.gram import symmetric
from probe.testing import CoordinateNet
from tests.readouts.features import CHANNELS, feature_maps, samples, statistics_of

KEY = ("natural", "layer")


def projection(rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(CHANNELS, rank, generator=generator, dtype=torch.float64) for _ in range(2))
    return Projection(torch.randn(CHANNELS, generator=generator, dtype=torch.float64), left / 4, right / 4)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_they_are_the_sums_of_erased_features(rank):
    maps, taken = feature_maps(), projection(rank)
    found = erased_gram(statistics_of(maps).grams[KEY], taken, [1, 3], 2)
    of_erased = statistics_of(erased(maps, taken, ErasedPlace("NCHW"))).grams[KEY]
    expected = erased_gram(of_erased, projection(0), [1, 3], 2)
    expected._move_pilot(found.pilot - expected.pilot)
    for fold in (0, 1):
        ours, theirs = (symmetric(gram.upper([fold])) for gram in (found, expected))
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-7)
    assert found.totals.shape[1] == 1 + 2 + CHANNELS


def test_a_channel_of_which_nothing_is_left_is_dead():
    net, images = CoordinateNet(), torch.rand(20, 3, 1, 1).expand(20, 3, 8, 8)
    statistics = probe.collect(net, images, layers="identity", progress=False)
    eraser = probe.fit_eraser(statistics, "identity", stimulus="natural")
    gram = erased_gram(statistics.grams["natural", "identity"], eraser.projection, range(5), 2)
    assert (gram.squares[:, -2:] == 0).all() and (gram.squares[:, -5:-2].sum(dim=0) > 0).all()


def test_little_is_not_nothing():
    """Differences of channels that are almost alike are small beside them, and still told apart."""
    maps = feature_maps(dtype=torch.float32)
    pair = torch.stack([maps[:, 0] + 0.015 * maps[:, 1], maps[:, 0] - 0.015 * maps[:, 1]], dim=1)
    both = torch.full((2, 1), 0.5**0.5, dtype=torch.float64)
    gram = erased_gram(statistics_of(pair).grams[KEY], Projection(torch.zeros(2).double(), both, both), range(5), 0)
    assert (gram.squares.sum(dim=0)[-2:] > 0).all()


def test_sums_of_every_position():
    maps = feature_maps()
    statistics = statistics_of(maps)
    gram = cells_gram(statistics.grams[KEY], statistics.moments[KEY])
    n_cells = maps.shape[2] * maps.shape[3]
    for fold in range(5):
        chosen = maps[fold::5]
        which = torch.eye(n_cells, dtype=torch.float64).repeat(len(chosen), 1)
        features = samples(chosen) - gram.pilot
        columns = torch.cat([torch.ones(len(features), 1, dtype=torch.float64), which, features], dim=1)
        assert torch.allclose(symmetric(gram.upper([fold])), columns.T @ columns, rtol=1e-9, atol=1e-7)


def test_neighbourhoods_are_erased_cell_by_cell():
    maps, taken = feature_maps(), projection()
    patches = torch.nn.functional.unfold(maps, 3)
    place = ErasedPlace("NLC")
    found = erased(patches.transpose(1, 2), of_neighbourhoods(taken, 9), place).transpose(1, 2)
    expected = torch.nn.functional.unfold(erased(maps, taken, ErasedPlace("NCHW")), 3)
    assert torch.allclose(found, expected, atol=1e-9)
