"""Figures of erasing show the numbers of the result."""

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS
from probe.plots.erasing import _number, _told_apart
from tests.erasing.made import ERASING


@pytest.fixture(scope="module")
def made():
    return {kind: make() for kind, make in ERASING.items()}


def bars(ax):
    return {container.get_label(): container for container in ax.containers}


def test_a_curve_has_the_score_over_what_is_left(made):
    curve = made["erasure_curve"]
    panels = probe.plot_erasure(curve, Figure().subplots(1, 2))
    for panel, fitted in zip(panels, ["rolled", "natural"], strict=True):
        chosen = np.flatnonzero((curve.fitted_to == fitted) & (curve.method == "leace"))
        one = curve.sel(stimulus="rolled").isel(eraser=chosen, score=0)
        points = bars(panel)["LEACE"].lines[0]
        np.testing.assert_allclose(points.get_xdata(), one.r2.sel(target=["row", "column"]).mean("target"))
        np.testing.assert_allclose(points.get_ydata(), one.erased)
        half = scipy.stats.t.ppf(0.975, 4) * one.erased_se.values
        (bar,) = bars(panel)["LEACE"].lines[2][0].get_segments()
        np.testing.assert_allclose(bar[:, 1], one.erased.values + half * np.array([-1, 1]))
        assert panel.get_title() == f"fitted to {fitted} images"
        assert panel.texts[0].get_text() == "2"


def test_a_proof_has_the_rank_and_the_band_of_random_directions(made):
    proof = made["erasure_proof"]
    (panel,) = probe.plot_erasure(proof, Figure().subplots(), target="cells", stimulus="natural")
    at = proof.sel(stimulus="natural", target="cells")
    np.testing.assert_allclose(bars(panel)["LEACE"].lines[0].get_ydata(), at.r2.values[at.method == "leace"])
    before = [line for line in panel.lines if line.get_label() == "nothing erased"]
    np.testing.assert_allclose(before[0].get_ydata(), at.r2_before)
    assert panel.get_ylabel() == "R² of every position, natural"


def test_a_matrix_has_a_number_in_each_cell_that_is_read(made):
    matrix = made["erasure_matrix"]
    (panel,) = probe.plot_erasure(matrix, Figure().subplots())
    values = matrix.r2.mean("target").values
    np.testing.assert_allclose(panel.images[0].get_array(), np.clip(values, 0, None))
    assert len(panel.texts) == np.isfinite(values).sum() == 5
    assert [label.get_text() for label in panel.get_yticklabels()] == ["nothing", "relu1", "relu2"]


def test_readers_stand_side_by_side(made):
    found = made["stronger_readouts"]
    panels = probe.plot_erasure(found, Figure().subplots(1, 2), target="row")
    assert [panel.get_title() for panel in panels] == ["read on natural images", "read on rolled images"]
    heights = [bar.get_height() for bar in bars(panels[1])["LEACE, rank 2"]]
    np.testing.assert_allclose(heights, found.r2.sel(stimulus="rolled", target="row", eraser=1))


@pytest.mark.parametrize("kind", ERASING)
def test_they_are_readable_at_the_widths_of_a_page(kind, made, width, assert_readable):
    panels = probe.plot_erasure(made[kind], width=width)
    assert panels[0].figure.get_figwidth() == width
    assert_readable(panels[0].figure)


@pytest.mark.parametrize("kind", ERASING)
def test_blue_and_orange_mean_nothing_else(kind, made):
    panels = probe.plot_erasure(made[kind])
    colours = {to_hex(line.get_color()) for panel in panels for line in panel.lines}
    colours |= {to_hex(patch.get_facecolor()) for panel in panels for patch in panel.patches}
    assert not colours & {STIMULUS_COLOURS["natural"], STIMULUS_COLOURS["rolled"]}


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("erasure_proof", {"score": "agreement"}, "only a result of probe.erasure_curve has scores"),
        ("erasure_curve", {"score": "accuracy"}, "score='accuracy': the result has agreement"),
        ("erasure_matrix", {"stimulus": "natural"}, "has one alone"),
        ("erasure_curve", {"target": "top"}, "target='top': the result has row, column, radius"),
        ("erasure_curve", {"axes": Figure().subplots()}, "1 were given for 2 stimuli"),
    ],
)
def test_what_the_result_has_not(kind, given, message, made):
    with pytest.raises(ArgumentError, match=message):
        probe.plot_erasure(made[kind], **given)


def test_numbers_on_axes_and_beside_points_can_be_told_apart():
    """As many channels as cost as much are often about as many as the ranks."""
    places = _told_apart([2, 8], [1, 2, 6, 7, 8, 9, 12, 13, 31, 36])
    assert {2, 8, 36} <= set(places) and not {6, 7, 9, 31} & set(places)
    assert np.diff(np.log2(places)).min() >= 0.09 * np.log2(36)
    assert _told_apart([4], [4]) == [4]
    ax = Figure().subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _number(ax, [(0.1, 0.1, 2, "k"), (0.12, 0.11, 8, "k"), (0.12, 0.9, 9, "k"), (np.nan, 0.5, 7, "k")])
    assert [text.get_text() for text in ax.texts] == ["2", "9"]
