"""Tasks on images that stand in a cell of a canvas, against networks of which the answer is known."""

import json

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import probe
import probe.reports.location_dependent as page
from probe.analyses.location_dependent import study
from probe.analyses.location_dependent.tasks import CanvasTask, LabelledImages
from probe.analyses.training import train
from probe.errors import ArgumentError, ImagesError
from probe.reports.page.document import Report
from probe.testing import noise_images
from probe.variants.padding import with_padding

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("location_dependent")


def noise(count, size=8, n_classes=2):
    labels = torch.arange(count) % n_classes
    return LabelledImages(noise_images(count, size), labels, ([0.0] * 3, [1.0] * 3), n_classes)


def trained(padding, steps):
    """The accuracy at naming one of nine cells, on other images."""
    task, data = CanvasTask("location", "mean", 3), noise(64)
    model = with_padding(task.network(data, width=1, seed=0), padding)
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randint(n, (32,), generator=generator) for _ in range(steps) for n in (64, 9))
    train(model, (task.pose(data, images, cells) for images, cells in zip(draws, draws, strict=True)), steps=steps)
    other = LabelledImages(noise_images(20, 8, seed=1), torch.zeros(20).long(), data.normalisation, 2)
    return task.score(task.confusion(model, other).sum(dim=0))


def test_zero_padding_names_the_cell():
    assert trained("zeros", steps=80) > 90


def test_circular_padding_cannot_name_the_cell_at_all():
    assert trained("circular", steps=10) == pytest.approx(100 / 9)


def test_results_hold_all_cases_and_rings(result, tmp_path):
    assert result.here.dims == ("task", "padding", "canvas", "grid")
    assert result.here.notnull().all() and result.published.isnull().all()
    assert list(result.padding.values) == list(probe.PADDINGS)
    right = result.by_ring.sel(task=["location", "classification"])
    assert right.notnull().all()
    np.testing.assert_allclose(
        (8 * right.sel(ring=0) + right.sel(ring=1)) / 9, result.here_by_seed.sel(task=right.task)
    )
    assert result.chance.sel(task="location", grid=3) == pytest.approx(100 / 9)
    np.testing.assert_allclose(result.here.sel(task="location", padding="circular"), 100 / 9)
    assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)


def test_networks_of_one_seed_begin_alike_and_see_the_same():
    data = noise(8)
    cases = [study._Case(3, "location", padding, "mean", 3) for padding in ("zeros", "circular")]
    states = [study._network(case, data, study._PRESETS["tiny"]).state_dict() for case in cases]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    first, second = (next(study._batches(case, data, study._PRESETS["tiny"])) for case in cases)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def folder_of(tmp_path, classes=("cat", "dog"), count=6):
    for shade, name in enumerate(classes):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (20, 20), (80 * shade + number, 10, 10)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_a_folder_of_classes_is_read(tmp_path):
    result = study.run(folder_of(tmp_path), preset="tiny", paddings=["zeros"], seeds=1, progress=False)
    assert result.chance.sel(task="classification", grid=3) == 50
    settings = json.loads(result.attrs["settings"])
    assert settings["n"] == 9 and settings["images"] == tmp_path.name


def test_every_class_of_a_folder_is_tested(tmp_path):
    classes = ("bird", "cat", "dog", "frog")
    folder = folder_of(tmp_path, classes, count=16)
    training, tested = study._load(folder, "tiny", 64, torch.device("cpu"))
    assert len(tested.labels) == study._PRESETS["tiny"].n_tested < len(classes) * 16 // 4
    assert sorted(set(tested.labels.tolist())) == [0, 1, 2, 3] and training.n_classes == 4


def test_departures_name_what_the_presets_leave_out():
    quick, paper = study._PRESETS["quick"], study._PRESETS["paper"]
    (departure,) = (text for text in study.STUDY.departures if text.startswith("The presets tiny and quick"))
    assert f"for {quick.steps} steps, on grids of 3×3 and 5×5 alone, and tests {quick.n_tested} images;" in departure
    assert f"{quick.max_images:,} images at {quick.size}×{quick.size} pixels" in departure
    assert f"for {paper.steps:,} steps and tests {paper.n_tested:,} images" in departure
    assert quick.grids == (3, 5) and 4 * quick.width == paper.width


def test_a_padding_that_cannot_run_is_recorded(monkeypatch):
    from dataclasses import replace

    tiny = replace(study._PRESETS["tiny"], grids=(2,))
    monkeypatch.setitem(study._PRESETS, "tiny", tiny)
    with pytest.warns(probe.ProbeWarning, match="valid, grid 2: .*smallest"):
        result = study.run(preset="tiny", paddings=["zeros", "valid"], seeds=1, progress=False)
    assert result.here.sel(padding="valid").isnull().all() and result.here.sel(padding="zeros").notnull().all()
    assert "valid, grid 2" in result.attrs["warnings"]
    assert sentences(result)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": "huge"}, ArgumentError, "preset='huge'"),
        ({"preset": "paper"}, ImagesError, "cs.toronto.edu/~kriz/cifar.html.*<folder>/<class>/.*images="),
        ({"seeds": 0}, ArgumentError, "seeds=0"),
        ({"paddings": ["mirror"]}, ArgumentError, "paddings=.*expected a list of some of zeros"),
        ({"paddings": "zeros"}, ArgumentError, "expected a list"),
        ({"images": "no/such/folder"}, ImagesError, "no folder"),
        ({"max_images": 3}, ArgumentError, "max_images: without a folder of images= it would have no effect"),
    ],
)
def test_what_cannot_be_run_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        study.run(**({"preset": "tiny", "progress": False} | arguments))


def test_one_class_is_too_few(tmp_path):
    with pytest.raises(ImagesError, match="one class; expected <folder>/<class>/"):
        study.run(folder_of(tmp_path, classes=("cat",)), preset="tiny", progress=False)


def made(result, location, by_ring=None):
    """The result with given scores of the task location, the same on all canvases."""
    changed = result.copy(deep=True)
    for padding, scores in location.items():
        changed.here_by_seed.loc[{"task": "location", "padding": padding}] = np.reshape(scores, (-1, 1, 1))
    for padding, (border, middle) in (by_ring or {}).items():
        where = {"task": "classification", "padding": padding}
        changed.by_ring.loc[where | {"ring": 0}] = np.reshape(border, (-1, 1, 1))
        changed.by_ring.loc[where | {"ring": 1}] = np.reshape(middle, (-1, 1, 1))
    return changed


def sentences(result):
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in page.findings(result)]


def test_findings_say_which_padding_knows_the_cell(result):
    location = dict.fromkeys(probe.PADDINGS, (11.0, 11.2)) | {"zeros": (90.0, 90.2), "full": (30.0, 80.0)}
    said = sentences(made(result, location))
    scores = "zeros 90.1 (90.0 and 90.2) %, full 55 (30 and 80) %"
    assert f"3×3 cells (chance 11.1 %), mean of the canvases: {scores}" in said[0]
    assert said[1] == (
        "That the cell is told beyond chance and error is not shown on any grid under reflect, replicate, circular, "
        "partial, valid and full."
    )
    everywhere = sentences(made(result, dict.fromkeys(probe.PADDINGS, (90.0, 90.2))))
    assert everywhere[1] == "Under every padding that was scored the cell is told beyond chance and error on some grid."


def test_one_network_is_said_to_have_no_error(result):
    single = result.isel(seed=[0])
    location = dict.fromkeys(probe.PADDINGS, 11.0) | {"zeros": 90.0}
    said = sentences(made(single, location, {"zeros": (40.0, 60.0), "full": (50.0, 50.0)}))
    assert not any("beyond error" in sentence or "and error" in sentence for sentence in said)
    assert said[1].startswith(
        "That the cell is told beyond chance (of one network each, without an error) is not shown on any grid under"
    )
    (border,) = (s for s in said if s.startswith("Classification in cells"))
    assert "lower there under zeros (−20.0 points)" in border
    assert "a difference is not shown under" in border and border.endswith("(of one network each, without an error).")
    (task,) = (s for s in said if s.startswith("Classification (3×3)"))
    assert task == "Classification (3×3): 0.0 % under all paddings alike."
    unlike = made(single, location, {"zeros": (40.0, 60.0), "full": (50.0, 50.0)})
    unlike.here_by_seed.loc[{"task": "classification", "padding": "zeros"}] = 70.0
    (task,) = (s for s in sentences(unlike) if s.startswith("Classification (3×3)"))
    assert "zeros is highest with 70.0 % (of one network each, without an error). The others" in task
    told = sentences(made(single, dict.fromkeys(probe.PADDINGS, 90.0)))[1]
    assert told == (
        "Under every padding that was scored the cell is told beyond chance (of one network each, without an error) "
        "on some grid."
    )
    canvases = single.isel(canvas=[0, 0]).assign_coords(canvas=["black", "white"])
    canvases.here_by_seed.loc[{"task": "location", "padding": "zeros", "canvas": "white"}] = 5.0
    (colours,) = (s for s in sentences(canvases) if s.startswith("Zero padding tells the cell"))
    assert colours.endswith("points, of one network each, without an error.")


def test_findings_compare_the_border_with_the_middle(result):
    equal = dict.fromkeys(probe.PADDINGS, ((50.0, 51.0), (51.0, 50.0)))
    rings = equal | {"valid": ((40.0, 41.0), (60.0, 61.0)), "full": ((70.0, 71.0), (60.0, 61.0))}
    (sentence,) = (s for s in sentences(made(result, {}, rings)) if s.startswith("Classification in cells"))
    assert "lower there under valid (−20 (both) points)" in sentence
    assert "higher there under full (+10 (both) points)" in sentence
    assert "a difference is not shown beyond error under zeros, reflect, replicate, circular and partial" in sentence


def test_findings_name_tasks_that_were_not_learned(result):
    changed = result.copy(deep=True)
    changed.here.loc[{"task": ["classification", "segmentation"]}] = 50
    changed.here.loc[{"task": "segmentation", "padding": ["valid", "full"]}] = (
        changed.chance.sel(task="segmentation") + 0.5
    )
    (sentence,) = (s for s in sentences(changed) if s.startswith("Less than a point above a constant answer"))
    assert "training: segmentation (3×3) under valid and full." in sentence


def test_the_page_has_figures_with_numbers_in_words(result):
    report = Report("A study")
    page.add_figures(report, result)
    assert [section.title for section in report.sections] == ["Scores by padding", "Scores by distance to the border"]
    assert "location, 3×3, circular 11 %" in report.html()
    for figure in (page.draw_scores(result), page.draw_rings(result)):
        assert isinstance(figure, Figure) and len(figure.axes) == 3
