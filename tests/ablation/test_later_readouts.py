"""How well position is read behind a layer, without some of its channels."""

import numpy as np
import pytest
from torch import nn

import probe
from probe.ablation.later_readouts import later_readouts
from probe.errors import ArgumentError
from probe.reading.options import Options
from probe.reading.ranks import Share
from probe.reading.reader import open_reader
from probe.readouts.scores import score_readout
from probe.testing import CoordinateNet, noise_images, padded_net
from tests.ablation.nets import IMAGES, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


class ReadsCoordinates(nn.Module):
    """Two 1×1 convolutions behind the coordinates."""

    def __init__(self):
        super().__init__()
        self.coordinates = CoordinateNet()
        self.mixed = nn.Conv2d(5, 8, 1)
        self.later = nn.Conv2d(8, 8, 1)

    def forward(self, images):
        return self.later(self.mixed(self.coordinates(images)))


def test_removing_position_removes_it_from_every_later_layer():
    model = seeded(ReadsCoordinates).float()
    images = noise_images(40, 8)
    result = probe.ablation_curve(
        model, images, [3, 4, 0, 1, 2], layer="coordinates", score="position", counts=[1, 2], draws=2,
        controls="random", folds=5, progress=False,
    )  # fmt: skip
    assert list(result.score.values) == ["position:mixed", "position:later"]
    plain = probe.layerwise(model, images, layers=["mixed", "later"], stimuli="rolled", progress=False)
    np.testing.assert_allclose(result.intact, plain.r2.mean(["target", "stimulus"]), rtol=1e-6)
    assert (result.intact > 0.9).all()
    assert (abs(result.top.sel(count=2)) < 0.05).all()
    assert (result.bottom.sel(count=2) > 0.9).all()
    np.testing.assert_allclose(result.top.sel(count=1), result.intact / 2, atol=0.05)
    by_fold = plain.r2_fold.mean(["target", "stimulus"])
    np.testing.assert_allclose(result.intact_se, by_fold.std("fold", ddof=1) / 5**0.5, rtol=1e-6)


def test_estimates_are_those_of_layerwise_on_folds_of_unequal_size():
    """Of all images, and without each fold, for the net with and without a channel."""
    net, images = padded_net("zeros", depth=3, width=6).double(), noise_images(30, 9)[:, :, :7].double()
    groups = ["a"] * 15 + ["b"] * 3 + ["c"] * 8 + ["d"] * 4
    settings = np.array([[False] * 6, [True, False, True, False, False, False]])
    options = Options(layers="conv1", folds=4, groups=groups, positions=None, seed=2, progress=False)
    with open_reader(net, images, options) as reader:
        layer, behind = reader.layer("conv1"), [reader.layer("conv2"), reader.layer("conv3")]
    found = later_readouts(
        net,
        images,
        options,
        layer=layer,
        behind=behind,
        settings=settings,
        mode="mean",
        reference=None,
        share=Share(),
    )
    assert list(found) == ["conv2", "conv3"]
    for number, removed in enumerate(settings):
        with probe.ablate(net, {"conv1": np.flatnonzero(removed)}, mode="mean"):
            statistics = probe.collect(
                net, images, layers=list(found), folds=4, groups=groups, positions=None, seed=2, progress=False
            )
        for name, estimates in found.items():
            gram = statistics.grams["rolled", name]
            expected = score_readout(gram, 2, 1e-3)
            assert estimates.values[number] == pytest.approx(expected.r2.mean(), abs=1e-9)
            np.testing.assert_allclose(estimates.left_out[:, number], expected.r2_left_out.mean(axis=0), atol=1e-9)
            assert estimates.sizes.tolist() == [15 * 63, 3 * 63, 8 * 63, 4 * 63]
    assert found["conv2"].values[0] != pytest.approx(found["conv2"].values[1], abs=1e-4)


def test_warnings_of_the_images_come_with_the_first_setting_alone():
    net = padded_net("zeros", depth=2, width=6)
    options = Options(layers="conv1", folds=5, positions=4, progress=False)
    with open_reader(net, IMAGES, options) as reader:
        layer, behind = reader.layer("conv1"), [reader.layer("conv2")]
    with pytest.warns(probe.ProbeWarning) as caught:
        later_readouts(
            net, 255 * IMAGES, options, layer=layer, behind=behind, settings=np.eye(6, dtype=bool), mode="zero",
            reference=None, share=Share(),
        )  # fmt: skip
    assert len(caught) == 1


def test_position_behind_the_last_layer_is_refused_at_once():
    with pytest.raises(ArgumentError, match="no layer behind conv2 has maps"):
        probe.ablation_curve(
            padded_net("zeros", depth=2), IMAGES, range(16), layer="conv2", score="position", counts=[1], draws=2,
            controls="random", progress=False,
        )  # fmt: skip
