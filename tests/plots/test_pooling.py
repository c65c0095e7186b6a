import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS

READOUTS = ["ordered", "permuted_by_image", "permuted_by_batch", "sum", "sorted"]


def pooled_result(names):
    rng = np.random.default_rng(0)
    shape = (len(names), len(READOUTS))
    accuracy, half = rng.uniform(0.1, 0.9, shape), rng.uniform(0.01, 0.1, shape)
    return xr.Dataset(
        {
            "accuracy": (("layer", "readout"), accuracy),
            "accuracy_low": (("layer", "readout"), accuracy - half),
            "accuracy_high": (("layer", "readout"), accuracy + half / 2),
            "chance": ((), 0.12),
        },
        coords={"layer": names, "readout": READOUTS, "fold": np.arange(5)},
    )


def test_each_readout_has_its_line_with_its_interval_beside_chance(legend_of, lines_of):
    result = pooled_result(["conv1", "conv2", "conv3"])
    ax = Figure().subplots()
    assert probe.plot_pooled(result, ax) is ax
    lines = lines_of(ax)
    words = [name.replace("_", " ") for name in READOUTS]
    assert list(lines) == ["chance", *words]
    assert set(lines["chance"].get_ydata()) == {0.12}
    for readout, word, band in zip(READOUTS, words, ax.collections, strict=True):
        chosen = result.sel(readout=readout)
        np.testing.assert_array_equal(lines[word].get_ydata(), chosen.accuracy)
        heights = band.get_paths()[0].vertices
        for depth in range(3):
            ys = heights[heights[:, 0] == depth, 1]
            expected = [chosen.accuracy_low.values[depth], chosen.accuracy_high.values[depth]]
            np.testing.assert_allclose([ys.min(), ys.max()], expected)
    looks = {(to_hex(lines[word].get_color()), lines[word].get_marker()) for word in words}
    assert len(looks) == 5
    assert not {colour for colour, _ in looks} & {STIMULUS_COLOURS["natural"], STIMULUS_COLOURS["rolled"]}
    assert legend_of(ax.figure) == ["", *words, "chance"]


def test_some_readouts_look_as_among_all(lines_of):
    result = pooled_result(["conv1", "conv2"])
    among_all, alone = (
        lines_of(probe.plot_pooled(result, Figure().subplots(), readouts=chosen))["sum"] for chosen in (None, "sum")
    )
    assert among_all.get_color() == alone.get_color()
    with pytest.raises(ArgumentError, match=r"readouts: \['product'\] are not in the result"):
        probe.plot_pooled(result, readouts=["sum", "product"])


def test_pooled_is_readable_at_the_widths_of_a_page(names, width, assert_readable):
    ax = probe.plot_pooled(pooled_result(names), width=width)
    assert ax.figure.get_figwidth() == width
    assert_readable(ax.figure)
