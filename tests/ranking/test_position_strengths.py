"""Channels ranked by statistics of position, against the statistics of all images and of each half."""

import numpy as np
import pytest

import probe
from probe.errors import ImagesError
from probe.ranking.position_strengths import score_readout_losses
from probe.reading.options import Options
from probe.readouts.omission import score_omissions
from probe.testing import padded_net
from tests.ranking.rankings import by_channel, rank, uneven_images

pytestmark = pytest.mark.usefixtures("one_thread")

ALPHA, FOLDS = 1e-3, 3
NATURAL = {"stimuli": "natural", "positions": None, "progress": False}


@pytest.fixture
def net():
    return padded_net("zeros", depth=3, width=8).double()


def losses(net, images, targets=("row", "column")):
    statistics = probe.collect(net, images, layers="conv3", folds=FOLDS, targets=targets, **NATURAL)
    gram = statistics.grams["natural", "conv3"]
    return score_omissions(gram, [[fold] for fold in range(FOLDS)], len(targets), ALPHA).losses.mean(axis=1)


def test_the_loss_is_the_mean_over_targets_of_all_images_and_of_each_half(net):
    images = uneven_images(41)
    options = Options(layers="conv3", folds=FOLDS, **NATURAL)
    found = score_readout_losses(net, images, options, ALPHA)
    np.testing.assert_allclose(found.scores, losses(net, images), atol=1e-12)
    for half in (0, 1):
        np.testing.assert_allclose(found.halves[half], losses(net, images[half::2]), atol=1e-12)
    ranking = rank(net, images, method="readout", stimulus="natural", positions=None, folds=FOLDS)
    np.testing.assert_allclose(by_channel(ranking), found.scores, atol=1e-12)


def test_a_target_that_is_constant_does_not_count(net):
    images = uneven_images(24)[:, :, :1]
    ranking = rank(net, images, method="readout", stimulus="natural", positions=None, folds=FOLDS)
    np.testing.assert_allclose(by_channel(ranking), losses(net, images, targets=["column"]), atol=1e-12)


def test_halves_of_too_few_folds_have_no_scores(net):
    found = score_readout_losses(net, uneven_images(4), Options(layers="conv3", folds=FOLDS, **NATURAL), ALPHA)
    assert np.isfinite(found.scores).all()
    assert np.isnan(found.halves).all()


def test_omega2_is_that_of_channelwise_of_all_images_and_of_each_half(net):
    images = uneven_images(23)
    known = probe.channelwise(net, images, layers="conv3", stimuli="rolled", progress=False)
    ranking = rank(net, images, method="omega2")
    np.testing.assert_allclose(by_channel(ranking), known.omega2.values[:, 0], rtol=1e-12)


def test_omega2_needs_images_of_one_size(net):
    batches = [uneven_images(4), uneven_images(4, width=11)]
    with pytest.raises(ImagesError, match="maps of several sizes"):
        rank(net, batches, method="omega2")
    assert np.isfinite(rank(net, batches, method="flip").score).all()
