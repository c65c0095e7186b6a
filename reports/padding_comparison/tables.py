"""The tables of the padding report."""

import pandas as pd
import xarray as xr

from probe.reports.padding_comparison.estimates import (
    broken,
    content_estimates,
    is_given,
    own_padding,
    padding_estimates,
    position_estimate,
    position_estimates,
)

__all__ = ["channel_table", "depth_table", "network_table", "overview_table"]

_SCORES = ["r2", "r2_se", "r2_null", "r2_control", "bits"]
_SHARES = {
    "accuracy": "accuracy",
    "agreement_with_own": "predictions as its own",
    "commonest_share": "in one class",
    "agreement": "agreement at two placements",
}


def overview_table(result: xr.Dataset, layer: str) -> pd.DataFrame:
    """Return the main numbers of each padding at a layer."""
    columns = {
        f"R² {stimulus}": position_estimates(result, layer=layer, stimulus=stimulus, training="trained")
        for stimulus in map(str, result.stimulus.values)
    }
    columns["natural − rolled"] = content_estimates(result, layer)
    if "untrained" in result.training:
        columns["R² rolled, untrained"] = position_estimates(
            result, layer=layer, stimulus="rolled", training="untrained"
        )
    columns |= {phrase: padding_estimates(result[name]) for name, phrase in _SHARES.items() if name in result}
    table = pd.DataFrame({"padding": [str(padding) for padding in result.padding.values]})
    if is_given(result):
        lost, own = broken(result), own_padding(result)
        table["ranked"] = ["no" if p in lost else "own" if p == own else "yes" for p in table.padding]
    for name, estimates in columns.items():
        table[name] = pd.Series(list(estimates.values()), dtype=object)
    return table


def depth_table(result: xr.Dataset) -> pd.DataFrame:
    """Return what the lines by depth show."""
    rows = []
    for place in (
        result.r2.isel(seed=0, target=0, drop=True).stack(row=("padding", "training", "layer", "stimulus")).row
    ):
        padding, training, layer, stimulus = map(str, place.item())
        found = position_estimate(result.sel(padding=padding, training=training, layer=layer, stimulus=stimulus))
        if found.is_known:
            rows.append((padding, training, layer, stimulus, found))
    table = pd.DataFrame(rows, columns=["padding", "training", "layer", "stimulus", "R² of position"])
    return _without_constants(table, result)


def network_table(result: xr.Dataset) -> pd.DataFrame:
    """Return every score of every network in long form."""
    table = result[_SCORES].to_dataframe(dim_order=["padding", "seed", "training", "layer", "stimulus", "target"])
    known = table.dropna(subset="r2").reset_index()
    keys = ["padding", "seed", "training", "layer", "stimulus", "target"]
    return _without_constants(known[[*keys, *_SCORES, "height", "width", "samples_per_feature"]], result)


def _without_constants(table: pd.DataFrame, result: xr.Dataset) -> pd.DataFrame:
    """Leave out what a given network has but one of: the seed, and training where there is no untrained twin."""
    if not is_given(result):
        return table
    spare = ["seed"] if result.sizes["training"] > 1 else ["seed", "training"]
    return table.drop(columns=[name for name in spare if name in table])


def channel_table(result: xr.Dataset) -> pd.DataFrame:
    """Return how ω² is spread over the channels of each layer, of the trained networks of all seeds."""
    omega2 = result.omega2.sel(training="trained", drop=True).to_dataframe().reset_index().dropna(subset="omega2")
    groups = omega2.rename(columns={"channel_layer": "layer"}).groupby(["padding", "layer", "stimulus"], sort=False)
    return groups.omega2.agg(median="median", highest="max", channels="size").reset_index()
