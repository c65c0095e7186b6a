"""How well position is read behind a layer, without some of its channels."""

import numpy as np
import pytest
from torch import nn

import probe
from probe.errors import ArgumentError
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


def test_position_behind_the_last_layer_is_refused_at_once():
    with pytest.raises(ArgumentError, match="no layer behind conv2 has maps"):
        probe.ablation_curve(
            padded_net("zeros", depth=2), IMAGES, range(16), layer="conv2", score="position", counts=[1], draws=2,
            controls="random", progress=False,
        )  # fmt: skip
