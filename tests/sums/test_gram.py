"""The sums against direct products, whatever the order, the batches and the pilots."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import ArgumentError
from probe.readouts.fitting import live_channels
from probe.sums.gram import Gram, pilot_mean
from probe.sums.moments import PositionMoments

FOLDS = 3


def samples(seed: int, count: int, n_channels: int, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, n_channels, generator=generator, dtype=torch.float64) + offset
    return torch.randn(count, 2, generator=generator, dtype=torch.float64), features


def parts_of(folds: np.ndarray) -> list[tuple[int, int, int]]:
    return [(fold, *(np.flatnonzero(folds == fold)[[0, -1]] + [0, 1])) for fold in np.unique(folds)]


def direct(design: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    columns = torch.cat([torch.ones(len(design), 1, dtype=design.dtype), design, features], dim=1)
    return columns.T @ columns


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=4, unique=True),
    pilots=st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    seed=st.integers(0, 1000),
    n_channels=st.integers(1, 5),
)
def test_gram_is_the_same_however_it_is_split_and_merged(cuts, pilots, seed, n_channels):
    design, features = samples(seed, 60, n_channels)
    folds = np.sort(np.arange(60) % FOLDS)
    bounds = [0, *sorted(cuts), 60]
    grams = [Gram(FOLDS, 2, torch.full((n_channels,), pilot, dtype=torch.float64)) for pilot in pilots]
    for place, (start, stop) in enumerate(itertools.pairwise(bounds)):
        grams[place % 2].update(design[start:stop], features[start:stop], parts_of(folds[start:stop]))
    grams[0].merge(grams[1])
    for fold in range(FOLDS):
        keep = torch.from_numpy(folds == fold)
        expected = direct(design[keep], features[keep] - grams[0].pilot).triu()
        assert torch.allclose(grams[0].upper([fold]).triu(), expected, atol=1e-10)
    everything = direct(design, features - grams[0].pilot).triu()
    assert torch.allclose(grams[0].upper(range(FOLDS)).triu(), everything, atol=1e-10)


def test_gram_of_many_channels_is_whole():
    # More channels than one block of the upper triangle.
    design, features = samples(0, 40, 1300)
    gram = Gram(1, 2, pilot_mean(features))
    gram.update(design, features, [(0, 0, 40)])
    assert torch.allclose(gram.upper([0]).triu(), direct(design, features - gram.pilot).triu(), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_single_precision_products_are_summed_in_double(dtype):
    design, features = samples(0, 5000, 4, offset=1000.0 if dtype == torch.float32 else 0.0)
    features = features.to(dtype)
    gram = Gram(1, 2, pilot_mean(features), torch.float32)
    for start in range(0, 5000, 100):
        gram.update(design[start : start + 100], features[start : start + 100], [(0, 0, 100)])
    expected = direct(design, features.double() - gram.pilot)
    scale = expected.diagonal().sqrt()
    assert gram.totals.dtype == torch.float64
    assert ((gram.upper([0]) - expected).triu() / torch.outer(scale, scale)).abs().max() < 2e-6


def test_grams_of_different_layers_do_not_merge():
    with pytest.raises(ArgumentError, match=r"merge: the two statistics differ in the shape of their sums: \(3, 6\)"):
        Gram(FOLDS, 2, torch.zeros(3)).merge(Gram(FOLDS, 2, torch.zeros(4)))


def test_not_finite_is_noticed():
    design, features = samples(0, 10, 2)
    gram = Gram(1, 2, pilot_mean(features))
    gram.update(design, features, [(0, 0, 10)])
    assert gram.is_finite
    features[3, 1] = torch.inf
    gram.update(design, features, [(0, 0, 10)])
    assert not gram.is_finite


def images(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 2


TARGETS = torch.linspace(-1, 1, 40, dtype=torch.float64).view(2, 4, 5)


def test_states_round_trip():
    design, features = samples(0, 10, 2)
    gram = Gram(1, 2, pilot_mean(features), torch.float32)
    gram.update(design, features, [(0, 0, 10)])
    again = Gram.from_state(gram.state())
    assert torch.equal(again.upper([0]).triu(), gram.upper([0]).triu())
    assert again.dtype == torch.float32
    moments = PositionMoments(1, 2, torch.zeros(3, dtype=torch.float64), (4, 5))
    moments.update(TARGETS, images(0, 6), [(0, 0, 6)])
    assert torch.equal(PositionMoments.from_state(moments.state()).maps, moments.maps)


def test_many_batches_in_single_precision_are_summed_in_double():
    """In single precision the same batch, added 300 times, would be rounded to the same side each time."""
    generator = torch.Generator().manual_seed(0)
    features, design = torch.rand(4000, 2, generator=generator), torch.rand(4000, 2, generator=generator)
    gram = Gram(1, 2, torch.zeros(2, dtype=torch.float64), torch.float32)
    for _ in range(300):
        gram.update(design, features, [(0, 0, 4000)])
    expected = 300 * direct(design.double(), features.double())
    assert ((gram.upper([0]) - expected) / expected).triu().abs().max() < 1e-6


def test_a_pilot_that_is_far_from_most_samples_is_left_for_their_mean():
    """The first images may be black: about their mean, products of the others in single precision lose digits."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(40, 2, generator=generator)
    rest = 1000 + torch.randn(12_000, 2, generator=generator) @ torch.tensor([[1.0, 0.3], [0.0, 1.0]])
    gram = Gram(3, 1, pilot_mean(first), torch.float32)
    gram.update(torch.zeros(40, 1), first, [(0, 0, 40)])
    for start in range(0, 12_000, 1000):
        gram.update(torch.zeros(1000, 1), rest[start : start + 1000], [(1 + (start >= 4000), 0, 1000)])
    upper = gram.upper([2])
    means = upper[0, 2:] / 8000
    torch.testing.assert_close(gram.pilot + means, rest[4000:].double().mean(dim=0), rtol=1e-7, atol=0)
    covariance = upper[2:, 2:] / 8000 - torch.outer(means, means)
    expected = torch.cov(rest[4000:].double().T, correction=0)
    torch.testing.assert_close(covariance.triu(), expected.triu(), rtol=0, atol=1e-3)
    both = gram.upper([0, 1, 2])
    assert both[0, 0] == 12_040
    everything = torch.cat([first, rest]).double()
    torch.testing.assert_close(both[0, 2:] + 12_040 * gram.pilot, everything.sum(dim=0), rtol=1e-7, atol=0)


@pytest.mark.parametrize("constant", [0.0, 0.3, -7e-4])
def test_a_channel_that_is_constant_in_a_fold_stays_so_about_another_pilot(constant):
    """A spike in the first batch moves the pilot away; the fold that comes first is read about it."""
    features = torch.randn(240, 3, generator=torch.Generator().manual_seed(0))
    features[:, :2] = constant
    features[150, 0], features[200, 1] = constant + 0.09, constant + 0.6
    gram = Gram(3, 1, pilot_mean(features), torch.float32)
    gram.update(torch.linspace(-1, 1, 240)[:, None], features, [(0, 0, 100), (1, 100, 140), (2, 140, 240)])
    upper = gram.upper([0, 1])
    totals, diagonal = upper[0, 2:], upper.diagonal()[2:]
    deviations = diagonal - totals.square() / 140
    # No more than 1e-9 from one fold to the other, where there was 1e-6 within the first.
    assert (deviations[:2].clamp(min=0) / 140).sqrt().max() < 1e-9 + 1e-7 * abs(constant)
    live = live_channels(gram, deviations, diagonal, totals / 140, torch.tensor(140.0))
    assert live.tolist() == [False, False, True]
    everything = gram.upper([0, 1, 2])
    expected = direct(torch.linspace(-1, 1, 240)[:, None].double(), features.double() - gram.pilot)
    torch.testing.assert_close(everything.triu(), expected.triu(), rtol=1e-5, atol=1e-4)
