import pytest
import torch
from torch.utils.data import TensorDataset

from probe.analyses.channels.study import run
from probe.analyses.nets import small_net
from probe.errors import ProbeWarning
from probe.reports.channels.page import build, findings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result():
    """Of a network that has learned nothing, which is warned of."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(80, 1, 32, 32, generator=generator)
    scored = TensorDataset(images[40:], torch.randint(10, (40,), generator=generator))
    options = {"layer": "relu2", "methods": ["flip", "omega2"], "counts": [4, 12], "draws": 4, "progress": False}
    with pytest.warns(ProbeWarning, match="no better than chance"):
        return run(small_net(), images[:40], scored, score=["accuracy", "agreement"], **options)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return build(result).save(tmp_path_factory.mktemp("report") / "channels.html")


def test_the_page_passes_every_check(check_page, path):
    check_page(path, "channels")


def test_the_findings_come_first_and_every_figure_is_drawn(check_findings_and_figures, path, result):
    check_findings_and_figures(path, findings(result), n_figures=6)
