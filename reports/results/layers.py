"""What the pages of results by layer say and show: readouts of position, and of the cell from pooled features."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.maps import plot_maps, shape_of_panels
from probe.plots.pooling import plot_pooled
from probe.plots.position import plot_layers
from probe.reports.page.estimates import Estimate, interval
from probe.reports.page.position import best_read, is_told, position

__all__ = [
    "pooled_figures",
    "pooled_findings",
    "pooled_table",
    "position_figures",
    "position_findings",
    "position_table",
]

_POSITION = ("row", "column")
_WIDTH = 8.0  # inches
_COLUMNS = {"r2_null": "R² shuffled", "r2_control": "R² other maps"}
_PERCENT = (0.0, 100.0)


def position_findings(result: xr.Dataset) -> list[str]:
    """Say for each stimulus where position is read best."""
    targets = [name for name in map(str, result.target.values) if name in _POSITION] or [str(result.target.values[0])]
    what = "position (mean of row and column)" if len(targets) == 2 else targets[0]
    read = {what: targets}
    if "frame" in result.target.values and targets != ["frame"]:
        read["the frame"] = ["frame"]
    return [
        _peak(result.sel(stimulus=stimulus, target=chosen), str(stimulus), told)
        for stimulus in result.stimulus.values
        for told, chosen in read.items()
    ]


def _peak(chosen: xr.Dataset, stimulus: str, what: str) -> str:
    scores = {str(layer): position(chosen.sel(layer=layer)) for layer in chosen.layer.values}
    known = {layer: score for layer, score in scores.items() if score.is_known}
    if not known:
        return f"On {stimulus} images no layer could be scored."
    layer = best_read(known)
    if not layer:
        return f"On {stimulus} images, where {what} is read best is not known from so few images: all errors are large."
    if not known[layer].is_present:
        highest = f"the highest R² is {known[layer]}, of {layer}"
        return f"On {stimulus} images no layer tells {what} beyond its error; {highest}."
    return (
        f"On {stimulus} images {what} is read best from {layer}: R² {known[layer]}, the highest "
        f"of {len(known)} layers{_untold(known)}."
    )


def _untold(known: Mapping[str, Estimate]) -> str:
    n_untold = sum(not is_told(score) for score in known.values())
    return f", {n_untold} of which cannot be told from so few images" if n_untold else ""


def position_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the readouts by layer, and the maps that were kept."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    plot_layers(result, figure.subplots())
    yield figure, "How well position can be read from each layer, with 95 % intervals over images."
    for name, variable in result.data_vars.items():
        if str(name).startswith("decoded_map_") and variable.ndim in (4, 5):
            layer = str(variable.attrs["layer"])
            shape = shape_of_panels(variable)
            side = 2.2 if variable.ndim == 4 else 1.2
            figure = Figure(figsize=(side * shape[1] + 1, side * shape[0]), layout="constrained")
            plot_maps(result, layer, figure.subplots(*shape, squeeze=False), kind="decoded")
            yield figure, f"What the readouts of {layer} decode from the mean activation at each cell."


def position_table(result: xr.Dataset) -> pd.DataFrame:
    """Return every readout."""
    rows = []
    for layer in result.layer.values:
        for stimulus in result.stimulus.values:
            for target in result.target.values:
                at = result.sel(layer=layer, stimulus=stimulus, target=target)
                row = {"layer": str(layer), "stimulus": str(stimulus), "target": str(target)}
                r2 = interval(float(at.r2), float(at.r2_se), degrees=result.sizes["fold"] - 1)
                others = {name: float(at[name]) for name in ("r2_null", "r2_control", "bits") if name in result}
                others = {_COLUMNS.get(name, name): value for name, value in others.items()}
                samples = {"samples a channel": np.round(float(at.samples_per_feature))} if _has_samples(result) else {}
                rows.append({**row, "R²": r2, **others, **samples})
    # Of a layer that could not be scored their number is not known.
    return pd.DataFrame(rows).astype({"samples a channel": "Int64"} if _has_samples(result) else {})


def _has_samples(result: xr.Dataset) -> bool:
    return "samples_per_feature" in result.coords


def pooled_findings(result: xr.Dataset) -> list[str]:
    """Say for each readout which layer tells the cell best, beside chance."""
    chance = float(result.chance)
    sentences = []
    for readout in map(str, result.readout.values):
        scores = {str(layer): _accuracy(result.sel(layer=layer, readout=readout)) for layer in result.layer.values}
        known = {layer: score for layer, score in scores.items() if score.is_known}
        named = readout.replace("_", " ")
        if not known:
            sentences.append(f"Readout {named}: no layer could be scored.")
            continue
        layer = max(known, key=lambda name: known[name].mean)
        score = known[layer].formatted(decimals=1)
        beyond = "" if known[layer].low > 100 * chance else ", which is not above chance beyond its error"
        sentences.append(
            f"Readout {named}: the cell is told best from {layer}, of {score} % of held-out images "
            f"(chance {100 * chance:.1f} %){beyond}."
        )
    return sentences


def _accuracy(at: xr.Dataset) -> Estimate:
    share, low, high = (100 * float(at[name]) for name in ("accuracy", "accuracy_low", "accuracy_high"))
    return Estimate(share, max(high - share, share - low), int(np.isfinite(share)), within=_PERCENT)


def pooled_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw how often the cell is told from the averages of each layer."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    plot_pooled(result, figure.subplots())
    yield figure, "Share of held-out images whose cell is told from the averages of each layer, with 95 % intervals."


def pooled_table(result: xr.Dataset) -> pd.DataFrame:
    """Return the accuracy of every readout of every layer."""
    return pd.DataFrame(
        [
            {
                "layer": str(layer),
                **{
                    f"{readout} (%)".replace("_", " "): _accuracy(result.sel(layer=layer, readout=readout))
                    for readout in map(str, result.readout.values)
                },
            }
            for layer in result.layer.values
        ]
    )
