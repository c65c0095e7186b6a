"""The numbers that the padding report states: means over training seeds, with their intervals."""

import xarray as xr

from probe.reports.page.estimates import Estimate, estimate

__all__ = ["content_part", "focus_layer", "padding_estimates", "position_r2"]


def padding_estimates(values: xr.DataArray) -> dict[str, Estimate]:
    """Return the estimate over seeds of each padding, from values on (padding, seed)."""
    return {str(padding): estimate(values.sel(padding=padding).values) for padding in values.padding.values}


def focus_layer(result: xr.Dataset) -> str:
    """Return the layer that the findings speak of: the deepest one that is scored under every padding.

    Where there is none, the deepest one that is scored under any.
    """
    scored = result.r2.sel(training="trained", stimulus="rolled").notnull().all("target").any("seed")
    for everywhere in (scored.all("padding"), scored.any("padding")):
        if everywhere.any():
            return str(result.layer.values[everywhere.values][-1])
    return str(result.layer.values[-1])


def position_r2(result: xr.Dataset) -> xr.DataArray:
    """Return the R² of position, the mean of row and column, on (padding, seed, training, layer, stimulus)."""
    return result.r2.mean("target", skipna=False)


def content_part(result: xr.Dataset) -> xr.DataArray:
    """Return what content adds to the R² of position: natural − rolled, on (padding, seed, training, layer, fold).

    Both stimuli are made from the same images in the same folds, so the difference is taken within each fold.
    """
    by_fold = result.r2_fold.mean("target", skipna=False)
    return by_fold.sel(stimulus="natural", drop=True) - by_fold.sel(stimulus="rolled", drop=True)
