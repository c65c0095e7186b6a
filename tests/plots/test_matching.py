import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS


def neighbours_result(names):
    rng = np.random.default_rng(0)
    shape = (len(names), 2)
    share, half = rng.uniform(0.1, 0.9, shape), rng.uniform(0.01, 0.1, shape)
    dims = ("layer", "stimulus")
    return xr.Dataset(
        {
            "same_place": (dims, share),
            "same_place_low": (dims, share - half),
            "same_place_high": (dims, share + half / 2),
            "chance": ("layer", rng.uniform(0.01, 0.1, len(names))),
        },
        coords={"layer": names, "stimulus": ["natural", "rolled"]},
    )


@pytest.mark.parametrize("names", [["conv1"], ["conv1", "conv2", "conv3"]], ids=len)
def test_each_stimulus_stands_with_its_interval_beside_chance(names, legend_of):
    result = neighbours_result(names)
    ax = Figure().subplots()
    assert probe.plot_neighbours(result, ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chance", "natural", "rolled"]
    chance, *bars = ax.collections
    assert [path[0, 1] for path in chance.get_segments()] == result.chance.values.tolist()
    for name, (points, _, (drawn,)) in zip(("natural", "rolled"), ax.containers, strict=True):
        chosen = result.sel(stimulus=name)
        np.testing.assert_array_equal(points.get_ydata(), chosen.same_place)
        assert to_hex(points.get_color()) == STIMULUS_COLOURS[name]
        ends = np.array([segment[:, 1] for segment in drawn.get_segments()])
        np.testing.assert_allclose(ends, np.stack([chosen.same_place_low, chosen.same_place_high], axis=1))
    assert len(bars) == 2


def test_one_stimulus_can_be_drawn_alone():
    ax = probe.plot_neighbours(neighbours_result(["a", "b"]).sel(stimulus="rolled"), Figure().subplots())
    assert ax.get_legend_handles_labels()[1] == ["chance", "rolled"]


def test_neighbours_are_readable_at_the_widths_of_a_page(names, width, assert_readable):
    ax = probe.plot_neighbours(neighbours_result(names), width=width)
    assert ax.figure.get_figwidth() == width
    assert_readable(ax.figure)


def test_a_width_and_axes_are_refused_together():
    with pytest.raises(ArgumentError, match=r"width=3\.4"):
        probe.plot_neighbours(neighbours_result(["a"]), Figure().subplots(), width=3.4)
