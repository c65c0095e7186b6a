"""What the page of the study rook shows."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.maps import draw_map
from probe.reports.page.document import Report
from probe.reports.page.estimates import joined

__all__ = ["add_figures", "findings"]

_SIDE = 1.15  # inches of a map
_MOST_SEEDS = 8
_RIGHT, _CHANCE = 100.0, 50.0
_ROUNDING = 1e-4  # of the largest response
_BLIND = ("circular", "full")


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    return [sentence for sentence in (_told_apart(result), _blind(result), _missed(result)) if sentence]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the learned filters, the maps by epoch, and the last maps of every padding."""
    section = report.add_section("What the convolution learned")
    section.add_figure(
        _draw_filters(result),
        caption="The learned filters, each on its own scale, which is symmetric about 0 (white).",
        alt=f"Filters, a column for each padding, a row for each seed. Largest weights: {_largest_weights(result)}.",
    )
    section = report.add_section("Maps by epoch")
    for number in range(result.sizes["padding"]):
        maps = result[f"map_{number}"]
        section.add_figure(
            _draw_history(maps),
            caption=f"Map after ReLU of the first network with {maps.attrs['padding']} padding, for the rook in each "
            "corner, by epoch of training. Only its largest value reaches the classes. All on one scale.",
            alt=f"Maps by epoch. Largest value, {joined(map(str, maps.label.values))}: {_largest_values(maps)}.",
        )


def _told_apart(result: xr.Dataset) -> str:
    right, known = (result.here_by_seed == _RIGHT).sum("seed"), int(result.here_by_seed.notnull().sum())
    counts = [f"{p} {int(right.sel(padding=p))}" for p in _paddings(result) if right.sel(padding=p) > 0]
    if not counts:
        return f"None of the {known} networks tells the two corners apart."
    published = result.published.dropna("padding")
    phrase = "; ".join(f"{p.item()} {float(published.sel(padding=p)):.0f} %" for p in published.padding)
    return (
        f"Of {result.sizes['seed']} networks of one convolution for each padding so many tell the two corners apart: "
        f"{joined(counts)} (published: {phrase or 'nothing'})."
    )


def _blind(result: xr.Dataset) -> str:
    """Say where theory expects no difference between the corners, and whether there is one."""
    measured = (result.here_by_seed.notnull() & result.response.notnull().all("label")).any("seed")
    expected = [padding for padding in _paddings(result) if padding in _BLIND and measured.sel(padding=padding)]
    found = [padding for padding in expected if _is_blind(result.sel(padding=padding))]
    others = [padding for padding in expected if padding not in found]
    sentences = []
    if found:
        sentences.append(
            f"Under {joined(found)} padding the maps of the two images are moved copies of each other, as theory says: "
            f"{_differing(result, found)}, and the accuracy is that of chance: {_accuracies(result, found)}."
        )
    if others:
        sentences.append(
            f"Theory says that under {joined(others)} padding the maps of the two images are moved copies of each "
            f"other, but here they are not, or not only: {_differing(result, others)}, and the accuracy, by chance "
            f"{_CHANCE:.0f} %, is {_accuracies(result, others)}."
        )
    return " ".join(sentences)


def _is_blind(of_padding: xr.Dataset) -> bool:
    """Whether no network tells the corners apart, by its response or by its classes."""
    largest = float(of_padding.response.max())
    is_equal = bool(np.abs(of_padding.response.diff("label")).max() <= _ROUNDING * largest)
    accuracy = of_padding.here_by_seed.dropna("seed")
    return is_equal and bool((accuracy == _CHANCE).all())


def _differing(result: xr.Dataset, paddings: list[str]) -> str:
    largest = float(np.abs(result.response.sel(padding=paddings).diff("label")).max())
    return f"their maxima differ by at most {largest:.2g}"


def _accuracies(result: xr.Dataset, paddings: list[str]) -> str:
    return joined(f"{float(result.here.sel(padding=padding)):.0f} % ({padding})" for padding in paddings)


def _missed(result: xr.Dataset) -> str:
    """Say how many networks that could learn it, in theory, did not, and whether others of their padding did."""
    able = result.sel(padding=[p for p in _paddings(result) if p not in _BLIND])
    missed = able.here_by_seed < _RIGHT
    if not missed.any():
        return ""
    silent = int((missed & (able.response == 0).all("label")).sum())
    learned = (able.here_by_seed == _RIGHT).any("seed")
    some = [p for p in _paddings(able) if missed.sel(padding=p).any() and learned.sel(padding=p)]
    none = [p for p in _paddings(able) if p not in some and missed.sel(padding=p).any()]
    sentences = [
        f"{int(missed.sum())} of {int(able.here_by_seed.notnull().sum())} networks whose border could tell the "
        "corners, in theory, did not learn it"
        + (f": {silent} of them have a filter that gives 0 everywhere, and so learns no more." if silent else ".")
    ]
    if some:
        sentences.append(f"Under {joined(some)} others did, which differ from them in their first weights alone.")
    if none:
        sentences.append(f"Under {joined(none)} none did, so that its border tells the corners is not shown here.")
    return " ".join(sentences)


def _paddings(result: xr.Dataset) -> list[str]:
    return [str(padding) for padding in result.padding.values]


def _largest_weights(result: xr.Dataset) -> str:
    largest = abs(result["filter"]).max(["seed", "tap_row", "tap_column"])
    return "; ".join(f"{p} {float(largest.sel(padding=p)):.2f}" for p in _paddings(result))


def _largest_values(maps: xr.DataArray) -> str:
    largest = maps.max(maps.dims[-2:])
    return "; ".join(
        f"epoch {epoch} {joined(f'{value:.2f}' for value in largest.sel(epoch=epoch).values)}"
        for epoch in maps.epoch.values
    )


def _draw_filters(result: xr.Dataset) -> Figure:
    paddings, seeds = _paddings(result), result["seed"].values[:_MOST_SEEDS]
    figure = Figure(figsize=(_SIDE * len(paddings) + 0.6, _SIDE * len(seeds) + 0.3), layout="constrained")
    grid = figure.subplots(len(seeds), len(paddings), squeeze=False)
    for row, seed in enumerate(seeds):
        for column, padding in enumerate(paddings):
            weights = result["filter"].sel(padding=padding, seed=seed).values
            draw_map(grid[row, column], weights, float(np.nanmax(np.abs(weights), initial=0)) or 1.0)
            if row == 0:
                grid[row, column].set_title(padding, fontsize="medium", parse_math=False)
        grid[row, 0].set_ylabel(f"seed {seed}")
    return figure


def _draw_history(maps: xr.DataArray) -> Figure:
    n_labels, n_epochs = maps.sizes["label"], maps.sizes["epoch"]
    figure = Figure(figsize=(_SIDE * n_epochs + 1.4, _SIDE * n_labels + 0.3), layout="constrained")
    grid = figure.subplots(n_labels, n_epochs, squeeze=False)
    largest = float(np.nanmax(maps.values, initial=0)) or 1.0
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
