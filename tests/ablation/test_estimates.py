"""Scores of settings and their folds, against the model run by hand."""

import numpy as np
import pytest
import torch

import probe
from probe.ablation.estimates import mean_activity, score_settings
from probe.ablation.performance import resolve_scores
from probe.ablation.plans import plan_removals
from probe.ablation.replacement import replacement_for
from probe.images.labels import LabelCheck
from probe.reading.options import Options
from probe.reading.reader import open_reader
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


@pytest.mark.parametrize("batch_size", [3, 64])
def test_each_setting_is_scored_over_all_images_and_without_each_fold(batch_size):
    model, images = seeded(Plain), IMAGES.double()
    groups = np.array(list("aaaaabbcaa"))
    settings = plan_removals(ORDER, [1, 5], 2, 0, None)["random"].reshape(-1, len(ORDER))
    options = Options(layers="first", folds=3, groups=groups, batch_size=batch_size, progress=False)
    with open_reader(model, images, options) as reader:
        replacement = replacement_for(reader.layer("first"), "zero")
        scores = resolve_scores([{"largest": largest, "first": lambda output: output[:, 0]}])
        found, sharing = score_settings(reader, options, replacement, settings, scores, LabelCheck(None))
    assert sharing.startswith("shared: the batch was repeated at the output of first")
    assert found["largest"].sizes.tolist() == [7, 2, 1]
    for number, removed in enumerate(settings):
        with torch.no_grad(), probe.ablate(model, {"first": np.flatnonzero(removed)}):
            output = model(images)["out"]
        for name, by_image in (("largest", output.amax(dim=1)), ("first", output[:, 0])):
            assert found[name].values[number] == pytest.approx(by_image.mean().item())
            left_out = [by_image[groups != label].mean().item() for label in "abc"]
            np.testing.assert_allclose(found[name].left_out[:, number], left_out)


def test_a_fold_without_images_is_left_out():
    model, options = seeded(Plain), Options(layers="first", folds=8, progress=False)
    with open_reader(model, IMAGES[:5].double(), options) as reader:
        replacement = replacement_for(reader.layer("first"), "zero")
        found, _ = score_settings(
            reader,
            options,
            replacement,
            np.zeros((1, len(ORDER)), dtype=bool),
            resolve_scores([{"largest": largest}]),
            LabelCheck(None),
        )
    assert found["largest"].left_out.shape == (5, 1) and found["largest"].sizes.tolist() == [1] * 5


@pytest.mark.parametrize("batch_size", [3, 64])
def test_mean_activity_is_that_of_the_layer_and_what_comes_behind_is_not_run(batch_size):
    model, images = seeded(Plain), IMAGES.double()[:, :, :5]
    sizes = []
    model.second.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    found = mean_activity(model, images, Options(batch_size=batch_size, progress=False), "first")
    with torch.no_grad():
        np.testing.assert_allclose(found, model.first(images).abs().mean(dim=(0, 2, 3)), rtol=1e-12)
    assert max(sizes) <= 2, "the model ran on the copies of its first image alone"
