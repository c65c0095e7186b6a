import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.position import STIMULUS_COLOURS
from probe.testing import noise_images, padded_net

STIMULI = ["natural", "rolled"]
TARGETS = ["row", "column"]
FOLDS = 5


def layer_result(n_layers=4, names=None):
    rng = np.random.default_rng(0)
    shape = (n_layers, len(STIMULI), len(TARGETS))
    return xr.Dataset(
        {
            "r2": (("layer", "stimulus", "target"), rng.uniform(-0.1, 0.8, shape)),
            "r2_se": (("layer", "stimulus", "target"), rng.uniform(0.01, 0.05, shape)),
        },
        coords={
            "layer": names or [f"layer1.{i}.conv1" for i in range(n_layers)],
            "stimulus": STIMULI,
            "target": TARGETS,
            "fold": np.arange(FOLDS),
        },
    )


def channel_result(widths):
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {"omega2": (("channel", "stimulus"), rng.uniform(0, 1, (sum(widths.values()), len(STIMULI))))},
        coords={
            "layer": ("channel", [name for name, width in widths.items() for _ in range(width)]),
            "stimulus": STIMULI,
        },
    )


def axes_of_own():
    return Figure().subplots()


def lines_of(ax):
    """The lines with data, by legend label."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


@pytest.fixture(scope="module")
def measured():
    return probe.layerwise(padded_net("zeros"), noise_images(60), maps=["conv1", "conv4"], progress=False)


@pytest.fixture(autouse=True)
def settings_stay():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def test_layers_show_the_numbers_of_the_result_with_their_interval():
    result = layer_result()
    ax = axes_of_own()
    assert probe.plot_layers(result, ax) is ax
    lines = lines_of(ax)
    assert list(lines) == ["natural, row", "natural, column", "rolled, row", "rolled, column"]
    quantile = scipy.stats.t.ppf(0.975, FOLDS - 1)
    for (label, line), band in zip(lines.items(), ax.collections, strict=True):
        stimulus, target = label.split(", ")
        chosen = result.sel(stimulus=stimulus, target=target)
        np.testing.assert_array_equal(line.get_ydata(), chosen.r2)
        assert to_hex(line.get_color()) == STIMULUS_COLOURS[stimulus]
        heights = band.get_paths()[0].vertices
        for depth in range(4):
            ys = heights[heights[:, 0] == depth, 1]
            expected = chosen.r2.values[depth] + quantile * chosen.r2_se.values[depth] * np.array([-1, 1])
            np.testing.assert_allclose([ys.min(), ys.max()], expected)


def test_layers_that_could_not_be_scored_leave_a_gap():
    result = layer_result()
    result.r2[1] = np.nan
    result.r2_se[1] = np.nan
    ax = probe.plot_layers(result, axes_of_own())
    assert np.isnan(lines_of(ax)["natural, row"].get_ydata()[1])
    assert np.isfinite(ax.get_ylim()).all()
    ax.figure.canvas.draw()


def test_layers_of_nothing_but_nan_can_be_drawn():
    result = layer_result() * np.nan
    probe.plot_layers(result, axes_of_own()).figure.canvas.draw()


def test_chosen_targets_alone_are_drawn():
    ax = probe.plot_layers(layer_result(), axes_of_own(), targets=["column"])
    assert list(lines_of(ax)) == ["natural, column", "rolled, column"]
    with pytest.raises(ArgumentError, match=r"targets: \['radius'\] are not in the result"):
        probe.plot_layers(layer_result(), axes_of_own(), targets=["row", "radius"])


@pytest.mark.parametrize("n_layers", [1, 5, 14, 15, 53, 120])
def test_names_of_layers_do_not_overlap(n_layers):
    figure = Figure(figsize=(12, 4), layout="constrained")
    ax = probe.plot_layers(layer_result(n_layers), figure.subplots())
    figure.canvas.draw()
    labels = ax.get_xticklabels()
    assert 1 <= len(labels) <= 14
    names = [f"layer1.{i}.conv1" for i in range(n_layers)]
    assert [label.get_text() for label in labels] == [names[int(place)] for place in ax.get_xticks()]
    # Slanted by 40°, lines of text are apart by their height if their ends are apart by 1.6 of it.
    height = labels[0].get_fontsize() * figure.dpi / 72
    ends = [ax.transData.transform((place, 0))[0] for place in ax.get_xticks()]
    assert all(np.diff(ends) > 1.6 * height)


def test_a_dollar_sign_in_a_name_is_no_formula():
    ax = probe.plot_layers(layer_result(2, names=["a$\\frac$", "<b>"]), axes_of_own())
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a$\\frac$", "<b>"]


def test_without_axes_a_new_figure_is_made():
    ax = probe.plot_layers(layer_result())
    assert ax.figure.number in plt.get_fignums()
    assert probe.plot_channels(channel_result({"conv1": 3})).figure is not ax.figure


def test_channels_are_sorted_within_their_layer():
    result = channel_result({"conv1": 3, "conv2": 2048})
    result.omega2[1] = np.nan
    ax = axes_of_own()
    assert probe.plot_channels(result, ax) is ax
    curves = [line for line in ax.lines if len(line.get_xdata()) in (2, 2048) and line.get_linewidth() > 0.9]
    assert len(curves) == 4
    for number, curve in enumerate(curves):
        stimulus, layer = STIMULI[number // 2], ("conv1", "conv2")[number % 2]
        values = result.omega2.sel(stimulus=stimulus).values[result.layer.values == layer]
        expected = np.sort(values[~np.isnan(values)])[::-1]
        np.testing.assert_array_equal(curve.get_ydata(), expected)
        assert np.all(np.abs(np.asarray(curve.get_xdata()) - number % 2) < 0.5)


def test_a_single_channel_is_a_point():
    ax = probe.plot_channels(channel_result({"conv1": 1}), axes_of_own())
    assert [line.get_marker() for line in lines_of(ax).values()] == [".", "."]


def test_decoded_maps_share_a_symmetric_scale(measured):
    axes = Figure().subplots(2, 2)
    assert (probe.plot_maps(measured, "conv4", axes) == axes).all()
    images = [ax.images[0] for ax in axes.flat]
    limit = np.abs(measured.decoded_map_4).max().item()
    assert {image.get_clim() for image in images} == {(-limit, limit)}
    np.testing.assert_array_equal(images[3].get_array(), measured.decoded_map_4.sel(stimulus="rolled", target="column"))
    assert [ax.get_title() for ax in axes[0]] == TARGETS
    assert [ax.get_ylabel() for ax in axes[:, 0]] == STIMULI


def test_mean_maps_show_the_channels_that_vary_most(measured):
    axes = probe.plot_maps(measured, "conv4", Figure().subplots(2, 3), kind="mean", count=3)
    maps = measured.mean_map_4.values
    spread = maps.std(axis=(2, 3)).max(axis=0)
    strongest = sorted(range(16), key=lambda channel: -spread[channel])[:3]
    assert [ax.get_title() for ax in axes[0]] == [f"channel {channel}" for channel in strongest]
    expected = maps[1, strongest[0]] - maps[1, strongest[0]].mean()
    np.testing.assert_allclose(axes[1, 0].images[0].get_array(), expected, atol=1e-12)


def test_maps_of_channels_are_mean_maps():
    result = probe.channelwise(padded_net("zeros"), noise_images(10), maps="conv1", progress=False)
    assert probe.plot_maps(result, "conv1").shape == (2, 4)


def test_maps_that_are_not_there(measured):
    with pytest.raises(ArgumentError, match=r"layer='conv2': the result has no decoded or mean map"):
        probe.plot_maps(measured, "conv2")
    with pytest.raises(ArgumentError, match="kind='median'"):
        probe.plot_maps(measured, "conv4", kind="median")
    with pytest.raises(ArgumentError, match=r"axes: 3 were given for 4 maps"):
        probe.plot_maps(measured, "conv4", Figure().subplots(1, 3))


def test_a_result_of_another_kind_is_refused():
    with pytest.raises(ArgumentError, match=r"expected r2 on \(layer, stimulus, target\).*found omega2 on"):
        probe.plot_layers(channel_result({"conv1": 3}))
    with pytest.raises(ArgumentError, match="expected omega2 on"):
        probe.plot_channels(layer_result())


def test_plots_do_not_load_torch():
    code = "import sys, probe; probe.plot_layers; assert 'torch' not in sys.modules and 'seaborn' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
