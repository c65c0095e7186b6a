"""How the maps of a model change towards their border, and how far that reaches."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes

from probe.intervals import half_width
from probe.plots.axes import check_width, legend_above, open_axes, short_names, small_text
from probe.plots.inputs import check_result

__all__ = ["plot_border"]

_DIMS = ("layer", "stimulus", "distance")
_DARK, _LIGHT = 0.0, 0.88  # of the colours: beyond, they are too light for a white ground


def plot_border(result: xr.Dataset, ax: Axes | None = None, *, width: float | None = None) -> Axes:
    """Draw how far mean activations lie from those in the middle, by distance from the border.

    The commonest uses::

        probe.plot_border(result)
        probe.plot_border(result.sel(stimulus="natural"))
        probe.plot_border(result.sel(layer=["layer1", "layer4"]), ax)

    Parameters
    ----------
    result
        From `probe.border_profile`. Of several stimuli, ``rolled`` is drawn, else the first.
    ax
        Where to draw; by default a new figure.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each layer, darker for earlier ones, with its 95 % interval, at the middle of each cell; straight up
        to the threshold (dotted), logarithmic above. A triangle below the line of zero marks how far windows read
        beyond the border; where it is at the right end, up to the middle or farther.

    Raises
    ------
    ArgumentError
        If the result is of another kind.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.border_profile(padded_net("zeros"), noise_images(20, 8), stimuli="rolled", progress=False)
    >>> ax = probe.plot_border(result, Figure().subplots())
    >>> ax.get_xlabel()
    'pixels from the border, rolled images'
    """
    on = {"change": _DIMS, "change_se": _DIMS, "window_reach": ()}
    result = check_result(result, "border_profile", on)
    inches = check_width(width, ax)
    own = ax is None
    ax = open_axes(ax, inches, 1.9 + 0.3 * inches)
    stimulus = "rolled" if "rolled" in result.stimulus.values else str(result.stimulus.values[0])
    threshold, middle = float(result.attrs["threshold"]), float(result.attrs["middle"])
    degrees = int(result.attrs["folds"]) - 1
    names = [str(name) for name in result.layer.values]
    colours = sns.color_palette("viridis", as_cmap=True)(np.linspace(_DARK, _LIGHT, max(len(names), 2)))
    for name, label, colour in zip(names, short_names(names), colours, strict=False):
        one = result.sel(layer=name, stimulus=stimulus)
        places = (one.distance.values + 0.5) * float(one.cell.mean())
        half = half_width(one.change_se.values, degrees)
        ax.plot(places, one.change, color=colour, marker="o", markersize=2.5, linewidth=1.2, label=label)
        ax.fill_between(places, one.change - half, one.change + half, color=colour, alpha=0.2, linewidth=0)
        reading = float(one.window_reach.max())
        if reading > 0:
            ax.plot(
                reading, 0, marker="^", color=colour, markersize=6, clip_on=False, transform=ax.get_xaxis_transform()
            )
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", zorder=0)
    ax.set_yscale("symlog", linthresh=threshold, linscale=0.5)
    low = min(float(np.nanmin(result.change.sel(stimulus=stimulus).values, initial=0)), -threshold)
    ax.set_ylim(1.5 * low, None)
    ax.set_xlim(0, middle)
    ax.set(xlabel=f"pixels from the border, {stimulus} images", ylabel="change, in variances of a channel")
    handles = ax.get_legend_handles_labels()[0]
    if own:
        legend_above(ax, handles)
    else:
        legend = ax.legend(handles=handles, frameon=False, fontsize=small_text(ax), loc="upper right")
        for text in legend.get_texts():
            text.set_parse_math(False)
    sns.despine(ax=ax)
    return ax
