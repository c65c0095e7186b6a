"""Which channels each setting removes."""

import numpy as np
import pytest

from probe.ablation.plans import plan_removals

pytestmark = pytest.mark.usefixtures("one_thread")


def test_draws_are_random_and_matched_ones_replace_each_channel_by_one_of_its_decile():
    order = np.random.default_rng(0).permutation(100)
    strengths = np.random.default_rng(1).random(100)
    plan = plan_removals(order, [5, 30], 20, 0, strengths)
    decile = np.empty(100, dtype=int)
    decile[np.argsort(strengths)] = np.arange(100) // 10
    for name in ("random", "matched"):
        assert plan[name].shape == (20, 2, 100)
        assert (plan[name].sum(axis=-1) == [5, 30]).all()
        assert len(np.unique(plan[name][:, 0], axis=0)) == 20
        assert (plan[name][:, 0] <= plan[name][:, 1]).all(), "a smaller draw is part of the larger"
    for count in range(2):
        expected = np.bincount(decile[plan["top"][count]], minlength=10)
        for draw in plan["matched"][:, count]:
            assert np.bincount(decile[draw], minlength=10).tolist() == expected.tolist()
    assert set(np.flatnonzero(plan["top"][0])) == set(order[:5])
    assert set(np.flatnonzero(plan["bottom"][0])) == set(order[-5:])
    assert plan_removals(order, [5], 20, 1, None)["random"].tolist() != plan["random"][:, :1].tolist()
