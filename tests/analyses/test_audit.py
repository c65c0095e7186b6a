"""The study of unread padding, its page and its figures."""

import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import probe
from probe.analyses import audit
from probe.errors import ArgumentError
from probe.reports.audit import add_figures, findings
from probe.reports.page.document import Report
from probe.testing import padded_net

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("audit")


def test_the_known_counts_are_found(result):
    assert result.case.values.tolist() == [
        "resnet18 at 224",
        "resnet18 at 225",
        "cifar_resnet20 at 32",
        "cifar_resnet20 at 33",
    ]
    assert result.published.values.tolist() == result.here.values.tolist() == [5, 0, 2, 0]
    assert result.n_downsamplings.values.tolist() == [5, 5, 2, 2]
    assert result.even_size.sel(case="resnet18 at 224").values.tolist() == [193, 225]


def test_even_networks_read_opposite_sides_alike(result):
    share = result.foveation_asymmetry.values
    assert (share[[1, 3]] < 1e-9).all() and (share[[0, 2]] > 0.01).all()
    foveation = result.foveation_1.values
    np.testing.assert_allclose(foveation, foveation[::-1, ::-1], rtol=1e-4)


def test_what_nobody_published_is_missing():
    result = audit.run(networks=["cifar_resnet8"], sizes=[20, 21], progress=False)
    assert result.published.isnull().all() and result.here.values.tolist() == [2, 0]
    assert findings(result)[0] == "Nothing is published on these networks at these sizes."


def test_the_findings_are_written_from_the_numbers(result):
    sentences = findings(result)
    assert sentences[0].startswith("All 4 published counts of uneven down-samplings are found again")
    only = "the only network that pads where it down-samples"
    assert f"At 224 × 224 pixels, {only} leaves padding unread" in sentences[3]
    assert sentences[4].startswith("At 225 × 225 pixels,")
    assert "Of the 2 uneven cases, 2 become even with a single pixel more." in sentences
    wrong = result.copy()
    wrong["here"] = result.here.copy(data=[5.0, 1.0, 2.0, 0.0])
    assert findings(wrong)[0] == "1 of 4 published counts are not found again: resnet18 at 225: 1, published 0."


def test_the_findings_do_not_copy_the_maps(result):
    """Each map has dims of its own; selecting cases of the whole result would repeat it for every case."""
    large = result.assign(foveation_0=(("row_0", "column_0"), np.ones((1000, 1000), dtype=np.float32)))
    findings(large)
    tracemalloc.start()
    findings(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < large.foveation_0.nbytes


def test_what_the_asymmetry_is_of_is_said(result):
    assert result.foveation_asymmetry.attrs["long_name"] == "antisymmetric share of foveation, channels averaged"
    response = probe.audit(padded_net("zeros", depth=1), (3, 8, 8), sizes=False).asymmetry.attrs["long_name"]
    assert response == "antisymmetric share of the response to zeros, channels pooled"
    report = Report("Audit")
    add_figures(report, result)
    assert "are no response of a trained network" in report.html()


def test_the_page_has_its_figures(result, tmp_path):
    report = Report("Audit")
    add_figures(report, probe.load(probe.save(result, tmp_path / "audit.nc")))
    assert [section.title for section in report.sections] == ["Uneven down-samplings", "Foveation"]
    assert "resnet18 at 224: 5 of 5" in report.html()


def test_faults_are_explained():
    with pytest.raises(ArgumentError, match="networks: 'resnet_18' is unknown"):
        audit.run(networks=["resnet_18"])
    for wrong in ("20", ["20"], [20.5], [0]):
        with pytest.raises(ArgumentError, match=r"sizes=.*: expected at least one number of pixels"):
            audit.run(networks=["cifar_resnet8"], sizes=wrong)
    with pytest.raises(ArgumentError, match=r"sizes=\[\]: expected at least one"):
        audit.run(sizes=[])
    with pytest.raises(ArgumentError, match="preset='huge'"):
        audit.run(preset="huge")


def test_figures_of_an_audit():
    result = probe.audit(padded_net("zeros", depth=1), (3, 9, 8))
    with pytest.raises(ArgumentError, match="no layer with a stride above 1 pads"):
        probe.plot_audit(result)
    with pytest.raises(ArgumentError, match="result: expected unread"):
        probe.plot_audit(result.drop_vars("unread"))
    with pytest.raises(ArgumentError, match="2 were given for 1 foveation maps"):
        probe.plot_foveation(result, Figure().subplots(1, 2))
    with pytest.raises(ArgumentError, match="no foveation maps"):
        probe.plot_foveation(result.drop_vars("foveation_0"))
    axes = probe.plot_foveation(result)
    assert axes[0].images[0].get_array().shape == (9, 8)
    plt.close(axes[0].figure)
