"""What the page of the study rook shows."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from probe.plots import draw_map
from reports.document import Report
from reports.padding_findings import listed

__all__ = ["add_figures", "findings"]

_SIDE = 1.15  # inches of a map
_MOST_SEEDS = 8
_RIGHT = 100.0
_BLIND = ("circular", "full")


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    return [sentence for sentence in (_told_apart(result), _blind(result), _missed(result)) if sentence]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the learned filters, the maps by epoch, and the last maps of every padding."""
    section = report.add_section("What the convolution learned")
    section.add_figure(
        _draw_filters(result),
        caption="The learned filters, each on its own scale, which is symmetric about 0 (white). Red: positive.",
        alt=f"Filters, a row for each padding, a column for each seed. Largest weights: {_largest_weights(result)}.",
    )
    section = report.add_section("Maps by epoch")
    for number in range(result.sizes["padding"]):
        maps = result[f"map_{number}"]
        section.add_figure(
            _draw_history(maps),
            caption=f"Map after ReLU of the first network with {maps.attrs['padding']} padding, for the rook in each "
            "corner, by epoch of training. Only its largest value reaches the classes. All on one scale.",
            alt=f"Maps by epoch. Largest value, {listed(map(str, maps.label.values))}: {_largest_values(maps)}.",
        )


def _told_apart(result: xr.Dataset) -> str:
    right = (result.here_by_seed == _RIGHT).sum("seed")
    counts = [f"{p} {int(right.sel(padding=p))}" for p in _paddings(result) if right.sel(padding=p) > 0]
    if not counts:
        return "No network tells the two corners apart."
    published = result.published.dropna("padding")
    spoken = "; ".join(f"{p.item()} {float(published.sel(padding=p)):.0f} %" for p in published.padding)
    return (
        f"Of {result.sizes['seed']} networks of one convolution for each padding so many tell the two corners apart: "
        f"{listed(counts)} (published: {spoken or 'nothing'})."
    )


def _blind(result: xr.Dataset) -> str:
    difference = np.abs(result.response.diff("label")).max(["label", "seed"])
    blind = [p for p in _paddings(result) if p in _BLIND]
    if not blind:
        return ""
    largest = float(difference.sel(padding=blind).max())
    accuracy = listed(f"{float(result.here.sel(padding=p)):.0f} % ({p})" for p in blind)
    return (
        f"Under {listed(blind)} padding the maps of the two images are moved copies of each other, as theory says: "
        f"their maxima differ by at most {largest:.1g}, and the accuracy is that of chance: {accuracy}."
    )


def _missed(result: xr.Dataset) -> str:
    able = result.sel(padding=[p for p in _paddings(result) if p not in _BLIND])
    missed = able.here_by_seed < _RIGHT
    if not missed.any():
        return ""
    silent = int((missed & (able.response == 0).all("label")).sum())
    return (
        f"{int(missed.sum())} of {missed.size} networks whose border would let them did not learn it: {silent} of them "
        "have a filter that fell silent, which gives 0 everywhere and learns no more; the others were still undecided. "
        "This is a matter of the first weights, not of the border, and 5 runs are too few to see it."
    )


def _paddings(result: xr.Dataset) -> list[str]:
    return [str(padding) for padding in result.padding.values]


def _largest_weights(result: xr.Dataset) -> str:
    largest = abs(result["filter"]).max(["seed", "tap_row", "tap_column"])
    return "; ".join(f"{p} {float(largest.sel(padding=p)):.2f}" for p in _paddings(result))


def _largest_values(maps: xr.DataArray) -> str:
    largest = maps.max(maps.dims[-2:])
    return "; ".join(
        f"epoch {epoch} {listed(f'{value:.2f}' for value in largest.sel(epoch=epoch).values)}"
        for epoch in maps.epoch.values
    )


def _draw_filters(result: xr.Dataset) -> Figure:
    paddings, seeds = _paddings(result), result["seed"].values[:_MOST_SEEDS]
    figure = Figure(figsize=(_SIDE * len(seeds) + 0.6, _SIDE * len(paddings)), layout="constrained")
    grid = figure.subplots(len(paddings), len(seeds), squeeze=False)
    for row, padding in enumerate(paddings):
        for column, seed in enumerate(seeds):
            weights = result["filter"].sel(padding=padding, seed=seed).values
            draw_map(grid[row, column], weights, float(np.abs(weights).max()))
            if row == 0:
                grid[row, column].set_title(f"seed {seed}", fontsize="medium")
        grid[row, 0].set_ylabel(padding, parse_math=False)
    return figure


def _draw_history(maps: xr.DataArray) -> Figure:
    n_labels, n_epochs = maps.sizes["label"], maps.sizes["epoch"]
    figure = Figure(figsize=(_SIDE * n_epochs + 1.4, _SIDE * n_labels + 0.3), layout="constrained")
    grid = figure.subplots(n_labels, n_epochs, squeeze=False)
    largest = float(maps.max()) or 1.0
    for row, label in enumerate(maps.label.values):
        for column, epoch in enumerate(maps.epoch.values):
            ax = grid[row, column]
            image = ax.imshow(maps.sel(label=label, epoch=epoch), cmap="viridis", vmin=0, vmax=largest)
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(f"epoch {epoch}", fontsize="medium")
        grid[row, 0].set_ylabel(str(label), fontsize="small", parse_math=False)
    figure.colorbar(image, ax=grid.ravel().tolist(), label="activation")
    return figure
