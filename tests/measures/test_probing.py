"""Known answers, and results that do not depend on how the images arrive."""

import json

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError
from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net


def rolled_r2(net, images, **options):
    result = probe.layerwise(net, images, stimuli="rolled", progress=False, **options)
    assert (result.samples_per_feature >= 200).all()
    return result.r2.sel(stimulus="rolled")


def shaded_images(count, size=24):
    """Images that are bright on top, as photographs are: content tells the row."""
    return noise_images(count, size) + torch.linspace(2, -2, size)[:, None]


class TestKnownAnswers:
    def test_coordinate_channels_are_read_exactly(self):
        assert (rolled_r2(CoordinateNet(), noise_images(100)).sel(layer="identity") > 0.999).all()

    @pytest.mark.parametrize("net", [pointwise_net(), padded_net("circular"), padded_net("valid")])
    def test_nets_that_cannot_know_position(self, net):
        assert (abs(rolled_r2(net, shaded_images(200))) < 0.01).all()

    def test_on_natural_images_content_tells_position_to_a_circular_net(self):
        result = probe.layerwise(padded_net("circular"), shaded_images(200), progress=False)
        row = result.r2.sel(target="row", layer=["conv1", "conv4"])
        assert (row.sel(stimulus="natural") > 0.3).all()
        assert (abs(row.sel(stimulus="rolled")) < 0.01).all()

    def test_zero_padding_is_seen_from_the_second_layer_on(self):
        images = shaded_images(200)
        zeros, circular = (rolled_r2(padded_net(p), images).mean("target") for p in ("zeros", "circular"))
        above = (zeros - circular).sel(layer=["conv1", "conv2", "conv3", "conv4"]).values
        assert (above[1:] > 0.01).all()

    def test_null_and_control(self):
        result = probe.layerwise(padded_net("zeros", depth=6), noise_images(200), progress=False)
        assert (result.r2_null < 0.001).all()
        # Padding gives a smooth code: other maps of positions are read worse.
        deepest = result.sel(layer="conv6", stimulus="rolled")
        assert (deepest.r2_control < deepest.r2 / 2).all()

    def test_a_one_hot_code_reads_any_map(self):
        class OneHot(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.code = torch.nn.Identity()

            def forward(self, images):
                return self.code(torch.eye(16).view(1, 16, 4, 4).expand(len(images), 16, 4, 4))

        result = probe.layerwise(OneHot(), noise_images(40, 4), layers="code", progress=False)
        assert (result.r2 > 0.99).all()
        assert (result.r2_control > 0.99).all()
        assert np.allclose(result.bits, 2)

    @pytest.mark.parametrize("smooth", [1, 6])
    def test_noise_has_no_omega_squared_even_when_its_pixels_are_correlated(self, smooth):
        images = noise_images(150, 16, smooth=smooth, seed=1)
        result = probe.channelwise(torch.nn.Identity(), images, layers="input", stimuli="natural", progress=False)
        assert (abs(result.omega2) < 3 * result.omega2_se).all()
        assert (abs(result.omega2) < 0.02).all()

    def test_omega_squared_over_many_draws_is_centred_on_zero(self):
        values = np.concatenate(
            [
                probe.channelwise(
                    torch.nn.Identity(), noise_images(30, 8, smooth=4, seed=seed), layers="input",
                    stimuli="natural", progress=False,
                ).omega2.values.ravel()
                for seed in range(40)
            ]
        )  # fmt: skip
        # The three channels of an image are independent draws.
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))

    def test_coordinates_have_omega_squared_one(self):
        result = probe.channelwise(CoordinateNet(), noise_images(20), layers="identity", progress=False)
        assert np.allclose(result.omega2.values[3:], 1)
        assert np.allclose(result.r2.sel(target="row").values[3], 1)
        assert np.allclose(result.r2.sel(target="column").values[3], 0)


class TestResult:
    def test_dimensions_facts_and_provenance(self):
        result = probe.layerwise(padded_net("zeros"), noise_images(20), seed=3, progress=False)
        assert result.r2.dims == ("layer", "stimulus", "target")
        assert result.r2_fold.dims == ("layer", "stimulus", "target", "fold")
        assert result.layer.values.tolist() == ["input", "conv1", "conv2", "conv3", "conv4"]
        assert result.n_channels.values.tolist() == [3, 16, 16, 16, 16]
        assert result.height.values.tolist() == [24] * 5
        for variable in result.data_vars.values():
            assert variable.attrs["long_name"]
            assert variable.attrs["units"]
        assert result.attrs["n_images"] == 20
        assert result.attrs["seed"] == 3
        settings = json.loads(result.attrs["settings"])
        assert settings["alpha"] == 1e-3
        assert settings["weights_digest"] == result.attrs["weights_digest"]

    def test_digests_tell_weights_and_images_apart(self):
        def digests(net, images):
            attrs = probe.layerwise(net, images, stimuli="natural", progress=False).attrs
            return attrs["weights_digest"], attrs["images_digest"]

        weights, images = digests(padded_net("zeros"), noise_images(20))
        assert digests(padded_net("zeros"), noise_images(20)) == (weights, images)
        assert digests(padded_net("zeros", seed=1), noise_images(20))[0] != weights
        assert digests(padded_net("zeros"), noise_images(20, seed=1))[1] != images

    def test_channels_in_long_form(self):
        result = probe.channelwise(padded_net("zeros", depth=2), noise_images(10), maps="conv1", progress=False)
        assert result.sizes["channel"] == 3 + 16 + 16
        assert result.layer.values.tolist() == ["input"] * 3 + ["conv1"] * 16 + ["conv2"] * 16
        assert result["index"].values.tolist() == [*range(3), *range(16), *range(16)]
        assert probe.results.layer_map(result, "mean_map", "conv1").shape == (2, 16, 24, 24)
        with pytest.raises(KeyError, match="no mean_map of layer 'conv2'"):
            probe.results.layer_map(result, "mean_map", "conv2")


def test_no_images_given():
    with pytest.raises(ArgumentError, match="images: none given"):
        probe.layerwise(padded_net("zeros"))


class TestStatistics:
    """Statistics have been read: what would have changed the reading is refused beside them."""

    @pytest.mark.parametrize(
        "options",
        [
            {"targets": "radius"}, {"folds": 3}, {"layers": "conv1"}, {"seed": 1}, {"stimuli": "rolled"},
            {"max_images": 5}, {"transform": str}, {"images": noise_images(2)},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
    def test_arguments_that_cannot_take_effect_are_refused(self, measure, options):
        statistics = probe.collect(padded_net(depth=1), noise_images(20), progress=False)
        with pytest.raises(ArgumentError, match=f"{next(iter(options))}: given with statistics.*probe.collect"):
            measure(statistics, **options)
        assert measure(statistics, progress=False).attrs["n_images"] == 20
