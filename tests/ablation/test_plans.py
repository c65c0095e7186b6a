"""Which channels each setting removes."""

import numpy as np
import pytest
import xarray as xr

from probe.ablation.plans import channel_order, check_counts, layer_of, plan_curves, plan_removals
from probe.errors import ArgumentError
from probe.models.layers import Layer

LAYER = Layer("conv", "conv", 0, "Conv2d", 1, layout="NCHW", n_channels=4, size=(3, 3))


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


def test_all_channels_can_be_removed_and_then_all_draws_are_one():
    plan = plan_removals(np.arange(7), [7], 3, 0, np.arange(7.0))
    assert all(plan[part].all() for part in ("top", "bottom", "random", "matched"))
    assert not plan["intact"].any()


def test_every_channel_is_drawn_equally_often():
    for name, draws in plan_removals(np.arange(20), [5], 4000, 0, np.zeros(20)).items():
        if name == "random":
            # Each draw takes a channel with probability 1/4: 1,000 ± 27.
            assert abs(draws[:, 0].sum(axis=0) - 1000).max() < 5 * 27.4
        if name == "matched":  # each of the first five stands for its decile, two channels each
            shares = draws[:, 0].mean(axis=0).reshape(10, 2)
            assert shares[:2].min() == 1 and abs(shares[2] - 0.5).max() < 0.05 and shares[3:].max() == 0


def test_a_choice_of_channels_that_comes_twice_is_one_setting():
    orders = {"a": np.array([2, 0, 1]), "b": np.array([1, 0, 2])}
    plan = plan_curves(orders, [1, 3], draws=2, seed=0, strengths=None, controls=["random"])
    assert len(np.unique(plan.settings, axis=0)) == len(plan.settings)
    for name, order in orders.items():
        assert not plan.settings[plan.places[name, "intact"]].any()
        assert plan.settings[plan.places[name, "top"]].tolist() == [
            [channel == order[0] for channel in range(3)],
            [True] * 3,
        ]
        assert plan.settings[plan.places[name, "bottom"][0]].tolist() == [channel == order[2] for channel in range(3)]
        assert plan.places[name, "random"].shape == (2, 2)
        assert plan.settings[plan.places[name, "random"]].sum(axis=2).tolist() == [[1, 3]] * 2
    assert plan.places["a", "random"].tolist() == plan.places["b", "random"].tolist()
    assert plan.places["a", "top"][1] == plan.places["b", "bottom"][1] == plan.places["a", "random"][0, 1]


def test_controls_that_are_not_asked_for_take_no_settings():
    options = {"draws": 4, "seed": 0, "strengths": np.arange(30.0)}
    plan = plan_curves({"": np.arange(30)}, [3], controls=["matched"], **options)
    assert ("", "random") not in plan.places and plan.places["", "matched"].shape == (4, 1)
    assert len(plan.settings) <= 3 + 4


def ranking(layer="conv", channels=(3, 0, 1, 2)):
    return xr.Dataset(coords={"index": ("channel", list(channels))}, attrs={"layer": layer})


def test_a_ranking_tells_its_layer_and_numbers_need_one():
    assert layer_of({"a": ranking(), "b": ranking()}, None) == layer_of({"a": ranking()}, "conv") == "conv"
    assert layer_of({"": [0, 1]}, "conv") == layer_of({"a": ranking(), "b": [0, 1]}, "conv") == "conv"
    with pytest.raises(ArgumentError, match=r"rankings of conv, other\. Pass rankings of one layer"):
        layer_of({"a": ranking(), "b": ranking("other")}, None)
    with pytest.raises(ArgumentError, match="does not tell its layer"):
        layer_of({"": [0, 1]}, None)
    with pytest.raises(ArgumentError, match="layer='conf': the ranking is one of 'conv'"):
        layer_of({"": ranking()}, "conf")


def test_an_order_holds_every_channel_once():
    assert channel_order(ranking(), LAYER).tolist() == [3, 0, 1, 2]
    assert channel_order(range(4), LAYER).tolist() == [0, 1, 2, 3]
    for given, message in (([0, 1, 2], "3 of the 4 channels"), ([0, 1, 2, 4], "4 is out of"), ([0, 1, 1, 2], "twice")):
        with pytest.raises(ArgumentError, match=message):
            channel_order(given, LAYER)


def test_counts_are_sorted_and_each_comes_once():
    assert check_counts([4, 1, np.int64(4), 2], 4) == [1, 2, 4]
    assert check_counts(3, 4) == [3]
    for wrong in ([], [0], [5], [1.5], ["one"], [True]):
        with pytest.raises(ArgumentError, match="expected whole numbers from 1 to 4"):
            check_counts(wrong, 4)
