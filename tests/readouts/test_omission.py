"""What readouts lose without a channel, against refitting, and what is attributed to it, against scikit-learn."""

import numpy as np
import pytest
import torch

import probe
from probe.readouts.omission import score_omissions
from probe.testing import noise_images, padded_net
from tests.oracles import crossed_r2

ALPHA = 1e-3
FOLDS = 3

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    net = padded_net("zeros", depth=3, width=10, seed=1).double()
    with torch.no_grad():
        net.conv3.weight[4] = 0
        net.conv3.weight[7] = 3 * net.conv3.weight[6] + 1e-4 * net.conv3.weight[5]
        net.conv3.bias += 5
    return net


@pytest.fixture(scope="module")
def images():
    return noise_images(14, size=9, seed=2)[:, :, :7].double()


@pytest.fixture(scope="module")
def samples(net, images):
    """Features, targets and image numbers of every cell of every image."""
    with torch.no_grad():
        maps = net[:5](images).numpy()
    height, width = maps.shape[2:]
    coordinates = [(2 * np.arange(size) + 1) / size - 1 for size in (height, width)]
    targets = np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1).reshape(-1, 2)
    features = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])
    return features, np.tile(targets, (len(images), 1)), np.repeat(np.arange(len(images)), height * width)


@pytest.fixture(scope="module")
def gram(net, images):
    options = {"layers": "conv3", "stimuli": "natural", "folds": FOLDS, "positions": None, "progress": False}
    return probe.collect(net, images, **options).grams["natural", "conv3"]


@pytest.mark.filterwarnings("ignore:14 images")
def test_the_whole_readout_is_that_of_layerwise(net, images, gram):
    found = score_omissions(gram, [[fold] for fold in range(FOLDS)], 2, ALPHA)
    with pytest.warns(probe.ProbeWarning, match="does not vary"):
        known = probe.layerwise(
            net, images, layers="conv3", stimuli="natural", folds=FOLDS, positions=None, progress=False
        )
    np.testing.assert_allclose(found.r2, known.r2.values[0, 0], rtol=1e-9)


def test_losses_are_those_of_refitting_without_the_channel(gram, samples):
    features, targets, numbers = samples
    folds = numbers % FOLDS
    live = [channel for channel in range(10) if channel != 4]
    whole = crossed_r2(features[:, live], targets, folds)
    expected = [whole - crossed_r2(features[:, [c for c in live if c != channel]], targets, folds) for channel in live]
    found = score_omissions(gram, [[fold] for fold in range(FOLDS)], 2, ALPHA)
    np.testing.assert_allclose(found.r2, whole, atol=1e-9)
    np.testing.assert_allclose(found.losses[live], expected, atol=1e-9)
    assert np.isnan(found.losses[4]).all()
    # Each of two channels that are nearly one can be spared; some other cannot.
    assert abs(found.losses[[6, 7]]).max() < 1e-3 < found.losses[live].max()


def test_folds_may_be_kept_in_parts(net, images, gram):
    options = {"layers": "conv3", "stimuli": "natural", "positions": None, "progress": False}
    parts = probe.collect(net, images, folds=2 * FOLDS, **options).grams["natural", "conv3"]
    joined = score_omissions(parts, [[fold, fold + FOLDS] for fold in range(FOLDS)], 2, ALPHA)
    apart = score_omissions(gram, [[fold] for fold in range(FOLDS)], 2, ALPHA)
    np.testing.assert_allclose(joined.losses, apart.losses, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_losses_do_not_depend_on_the_scale_of_a_channel(net, images, gram, scale):
    scaled = padded_net("zeros", depth=3, width=10).double()
    scaled.load_state_dict(net.state_dict())
    with torch.no_grad():
        scaled.conv3.weight[2] *= scale
        scaled.conv3.bias[2] *= scale
    options = {"layers": "conv3", "stimuli": "natural", "folds": FOLDS, "positions": None, "progress": False}
    other = probe.collect(scaled, images, **options).grams["natural", "conv3"]
    folds = [[fold] for fold in range(FOLDS)]
    expected = score_omissions(gram, folds, 2, ALPHA).losses
    np.testing.assert_allclose(score_omissions(other, folds, 2, ALPHA).losses, expected, atol=1e-9)


def test_a_constant_target_has_no_losses(net, images):
    targets = {"level": lambda height, width: np.full((height, width), 7.0), "row": probe.TARGETS["row"]}
    options = {"layers": "conv3", "stimuli": "natural", "folds": FOLDS, "positions": None, "progress": False}
    with_level = probe.collect(net, images, targets=targets, **options).grams["natural", "conv3"]
    found = score_omissions(with_level, [[fold] for fold in range(FOLDS)], 2, ALPHA)
    assert np.isnan(found.r2[0])
    assert np.isnan(found.losses[:, 0]).all()
    assert np.isfinite(found.losses[0, 1])


def test_too_small_a_penalty_for_channels_that_are_one_is_an_error(gram):
    with pytest.raises(probe.errors.ArgumentError, match="alpha=1e-18 is too small"):
        score_omissions(gram, [[fold] for fold in range(FOLDS)], 2, 1e-18)
