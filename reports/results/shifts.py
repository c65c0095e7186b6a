"""Results of images that are shifted: whether predictions stay, and where features find their nearest."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.consistency import panels_of, plot_consistency
from probe.plots.matching import plot_neighbours
from probe.reports.page.estimates import Estimate

__all__ = [
    "consistency_figures", "consistency_findings", "consistency_table", "interval_of", "neighbours_figures",
    "neighbours_findings", "neighbours_table",
]  # fmt: skip

_WIDTH = 7.0
_LAWS = {
    "crop": "windows of larger images",
    "circular": "rolled images",
    "zero": "images moved over 0",
    "zhang": "windows of larger images, as Zhang 2019",
    "kayhan": "windows of larger images, as Kayhan and van Gemert 2020",
    "chaman": "rolled images, as Chaman and Dokmanić 2021",
    "chaman_zero": "images moved over 0, as Chaman and Dokmanić 2021",
}
_PANELS = {
    "distance": "consistency of windows on the diagonal by how many pixels they are apart, with its 95 % interval",
    "accuracy": "accuracy at each offset along the diagonal, with its 95 % interval",
    "phase": "consistency by the difference of two shifts modulo the stride",
}
_NUMBERS = {
    "consistency": "consistency",
    "unchanged": "never changing",
    "same_neighbour": "nearest image stays",
    "accuracy": "accuracy over shifts",
}


def interval_of(result: xr.Dataset, name: str) -> Estimate:
    """Return a number with the wider half of its interval, cut at what a share or a cosine similarity can be."""
    value, low, high = (float(result[f"{name}{end}"]) for end in ("", "_low", "_high"))
    half = max(high - value, value - low) if np.isfinite(low) else np.nan
    lowest = -1.0 if name == "consistency" and result.attrs.get("compare") == "embedding" else 0.0
    return Estimate(value, half, int(np.isfinite(value)), within=(lowest, 1.0))


def consistency_findings(result: xr.Dataset) -> list[str]:
    """Say how often the prediction is the same, how many images never change, and the accuracy."""
    whole = result.sel(subset="all")
    found = interval_of(whole, "consistency")
    if not found.is_known:
        return ["No image could be compared: what the model gives is not finite."]
    what = "Two shifts of an image get the same prediction with probability"
    if result.attrs.get("compare") == "embedding":
        what = "The mean cosine similarity of the embedding at two shifts of an image is"
    pairs = f"{result.sizes['pair']} pairs an image" if result.sizes["pair"] > 1 else "one pair an image"
    law = str(result.attrs.get("law"))
    sentences = [f"{what} {found.formatted(decimals=3)} ({_LAWS.get(law, law)}; {pairs})."]
    if "unchanged" in result:
        never = interval_of(whole, "unchanged").formatted(decimals=3)
        sentences.append(f"The share of images with one prediction at all shifts that were shown is {never}.")
    if "same_neighbour" in result:
        stays = interval_of(result, "same_neighbour").formatted(decimals=3)
        sentences.append(f"The share of images whose nearest among the others stays the same is {stays}.")
    if "accuracy" in result:
        accuracy = interval_of(result, "accuracy").formatted(decimals=3)
        sentences.append(f"Accuracy over all shifts along the diagonal is {accuracy}.")
    return sentences


def consistency_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw consistency by distance, the accuracy along the diagonal, and the consistency by phase of the stride."""
    panels = panels_of(result)
    if panels:
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        plot_consistency(result, figure.subplots(1, len(panels), squeeze=False))
        told = "; ".join(_PANELS[panel] for panel in panels)
        told = f"Left to right: {told}" if len(panels) > 1 else f"{told[0].upper()}{told[1:]}"
        yield figure, f"{told}."


def consistency_table(result: xr.Dataset) -> pd.DataFrame:
    """Return each number, for all images and for those that are classified right and wrong as they stand."""
    rows = []
    for name, words in _NUMBERS.items():
        if name in result:
            part = result if "subset" in result[name].dims else result[[f"{name}{e}" for e in ("", "_low", "_high")]]
            chosen = part if "subset" in part[name].dims else part.expand_dims(subset=["all"])
            values = {str(at): interval_of(chosen.sel(subset=at), name) for at in chosen.subset.values}
            rows.append({"number": words, **values})
    return pd.DataFrame(rows)


def neighbours_findings(result: xr.Dataset) -> list[str]:
    """Say for each stimulus which layer matches by place most, beside chance."""
    sentences = []
    for stimulus in map(str, result.stimulus.values):
        at = result.sel(stimulus=stimulus)
        excess = (at.same_place - at.chance).dropna("layer")
        if not excess.sizes["layer"]:
            sentences.append(f"On {stimulus} images no layer could be compared.")
            continue
        layer = str(excess.layer.values[int(excess.values.argmax())])
        chosen = at.sel(layer=layer)
        share = interval_of(chosen, "same_place").formatted(decimals=3)
        chance = float(chosen.chance)
        beyond = "" if float(chosen.same_place_low) > chance else ", which is not above chance beyond its error"
        most = "most often " if excess.sizes["layer"] > 1 else ""
        sentences.append(
            f"On {stimulus} images the nearest lies at the same place {most}in {layer}: {share} of cells "
            f"(chance {chance:.3f}){beyond}."
        )
    return sentences


def neighbours_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw how often the nearest is at the same place in each layer."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    plot_neighbours(result, figure.subplots())
    yield figure, "Share of cells whose nearest in another image is at the same place, with 95 % intervals, and chance."


def neighbours_table(result: xr.Dataset) -> pd.DataFrame:
    """Return the share of each layer and stimulus, beside chance."""
    return pd.DataFrame(
        [
            {
                "layer": str(layer),
                **{
                    str(s): interval_of(result.sel(layer=layer, stimulus=s), "same_place")
                    for s in result.stimulus.values
                },
                "by chance": float(result.chance.sel(layer=layer)),
            }
            for layer in result.layer.values
        ]
    )
