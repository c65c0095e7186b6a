"""Which share of each channel's variance position explains, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.artist import getp
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.lines import Line2D

from probe.plots.axes import (
    STIMULUS_COLOURS,
    TWO_COLUMNS,
    check_width,
    finish_panels,
    legend_above,
    name_layers,
    open_axes,
    open_panels,
    points_wide,
    small_text,
)  # fmt: skip
from probe.plots.inputs import is_several, results_by_name

__all__ = ["draw_sorted", "plot_channels"]

_SHARE_OF_SLOT = 0.8
_NARROWEST_CURVE = 18.0  # points, of a layer's slot
_BOX = (0.05, 0.25, 0.5, 0.75, 0.95)
_BOXES = "box: quartiles and median of channels; line: 5–95 %; point: largest"
_WIDEST_BOX, _NARROWEST_BOX = 5.0, 1.2  # points


@overload
def plot_channels(
    result: xr.Dataset,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    width: float | None = None,
) -> Axes: ...


@overload
def plot_channels(result: Mapping[str, xr.Dataset], ax: Any = None, *, width: float | None = None) -> np.ndarray: ...


def plot_channels(
    result: Any, ax: Any = None, *, label: str | None = None, color: Any = None, width: float | None = None
) -> Any:
    """Draw which share of each channel's variance position explains, layer by layer.

    The commonest uses::

        probe.plot_channels(result)
        probe.plot_channels(result, ax)
        probe.plot_channels({"zeros": first, "circular": second})

    - ``plot_channels(result)``: natural beside rolled, in blue and orange.
    - ``plot_channels({"zeros": a, "circular": b})``: several results, a panel for each.
    - ``plot_channels(a, ax, label="zeros", color="black")``: one result into axes of your own, beside others.

    Where there is room, each channel is a point of a curve in the slot of its layer, sorted from the most to the least
    position-dependent. Where there are many layers each is a box instead, from the first to the third quartile of its
    channels, with the median, a line from the 5th to the 95th percentile, and a point for the strongest channel.

    Parameters
    ----------
    result
        From `probe.channelwise`; or several by name.
    ax
        Where to draw: Axes, or for several results an array of them, one for each. By default a new figure.
    label
        What the legend calls a single result.
    color
        Of a single result. Stimuli after the first are drawn in lighter shades of it.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes or numpy.ndarray
        Of one result, the Axes; of several, an array of Axes on one scale, but a panel that would be almost empty on
        it has its own. Channels without ω² are left out.

    Raises
    ------
    ArgumentError
        If the result is of another kind.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.channelwise(padded_net("zeros"), noise_images(20), progress=False)
    >>> probe.plot_channels(result, Figure().subplots()).get_ylabel()
    'ω² of each channel'
    """
    results = results_by_name(result, "channelwise", {"omega2": ("channel", "stimulus")})
    inches = check_width(width, ax)
    if is_several(result, label=label, color=color):
        return _draw_several(results, ax, inches)
    own = ax is None
    ax = open_axes(ax, inches, 1.9 + 0.3 * inches)
    _draw(ax, results[""], label, color)
    _add_legend(ax, own)
    return ax


def _draw_several(results: Mapping[str, xr.Dataset], given: Any, width: float) -> np.ndarray:
    columns = min(len(results), 2 if width >= TWO_COLUMNS else 1)
    axes = open_panels(
        given, len(results), columns=columns, width=width, height=1.4 + 1.6 * -(-len(results) // columns),
        meaning=f"results ({', '.join(results)})", argument="ax",
    )  # fmt: skip
    for ax, (name, result) in zip(axes, results.items(), strict=True):
        _draw(ax, result, None, None)
        ax.set_title(name, fontsize=ax.title.get_fontsize(), parse_math=False)
    alike = len({tuple(dict.fromkeys(result.layer.values)) for result in results.values()}) == 1
    finish_panels(axes, columns if given is None and alike else None)
    _add_legend(axes[0], given is None)
    return axes


def _draw(ax: Axes, result: xr.Dataset, label: str | None, color: Any) -> None:
    names = [str(name) for name in dict.fromkeys(result.layer.values)]
    stimuli = [str(stimulus) for stimulus in result.stimulus.values]
    by_layer = {
        stimulus: [result.omega2.sel(stimulus=stimulus).values[result.layer.values == name] for name in names]
        for stimulus in stimuli
    }
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    slot = points_wide(ax) / max(len(names), 1)
    for number, (stimulus, values) in enumerate(by_layer.items()):
        colour = STIMULUS_COLOURS[stimulus] if color is None else _lighter(color, number / len(stimuli))
        text = ", ".join(filter(None, (label, stimulus)))
        if slot < _NARROWEST_CURVE:
            size = np.clip(0.6 * slot / len(stimuli), _NARROWEST_BOX, _WIDEST_BOX)
            shift = _SHARE_OF_SLOT * ((number + 0.5) / len(stimuli) - 0.5)
            _draw_boxes(ax, values, shift, size, color=colour, label=text)
            continue
        for place, channels in enumerate(values):
            # Curves that coincide stay visible: the later ones are narrower.
            draw_sorted(
                ax, place, channels, color=colour, linewidth=max(3 - 1.6 * number, 0.8),
                label=text if place == 0 else None,
            )  # fmt: skip
    name_layers(ax, names)
    ax.set_ylabel("ω² of each channel")
    sns.despine(ax=ax)


def _draw_boxes(ax: Axes, layers: Sequence[np.ndarray], shift: float, size: float, *, color: Any, label: str) -> None:
    """Draw a box for each layer, `size` points wide and beside its place by `shift`."""
    known = [(place + shift, values[np.isfinite(values)]) for place, values in enumerate(layers)]
    known = [(place, values) for place, values in known if values.size]
    places = [place for place, _ in known]
    low, first, median, third, high = np.array([np.quantile(values, _BOX) for _, values in known]).reshape(-1, 5).T
    ax.vlines(places, low, high, color=color, linewidth=size / 3)
    ax.vlines(places, first, third, color=color, linewidth=size, label=label)
    ax.scatter(places, median, s=size**2, color="white", edgecolor=color, linewidth=size / 4, zorder=3)
    strongest = [values.max() for _, values in known]
    ax.scatter(places, strongest, s=size**2, color=color, linewidth=0, zorder=3)


def draw_sorted(ax: Axes, slot: float, values: np.ndarray, **line: Any) -> None:
    """Draw values as a curve in descending order, in a slot about 1 wide; one value is a point."""
    values = np.sort(values[np.isfinite(values)])[::-1]
    places = slot + _SHARE_OF_SLOT * (
        np.linspace(0, 1, len(values)) - 0.5 if len(values) > 1 else np.zeros(len(values))
    )
    ax.plot(places, values, marker="." if len(values) < 2 else None, solid_capstyle="round", **line)


def _lighter(color: Any, share: float) -> np.ndarray:
    return share + (1 - share) * np.array(to_rgb(color))


def _add_legend(ax: Axes, own: bool) -> None:
    artists, labels = ax.get_legend_handles_labels()
    boxes = any(isinstance(artist, LineCollection) for artist in artists)
    colours = [to_rgba_array(getp(artist, "color"))[0] for artist in artists]
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=label) for colour, label in zip(colours, labels, strict=True)
    ]
    title = _BOXES if boxes else None
    if own:
        legend_above(ax, handles, title=title)
    else:
        ax.legend(handles=handles, frameon=False, fontsize=small_text(ax), title=title, title_fontsize=small_text(ax))
