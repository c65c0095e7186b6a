"""The figures of the page of the study posenet."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from probe.plots.axes import STIMULUS_COLOURS
from probe.reports.page.colours import COLOURS
from probe.reports.page.estimates import Estimate, bars
from probe.reports.posenet.scores import block_settings, correlation_at, correlations, encoder_settings, fitted_twice

__all__ = ["draw_blocks", "draw_images", "draw_maps", "draw_readouts"]

_READOUT_COLOURS = dict(zip(("descent", "closed form"), COLOURS, strict=False))
_PUBLISHED = "0.25"  # a grey
_MAP = 1.05  # inches
_CORRELATIONS = (-0.4, 1.08)  # wider intervals are cut


def draw_images(result: xr.Dataset) -> Figure:
    """Draw the correlations by images tested, a panel for each map and each training."""
    targets, trainings = [str(t) for t in result.target.values], [str(t) for t in result.training.values]
    images = [str(name) for name in result.images.values]
    encoders = encoder_settings(result)
    colours = dict(zip(encoders, COLOURS, strict=False))
    figure = Figure(figsize=(1.9 * len(targets) + 0.8, 2.3 * len(trainings) + 0.8), layout="constrained")
    grid = figure.subplots(len(trainings), len(targets), sharex=True, sharey=True, squeeze=False)
    for (row, training), (column, target) in ((r, c) for r in enumerate(trainings) for c in enumerate(targets)):
        ax = grid[row, column]
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        for number, (encoder, setting) in enumerate(encoders.items()):
            key = {"setting": setting, "target": target, "training": training, "readout": "descent"}
            offset = 0.16 * (number - (len(encoders) - 1) / 2)
            for place, name in enumerate(images):
                seen = correlations(result).sel({**key, "images": name}).values
                label = encoder if place == 0 else None
                ax.plot(np.full(len(seen), place + offset), seen, ".", color=colours[encoder], label=label)
                published = float(result.published.sel({**key, "images": name, "measure": "SPC"}))
                ax.plot(place + offset, published, "D", color=colours[encoder], markersize=4.5, fillstyle="none")
        ax.set_xticks(range(len(images)), images, rotation=90)
        if row == 0:
            ax.set_title(target, fontsize="medium")
        sns.despine(ax=ax)
    for row, training in enumerate(trainings):
        grid[row, 0].set_ylabel(f"fitted to {training}\ncorrelation (SPC)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(encoders), frameon=False)
    return figure


def draw_blocks(result: xr.Dataset) -> Figure:
    """Draw the correlations by block, a panel for each map and encoder."""
    targets = [str(target) for target in result.target.values]
    settings = block_settings(result)
    figure = Figure(figsize=(1.9 * len(targets) + 0.8, 2.1 * len(settings) + 0.8), layout="constrained")
    grid = figure.subplots(len(settings), len(targets), sharey=True, squeeze=False)
    for row, (encoder, blocks) in enumerate(settings.items()):
        for column, target in enumerate(targets):
            ax = grid[row, column]
            ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            for training in map(str, result.training.values):
                _draw_line(ax, [correlation_at(result, name, training, target) for name in blocks.values()], training)
            key = {"target": target, "measure": "SPC", "images": "natural", "training": "natural"}
            published = result.published.sel({**key, "setting": list(blocks.values()), "readout": "descent"}).values
            ax.plot(published, "D:", color=_PUBLISHED, markersize=4, fillstyle="none", label="published")
            ax.set_xticks(range(len(blocks)), list(blocks), parse_math=False)
            ax.set_ylim(*_CORRELATIONS)
            if row == 0:
                ax.set_title(target, fontsize="medium")
            sns.despine(ax=ax)
        grid[row, 0].set_ylabel(f"{encoder}\ncorrelation (SPC)", parse_math=False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_line(ax: Axes, estimates: Sequence[Estimate], training: str) -> None:
    means = np.array([item.mean for item in estimates])
    below, above = bars(estimates)
    colour = STIMULUS_COLOURS[training]
    ax.plot(means, ".-", color=colour, label=training)
    ax.fill_between(range(len(means)), means - below, means + above, color=colour, alpha=0.2, linewidth=0)


def draw_readouts(result: xr.Dataset) -> Figure:
    """Draw the closed form against gradient descent, and the time that both took."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
    for training in map(str, result.training.values):
        pairs = [
            scores.sel(measure="SPC").mean("seed") for _, name, _, scores in fitted_twice(result) if name == training
        ]
        points = [(float(item.sel(readout="descent")), float(item.sel(readout="closed form"))) for item in pairs]
        left.plot(*np.array(points).T, ".", color=STIMULUS_COLOURS[training], label=training)
    left.set(xlabel="correlation, gradient descent", ylabel="correlation, closed form", aspect="equal")
    left.legend(frameon=False, title="fitted to, tested on")
    both = result.seconds.mean("training").dropna("setting", how="any")
    names = [str(name) for name in both.setting.values]
    for readout, colour in _READOUT_COLOURS.items():
        right.plot(both.sel(readout=readout).values, range(len(names)), "o", color=colour, label=readout)
    right.set(xscale="log" if (both > 0).any() else "linear", xlabel="seconds", ylim=(len(names) - 0.5, -0.5))
    right.xaxis.set_minor_formatter(NullFormatter())
    right.set_yticks(range(len(names)), names, fontsize="x-small", parse_math=False)
    right.grid(axis="y", color="0.92")
    right.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    for ax in (left, right):
        sns.despine(ax=ax)
    return figure


def draw_maps(result: xr.Dataset) -> Figure:
    """Draw what was read beside what was to be read."""
    maps = result.mean_map.sel(images="natural")
    rows = [
        (f"{encoder}\n{readout}", maps.sel(encoder=encoder, readout=readout))
        for encoder in map(str, result.encoder.values)
        for readout in map(str, result.readout.values)
        if maps.sel(encoder=encoder, readout=readout).notnull().any()
    ]
    rows.insert(0, ("to be read", result.true_map))
    targets = [str(target) for target in result.target.values]
    figure = Figure(figsize=(_MAP * len(targets) + 2.0, (_MAP + 0.05) * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), len(targets), squeeze=False)
    for row, (label, read) in enumerate(rows):
        for column, target in enumerate(targets):
            ax = grid[row, column]
            values = read.isel(target=column).values
            image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(target, fontsize="medium")
        grid[row, 0].set_ylabel(label, fontsize="small", parse_math=False)
    figure.colorbar(image, ax=grid.ravel().tolist(), label="value of the map", aspect=30)
    return figure
