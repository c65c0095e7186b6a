"""From statistics to results: what is scored, what is marked, and what is warned of."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, ImagesError, ProbeWarning
from probe.readouts.targets import target_maps
from probe.testing import padded_net
from tests.activations import Same, activations
from tests.lived_in import IMAGES, run

pytestmark = pytest.mark.filterwarnings("ignore:images. values reach")


def test_bits_are_capped_by_the_rows_and_by_the_columns():
    maps = torch.from_numpy(target_maps({n: probe.TARGETS[n] for n in ("row", "column")}, 4, 64)).expand(20, 2, 4, 64)
    result = probe.layerwise(Same(), maps, layers="same", stimuli="natural", positions=None, alpha=1e-9, progress=False)
    np.testing.assert_allclose(result.bits.values.ravel(), [2, 6])


def test_constant_targets_and_dead_channels_are_not_scored():
    maps = activations(n_channels=5, size=(1, 30))
    maps[:, 4] = 0.7
    maps[:, 1] = activations(size=(1, 30), seed=4)[:, 0]
    with pytest.warns(probe.ProbeWarning) as caught:
        result = probe.layerwise(Same(), maps.float(), layers="same", stimuli="natural", positions=None, progress=False)
    messages = " ".join(str(w.message) for w in caught)
    assert "target 'row' is constant on the grid of same" in messages
    assert "1 channel does not vary and is left out, in same" in messages
    assert np.isnan(result.r2.sel(target="row")).all()
    assert np.isnan(result.bits.sel(target="row")).all()
    assert np.isfinite(result.r2.sel(target="column")).all()
    without = probe.layerwise(
        Same(), maps[:, :4].float(), layers="same", targets="column", stimuli="natural", positions=None,
        progress=False,
    )  # fmt: skip
    assert result.r2.sel(target="column").item() == pytest.approx(without.r2.item(), abs=1e-7)
    assert result.samples_per_feature.item() == 30 * 30 / 4
    with pytest.warns(probe.ProbeWarning, match="1 channels do not vary or are not finite: NaN, in same"):
        channels = probe.channelwise(
            Same(), maps.float(), layers="same", targets="column", stimuli="natural", progress=False
        )
    assert np.isnan(channels.omega2.values[4]).all()
    assert np.isfinite(channels.omega2.values[:4]).all()


class Altering(nn.Module):
    """Set some channels to a value."""

    def __init__(self, channels, value):
        super().__init__()
        self.channels, self.value = channels, value

    def forward(self, maps):
        maps = maps.clone()
        maps[:, self.channels] = self.value
        return maps


def altered_net(channels, value):
    net = padded_net(depth=2, width=4)
    return nn.Sequential(net.conv1, Altering(channels, value), net.conv2)


class TestValues:
    def test_a_channel_of_huge_values_is_measured_like_any_other(self):
        plain, huge = padded_net(depth=1, width=4), padded_net(depth=1, width=4)
        with torch.no_grad():
            huge.conv1.weight[1:3] *= torch.tensor([1e-25, 1e25])[:, None, None, None]
            huge.conv1.bias[1:3] *= torch.tensor([1e-25, 1e25])
        for measure in (probe.layerwise, probe.channelwise):
            expected, found = (run(measure, net, layers="conv1") for net in (plain, huge))
            np.testing.assert_allclose(found.r2, expected.r2, atol=1e-5)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    def test_a_layer_that_is_not_finite_is_marked_and_the_others_are_scored(self, value, left_as_found):
        model = altered_net([1], value)
        with (
            pytest.warns(ProbeWarning, match=r"not finite: 1, 2 gave NaN or infinity and is not scored"),
            left_as_found(model),
        ):
            result = run(probe.layerwise, model, layers=["0", "1", "2"])
        assert result.valid.sel(layer="0").all()
        assert not result.valid.sel(layer=["1", "2"]).any()
        assert np.isfinite(result.r2.sel(layer="0")).all()
        assert np.isnan(result.r2.sel(layer=["1", "2"])).all()

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_channels_that_are_not_finite_are_marked_and_the_others_are_scored(self, value):
        with pytest.warns(ProbeWarning, match=r"1 channels do not vary or are not finite: NaN, in 1\."):
            result = run(probe.channelwise, altered_net([1], value), layers="1", maps="1")
        assert np.isnan(result.r2.values[1]).all()
        assert np.isfinite(result.r2.values[[0, 2, 3]]).all()
        assert np.isfinite(result.omega2.values[[0, 2, 3]]).all()

    def test_squares_that_leave_single_precision_are_summed(self):
        with pytest.warns(ProbeWarning, match=r"1 channel does not vary and is left out, in 1\."):
            result = run(probe.layerwise, altered_net([1], 1e30), layers=["1", "2"])
        assert result.valid.all()
        alive = nn.Sequential(padded_net(depth=2, width=4).conv1, Chosen([0, 2, 3]))
        expected = run(probe.layerwise, alive, layers="1")
        np.testing.assert_allclose(result.r2.sel(layer="1"), expected.r2.sel(layer="1"), atol=1e-6)
        in_double = run(probe.layerwise, altered_net([1], 1e30).double(), IMAGES.double(), layers="2")
        np.testing.assert_allclose(result.r2.sel(layer="2"), in_double.r2.sel(layer="2"), atol=1e-3)

    def test_maps_of_a_layer_that_is_not_finite(self):
        with pytest.warns(ProbeWarning, match="not finite"):
            result = run(probe.layerwise, altered_net([1], torch.nan), layers="1", maps="1")
        assert np.isnan(probe.results.layer_map(result, "decoded_map", "1")).all()

    def test_dead_channels_are_counted_and_left_out(self):
        with pytest.warns(ProbeWarning, match=r"4 channels do not vary and are left out, in 1, 2|2 channels"):
            result = run(probe.layerwise, altered_net([1, 2], 7.0), layers=["0", "1"], stimuli="rolled")
        assert result.n_dead.values.tolist() == [[0], [2]]
        alive = nn.Sequential(padded_net(depth=2, width=4).conv1, Chosen([0, 3]))
        expected = run(probe.layerwise, alive, layers="1", stimuli="rolled")
        np.testing.assert_allclose(result.r2.sel(layer="1"), expected.r2.sel(layer="1"), atol=1e-6)
        with pytest.warns(ProbeWarning, match=r"2 channels do not vary or are not finite: NaN, in 1\."):
            channels = run(probe.channelwise, altered_net([1, 2], 7.0), layers="1", stimuli="rolled")
        assert np.isnan(channels.omega2.values[[1, 2]]).all()
        assert np.isfinite(channels.omega2.values[[0, 3]]).all()

    def test_a_layer_without_a_living_channel(self):
        with pytest.warns(ProbeWarning, match=r"4 channels do not vary"):
            result = run(probe.layerwise, altered_net([0, 1, 2, 3], 7.0), layers="1")
        assert result.n_dead.values.tolist() == [[4, 4]]

    def test_a_constant_target(self):
        targets = {
            "row": lambda h, w: np.linspace(-1, 1, h)[:, None].repeat(w, 1),
            "flat": lambda h, w: np.ones((h, w)),
        }
        with pytest.warns(ProbeWarning, match="target 'flat' is constant on the grid of .*: NaN"):
            result = run(probe.layerwise, padded_net(depth=1), targets=targets)
        assert np.isnan(result[["r2", "r2_null", "r2_control", "r2_se"]].sel(target="flat").to_array()).all()
        assert np.isfinite(result.r2.sel(target="row")).all()

    def test_few_samples_a_feature(self):
        with pytest.warns(ProbeWarning, match=r"fewer than 5 samples a feature in conv1.*Pass more images"):
            result = run(probe.layerwise, padded_net(depth=1, width=16), IMAGES, positions=3)
        assert result.samples_per_feature.sel(layer="conv1") == 20 * 3 / 16
        enough = run(probe.layerwise, padded_net(depth=1, width=16), IMAGES, positions=4)
        assert enough.samples_per_feature.sel(layer="conv1") == 5 and enough.attrs["warnings"] == "[]"

    def test_samples_a_feature_are_those_of_the_stimulus_with_most_features(self):
        """A channel that reads a black column alone is dead under one stimulus."""

        class Column(nn.Module):
            def forward(self, images):
                return torch.cat([images, images[..., :1].expand_as(images)[:, :1] * images[:, 1:2]], dim=1)

        images = IMAGES.clone()
        images[..., 0] = 0
        for stimuli in (("natural", "rolled"), ("rolled", "natural")):
            with pytest.warns(ProbeWarning, match="1 channel does not vary and is left out, in 0"):
                result = run(probe.layerwise, nn.Sequential(Column()), images, layers="0", stimuli=stimuli)
            assert result.n_dead.sel(layer="0", stimulus=["natural", "rolled"]).values.tolist() == [1, 0]
            assert result.samples_per_feature.item() == 20 * 64 / 4


class Chosen(nn.Module):
    """Keep some channels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, maps):
        return maps[:, self.channels]

    def test_one_layer_that_is_not_finite_is_marked_under_each_stimulus(self):
        with pytest.warns(ProbeWarning, match="not finite: 1, 2 gave NaN or infinity and is not scored"):
            result = run(probe.layerwise, altered_net([0], torch.nan), layers=["0", "1", "2"])
        assert result.valid.values.tolist() == [[True, True], [False, False], [False, False]]


def test_few_images_are_warned_of_and_enough_are_not():
    with pytest.warns(ProbeWarning, match="19 images: cells of one image are alike.* fewer than 20 images are rough"):
        result = run(probe.layerwise, padded_net(depth=1), IMAGES[:19])
    assert "19 images" in result.attrs["warnings"]
    assert run(probe.layerwise, padded_net(depth=1), IMAGES).attrs["warnings"] == "[]"


def test_fewer_images_than_folds():
    with pytest.raises(ImagesError, match="3 images leave 2 of 5 folds without any"):
        run(probe.layerwise, padded_net("zeros"), IMAGES[:3])


def test_what_so_few_images_cannot_tell_is_nan_with_a_warning():
    """Channels that are on in one image alone send readouts of the others astray on it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(10, 40, 5, 5, generator=generator, dtype=torch.float64)
    for channel in range(40):
        images[:, channel] *= 1e-3
        images[channel % 10, channel] *= 1e3
    options = {"layers": ["few", "many"], "stimuli": "natural", "positions": None, "progress": False}
    net = torch.nn.Sequential(OrderedDict(few=torch.nn.Identity(), many=torch.nn.Conv2d(40, 2, 1))).double()
    with pytest.warns(probe.ProbeWarning) as caught:
        result = probe.layerwise(net, images, **options)
    assert any("r2 of few cannot be told from so few images" in str(one.message) for one in caught)
    assert result.sel(layer="few").r2.isnull().all() and result.sel(layer="few").r2_fold.isnull().all()
    assert result.sel(layer="many").r2.notnull().all()
    assert "cannot be told" in result.attrs["warnings"]


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_refused_before_anything_is_read(alpha):
    with pytest.raises(ArgumentError, match=r"^alpha=.*: expected a number above 0"):
        probe.layerwise(padded_net(depth=1), "no/such/folder", alpha=alpha)
