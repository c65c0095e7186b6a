import base64
import hashlib
import io
import json
import os
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pandas.core.arrays.string_ import StringArray
from PIL import Image

from probe.errors import ArgumentError, ProbeWarning, ResultFileError
from probe.reports.page.blocks import data_uri, lay_out_table
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></script><h1>",
    "{{7*7}}{% raw %}",
    "'; -- &amp; ]]> <!--",
]
HEADINGS = [f"h{level}" for level in range(1, 7)]


class Page(HTMLParser):
    """The elements of a page, in order: tag, attributes and the text inside (of children too)."""

    VOID = ("br", "img", "link", "meta", "wbr")

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.open = []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute of <{tag}> stands twice"
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def all(self, *tags, **attributes):
        return [
            element
            for element in self.elements
            if element["tag"] in tags and all(element.get(key) == value for key, value in attributes.items())
        ]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element

    @property
    def skeleton(self):
        """The markup without what it holds. Where lines may break depends on the text."""
        return [(element["tag"], tuple(element)) for element in self.elements if element["tag"] != "wbr"]


def line_figure(n_points=5):
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.scatter(range(n_points), np.linspace(0, 1, n_points))
    axes.set(xlabel="depth", ylabel="R²")
    return figure


def example_report(text="plain"):
    """A report with every kind of block, and `text` wherever a user's text can stand."""
    report = Report(text, summary=text)
    section = report.add_section(text)
    section.add_paragraph(text)
    section.add_note(text)
    section.add_list([text, text])
    section.add_definitions([(text, text)])
    section.add_code(text, text)
    section.add_json(text, {text: [text, 1, np.float64(0.5), np.arange(2)]})
    frame = pd.DataFrame({0: pd.Series([text, text], dtype=object), 1: [0.25, np.nan]})
    frame.columns = pd.Index([text, "r2"], dtype=object)  # Arrow refuses texts that are not Unicode
    section.add_table(frame.set_index(text), caption=text, name=text)
    section.add_figure(line_figure(), caption=text, alt=text, table=frame)
    report.add_section(text)
    return report


def table_page(frame, **options):
    report = Report("Tables")
    report.add_section("Table").add_table(frame, caption="All scores", name="scores", **options)
    return Page(report.html())


def texts(page, tag, **attributes):
    return [element["text"] for element in page.all(tag, **attributes)]


def content_of(data_uri):
    header, content = data_uri.split(",", 1)
    return base64.b64decode(content) if header.endswith(";base64") else unquote_to_bytes(content)


def csv_of(page):
    return content_of(page.one("a", download="scores.csv")["href"]).decode()


# ---- The page


def test_the_example_of_the_docstring_has_the_parts_of_a_page():
    report = Report("Padding", summary="Three nets.")
    report.add_section("Findings").add_list(["First.", "Second."])
    page = Page(report.html())
    assert report.html().startswith("<!doctype html>")
    assert page.one("html")["lang"] == "en"
    assert page.one("title")["text"] == page.one("h1")["text"] == "Padding"
    assert page.one("p", **{"class": "summary"})["text"] == "Three nets."
    assert texts(page, "h2") == ["Findings"]
    assert texts(page, "li")[1:] == ["First.", "Second."]
    for landmark in ("header", "nav", "main"):
        page.one(landmark)


def test_ids_are_unique_and_every_link_within_the_page_resolves():
    report = example_report()
    for title in ("Findings", "findings!", "Findings 2", "Findings", "ω²", "—", "Straße über R²", "page content"):
        report.add_section(title)
    slugs = [section.slug for section in report.sections]
    assert slugs[2:7] == ["findings", "findings-2", "findings-2-2", "findings-3", "2"]
    assert slugs[7:] == ["section", "strae-uber-r2", "page-content"]
    page = Page(report.html())
    ids = [element["id"] for element in page.elements if "id" in element]
    assert len(ids) == len(set(ids))
    targets = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert set(slugs) < set(targets) <= set(ids)
    assert {element["aria-labelledby"] for element in page.all("section")} <= set(ids)


def test_headings_descend_one_by_one():
    levels = [int(heading["tag"][1]) for heading in Page(example_report().html()).all(*HEADINGS)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_nothing_is_fetched_and_nothing_but_the_page_s_own_script_may_run():
    page = Page(example_report().html())
    for element in page.all("a", "img", "link", "script", "style", "iframe"):
        for attribute in ("src", "href", "srcset"):
            assert element.get(attribute, "#").startswith(("#", "data:"))
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"})["content"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag in ("script", "style"):
        text = page.one(tag)["text"]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
        assert not re.search(r"https?://|@import|url\(", text)
    # With such a policy a style or handler written into an element would do nothing.
    assert not [element for element in page.elements if any(name.startswith(("on", "style")) for name in element)]


def test_script_stays_small():
    assert len(Page(example_report().html()).one("script")["text"]) < 10_000


def test_page_without_scripts_hides_the_buttons_and_folds_the_details():
    page = Page(example_report().html())
    assert all("hidden" in button for button in page.all("button") if button["text"] != "Close")
    assert texts(page, "summary") == ["plain", "plain", "The numbers of figure 1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_is_escaped(text):
    page, plain = Page(example_report(text).html()), Page(example_report("x" * len(text)).html())
    assert page.skeleton == plain.skeleton
    for tag, count in {"h1": 1, "title": 1, "h2": 2, "dt": 1, "dd": 1, "li": 4, "summary": 3}.items():
        assert texts(page, tag).count(text) == (count if tag != "summary" else 2)
    assert page.one("img")["alt"] == text
    assert texts(page, "th", scope="row") == [text] * 4
    assert texts(page, "th", scope="col") == [text, "r2"] * 2
    code, settings = texts(page, "code")
    assert code == text
    assert json.loads(settings) == {text: [text, 1, 0.5, [0, 1]]}
    assert all(caption.split("\n")[0].endswith(text) for caption in texts(page, "figcaption"))


NOT_UNICODE = os.fsdecode(b"layer-\xff.pt")


def test_file_names_that_are_not_unicode_do_not_stop_the_report(tmp_path):
    path = example_report(NOT_UNICODE).save(tmp_path / "report.html")
    assert "layer-" in path.read_text(encoding="utf-8")


@pytest.fixture
def arrow(monkeypatch):
    """Let pandas' own text refuse what Arrow's refuses."""
    made = StringArray._from_sequence

    def checked(cls, scalars, **given):
        for scalar in scalars:
            if isinstance(scalar, str):
                scalar.encode()
        return made(scalars, **given)

    monkeypatch.setattr(StringArray, "_from_sequence", classmethod(checked))
    if int(pd.__version__.partition(".")[0]) >= 3:
        with pytest.raises(UnicodeEncodeError):
            pd.Series([NOT_UNICODE])


def test_nor_do_they_where_pandas_has_arrow(arrow):
    names = pd.Series([NOT_UNICODE, "-1"], dtype=object)
    frame = pd.DataFrame({0: names, 1: names, 2: [0.25, 0.5]})
    frame.columns = pd.Index([NOT_UNICODE, "file", "r2"], dtype=object)
    frame = frame.set_index(NOT_UNICODE)
    frame.index.name = NOT_UNICODE
    table = lay_out_table(frame)
    assert [column.name for column in table.columns] == [NOT_UNICODE, "file", "r2"]
    assert [cell.text for cell in table.columns[0].cells] == [NOT_UNICODE, "-1"]
    escaped = NOT_UNICODE.encode("utf-8", "backslashreplace").decode()
    assert table.csv == data_uri(
        "text/csv;charset=utf-8", f"{escaped},file,r2\n{escaped},{escaped},0.25\n'-1,'-1,0.5\n".encode()
    )


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ArgumentError, match=r"of type object has no form in JSON; convert it to text"):
        Report("R").add_section("S").add_json("Settings", {"model": object()})


def test_same_content_gives_the_same_bytes_in_another_process_which_never_loads_torch(tmp_path):
    code = (
        "import sys; from tests.reports.page.test_document import example_report; example_report().save(sys.argv[1]); "
        "assert 'torch' not in sys.modules"
    )
    path = tmp_path / "report.html"
    subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
    )
    assert path.read_bytes() == example_report().html().encode() == example_report().html().encode()


# ---- Tables


def test_csv_holds_the_frame_in_full_precision():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "layer": ["a,b", 'say "x"', "zwei\nZeilen", "ω²"],
            "r2": [*rng.normal(size=2), np.nan, 1e-300],
            "n": [1, 2, 3, 2**60],
            "dead": [True, False, True, False],
            "single": rng.normal(size=4).astype(np.float32),
        }
    )
    read = pd.read_csv(io.StringIO(csv_of(table_page(frame))))
    pd.testing.assert_frame_equal(read.astype({"single": np.float32}), frame, check_exact=True)


def test_texts_that_a_spreadsheet_would_run_are_quoted_in_the_csv_only():
    texts_run = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"]
    frame = pd.DataFrame({"=name": texts_run, "r2": [-1.0, -2.0, 3.0, np.inf, -np.inf]})
    page = table_page(frame)
    read = pd.read_csv(io.StringIO(csv_of(page)))
    assert list(read) == ["'=name", "r2"]
    assert list(read["'=name"]) == [f"'{text}" for text in texts_run]
    assert list(read["r2"]) == list(frame["r2"])
    assert texts(page, "th", scope="row") == texts_run


@pytest.mark.parametrize(
    ("value", "options", "shown", "sorted_by"),
    [
        (0.12345, {}, "0.123", "0.12345"),
        (0.12345, {"digits": 1}, "0.1", "0.12345"),
        (-0.0001, {}, "0.000", "-0.0001"),
        (-1.5, {}, "−1.500", "-1.5"),
        (2048, {}, "2,048", "2048"),
        (np.float32(0.5), {}, "0.500", "0.5"),
        (1e-5, {"formats": {"x": ".1e"}}, "1.0e−05", "1e-05"),
        (np.inf, {}, "∞", "Infinity"),
        (-np.inf, {}, "−∞", "-Infinity"),
    ],
)
def test_numbers_are_shown_to_be_read_and_sorted_as_they_are(value, options, shown, sorted_by):
    cell = table_page(pd.DataFrame({"x": [value]}), **options).one("td")
    assert (cell["text"], cell["data-value"], cell["class"]) == (shown, sorted_by, "number")


def test_numbers_among_texts_are_sorted_as_numbers():
    page = table_page(pd.DataFrame({"layer": ["a", "b"], "x": pd.Series([np.float64(0.5), "none"], dtype=object)}))
    number, text = page.all("td")
    assert (number["text"], number["data-value"], text["text"]) == ("0.500", "0.5", "none")


def test_what_is_not_defined_is_said_to_be():
    page = table_page(pd.DataFrame({"r2": [np.nan, 0.5], "note": [None, "x"], "time": [pd.NaT, pd.Timestamp(0)]}))
    assert texts(page, "td") == ["–not defined"] * 3 + ["0.500", "x", "1970-01-01 00:00:00"]
    assert ["data-missing" in cell for cell in page.all("td")] == [True] * 3 + [False] * 3


def test_truth_values_are_words_and_texts_are_left_aligned_row_headers():
    page = table_page(pd.DataFrame({"layer": ["conv1"], "dead": [True]}))
    assert texts(page, "th", scope="row") == ["conv1"]
    assert texts(page, "td") == ["yes"]
    assert not page.all("th", **{"class": "number"})


def test_a_named_index_becomes_columns():
    index = pd.MultiIndex.from_tuples([("conv1", 0), ("conv1", 1)], names=["layer", "channel"])
    page = table_page(pd.DataFrame({"r2": [0.1, 0.2]}, index=index))
    assert texts(page, "th", scope="col") == ["layer", "channel", "r2"]
    assert csv_of(page).splitlines()[0] == "layer,channel,r2"


def test_long_tables_are_cut_and_the_page_says_so():
    frame = pd.DataFrame({"x": range(2048)})
    page = table_page(frame)
    assert texts(page, "td") == [f"{number:,}" for number in range(200)]
    assert "Showing 200 of 2,048 rows; the CSV holds all." in page.one("main")["text"]
    assert len(csv_of(page).splitlines()) == 2049
    assert "Showing" not in table_page(frame, max_rows=2048).one("main")["text"]


@pytest.mark.parametrize("frame", [pd.DataFrame({"x": []}), pd.DataFrame()])
def test_empty_tables_are_allowed(frame):
    page = table_page(frame)
    assert texts(page, "th") == [str(name) for name in frame.columns]
    assert not page.all("td")


def test_long_names_may_break_at_their_dots_only():
    page = table_page(pd.DataFrame({"layer": ["features.denseblock4.denselayer16.conv2"], "r2": [0.5]}))
    assert page.one("th", scope="row")["text"] == "features.denseblock4.denselayer16.conv2"
    assert len(page.all("wbr")) == 3


def test_table_arguments_are_checked():
    section = Report("R").add_section("S")
    frame = pd.DataFrame({"r2": [0.5]})
    with pytest.raises(ArgumentError, match=r"formats names the columns \['R2'\]; the table has \['r2'\]"):
        section.add_table(frame, caption="c", name="n", formats={"R2": ".1f"})
    with pytest.raises(ArgumentError, match=r"formats\['r2'\] is 'd', which does not fit the column"):
        section.add_table(frame, caption="c", name="n", formats={"r2": "d"})
    with pytest.raises(ArgumentError, match=r"frame is a dict; a pandas DataFrame was expected"):
        section.add_table({"r2": [0.5]}, caption="c", name="n")
    assert not section.blocks


# ---- Figures


def image_of(figure, **options):
    report = Report("R")
    report.add_section("S").add_figure(figure, caption="Scores", alt="R² rises to 0.5.", **options)
    return Page(report.html()).one("img")


def test_few_shapes_become_svg_of_the_figure_s_size():
    image = image_of(line_figure())
    assert image["src"].startswith("data:image/svg+xml;base64,")
    root = ElementTree.fromstring(content_of(image["src"]))
    points = float(root.get("width").removesuffix("pt")), float(root.get("height").removesuffix("pt"))
    assert [int(image["width"]), int(image["height"])] == pytest.approx([96 / 72 * length for length in points], abs=1)
    # Cut to what is drawn: about 4 × 3 inches.
    assert int(image["width"]) == pytest.approx(4 * 96, rel=0.1)
    assert image["alt"] == "R² rises to 0.5."


@pytest.mark.parametrize("options", [{"image_format": "png"}, {"n_points": 1500}])
def test_many_shapes_become_png_of_double_density(options):
    image = image_of(line_figure(options.pop("n_points", 5)), **options)
    assert image["src"].startswith("data:image/png;base64,")
    picture = Image.open(io.BytesIO(content_of(image["src"])))
    assert picture.width == pytest.approx(2 * int(image["width"]), abs=2)
    assert picture.height == pytest.approx(2 * int(image["height"]), abs=2)


def test_svg_can_be_asked_for():
    assert image_of(line_figure(1500), image_format="svg")["src"].startswith("data:image/svg+xml")


def test_figures_and_settings_stay_as_they_were():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(3, 2), dpi=70)
    axes.plot([0, 1])
    settings, shown = dict(matplotlib.rcParams), pyplot.get_fignums()
    image_of(figure)
    image_of(figure, image_format="png")
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == shown
    assert (*figure.get_size_inches(), figure.dpi) == (3, 2, 70)
    pyplot.close(figure)


def test_figure_arguments_are_checked():
    section = Report("R").add_section("S")
    with pytest.raises(ArgumentError, match=r"alt is empty for the figure 'Scores'; say in a sentence"):
        section.add_figure(line_figure(), caption="Scores", alt=" ")
    with pytest.raises(ArgumentError, match=r"figure is a Axes; .*pass axes.figure"):
        section.add_figure(line_figure().axes[0], caption="Scores", alt="Scores rise.")
    with pytest.raises(ArgumentError, match=r'image_format is \'pdf\'; "auto", "svg" or "png"'):
        section.add_figure(line_figure(), caption="Scores", alt="Scores rise.", image_format="pdf")
    assert not section.blocks


def test_figures_and_tables_are_numbered_in_the_page_s_order():
    report = Report("R")
    first, second = report.add_section("First"), report.add_section("Second")
    second.add_figure(line_figure(), caption="Later", alt="Later.", table=pd.DataFrame({"x": [1]}))
    first.add_figure(line_figure(), caption="Earlier", alt="Earlier.")
    page = Page(report.html())
    assert texts(page, "b") == ["Figure 1", "Figure 2"]
    assert texts(page, "summary") == ["The numbers of figure 2"]
    assert [link["download"] for link in page.all("a") if "download" in link] == ["figure-2.csv"]


# ---- Saving


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_save_writes_the_page_and_returns_the_path(tmp_path):
    report = example_report()
    path = report.save(str(tmp_path / "Bericht über ω².html"))
    assert files_in(tmp_path) == {"Bericht über ω².html": report.html().encode()}
    assert path == tmp_path / "Bericht über ω².html"
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_save_replaces_a_file_only_when_asked(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ResultFileError, match=r"report\.html: exists already\. Pass overwrite=True"):
        example_report().save(path)
    assert files_in(tmp_path) == {"report.html": b"old"}
    example_report().save(path, overwrite=True)
    assert files_in(tmp_path) == {"report.html": example_report().html().encode()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "is a folder; name a file in it"),
        ("missing/report.html", "cannot be written: No such file or directory"),
        ("file/report.html", "cannot be written: Not a directory"),
    ],
)
def test_save_names_the_path_it_cannot_write(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(ResultFileError, match=f"{re.escape(str(tmp_path / name))}: {reason}"):
        example_report().save(tmp_path / name, overwrite=True)
    assert files_in(tmp_path) == {"file": b"old"}


def test_save_refuses_the_current_folder():
    with pytest.raises(ResultFileError, match=r"^\.: is a folder"):
        example_report().save("")


def test_on_a_full_disk_the_old_file_stays(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ResultFileError, match=r"report\.html: cannot be written: File too large"):
            example_report().save(path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == {"report.html": b"old"}


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(5, "Input/output error"), ResultFileError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_an_interrupted_save_leaves_nothing_behind(tmp_path, monkeypatch, failure, raised):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(self, target):
        raise failure

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(raised):
        example_report().save(path, overwrite=True)
    assert files_in(tmp_path) == {"report.html": b"old"}


def test_large_pages_are_warned_of(tmp_path):
    report = Report("Large")
    report.add_section("Log").add_code("Log", "x" * 11_000_000)
    with pytest.warns(ProbeWarning, match=r"report\.html takes 11\.0 MB, more than 10 MB"):
        report.save(tmp_path / "report.html")


def test_a_page_of_twenty_figures_and_tables_stays_below_three_megabytes():
    report = Report("Typical")
    rng = np.random.default_rng(0)
    section = report.add_section("Layers")
    for _ in range(20):
        figure = Figure(figsize=(8, 3))
        figure.subplots().imshow(rng.normal(size=(14, 56)))
        section.add_figure(figure, caption="A map.", alt="A map.")
        section.add_table(pd.DataFrame(rng.normal(size=(140, 6)), columns=[*"abcdef"]), caption="Scores", name="s")
    assert len(report.html()) < 3_000_000


def test_in_a_notebook_the_page_shows_itself_in_a_sandbox():
    report = example_report(HOSTILE[1])
    frame = Page(report._repr_html_()).one("iframe")
    assert frame["srcdoc"] == report.html()
    assert frame["sandbox"] == "allow-scripts allow-downloads"
    assert frame["title"] == HOSTILE[1]


def test_the_first_mention_of_a_term_in_each_text_leads_to_its_meaning():
    report = Report("Terms")
    section = report.add_section("Findings")
    section.add_list(["On rolled images, rolled means rolled.", "layer.rolled and unrolled are no mentions."])
    report.add_section("Meanings").add_definitions([("rolled", "Shifted."), ("±", "Error.")], linked=True)
    page = report.html()
    assert page.count('<a class="term" href="#term_rolled">rolled</a>') == 1
    assert '<div id="term_rolled">' in page and 'href="#term_">' not in page


def test_terms_with_hostile_names_stay_text():
    report = Report("Terms")
    report.add_section("Findings").add_paragraph("<b>x</b> & more")
    report.add_section("Meanings").add_definitions([("<b>x</b>", "y")], linked=True)
    assert "<b>x</b>" not in report.html()


def test_an_estimate_is_one_column_of_the_page_and_two_of_the_csv():
    frame = pd.DataFrame({"r2": [Estimate(0.5, 0.025, 3), Estimate(np.nan, np.nan, 0)]})
    report = Report("Table")
    report.add_section("Numbers").add_table(frame, caption="c", name="n")
    page = report.html()
    assert "0.500\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.025" in page and 'data-value="0.5"' in page
    csv = base64.b64decode(re.search(r"data:text/csv;charset=utf-8;base64,([\w+/=]+)", page)[1]).decode()
    assert csv == "r2,r2 ± 95 %\n0.5,0.025\n,\n"


@pytest.mark.parametrize(("inches", "is_wide"), [(2.5, False), (6, True)])
def test_figures_wider_than_a_phone_say_that_they_scroll(inches, is_wide):
    report = Report("Figure")
    figure = Figure(figsize=(inches, 2))
    figure.subplots()
    report.add_section("A").add_figure(figure, caption="c", alt="a")
    assert ("scroll it sideways" in report.html()) == is_wide
