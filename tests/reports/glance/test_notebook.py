"""How results show themselves: in a terminal as `probe show` prints them, in a notebook with sentence and figure."""

import html
import re
from importlib import import_module

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import probe
from probe.reports import PAGES
from probe.reports.glance.summaries import kind_of
from probe.reports.glance.text import write_table
from probe.reports.results import page
from probe.results import KINDS, Result

FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)


def words_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def as_xarray_shows(dataset):
    """Return its HTML without the ids that xarray draws for each view."""
    shown = dataset._repr_html_()
    assert "xr-wrap" in shown
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", shown)


@pytest.fixture
def result(made):
    return made["layerwise"]


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_notebook_it_is_a_sentence_a_table_a_figure_and_the_dataset(kind, made):
    result = made[kind]
    plt.get_backend()  # is otherwise chosen when it is first compared
    settings, figures = mpl.rcParams.copy(), plt.get_fignums()
    shown = result._repr_html_()
    assert mpl.rcParams == settings and plt.get_fignums() == figures
    # The audited net has no layer with a stride to list.
    table = html.escape(kind_of(result).empty) if kind == "audit" else "<table"
    assert "Not shown" not in shown and shown.count(table) == 1 and shown.count("<img ") == 1
    assert shown.index("<p><b>") < shown.index(table) < shown.index("<img ") < shown.index("xarray.Dataset")
    assert "<script" not in shown and "<style" not in shown
    said = import_module(PAGES[kind]).findings(result)
    assert said and words_of(html.escape(said[0])) in words_of(shown)
    assert words_of(write_table(result).splitlines()[0]) in words_of(shown)
    assert "Data variables" in FOLDED.findall(shown)[-1]


def test_the_numbers_of_the_table_are_those_of_the_result(result):
    shown = words_of(result._repr_html_())
    r2 = result.r2.sel(layer="conv2", stimulus="rolled", target="column").item()
    assert re.search(rf"conv2 (\S+ ± \S+ ){{3}}{r2:z.3f} ±", shown)


def test_a_long_table_is_short_in_both(result):
    layers = [f"layer{number}" for number in range(60)]
    long = result.isel(layer=np.zeros(60, int)).assign_coords(layer=layers)
    assert len(repr(long).splitlines()) < 32
    for text in (repr(long), long._repr_html_()):
        assert "layer0" in text and "layer59" in text and "layer30 " not in FOLDED.sub("", text)


def test_a_file_gives_a_result(result, tmp_path):
    loaded = probe.load(probe.save(result, tmp_path / "x.nc"))
    assert type(loaded) is Result and loaded.identical(result) and repr(loaded) == repr(result)


@pytest.mark.parametrize("selected", [{"stimulus": "rolled"}, {"target": "row", "stimulus": "natural"}])
def test_labels_that_were_selected_are_put_back(selected, result, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # the last line is then one
    part = result.sel(selected)
    wanted = result.sel({name: [label] for name, label in selected.items()})
    assert words_of(FOLDED.sub("", part._repr_html_())).split(" R² ")[0] in words_of(wanted._repr_html_())
    assert repr(part).splitlines()[:-1] == repr(wanted).splitlines()[:-1]
    assert all(result[name].size > 1 for name in selected) and "<img " in part._repr_html_()


def test_what_is_no_whole_result_shows_itself_as_xarray_does(result):
    for part in (result.drop_vars("r2"), result[["r2"]]):
        plain = xr.Dataset(part.data_vars, part.coords, part.attrs)
        assert type(part) is Result and repr(part) == repr(plain)
        assert as_xarray_shows(part) == as_xarray_shows(plain)


def test_other_datasets_are_untouched(result):
    plain = xr.Dataset({"r2": 1.0}, attrs=result.attrs)
    before = repr(plain), xr.Dataset.__repr__, xr.Dataset._repr_html_
    result._repr_html_()
    assert (repr(plain), xr.Dataset.__repr__, xr.Dataset._repr_html_) == before
    assert repr(plain).startswith("<xarray.Dataset>") and "xr-wrap" in plain._repr_html_()


def test_a_reader_who_wants_no_html_gets_none(result):
    plain = xr.Dataset(result.data_vars, result.coords, result.attrs)
    with xr.set_options(display_style="text"):
        assert result._repr_html_() == f"<pre>{html.escape(repr(plain))}</pre>" == plain._repr_html_()


def test_names_are_escaped(result):
    name = "<script>alert('1')</script>"
    named = result.assign_coords(layer=[name, *result.layer.values[1:]]).assign_attrs(model=name)
    shown = named._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize(("part", "left"), [("figures", "<p><b>"), ("findings", "<img ")])
def test_a_figure_or_sentence_that_fails_leaves_the_table(part, left, result, monkeypatch):
    def fail(result):
        raise ZeroDivisionError("<one> over nothing")

    kind = page.KINDS["layerwise"]._replace(**{part: fail})
    monkeypatch.setitem(page.KINDS, "layerwise", kind)
    shown = result._repr_html_()
    assert "Not shown: ZeroDivisionError: &lt;one&gt; over nothing" in shown
    assert "<table" in shown and left in shown


def test_printing_does_not_load_torch_nor_figures(result, tmp_path, python):
    path = probe.save(result, tmp_path / "x.nc")
    code = (
        f"import probe, sys; result = probe.load({str(path)!r}); print(result)\n"
        "print({'torch', 'matplotlib', 'IPython'} & set(sys.modules))\n"
        "result._repr_html_(); print({'torch', 'IPython'} & set(sys.modules))"
    )
    done = python("-c", code)
    assert done.stdout.splitlines()[-2:] == ["set()", "set()"], done.stderr
    assert done.stdout.startswith("model: ")
