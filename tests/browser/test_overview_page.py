import pytest

from probe.analyses.overview.comparison import compare
from probe.reports.overview import comparison, page

pytestmark = pytest.mark.browser

PAGES = {
    "overview": (page, lambda result: result),
    "comparison": (comparison, lambda result: compare({"zero padding": result, "the same": result})),
}


@pytest.fixture(scope="module", params=sorted(PAGES))
def made(request, overview, tmp_path_factory):
    """Name, path and findings of a page."""
    pages, change = PAGES[request.param]
    result = change(overview)
    path = pages.build(result).save(tmp_path_factory.mktemp("report") / f"{request.param}.html")
    return request.param, path, pages.findings(result)


def test_the_page_passes_every_check(check_page, made):
    name, path, _ = made
    check_page(path, name)


def test_the_findings_come_first_and_every_figure_is_drawn(check_findings_and_figures, made):
    name, path, findings = made
    check_findings_and_figures(path, findings, n_figures={"overview": 15, "comparison": 3}[name], least_width=200)
