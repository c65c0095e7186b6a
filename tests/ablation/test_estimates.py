"""Scores of settings and their folds, against the model run by hand."""

import numpy as np
import pytest
import torch

import probe
from probe.ablation.plans import plan_removals
from tests.ablation.nets import IMAGES, ORDER, QUICK, Plain, largest, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


def test_results_do_not_depend_on_the_batch_size():
    model = seeded(Plain)
    options = {"layer": "first", "score": [{"largest": largest}, "agreement"], **QUICK}
    first, *others = (
        probe.ablation_curve(model, IMAGES.double(), ORDER, batch_size=size, **options).drop_attrs()
        for size in (1, 4, 64)
    )
    for other in others:
        np.testing.assert_allclose(other.to_array(), first.to_array(), rtol=1e-9)


def test_matched_draws_go_by_the_mean_activation_of_the_layer():
    model = seeded(Plain)
    with torch.no_grad():
        strengths = model.first(IMAGES.double()).abs().mean(dim=(0, 2, 3)).numpy()
    seen = []

    def score(output):
        seen.append(output)
        return largest(output)

    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": score}, counts=[4], draws=5, progress=False
    )
    plan = plan_removals(ORDER, [4], 5, 0, strengths)
    for draw, removed in enumerate(plan["matched"][:, 0]):
        with torch.no_grad(), probe.ablate(model, {"first": np.flatnonzero(removed)}):
            expected = model(IMAGES.double())["out"].amax(dim=1).mean().item()
        assert result.matched.sel(score="largest", draw=draw, count=4).item() == pytest.approx(expected)
