"""A default device that is not the model's: no result depends on where tensors go that are made without one."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import probe
from probe.errors import ArgumentError
from probe.images.sources import Batch
from probe.models.loan import resolve_device
from probe.reading.collecting import _Collector
from probe.reading.options import Options
from probe.sums import gram, moments
from probe.sums.statistics import Statistics
from probe.testing import noise_images, padded_net


@contextmanager
def another_default_device():
    """Make tensors without values by default, which cannot be mixed with others, as those of a GPU cannot."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


NET, IMAGES = padded_net("zeros", depth=2, width=6), noise_images(60, 12)
WIDENING = nn.Sequential(NET, nn.Conv2d(6, 24, 1)).requires_grad_(False)
MEASURES = {
    "layerwise": lambda: probe.layerwise(NET, IMAGES, maps="conv1").r2,
    "channelwise": lambda: probe.channelwise(NET, IMAGES).omega2,
    "expansion": lambda: probe.layerwise(WIDENING, IMAGES, layers=["0.conv2", "1"]).r2,
    **{
        method: lambda method=method: probe.rank_channels(NET, IMAGES, "conv1", method=method).score
        for method in ("flip", "shift", "omega2", "readout", "attribution")
    },
    "pooled": lambda: probe.pooled(NET, IMAGES, grid=2).accuracy,
    "ablation_curve": lambda: (
        probe.ablation_curve(
            NET,
            IMAGES,
            range(6),
            layer="conv1",
            counts=[2],
            draws=2,
            score={"mean": lambda output: output.mean((1, 2, 3))},
        ).top
    ),
    "position score": lambda: (
        probe.ablation_curve(NET, IMAGES, range(6), layer="conv1", counts=[2], draws=2, score="position").top
    ),
    "shift_similarity": lambda: probe.shift_similarity(NET, IMAGES[:2], frame=20, layers="conv2").similarity,
    "neighbours": lambda: probe.neighbours(NET, IMAGES, "conv2").same_place,
    **{
        f"shift_consistency of {compare}": lambda compare=compare: (
            probe.shift_consistency(
                nn.Sequential(NET, nn.AdaptiveMaxPool2d(1), nn.Flatten()), IMAGES, law="zero", compare=compare
            ).consistency
        )
        for compare in ("classes", "embedding")
    },
    "audit": lambda: probe.audit(NET, (3, 12, 12)).unread,
}


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_the_default_device_changes_nothing(measure):
    expected = measure()
    with another_default_device():
        found = measure()
    np.testing.assert_array_equal(found, expected)


def test_ablating_under_another_default_device():
    with probe.ablate(NET, {"conv1": [0]}):
        expected = NET(IMAGES[:2])
    with another_default_device(), probe.ablate(NET, {"conv1": [0]}):
        found = NET(IMAGES[:2])
    assert torch.equal(found, expected)


def test_what_is_drawn_for_layers_on_several_devices_lies_where_each_layer_does():
    options = Options()
    statistics = Statistics([], {"target_offsets": {"layer": [0.0, 0.0]}})
    collector = _Collector(statistics, options, {"layer": 3}, grams=True, moments=[])
    collector.begin(Batch([0, 1], [0, 1], IMAGES[:2]), "natural")
    for device in ("cpu", "meta", "cpu"):
        drawn = collector._drawn("layer", (4, 4), torch.float32, torch.device(device))
        assert {tensor.device.type for tensor in drawn} == {device}


def test_a_model_on_several_devices_stays_there():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    assert resolve_device("auto", net) == torch.device("cpu")
    with pytest.raises(ArgumentError, match=r"device='cpu': the model lies on several devices \(cpu, meta\).*'auto'"):
        resolve_device("cpu", net)


class Looks(TorchDispatchMode):
    """Notes where values are looked at, for which all work on a GPU would be waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if any(part in name for part in ("_local_scalar_dense", "equal", "nonzero", "masked_select", "unique")):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


class TestWithoutWaiting:
    """What a GPU runs, on this processor: values are not looked at in the midst of a forward pass."""

    @pytest.fixture
    def never(self, monkeypatch):
        for module in (gram, moments):
            monkeypatch.setattr(module, "can_look", lambda values: False)

    @staticmethod
    def measured(images, looks=None):
        runs = []

        def forward(model, images):
            runs.append(None)
            if looks is None or len(runs) < 6:  # the survey and the first batch of each stimulus decide
                return model(images)
            with looks:
                return model(images)

        options = {"batch_size": 8, "positions": None, "forward": forward, "progress": False}
        statistics = probe.collect(NET, images, **options)
        return probe.layerwise(statistics), probe.channelwise(statistics)

    def test_nothing_is_looked_at(self, never):
        looks = Looks()
        self.measured(IMAGES, looks)
        assert looks.found == []

    def test_that_would_be_seen(self):
        looks = Looks()
        self.measured(IMAGES, looks)
        assert "aten::_local_scalar_dense" in looks.found

    @pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
    @pytest.mark.parametrize(
        "images",
        [IMAGES, torch.cat([IMAGES[:8], IMAGES[8:] + 100]), IMAGES * 1e-18, IMAGES * 1e18],
        ids=["plain", "unlike the first", "tiny", "huge"],
    )
    def test_the_numbers_are_the_same(self, images, monkeypatch):
        expected = self.measured(images)
        for module in (gram, moments):
            monkeypatch.setattr(module, "can_look", lambda values: False)
        for result, other in zip(self.measured(images), expected, strict=True):
            for name, values in other.data_vars.items():
                np.testing.assert_allclose(result[name], values, atol=2e-4, err_msg=name)
