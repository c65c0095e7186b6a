"""Checks that every page must pass, in Debian's chromium: `check_page(path, name)` runs them all."""

import math
import os
import shutil
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

WIDTHS = {360: 740, 1440: 900}  # of a telephone and of a desk screen, with their heights; CSS pixels
SCHEMES = ("light", "dark")
PAPER_WIDTH = 718  # A4 within margins of 1 cm
COLOURS = ["color-contrast", "link-in-text-block"]
# Looking at colours takes most of the time: each scheme and each width has them once.
RULES = {
    (1440, "light"): ("colours", "structure"),
    (360, "light"): ("structure",),
    (360, "dark"): ("colours",),
}
SCREENSHOTS = Path(__file__).parent / "screenshots"  # made where SCREENSHOTS=1: they are to be looked at, not checked
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page that was opened, what it asked for and what it complained of."""

    page: Page
    requests: list = field(default_factory=list)
    errors: list = field(default_factory=list)


# Not for the whole session: while it is open, playwright keeps an event loop running in this thread.
@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium")
    if executable is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("chromium is not installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a file as a fresh visitor would: open_page(path, width=360, scheme="dark", ...) -> Visit."""
    contexts = []

    def open_page(path, *, width=1440, scheme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": WIDTHS.get(width, 1000)},
            color_scheme=scheme,
            reduced_motion="reduce",  # no smooth scrolling that a check would have to wait for
            **options,
        )
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.on(
            "console",
            lambda message: visit.errors.append(message.text) if message.type in ("error", "warning") else None,
        )
        visit.page.on("dialog", lambda dialog: refuse(dialog, visit.errors))
        visit.page.goto(path.resolve().as_uri())
        return visit

    yield open_page
    for context in contexts:
        context.close()


def show(page, path, width, scheme="light"):
    """Open the file anew on another screen: a window of its own for each takes longer than most checks."""
    page.set_viewport_size({"width": width, "height": WIDTHS.get(width, 1000)})
    page.emulate_media(color_scheme=scheme)
    page.goto(path.resolve().as_uri())


def refuse(dialog, errors):
    errors.append(f"a dialog: {dialog.message}")
    dialog.dismiss()


@pytest.fixture
def check_page(open_page):
    """Run all checks on a page with at least one figure and one table; `name` names its screenshots."""

    def check_page(path, name):
        page = open_page(path).page
        for width, scheme in product(WIDTHS, SCHEMES):
            show(page, path, width, scheme)
            check_extent(page)
            if os.environ.get("SCREENSHOTS"):
                take_screenshot(page, f"{name}-{width}-{scheme}")
            for rules in RULES.get((width, scheme), ()):
                check_accessibility(page, rules)
        visit = open_page(path)
        check_contents(visit.page)
        check_sorting(visit.page)
        check_zoom(visit.page)
        check_theme_button(visit.page)
        assert visit.errors == []
        assert visit.requests == [path.resolve().as_uri()]
        page = open_page(path, java_script_enabled=False).page
        for width in WIDTHS:
            show(page, path, width)
            check_without_scripts(page)
        show(page, path, PAPER_WIDTH)
        check_print(page)

    return check_page


def take_screenshot(page, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    # To hide the caret, playwright would add a style, which the page's policy forbids.
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, caret="initial")


def check_extent(page):
    """Nothing sticks out of the page; what is wider scrolls in a frame of its own."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    bottom = page.evaluate("document.querySelector('.page').getBoundingClientRect().bottom + scrollY")
    assert page.evaluate("document.documentElement.scrollHeight") <= max(bottom, page.viewport_size["height"]) + 1


def check_accessibility(page, rules):
    """Axe finds nothing serious, also in what is folded away."""
    page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    options = {"colours": {"runOnly": {"type": "rule", "values": COLOURS}}}.get(
        rules, {"rules": {name: {"enabled": False} for name in COLOURS}}
    )
    violations = Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []


def check_contents(page):
    """Each entry leads to its section, and one entry is marked as the current one."""
    links = page.get_by_role("navigation", name="Contents").get_by_role("link")
    assert links.count() == page.locator("main > section").count() > 0
    for link in links.all():
        link.focus()
        page.keyboard.press("Enter")
        heading = page.locator(f"{link.get_attribute('href')} h2")
        expect(heading).to_be_in_viewport()
        expect(heading).to_have_text(link.inner_text())
        expect(page.locator("nav [aria-current]")).to_have_count(1)
    links.first.click()
    expect(links.first).to_have_attribute("aria-current", "true")


def check_sorting(page):
    """Enter and the space bar on a header sort its column: up, then down, what is not defined last."""
    table = page.locator("figure.table table").first
    headers = table.locator("thead th")
    for column, header in enumerate(headers.all()):
        before = column_values(table, column)
        for key, direction in (("Enter", "ascending"), (" ", "descending")):
            header.get_by_role("button").focus()
            page.keyboard.press(key)
            expect(header).to_have_attribute("aria-sort", direction)
            expect(table.locator("[aria-sort]")).to_have_count(1)
            after = column_values(table, column)
            defined = [value for value in after if value is not None]
            assert after[len(defined) :] == [None] * (len(after) - len(defined))
            assert sorted(after, key=repr) == sorted(before, key=repr), "rows were lost"
            if all(isinstance(value, float) for value in defined):
                assert defined == sorted(defined, reverse=direction == "descending")


def column_values(table, column):
    """What a column holds: numbers where it is one of numbers, None where a value is not defined."""
    cells = table.locator(f"tbody tr > :nth-child({column + 1})").evaluate_all(
        "cells => cells.map((cell) => 'missing' in cell.dataset ? null : [cell.dataset.value, cell.textContent])"
    )
    values = [None if cell is None else cell[1] if cell[0] is None else float(cell[0]) for cell in cells]
    assert not any(isinstance(value, float) and math.isnan(value) for value in values)
    return values


@pytest.fixture
def check_findings_and_figures(open_page):
    """Check that a page begins with its findings, and that its figures are drawn."""

    def check(path, findings, n_figures, least_width=300):
        page = open_page(path).page
        expect(page.locator("main > section").first.get_by_role("listitem")).to_have_text(findings)
        images = page.locator("main img")
        images.evaluate_all("images => Promise.all(images.map((image) => image.decode()))")
        sizes = images.evaluate_all("images => images.map((image) => [image.naturalWidth, image.naturalHeight])")
        assert len(sizes) == n_figures
        assert all(width > least_width and height > 100 for width, height in sizes)

    return check


def check_zoom(page):
    """A figure is enlarged by click, Enter and space bar; Escape closes it and gives the focus back."""
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_count(0)
    figure = page.locator("figure:has(> .plate)").first
    button = figure.get_by_role("button", name="Enlarge")
    for key in ("Enter", " "):
        button.focus()
        page.keyboard.press(key)
        expect(dialog).to_be_visible()
        expect(dialog.locator("img")).to_have_attribute("alt", figure.locator("img").get_attribute("alt"))
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()
    figure.locator("img").click()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def check_theme_button(page):
    """The button turns the page dark and back, whatever the system's scheme."""
    button = page.get_by_role("button", name="Light or dark")
    colours = []
    for _ in range(3):
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        button.click()
    assert colours[0] == colours[2] != colours[1]


def check_without_scripts(page):
    """Everything can be read and downloaded, and no button is shown that would do nothing."""
    assert page.locator("main > section").count() > 0
    for section in page.locator("main > section").all():
        expect(section).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    for details in page.locator("details").all():
        details.locator("summary").first.click()
        expect(details).to_have_attribute("open", "")
    link = page.locator("figure.table [download]").first
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == link.get_attribute("download")
    header, *rows = download.value.path().read_text(encoding="utf-8").splitlines()
    assert header and rows


def check_print(page):
    """On paper everything is unfolded and nothing is cut off, also without scripts."""
    folded = page.locator("details > :not(summary)")
    visible = "elements => elements.filter((element) => element.checkVisibility()).length"
    assert folded.evaluate_all(visible) == 0 < folded.count()
    page.emulate_media(media="print")
    assert folded.evaluate_all(visible) == folded.count()
    expect(page.get_by_role("navigation")).to_have_count(0)
    cut = "elements => elements.filter((element) => getComputedStyle(element).overflow !== 'visible').length"
    assert page.locator(".scroll, .plate, pre").evaluate_all(cut) == 0
