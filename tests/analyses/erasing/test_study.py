"""The study of erasing: homographies, what is tried beyond single cells, and that its numbers are the library's."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.analyses.erasing.edits import read_edits
from probe.analyses.erasing.matching import corners_for, homography, matched_shares
from probe.analyses.erasing.study import run
from probe.errors import ArgumentError, ProbeWarning
from probe.reading.options import Options
from probe.testing import CoordinateNet, noise_images, padded_net
from tests.readouts.features import Given


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("erasing")


def test_a_homography_takes_corners_to_corners():
    start, end = corners_for(0, 5, (20, 30))
    moved = homography(start, end) @ np.concatenate([start, np.ones((4, 1))], axis=1).T
    np.testing.assert_allclose((moved[:2] / moved[2]).T, end)
    assert ((end >= 0) & (end <= [29, 19])).all() and not np.allclose(start, end)


def options_for(layer):
    return Options(layers=layer, progress=False)


def coloured(count):
    """Images in which each place has a colour of its own."""
    row, column = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    return torch.stack([row, column, torch.ones_like(row)]).expand(count, 3, 24, 24).clone()


def test_colours_find_themselves_and_coordinates_find_the_same_place():
    by_colour = matched_shares(Given(), coloured(4), options_for("layer"))
    assert by_colour.min() > 0.9
    # The coordinates alone say where a cell was, not what it shows.
    by_place = matched_shares(CoordinateNet(), 1 + coloured(4) / 1000, options_for("identity"))
    assert by_place.max() < 0.75


def test_matching_sees_the_erased_features():
    net = CoordinateNet()
    statistics = probe.collect(net, noise_images(60, 24), layers="identity", progress=False)
    before = matched_shares(net, coloured(6) / 2, options_for("identity"))
    with probe.ablate(net, {"identity": probe.fit_eraser(statistics, "identity")}):
        after = matched_shares(net, coloured(6) / 2, options_for("identity"))
    assert after.mean() > before.mean() + 0.1 and after.mean() > 0.9


def test_what_is_tried_beyond_cells():
    """A variance that tells the row is taken out by the edit that levels it, and by no other."""
    maps = torch.randn(120, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[:, 0] *= (0.1 + torch.linspace(-1, 1, 8)[:, None] + 1) ** 2
    maps[:, 1] += torch.linspace(-1, 1, 8)[:, None]
    found = read_edits(
        Given(), maps[::2], maps[1::2], "layer", stimulus="natural", options={"progress": False}, samples=4000, seeds=2
    )
    row = found.r2.sel(target="row", stimulus="natural")
    assert abs(row.sel(edit="second_order")).max() < 0.05
    assert abs(row.sel(edit="neighbourhood", reader="cell")) < 0.05
    assert row.sel(edit="neighbourhood", reader="perceptron") > 0.05


def test_its_numbers_are_those_of_the_library():
    net = nn.Sequential(padded_net("zeros", depth=2, width=6), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    images = noise_images(60, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        found = run(net, images, layers="0.relu1", score="agreement", preset="tiny", progress=False)
        statistics = probe.collect(net, images, layers="0.relu1", progress=False)
        curve = probe.erasure_curve(
            net, images, "0.relu1", score="agreement", statistics=statistics, ranks=[2], draws=2, methods="leace",
            progress=False,
        )  # fmt: skip
    here = found.here.sel(eraser="leace 2, rolled")
    one = curve.isel(eraser=0, score=0)
    assert here.sel(quantity="score").item() == pytest.approx(one.erased.item())
    expected = one.r2.sel(stimulus="rolled", target=["row", "column"]).mean().item()
    assert here.sel(quantity="r2_rolled").item() == pytest.approx(expected, abs=1e-6)
    assert here.sel(quantity="same_place_rolled").item() == pytest.approx(
        curve.same_place.isel(eraser=0).sel(match_stimulus="rolled").item(), abs=1e-3
    )
    assert found.attrs["model"] == "Sequential"


def test_networks_of_digits(result):
    assert result.eraser.values[0] == "intact" and "leace 2, natural" in result.eraser.values
    left = result.here.sel(quantity="r2_rolled")
    assert abs(left.sel(eraser="leace 2, rolled")) < left.sel(eraser="intact")
    assert result.here.sel(eraser="intact", quantity="cost") == 0
    assert set(result.edits_r2.edit.values) == {"neighbourhood", "second_order"}


@pytest.mark.parametrize(
    "given", [{"images": noise_images(4, 8)}, {"images": noise_images(4, 8), "layers": ["a", "b"]}, {"layers": "a"}]
)
def test_a_model_comes_with_images_and_one_layer(given):
    model = {} if "images" not in given else {"model": padded_net()}
    with pytest.raises(ArgumentError, match="give all three, of layers one, or none"):
        run(**model, **given, progress=False)


OF_A_MODEL = {"model": padded_net(), "images": noise_images(4, 8), "layers": "conv1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            OF_A_MODEL | {"score": ["agreement", "accuracy"]},
            "score: agreement, accuracy given, and the study records one",
        ),
        (OF_A_MODEL | {"seeds": 2}, "seeds=2: a given model is not trained, so it would have no effect"),
        ({"score": "accuracy"}, "score, scored: without a model they would have no effect"),
        ({"scored": noise_images(4, 8)}, "score, scored: without a model they would have no effect"),
    ],
)
def test_what_would_have_no_effect_is_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        run(**given, preset="tiny", progress=False)
