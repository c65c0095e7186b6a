"""`probe report model` and `probe report compare`."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.analyses.overview import parts, study
from probe.bundles import unbundle
from probe.command import overviews
from tests.overviews import SMALL

pytestmark = pytest.mark.usefixtures("undrawn")

FEW = ("where", "untrained", "padding_circular", "audit", "ablation", "neighbours")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few draws and few parts."""
    run = study.run
    monkeypatch.setattr(study, "QUICK", SMALL)
    monkeypatch.setattr(study, "run", lambda *args, **given: run(*args, **{"parts": FEW, **given}))


@pytest.fixture
def weights(workplace, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    from cli_nets import classifier

    torch.save(classifier().state_dict(), "net.pt")
    return "net.pt"


COMMAND = ("report", "model", "cli_nets:classifier", "--size", 8, "--quick")


def test_the_page_and_its_result_are_written_beside_the_untrained_twin(workplace, weights, photos, run):
    outcome = run(*COMMAND, "--weights", weights, "--images", photos, "-o", "net.html", "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-2:] == ["page: net.html", "result: net.nc"]
    assert outcome.stdout.startswith("- On rolled images, whose content cannot tell position,")
    result = probe.load("net.nc")
    assert result.attrs["command"].startswith("probe report model cli_nets:classifier")
    assert "net.pt" in result.attrs["weights"]
    assert {"where", "untrained", "ablation"} <= set(unbundle(result))
    again = run("report", "net.nc", "-o", "again.html")
    assert again.exit_code == 0 and Path("again.html").read_bytes() == Path("net.html").read_bytes()


def test_a_part_that_fails_leaves_a_page_and_the_command_ends_with_1(workplace, photos, run, monkeypatch):
    monkeypatch.setattr(parts, "neighbours", lambda *args, **given: 1 / 0)
    outcome = run(*COMMAND, "--images", photos, "-o", "net.html", "--quiet")
    assert outcome.exit_code == 1
    assert "warning: neighbours failed: ZeroDivisionError" in outcome.stderr
    assert "ZeroDivisionError" in Path("net.html").read_text(encoding="utf-8")
    assert json.loads(probe.load("net.nc").attrs["failed"]) == {"neighbours": "ZeroDivisionError: division by zero"}


def test_classes_come_from_a_table(workplace, photos, run):
    with Path("labels.csv").open("w", newline="") as file:
        rows = [(path.name, number % 16) for number, path in enumerate(sorted(photos.iterdir()))]
        csv.writer(file).writerows([("file", "class"), *rows])
    outcome = run(*COMMAND, "--images", photos, "--labels", "labels.csv", "-o", "net.html", "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert list(unbundle(probe.load("net.nc"))["ablation"].score.values) == ["accuracy"]


def test_maps_of_classes_come_from_a_folder_and_are_scored_by_region(workplace, photos, run):
    Path("labels").mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            classes = np.random.default_rng(0).integers(0, 16, (image.height, image.width), dtype=np.uint8)
        Image.fromarray(classes).save(Path("labels") / path.name)
    words = ("report", "model", "cli_nets:small", "--quick", "--images", photos, "--labels", "labels", "-o", "net.html")
    outcome = run(*words, "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    found = unbundle(probe.load("net.nc"))["ablation"]
    assert list(found.score.values) == ["miou", "miou:left", "miou:centre", "miou:right"]
    assert "The score of the whole image and of the thirds of its columns" in Path("net.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("labels.txt", "neither a folder of PNG files nor a CSV file"),
        ("none.csv", "neither a folder of PNG files nor a CSV file"),
        ("short.csv", "labels: .* images are not in short.csv, .* for one"),
        ("wrong.csv", "labels: line 2 of wrong.csv is '00.png,cat'"),
    ],
)
def test_labels_that_are_none_are_refused_before_the_work(labels, message, workplace, photos, run):
    Path("labels.txt").write_text("00.png,1\n")
    Path("short.csv").write_text("00.png,1\n")
    Path("wrong.csv").write_text("00.png,1\n00.png,cat\n")
    outcome = run(*COMMAND, "--images", photos, "--labels", labels, "-o", "net.html")
    assert outcome.exit_code in (1, 2)
    assert re.search(message, outcome.stderr), outcome.stderr
    assert not Path("net.html").exists()


def test_several_models_are_compared_from_their_files(overview, workplace, run):
    for name in ("first", "second"):
        probe.save(overview, f"{name}.nc")
    outcome = run("report", "compare", "first.nc", "second.nc", "-o", "both.html", "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert "second (0" in outcome.stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert json.loads(probe.load("both.nc").attrs["names"]) == ["first", "second"]
    again = run("report", "both.nc", "-o", "again.html")
    assert again.exit_code == 0 and Path("again.html").read_bytes() == Path("both.html").read_bytes()


def test_what_cannot_be_compared_is_said(overview, workplace, run):
    probe.save(overview, "first.nc")
    probe.save(unbundle(overview)["where"], "where.nc")
    for files, message in ((["first.nc"], "expected two models or more"), (["first.nc", "where.nc"], "'layerwise'")):
        outcome = run("report", "compare", *files)
        assert outcome.exit_code == 1 and message in outcome.stderr
    assert not Path("compare.html").exists()


def test_files_of_one_name_are_told_apart_by_their_folders():
    assert overviews._names((Path("a/net.nc"), Path("b/net.nc"))) == ["a/net", "b/net"]
    assert overviews._names((Path("a/one.nc"), Path("b/two.nc"))) == ["one", "two"]
