"""The numbers that the padding report states: of several networks over seeds, of one given network over images."""

import numpy as np
import xarray as xr

from probe.reports.page.estimates import Estimate, estimate, interval
from probe.reports.page.position import position, position_change
from probe.reports.page.provenance import json_attribute

__all__ = [
    "broken",
    "content_estimates",
    "content_part",
    "focus_layer",
    "is_given",
    "own_padding",
    "padding_estimates",
    "position_difference",
    "position_estimate",
    "position_estimates",
    "position_r2",
    "unbroken",
]

_LEAST_SHARE = 0.5  # of the intact score


def is_given(result: xr.Dataset) -> bool:
    """Whether the same weights ran under every padding, in place of networks that were trained with each."""
    return result.attrs.get("networks") == "given"


def own_padding(result: xr.Dataset) -> str | None:
    """Return the padding that a given model comes with, if it is one of those compared."""
    own = str(result.attrs.get("own_padding", ""))
    return own if is_given(result) and own in result.padding else None


def broken(result: xr.Dataset) -> dict[str, str]:
    """Return the paddings under which a given model does its task no more, each with the reason.

    Judged by accuracy where it is known and the model as it is beats a constant answer, else by how many predictions
    are those of the model as it is: below half of the intact score, or within the error of a constant answer.
    """
    judged_by = _judge(result)
    if judged_by is None:
        return {}
    intact, floor = _known(result, "intact")[judged_by], _floor(result, judged_by)
    name = judged_by.replace("_", " ")
    found = {}
    for padding in map(str, result.padding.values):
        score = float(result[judged_by].sel(padding=padding).mean())
        if padding == own_padding(result) or not np.isfinite(score):
            continue
        if score < _LEAST_SHARE * intact:
            found[padding] = f"{name} {100 * score:.0f} %, less than half of {100 * intact:.0f} %"
        elif score < floor:
            found[padding] = f"{name} {100 * score:.0f} %, not above a constant answer beyond error"
    return found


def _judge(result: xr.Dataset) -> str | None:
    if not is_given(result):
        return None
    intact = _known(result, "intact")
    for name in ("accuracy", "agreement_with_own"):
        if name in result and name in intact and intact[name] > _floor(result, name):
            return name
    return None


def _floor(result: xr.Dataset, name: str) -> float:
    """Return what a constant answer gets, with the error of the images that are counted."""
    chance, count = _known(result, "chance").get(name, 0.0), int(result.attrs.get("n_images", 0))
    if count < 2:
        return chance
    return chance + interval(0, float(np.sqrt(chance * (1 - chance) / count)), degrees=count - 1).half_width


def _known(result: xr.Dataset, name: str) -> dict[str, float]:
    return {key: float(value) for key, value in json_attribute(result, name).items()}


def unbroken(result: xr.Dataset) -> xr.Dataset:
    """Return the result without the paddings under which a given model does its task no more."""
    lost = broken(result)
    return result.sel(padding=[padding for padding in result.padding.values if str(padding) not in lost])


def padding_estimates(values: xr.DataArray) -> dict[str, Estimate]:
    """Return the estimate over seeds of each padding, from values on (padding, seed)."""
    return {str(padding): estimate(values.sel(padding=padding).values) for padding in values.padding.values}


def position_estimates(result: xr.Dataset, *, layer: str, stimulus: str, training: str) -> dict[str, Estimate]:
    """Return the R² of position of each padding, the mean of row and column."""
    chosen = result.sel(layer=layer, stimulus=stimulus, training=training)
    return {str(padding): position_estimate(chosen.sel(padding=padding)) for padding in result.padding.values}


def position_estimate(chosen: xr.Dataset) -> Estimate:
    """Return R² on (seed, target): over seeds, or of a given network with the error over folds of images."""
    if not is_given(chosen):
        return estimate(position_r2(chosen).values)
    return position(chosen.isel(seed=0))


def position_difference(first: xr.Dataset, second: xr.Dataset) -> Estimate:
    """Return the first − the second R² on (seed, target), paired by seed, or of a given network by folds of images."""
    if not is_given(first):
        return estimate((position_r2(first) - position_r2(second)).values)
    return position_change(first.isel(seed=0), second.isel(seed=0))


def content_estimates(result: xr.Dataset, layer: str) -> dict[str, Estimate]:
    """Return what content adds to the R² of position of each padding: natural − rolled."""
    chosen = result.sel(layer=layer, training="trained")
    return {
        str(padding): position_difference(
            *(chosen.sel(padding=padding, stimulus=stimulus, drop=True) for stimulus in ("natural", "rolled"))
        )
        for padding in result.padding.values
    }


def focus_layer(result: xr.Dataset) -> str:
    """Return the layer that the findings speak of: where position is read best from rolled images.

    Of the layers that every padding has: where the highest of the R² of the paddings, under which a given model still
    does its task, is largest. The last of equals.
    """
    rolled = position_r2(unbroken(result).sel(training="trained", stimulus="rolled")).mean("seed")
    everywhere = rolled.notnull().all("padding")
    layers = everywhere if everywhere.any() else rolled.notnull().any("padding")
    if not layers.any():
        return str(result.layer.values[-1])
    highest = rolled.max("padding").where(layers, -np.inf).values
    return str(result.layer.values[np.flatnonzero(highest == highest.max())[-1]])


def position_r2(result: xr.Dataset) -> xr.DataArray:
    """Return the R² of position, the mean of row and column, on all other dims of ``r2``."""
    return result.r2.mean("target", skipna=False)


def content_part(result: xr.Dataset) -> xr.DataArray:
    """Return what content adds to the R² of position: natural − rolled, on (padding, seed, training, layer, fold).

    Both stimuli are made from the same images in the same folds, so the difference is taken within each fold.
    """
    by_fold = result.r2_fold.mean("target", skipna=False)
    return by_fold.sel(stimulus="natural", drop=True) - by_fold.sel(stimulus="rolled", drop=True)
