import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from playwright.sync_api import expect

from probe.reports.page.document import Report

pytestmark = pytest.mark.browser

PADDINGS = ("zeros", "replicate", "reflect", "circular", "partial", "valid", "full")
LAYERS = [
    f"backbone.features.denseblock{block}.denselayer{layer}.conv{convolution}"
    for block in (1, 2, 3, 4)
    for layer in (1, 4, 8, 12, 16)
    for convolution in (1, 2)
]
HOSTILE = """"></style></title></script><img src=x onerror="alert(1)"><script>alert(2)</script>{{7*7}}"""


def scores():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "layer": LAYERS,
            "padding": [PADDINGS[number % len(PADDINGS)] for number in range(len(LAYERS))],
            "r2": rng.uniform(-0.02, 0.6, len(LAYERS)),
            "r2_se": rng.uniform(0, 0.04, len(LAYERS)),
            "r2_null": rng.normal(0, 1e-4, len(LAYERS)),
            "bits": rng.uniform(0, 1, len(LAYERS)),
            "n_channels": rng.integers(16, 2048, len(LAYERS)),
            "samples_per_feature": rng.uniform(1, 400, len(LAYERS)),
        }
    )
    frame.loc[[3, 9], "r2"] = np.nan
    frame.loc[[5, 6], "bits"] = [np.inf, -np.inf]
    return frame


def line_figure():
    rng = np.random.default_rng(1)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    depth = np.arange(40)
    for axes, stimulus in zip(figure.subplots(1, 2, sharey=True), ("natural", "rolled"), strict=True):
        for number, padding in enumerate(PADDINGS):
            r2 = 0.6 * (1 - np.exp(-depth / (5 + 3 * number))) + rng.normal(0, 0.01, 40)
            axes.plot(depth, r2, label=padding)
        axes.set(title=stimulus, xlabel="depth of the layer")
    axes.figure.axes[0].set_ylabel("R² of row and column")
    axes.legend(title="padding", fontsize=8)
    return figure


def map_figure():
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ramp = np.linspace(-1, 1, 14)[:, None] * np.ones(14)
    for axes, (number, padding) in zip(figure.subplots(2, 4).flat, enumerate(PADDINGS), strict=False):
        image = axes.imshow(ramp / (1 + number), vmin=-1, vmax=1, cmap="cividis")
        axes.set_title(padding, fontsize=9)
        axes.set(xticks=[], yticks=[])
    figure.axes[-1].set_axis_off()
    figure.colorbar(image, ax=figure.axes, label="decoded row")
    return figure


def mesh_figure():
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(np.random.default_rng(2).normal(size=(40, 40)), cmap="cividis")
    axes.set(xlabel="column", ylabel="row")
    figure.colorbar(mesh, label="mean activation (standard deviations)")
    return figure


def sample_report():
    frame = scores()
    report = Report(
        "Which padding tells a network where it is?",
        summary="Seven paddings, three training seeds each, on digits placed on a canvas. Position is read from "
        "every layer by a linear readout, on natural images and on the same images rolled by a random offset.",
    )
    findings = report.add_section("Findings")
    findings.add_list(
        [
            "With zero padding position can be read from the second layer on: R² 0.52 ± 0.04 on rolled images.",
            "With circular padding nothing is left once the images are rolled: R² 0.00 ± 0.01. On natural images "
            "the same networks reach 0.52, which is the part of the content.",
            "Reflect and replicate padding, 0.12 ± 0.03 and 0.15 ± 0.02, cannot be told apart with three seeds.",
        ]
    )
    findings.add_note("The weights were trained with zero padding; here they run under another.")
    depth = report.add_section("Position by depth")
    depth.add_paragraph("Each point is one layer. Both panels have the same scale.")
    depth.add_figure(
        line_figure(),
        caption="R² of a linear readout of position, by depth and padding; natural images left, rolled right.",
        alt="On natural images every padding rises to about 0.6; on rolled images circular stays at 0.",
        table=frame[["layer", "padding", "r2", "r2_se"]],
    )
    maps = report.add_section("What the readout sees")
    maps.add_figure(map_figure(), caption="Decoded row, by padding.", alt="Seven ramps; zeros is the steepest.")
    maps.add_figure(
        mesh_figure(),
        caption="Mean activation of channel 17 of backbone.features.denseblock4.denselayer16.conv2.",
        alt="Noise without structure.",
    )
    numbers = report.add_section("All numbers")
    numbers.add_table(
        frame,
        caption="Scores of every layer. Errors are a delete-one-fold jackknife.",
        name="scores",
        formats={"samples_per_feature": ".0f", "r2_null": ".1e"},
    )
    numbers.add_table(frame.groupby("padding")[["r2"]].mean(), caption="Means.", name="means")
    numbers.add_table(pd.DataFrame({"position": range(2048)}), caption="A table that is cut.", name="positions")
    report.add_section("What each number means").add_definitions(
        [
            ("r2", "1 − SSE/SST over all held-out samples. 1: position can be read exactly; 0: not at all."),
            ("r2_se", "Delete-one-fold jackknife standard error, without refitting."),
            ("samples_per_feature", "Samples for each channel; below 20 there is a warning."),
        ]
    )
    report.add_section("Methods").add_paragraph("Ridge regression on standardised features. " * 12)
    provenance = report.add_section("Provenance and how to repeat it")
    provenance.add_definitions([("images digest", "sha256:" + "0f2b1c9a77d04" * 5)])
    provenance.add_json("Settings", {"folds": 5, "layers": LAYERS[:6], "weights": "resnet18-" * 20})
    provenance.add_code("How to repeat it", "probe report padding --overwrite\n")
    return report


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return sample_report().save(tmp_path_factory.mktemp("report") / "sample.html")


def test_the_page_passes_every_check(check_page, path):
    check_page(path, "sample")


def test_texts_sort_by_the_numbers_in_them(open_page, tmp_path):
    report = Report("Layers")
    frame = pd.DataFrame({"layer": ["layer10.conv1", "layer2.conv1", None, "layer1.conv1"], "r2": [1.0, 2.0, 3.0, 4.0]})
    report.add_section("Layers").add_table(frame, caption="Layers", name="layers")
    page = open_page(report.save(tmp_path / "layers.html")).page
    page.get_by_role("button", name="layer").click()
    cells = page.locator("tbody tr > :first-child").all_inner_texts()
    assert [cell.split("\n")[0] for cell in cells[:3]] == ["layer1.conv1", "layer2.conv1", "layer10.conv1"]
    assert cells[3].startswith("–")


def test_the_reader_can_skip_the_contents(open_page, path):
    page = open_page(path).page
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_contents_and_table_headers_stay_in_view(open_page, path):
    for width in (360, 1440):
        page = open_page(path, width=width).page
        page.locator("#methods").scroll_into_view_if_needed()
        expect(page.get_by_role("navigation").locator("[aria-current]")).to_be_in_viewport(ratio=0.9)
        table = page.locator("#table_1 .scroll")
        table.scroll_into_view_if_needed()
        table.evaluate("frame => frame.scrollTo(0, frame.scrollHeight)")
        assert table.evaluate("frame => frame.scrollTop") > 100
        frame, header = table.bounding_box(), table.locator("thead th").first.bounding_box()
        assert abs(frame["y"] - header["y"]) < 3


def test_figures_stay_on_white_in_the_dark(open_page, path):
    page = open_page(path, scheme="dark").page
    colour = page.locator(".plate").first.evaluate("plate => getComputedStyle(plate).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in body.strip("rgb()").split(",")) < 60


def test_every_image_is_drawn(open_page, path):
    page = open_page(path).page
    images = page.locator("img")
    images.evaluate_all("images => Promise.all(images.map((image) => image.decode()))")
    sizes = images.evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert len(sizes) == 3
    assert min(sizes) > 300


@pytest.mark.parametrize("scripts", [True, False])
def test_hostile_texts_stay_inert(open_page, tmp_path, scripts):
    report = Report(HOSTILE, summary=HOSTILE)
    section = report.add_section(HOSTILE)
    section.add_list([HOSTILE])
    section.add_json(HOSTILE, {HOSTILE: HOSTILE})
    section.add_definitions([(HOSTILE, HOSTILE)])
    frame = pd.DataFrame({HOSTILE: [HOSTILE]})
    section.add_table(frame, caption=HOSTILE, name=HOSTILE)
    section.add_figure(line_figure(), caption=HOSTILE, alt=HOSTILE, table=frame)
    file = report.save(tmp_path / "hostile.html")
    visit = open_page(file, java_script_enabled=scripts)
    expect(visit.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert visit.page.locator("script").count() == 1
    assert (visit.errors, visit.requests) == ([], [file.as_uri()])


def test_in_a_notebook_links_zoom_and_downloads_work_within_the_frame(open_page, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><title>Notebook</title>{sample_report()._repr_html_()}", encoding="utf-8")
    visit = open_page(notebook)
    frame = visit.page.frame_locator("iframe")
    frame.get_by_role("link", name="Methods").click()
    expect(frame.get_by_role("heading", name="Methods")).to_be_in_viewport()
    frame.get_by_role("button", name="Enlarge figure 1").click()
    expect(frame.get_by_role("dialog")).to_be_visible()
    frame.get_by_role("button", name="Close").click()
    with visit.page.expect_download() as download:
        frame.locator("#table_1").get_by_role("link").click()
    assert len(pd.read_csv(download.value.path())) == len(LAYERS)
    assert visit.errors == []
    assert visit.requests == [notebook.as_uri()]
