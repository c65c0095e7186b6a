"""Ridges fitted to sums against scikit-learn, and the halves of folds that they are fitted to."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError, IllConditionedError
from probe.readouts.fitting import _factorise, _triangle, disjoint_halves, fit_readouts, live_channels
from probe.readouts.scores import score_readout
from probe.readouts.targets import N_CONTROLS
from probe.sums.gram import Gram
from tests.oracles import ridge

ALPHA = 1e-3
SIZES = [40, 25, 60, 31]


def samples(n_channels=5, seed=0):
    generator, count = np.random.default_rng(seed), sum(SIZES)
    features = generator.normal(size=(count, n_channels)) @ generator.normal(size=(n_channels, n_channels)) + 3
    design = generator.normal(size=(count, 2)) + features[:, :1]
    return design, features


def gram_of(design, features, sizes=SIZES, pilot=0.5):
    edges = np.cumsum([0, *sizes])
    gram = Gram(len(sizes), design.shape[1], torch.full((features.shape[1],), pilot, dtype=torch.float64))
    parts = [(fold, int(start), int(stop)) for fold, (start, stop) in enumerate(itertools.pairwise(edges))]
    gram.update(torch.from_numpy(design), torch.from_numpy(features), parts)
    return gram


@pytest.mark.parametrize("folds", [[0], [1, 3], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 1.0])
def test_the_fit_is_that_of_scikit_learn_to_the_same_folds(folds, alpha):
    design, features = samples()
    chosen = np.isin(np.repeat(range(4), SIZES), folds)
    gram = gram_of(design, features)
    fit, _ = fit_readouts(gram, folds, 2, alpha)
    expected = ridge(alpha, chosen.sum()).fit(features[chosen], design[chosen])
    found = (features - gram.pilot.numpy()) @ fit.weights.numpy() + fit.intercepts.numpy()
    np.testing.assert_allclose(found, expected.predict(features), atol=1e-9)
    assert fit.live.all()


def test_memory_of_an_earlier_fit_can_be_used_again():
    gram = gram_of(*samples())
    first, used = fit_readouts(gram, [0, 1], 2, ALPHA)
    weights = first.weights.clone()
    second, again = fit_readouts(gram, [2], 2, ALPHA, out=used)
    assert again is used and torch.equal(first.weights, weights)
    assert torch.equal(second.weights, fit_readouts(gram, [2], 2, ALPHA)[0].weights)


@pytest.mark.parametrize("n_folds", [3, 4, 5, 6, 7, 10, 11])
def test_halves_are_disjoint_as_equal_as_can_be_and_come_once(n_folds):
    for held_out in range(n_folds):
        pairs = disjoint_halves(n_folds, held_out)
        for first, second in pairs:
            assert sorted([*first, *second, held_out]) == list(range(n_folds))
            assert len(second) - len(first) == (n_folds - 1) % 2
        assert len({frozenset(pair) for pair in pairs}) == len(pairs) == {3: 1, 4: 3, 5: 3}.get(n_folds, 1)


@pytest.mark.parametrize("n_folds", [3, 4, 5, 7, 10])
def test_no_fold_is_fitted_to_more_often_than_another(n_folds):
    halves = [half for held_out in range(n_folds) for pair in disjoint_halves(n_folds, held_out) for half in pair]
    assert len(set(Counter(fold for half in halves for fold in half).values())) == 1
    if n_folds > 5:
        firsts = [disjoint_halves(n_folds, held_out)[0][0] for held_out in range(n_folds)]
        assert len(set(Counter(fold for half in firsts for fold in half).values())) == 1
        assert len(set(firsts)) == n_folds


@pytest.mark.parametrize("n_folds", [1, 2])
def test_fewer_than_three_folds_cannot_be_halved(n_folds):
    with pytest.raises(ArgumentError, match=f"folds={n_folds}: a readout needs at least 3"):
        disjoint_halves(n_folds, 0)


@pytest.mark.parametrize("n_channels", [1, 127, 128, 129, 300])
def test_factors_by_blocks_are_those_of_torch(n_channels):
    generator = torch.Generator().manual_seed(0)
    loads = torch.randn(n_channels, n_channels + 5, generator=generator, dtype=torch.float64)
    matrix = loads @ loads.T
    factor = torch.full_like(matrix, torch.nan).triu(1).T + matrix.triu()  # what lies below is not looked at
    _factorise(factor)
    torch.testing.assert_close(factor.triu(), torch.linalg.cholesky(matrix, upper=True), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-3, 1e-11])
def test_the_triangle_of_nearly_dependent_loads_is_as_exact_as_the_penalty_asks(alpha):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(40, 6, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    sizes = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1, 1e-7], dtype=torch.float64)
    triangle = _triangle(left * sizes @ right.T, alpha)
    assert torch.equal(triangle, triangle.triu())
    assert abs(torch.linalg.svdvals(triangle)[-1] ** 2 - 1e-14) < 1e-6 * alpha


def test_the_triangle_of_dependent_loads():
    loads = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dependent in (torch.cat([loads, loads[:, :1]], dim=1), torch.cat([0 * loads[:, :1], loads], dim=1)):
        triangle = _triangle(dependent, ALPHA)
        torch.testing.assert_close(triangle.T @ triangle, dependent.T @ dependent)


def test_channels_live_by_their_deviation_beside_their_own_mean_and_what_was_summed():
    gram = Gram(1, 1, torch.tensor([1000.0, 0.0, 0.0, 0.0], dtype=torch.float64), torch.float32)
    count, mean = torch.tensor(100.0), torch.tensor([0.0, 0.0, 1.0, 0.0])
    deviation = torch.tensor([1e-3, 1e-3, 1e-3, 0.0])
    squares = count * deviation**2
    # A thousandth is rounding at a mean of 1,000, about the pilot or not; its square is, about a pilot 1 away.
    assert live_channels(gram, squares, squares + count * mean**2, mean, count).tolist() == [False, True, False, False]


def test_a_penalty_too_small_for_equal_channels():
    generator = torch.Generator().manual_seed(0)
    once = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    design = torch.randn(200, 2 + N_CONTROLS, generator=generator, dtype=torch.float64)
    gram = gram_of(design.numpy(), once.expand(-1, 2).numpy(), sizes=[40] * 5)
    assert np.isfinite(score_readout(gram, 1, ALPHA).r2).all()
    with pytest.raises(IllConditionedError, match="alpha=1e-18 is too small for channels that depend on each other"):
        score_readout(gram, 1, 1e-18)


def test_a_penalty_below_the_rounding_of_single_precision_is_refused_there_alone():
    design, features = samples(n_channels=30)
    single = Gram(4, 2, torch.zeros(30, dtype=torch.float64), torch.float32)
    edges = np.cumsum([0, *SIZES]).tolist()
    parts = [(fold, start, stop) for fold, (start, stop) in enumerate(itertools.pairwise(edges))]
    single.update(torch.from_numpy(design).float(), torch.from_numpy(features).float(), parts)
    folds = range(4)
    assert fit_readouts(gram_of(design, features), folds, 2, 1e-10)[0].live.all()
    assert fit_readouts(single, folds, 2, 1e-4)[0].live.all()
    with pytest.raises(IllConditionedError, match="alpha=1e-10"):
        fit_readouts(single, folds, 2, 1e-10)
