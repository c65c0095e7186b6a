"""What commands open, and what results record of it."""

import json
import sys
from pathlib import Path

import probe
from probe.command.named_models import open_model
from probe.command.sources import record
from probe.testing import noise_images, padded_net


def test_a_result_records_what_only_the_command_knows():
    source = open_model("resnet18", size=64)
    source.warned.append("images are enlarged")
    result = probe.layerwise(padded_net(depth=1), noise_images(50, 8), progress=False)
    before = ["of few images"]
    result.attrs["warnings"] = json.dumps(before)
    record(result, source, "probe layerwise resnet18")
    assert result.attrs["weights"] == "random (seed 0)"
    assert result.attrs["preprocessing"] == "resize 64, crop 64, ImageNet mean and standard deviation"
    assert result.attrs["command"] == "probe layerwise resnet18"
    assert json.loads(result.attrs["warnings"]) == [*before, "images are enlarged"]
    assert result.attrs["model"] == "Sequential"


def test_a_study_of_a_given_model_names_it():
    result = probe.layerwise(padded_net(depth=1), noise_images(50, 8), progress=False)
    result.attrs["model"] = ""
    record(result, open_model("resnet18"), "")
    assert result.attrs["model"] == "ResNet"


def test_random_weights_are_said_in_the_first_line_and_in_the_result(workplace, photos, measured):
    Path("fresh_nets.py").write_text("from torch import nn\ndef fresh(): return nn.Sequential(nn.Conv2d(3, 4, 3))\n")
    sys.modules.pop("fresh_nets", None)
    words = ["layerwise", "fresh_nets:fresh", "--images", photos, "-o", "x.nc", "--size", 32]
    outcome = measured(*words)
    said = "random (seed 0), as fresh_nets:fresh gives them"
    assert outcome.stdout.splitlines()[0].startswith(f"model: Sequential, weights: {said}")
    assert probe.load("x.nc").attrs["weights"] == said
    content = json.loads(measured("show", "x.nc", "--json").stdout)
    assert content["weights"] == said and content["model"] == "Sequential" and content["n_images"] == 24
