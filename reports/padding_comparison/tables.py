"""The tables of the padding report."""

import pandas as pd
import xarray as xr

from probe.reports.padding_comparison.estimates import content_part, padding_estimates, position_r2
from probe.reports.page.estimates import estimate

__all__ = ["channel_table", "depth_table", "network_table", "overview_table"]

_SCORES = ["r2", "r2_se", "r2_null", "r2_control", "bits"]


def overview_table(result: xr.Dataset, layer: str) -> pd.DataFrame:
    """Return the main numbers of each padding at a layer: mean and half width over seeds."""
    r2 = position_r2(result).sel(layer=layer)
    columns = {
        "R² natural": r2.sel(training="trained", stimulus="natural"),
        "R² rolled": r2.sel(training="trained", stimulus="rolled"),
        "natural − rolled": content_part(result).sel(layer=layer, training="trained").mean("fold"),
    }
    if "untrained" in result.training:
        columns["R² rolled, untrained"] = r2.sel(training="untrained", stimulus="rolled")
    columns |= {name: result[name] for name in ("accuracy", "agreement") if name in result}
    table = pd.DataFrame({"padding": [str(padding) for padding in result.padding.values]})
    for name, values in columns.items():
        estimates = list(padding_estimates(values).values())
        table[name] = [each.mean for each in estimates]
        if result.sizes["seed"] > 1:
            table[f"± {name}"] = [each.half_width for each in estimates]
    return table


def depth_table(result: xr.Dataset) -> pd.DataFrame:
    """Return what the lines by depth show: mean and half width over seeds."""
    r2 = position_r2(result)
    rows = []
    for place in r2.isel(seed=0, drop=True).stack(row=("padding", "training", "layer", "stimulus")).row.values:
        padding, training, layer, stimulus = map(str, place)
        each = estimate(r2.sel(padding=padding, training=training, layer=layer, stimulus=stimulus).values)
        if each.is_known:
            rows.append((padding, training, layer, stimulus, each.mean, each.half_width))
    return pd.DataFrame(rows, columns=["padding", "training", "layer", "stimulus", "R² of position", "±"])


def network_table(result: xr.Dataset) -> pd.DataFrame:
    """Return every score of every network in long form."""
    table = result[_SCORES].to_dataframe(dim_order=["padding", "seed", "training", "layer", "stimulus", "target"])
    known = table.dropna(subset="r2").reset_index()
    keys = ["padding", "seed", "training", "layer", "stimulus", "target"]
    return known[[*keys, *_SCORES, "height", "width", "samples_per_feature"]]


def channel_table(result: xr.Dataset) -> pd.DataFrame:
    """Return how ω² is spread over the channels of each layer, of the trained networks of all seeds."""
    omega2 = result.omega2.sel(training="trained", drop=True).to_dataframe().reset_index().dropna(subset="omega2")
    groups = omega2.rename(columns={"channel_layer": "layer"}).groupby(["padding", "layer", "stimulus"], sort=False)
    return groups.omega2.agg(median="median", highest="max", channels="size").reset_index()
