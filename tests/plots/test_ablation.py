import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS
from probe.testing import noise_images, padded_net


@pytest.fixture(scope="module")
def curve():
    return probe.ablation_curve(
        padded_net("zeros"), noise_images(20, 8), range(16), layer="relu2", score="agreement", counts=[2, 4, 8],
        controls=["random", "matched"], progress=False,
    )  # fmt: skip


def test_a_curve_stands_with_its_interval_beside_its_draws(curve, legend_of, lines_of):
    ax = Figure().subplots()
    assert probe.plot_ablation(curve, ax) is ax
    curve = curve.isel(score=0)
    (first,) = [c for c in ax.containers if c.get_label() == "ranked first"]
    np.testing.assert_array_equal(first.lines[0].get_ydata(), curve.top)
    half = scipy.stats.t.ppf(0.975, curve.attrs["folds"] - 1) * curve.top_minus_random_se.values
    for place, bar in enumerate(first.lines[2][0].get_segments()):
        np.testing.assert_allclose(np.sort(bar[:, 1]), curve.top.values[place] + half[place] * np.array([-1, 1]))
    np.testing.assert_array_equal(lines_of(ax)["ranked last"].get_ydata(), curve.bottom)
    assert set(lines_of(ax)["all channels"].get_ydata()) == {curve.intact.item()}
    said = ["all channels", "random, 5–95 %", "random, equally active, 5–95 %", "ranked last", "ranked first"]
    assert legend_of(ax.figure) == ["", *said]
    colours = {to_hex(line.get_color()) for line in ax.lines}
    assert not colours & {STIMULUS_COLOURS["natural"], STIMULUS_COLOURS["rolled"]}


def test_curves_are_readable_at_the_widths_of_a_page(curve, width, assert_readable):
    ax = probe.plot_ablation(curve, width=width)
    assert ax.figure.get_figwidth() == width
    assert_readable(ax.figure)


def test_what_the_curve_has_not(curve):
    with pytest.raises(ArgumentError, match="score='accuracy': the result has agreement"):
        probe.plot_ablation(curve, score="accuracy")
    with pytest.raises(ArgumentError, match=r"result: expected random, as probe\.ablation_curve returns it"):
        probe.plot_ablation(curve.drop_vars("random"))
