"""The loss and the score of descriptors, against slow definitions, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_curve
from torch.nn import functional

from probe.analyses.patch_matching.scores import distances, false_positives, hardest_in_batch


def unit(seed, shape=(12, 7)):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return functional.normalize(values)


def slow_loss(anchors, positives):
    total = 0.0
    for i, anchor in enumerate(anchors):
        own = float(((anchor - positives[i]).square().sum() + 1e-6).sqrt())
        nearest = []
        for j in range(len(anchors)):
            if j != i:
                for one, other in ((anchor, positives[j]), (anchors[j], positives[i])):
                    between = float(((one - other).square().sum() + 1e-6).sqrt())
                    nearest.append(between + 10 if between < 0.008 else between)
        total += max(0.0, 1 + own - min(nearest))
    return total / len(anchors)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_that_of_a_triple_loop(seed):
    anchors = unit(seed)
    positives = functional.normalize(anchors + 0.3 * unit(seed + 10))
    positives[3] = anchors[5]  # one that is left out
    assert hardest_in_batch(anchors, positives).item() == pytest.approx(slow_loss(anchors, positives), abs=1e-12)
    assert slow_loss(anchors, positives) > 0.1


def test_losses_that_are_known():
    assert hardest_in_batch(torch.eye(4), torch.eye(4)).item() == 0
    alike = functional.normalize(torch.ones(4, 3))
    assert hardest_in_batch(alike, alike).item() == 0  # a network that has collapsed
    two = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    swapped = two.flip(0)  # each is as far from its own as may be, and meets the other one: left out as the same
    assert hardest_in_batch(two, swapped).item() == 0
    turned = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    own, other = np.sqrt(0.8 + 1e-6), np.sqrt(0.4 + 1e-6)
    assert hardest_in_batch(two, turned).item() == pytest.approx(1 + own - other, abs=1e-6)


def test_distances_are_those_of_points():
    first, second = unit(0), unit(1)
    expected = torch.cdist(first, second)
    torch.testing.assert_close(distances(first, second), (expected.square() + 1e-6).sqrt())


def by_roc_curve(matching, others):
    truth = np.repeat([1, 0], [len(matching), len(others)])
    fpr, tpr, _ = roc_curve(truth, -np.concatenate([matching, others]), drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95)]


@pytest.mark.parametrize("decimals", [1, 2, 9])  # the first two with many ties
def test_the_score_is_read_off_the_roc_curve(decimals):
    random = np.random.default_rng(decimals)
    for count in (1, 7, 19, 20, 40, 100, 301):
        matching, others = random.normal(1, 0.5, count).round(decimals), random.normal(2, 0.5, 77).round(decimals)
        assert false_positives(matching, others) == pytest.approx(by_roc_curve(matching, others), abs=1e-12)


def test_scores_that_are_known():
    random = np.random.default_rng(0)
    matching, others = random.normal(0, 1, 200_000), random.normal(3, 1, 200_000)
    assert false_positives(matching, others) == pytest.approx(norm.cdf(norm.ppf(0.95) - 3), abs=0.003)
    assert false_positives(np.zeros(5), np.ones(5)) == 0
    assert false_positives(np.ones(5), np.zeros(5)) == 1
    assert false_positives(np.ones(5), np.ones(5)) == 1
    assert np.isnan(false_positives(np.array([np.nan, 1]), np.ones(2)))
    assert np.isnan(false_positives(np.ones(2), np.array([])))
