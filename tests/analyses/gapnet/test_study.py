"""The study of global pooling: its networks, its protocol, its numbers, and what its page says of them."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probe.analyses.gapnet.nets import NETS
from probe.analyses.gapnet.study import MEASURES, PRESETS, STUDY, run
from probe.errors import ArgumentError, ImagesError
from probe.reports import build
from probe.reports.gapnet import add_figures, draw_accuracy, findings
from probe.reports.page.document import Report

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tiny_study):
    return tiny_study("gapnet")


def test_all_numbers_are_there(tiny):
    assert dict(tiny.here_by_seed.sizes) == {"seed": 2, "measure": 2, "net": 4, "grid": 1, "epoch": 2}
    for variable in ("here", "here_sd", "by_epoch", "readout", "chance"):
        assert tiny[variable].notnull().all() and (tiny[variable] <= 100).all() and (tiny[variable] >= 0).all()
        assert tiny[variable].units == "%"
    assert tiny.kind.values.tolist() == ["ordered", "permuted_by_image", "permuted_by_batch", "sum", "sorted"]
    np.testing.assert_allclose(tiny.chance.sel(grid=3), [100 / 9, 10])


def test_last_and_best_epoch_come_from_the_same_curve(tiny):
    assert (tiny.here_by_seed.sel(epoch="last") == tiny.by_epoch.isel(trained_epochs=-1)).all()
    assert (tiny.here_by_seed.sel(epoch="best") == tiny.by_epoch.max("trained_epochs")).all()


def test_published_numbers_stand_at_the_best_epoch_and_separate_ones_at_the_last(tiny):
    by_case = tiny.sel(grid=3)
    assert by_case.published.sel(measure="location", net="PermuteNet", epoch="best") == 78.8
    assert by_case.published.sel(measure="image class", net="GAPNet", epoch="best") == 82.6
    assert by_case.published.sel(epoch="last").isnull().all()
    assert by_case.separate.sel(measure="location", net="PermuteNet", epoch="last") == 67
    assert tiny.separate.sel(epoch="best").isnull().all()
    assert tiny.published.sel(net="unpermuted").isnull().all()


def test_the_same_seed_gives_the_same_numbers(tiny):
    again = run(preset="tiny", seeds=1, nets=["PermuteNet"], progress=False)
    first = tiny.sel(seed=[0], net=["PermuteNet"])
    for name in ("by_epoch", "readout"):
        np.testing.assert_allclose(again[name], first[name], atol=1e-6)


def test_gapnet_learns_to_tell_the_cell(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], n_training=480, n_test=180, width=4, epochs=6))
    result = run(preset="tiny", seeds=1, nets=["GAPNet"], progress=False)
    accuracy = result.here.sel(measure="location", net="GAPNet", epoch="last").item()
    assert accuracy > 4 * result.chance.sel(measure="location").item()


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 15)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_a_folder_of_classes_can_be_given(folder):
    result = run(preset="quick", images=folder, nets=["GAPNet"], grids=[2], progress=False)
    settings = json.loads(result.settings)
    assert (settings["images"], settings["n_classes"], settings["grids"]) == ("a folder of images", 2, [2])
    assert json.loads(result.warnings) == []
    assert result.published.isnull().all()


def test_other_classes_in_the_test_set_are_refused(folder):
    next(path for path in (folder / "test").iterdir() if path.is_dir()).rename(folder / "test" / "zebra")
    with pytest.raises(ImagesError, match=r"classes of train/ and test/ differ in .*zebra"):
        run(preset="quick", images=folder, nets=["GAPNet"], grids=[2], progress=False)


def test_a_folder_without_training_images_is_refused(tmp_path):
    with pytest.raises(ImagesError, match=r"it has no folder train/\. Get CIFAR-10 from"):
        run(preset="quick", images=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "paper"}, "images: none given, and the preset 'paper' needs CIFAR-10. Get CIFAR-10 from https://"),
        ({"preset": "huge"}, "preset='huge'"),
        ({"nets": ["NIN"]}, "nets=['NIN']: expected a list of some of GAPNet"),
        ({"nets": "GAPNet"}, "nets='GAPNet'"),
        ({"seeds": 0}, "seeds=0: expected a whole number of at least 1"),
        ({"grids": [1]}, "grids=[1]: expected a list of whole numbers of at least 2"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        run(**{"preset": "tiny", "progress": False, **options})


def test_the_study_says_how_long_each_preset_takes():
    assert STUDY.times.keys() == PRESETS.keys()


def filled(tiny, values, preset="paper", seeds=2):
    """Return a result with chosen accuracies in the last epoch, two points more in the best."""
    result = tiny.isel(seed=slice(seeds)).copy(deep=True)
    for (measure, net), accuracy in values.items():
        for epoch, gain in (("last", 0), ("best", 2)):
            place = {"measure": measure, "net": net, "epoch": epoch}
            result.here.loc[place] = accuracy + gain
            for seed in range(seeds):
                result.here_by_seed.loc[{**place, "seed": seed}] = accuracy + gain + (seed - 0.5 if seeds > 1 else 0)
    return result.assign_attrs(preset=preset)


ACCURACIES = {
    **{("location", net): value for net, value in zip(NETS, (99.5, 60.0, 55.0, 98.0), strict=True)},
    **{("image class", net): value for net, value in zip(NETS, (80.0, 39.8, 39.0, 79.0), strict=True)},
}


def test_findings_state_the_numbers_with_their_errors(tiny):
    said = [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in findings(filled(tiny, ACCURACIES))]
    assert "(chance 11.1 %), GAPNet tells the cell of 99.5 (99.0 and 100.0) %" in said[0]
    assert "PermuteNet that of 60.0 (" in said[0] and "each image it is 55.0 (" in said[0]
    assert "tells 98.0 (" in said[1] and "without it − with it is 38 (both) points;" in said[1]
    assert said[1].endswith("differs from it by 1.5 (both) points.")
    classes = next(sentence for sentence in said if "GAPNet 80.0 (" in sentence)
    assert "PermuteNet 39.8 (" in classes and "Without the permutation it is 79.0 (" in classes
    assert "GAPNet − PermuteNet is +40.2 points here, and +0.5 as published" in classes
    assert any("adds 2.0 points in the mean" in sentence for sentence in said)
    # Published: 100, 78.8, 82.6, 82.1; here in the best epoch 101.5, 62, 82, 41.8.
    assert any("by 14.8 points in the mean, at most by −40.3 (PermuteNet, image class, 3×3)" in s for s in said)


def test_findings_of_a_short_run_do_not_compare_with_published_numbers(tiny):
    said = findings(filled(tiny, ACCURACIES, preset="quick", seeds=1))
    assert any("no measure of theirs" in sentence for sentence in said)
    assert any("no error over training seeds" in sentence for sentence in said)
    assert not any("±" in sentence or "nan" in sentence for sentence in said)


def test_findings_of_some_networks_say_only_what_is_known(tiny):
    said = findings(tiny.sel(net=["GAPNet"]))
    assert said and not any("PermuteNet" in sentence or "nan" in sentence for sentence in said)


def test_figures_show_every_network(tiny):
    report = Report("study")
    add_figures(report, tiny)
    assert [section.title for section in report.sections] == ["Accuracy", "Learning", "What pooled channels hold"]
    assert "nan" not in report.html()
    figure = draw_accuracy(tiny)
    assert [ax.get_title() for ax in figure.axes] == [f"trained for {measure}, 3×3 cells" for measure in MEASURES]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NETS)


def test_the_page_of_the_study_holds_findings_numbers_and_figures(tiny):
    page = build(tiny)
    assert page.title == STUDY.title
    assert {"Findings", "Published and here", "Learning"} <= {section.title for section in page.sections}
