import pytest

from probe.reports.padding_comparison.page import build, findings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result(tiny_comparison):
    return tiny_comparison


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return build(result).save(tmp_path_factory.mktemp("report") / "padding.html")


def test_the_page_passes_every_check(check_page, path):
    check_page(path, "padding")


def test_the_findings_come_first_and_every_figure_is_drawn(check_findings_and_figures, path, result):
    check_findings_and_figures(path, findings(result), n_figures=7)
