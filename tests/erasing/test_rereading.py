"""Erased at one layer, read anew behind it."""

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError, IllConditionedError, ImagesError, ProbeWarning
from probe.readouts.scores import crossed_sums
from probe.testing import noise_images, padded_net, pointwise_net

IMAGES = noise_images(150, 12)
LAYERS = ["conv1", "conv2", "conv3"]


@pytest.fixture(scope="module")
def matrix():
    return probe.erasure_matrix(padded_net("zeros", depth=3), IMAGES, layers=LAYERS, progress=False)


def test_zeros_are_padded_again_behind_an_erased_layer(matrix):
    row = matrix.r2.mean("target")
    assert list(matrix.erased.values) == ["nothing", *LAYERS]
    for place, layer in enumerate(LAYERS):
        assert abs(row.sel(erased=layer, layer=layer)) < 0.02
        assert row.sel(erased=layer, layer=LAYERS[:place]).isnull().all()
    # A convolution of noise of mean 0 has its border in the variance, which the ReLU behind turns into a mean.
    assert row.sel(erased="nothing", layer=["conv2", "conv3"]).min() > 0.1
    assert row.sel(erased="conv1", layer="conv2") > 0.03
    assert row.sel(erased="conv2", layer="conv3") > 0.03


def test_a_layer_that_so_few_images_cannot_read_is_not_known(monkeypatch):
    grams = []

    def crossed(gram, n_targets, alpha):
        grams.append(gram)
        if len(grams) == 2:
            raise IllConditionedError("alpha is too small")
        return crossed_sums(gram, n_targets, alpha)

    monkeypatch.setattr("probe.erasing.rereading.crossed_sums", crossed)
    model = padded_net("zeros", depth=2, width=4)
    with pytest.warns(ProbeWarning, match=r"r2 of conv2 with nothing erased: too few images.*Pass more images\.$"):
        found = probe.erasure_matrix(model, IMAGES, layers=["conv1", "conv2"], progress=False)
    assert found.r2.sel(layer="conv2", erased="nothing").isnull().all()
    assert found.r2.sel(layer="conv2", erased="conv1").notnull().all()


def test_the_intact_row_is_that_of_layerwise(matrix):
    expected = probe.layerwise(
        padded_net("zeros", depth=3), IMAGES, layers=LAYERS, stimuli="rolled", progress=False
    ).r2.sel(stimulus="rolled")
    found = matrix.r2.sel(erased="nothing")
    assert (abs(found - expected) < 4 * matrix.r2_se.sel(erased="nothing") + 0.01).all()


def test_without_padding_it_stays_away():
    """Content tells where it is, on natural images of a gradient; 1×1 convolutions add nothing to it."""
    ramp = np.linspace(-1, 1, 10, dtype=np.float32)[:, None]
    images = noise_images(150, 10)
    images[:, 0] += 2 * torch.from_numpy(ramp)
    found = probe.erasure_matrix(
        pointwise_net(depth=2, width=6), images, layers=["0", "2"], stimulus="natural", targets="row", progress=False
    )
    row = found.r2.sel(target="row")
    assert row.sel(erased="nothing", layer="0") > 0.3
    assert abs(row.sel(erased="0", layer="0")) < 0.02
    # Behind the ReLU the square of what was linear can be read a little, and no more.
    assert row.sel(erased="0", layer="2") < row.sel(erased="nothing", layer="2") / 3


def test_every_position_is_erased_and_rows_are_read():
    found = probe.erasure_matrix(
        padded_net("zeros", depth=2, width=8),
        IMAGES,
        layers=["conv1", "conv2"],
        targets="cells",
        rank=4,
        progress=False,
    )
    assert found.target.values.tolist() == ["row", "column"]
    assert abs(found.r2.sel(erased="conv1", layer="conv1")).max() < 0.02


def test_a_layer_that_cannot_be_erased_is_left_out():
    net = padded_net("zeros", depth=2, width=6)
    net.conv1.weight.data.zero_()
    with pytest.warns(probe.ProbeWarning, match="conv1 is left out: layer: none of its channels varies"):
        found = probe.erasure_matrix(net, IMAGES + 1, layers=["conv1", "conv2"], progress=False)
    assert "conv1" not in found.erased.values


def test_what_cannot_be_is_said():
    net = padded_net("zeros", depth=2)
    with pytest.raises(ArgumentError, match="folds=5: expected at least 6"):
        probe.erasure_matrix(net, IMAGES, folds=5, progress=False)
    with pytest.raises(ImagesError, match="can be read only once"):
        probe.erasure_matrix(net, iter([IMAGES]), progress=False)
