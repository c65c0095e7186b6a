"""Figures of audits. Each function draws into the Axes that it is given, else into a new pyplot figure."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm

from probe.errors import ArgumentError

__all__ = ["draw_foveation", "plot_audit", "plot_foveation"]

_READ, _UNREAD = "#eef1f4", sns.color_palette("colorblind").as_hex()[1]
_MOST_COLUMNS = 5
_FAINTEST = 1e-3  # of the mean; pixels that are read less are drawn alike


def plot_audit(result: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how much of its padding each down-sampling reads, side by side.

    Parameters
    ----------
    result
        From `probe.audit`.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A row for each padded layer with a stride above 1, in order of execution, and a column for each side. Where
        padding is unread the cell is coloured; it tells the unread rows or columns, and those there are.

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
    _check(result, "unread")
    chosen = ((result["stride"] > 1).any("axis") & (result.padding > 0).any("side")).values
    if not chosen.any():
        raise ArgumentError("result: no layer with a stride above 1 pads, so there is no padding that it could miss.")
    unread, padding = result.unread.values[chosen], result.padding.values[chosen]
    names = [str(name) for name in result.layer.values[chosen]]
    if ax is None:
        ax = plt.subplots(figsize=(5.5, 0.9 + 0.36 * len(names)), layout="constrained")[1]
    ax.imshow(unread > 0, cmap=ListedColormap([_READ, _UNREAD]), vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(unread.shape):
        text = f"{unread[row, column]} of {padding[row, column]}"
        ax.text(column, row, text, ha="center", va="center", fontsize="small")
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names, parse_math=False)
    ax.set_xticks(range(4), [str(side) for side in result.side.values])
    ax.tick_params(length=0)
    ax.set_title("padding that is never read", fontsize="medium")
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def plot_foveation(result: xr.Dataset, axes: Any = None) -> np.ndarray:
    """Draw how often each layer reads each pixel, on one logarithmic scale.

    Parameters
    ----------
    result
        From `probe.audit`.
    axes
        Array of Axes, one for each foveation map; by default a new figure.

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
    maps = [variable for name, variable in result.items() if str(name).startswith("foveation_")]
    if not maps:
        raise ArgumentError("result: it has no foveation maps; expected a result of probe.audit with maps.")
    axes = _own_axes(len(maps)) if axes is None else np.asarray(axes, dtype=object).ravel()
    if len(axes) != len(maps):
        raise ArgumentError(f"axes: {len(axes)} were given for {len(maps)} foveation maps.")
    limits = min(float(map_.min()) for map_ in maps), max(float(map_.max()) for map_ in maps)
    for ax, map_ in zip(axes, maps, strict=True):
        image = draw_foveation(ax, map_.values, limits)
        ax.set_title(map_.attrs["layer"], fontsize="small", parse_math=False)
    axes[0].figure.colorbar(image, ax=axes.tolist(), label="paths from each pixel ÷ mean")
    return axes


def _own_axes(n_maps: int) -> np.ndarray:
    columns = min(n_maps, _MOST_COLUMNS)
    rows = -(-n_maps // columns)
    size = (2.2 * columns + 1, 2.4 * rows)
    axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)[1].ravel()
    for ax in axes[n_maps:]:
        ax.set_axis_off()
    return axes[:n_maps]


def draw_foveation(ax: Axes, values: np.ndarray, limits: tuple[float, float]) -> Any:
    """Draw one map, shape (row, column), on a logarithmic scale; return the image, for its colour bar."""
    norm = LogNorm(max(limits[0], _FAINTEST), max(limits[1], 2 * _FAINTEST), clip=True)
    image = ax.imshow(values, cmap="viridis", norm=norm, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return image


def _check(result: xr.Dataset, name: str) -> None:
    if name not in result:
        raise ArgumentError(f"result: expected {name}, as probe.audit returns it; found {', '.join(map(str, result))}.")
