"""Many settings at once give what they give one by one, wherever the batch is repeated."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import probe
from probe.testing import padded_net
from tests.ablation.nets import IMAGES, ORDER, QUICK, WIDTH, Plain, Residual, largest, loop, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, maps):
        joined = torch.cat([maps, self.relu(self.inner(maps))], dim=1)
        return self.relu(joined[:, :WIDTH] + joined[:, WIDTH:])


class Blocks(nn.Module):
    """Inner layers are bypassed by a concatenation, within blocks of their own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.stage = nn.Sequential(Block(), Block())
        self.last = nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images):
        return self.last(self.stage(self.first(images))).mean(dim=(2, 3))


def batch_norm():
    return nn.BatchNorm2d(WIDTH, track_running_stats=False)


CASES = {
    "the output of the layer": (Plain, "first", "shared: the batch was repeated at the output of first"),
    "the input of a block": (Blocks, "stage.1.inner", "shared: the batch was repeated at the input of stage.1 "),
    "a second call": (Blocks, "stage.1.relu_1", "shared: the batch was repeated at the output of stage.1.relu_1"),
    "an inner call": (Blocks, "stage.0.relu", "shared: the batch was repeated at the input of stage.0 "),
    "a bypass of the whole model": (Residual, "block.inner", "not shared, every setting ran by itself"),
    "statistics of the batch": (
        lambda: Plain(batch_norm),
        "first",
        "not shared, every setting ran by itself: at first",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [44, 5])
def test_curves_are_those_of_the_plain_loop_wherever_the_batch_is_repeated(case, batch_size):
    make, layer, sharing = CASES[case]
    model = seeded(make)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer=layer, score={"largest": largest}, batch_size=batch_size, **QUICK
    )
    expected = loop(model, layer, batch_size=batch_size if "statistics" in case else 20)
    for name, values in expected.items():
        np.testing.assert_allclose(result[name].sel(score="largest").values, values, rtol=1e-9, err_msg=name)
    assert len(np.unique(np.round(result.random.values, 9))) == result.random.size
    if not (case == "a bypass of the whole model" and batch_size == 5):
        assert result.sharing.startswith(sharing)


def test_single_images_meet_a_bypass_by_broadcasting():
    result = probe.ablation_curve(
        seeded(Residual), IMAGES.double(), ORDER, layer="block.inner", score={"largest": largest}, batch_size=5, **QUICK
    )
    assert result.sharing == "shared: the batch was repeated at the output of block.inner"


def test_what_precedes_the_layer_is_computed_once_for_many_settings():
    model = seeded(Plain)
    rows = {"first": 0, "second": 0}
    for name in rows:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: rows.__setitem__(name, rows[name] + len(inputs[0]))
        )
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    result = probe.ablation_curve(model, IMAGES.double(), ORDER, batch_size=1000, **options)
    settings = 1 + 2 * 2 + 3 * 2
    extra = 20  # what it takes to list the layers, and to compare with plain passes
    assert rows["first"] <= len(IMAGES) + 3 * len(IMAGES) + extra
    assert settings * len(IMAGES) <= rows["second"] <= (settings + 4) * len(IMAGES) + extra
    assert result.sharing.startswith("shared")


def test_a_net_that_overwrites_its_input_is_scored_on_the_images_themselves():
    class Doubling(nn.Module):
        def __init__(self, net, copies):
            super().__init__()
            self.net, self.copies = net, copies

        def forward(self, images):
            images = images.clone() if self.copies else images
            return self.net(images.mul_(2).add_(1))

    def curve(copies):
        net = Doubling(padded_net("zeros", depth=2), copies)
        return probe.ablation_curve(
            net,
            IMAGES.clone(),
            range(16),
            layer="net.conv1",
            score={"mean": lambda output: output.mean(dim=(1, 2, 3))},
            counts=[1, 2],
            draws=2,
            controls="random",
            progress=False,
        )

    xr.testing.assert_allclose(curve(copies=False).top, curve(copies=True).top)


class Asserting(Residual):
    """Checks itself that its batch stays as large as it was."""

    def forward(self, images):
        maps = self.outer(images).relu()
        inner = self.block["inner"](maps).relu()
        assert inner.shape == maps.shape
        return self.last(maps + inner).mean(dim=(2, 3))


def test_a_model_that_checks_its_batch_runs_setting_by_setting():
    options = {"layer": "block.inner", "score": {"largest": largest}, **QUICK}
    checked, free = (
        probe.ablation_curve(seeded(make), IMAGES.double(), ORDER, **options) for make in (Asserting, Residual)
    )
    assert checked.sharing.startswith("not shared, every setting ran by itself: at block.inner")
    xr.testing.assert_allclose(checked.top, free.top)
