import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import RESULT_COLOURS, STIMULUS_COLOURS
from probe.testing import noise_images, padded_net

FOUR = [f"layer1.{i}.conv1" for i in range(4)]


def axes_of_own(*shape):
    return Figure().subplots(*shape)


def test_layers_show_the_numbers_of_the_result_with_their_interval(layer_result, lines_of):
    result = layer_result(FOUR)
    ax = axes_of_own()
    assert probe.plot_layers(result, ax) is ax
    lines = lines_of(ax)
    assert list(lines) == ["natural, row", "natural, column", "rolled, row", "rolled, column"]
    quantile = scipy.stats.t.ppf(0.975, result.sizes["fold"] - 1)
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


def test_layers_that_could_not_be_scored_leave_a_gap(layer_result, lines_of):
    result = layer_result(FOUR)
    result.r2[1] = np.nan
    result.r2_se[1] = np.nan
    ax = probe.plot_layers(result, axes_of_own())
    assert np.isnan(lines_of(ax)["natural, row"].get_ydata()[1])
    assert np.isfinite(ax.get_ylim()).all()
    ax.figure.canvas.draw()


def test_layers_of_nothing_but_nan_can_be_drawn(layer_result, lines_of):
    ax = probe.plot_layers(layer_result(FOUR) * np.nan, axes_of_own())
    ax.figure.canvas.draw()
    assert len(lines_of(ax)) == 4 and all(np.isnan(line.get_ydata()).all() for line in lines_of(ax).values())


def test_chosen_targets_alone_are_drawn(layer_result, lines_of):
    result = layer_result(FOUR)
    assert list(lines_of(probe.plot_layers(result, axes_of_own(), targets=["column"]))) == [
        "natural, column",
        "rolled, column",
    ]
    assert len(lines_of(probe.plot_layers(result, axes_of_own(), targets="column"))) == 2
    with pytest.raises(ArgumentError, match=r"expected some of \['row', 'column'\].* found \['radius'\]"):
        probe.plot_layers(result, axes_of_own(), targets=["row", "radius"])
    with pytest.raises(ArgumentError, match=r"targets: expected some .* found none"):
        probe.plot_layers(result, axes_of_own(), targets=[])


def test_layers_are_readable_at_the_widths_of_a_page(layer_result, names, width, assert_readable):
    one = probe.plot_layers(layer_result(names), width=width)
    assert one.figure.get_figwidth() == width
    assert_readable(one.figure)
    several = {"zeros": layer_result(names), "circular": layer_result(names, seed=1, n_images=20)}
    assert_readable(probe.plot_layers(several, width=width)[0].figure)


def test_several_results_have_a_panel_for_each_stimulus(layer_result, lines_of):
    results = {"zeros": layer_result(FOUR), "circular": layer_result(FOUR, seed=1)}
    axes = probe.plot_layers(results)
    assert [ax.get_title() for ax in axes] == ["natural images", "rolled images"]
    for ax, stimulus in zip(axes, ("natural", "rolled"), strict=True):
        lines = lines_of(ax)
        assert list(lines) == ["zeros, row", "zeros, column", "circular, row", "circular, column"]
        for label, line in lines.items():
            name, target = label.split(", ")
            np.testing.assert_array_equal(line.get_ydata(), results[name].r2.sel(stimulus=stimulus, target=target))
        colours = {to_hex(line.get_color()) for line in lines.values()}
        assert len(colours) == 2
        assert not colours & {STIMULUS_COLOURS["natural"], STIMULUS_COLOURS["rolled"]}
        assert lines["zeros, row"].get_marker() != lines["circular, row"].get_marker()
        assert lines["zeros, row"].get_linestyle() != lines["zeros, column"].get_linestyle()
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_the_legend_names_results_and_targets_once(layer_result, legend_of):
    results = {"zeros": layer_result(FOUR), "circular": layer_result(FOUR, seed=1)}
    said = ["", "zeros", "circular", "row", "column"]
    assert legend_of(probe.plot_layers(results)[0].figure) == said
    assert legend_of(probe.plot_layers(results, axes_of_own(1, 2))[0].figure) == said


def test_a_panel_that_one_scale_would_empty_has_its_own(layer_result):
    results = {name: layer_result(FOUR, seed=seed) for seed, name in enumerate("ab")}
    for result in results.values():
        for name in ("r2", "r2_se"):
            result[name].loc[{"stimulus": "rolled"}] *= 0.01
    natural, rolled = probe.plot_layers(results)
    assert rolled.get_title() == "rolled images (own scale)"
    assert natural.get_title() == "natural images"
    assert rolled.get_ylim()[1] < 0.05 < 0.5 < natural.get_ylim()[1]


def test_single_results_side_by_side_in_ones_own_axes(layer_result, lines_of, legend_of):
    ax = axes_of_own()
    for name, colour in (("zeros", "black"), ("circular", RESULT_COLOURS[1])):
        probe.plot_layers(layer_result(FOUR), ax, targets="row", label=name, color=colour)
    lines = lines_of(ax)
    assert list(lines) == [
        "zeros, natural, row",
        "zeros, rolled, row",
        "circular, natural, row",
        "circular, rolled, row",
    ]
    assert {line.get_color() for label, line in lines.items() if label.startswith("zeros")} == {"black"}
    assert lines["zeros, natural, row"].get_linestyle() != lines["zeros, rolled, row"].get_linestyle()
    assert legend_of(ax.figure) == ["", *lines]


def test_each_line_of_one_colour_has_its_own_style(layer_result, lines_of):
    lines = lines_of(probe.plot_layers(layer_result(FOUR), axes_of_own(), color="black"))
    assert len({line.get_linestyle() for line in lines.values()}) == 4


def test_layers_with_too_few_samples_are_grey_and_the_legend_says_so(layer_result, lines_of, legend_of):
    result = layer_result(FOUR, n_images=100).assign_coords(samples_per_feature=("layer", [1000.0, 5.0, 4.9, 3.0]))
    ax = probe.plot_layers(result, axes_of_own())
    assert legend_of(ax.figure)[-1] == "< 5 samples a feature"
    line = lines_of(ax)["natural, row"]
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, False, True, True])
    r2 = result.r2.sel(stimulus="natural", target="row")
    (grey,) = [line for line in ax.lines if np.array_equal(line.get_ydata(), [np.nan, *r2[1:]], equal_nan=True)]
    assert grey.get_color() == "0.72"
    (open_markers,) = [line for line in ax.lines if np.array_equal(line.get_ydata(), r2[2:])]
    assert open_markers.get_markerfacecolor() == "white"
    assert open_markers.get_markeredgecolor() == STIMULUS_COLOURS["natural"]


@pytest.mark.parametrize(("n_images", "grey"), [(19, True), (20, False)])
def test_layers_of_too_few_images_are_grey(layer_result, lines_of, legend_of, n_images, grey):
    ax = probe.plot_layers(layer_result(FOUR, n_images=n_images), axes_of_own())
    assert ("< 20 images" in legend_of(ax.figure)) is grey
    assert np.isnan(lines_of(ax)["rolled, row"].get_ydata()).all() == grey


def test_what_looks_the_same_has_one_entry_in_the_legend(layer_result, legend_of):
    result = layer_result(FOUR, n_images=19).assign_coords(samples_per_feature=("layer", [3.0] * 4))
    found = legend_of(probe.plot_layers(result, axes_of_own()).figure)
    assert [label for label in found if label.startswith("<")] == ["< 5 samples a feature or < 20 images"]


def test_measured_samples_decide_what_is_grey(legend_of):
    with pytest.warns(probe.ProbeWarning, match="19 images"):
        result = probe.layerwise(padded_net("zeros"), noise_images(19), progress=False)
    assert "< 20 images" in legend_of(probe.plot_layers(result, axes_of_own()).figure)


def test_r2_far_below_0_does_not_flatten_the_rest(layer_result, legend_of):
    result = layer_result(FOUR)
    result.r2[3] = -40
    ax = probe.plot_layers(result)
    assert ax.get_ylim()[0] == -0.5
    assert legend_of(ax.figure)[-1] == "R² < −0.5: not shown"


def test_several_results_must_be_alike(layer_result):
    other = layer_result([*FOUR[:3], "fc"])
    with pytest.raises(ArgumentError, match=r"differ in layer: layer1\.3\.conv1 only in 'a', fc only in 'b'"):
        probe.plot_layers({"a": layer_result(FOUR), "b": other})


def test_arguments_that_would_have_no_effect_are_refused(layer_result):
    result = layer_result(FOUR)
    with pytest.raises(ArgumentError, match="label and color: of a single result"):
        probe.plot_layers({"a": result}, color="red")
    with pytest.raises(ArgumentError, match=r"width=3\.4: it is that of a new figure"):
        probe.plot_layers(result, axes_of_own(), width=3.4)
    with pytest.raises(ArgumentError, match=r"width='wide': expected inches"):
        probe.plot_layers(result, width="wide")
    assert plt.get_fignums() == []


def test_axes_must_be_axes_and_as_many_as_panels(layer_result):
    result = layer_result(FOUR)
    with pytest.raises(ArgumentError, match="ax: expected Axes of matplotlib, found a Figure"):
        probe.plot_layers(result, Figure())
    with pytest.raises(ArgumentError, match=r"ax: 1 were given for 2 panels, .* \(natural, rolled\)"):
        probe.plot_layers({"a": result}, axes_of_own())
    (ax,) = probe.plot_layers({"a": result.sel(stimulus="rolled")}, axes_of_own())
    assert ax.get_title() == "rolled images"


def test_a_result_of_one_stimulus_can_be_drawn(layer_result, lines_of):
    result = layer_result(FOUR)
    ax = probe.plot_layers(result.sel(stimulus="rolled", target="row"), axes_of_own())
    np.testing.assert_array_equal(
        lines_of(ax)["rolled, row"].get_ydata(), result.r2.sel(stimulus="rolled", target="row")
    )


def test_without_axes_a_new_figure_is_made(layer_result):
    first, second = (probe.plot_layers(layer_result(FOUR)).figure for _ in range(2))
    assert first is not second
    assert {first.number, second.number} <= set(plt.get_fignums())


def test_results_along_a_dim_of_their_own_go_by_name(layer_result):
    result = layer_result(FOUR)
    with pytest.raises(ArgumentError, match="Of several results along padding, give a dict"):
        probe.plot_layers(xr.concat([result, result], "padding"))


def test_plots_do_not_load_torch():
    code = "import sys, probe; probe.plot_layers; assert 'torch' not in sys.modules and 'seaborn' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_null_and_control_are_drawn_as_means_over_targets(layer_result):
    result = layer_result(FOUR)
    result["r2_null"], result["r2_control"] = result.r2 / 9, result.r2 / 3
    axes = probe.plot_layers({"net": result}, Figure().subplots(1, 2), controls=True)
    for ax, stimulus in zip(axes, ("natural", "rolled"), strict=True):
        for name, style in (("r2_null", ":"), ("r2_control", "--")):
            (line,) = [one for one in ax.lines if one.get_linewidth() == 0.8 and one.get_linestyle() == style]
            np.testing.assert_allclose(
                line.get_ydata(), result[name].sel(stimulus=stimulus).mean("target"), equal_nan=True
            )


def test_models_of_unlike_layers_are_drawn_by_relative_depth(layer_result):
    result = layer_result(FOUR)
    short = result.isel(layer=[0, -1])
    axes = probe.plot_layers({"all": result, "few": short}, Figure().subplots(1, 2), relative=True)
    ends = [line.get_xdata() for line in axes[0].lines if len(line.get_xdata()) in (2, 4)]
    assert {(values[0], values[-1]) for values in ends} == {(0, 1)}
    assert axes[0].get_xlabel() == "relative depth: first to last layer"


def test_faint_results_are_grey(layer_result):
    result = layer_result(FOUR)
    axes = probe.plot_layers({"a": result, "b": result}, Figure().subplots(1, 2), faint=["b"])
    drawn = {text.get_text(): line.get_color() for text, line in zip(*_legend_of(axes[0]), strict=True)}
    assert drawn["b"] == "0.8" and drawn["a"] != "0.8"


def _legend_of(ax):
    legend = ax.get_legend()
    return legend.get_texts(), legend.legend_handles


@pytest.mark.parametrize(
    ("several", "options", "message"),
    [
        (False, {"faint": ["a"]}, "faint=.*there is one"),
        (False, {"relative": True}, "relative=True: it is for several results"),
        (True, {"relative": True, "controls": True}, "do not go with relative=True"),
        (True, {"faint": ["c"]}, "faint: 'c' is none of the results, a, b"),
    ],
)
def test_options_without_effect_are_refused(layer_result, several, options, message):
    result = layer_result(FOUR)
    result["r2_null"], result["r2_control"] = result.r2, result.r2
    given = {"a": result, "b": result} if several else result
    with pytest.raises(ArgumentError, match=message):
        probe.plot_layers(given, **options)
