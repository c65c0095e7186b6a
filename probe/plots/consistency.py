"""Whether a model says the same of an image wherever it is shifted."""

from collections.abc import Callable, Iterable

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probe.errors import ArgumentError
from probe.plots.axes import RESULT_COLOURS, check_width, legend_above, open_panels, small_text
from probe.plots.inputs import check_result

__all__ = ["panels_of", "plot_consistency"]

_COLUMNS = 3
_FEWEST_PAIRS = 10  # at each phase, for a map of them
_SCALE = "viridis"


def plot_consistency(
    result: xr.Dataset, axes: Axes | Iterable[Axes] | None = None, *, width: float | None = None
) -> np.ndarray:
    """Draw how often a model says the same of an image at two shifts, by how far they are apart.

    The commonest uses::

        probe.plot_consistency(result)
        probe.plot_consistency(result, axes)
        probe.plot_consistency(result, width=3.4)

    Parameters
    ----------
    result
        From `probe.shift_consistency`.
    axes
        Where to draw, one for each panel; by default a new figure.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        By distance along the diagonal, with the 95 % interval as a band, dotted at multiples of the stride, and that
        of the drawn pairs as a dashed line; with labels, the accuracy at each offset of the diagonal; and by the
        difference of shifts modulo the stride, where there are at least 10 pairs of each and rows and columns were
        shifted.

    Raises
    ------
    ArgumentError
        If the result is of another kind, or there is nothing to draw.

    Examples
    --------
    >>> import probe
    >>> from torch import nn
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> net = nn.Sequential(padded_net("zeros"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> result = probe.shift_consistency(net, noise_images(20, 8), law="circular", progress=False)
    >>> axes = probe.plot_consistency(result, Figure().subplots())
    >>> [ax.get_xlabel() for ax in axes]
    ['pixels apart, along both axes']
    """
    result = check_result(result, "shift_consistency", {"consistency": (), "phase_pairs": ()})
    panels = panels_of(result)
    if not panels:
        raise ArgumentError(
            "result: it has no diagonal, and too few pairs for each phase of the stride. Measure with diagonal=True."
        )
    inches = check_width(width, axes, argument="axes")
    columns = min(len(panels), _COLUMNS if inches > 5 else 1)
    rows = -(-len(panels) // columns)
    drawn = open_panels(axes, len(panels), columns=columns, width=inches, height=0.7 + 2.1 * rows, meaning="panels")
    for ax, panel in zip(drawn, panels, strict=True):
        _PANELS[panel](ax, result)
    handles = drawn[0].get_legend_handles_labels()[0]
    if axes is None and handles:
        legend_above(drawn[0], handles)
    elif handles:
        # Above the panel, whose band leaves no room.
        drawn[0].legend(
            handles=handles, frameon=False, fontsize=small_text(drawn[0]), loc="lower left", bbox_to_anchor=(0, 1),
            borderaxespad=0,
        )  # fmt: skip
    return drawn


def panels_of(result: xr.Dataset) -> list[str]:
    """Return the panels that there are to draw of a result: ``distance``, ``accuracy``, ``phase``."""
    in_space = result.phase_pairs.dims == ("row_phase", "column_phase")
    enough = in_space and result.phase_pairs.size > 1 and result.phase_pairs.min() >= _FEWEST_PAIRS
    there = {"distance": "distance_consistency" in result, "accuracy": "diagonal_accuracy" in result, "phase": enough}
    return [panel for panel, is_there in there.items() if is_there]


def _what(result: xr.Dataset) -> str:
    return "same prediction" if result.attrs.get("compare", "classes") == "classes" else "cosine similarity"


def _band(ax: Axes, places: xr.DataArray, result: xr.Dataset, name: str, colour: str, label: str | None) -> None:
    ax.plot(places, result[name], color=colour, linewidth=1.2, marker="o", markersize=2.5, label=label)
    ax.fill_between(places, result[f"{name}_low"], result[f"{name}_high"], color=colour, alpha=0.2, linewidth=0)


def _by_distance(ax: Axes, result: xr.Dataset) -> None:
    _band(ax, result.distance, result, "distance_consistency", RESULT_COLOURS[0], "windows on the diagonal")
    drawn = result.consistency.sel(subset="all") if "subset" in result.consistency.dims else result.consistency
    ax.axhline(drawn.item(), color="0.4", linestyle="--", linewidth=1, label="pairs drawn at random", zorder=0)
    multiples = result.distance.values[result.phase.values == 0]
    if 0 < len(multiples) < result.sizes["distance"]:
        ax.vlines(
            multiples, 0, 1, transform=ax.get_xaxis_transform(), color="0.7", linestyle=":", linewidth=1, zorder=0,
            label="multiples of the stride",
        )  # fmt: skip
    unit, along = _unit(result)
    ax.set(xlabel=f"{unit} apart{along}", ylabel=_what(result))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(ax=ax)


def _accuracy(ax: Axes, result: xr.Dataset) -> None:
    _band(ax, result.diagonal, result, "diagonal_accuracy", RESULT_COLOURS[1], None)
    unit, along = _unit(result)
    ax.set(xlabel=f"offset{along.removeprefix(',')}, {unit}", ylabel="accuracy")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(ax=ax)


def _unit(result: xr.Dataset) -> tuple[str, str]:
    """Return in what shifts are told, and along which axes where there are several."""
    axes = [str(dim).removesuffix("_phase") for dim in result.phase_pairs.dims]
    unit = " and ".join([*["pixels"] * (axes != ["frame"]), *["frames"] * ("frame" in axes)])
    return unit, {1: "", 2: ", along both axes"}.get(len(axes), ", along all axes")


def _by_phase(ax: Axes, result: xr.Dataset) -> None:
    values = result.phase_consistency.transpose("row_phase", "column_phase")
    image = ax.imshow(values, vmax=1, cmap=_SCALE, interpolation="nearest")  # below it, noise looks like a pattern
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(_what(result), fontsize=ax.yaxis.label.get_fontsize())
    bar.ax.tick_params(labelsize=small_text(ax))
    ax.set(xlabel="column, modulo the stride", ylabel="row, modulo the stride")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


_PANELS: dict[str, Callable[[Axes, xr.Dataset], None]] = {
    "distance": _by_distance,
    "accuracy": _accuracy,
    "phase": _by_phase,
}
