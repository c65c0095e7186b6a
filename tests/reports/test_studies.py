"""The page that all studies share."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import probe
from probe import reports
from probe.analyses.studies import Study, find_studies, study_result
from probe.errors import ArgumentError
from probe.reports.studies import build, comparison_table, page_of

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>$\\frac$'
PADDINGS = ["zeros", "circular"]


def study(text, name="rook"):
    return Study(name, text, f"{text}?", text, [f"First {text}.", "Then."], [f"Other {text}."], {"tiny": "1 s"})


def result_of(values, published, *, about=None, preset="paper", **extra):
    """A result of the study rook with the given accuracies, on (seed, padding)."""
    values = np.asarray(values, dtype=float)
    n_seeds = len(values)
    coords = {"seed": range(n_seeds), "padding": PADDINGS}
    here = xr.DataArray(values, dims=("seed", "padding"), coords=coords, attrs={"long_name": "accuracy", "units": "%"})
    beside = xr.DataArray(published, dims="padding", coords={"padding": PADDINGS})
    filters = xr.DataArray(
        np.random.default_rng(0).normal(size=(2, n_seeds, 5, 5)), dims=("padding", "seed", "tap_row", "tap_column")
    )
    maps = {
        f"map_{number}": xr.DataArray(
            np.ones((2, 2, 4, 4)),
            dims=("epoch", "label", f"row_{number}", f"column_{number}"),
            coords={"epoch": [0, 100], "label": ["upper left", "lower right"]},
            attrs={"long_name": "map", "units": "activation", "padding": padding},
        )
        for number, padding in enumerate(PADDINGS)
    }
    response = xr.DataArray(np.ones((2, n_seeds, 2)), dims=("padding", "seed", "label"))
    described = {"long_name": "text", "units": "1"}
    others = {"filter": filters.assign_attrs(described), "response": response.assign_attrs(described), **maps}
    about = study("A title") if about is None else about
    started = time.monotonic()
    return study_result(about, beside, here, preset=preset, settings={}, started=started, others=others, **extra)


@pytest.fixture
def result():
    return result_of([[100, 50], [90, 50]], [100, np.nan], warnings=["Beware."], command="probe analyse rook")


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


# ---- The table


def test_the_table_holds_the_interval_over_seeds(result):
    table = comparison_table(result).set_index("padding")
    low, high = scipy.stats.t.interval(0.95, 1, loc=95, scale=scipy.stats.sem([100, 90]))
    assert table.loc["zeros", "here ± 95 %"].half_width == pytest.approx((high - low) / 2)
    assert table.loc["zeros", "sd"] == pytest.approx(np.std([100, 90], ddof=1))
    assert table.loc["zeros", "here ± 95 %"].mean == 95
    assert table.loc["zeros", ["published", "difference"]].tolist() == [100, -5]
    assert table.loc["circular", "seeds"] == 2 and np.isnan(table.loc["circular", "published"])


def test_one_seed_has_no_interval():
    table = comparison_table(result_of([[100, 50]], [100, np.nan]))
    assert [(each.mean, np.isnan(each.half_width)) for each in table["here ± 95 %"]] == [(100, True), (50, True)]


def test_what_is_neither_published_nor_measured_has_no_row():
    table = comparison_table(result_of([[100, np.nan]], [100, np.nan]))
    assert table.padding.tolist() == ["zeros"]


@pytest.mark.usefixtures("undrawn")
def test_where_nothing_is_published_there_is_no_column_for_it():
    unpublished = result_of([[100, 50]], [np.nan, np.nan])
    assert "published" not in comparison_table(unpublished) and "difference" not in comparison_table(unpublished)
    assert "No published numbers are at hand of what was measured here." in build(unpublished).html()


@pytest.mark.usefixtures("undrawn")
def test_distances_from_published_numbers_are_told():
    page = text_of(build(result_of([[99, 53]], [100, 50])).html())
    assert "2 of these numbers have been published. Ours differ from them by 2.0 points in the mean, and by 3.0" in page


# ---- The page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("values", "shown"),
    [([0.978, 0.00054], "0.00054"), ([0.978, 0.5], "0.978"), ([0.978, 1e-9], "0.97800"), ([0.0, 0.5], "0.000")],
)
def test_small_numbers_keep_two_digits(values, shown):
    result = result_of([values], [np.nan, np.nan])
    result.here_by_seed.attrs["units"] = "1"
    text = text_of(build(result).html())
    assert f" {shown} " in text[text.index("Table 1") :]


def test_the_page_tells_everything_in_order(result):
    report = build(result)
    assert report.title == "A title" and report.summary == "A title?"
    titles = [section.title for section in report.sections]
    assert titles[:3] == ["Findings", "Protocol", "Published and here"]
    assert titles[-2:] == ["Departures from the original", "Provenance"] and len(titles) > 5
    text = text_of(report.html())
    for expected in (
        "After A title",
        "First A title.",
        "Other A title.",
        "One of these numbers has been published. Ours differs from it by 5.0 points.",
        "Beware.",
        "probe analyse rook",
        "xarray",
    ):
        assert expected in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("preset", "note"), [("tiny", "A trial"), ("quick", "shortens the protocol"), ("paper", None)])
def test_short_presets_are_told(preset, note):
    text = text_of(build(result_of([[100, 50]], [100, np.nan], preset=preset)).html())
    assert ("“paper” runs it in full" in text) == (preset == "quick")
    assert note is None or note in text


def test_the_same_result_gives_the_same_bytes(result, tmp_path):
    path = probe.save(result, tmp_path / "result.nc")
    assert build(result).html() == build(probe.load(path)).html() == reports.build(result).html()


def test_a_hostile_study_cannot_become_markup():
    hostile = result_of([[100, 50]], [100, 50], about=study(HOSTILE), warnings=[HOSTILE], command=HOSTILE)
    hostile = hostile.assign_coords(padding=[HOSTILE, "circular"], label=[HOSTILE, "b"])
    page = build(hostile).html()
    assert "<script>alert" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 6


@pytest.mark.parametrize("name", ["os", "../rook", "document", "studies", "none", ""])
def test_a_result_of_no_study_is_refused(result, name):
    result.attrs["analysis"] = name
    with pytest.raises(ArgumentError, match=re.escape(repr(name))):
        reports.build(result)


def test_pages_are_made_without_torch(result, tmp_path):
    path = probe.save(result, tmp_path / "rook.nc")
    code = (
        "import sys, probe, reports\n"
        f"reports.build(probe.load({str(path)!r})).save({str(tmp_path / 'page.html')!r})\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


# ---- All studies


@pytest.mark.parametrize("name", [name for name in find_studies() if name != "padding_comparison"])
def test_every_study_introduces_itself_and_has_a_page(name):
    about = find_studies()[name].STUDY
    assert about.name == name
    assert about.title and about.question.endswith("?") and about.protocol
    assert set(about.times) == {"tiny", "quick", "paper"}
    page = page_of(name)
    assert callable(page.findings) and callable(page.add_figures)
