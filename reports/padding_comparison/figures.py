"""The figures of the padding report: small multiples, a panel for each padding, all on one scale."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.plots.axes import STIMULUS_COLOURS, name_layers
from probe.plots.channels import draw_sorted
from probe.plots.maps import draw_map
from probe.reports.padding_comparison.estimates import (
    broken,
    content_estimates,
    own_padding,
    position_estimates,
)
from probe.reports.page.estimates import Estimate, bars
from probe.reports.page.samples import THIN_COLOUR, is_thin

__all__ = ["draw_by_depth", "draw_channels", "draw_content", "draw_decoded_maps", "draw_mean_maps", "draw_shares"]

_COLUMNS = 4
_PANEL = (2.6, 2.4)  # inches
_NAMES = 1.0  # inches, for names of layers
_MAP = 1.15  # inches
_NAMED_LAYERS = 6
_MOST_POINTS = 200
_PADDING_COLOUR = sns.color_palette("colorblind").as_hex()[4]


def draw_by_depth(result: xr.Dataset) -> Figure:
    """Draw R² of position by layer, natural beside rolled, and where there is one, the untrained twin."""
    figure, panels = _panels(result)
    has_twin = result.sizes["training"] > 1
    for stimulus, colour in _stimuli(result):
        for training, line in (("trained", "-"), ("untrained", ":")):
            if training not in result.training:
                continue
            label = f"{stimulus}, {training}" if has_twin else stimulus
            by_layer = [
                position_estimates(result, layer=str(layer), stimulus=stimulus, training=training)
                for layer in result.layer.values
            ]
            for padding, ax in panels.items():
                _draw_line(ax, [found[padding] for found in by_layer], colour, line, label, is_thin(result))
    _finish_panels(figure, panels, result, "R² of position")
    return figure


def draw_content(result: xr.Dataset) -> Figure:
    """Draw natural − rolled by layer."""
    figure, panels = _panels(result)
    by_layer = [content_estimates(result, str(layer)) for layer in result.layer.values]
    for padding, ax in panels.items():
        line = [found[padding] for found in by_layer]
        _draw_line(ax, line, _PADDING_COLOUR, "-", "natural − rolled", is_thin(result))
    _finish_panels(figure, panels, result, "natural − rolled")
    return figure


def draw_channels(result: xr.Dataset) -> Figure:
    """Draw ω² of the channels of all trained networks of a padding, sorted within each layer."""
    figure, panels = _panels(result)
    omega2 = result.omega2.sel(training="trained")
    for padding, ax in panels.items():
        for number, (stimulus, colour) in enumerate(_stimuli(result)):
            for slot, layer in enumerate(result.layer.values):
                values = omega2.sel(padding=padding, stimulus=stimulus).values[:, result.channel_layer.values == layer]
                label = stimulus if slot == 0 else None
                draw_sorted(ax, slot, _thinned(values), color=colour, linewidth=2.6 - 1.4 * number, label=label)
    _finish_panels(figure, panels, result, "ω² of each channel")
    return figure


def draw_decoded_maps(result: xr.Dataset) -> Figure:
    """Draw what the readouts of the last layer decode from the mean activation: the mean over seeds."""
    rows = [
        (f"{target}\n{stimulus}", {"target": target, "stimulus": stimulus})
        for target in result.target.values
        for stimulus in result.stimulus.values
    ]
    maps = {
        (padding, label): result[f"decoded_map_{index}"].mean("seed").sel(chosen).values
        for index, padding in enumerate(result.padding.values)
        for label, chosen in rows
    }
    return _draw_maps(result, maps, [label for label, _ in rows], "decoded position", one_scale=True)


def draw_mean_maps(result: xr.Dataset) -> Figure:
    """Draw the mean activation about its average, for the most position-dependent channels of the first network."""
    count = result.sizes["strongest"]
    maps, notes = {}, {}
    for index, padding in enumerate(result.padding.values):
        first = result[f"mean_map_{index}"].isel(seed=0)
        centred = first - first.mean(first.dims[-2:])
        for rank in range(min(count, 2)):
            channel = int(result[f"strongest_channel_{index}"].isel(seed=0)[rank])
            for stimulus in result.stimulus.values:
                place = (padding, f"{('1st', '2nd')[rank]} channel\n{stimulus}")
                maps[place] = centred.isel(strongest=rank).sel(stimulus=stimulus).values
                notes[place] = f"channel {channel}"
    labels = list(dict.fromkeys(label for _, label in maps))
    return _draw_maps(result, maps, labels, "mean activation − its average", notes)


def draw_shares(result: xr.Dataset) -> Figure:
    """Draw accuracy and agreement, a point for each network."""
    names = [name for name in ("accuracy", "agreement_with_own", "agreement") if name in result]
    figure = Figure(figsize=(1.2 + 2.7 * len(names), 0.8 + 0.32 * result.sizes["padding"]), layout="constrained")
    paddings = [str(padding) for padding in result.padding.values]
    titles = {"agreement": "agreement at two placements", "agreement_with_own": "predictions as its own"}
    lost = broken(result)
    for ax, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for place, padding in enumerate(paddings):
            shares = result[name].sel(padding=padding).values
            colour = THIN_COLOUR if padding in lost else _PADDING_COLOUR
            ax.plot(shares, np.full(len(shares), place), "o", color=colour, alpha=0.7, markersize=6)
        ax.set(xlabel=titles.get(name, name), yticks=range(len(paddings)))
        ax.set_yticklabels([_titled(result, padding) for padding in paddings], parse_math=False)
        ax.grid(axis="y", color="0.9", zorder=0)
        ax.set_ylim(len(paddings) - 0.5, -0.5)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
        sns.despine(ax=ax)
    return figure


def _stimuli(result: xr.Dataset) -> list[tuple[str, str]]:
    return [(str(stimulus), STIMULUS_COLOURS[str(stimulus)]) for stimulus in result.stimulus.values]


def _panels(result: xr.Dataset) -> tuple[Figure, dict[str, Axes]]:
    """Make a panel for each padding; the cell behind the last is for the legend."""
    paddings = [str(padding) for padding in result.padding.values]
    n_rows = -(-(len(paddings) + 1) // _COLUMNS)
    n_columns = min(_COLUMNS, len(paddings) + 1)
    figure = Figure(figsize=(_PANEL[0] * n_columns, _PANEL[1] * n_rows + _NAMES), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for ax in grid.flat[len(paddings) :]:
        ax.set_axis_off()
    return figure, dict(zip(paddings, grid.flat, strict=False))


def _titled(result: xr.Dataset, padding: str) -> str:
    """Return the name of a padding, and whether it is the model's own or no longer does its task."""
    if padding == own_padding(result):
        return f"{padding} (own)"
    return f"{padding} (not ranked)" if padding in broken(result) else padding


def _draw_line(
    ax: Axes, estimates: Sequence[Estimate], colour: str, line: str, label: str, is_grey: np.ndarray
) -> None:
    """Draw an estimate for each layer, with its interval as a band; layers of too few samples are grey points."""
    depth = np.arange(len(estimates))
    means = np.array([item.mean for item in estimates])
    below, above = bars(estimates)
    ax.plot(depth, means, line, color=colour, linewidth=1.6, marker="." if line == "-" else None, label=label)
    if line == "-":
        ax.fill_between(depth, means - below, means + above, color=colour, alpha=0.22, linewidth=0)
    if is_grey.any():
        ax.plot(depth[is_grey], means[is_grey], "o", color=THIN_COLOUR, markersize=5, zorder=3)


def _finish_panels(figure: Figure, panels: Mapping[str, Axes], result: xr.Dataset, ylabel: str) -> None:
    for number, (padding, ax) in enumerate(panels.items()):
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        grey = padding in broken(result)
        ax.set_title(_titled(result, padding), fontsize="medium", parse_math=False, color="0.5" if grey else "black")
        if grey:
            ax.set_facecolor("0.94")
        name_layers(ax, [str(name) for name in result.layer.values], most=_NAMED_LAYERS)
        ax.set_xlabel("")
        # The last row is not full; what stands above its gap shows the names of the layers as well.
        ax.tick_params(labelbottom=number >= len(panels) - _COLUMNS)
        if number % _COLUMNS == 0:
            ax.set_ylabel(ylabel)
        sns.despine(ax=ax)
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    empty = figure.axes[len(panels)]
    empty.legend(handles, labels, loc="center", frameon=False)


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return the values, or as many of their quantiles as a curve can show."""
    known = values[np.isfinite(values)]
    return known if known.size <= _MOST_POINTS else np.quantile(known, np.linspace(0, 1, _MOST_POINTS))


def _draw_maps(
    result: xr.Dataset,
    maps: Mapping[tuple[str, str], np.ndarray],
    labels: list[str],
    meaning: str,
    notes: Mapping[Any, str] | None = None,
    *,
    one_scale: bool = False,
) -> Figure:
    """Draw maps by (padding, label): a column for each padding, a row for each label, with a scale for each row."""
    paddings = list(dict.fromkeys(padding for padding, _ in maps))
    size = (_MAP * len(paddings) + 1.6, (_MAP + (0.2 if notes else 0.05)) * len(labels) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(labels), len(paddings), squeeze=False)
    highest = {key: float(np.nanmax(np.abs(values), initial=0)) for key, values in maps.items()}
    for row, label in enumerate(labels):
        shown = highest if one_scale else {key: value for key, value in highest.items() if key[1] == label}
        limit = max(shown.values()) or 1.0
        for column, padding in enumerate(paddings):
            ax = grid[row, column]
            image = draw_map(ax, maps[padding, label], limit)
            if row == 0:
                ax.set_title(_titled(result, padding).replace(" (", "\n("), fontsize="medium", parse_math=False)
            if column == 0:
                ax.set_ylabel(label, fontsize="small", parse_math=False)
            if notes:
                ax.set_xlabel(notes[padding, label], fontsize="x-small", labelpad=2)
        if not one_scale:
            figure.colorbar(image, ax=grid[row].tolist(), aspect=10).ax.tick_params(labelsize="x-small")
    if one_scale:
        figure.colorbar(image, ax=grid.ravel().tolist(), label=meaning, aspect=30)
    else:
        figure.supxlabel(f"colours: {meaning}", fontsize="small")
    return figure
