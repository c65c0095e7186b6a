"""Sums that are collected in shards and merged give what one command gives, and say what is missing."""

import json
from pathlib import Path

import pytest
import torch
import xarray as xr

import probe
from probe.testing import padded_net

SIZE = 32
FILES = ["part1.h5", "part2.h5", "part3.h5"]


@pytest.fixture(scope="module")
def shards():
    """The bytes of the three shards, once they are collected."""
    return {}


@pytest.fixture
def parts(workplace, photos, measured, shards):
    """Three shards, collected with the same words."""
    words = ["--images", photos, "--size", SIZE, "--positions", 60, "--padding", "circular", "--layers", "conv*"]
    for place, file in enumerate(FILES, start=1):
        if file not in shards:
            measured("collect", "cli_nets:small", *words, "--shard", f"{place}/3", "-o", file)
            shards[file] = Path(file).read_bytes()
        Path(file).write_bytes(shards[file])
    return words


def test_shards_give_what_one_command_gives(parts, measured):
    assert "24 images; 2 layers" in measured("merge", *FILES, "-o", "all.h5").stdout
    for command in ("layerwise", "channelwise"):
        words = parts[:4] + parts[6:] if command == "channelwise" else parts
        measured(command, "cli_nets:small", *words, "-o", "whole.nc", "--overwrite", "--maps", "conv2")
        measured(command, "all.h5", "-o", "merged.nc", "--overwrite", "--maps", "conv2")
        whole, merged = probe.load("whole.nc"), probe.load("merged.nc")
        xr.testing.assert_allclose(whole, merged, atol=1e-5)
        for name in ("weights", "preprocessing", "images_digest", "weights_digest", "n_images", "kind", "model"):
            assert merged.attrs[name] == whole.attrs[name], name
        assert merged.attrs["command"].startswith(f"probe {command} all.h5 -o merged.nc")


def test_the_order_of_files_is_free_and_the_library_reads_them(parts, measured):
    told = json.loads(measured("merge", *FILES[::-1], "-o", "all.h5", "--json").stdout)
    assert told["n_images"] == 24
    assert told["missing"] == 0
    assert probe.Statistics.load("all.h5").images == [range(24)]


def test_missing_images_are_refused_by_number_and_told_in_the_result(parts, run, measured):
    refused = run("merge", "part1.h5", "part3.h5", "-o", "two.h5")
    assert refused.exit_code == 1
    assert "images 1, 4, 7, 10, 13 and 3 more of 24 are missing" in refused.stderr
    assert "images 1, 4" not in measured("merge", "part1.h5", "part3.h5", "-o", "two.h5", "--allow-missing").stdout
    warned = measured("layerwise", "two.h5", "-o", "two.nc").stderr
    message = "statistics: images 1, 4, 7, 10, 13 and 3 more of 24 are missing"
    assert message in warned
    assert message in probe.load("two.nc").attrs["warnings"]
    assert probe.load("two.nc").attrs["n_images"] == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: part1.h5: merge: images 0, 3, 6, 9, 12 and 3 more are in both"),
        (["--seed", "1"], "error: other.h5: merge: seed differs: 0 and 1"),
        (["--size", "40"], "error: other.h5: merge: preprocessing differs: 'resize 32"),
        (["--weights", "weights.pt"], "error: other.h5: merge: weights_digest differs"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_file(words, message, parts, run, measured):

    torch.save(padded_net(depth=2, seed=1).state_dict(), "weights.pt")
    other = "part1.h5"
    if words:
        other = "other.h5"
        measured("collect", "cli_nets:small", *parts, "--shard", "2/3", "-o", other, *words)
    outcome = run("merge", "part1.h5", other, "-o", "all.h5", "--quiet")
    assert outcome.exit_code == 1
    assert message in outcome.stderr


def test_an_old_file_stays(parts, run):
    outcome = run("merge", *FILES, "-o", "part1.h5")
    assert outcome.exit_code == 1
    assert "part1.h5: exists already" in outcome.stderr


def test_a_file_of_sums_takes_no_arguments_of_a_reading(parts, run):
    outcome = run("layerwise", "part1.h5", "-o", "x.nc", "--folds", "3", "--weights", "x.pt")
    assert outcome.exit_code == 2
    assert "--weights, --folds: part1.h5 was collected before" in outcome.stderr
    assert "--images" in run("layerwise", "part1.h5", "-o", "x.nc", "--images", ".").stderr


def test_a_checkpoint_is_gone_on_from(workplace, photos, measured):
    words = ["layerwise", "cli_nets:small", "--images", photos, "--size", SIZE, "-o", "x.nc", "--overwrite"]
    words += ["--checkpoint", "x.ck", "--checkpoint-every", 10]
    first = measured(*words).stdout
    assert measured(*words).stdout == first


DRIVEN = """
import os, sys
from torch import nn
from probe.command.main import main
from probe.testing import padded_net

class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = padded_net(depth=2)

    def forward(self, images):
        if os.environ["RANK"] == "1":
            raise ZeroDivisionError("one over nothing")
        return self.body(images)

if __name__ == "__main__":
    main(["layerwise", sys.argv[2], "--images", sys.argv[1], "--size", "32", "-o", sys.argv[3]])
"""


def launch(python, folder, *words):
    (folder / "driven.py").write_text(DRIVEN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "driven.py"]
    return python(*launcher, *words, cwd=folder, timeout=300)


def test_under_torchrun_the_first_rank_speaks_and_writes(workplace, photos, measured, python, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    launched = launch(python, workplace, photos, "cli_nets:small", "ranks.nc")
    words = ["layerwise", "cli_nets:small", "--images", photos, "--size", SIZE, "-o", "alone.nc"]
    assert launched.stdout == measured(*words).stdout.replace("alone.nc", "ranks.nc")
    xr.testing.assert_allclose(probe.load("ranks.nc"), probe.load("alone.nc"), atol=1e-5)
    assert probe.load("ranks.nc").attrs["command"].startswith("probe layerwise cli_nets:small")
    assert launched.stderr.count("weights: as cli_nets:small gives them") == 1


def test_under_torchrun_an_error_is_told_by_the_rank_that_has_it(workplace, photos, python):
    launched = launch(python, workplace, photos, "driven:Uneven", "uneven.nc")
    assert launched.returncode != 0
    assert "error: ZeroDivisionError: one over nothing" in launched.stderr, launched.stderr
    assert not (workplace / "uneven.nc").exists()


@pytest.mark.parametrize("command", ["neighbours", "layers", "show"])
def test_what_cannot_be_shared_is_refused_under_torchrun(command, run, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    words = {"neighbours": ["resnet18", "--images", ".", "-o", "x.nc", "--layers", "conv1"], "layers": ["resnet18"]}
    outcome = run(command, *words.get(command, ["x.nc"]))
    assert outcome.exit_code == 2
    assert f"`probe {command}` runs in one process, and 2 were started" in outcome.stderr
