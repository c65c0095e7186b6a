"""What a model loses as position is erased."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import probe
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError
from probe.plots.erasing import degrees
from probe.testing import CoordinateNet, noise_images, padded_net

NET = padded_net("zeros", depth=3, width=6).requires_grad_(False)
IMAGES = noise_images(60, 10)
GIVEN = {
    "methods": ["leace", "cells", "channels"],
    "ranks": [2, 3],
    "fit_stimuli": "rolled",
    "draws": 3,
    "progress": False,
}


def mean_output(output):
    return output.mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def curve():
    return probe.erasure_curve(NET, IMAGES, "conv2", score={"mean": mean_output}, **GIVEN)


def test_scores_are_those_of_the_erased_model(curve):
    statistics = probe.collect(NET, IMAGES, layers="conv2", progress=False)
    assert curve.intact.item() == pytest.approx(mean_output(NET(IMAGES)).mean().item(), rel=1e-5)
    for number, options in (
        (0, {"rank": 2}),
        (1, {"targets": "cells", "rank": 2}),
        (2, {"targets": "cells", "rank": 3}),
    ):
        with probe.ablate(NET, {"conv2": probe.fit_eraser(statistics, "conv2", **options)}):
            expected = mean_output(NET(IMAGES)).mean().item()
        assert curve.erased.values[0, number] == pytest.approx(expected, rel=1e-4)
    for draw in range(3):
        eraser = probe.fit_eraser(statistics, "conv2", method="random", rank=3, seed=draw)
        with probe.ablate(NET, {"conv2": eraser}):
            expected = mean_output(NET(IMAGES)).mean().item()
        assert curve.random.values[0, 1, draw] == pytest.approx(expected, rel=1e-4)


def test_zeroed_channels_are_those_of_ablate(curve):
    statistics = probe.collect(NET, IMAGES, layers="conv2", progress=False)
    explained = probe.channelwise(statistics).r2.sel(stimulus="rolled").sum("target").values
    first = np.argsort(-explained)[:2].tolist()
    with probe.ablate(NET, {"conv2": first}):
        expected = mean_output(NET(IMAGES)).mean().item()
    assert curve.erased.values[0, 3] == pytest.approx(expected, rel=1e-4)
    assert curve.method.values.tolist() == ["leace", "cells", "cells", "channels", "channels"]


def test_differences_are_from_the_draws_of_the_same_rank(curve):
    random = curve.random.mean("draw").values[0]
    np.testing.assert_allclose(curve.erased_minus_random.values[0], curve.erased.values[0] - random[[0, 0, 1, 0, 1]])
    assert (curve.erased_minus_random_se > 0).all()


def test_what_is_left_of_position_is_that_of_the_proof(curve):
    statistics = probe.collect(NET, IMAGES, layers="conv2", progress=False)
    chosen = {name: GIVEN[name] for name in ("methods", "ranks", "fit_stimuli", "draws")}
    proof = probe.erasure_proof(statistics, "conv2", **chosen)
    assert {"same_place", "random"} <= set(curve.data_vars) - set(proof.data_vars)
    for name in proof.data_vars:
        same = curve[name] if "target" not in curve[name].dims else curve[name].sel(target=proof.target)
        np.testing.assert_allclose(same, proof[name], atol=1e-12)
    assert {"radius", "border", "stripes_row", "stripes_column"} < set(curve.target.values)


def test_same_place_is_that_of_neighbours(curve):
    statistics = probe.collect(NET, IMAGES, layers="conv2", progress=False)
    whole = probe.neighbours(NET, IMAGES, "conv2", progress=False)
    np.testing.assert_allclose(curve.same_place_before, whole.same_place.squeeze())
    assert curve.same_place_chance.item() == whole.chance.item()
    with probe.ablate(NET, {"conv2": probe.fit_eraser(statistics, "conv2", rank=2)}):
        erased = probe.neighbours(NET, IMAGES, "conv2", progress=False)
    np.testing.assert_allclose(curve.same_place[0], erased.same_place.squeeze(), atol=1e-3)
    np.testing.assert_allclose(curve.same_place_se[0], erased.same_place_se.squeeze(), atol=1e-3)
    with probe.ablate(NET, {"conv2": probe.fit_eraser(statistics, "conv2", method="random", rank=3, seed=1)}):
        random = probe.neighbours(NET, IMAGES, "conv2", progress=False)
    np.testing.assert_allclose(curve.same_place_random[1, 1], random.same_place.squeeze(), atol=1e-3)


def test_other_images_for_the_erasers_and_labels_for_the_score():
    statistics = probe.collect(CoordinateNet(), noise_images(40, 8, seed=1), layers="identity", progress=False)
    head = torch.nn.Sequential(CoordinateNet(), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
    with pytest.raises(LayerNotFoundError, match=r"layer='0\.identity': not in the statistics"):
        probe.erasure_curve(head, IMAGES, "0.identity", score="agreement", statistics=statistics, **GIVEN)
    own = probe.collect(head, noise_images(40, 8, seed=1), layers="0.identity", progress=False)
    labelled = TensorDataset(noise_images(40, 8), torch.arange(40) % 5)
    given = {**GIVEN, "methods": "leace", "ranks": [2]}
    with pytest.warns(probe.ProbeWarning, match="chance"):
        curve = probe.erasure_curve(head, labelled, "0.identity", score="accuracy", statistics=own, **given)
    assert curve.attrs["images_digest"] != own.facts.images_digest


def test_labels_are_missed_before_any_image_is_read_for_the_erasers(monkeypatch):
    read = []
    monkeypatch.setattr("probe.erasing.curve.collect_statistics", lambda *args, **options: read.append(args))
    rows = TensorDataset(IMAGES)
    with pytest.raises(ImagesError, match="the score needs labels, and a row is a tuple without any"):
        probe.erasure_curve(NET, rows, "conv2", score="accuracy", **GIVEN)
    assert not read


def test_the_folds_of_the_score_are_its_own():
    statistics = probe.collect(NET, IMAGES, layers="conv2", folds=10, progress=False)
    given = {**GIVEN, "methods": "leace", "ranks": 2}
    curve = probe.erasure_curve(
        NET, IMAGES, "conv2", score={"mean": mean_output}, statistics=statistics, folds=4, seed=7, **given
    )
    settings = json.loads(curve.attrs["settings"])
    assert (settings["folds"], settings["score_folds"], settings["score_seed"]) == (10, 4, 7)
    assert degrees(curve) == 9 and degrees(curve, "score") == 3


def test_images_of_two_sizes_have_no_same_place():
    images = [*noise_images(20, 10), *noise_images(20, 12)]
    with pytest.warns(probe.ProbeWarning) as given:
        curve = probe.erasure_curve(
            NET, images, "conv2", score={"mean": mean_output}, draws=2, fit_stimuli="rolled", batch_size=1,
            progress=False,
        )  # fmt: skip
    assert any("same_place: left out" in str(one.message) for one in given)
    assert set(curve.method.values) == {"leace", "iterated", "channels"} and "same_place" not in curve


def test_statistics_of_other_weights():
    statistics = probe.collect(padded_net("zeros", depth=3, width=6, seed=1), IMAGES, layers="conv2", progress=False)
    with pytest.raises(ArgumentError, match="of a model with other weights"):
        probe.erasure_curve(NET, IMAGES, "conv2", score={"mean": mean_output}, statistics=statistics, **GIVEN)


def test_what_cannot_be_is_said():
    with pytest.raises(ImagesError, match="can be read only once"):
        probe.erasure_curve(NET, iter([IMAGES]), "conv2", score={"mean": mean_output}, **GIVEN)
    with pytest.raises(ArgumentError, match="draws=0"):
        probe.erasure_curve(NET, IMAGES, "conv2", score={"mean": mean_output}, **{**GIVEN, "draws": 0})
    with pytest.raises(ArgumentError, match="score"):
        probe.erasure_curve(NET, IMAGES, "conv2", score="position", **GIVEN)
