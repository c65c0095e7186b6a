"""What captum attributes to the channels of a readout, against scikit-learn."""

import numpy as np
import pytest
import torch
from captum import attr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import probe
from probe.errors import ArgumentError, ImagesError
from probe.ranking.attribution import layer_attribution
from probe.testing import noise_images, padded_net
from tests.ranking.rankings import by_channel, uneven_images

ALPHA = 1e-3
DEAD, LIVE = 4, [0, 1, 2, 3, 5]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    """One channel of the second layer does not vary, and two are nearly one."""
    net = padded_net("zeros", depth=2, width=6, seed=1).double()
    with torch.no_grad():
        net.conv2.weight[DEAD] = 0
        net.conv2.weight[5] = 3 * net.conv2.weight[1] + 1e-4 * net.conv2.weight[2]
        net.conv2.bias += 5
    return net


@pytest.fixture(scope="module")
def images():
    """So many cells that all need several calls of captum, and those of each half one."""
    return noise_images(10, size=5, seed=2)[:, :, :4].double()


@pytest.fixture(scope="module")
def samples(net, images):
    """Live features, targets and image numbers of every cell of every image."""
    with torch.no_grad():
        maps = net[:3](images).numpy()[:, LIVE]
    height, width = maps.shape[2:]
    coordinates = [(2 * np.arange(size) + 1) / size - 1 for size in (height, width)]
    targets = np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1).reshape(-1, 2)
    features = maps.transpose(0, 2, 3, 1).reshape(-1, len(LIVE))
    return features, np.tile(targets, (len(images), 1)), np.repeat(np.arange(len(images)), height * width)


def standardised_weights(features, targets):
    """Shape (target, channel)."""
    return Ridge(ALPHA * len(features)).fit(StandardScaler().fit_transform(features), targets).coef_


def rank(net, images, **options):
    settings = {"stimulus": "natural", "folds": 3, "positions": None, "progress": False, **options}
    with pytest.warns(probe.ProbeWarning, match="1 of 6 channels of conv2"):
        return probe.rank_channels(net, images, "conv2", method="attribution", **settings)


def absolute_contributions(features, targets):
    """Mean of |weight · (feature − mean)| over samples and targets, shape (channel,)."""
    standardised = StandardScaler().fit_transform(features)
    return np.abs(standardised_weights(features, targets)).mean(axis=0) * np.abs(standardised).mean(axis=0)


def test_attribution_is_weight_times_deviation(net, images, samples):
    features, targets, numbers = samples
    ranking = rank(net, images)
    np.testing.assert_allclose(by_channel(ranking)[LIVE], absolute_contributions(features, targets), rtol=1e-9)
    assert np.isnan(by_channel(ranking)[DEAD])
    halves = [absolute_contributions(features[numbers % 2 == half], targets[numbers % 2 == half]) for half in (0, 1)]
    ranks = [np.argsort(np.argsort(half)) for half in halves]
    assert float(ranking.stability) == pytest.approx(np.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize(
    "method",
    ["LayerIntegratedGradients", "LayerDeepLift", "LayerDeepLiftShap", "LayerFeatureAblation", "LayerGradientShap"],
)
def test_captums_methods_agree_on_a_linear_readout(net, images, samples, method):
    features, targets, _ = samples
    ranking = rank(net, images, captum_method=method)
    np.testing.assert_allclose(by_channel(ranking)[LIVE], absolute_contributions(features, targets), rtol=1e-6)


def test_another_name_selects_another_method(net, images, samples):
    features, targets, _ = samples
    # Internal influence is the gradient alone: |weight| of the standardised channel.
    expected = np.abs(standardised_weights(features, targets)).mean(axis=0)
    ranking = rank(net, images, captum_method="InternalInfluence")
    np.testing.assert_allclose(by_channel(ranking)[LIVE], expected, rtol=1e-6)
    assert not np.allclose(expected, absolute_contributions(features, targets), rtol=0.05)
    assert attr.InternalInfluence.__name__ in ranking.attrs["settings"]


def test_fewer_positions_estimate_the_same_attribution(net):
    images = noise_images(14, size=9, seed=2)[:, :, :7].double()
    every, some = (by_channel(rank(net, images, positions=count))[LIVE] for count in (None, 40))
    assert not np.array_equal(some, every)
    assert np.corrcoef(some, every)[0, 1] > 0.95


def test_attribution_does_not_depend_on_batches(net, images):
    whole, parts = (by_channel(rank(net, images, batch_size=size)) for size in (10, 3))
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_a_class_of_captum_is_found_by_its_name():
    assert layer_attribution("LayerDeepLift") is attr.LayerDeepLift
    for name in ("LayerAttribution", "LayerActivation", "IntegratedGradients", "nothing"):
        with pytest.raises(ArgumentError, match=f"captum_method='{name}': captum has no method"):
            layer_attribution(name)


def test_attribution_says_that_it_reads_the_images_twice(net, images):
    with pytest.raises(ImagesError, match="reads them twice"):
        probe.rank_channels(net, iter([images]), "conv2", method="attribution", progress=False)
    assert np.isfinite(by_channel(rank(net, [images]))[LIVE]).all()


class Restless:
    """Images that are others at every reading."""

    def __init__(self):
        self.readings = 0

    def __iter__(self):
        self.readings += 1
        yield uneven_images(20, seed=self.readings)


def test_attribution_notices_other_images_at_the_second_reading(net):
    with pytest.raises(ImagesError, match="second reading"):
        probe.rank_channels(net, Restless(), "conv2", method="attribution", progress=False)
