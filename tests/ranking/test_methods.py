"""Rankings of channels, against the plain formulas, and their faults."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import probe
from probe.testing import CoordinateNet, noise_images, padded_net
from tests.ranking.rankings import by_channel, rank, uneven_images

METHODS = ("flip", "shift", "omega2", "readout", "attribution")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net():
    return padded_net("zeros", depth=3, width=8).double()


@pytest.fixture
def images():
    return uneven_images(23)


@pytest.mark.parametrize("method", ["omega2", "readout", "attribution"])
def test_the_other_methods_find_a_pure_coordinate(method):
    ranking = rank(CoordinateNet(), noise_images(40, size=8), "identity", method=method)
    assert sorted(ranking.index.values[:2]) == [3, 4]
    assert ranking.score.values[1] > 10 * abs(ranking.score.values[2])


@pytest.mark.parametrize("method", METHODS)
def test_stability_is_the_rank_correlation_of_even_and_odd_images(net, method):
    images = uneven_images(41)
    options = {"method": method, "stimulus": "natural", "positions": None}
    whole = rank(net, images, **options)
    halves = [by_channel(rank(net, images[half::2], **options)) for half in (0, 1)]
    assert float(whole.stability) == pytest.approx(spearmanr(*halves).statistic, abs=1e-9)


def test_groups_stay_in_one_half(net):
    images = uneven_images(40)
    videos = np.repeat(range(20), 2)
    halves = [by_channel(rank(net, images[videos % 2 == half])) for half in (0, 1)]
    assert float(rank(net, images, groups=videos).stability) == pytest.approx(spearmanr(*halves).statistic, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_result_says_what_it_ranks(net, images, method, tmp_path):
    ranking = rank(net, images, method=method, seed=3)
    assert ranking.sizes == {"channel": 8}
    assert (ranking.layer == "conv3").all()
    assert sorted(ranking.index.values) == list(range(8))
    known = probe.collect(net, images, layers="conv3", progress=False)
    expected = {
        "method": method,
        "axis": "horizontal" if method in ("flip", "shift") else "",
        "region": "overall" if method in ("flip", "shift") else "",
        "stimulus": "natural" if method in ("flip", "shift") else "rolled",
        "layer": "conv3",
        "model": "Sequential",
        "seed": 3,
        "n_images": 23,
        "images_digest": known.facts.images_digest,
        "weights_digest": known.settings["weights_digest"],
    }
    assert {name: ranking.attrs[name] for name in expected} == expected
    assert all({"long_name", "units"} <= variable.attrs.keys() for variable in ranking.data_vars.values())
    assert probe.load(probe.save(ranking, tmp_path / "ranking.nc")).identical(ranking)


class Spoiled(nn.Module):
    """Channel 0 does not vary, channel 1 is sometimes not a number, channel 2 sometimes infinite."""

    def __init__(self, net):
        super().__init__()
        self.net, self.out = net, nn.Identity()

    def forward(self, images):
        maps = self.net(images).clone()
        maps[:, 0] = 0.25
        bright = images.mean((1, 2, 3)) > 0
        maps[bright, 1, 0, 0] = torch.nan
        maps[bright, 2, 0, 0] = torch.inf
        return self.out(maps)


@pytest.mark.parametrize("method", METHODS)
def test_channels_without_a_score_come_last_and_leave_the_others_alone(net, images, method):
    options = {"method": method, "stimulus": "natural"}
    with pytest.warns(probe.ProbeWarning, match="3 of 8 channels of out do not vary or are not finite"):
        spoiled = rank(Spoiled(net[:5]), images, "out", **options)
    assert spoiled.index.values[-3:].tolist() == [0, 1, 2]
    assert np.isnan(spoiled.score.values[-3:]).all()
    assert np.isfinite(spoiled.score.values[:-3]).all()
    assert np.isfinite(spoiled.stability)
    if method in ("flip", "shift", "omega2"):
        np.testing.assert_allclose(by_channel(spoiled)[3:], by_channel(rank(net, images, **options))[3:])


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_without_any_signal_has_no_scores(net, images, method):
    nn.init.zeros_(net.conv3.weight)
    with pytest.warns(probe.ProbeWarning, match="8 of 8 channels"):
        ranking = rank(net, images, method=method)
    assert np.isnan(ranking.score).all()
    assert np.isnan(ranking.stability)
    assert ranking.index.values.tolist() == list(range(8))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_process_stay_as_they_were(net, images, method, left_as_found):
    net.train()
    with left_as_found(net):
        rank(net, images, method=method)


class FailsLate(nn.Sequential):
    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("out of order")
        return super().forward(images)


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_of_the_model_passes_and_leaves_no_hooks(net, images, method):
    failing = FailsLate(*net)
    with pytest.raises(RuntimeError, match="out of order") as caught:
        rank(failing, images, "4", method=method, batch_size=5)
    assert any("while the model ran on images" in note for note in caught.value.__notes__)
    assert not any(module._forward_hooks for module in failing.modules())


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.unused = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.pool, self.classes = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)
        self.text = Named()

    def forward(self, images):
        return self.classes(self.text(self.pool(self.conv(images))).flatten(1))


class Named(nn.Module):
    def forward(self, maps):
        self.seen = str(maps.shape)
        return maps[..., 0, 0, None, None, None]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("conf", "LayerNotFoundError", "no layer 'conf'.*Did you mean 'conv'"),
        ("unused", "LayerNotCalledError", "'unused' exists, but the forward pass never calls it"),
        ("pool", "LayerNotFoundError", "single cell"),
        ("classes", "LayerNotFoundError", "single cell"),
        ("text", "LayoutError", "has 5 axes"),
        ("*", "ArgumentError", r"layer='\*': expected one layer, found"),
    ],
)
@pytest.mark.filterwarnings("ignore:layers.*left out")
def test_a_layer_that_cannot_be_ranked_is_named(method, layer, error, message):
    with pytest.raises(getattr(probe.errors, error), match=message):
        rank(Partly(), noise_images(4, size=8), layer, method=method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradient"}, "method='gradient': expected one of flip, shift, omega2, readout, attribution"),
        ({"axis": "diagonal"}, "axis='diagonal': expected one of horizontal, vertical, both"),
        ({"region": "middle"}, "region='middle': expected None"),
        ({"region": "top"}, "region='top' needs axis='vertical'"),
        ({"region": "left", "axis": "both"}, "region='left' needs axis='horizontal'"),
        ({"method": "omega2", "region": "left"}, "method='omega2' has neither axis= nor region="),
        ({"method": "readout", "axis": "both"}, "method='readout' has neither axis= nor region="),
        ({"stimulus": ("natural", "rolled")}, "expected the name of one stimulus"),
        ({"stimulus": "mirrored"}, "stimuli='mirrored'"),
        ({"method": "readout", "alpha": 0}, "alpha=0"),
        ({"method": "readout", "groups": list("abcdefg") * 3}, "groups: 7 distinct labels are too few.*take 10"),
        ({"method": "attribution", "captum_method": "LayerGradientActivation"}, "'LayerGradientXActivation'"),
        ({"method": "attribution", "captum_method": "LayerActivation"}, "attributes an output to a layer"),
        ({"method": "attribution", "captum_method": "LayerGradCam"}, "single channels.*it gives shape"),
        ({"method": "attribution", "captum_method": "LayerLRP"}, "single channels.*no rule"),
        ({"method": "readout", "targets": {"level": lambda h, w: np.ones((h, w))}}, "constant on the grid"),
        ({"method": "readout", "max_images": 4}, "4 images leave 1 of 5 folds without any"),
    ],
)
def test_an_argument_that_cannot_be_is_named(net, images, options, message):
    with pytest.raises(probe.ProbeError, match=message):
        rank(net, images, **options)


@pytest.mark.parametrize("method", ["flip", "shift", "omega2"])
def test_one_image_is_too_few(net, images, method):
    with pytest.raises(probe.errors.ImagesError, match=r"1 found.*at least 2"):
        rank(net, images[:1], method=method)


@pytest.mark.parametrize("method", METHODS)
def test_no_images_are_an_error(net, method):
    with pytest.raises(probe.errors.ImagesError, match="there are none"):
        rank(net, uneven_images(0), method=method)


def test_a_module_may_stand_for_its_name(net, images):
    assert rank(net, images, net.conv2).attrs["layer"] == "conv2"
