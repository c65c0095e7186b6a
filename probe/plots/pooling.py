"""What globally pooled vectors know of position, layer by layer."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes

from probe.errors import ArgumentError
from probe.plots.axes import (
    RESULT_COLOURS,
    RESULT_MARKERS,
    check_width,
    legend_above,
    name_layers,
    open_axes,
    small_text,
)  # fmt: skip
from probe.plots.inputs import check_result

__all__ = ["plot_pooled"]

_DIMS = ("layer", "readout")


def plot_pooled(
    result: xr.Dataset,
    ax: Axes | None = None,
    *,
    readouts: Sequence[str] | str | None = None,
    width: float | None = None,
) -> Axes:
    """Draw how well the place of an image can be read from each layer's averages over its map.

    The commonest uses::

        probe.plot_pooled(result)
        probe.plot_pooled(result, ax)
        probe.plot_pooled(result, readouts=["ordered", "sum"])

    - ``plot_pooled(result)``: all readouts.
    - ``plot_pooled(result, readouts=["ordered", "sum"])``: some of them.
    - ``plot_pooled(result, width=3.4)``: for one column of a page.

    Parameters
    ----------
    result
        From `probe.pooled`.
    ax
        Where to draw; by default a new figure.
    readouts
        Which readouts to draw; by default all.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes
        The accuracy: a colour and marker for each readout, with its 95 % interval as a band; and chance as a dashed
        line.

    Raises
    ------
    ArgumentError
        If the result is of another kind, or has no such readouts.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.pooled(padded_net("zeros"), noise_images(90, 8), progress=False)
    >>> ax = probe.plot_pooled(result, Figure().subplots(), readouts=["ordered", "sum"])
    >>> [line.get_label() for line in ax.lines]
    ['chance', 'ordered', 'sum']
    """
    on = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high"), _DIMS)
    result = check_result(result, "pooled", {**on, "chance": ()})
    names = [str(name) for name in result.readout.values]
    wanted = (
        names if readouts is None else [readouts] if isinstance(readouts, str) else [str(name) for name in readouts]
    )
    if unknown := sorted(set(wanted) - set(names)):
        raise ArgumentError(f"readouts: {unknown} are not in the result, which has {names}.")
    inches = check_width(width, ax)
    own = ax is None
    ax = open_axes(ax, inches, 1.9 + 0.3 * inches)
    chance = ax.axhline(result.chance.item(), color="0.4", linestyle="--", linewidth=1, label="chance", zorder=0)
    depth = np.arange(result.sizes["layer"])
    lines = []
    for name in wanted:
        # A readout looks alike in every figure, whichever others stand beside it.
        look = names.index(name)
        colour = RESULT_COLOURS[look % len(RESULT_COLOURS)]
        marker = RESULT_MARKERS[look % len(RESULT_MARKERS)]
        chosen = result.sel(readout=name)
        accuracy = chosen.accuracy.values
        text = name.replace("_", " ")
        lines += ax.plot(depth, accuracy, color=colour, marker=marker, markersize=3, linewidth=1.2, label=text)
        ax.fill_between(depth, chosen.accuracy_low, chosen.accuracy_high, color=colour, alpha=0.2, linewidth=0)
    name_layers(ax, [str(name) for name in result.layer.values])
    ax.set_ylabel("accuracy of the cell")
    ax.set_ylim(0, None)
    if own:
        legend_above(ax, [*lines, chance])
    else:
        ax.legend(handles=[*lines, chance], frameon=False, fontsize=small_text(ax))
    sns.despine(ax=ax)
    return ax
