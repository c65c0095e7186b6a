import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import probe
from probe import reports
from probe.analyses.padding_comparison.study import _own_padding, run
from probe.errors import ArgumentError, ImagesError, PaddingError, ProbeWarning
from probe.results import SCHEMA, layer_map
from probe.testing import noise_images, padded_net

PADDINGS = ["zeros", "valid", "circular"]


def classifier(seed=0):
    return nn.Sequential(*padded_net("zeros", depth=3, width=8, seed=seed), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def digits(**options):
    return run(**{"paddings": PADDINGS, "seeds": 2, "preset": "tiny", "progress": False, **options})


@pytest.fixture(scope="module")
def result(tiny_comparison):
    return tiny_comparison


@pytest.fixture(scope="module")
def images():
    return noise_images(60, size=12)


@pytest.fixture(scope="module")
def given(images):
    return run(classifier(), images, untrained=classifier(1), paddings=["circular", "zeros"], seed=5, progress=False)


# ---- Embedded networks


def test_the_result_holds_every_network(result):
    assert dict(result.r2.sizes) == {"padding": 3, "seed": 2, "training": 2, "layer": 5, "stimulus": 2, "target": 2}
    assert list(result.padding.values) == PADDINGS
    assert list(result.training.values) == ["trained", "untrained"]
    assert list(result.layer.values) == ["input", "conv1", "conv2", "conv3", "conv4"]
    assert set(result.r2_fold.dims) == {*result.r2.dims, "fold"}
    assert result.omega2.dims == ("padding", "seed", "training", "channel", "stimulus")
    layers, counts = np.unique(result.channel_layer, return_counts=True)
    assert dict(zip(layers, counts, strict=True)) == {"conv1": 16, "conv2": 24, "conv3": 32, "conv4": 32, "input": 1}
    for name in ("r2", "r2_fold", "omega2", "accuracy", "agreement"):
        assert result[name].notnull().all()


def test_the_numbers_of_every_study_are_there(result):
    assert result.here.dims == ("padding", "training", "layer", "stimulus")
    np.testing.assert_allclose(result.here, result.r2.mean(["seed", "target"]))
    np.testing.assert_allclose(result.here_sd, np.std(result.r2.mean("target"), axis=1, ddof=1))
    assert result.published.isnull().all()


def test_maps_differ_in_size_between_paddings(result):
    assert result.height.sel(padding="zeros").values.tolist() == [32, 16, 16, 8, 8]
    assert result.height.sel(padding="valid").values.tolist() == [32, 15, 13, 6, 4]
    assert result.decoded_map_1.attrs["padding"] == "valid"
    assert result.decoded_map_1.shape == (2, 2, 2, 4, 4)


def test_everything_is_described_and_survives_a_file(result, tmp_path):
    for variable in result.data_vars.values():
        assert variable.attrs["long_name"] and variable.attrs["units"]
    assert result.attrs["schema"] == SCHEMA
    assert result.attrs["analysis"] == "padding_comparison"
    assert result.attrs["command"] == "probe report"
    assert result.attrs["duration_s"] > 0
    assert json.loads(result.attrs["versions"])["torch"] == torch.__version__.partition("+")[0]
    assert json.loads(result.attrs["settings"])["probing"]["folds"] == 5
    xr.testing.assert_identical(probe.load(probe.save(result, tmp_path / "result.nc")), result)


def test_networks_of_one_seed_differ_in_padding_alone(result):
    digests = json.loads(result.attrs["weights_digests"])
    for seed in (0, 1):
        assert len({digests[f"{padding}, {seed}, untrained"] for padding in PADDINGS}) == 1
        assert len({digests[f"{padding}, {seed}, trained"] for padding in PADDINGS}) == 3
    assert digests["zeros, 0, untrained"] != digests["zeros, 1, untrained"]


def test_runs_are_repeatable_and_leave_the_random_state(result):
    before = torch.get_rng_state()
    again = digits(command="probe report")
    assert torch.equal(torch.get_rng_state(), before)
    for attribute in ("created", "duration_s"):
        again.attrs[attribute] = result.attrs[attribute]
    xr.testing.assert_identical(again, result)


def test_untrained_networks_show_position_with_zeros_but_not_with_circular_padding(result):
    last = result.r2.sel(training="untrained", layer="conv4", stimulus="rolled").mean("target")
    assert (last.sel(padding="zeros") > 0.1).all()
    assert (last.sel(padding="circular") < 0.01).all()


def test_trained_networks_recognise_digits_and_circular_ones_know_position_by_content_alone():
    result = digits(paddings=["circular"], seeds=1, preset="quick")
    assert result.accuracy.item() >= 0.95
    assert 0.9 < result.agreement.item() <= 1
    r2 = result.r2.sel(padding="circular", seed=0, training="trained").mean("target")
    assert np.abs(r2.sel(stimulus="rolled")).max() < 0.01
    assert r2.sel(stimulus="natural", layer="conv4") > 0.1


# ---- A given model


def test_a_given_model_is_scored_as_layerwise_and_channelwise_score_it(given, images):
    for training, seed in (("trained", 0), ("untrained", 1)):
        swapped = probe.with_padding(classifier(seed), "circular")
        layers = probe.layerwise(swapped, images, seed=5, maps="4", progress=False)
        chosen = given.sel(padding="circular", seed=5, training=training)
        for name in ("r2", "r2_fold", "r2_se", "r2_null", "r2_control", "bits"):
            np.testing.assert_allclose(chosen[name], layers[name], atol=1e-9)
        channels = probe.channelwise(swapped, images, seed=5, maps="4", progress=False)
        np.testing.assert_allclose(chosen.omega2, channels.omega2, atol=1e-9)
        np.testing.assert_array_equal(chosen.channel_index, channels["index"])
        np.testing.assert_array_equal(chosen.channel_layer, channels.layer)
        if training == "trained":
            omega2 = channels.omega2.sel(stimulus="rolled").values[channels.layer.values == "4"]
            strongest = sorted(range(8), key=lambda channel: -omega2[channel])[:4]
            assert given.strongest_channel_0.sel(seed=5).values.tolist() == strongest
            mean_map = layer_map(layers, "mean_map", "4").values[:, strongest]
            np.testing.assert_allclose(given.mean_map_0.sel(seed=5), mean_map, atol=1e-6)
            decoded = layer_map(layers, "decoded_map", "4")
            np.testing.assert_allclose(given.decoded_map_0.sel(seed=5), decoded, atol=1e-6)


def test_a_given_model_has_agreement_but_no_accuracy(given):
    assert "accuracy" not in given
    assert given.agreement.sel(padding="circular").item() == 1  # a circular net cannot see a roll
    assert given.attrs["networks"] == "given"
    assert given.attrs["own_padding"] == "zeros"


def predicted(model, images):
    with torch.no_grad():
        return model.eval()(images).argmax(dim=1).numpy()


@pytest.fixture(scope="module")
def labelled(images):
    labels = np.where(
        np.arange(60) % 4 == 0, (predicted(classifier(), images) + 1) % 8, predicted(classifier(), images)
    )
    result = run(classifier(), images, labels=labels, paddings=["zeros", "full"], progress=False)
    return result, labels


def test_predictions_under_each_padding_are_compared_with_labels_and_with_the_own_padding(labelled, images):
    result, labels = labelled
    for padding in ("zeros", "full"):
        classes = predicted(probe.with_padding(classifier(), padding), images)
        found = result.sel(padding=padding, seed=0)
        assert found.accuracy.item() == pytest.approx((classes == labels).mean())
        assert found.agreement_with_own.item() == pytest.approx((classes == predicted(classifier(), images)).mean())
        assert found.commonest_share.item() == pytest.approx(np.bincount(classes).max() / 60)
    assert result.agreement_with_own.sel(padding="zeros").item() == 1
    intact, chance = json.loads(result.attrs["intact"]), json.loads(result.attrs["chance"])
    assert intact["accuracy"] == pytest.approx(0.75)
    assert chance["accuracy"] == pytest.approx(np.bincount(labels).max() / 60)


def test_few_of_the_images_keep_their_labels(tmp_path, images):
    labels = predicted(classifier(), images)
    result = run(classifier(), images, labels=labels, paddings=["zeros"], max_images=20, progress=False)
    assert result.accuracy.item() == 1


def test_small_copies_of_what_was_shown_are_kept(given, images):
    shown = given.shown_image.transpose("shown_number", "shown", ..., "colour")
    assert list(given.shown.values) == ["natural", "rolled"] and shown.shape[0] == 3
    natural, rolled = shown.values[0].astype(float)
    assert not np.array_equal(natural, rolled)
    np.testing.assert_array_equal(np.sort(natural, axis=None), np.sort(rolled, axis=None))
    image = images[0].permute(1, 2, 0).numpy()
    image = 255 * (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(natural, image, atol=0.51)


@pytest.mark.parametrize(
    ("layers", "own"),
    [
        ([nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3)], "reflect"),
        ([nn.Conv2d(3, 4, 3)], "none"),
        ([nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ZeroPad2d(1)], "circular, zeros"),
    ],
)
def test_the_own_padding_is_found_also_in_layers_of_its_own(layers, own):
    assert _own_padding(nn.Sequential(*layers)) == own


def test_a_given_model_is_left_as_it_was(images):
    model = classifier().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = run(model, images, paddings=["valid"], progress=False)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(result.training.values) == ["trained"]


def test_what_is_no_classifier_has_no_agreement(images):
    assert "agreement" not in run(padded_net("zeros"), images, paddings=["zeros"], progress=False)


def test_a_padding_that_cannot_run_is_left_out_and_told():
    model, images = padded_net("zeros", depth=3), noise_images(40, size=6)
    result = run(model, images, paddings=["valid", "zeros"], progress=False)
    assert list(result.padding.values) == ["zeros"]
    assert "conv3" in json.loads(result.attrs["failed"])["valid"]
    with pytest.raises(PaddingError, match=r"runs under none of them\. valid: "):
        run(model, images, paddings=["valid"], progress=False)


def test_a_layer_that_a_padding_does_not_have_is_missing():
    model, images = padded_net("zeros", depth=3), noise_images(60, size=7)
    with pytest.warns(ProbeWarning, match="left out"):
        result = run(model, images, paddings=["valid", "zeros"], progress=False)
    assert list(result.layer.values) == ["input", "conv1", "conv2", "conv3"]
    found = result.r2.isel(seed=0).sel(training="trained").notnull().all(["stimulus", "target"])
    assert found.sel(padding="valid").values.tolist() == [True, True, True, False]
    assert found.sel(padding="zeros").all()
    assert result.decoded_map_0.attrs["layer"] == "conv2"
    assert "conv3" in json.loads(result.attrs["skipped"])
    assert "conv3" in reports.build(result).html()


def test_warnings_are_given_and_kept():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3))
    with pytest.warns(ProbeWarning) as caught:
        result = run(model, noise_images(20, size=8), paddings=["circular"], progress=False)
    messages = {str(warning.message) for warning in caught}
    kept = json.loads(result.attrs["warnings"])
    assert any("ReflectionPad2d" in text for text in kept)
    assert all(any(message in text for text in kept) for message in messages)


# ---- Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"paddings": "zeros"}, "paddings='zeros': expected a list of some of zeros, reflect"),
        ({"paddings": ["zeros", "mirror"]}, "expected a list of some of zeros"),
        ({"paddings": ["zeros", "zeros"]}, "each once"),
        ({"paddings": []}, "expected a list"),
        ({"seeds": 0}, "seeds=0: expected a whole number of at least 1"),
        ({"preset": "huge"}, "preset='huge': expected one of tiny, quick, paper"),
        ({"model": nn.Identity()}, "images: none given"),
        ({"labels": [1]}, "labels: given without a model"),
        ({"images": "photos"}, "images: given without a model"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        run(**{"progress": False, **arguments})


def test_images_that_can_be_read_once_alone():
    with pytest.raises(ImagesError, match="can be read only once, and each padding reads them anew"):
        run(model=nn.Identity(), images=iter([]), progress=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0] * 59, "for each of the 60 images"), ([0.5] * 60, "whole number"), ([8] * 60, "the model has 8 outputs")],
)
def test_labels_that_do_not_fit_are_refused(labels, message, images):
    with pytest.raises(ArgumentError, match=message):
        run(classifier(), images, labels=labels, paddings=["zeros"], progress=False)
