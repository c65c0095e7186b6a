"""How often features find their nearest at the same place, layer by layer."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import STIMULUS_COLOURS, check_width, legend_above, name_layers, open_axes, small_text
from probe.plots.inputs import check_result

__all__ = ["plot_neighbours"]

_DIMS = ("layer", "stimulus")
_MARKERS = {"natural": "o", "rolled": "s"}
_ASIDE = 0.06  # of the room of a layer, so that the stimuli do not hide each other


def plot_neighbours(result: xr.Dataset, ax: Axes | None = None, *, width: float | None = None) -> Axes:
    """Draw how often the features of a cell find their nearest at the same place of another image.

    The commonest uses::

        probe.plot_neighbours(result)
        probe.plot_neighbours(result, ax)
        probe.plot_neighbours(result.sel(stimulus="rolled"), width=3.4)

    Parameters
    ----------
    result
        From `probe.neighbours`.
    ax
        Where to draw; by default a new figure.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes
        The share of cells: a colour and marker for each stimulus, with its 95 % interval; and chance in each layer,
        dashed.

    Raises
    ------
    ArgumentError
        If the result is of another kind.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.neighbours(padded_net("zeros"), noise_images(20, 8), ["conv1", "conv4"], progress=False)
    >>> ax = probe.plot_neighbours(result, Figure().subplots())
    >>> ax.get_legend_handles_labels()[1]
    ['chance', 'natural', 'rolled']
    """
    on = dict.fromkeys(("same_place", "same_place_low", "same_place_high"), _DIMS)
    result = check_result(result, "neighbours", {**on, "chance": ()})
    inches = check_width(width, ax)
    own = ax is None
    ax = open_axes(ax, inches, 1.9 + 0.3 * inches)
    depth = np.arange(result.sizes["layer"])
    chance = result.chance.max([dim for dim in result.chance.dims if dim != "layer"])  # one for all stimuli
    ax.hlines(chance, depth - 0.4, depth + 0.4, color="0.4", linestyle="--", linewidth=1, label="chance")
    stimuli = [str(name) for name in result.stimulus.values]
    for place, name in enumerate(stimuli):
        chosen = result.sel(stimulus=name)
        share = chosen.same_place.values
        ends = np.abs(np.stack([chosen.same_place_low.values, chosen.same_place_high.values]) - share)
        aside = _ASIDE * (2 * place - len(stimuli) + 1)
        ax.errorbar(
            depth + aside, share, ends, fmt=_MARKERS[name], color=STIMULUS_COLOURS[name], markersize=4, capsize=2,
            linestyle="-" if len(depth) > 1 else "none", linewidth=1.2, label=name,
        )  # fmt: skip
    name_layers(ax, [str(name) for name in result.layer.values])
    ax.set_xlim(-0.5, len(depth) - 0.5)
    ax.set_ylabel("nearest at the same place")
    ax.set_ylim(0, None)
    handles = ax.get_legend_handles_labels()[0]
    if own:
        legend_above(ax, handles)
    else:
        ax.legend(handles=handles, frameon=False, fontsize=small_text(ax))
    sns.despine(ax=ax)
    return ax
