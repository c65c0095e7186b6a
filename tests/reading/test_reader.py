"""A progress bar tells what is being done."""

import sys

import pytest
from tqdm.auto import tqdm

import probe
from probe.reading import reader
from probe.testing import noise_images, padded_net

NET, IMAGES = padded_net(depth=2), noise_images(40, 8)

CALLS = {
    "layerwise": lambda: probe.layerwise(NET, IMAGES),
    "channelwise": lambda: probe.channelwise(NET, IMAGES),
    "collect": lambda: probe.collect(NET, IMAGES),
    "pooled": lambda: probe.pooled(NET, IMAGES, grid=2),
    "ranking flip": lambda: probe.rank_channels(NET, IMAGES, "relu2"),
    "ranking readout": lambda: probe.rank_channels(NET, IMAGES, "relu2", method="readout"),
    "ablation": lambda: probe.ablation_curve(
        NET, IMAGES, range(16), layer="relu1", score="agreement", counts=[2], draws=2, controls=["random"]
    ),
}


@pytest.mark.parametrize("task", CALLS)
def test_progress_bars_are_named_by_what_they_do(task, monkeypatch):
    told = []

    def noted(*args, **settings):
        told.append(settings["desc"])
        return tqdm(*args, **settings | {"disable": True})

    monkeypatch.setattr(reader, "tqdm", noted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    CALLS[task]()
    assert set(told) == {task}
