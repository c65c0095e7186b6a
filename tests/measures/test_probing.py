"""Known answers, and results that do not depend on how the images arrive."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.errors import ArgumentError, ImagesError, TooLargeError
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


def collect_in_double(images, **options):
    net = padded_net("zeros", depth=2).double()
    return probe.layerwise(net, images, positions=30, maps="conv2", progress=False, **options)


def assert_same(first, second):
    for name, values in first.data_vars.items():
        assert np.allclose(values, second[name], atol=1e-9), name


class TestInvariance:
    images = shaded_images(23, 12).double()

    @pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"batch_size": 100}])
    def test_batch_size(self, options):
        assert_same(collect_in_double(self.images), collect_in_double(self.images, **options))

    def test_workers(self):
        rows = TensorDataset(self.images)
        assert_same(collect_in_double(self.images), collect_in_double(rows, num_workers=2, batch_size=6))

    def test_order_of_arrival(self):
        loader = DataLoader(TensorDataset(self.images), batch_size=4)
        batches = (self.images[start : start + 3] for start in range(0, 23, 3))
        expected = collect_in_double(self.images)
        assert_same(expected, collect_in_double(loader))
        assert_same(expected, collect_in_double(batches))

    def test_two_runs_merged(self, tmp_path):
        net = padded_net("zeros", depth=2).double()
        options = {"positions": 30, "progress": False}
        first = probe.collect(net, self.images[:9], **options)
        second = probe.collect(net, self.images[9:], first_image=9, **options)
        path = second.save(tmp_path / "second.pt")
        merged = first.merge(probe.Statistics.load(path))
        expected = probe.collect(net, self.images, **options)
        assert_same(probe.layerwise(expected, maps="conv2"), probe.layerwise(merged, maps="conv2"))
        assert_same(probe.channelwise(expected, maps="conv2"), probe.channelwise(merged, maps="conv2"))
        assert merged.facts.images_digest == expected.facts.images_digest
        assert merged.images == [(0, 9), (9, 23)]

    def test_collected_statistics_give_what_the_model_gives(self):
        net = padded_net("zeros", depth=2).double()
        statistics = probe.collect(net, self.images, progress=False)
        assert_same(probe.layerwise(net, self.images, progress=False), probe.layerwise(statistics))
        assert_same(probe.channelwise(net, self.images, progress=False), probe.channelwise(statistics))

    def test_the_same_bits_twice(self):
        net = padded_net("zeros", depth=2)
        first, second = (probe.layerwise(net, self.images.float(), progress=False) for _ in range(2))
        assert first.drop_attrs().identical(second.drop_attrs())

    def test_a_generator_is_read_once_for_all_stimuli(self):
        reads = []

        def batches():
            for start in range(0, 20, 5):
                reads.append(start)
                yield self.images[start : start + 5]

        result = probe.layerwise(
            padded_net("zeros", depth=2).double(), batches(), stimuli=tuple(probe.STIMULI), progress=False
        )
        assert reads == [0, 5, 10, 15]
        assert result.sizes["stimulus"] == 4
        assert np.isfinite(result.r2.sel(layer="conv2")).all()


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

    def test_few_samples_are_warned_of(self):
        with pytest.warns(probe.ProbeWarning, match="fewer than 5 samples a feature in conv1, conv2"):
            result = probe.layerwise(padded_net("zeros", depth=2), noise_images(20), positions=3, progress=False)
        assert result.samples_per_feature.values.tolist() == [20, 60 / 16, 60 / 16]
        assert "fewer than 5" in result.attrs["warnings"]

    def test_few_images_are_warned_of(self):
        with pytest.warns(probe.ProbeWarning, match="19 images: cells of one image are alike.*Pass more images"):
            probe.layerwise(padded_net("zeros", depth=1), noise_images(19), progress=False)

    def test_one_layer_with_nan_is_marked_and_the_rest_scored(self):
        class Broken(torch.nn.Module):
            def forward(self, maps):
                return maps * torch.nan

        net = torch.nn.Sequential(padded_net("zeros", depth=1), Broken())
        with pytest.warns(probe.ProbeWarning, match="not finite: 1 gave NaN or infinity and is not scored"):
            result = probe.layerwise(net, noise_images(20), layers=["0.conv1", "1"], progress=False)
        assert result.valid.values.tolist() == [[True, True], [False, False]]
        assert np.isnan(result.r2.sel(layer="1")).all()
        assert np.isfinite(result.r2.sel(layer="0.conv1")).all()


class TestMemory:
    def test_list_layers_shows_what_the_statistics_take(self):
        net, images = padded_net("zeros", depth=2), noise_images(20)
        listed = probe.list_layers(net, images).loc["conv2", "MB"]
        gram = probe.collect(net, images, progress=False).grams["natural", "conv2"]
        assert listed == pytest.approx(2 * gram.nbytes / 1e6, abs=1e-3)

    def test_statistics_that_do_not_fit_are_refused_with_the_cure(self, monkeypatch):
        monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 100_000}))
        with pytest.raises(TooLargeError, match=r"would take .* GB, and .* free on cpu. Choose fewer layers="):
            probe.layerwise(padded_net("zeros"), noise_images(10), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds=1: expected a whole number of at least 2"),
        ({"alpha": -1}, "alpha=-1: expected a number above 0"),
        ({"positions": 0}, "positions=0: expected 'auto', None"),
        ({"positions": "some"}, "positions='some': expected 'auto', None"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
        ({"batch_size": 2.5}, "batch_size=2.5: expected a whole number"),
        ({"max_images": 0}, "max_images=0"),
        ({"stimuli": "blurred"}, "stimuli='blurred': choose one or more, each once, from natural"),
        ({"targets": "depth"}, "unknown target 'depth'"),
        ({"autocast": "int8"}, "autocast='int8'"),
        ({"layout": "CHW"}, "unknown layout 'CHW'"),
        ({"groups": [1, 2]}, "groups: 2 distinct labels are too few for folds=5"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ArgumentError, match=message):
        probe.layerwise(padded_net("zeros"), noise_images(10), progress=False, **options)


def test_no_images_given():
    with pytest.raises(ArgumentError, match="images: none given"):
        probe.layerwise(padded_net("zeros"))


def test_fewer_images_than_folds():
    with pytest.raises(ImagesError, match="3 images leave 2 of 5 folds without any"):
        probe.layerwise(padded_net("zeros"), noise_images(3), progress=False)
