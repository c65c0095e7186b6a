"""What a plan says is measured where it can be, and computed from that by hand elsewhere."""

import json
import time

import pytest
import torch
from torch import nn

import probe
from probe.command.planning import try_out
from probe.testing import noise_images, padded_net


class Paced(nn.Module):
    """Takes 10 ms an image, whatever it is shown."""

    def __init__(self):
        super().__init__()
        self.body = padded_net(depth=2)

    def forward(self, images):
        time.sleep(0.01 * len(images))
        return self.body(images)


def test_a_trial_finds_the_pace_of_a_model_and_what_is_kept():
    found = try_out(
        Paced(), noise_images(1, 8), n_images=10_000, n_devices=4, bandwidth=1e9, seconds=1, batch_size=10,
        layers=["auto"], stimuli=["natural", "rolled"], device="cpu",
    )  # fmt: skip
    assert 10 < found.images_per_second < 50  # two stimuli: 20 ms an image, and what else the machine does
    statistics = probe.collect(padded_net(depth=2), noise_images(20, 8), progress=False)
    kept = sum(gram.nbytes for gram in statistics.grams.values())
    assert found.sums_bytes == kept
    assert found.all_reduce_bytes == pytest.approx(2 * 3 / 4 * kept, abs=1)
    assert found.reading_s == pytest.approx(2500 / found.images_per_second)
    assert found.wall_s == pytest.approx(2500 / found.images_per_second + 1.5e-9 * kept + found.scoring_s / 4)
    assert found.memory_bytes > 10e6


def test_the_command_prints_it_and_leaves_no_trace(workplace, measured):
    state = torch.get_rng_state()
    words = ["plan", "cli_nets:small", "--images", 2000, "--gpus", 2, "--size", 16, "--seconds", 0.2, "--device", "cpu"]
    told = json.loads(measured(*words, "--json").stdout)
    assert told["images"] == 2000
    assert told["wall_s"] == pytest.approx(
        1000 / told["images_per_second"] + told["sums_bytes"] / 10e9 + told["scoring_s"] / 2
    )
    text = measured(*words, "--bandwidth", 2).stdout
    assert "all-reduce, at 2 GB/s" in text
    assert "reading 2,000 images on 2" in text
    assert torch.equal(state, torch.get_rng_state())


def test_few_images_are_planned_in_smaller_batches(workplace, measured):
    words = ["plan", "cli_nets:small", "--size", 16, "--seconds", 0.1, "--device", "cpu", "--batch-size", 32, "--json"]
    told = json.loads(measured(*words, "--images", 7).stdout)
    assert told["images_per_second"] > 0
    assert told["reading_s"] == pytest.approx(7 / told["images_per_second"])
