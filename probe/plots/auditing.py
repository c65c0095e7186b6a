"""Figures of audits: the padding that is never read, and how often each pixel is."""

from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm

from probe.errors import ArgumentError
from probe.plots.axes import TWO_COLUMNS, check_width, open_axes, open_panels, points_wide, short_names, small_text
from probe.plots.inputs import check_result
from probe.plots.strips import strip_of, strip_width

__all__ = ["draw_foveation", "plot_audit", "plot_foveation"]

_READ, _UNREAD = "#eef1f4", "#d8a6d2"  # no orange, which means rolled
_NARROW_COLUMNS, _MOST_COLUMNS = 3, 5  # of maps, in a figure of one and of two columns
_LONGEST_NAME, _SHORTEST_NAME = 24, 10  # letters
_LETTER = 0.55  # width of a letter, of its size
_FAINTEST = 1e-3  # of the mean; pixels that are read less are drawn alike


def plot_audit(result: xr.Dataset, ax: Axes | None = None, *, width: float | None = None) -> Axes:
    """Draw how much of its padding each down-sampling reads, side by side.

    The commonest uses::

        probe.plot_audit(result)
        probe.plot_audit(result, ax)
        probe.plot_audit(probe.audit(model, (3, 224, 224)))

    - ``plot_audit(result)``: a new figure.
    - ``plot_audit(result, ax)``: into axes of your own.
    - ``plot_audit(result, width=3.4)``: for one column of a page.

    Parameters
    ----------
    result
        From `probe.audit`.
    ax
        Where to draw; by default a new figure.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two; by default 5.5.

    Returns
    -------
    matplotlib.axes.Axes
        A row for each padded layer with a stride above 1, in order of execution, and a column for each side. Where
        padding is unread the cell is coloured; it tells the unread rows, columns or frames, and those there are.

    Raises
    ------
    ArgumentError
        If the result is no audit, or no layer with a stride pads.

    Examples
    --------
    >>> import probe
    >>> from matplotlib.figure import Figure
    >>> from torch import nn
    >>> result = probe.audit(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)), (3, 32, 32))
    >>> [text.get_text() for text in probe.plot_audit(result, Figure().subplots()).texts]
    ['0 of 1', '1 of 1', '0 of 1', '1 of 1']
    """
    result = check_result(result, "audit", {"unread": (), "stride": (), "padding": ()})
    chosen = ((result["stride"] > 1).any("axis") & (result.padding > 0).any("side")).values
    if not chosen.any():
        raise ArgumentError("result: no layer with a stride above 1 pads, so there is no padding that it could miss.")
    unread, padding = result.unread.values[chosen], result.padding.values[chosen]
    names = short_names([str(name) for name in result.layer.values[chosen]], most=_LONGEST_NAME)
    inches = check_width(width, ax) if width is not None else 5.5
    ax = open_axes(ax, inches, 0.5 + 0.25 * len(names))
    ax.imshow(unread > 0, cmap=ListedColormap([_READ, _UNREAD]), vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(unread.shape):
        text = f"{unread[row, column]} of {padding[row, column]}"
        ax.text(column, row, text, ha="center", va="center", fontsize=small_text(ax))
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names, parse_math=False)
    ax.set_xticks(range(result.sizes["side"]), [str(side) for side in result.side.values])
    ax.tick_params(length=0)
    ax.set_title("padding that is never read", fontsize=ax.yaxis.label.get_fontsize())
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def plot_foveation(result: xr.Dataset, axes: Any = None, *, width: float | None = None) -> np.ndarray:
    """Draw how often each layer reads each pixel, on one logarithmic scale; of clips some frames in a row.

    The commonest uses::

        probe.plot_foveation(result)
        probe.plot_foveation(result, axes)
        probe.plot_foveation(probe.audit(model, maps="layer4"))

    - ``plot_foveation(result)``: a new figure, a panel for each layer.
    - ``plot_foveation(result, axes)``: into axes of your own.
    - ``plot_foveation(result, width=3.4)``: for one column of a page.

    Parameters
    ----------
    result
        From `probe.audit`.
    axes
        Array of Axes, one for each foveation map; by default a new figure.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    numpy.ndarray
        Array of Axes.

    Raises
    ------
    ArgumentError
        If the result has no foveation maps, or `axes` are not as many.

    Examples
    --------
    >>> import probe
    >>> from matplotlib.figure import Figure
    >>> from probe.testing import padded_net
    >>> result = probe.audit(padded_net("zeros"), (3, 32, 32))
    >>> probe.plot_foveation(result, Figure().subplots()).shape
    (1,)
    """
    result = check_result(result, "audit", {})
    maps = [variable for name, variable in result.items() if str(name).startswith("foveation_")]
    if not maps:
        raise ArgumentError("result: it has no foveation maps; expected a result of probe.audit with maps.")
    own = axes is None
    inches = check_width(width, axes, argument="axes")
    is_clip = maps[0].ndim == 3
    columns = min(len(maps), _MOST_COLUMNS if inches >= TWO_COLUMNS else _NARROW_COLUMNS)
    columns = 1 if is_clip else columns
    rows = -(-len(maps) // columns)
    side = (inches - 0.8) / (1 if is_clip else max(columns, 2))
    high = side / strip_width(maps[0].shape) + 0.2 if is_clip else side
    axes = open_panels(
        axes, len(maps), columns=columns, width=inches, height=(high + 0.2) * rows, meaning="foveation maps",
        layout="compressed",
    )  # fmt: skip
    limits = min(float(map_.min()) for map_ in maps), max(float(map_.max()) for map_ in maps)
    room = int((72 * side if own else points_wide(axes[0])) / (_LETTER * small_text(axes[0])))
    names = short_names([str(map_.attrs["layer"]) for map_ in maps], most=max(room, _SHORTEST_NAME))
    for ax, map_, name in zip(axes, maps, names, strict=True):
        image = draw_foveation(ax, map_.values, limits)
        ax.set_title(name, fontsize=small_text(ax), parse_math=False)
    bar = axes[0].figure.colorbar(image, ax=axes.tolist(), aspect=5 * len(maps) + 10 if is_clip else 20)
    bar.set_label("paths ÷ their mean", fontsize=small_text(axes[0]))
    bar.ax.tick_params(labelsize=small_text(axes[0]))
    return axes


def draw_foveation(ax: Axes, values: np.ndarray, limits: tuple[float, float]) -> Any:
    """Draw one map, shape (*size), on a logarithmic scale; return the image, for its colour bar."""
    ticks: dict[str, Any] = {"xticks": [], "yticks": []}
    if values.ndim == 3:
        values, middles, numbers = strip_of(values)
        ticks |= {
            "xticks": middles,
            "xticklabels": [f"frame {numbers[0] + 1}", *(number + 1 for number in numbers[1:])],
        }
    norm = LogNorm(max(limits[0], _FAINTEST), max(limits[1], 2 * _FAINTEST), clip=True)
    image = ax.imshow(values, cmap="viridis", norm=norm, interpolation="nearest")
    ax.set(**ticks)
    ax.tick_params(length=0, labelsize=small_text(ax))
    if len(values[np.isnan(values)]):
        sns.despine(ax=ax, left=True, bottom=True)
    return image
