"""The scores of the regions of the images, of the model as it is and with position erased."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.intervals import half_width
from probe.plots.axes import RESULT_COLOURS
from probe.plots.erasing import METHOD_NAMES, degrees
from probe.reports.page.erasures import score_name, told_first
from probe.reports.page.estimates import Estimate
from probe.reports.page.legends import move_legend_above

__all__ = ["draw_regions", "regions_of", "regions_table"]

_WHOLE = "whole image"
_ASIDE = 0.16  # of the room of a region, so that the models do not hide each other
_OWN, _RANDOM = "#000000", "0.45"


@dataclass(frozen=True)
class _Series:
    """What becomes of each region under one name: its scores, shape (region,), and the ends of their bars."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colour: str
    marker: str


def regions_of(curve: xr.Dataset) -> dict[str, str]:
    """Return the score of each region of the images, of the first score that has regions; the whole image first.

    Examples
    --------
    >>> regions_of(xr.Dataset(coords={"score": ["miou", "miou:left", "miou:right"]}))
    {'whole image': 'miou', 'left': 'miou:left', 'right': 'miou:right'}
    >>> regions_of(xr.Dataset(coords={"score": ["accuracy"]}))
    {}
    """
    names = [str(name) for name in curve.score.values]
    base = next((name.partition(":")[0] for name in names if ":" in name), "")
    found = {name.partition(":")[2]: name for name in names if name.startswith(f"{base}:")}
    return ({_WHOLE: base} if base in names else {}) | found if base else {}


def _series(curve: xr.Dataset) -> dict[str, _Series]:
    at = curve.sel(score=list(regions_of(curve).values()))
    n_folds = degrees(curve, "score") if "eraser" in curve.dims else int(curve.attrs["folds"]) - 1

    def estimated(one: xr.Dataset, name: str, colour: str, marker: str) -> _Series:
        half = half_width(one[f"{name}_se"].values, n_folds)
        return _Series(one[name].values, one[name].values - half, one[name].values + half, colour, marker)

    found = {"as it is": estimated(at, "intact", _OWN, "o")}
    if "eraser" not in curve.dims:
        return found
    first = at.isel(eraser=told_first(curve))
    rank = int(first.n_directions)
    name = f"{METHOD_NAMES[str(first.method.item())]}, {rank} directions erased"
    found[name] = estimated(first, "erased", RESULT_COLOURS[1], "s")
    if "random" in curve and rank in curve["rank"].values:
        draws = at["random"].sel(rank=rank)
        ends = (draws.mean("draw").values, draws.min("draw").values, draws.max("draw").values)
        found[f"{rank} random directions erased"] = _Series(*ends, _RANDOM, "D")
    return found


def draw_regions(curve: xr.Dataset) -> Figure:
    """Draw the score of each region."""
    regions, series = list(regions_of(curve)), _series(curve)
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(regions))
    for number, (name, one) in enumerate(series.items()):
        aside = _ASIDE * (2 * number - len(series) + 1) / 2
        ends = np.abs(np.stack([one.low, one.high]) - one.values)
        ax.errorbar(places + aside, one.values, ends, fmt=one.marker, color=one.colour, capsize=3, label=name)
    ax.set_xticks(places, regions)
    ax.set_xlim(-0.5, len(regions) - 0.5)
    ax.set_ylabel(score_name(next(iter(regions_of(curve).values())).partition(":")[0]))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    move_legend_above(figure, np.array([ax]))
    return figure


def regions_table(curve: xr.Dataset) -> pd.DataFrame:
    """Return the same numbers."""
    regions, series = list(regions_of(curve)), _series(curve)
    rows = [
        {"region": region, **{name: _written(one, number) for name, one in series.items()}}
        for number, region in enumerate(regions)
    ]
    return pd.DataFrame(rows)


def _written(one: _Series, number: int) -> Estimate:
    value, high = float(one.values[number]), float(one.high[number])
    return Estimate(value, max(high - value, value - float(one.low[number])), int(np.isfinite(value)))
