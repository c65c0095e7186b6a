"""The commands that run studies."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.analyses import studies


@pytest.fixture(scope="module")
def made(tmp_path_factory, run):
    """A tiny study: its file, and what was printed."""
    file = tmp_path_factory.mktemp("made") / "rook.nc"
    outcome = run("analyse", "rook", "--preset", "tiny", "--paddings", "zeros,circular", "--seeds", 1, "-o", file)
    assert outcome.exit_code == 0, outcome.stderr
    return file, outcome


def test_studies_are_listed_with_the_time_they_need(run):
    outcome = run("analyse", "--list")
    assert outcome.exit_code == 0
    for name, module in studies.find_studies().items():
        assert f"{name}: {module.STUDY.title}" in outcome.stdout
        assert all(duration in outcome.stdout for duration in module.STUDY.times.values())
    listed = json.loads(run("analyse", "--list", "--json").stdout)
    assert [study["name"] for study in listed] == list(studies.find_studies())


def test_a_study_is_run_saved_and_shown(made):
    file, outcome = made
    result = probe.load(file)
    assert result.attrs["analysis"] == "rook" and result.attrs["preset"] == "tiny"
    assert result.attrs["command"].startswith("probe analyse rook --preset tiny")
    assert result.padding.values.tolist() == ["zeros", "circular"] and result.sizes["seed"] == 1
    assert "accuracy, mean over seeds (%), beside the published one" in outcome.stdout
    assert f"result: {file}" in outcome.stdout
    assert f"probe report {file}" in outcome.stderr


def test_a_saved_study_can_be_shown_again(made, run):
    file, outcome = made
    assert run("show", file).stdout.splitlines()[:4] == outcome.stdout.splitlines()[:4]
    scores = json.loads(run("show", file, "--json").stdout)["scores"]
    assert [row["padding"] for row in scores] == ["zeros", "circular"]
    assert scores[1]["here"] == 50 and scores[1]["published"] is None


def test_its_page_is_written_from_the_file(made, tmp_path, run):
    outcome = run("report", made[0], "-o", tmp_path / "page.html")
    assert outcome.exit_code == 0, outcome.stderr
    assert "One convolution tells" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_existing_file_is_kept_unless_told(made, run):
    outcome = run("analyse", "rook", "--preset", "tiny", "-o", made[0])
    assert outcome.exit_code == 1 and "exists already" in outcome.stderr


def test_ctrl_c_is_told_with_how_far_training_was_and_nothing_is_written(tmp_path, monkeypatch, run):
    def train(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.analyses.augshift.study._train", train)
    outcome = run("analyse", "augshift", "--preset", "tiny", "-o", tmp_path / "new.nc")
    assert outcome.exit_code == 130
    assert outcome.stderr.splitlines()[-1] == (
        "interrupted: augshift: stopped after 0 of 30 steps of training; no result was written"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "NAME is missing"),
        (["rook", "--images", "."], "rook takes no --images"),
        (["rook", "--model", "resnet18"], "rook takes no --model"),
        (["rook", "--max-images", "3"], "rook takes no --max-images"),
        (["rook", "--device", "cuda"], "rook takes no --device"),
        (["rook", "--weights", "x.pt"], "--weights needs --model; for networks of the study itself, pass NET=FILE"),
        (["rook", "--weights", "vgg16=x.pt"], "rook takes no --weights"),
        (["rook", "--size", "32"], "--size needs --model"),
        (["similarity", "--model", "resnet18", "--weights", "a.pt", "--weights", "b.pt"], "pass them once"),
        (["rook", "--preset", "huge"], "'huge' is not one of"),
    ],
)
def test_wrong_usage_is_told(arguments, message, run):
    outcome = run("analyse", *arguments)
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_an_unknown_study_is_told(run):
    outcome = run("analyse", "nope")
    assert outcome.exit_code == 1
    assert "there is no study 'nope'; expected one of" in outcome.stderr and "rook" in outcome.stderr


def test_a_study_takes_a_model_and_images(tmp_path, monkeypatch, run):
    (tmp_path / "study_nets.py").write_text(
        "from probe.testing import padded_net\ndef small(): return padded_net(depth=2)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(256, size=(20, 20, 20, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:02}.png")
    torch.manual_seed(0)
    options = ("--model", "study_nets:small", "--images", "photos", "--size", 16, "--paddings", "zeros,circular")
    outcome = run("analyse", "padding_comparison", *options)
    assert outcome.exit_code == 0, outcome.stderr
    result = probe.load("padding_comparison.nc")
    assert result.attrs["networks"] == "given" and result.attrs["weights"]
    assert result.here.sizes["padding"] == 2 and result.published.isnull().all()


# ---- Audit


def test_an_audit_tells_the_layers_that_leave_padding_unread(run):
    outcome = run("audit", "resnet18", "--size", 64)
    assert outcome.exit_code == 0, outcome.stderr
    source, images, *lines = outcome.stdout.splitlines()
    assert source.startswith("model: ResNet, weights: random (seed 0); digest ")
    assert images == "images: none were read"
    title, rest, _, *rows = lines
    assert title.startswith(
        "images of 64×64: 5 of 18 padded layers leave padding unread; nearest sizes that leave none:"
    )
    assert "33 or 65 rows" in f"{title}{rest}"
    table = {row.split()[0]: row.split()[-12:] for row in rows[1:]}
    assert table["conv1"] == ["0", "of", "3", "1", "of", "3"] * 2
    assert list(table) == ["conv1", "maxpool", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"]
    assert "result:" not in outcome.stdout


def test_an_even_size_audits_clean_and_can_be_saved(tmp_path, run):
    file = tmp_path / "audit.nc"
    outcome = run("audit", "resnet18", "--size", 65, "-o", file, "--json")
    scores = json.loads(outcome.stdout)["scores"]
    assert all(row[f"unread_{side}"] == 0 for row in scores for side in ("top", "bottom", "left", "right"))
    assert scores[0]["padding_top"] == 3
    assert "images of 65×65: 0 of 18 padded layers leave padding unread\n" in run("show", file).stdout
    assert probe.load(file).attrs["weights"] == "random (seed 0)"
    outcome = run("show", file, "--figures", tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"audit-audit.png", "audit-foveation.png"}


def test_an_audit_of_a_model_of_clips_counts_frames(workplace, run):
    (workplace / "clip_nets.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv3d(3, 4, 3, stride=2, padding=1))\n"
    )
    outcome = run("audit", "clip_nets:make", "--size", 33)
    assert outcome.exit_code == 0, outcome.stderr
    title, rest, *_ = outcome.stdout.splitlines()[2:]
    assert "clips of 16×33×33: 1 of 1 padded layers leave padding unread; nearest" in title
    assert "15 or 17 frames, 31 or 35 rows, 31 or 35 columns" in " ".join(f"{title} {rest}".split())
    (row,) = json.loads(run("audit", "clip_nets:make", "--size", 33, "--json").stdout)["scores"]
    assert (row["input"], row["kernel"], row["stride"]) == (33, 3, 2)
    assert (row["input_frames"], row["kernel_frames"], row["stride_frames"]) == (16, 3, 2)
    assert [row[f"unread_{side}"] for side in ("first", "last", "top", "bottom", "left", "right")] == [0, 1, 0, 0, 0, 0]
    outcome = run("audit", "clip_nets:make", "--size", 33, "--frames", 17)
    assert "clips of 17×33×33: 0 of 1 padded layers leave padding unread" in outcome.stdout
    outcome = run("audit", "resnet18", "--frames", 8)
    assert outcome.exit_code and "expected (channel, row, column)" in outcome.stderr


def test_an_audit_of_a_wrong_model_is_told(run):
    outcome = run("audit", "resnet17")
    assert outcome.exit_code == 1 and "no such model" in outcome.stderr
