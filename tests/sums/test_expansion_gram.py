"""An expansion's sums and scores are those of its channels, measured themselves."""

import itertools

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError
from probe.readouts.fitting import fit_readouts
from probe.readouts.omission import score_omissions
from probe.readouts.scores import decode, score_readout
from probe.readouts.targets import N_CONTROLS
from probe.sums.expansion_gram import ExpansionGram, gram_from_state
from probe.sums.gram import Gram, pilot_mean

FOLDS, N_TARGETS, ALPHA = 5, 2, 1e-3
N_DESIGN = N_TARGETS * (2 + N_CONTROLS)


def samples(n_sources=6, n_channels=20, count=300, *, offset=0.0, loud=1.0, seed=0):
    """Sources that know the targets in part, the weights of an expansion, and a design."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sources, design = normal(count, n_sources) @ normal(n_sources, n_sources), normal(count, N_DESIGN)
    sources[:, :2] += design[:, :2]
    sources[:, 0] *= loud
    weight, bias = normal(n_channels, n_sources), normal(n_channels)
    weight[:, 3] = 0  # a source that was pruned
    weight[4] = 0  # a channel that does not vary
    sources[:, 5] = 7.0  # a source that does not vary
    sources += offset * sources.std(dim=0)
    sources[:, 2] = sources[:, 1]
    weight[2] = 0
    weight[2, 1:3] = torch.tensor([1.0, -1.0])  # a channel in which two equal sources cancel
    bias[3] = 1e18 * loud  # a channel that varies by less than its own rounding
    return sources, weight, bias, design


def both_grams(sources, weight, bias, design, dtype=torch.float64):
    """The Gram of an expansion, and that of its channels."""
    channels = sources @ weight.T + bias
    first = slice(0, 20)
    sums = Gram(FOLDS, N_DESIGN, pilot_mean(sources[first]))
    expansion = ExpansionGram(sums, weight.to(dtype), bias.to(dtype))
    direct = Gram(FOLDS, N_DESIGN, pilot_mean(channels[first]), dtype)
    edges = np.linspace(0, len(sources), FOLDS + 1).astype(int)
    parts = [(fold, int(start), int(stop)) for fold, (start, stop) in enumerate(itertools.pairwise(edges))]
    expansion.update(design.to(dtype), sources.to(dtype), parts)
    direct.update(design.to(dtype), channels.to(dtype), parts)
    return expansion, direct


CASES = {
    "plain": {},
    "offset of 1,000 deviations": {"offset": 1000.0},
    "a source a thousand times the others": {"loud": 1000.0},
    "more channels than a block": {"n_channels": 300, "n_sources": 90, "count": 3000},
    "fewer live channels than sources": {"n_channels": 5, "n_sources": 8},
}


def test_sums_are_those_of_the_channels():
    sources, weight, _, design = samples()
    expansion, direct = both_grams(sources, weight, torch.ones(len(weight), dtype=torch.float64), design)
    assert torch.allclose(expansion.pilot, direct.pilot)
    assert torch.allclose(expansion.totals, direct.totals)
    assert torch.allclose(expansion.squares, direct.squares)
    for folds in ([2], [0, 1, 4], range(FOLDS)):
        assert torch.allclose(expansion.upper(folds).triu(), direct.upper(folds).triu())
    as_gram = expansion.as_gram()
    assert torch.allclose(as_gram.upper([1, 3]).triu(), direct.upper([1, 3]).triu())
    as_gram.merge(direct)
    assert torch.allclose(as_gram.totals, 2 * direct.totals)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_are_those_of_the_channels(case, dtype):
    sources, weight, bias, design = samples(**CASES[case])
    expansion, direct = both_grams(sources, weight, bias, design, dtype)
    found, expected = (score_readout(gram, N_TARGETS, ALPHA) for gram in (expansion, direct))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for name in ("r2", "r2_fold", "r2_se", "r2_null", "r2_control"):
        assert np.allclose(getattr(found, name), getattr(expected, name), atol=tolerance), name
    assert found.n_dead == expected.n_dead == 3
    assert found.samples_per_feature == expected.samples_per_feature
    assert expected.r2.max() > 0.1


def test_readouts_decode_the_same():
    sources, weight, bias, design = samples()
    expansion, direct = both_grams(sources, weight, bias, design)
    mean_map = np.einsum("cs,srk->crk", weight, np.random.default_rng(0).standard_normal((6, 3, 4)))
    mean_map += bias.numpy()[:, None, None]
    decoded = [decode(gram, mean_map, N_TARGETS, ALPHA) for gram in (expansion, direct)]
    assert decoded[0].shape == (N_TARGETS, 3, 4)
    assert np.allclose(*decoded, atol=1e-9)
    fits = [fit_readouts(gram, [0, 1, 2], N_DESIGN, ALPHA)[0] for gram in (expansion, direct)]
    assert torch.allclose(fits[0].weights, expansion.weight.T @ fits[1].weights, atol=1e-9)


def test_omissions_lose_the_same():
    found, expected = (
        score_omissions(gram, [[fold] for fold in range(FOLDS)], N_TARGETS, ALPHA) for gram in both_grams(*samples())
    )
    assert np.allclose(found.r2, expected.r2, atol=1e-9)
    assert np.allclose(found.losses, expected.losses, atol=1e-9, equal_nan=True)


def test_a_penalty_too_small_for_dependent_channels():
    for gram in both_grams(*samples()):
        with pytest.raises(ArgumentError, match=r"alpha=1e-18 is too small for channels that depend on each other"):
            score_readout(gram, N_TARGETS, 1e-18)


def test_merged_and_restored():
    (sources, weight, bias, design), half = samples(), 150
    whole, _ = both_grams(sources, weight, bias, design)
    first, _ = both_grams(sources[:half], weight, bias, design[:half])
    second, _ = both_grams(sources[half:], weight, bias, design[half:])
    first.merge(gram_from_state(second.state()))
    found, expected = (score_readout(gram, N_TARGETS, ALPHA) for gram in (first, whole))
    assert found.samples_per_feature == expected.samples_per_feature
    about_one_pilot = whole.as_gram()
    about_one_pilot.merge(first.as_gram())
    assert torch.allclose(about_one_pilot.upper(range(FOLDS)).triu(), 2 * whole.upper(range(FOLDS)).triu())


def test_weights_are_copied():
    sources, weight, bias, design = samples()
    gram, _ = both_grams(sources, weight, bias, design)
    before = gram.upper([0])
    weight.zero_()
    assert torch.equal(gram.upper([0]), before)


def test_sums_that_are_not_finite():
    sources, weight, bias, design = samples()
    sources[10, 1] = torch.nan
    assert not any(gram.is_finite for gram in both_grams(sources, weight, bias, design))


def test_the_sums_kept_are_those_of_the_sources():
    expansion, direct = both_grams(*samples())
    assert expansion.kept is expansion.sources
    assert direct.kept is direct
    assert expansion.nbytes < direct.nbytes
