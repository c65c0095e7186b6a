import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS

STIMULI = ["natural", "rolled"]
MANY = {f"layer{place}": 40 for place in range(53)}


def axes_of_own(*shape):
    return Figure().subplots(*shape)


def of_layer(result, stimulus, layer):
    return result.omega2.sel(stimulus=stimulus).values[result.layer.values == layer]


def test_channels_are_sorted_within_their_layer(channel_result):
    result = channel_result({"conv1": 3, "conv2": 2048})
    result.omega2[1] = np.nan
    ax = axes_of_own()
    assert probe.plot_channels(result, ax) is ax
    curves = [line for line in ax.lines if len(line.get_xdata()) in (2, 2048) and line.get_linewidth() > 0.9]
    assert len(curves) == 4
    for number, curve in enumerate(curves):
        values = of_layer(result, STIMULI[number // 2], ("conv1", "conv2")[number % 2])
        np.testing.assert_array_equal(curve.get_ydata(), np.sort(values[~np.isnan(values)])[::-1])
        assert np.all(np.abs(np.asarray(curve.get_xdata()) - number % 2) < 0.5)
        assert to_hex(curve.get_color()) == STIMULUS_COLOURS[STIMULI[number // 2]]


def test_a_single_channel_is_a_point(channel_result, lines_of):
    ax = probe.plot_channels(channel_result({"conv1": 1}), axes_of_own())
    assert [line.get_marker() for line in lines_of(ax).values()] == [".", "."]


def test_many_layers_are_boxes_of_their_quantiles(channel_result, legend_of):
    result = channel_result(MANY)
    result.omega2[5] = np.nan
    ax = probe.plot_channels(result, axes_of_own())
    assert legend_of(ax.figure) == ["box: quartiles and median of channels; line: 5–95 %; point: largest", *STIMULI]
    strokes = [c for c in ax.collections if isinstance(c, LineCollection)]
    points = [c for c in ax.collections if not isinstance(c, LineCollection)]
    for number, stimulus in enumerate(STIMULI):
        whiskers, boxes = strokes[2 * number : 2 * number + 2]
        medians, largest = points[2 * number : 2 * number + 2]
        for place, layer in enumerate(MANY):
            values = of_layer(result, stimulus, layer)
            expected = np.nanquantile(values, [0.05, 0.25, 0.5, 0.75, 0.95, 1])
            (x, low), (_, high) = whiskers.get_segments()[place]
            (_, first), (_, third) = boxes.get_segments()[place]
            drawn = [low, first, medians.get_offsets()[place, 1], third, high, largest.get_offsets()[place, 1]]
            np.testing.assert_allclose(drawn, expected)
            assert abs(x - place) < 0.5
            assert (x < place) == (stimulus == "natural")
        assert to_hex(boxes.get_color()[0]) == STIMULUS_COLOURS[stimulus]


def test_layers_without_any_score_leave_a_gap(channel_result):
    result = channel_result(MANY)
    result.omega2[:40] = np.nan
    ax = probe.plot_channels(result, axes_of_own())
    assert len(ax.collections[0].get_segments()) == 52
    probe.plot_channels(result * np.nan, axes_of_own()).figure.canvas.draw()


def test_channels_are_readable_at_the_widths_of_a_page(channel_result, names, width, assert_readable):
    result = channel_result(dict.fromkeys(names, 30))
    ax = probe.plot_channels(result, width=width)
    assert ax.figure.get_figwidth() == width
    assert_readable(ax.figure)
    assert_readable(probe.plot_channels({"zeros": result, "circular": result}, width=width)[0].figure)


def test_several_results_have_a_panel_each_and_own_scales_where_one_would_empty_it(channel_result, lines_of):
    widths = {"conv1": 8, "conv2": 8}
    results = {"zeros": channel_result(widths), "circular": channel_result(widths, scale=0.01)}
    axes = probe.plot_channels(results)
    assert [ax.get_title() for ax in axes] == ["zeros", "circular (own scale)"]
    for ax, result in zip(axes, results.values(), strict=True):
        expected = np.sort(of_layer(result, "natural", "conv1"))[::-1]
        np.testing.assert_array_equal(lines_of(ax)["natural"].get_ydata(), expected)
        assert to_hex(lines_of(ax)["natural"].get_color()) == STIMULUS_COLOURS["natural"]
    same = probe.plot_channels({"a": results["zeros"], "b": results["zeros"]})
    assert same[0].get_ylim() == same[1].get_ylim()


def test_a_result_in_ones_own_colour(channel_result, lines_of):
    ax = probe.plot_channels(channel_result({"conv1": 8}), axes_of_own(), label="zeros", color="#882255")
    lines = lines_of(ax)
    assert list(lines) == ["zeros, natural", "zeros, rolled"]
    assert [to_hex(line.get_color()) for line in lines.values()] == ["#882255", "#c390aa"]


def test_arguments_that_would_have_no_effect_are_refused(channel_result):
    result = channel_result({"conv1": 3})
    with pytest.raises(ArgumentError, match="label and color: of a single result"):
        probe.plot_channels({"a": result}, label="a")
    with pytest.raises(ArgumentError, match=r"ax: 1 were given for 2 results \(a, b\)"):
        probe.plot_channels({"a": result, "b": result}, axes_of_own())
    assert plt.get_fignums() == []
