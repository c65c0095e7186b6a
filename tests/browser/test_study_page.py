import pytest
from playwright.sync_api import expect

from analyses.rook import run
from reports.studies import build, findings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result():
    return run(preset="tiny", paddings=["zeros", "circular"], progress=False)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return build(result).save(tmp_path_factory.mktemp("study") / "rook.html")


def test_the_page_passes_every_check(check_page, path):
    check_page(path, "study")


def test_the_findings_come_first(open_page, path, result):
    page = open_page(path).page
    expect(page.locator("main > section").first.get_by_role("listitem")).to_have_text(findings(result))


def test_every_figure_is_drawn(open_page, path):
    images = open_page(path).page.locator("main img")
    images.evaluate_all("images => Promise.all(images.map((image) => image.decode()))")
    sizes = images.evaluate_all("images => images.map((image) => [image.naturalWidth, image.naturalHeight])")
    assert len(sizes) == 3
    assert all(width > 200 and height > 100 for width, height in sizes)
