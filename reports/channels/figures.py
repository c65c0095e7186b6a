"""The figures of the channel report."""

from collections.abc import Iterable

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.plots.axes import RANKED_COLOURS, name_layers
from probe.plots.maps import draw_map
from probe.reports.channels.estimates import position
from probe.reports.page.estimates import interval
from probe.reports.page.removals import main_score, removal
from probe.reports.page.samples import THIN_COLOUR, is_thin

__all__ = ["draw_agreement", "draw_changes", "draw_curves", "draw_position", "draw_strongest"]

_MOST_COLUMNS = 4
_PANEL = (3.1, 2.5)  # inches
_MAP = 1.25  # inches
_RANKED, _BOTTOM, _MATCHED = RANKED_COLOURS.values()
_RANDOM, _INTACT = "0.55", "0.1"


def draw_curves(result: xr.Dataset) -> Figure:
    """Draw the main score against the number of channels removed, a panel for each ranking."""
    rankings = [str(ranking) for ranking in result.ranking.values]
    n_cells = len(rankings) + 1  # one for the legend
    n_columns = n_cells if n_cells < 4 else min(-(-n_cells // 2), _MOST_COLUMNS)
    n_rows = -(-n_cells // n_columns)
    figure = Figure(figsize=(_PANEL[0] * n_columns, _PANEL[1] * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for number, (ranking, ax) in enumerate(zip(rankings, grid.flat, strict=False)):
        _draw_curve(ax, result.sel(ranking=ranking, score=main_score(result)))
        ax.set_title(ranking, fontsize="medium", parse_math=False)
        # What stands above a cell without axes shows the numbers as well.
        below = number + n_columns >= len(rankings)
        ax.tick_params(labelbottom=below)
        if below:
            ax.set_xlabel("channels removed")
        if number % n_columns == 0:
            ax.set_ylabel(main_score(result), parse_math=False)
    for ax in grid.flat[len(rankings) :]:
        ax.set_axis_off()
    legend = grid.flat[0].get_legend_handles_labels()
    grid.flat[len(rankings)].legend(*legend, loc="center", frameon=False, reverse=True)
    return figure


def _draw_curve(ax: Axes, curve: xr.Dataset) -> None:
    counts = curve["count"].values
    ax.axhline(curve.intact.item(), color=_INTACT, linewidth=0.8, linestyle=":", label="nothing removed")
    _draw_band(ax, counts, curve.random, _RANDOM, "random channels")
    _draw_band(ax, counts, curve.matched, _MATCHED, "random, as active")
    ax.plot(counts, curve.bottom, "--", color=_BOTTOM, linewidth=1.2, label="ranked last")
    half = interval(0, 1, degrees=int(curve.attrs["folds"]) - 1).half_width * curve.top_se.values
    ax.errorbar(counts, curve.top, half, fmt=".-", color=_RANKED, linewidth=1.6, capsize=2, label="ranked first")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(ax=ax)


def _draw_band(ax: Axes, counts: np.ndarray, draws: xr.DataArray, colour: str, label: str) -> None:
    if draws.isnull().all():
        return
    low, high = draws.quantile([0.05, 0.95], "draw").values
    ax.fill_between(counts, low, high, color=colour, alpha=0.25, linewidth=0)
    ax.plot(counts, draws.mean("draw"), color=colour, linewidth=1, label=label)


def draw_changes(result: xr.Dataset) -> Figure:
    """Draw the change of each score by each ranking at one count, beside the band of random channels."""
    scores, rankings = [str(s) for s in result.score.values], [str(r) for r in result.ranking.values]
    count = int(result.attrs["removed"])
    figure = Figure(figsize=(1.2 + 2.3 * max(len(scores), 2), 1.2 + 0.34 * len(rankings)), layout="constrained")
    for ax, score in zip(figure.subplots(1, len(scores), sharey=True, squeeze=False)[0], scores, strict=True):
        found = [removal(result, ranking, score, count) for ranking in rankings]
        intact = found[0].intact.mean
        ax.axvspan(found[0].low - intact, found[0].high - intact, color=_RANDOM, alpha=0.3, linewidth=0)
        ax.axvline(found[0].random - intact, color=_RANDOM, linewidth=1)
        ax.axvline(0, color=_INTACT, linewidth=0.8, linestyle=":")
        changes = [one.ranked.mean - intact for one in found]
        halves = [one.difference.half_width for one in found]
        ax.errorbar(changes, range(len(rankings)), xerr=halves, fmt="o", color=_RANKED, markersize=4, capsize=2)
        ax.set_title(score, fontsize="medium", parse_math=False)
        ax.set_yticks(range(len(rankings)), rankings, parse_math=False)
        ax.set_ylim(len(rankings) - 0.5, -0.5)
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        sns.despine(ax=ax)
    figure.supxlabel(f"change of the score without {count} channels", fontsize="medium")
    return figure


def draw_position(result: xr.Dataset) -> Figure:
    """Draw R² of position from the ablated layer on, before and after removing channels, a panel for each stimulus."""
    layers, stimuli = [str(name) for name in result.layer.values], [str(name) for name in result.stimulus.values]
    room_for_names = 0.05 * max(map(len, layers))
    figure = Figure(figsize=(1 + 3.4 * len(stimuli), 3.2 + room_for_names), layout="constrained")
    depth = np.arange(len(layers))
    for ax, stimulus in zip(figure.subplots(1, len(stimuli), sharey=True, squeeze=False)[0], stimuli, strict=True):
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        random = result.r2_random.sel(stimulus=stimulus).mean("target")
        for draw in range(random.sizes["readout_draw"]):
            label = "random channels removed" if draw == 0 else None
            ax.plot(depth, random.isel(readout_draw=draw), ".-", color=_RANDOM, linewidth=0.9, label=label)
        before = [position(result, layer, stimulus, removed="nothing") for layer in layers]
        after = [position(result, layer, stimulus, removed="ranked") for layer in layers]
        for found, colour, label in (
            (before, _INTACT, "nothing removed"),
            (after, _RANKED, "ranked channels removed"),
        ):
            mean, half = np.array([one.mean for one in found]), np.array([one.half_width for one in found])
            ax.plot(depth, mean, ".-", color=colour, label=label)
            ax.fill_between(depth, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
            if is_thin(result).any():
                ax.plot(depth[is_thin(result)], mean[is_thin(result)], "o", color=THIN_COLOUR, markersize=5, zorder=3)
        ax.set_title(f"{stimulus} images", fontsize="medium")
        name_layers(ax, layers, most=8)
        sns.despine(ax=ax)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.axes[0].set_ylabel("R² of position")
    return figure


def draw_strongest(result: xr.Dataset) -> Figure:
    """Draw the mean maps of the channels ranked first, and below each the images that move it most."""
    channels = [int(channel) for channel in result.strongest.values]
    centred = result.mean_map - result.mean_map.mean(["row", "column"])
    limit = float(np.abs(centred).max()) or 1.0
    stimuli = [str(name) for name in result.stimulus.values]
    n_examples = result.sizes.get("example", 0)
    n_rows = len(stimuli) + n_examples
    figure = Figure(figsize=(_MAP * len(channels) + 1.3, (_MAP + 0.12) * n_rows + 0.4), layout="constrained")
    grid = figure.subplots(n_rows, len(channels), squeeze=False)
    for column, channel in enumerate(channels):
        grid[0, column].set_title(f"channel {channel}", fontsize="medium")
        for row, stimulus in enumerate(stimuli):
            values = centred.sel(stimulus=stimulus, strongest=channel).values
            image = draw_map(grid[row, column], values, limit)
        for example in range(n_examples):
            ax = grid[len(stimuli) + example, column]
            chosen = result.isel(strongest=column, example=example)
            ax.imshow(chosen.example_image.values, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(f"Δ {float(chosen.example_change):#.2g}".replace("-", "−"), fontsize="small", labelpad=2)
    for row, label in enumerate([*(f"mean map,\n{stimulus}" for stimulus in stimuli), *_places(n_examples)]):
        grid[row, 0].set_ylabel(label, fontsize="small")
    maps = grid[: len(stimuli)].ravel().tolist()
    figure.colorbar(image, ax=maps, label="activation − average", aspect=20)
    return figure


def _places(count: int) -> Iterable[str]:
    return ["moved most", *(f"moved, no. {place}" for place in range(2, count + 1))][:count]


def draw_agreement(result: xr.Dataset, count: int) -> Figure:
    """Draw the rank correlations of all rankings, and which share of their first channels they have in common."""
    names = [str(name) for name in result.ranking.values]
    correlation = result.correlation.values.copy()
    # A ranking's agreement with itself is how far it comes out the same on other images.
    np.fill_diagonal(correlation, result.stability.values)
    shared = result.overlap.sel(n_first=count).transpose("ranking", "other").values
    room_for_names = 0.08 * max(map(len, names))
    side = 0.8 + 0.55 * len(names)
    figure = Figure(figsize=(2 * (side + room_for_names), side + room_for_names), layout="constrained")
    panels = figure.subplots(1, 2)
    _draw_matrix(panels[0], correlation, names, "rank correlation\n(diagonal: split-half stability)")
    _draw_matrix(panels[1], shared, names, f"share in common\nof the first {count} channels")
    panels[1].tick_params(labelleft=False)
    return figure


def _draw_matrix(ax: Axes, values: np.ndarray, names: list[str], title: str) -> None:
    ax.imshow(values, cmap="PRGn", vmin=-1, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    ax.set_yticks(range(len(names)), names, parse_math=False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.7 else "black"
            text = f"{value:z.2f}".replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_title(title, fontsize="medium")
