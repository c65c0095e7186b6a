"""Curves from scores: differences from random draws, and their errors."""

import numpy as np
import pytest
import torch

import probe
from probe.ablation.plans import plan_removals
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
