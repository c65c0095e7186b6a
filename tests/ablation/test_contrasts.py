"""Curves from scores: differences from random draws, and their errors."""

import numpy as np
import pytest
import torch

import probe
from probe.ablation.contrasts import contrast, side_by_side
from probe.ablation.later_readouts import Estimates
from probe.ablation.plans import plan_curves, plan_removals
from probe.intervals import jackknife
from tests.ablation.nets import COUNTS, IMAGES, ORDER, QUICK, Plain, largest, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


def test_errors_over_images_are_those_of_the_mean_and_of_paired_differences():
    model = seeded(Plain)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": largest}, folds=len(IMAGES), **QUICK
    ).sel(score="largest")
    plan = plan_removals(ORDER, COUNTS, 3, 0, None)

    def by_image(removed):
        with torch.no_grad(), probe.ablate(model, {"first": np.flatnonzero(removed)}):
            return model(IMAGES.double())["out"].amax(dim=1).numpy()

    def error(values):
        return values.std(ddof=1) / len(values) ** 0.5

    for place in range(len(COUNTS)):
        top = by_image(plan["top"][place])
        drawn = np.array([by_image(draw[place]) for draw in plan["random"]])
        at = result.isel(count=place)
        assert at.top_se.item() == pytest.approx(error(top))
        assert at.top_minus_random.item() == pytest.approx(top.mean() - drawn.mean())
        over_images, over_draws = error(top - drawn.mean(axis=0)), error(drawn.mean(axis=1))
        assert at.top_minus_random_se.item() == pytest.approx(np.hypot(over_images, over_draws))
    assert result.intact_se.item() == pytest.approx(error(by_image(plan["intact"])))


def made_up(n_settings, sizes, seed=0):
    """Estimates that are means over images of unequal folds, and the values of each image."""
    by_image = np.random.default_rng(seed).normal(size=(sum(sizes), n_settings))
    folds = np.repeat(range(len(sizes)), sizes)
    left_out = np.stack([by_image[folds != fold].mean(axis=0) for fold in range(len(sizes))])
    return Estimates(by_image.mean(axis=0), left_out, np.array(sizes)), by_image, folds


@pytest.mark.parametrize("sizes", [[4, 4, 4], [9, 2, 5, 3]], ids=str)
def test_each_part_stands_at_its_settings_with_the_error_over_folds_of_their_sizes(sizes):
    orders = {"a": np.arange(6), "b": np.arange(6)[::-1]}
    plan = plan_curves(orders, [1, 4], draws=5, seed=2, strengths=np.arange(6.0), controls=["random", "matched"])
    found, by_image, folds = made_up(len(plan.settings), sizes)
    curve = contrast({"s": found}, plan, "b", ["random", "matched"]).sel(score="s")
    assert curve["count"].values.tolist() == [1, 4]
    for part in ("intact", "top", "bottom", "random", "matched"):
        np.testing.assert_array_equal(curve[part], found.values[plan.places["b", part]])
    assert (plan.settings[plan.places["b", "top"]].argmax(axis=1) == [5, 2]).all()
    for control in ("random", "matched"):
        places = plan.places["b", control]
        for index in range(2):
            drawn = by_image[:, places[:, index]]
            paired = by_image[:, plan.places["b", "top"][index]] - drawn.mean(axis=1)
            left_out = np.array([paired[folds != fold].mean() for fold in range(len(sizes))])
            over_images = jackknife(paired.mean(), left_out, sizes)
            over_draws = drawn.mean(axis=0).std(ddof=1) / np.sqrt(5)
            assert curve[f"top_minus_{control}"].values[index] == pytest.approx(paired.mean())
            assert curve[f"top_minus_{control}_se"].values[index] == pytest.approx(np.hypot(over_images, over_draws))
    by_fold = np.array([by_image[folds != fold, plan.places["b", "intact"]].mean() for fold in range(len(sizes))])
    assert curve.intact_se.item() == pytest.approx(jackknife(curve.intact.values, by_fold, sizes))


def test_controls_that_were_not_drawn_are_not_in_the_curve():
    plan = plan_curves({"": np.arange(3)}, [1], draws=2, seed=0, strengths=None, controls=["random"])
    curve = contrast({"s": made_up(len(plan.settings), [3, 3])[0]}, plan, "", ["random"])
    assert not any("matched" in str(name) for name in curve)
    assert all({"long_name", "units"} <= variable.attrs.keys() for variable in curve.data_vars.values())


def test_side_by_side_shares_what_does_not_depend_on_the_ranking():
    orders = {"a": np.arange(4), "b": np.arange(4)[::-1]}
    plan = plan_curves(orders, [1, 2], draws=3, seed=0, strengths=np.arange(4.0), controls=["random", "matched"])
    found = made_up(len(plan.settings), [3, 3])[0]
    curves = {name: contrast({"s": found}, plan, name, ["random", "matched"]) for name in orders}
    together = side_by_side(curves)
    shared = {"intact", "intact_se", "random"}
    assert {name for name in together if "ranking" not in together[name].dims} == shared
    for name, curve in curves.items():
        alone = together.sel(ranking=name, drop=True)
        for variable in curve:
            np.testing.assert_array_equal(alone[variable].transpose(*curve[variable].dims), curve[variable])
