"""Rankings of channels, against the plain formulas, and their faults."""

import weakref

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import probe
from probe.testing import CoordinateNet, noise_images, padded_net

METHODS = ("flip", "shift", "omega2", "readout", "attribution")
DIMS = {"horizontal": 3, "vertical": 2}

pytestmark = pytest.mark.usefixtures("one_thread")


def rank(model, images, layer="conv3", **options):
    return probe.rank_channels(model, images, layer, **{"progress": False, **options})


def by_channel(ranking):
    """The scores in the order of the channels."""
    return ranking.score.values[np.argsort(ranking.index.values)]


def uneven_images(count, height=12, width=9, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def net():
    return padded_net("zeros", depth=3, width=8).double()


@pytest.fixture
def images():
    return uneven_images(23)


def changes(net, images, displaced):
    """Δz of the third convolution, computed plainly, shape (image, channel)."""
    with torch.no_grad():
        return (net[:5](images).mean((2, 3)) - net[:5](displaced).mean((2, 3))).numpy()


@pytest.mark.parametrize("axis", DIMS)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_flip_is_the_plain_formula(net, images, axis, batch_size):
    expected = np.abs(changes(net, images, images.flip(DIMS[axis]))).mean(axis=0)
    ranking = rank(net, images, axis=axis, batch_size=batch_size)
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6)
    assert ranking.index.values.tolist() == np.argsort(-expected).tolist()
    assert ranking["rank"].values.tolist() == list(range(1, 9))


def test_flip_along_both_axes_is_the_mean_of_the_two(net, images):
    along = {axis: by_channel(rank(net, images, axis=axis)) for axis in ("horizontal", "vertical", "both")}
    np.testing.assert_allclose(along["both"], (along["horizontal"] + along["vertical"]) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("region", "axis", "order"),
    [("left", "horizontal", -1), ("right", "horizontal", 1), ("top", "vertical", -1), ("bottom", "vertical", 1)],
)
def test_regional_flip_is_the_signed_mean_ordered_by_region(net, images, region, axis, order):
    expected = changes(net, images, images.flip(DIMS[axis])).mean(axis=0)
    assert expected.min() < 0 < expected.max()
    ranking = rank(net, images, axis=axis, region=region)
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6, atol=1e-15)
    assert ranking.index.values.tolist() == np.argsort(order * expected).tolist()


@pytest.mark.parametrize(("axis", "half"), [("horizontal", 4), ("vertical", 6)])
def test_shift_is_the_same_with_a_roll_by_half_rounded_down(net, images, axis, half):
    displaced = torch.from_numpy(np.roll(images.numpy(), half, axis=DIMS[axis]))
    expected = np.abs(changes(net, images, displaced)).mean(axis=0)
    np.testing.assert_allclose(by_channel(rank(net, images, method="shift", axis=axis)), expected, rtol=1e-6)


def test_single_precision_is_close_to_double(net, images):
    double = by_channel(rank(net, images))
    single = by_channel(rank(net.float(), images.float()))
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_a_circular_net_answers_no_shift_but_answers_flips(images):
    net = padded_net("circular", depth=3, width=8).double()
    np.testing.assert_allclose(by_channel(rank(net, images, method="shift")), 0, atol=1e-12)
    assert (by_channel(rank(net, images, method="flip")) > 1e-6).all()


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_displacements_cannot_see_a_pure_coordinate(method):
    scores = by_channel(rank(CoordinateNet().double(), uneven_images(6, 8, 8), "identity", method=method))
    # Both coordinates have a fixed mean; of the pixels, so has every channel under a mirror or a roll.
    np.testing.assert_allclose(scores, 0, atol=1e-12)


@pytest.mark.parametrize("method", ["omega2", "readout", "attribution"])
def test_the_other_methods_find_a_pure_coordinate(method):
    ranking = rank(CoordinateNet(), noise_images(40, size=8), "identity", method=method)
    assert sorted(ranking.index.values[:2]) == [3, 4]
    assert ranking.score.values[1] > 10 * abs(ranking.score.values[2])


def test_omega2_is_that_of_channelwise(net, images):
    known = probe.channelwise(net, images, layers="conv3", stimuli="rolled", progress=False)
    np.testing.assert_allclose(by_channel(rank(net, images, method="omega2")), known.omega2.values[:, 0], rtol=1e-12)


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


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_a_displacement_takes_two_forward_passes_and_keeps_no_images(net, method):
    seen, alive = [], []
    net.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))

    def stream():
        for seed in range(6):
            batch = uneven_images(5, seed=seed)
            alive.append(weakref.ref(batch))
            assert sum(ref() is not None for ref in alive) <= 3
            yield batch

    streamed = rank(net, stream(), method=method)
    assert sum(seen) <= 2 * 30 + 2  # the survey of the layers runs two copies of the first image
    whole = torch.cat([uneven_images(5, seed=seed) for seed in range(6)])
    np.testing.assert_allclose(streamed.score, rank(net, whole, method=method).score, rtol=1e-12)
    assert streamed.attrs["images_digest"] == rank(net, whole, method=method).attrs["images_digest"]


class FixedSize(nn.Module):
    """Takes images of 8 rows and 12 columns, and nothing else."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.classes = nn.Linear(4 * 8 * 12, 2)

    def forward(self, images):
        return self.classes(self.conv(images).view(len(images), -1))


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_a_model_of_one_oblong_size_takes_mirrored_and_rolled_images(method):
    images = noise_images(6, size=12)[:, :, :8]
    assert np.isfinite(rank(FixedSize(), images, "conv", method=method, axis="both").score).all()


class FirstPixelInPlace(nn.Sequential):
    def forward(self, images):
        images[:, :, 0, 0] = 100
        return super().forward(images)


def test_a_model_that_overwrites_its_input_does_no_harm(net, images):
    before = images.clone()
    overwritten = images.clone()
    overwritten[:, :, 0, 0] = 100
    mirrored = images.flip(3)
    mirrored[:, :, 0, 0] = 100
    expected = np.abs(changes(net, overwritten, mirrored)).mean(axis=0)
    ranking = rank(FirstPixelInPlace(net[:5]), images, "0.conv3")
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6)
    torch.testing.assert_close(images, before, rtol=0, atol=0)


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


def test_attribution_says_that_it_reads_the_images_twice(net, images):
    with pytest.raises(probe.errors.ArgumentError, match="reads them twice"):
        rank(net, iter([images]), method="attribution")
    assert np.isfinite(rank(net, [images], method="attribution").score).all()


class Restless:
    """Images that are others at every reading."""

    def __init__(self):
        self.readings = 0

    def __iter__(self):
        self.readings += 1
        yield uneven_images(20, seed=self.readings)


def test_attribution_notices_other_images_at_the_second_reading(net):
    with pytest.raises(probe.errors.ImagesError, match="second reading"):
        rank(net, Restless(), method="attribution")


def test_omega2_needs_images_of_one_size(net):
    batches = [uneven_images(4), uneven_images(4, width=11)]
    with pytest.raises(probe.errors.ImagesError, match="maps of several sizes"):
        rank(net, batches, method="omega2")
    assert np.isfinite(rank(net, batches, method="flip").score).all()


def test_a_module_may_stand_for_its_name(net, images):
    assert rank(net, images, net.conv2).attrs["layer"] == "conv2"
