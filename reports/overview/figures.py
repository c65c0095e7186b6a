"""The figures of the page of one model: those of the library, as the page arranges them."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from probe.plots.maps import plot_maps
from probe.plots.position import plot_layers
from probe.reports.overview.parts import Overview
from probe.reports.page.legends import move_legend_above

__all__ = ["draw_decoded", "draw_depth", "draw_variants", "on_common_layers"]

_WIDTH = 9.0  # inches
_IMAGE = 2.1  # inches
_OWN = "as it is"


def on_common_layers(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return several results, each with the layers alone that all have."""
    first, *others = results.values()
    common = [name for name in first.layer.values if all(name in one.layer.values for one in others)]
    return {name: one.sel(layer=common) for name, one in results.items()}


def draw_depth(whole: Overview) -> Figure:
    """Draw R² by layer, natural beside rolled, of the model and its untrained twin, with null and control."""
    results = {whole.state: whole.where}
    if "untrained" in whole.parts:
        results["untrained"] = whole.parts["untrained"]
    results = on_common_layers(results) if len(results) > 1 else results
    figure = Figure(figsize=(_WIDTH, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    plot_layers(results, axes, controls=True)
    move_legend_above(figure, axes)
    return figure


def draw_variants(whole: Overview) -> Figure:
    """Draw R² by layer on rolled images, of the model as it is and with each thing changed."""
    results = on_common_layers({_OWN: whole.where, **whole.variants})
    rolled = {name: one.sel(stimulus=["rolled"]) for name, one in results.items()}
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    axes = figure.subplots(1, 1, squeeze=False)
    plot_layers(rolled, axes, faint=[*whole.broken])
    move_legend_above(figure, axes)
    return figure


def draw_decoded(whole: Overview, images: np.ndarray) -> Figure:
    """Draw the decoded position over images of shape (image, row, column, colour), natural above rolled."""
    ratio = images.shape[1] / images.shape[2]
    figure = Figure(
        figsize=((_IMAGE + 0.2) * len(images), 2 * (_IMAGE * ratio + 0.7)), layout=ConstrainedLayoutEngine(hspace=0.08)
    )
    grid = figure.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        plot_maps(whole.where, whole.layer, grid[:, column].reshape(1, 2), image=image)
    return figure
