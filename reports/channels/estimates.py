"""The numbers that the channel report states besides what removing channels does: position, before and after."""

from typing import Literal

import xarray as xr

from probe.reports.page.estimates import Estimate
from probe.reports.page.position import position as of_network

__all__ = ["later_layers", "main_ranking", "position"]


def main_ranking(result: xr.Dataset) -> str:
    """Return the ranking whose channels are shown and read without: the first."""
    return str(result.ranking.values[0])


def position(result: xr.Dataset, layer: str, stimulus: str, *, removed: Literal["nothing", "ranked"]) -> Estimate:
    """Return the R² of position, the mean of row and column, at a layer, with the 95 % interval over images."""
    return of_network(result.sel(layer=layer, stimulus=stimulus, removed=removed))


def later_layers(result: xr.Dataset) -> list[str]:
    """Return the layers behind the one whose channels are removed."""
    return [str(layer) for layer in result.layer.values if str(layer) != result.attrs["layer"]]
