import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import probe
from probe.intervals import half_width


def border_result(names, stimuli=("natural", "rolled"), window=3.0):
    rng = np.random.default_rng(0)
    shape = (len(names), len(stimuli), 4)
    dims = ("layer", "stimulus", "distance")
    return xr.Dataset(
        {
            "change": (dims, rng.uniform(0, 0.9, shape)),
            "change_se": (dims, rng.uniform(0.001, 0.01, shape)),
            "window_reach": (("layer", "side"), np.full((len(names), 4), window)),
        },
        coords={
            "layer": names, "stimulus": list(stimuli), "distance": np.arange(4), "axis": ["row", "column"],
            "cell": (("layer", "axis"), np.full((len(names), 2), 2.0)),
        },
        attrs={"kind": "border_profile", "threshold": 0.01, "middle": 8.0, "folds": 5},
    )  # fmt: skip


@pytest.mark.parametrize("names", [["conv1"], ["conv1", "$conv2$", "conv3"]], ids=len)
def test_each_layer_is_a_line_in_pixels_with_its_interval_and_its_windows(names):
    result = border_result(names)
    ax = Figure().subplots()
    assert probe.plot_border(result, ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names
    lines = {line.get_label(): line for line in ax.lines if line.get_label() in names}
    for name, band in zip(names, ax.collections, strict=True):
        one = result.sel(layer=name, stimulus="rolled")
        assert lines[name].get_xdata().tolist() == [1, 3, 5, 7]
        np.testing.assert_array_equal(lines[name].get_ydata(), one.change)
        ends = band.get_paths()[0].vertices[:, 1]
        half = half_width(one.change_se.values, 4)
        assert ends.max() == pytest.approx((one.change + half).max().item())
    marks = [line for line in ax.lines if line.get_marker() == "^"]
    assert [line.get_xdata() for line in marks] == [[3.0]] * len(names)
    assert ax.get_xlim() == (0, 8) and ax.get_xlabel() == "pixels from the border, rolled images"


@pytest.mark.parametrize("window", [np.nan, 0.0])
def test_windows_that_are_not_known_or_read_nothing_have_no_mark(window):
    ax = probe.plot_border(border_result(["conv1"], window=window), Figure().subplots())
    assert not [line for line in ax.lines if line.get_marker() == "^"]


def test_a_stimulus_that_was_chosen_is_drawn():
    result = border_result(["conv1"])
    ax = probe.plot_border(result.sel(stimulus="natural"), Figure().subplots())
    assert ax.get_xlabel() == "pixels from the border, natural images"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), result.change.sel(layer="conv1", stimulus="natural"))
