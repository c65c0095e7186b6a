import pytest

from probe.analyses.rook import run
from probe.reports.studies import build, findings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result():
    return run(preset="tiny", paddings=["zeros", "circular"], progress=False)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return build(result).save(tmp_path_factory.mktemp("study") / "rook.html")


def test_the_page_passes_every_check(check_page, path):
    check_page(path, "study")


def test_the_findings_come_first_and_every_figure_is_drawn(check_findings_and_figures, path, result):
    check_findings_and_figures(path, findings(result), n_figures=4, least_width=200)
