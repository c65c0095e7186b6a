"""Figures of results. Each function draws into the Axes that it is given, else into a new pyplot figure."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes

from probe.errors import ArgumentError
from probe.intervals import half_width
from probe.results import layer_map

__all__ = ["STIMULUS_COLOURS", "plot_channels", "plot_layers", "plot_maps"]

STIMULUS_COLOURS = dict(
    zip(("natural", "rolled", "noise", "constant"), sns.color_palette("colorblind").as_hex(), strict=False)
)
"""One colour for each stimulus in every figure, told apart by colour-blind readers too."""

_TARGET_LINES = ("-", "--", ":", "-.")
_SHARE_OF_SLOT = 0.8


def plot_layers(result: xr.Dataset, ax: Axes | None = None, *, targets: Sequence[str] | None = None) -> Axes:
    """Draw how well position can be read from each layer, natural beside rolled.

    Parameters
    ----------
    result
        From `probe.layerwise`.
    ax
        Where to draw; by default a new figure.
    targets
        Which targets to draw, each with its own line style; by default all.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each stimulus and target, with its 95 % interval, r2 ± t(folds − 1)·r2_se, as a band.

    Raises
    ------
    ArgumentError
        If the result has no r2 of layers, or not of these targets.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> ax = probe.plot_layers(result, Figure().subplots())
    >>> ax.get_ylabel()
    'R² of the position readout'
    """
    _check(result, "r2", ("layer", "stimulus", "target"), "probe.layerwise")
    targets = [str(target) for target in (result.target.values if targets is None else targets)]
    if unknown := sorted(set(targets) - set(result.target.values)):
        raise ArgumentError(f"targets: {unknown} are not in the result, which has {list(result.target.values)}.")
    ax = _own_axes(result.sizes["layer"]) if ax is None else ax
    depth = np.arange(result.sizes["layer"])
    half_widths = half_width(result.r2_se, result.sizes["fold"] - 1)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    for stimulus in map(str, result.stimulus.values):
        for number, target in enumerate(targets):
            chosen = {"stimulus": stimulus, "target": target}
            r2, half = result.r2.sel(chosen).values, half_widths.sel(chosen).values
            colour = STIMULUS_COLOURS[stimulus]
            line = _TARGET_LINES[number % len(_TARGET_LINES)]
            ax.plot(depth, r2, line, color=colour, marker=".", label=f"{stimulus}, {target}")
            ax.fill_between(depth, r2 - half, r2 + half, color=colour, alpha=0.2, linewidth=0)
    name_layers(ax, [str(name) for name in result.layer.values])
    ax.set(ylabel="R² of the position readout")
    ax.legend(frameon=False, fontsize="small")
    sns.despine(ax=ax)
    return ax


def plot_channels(result: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw which share of each channel's variance position explains, layer by layer.

    In the slot of its layer each channel is a point of a curve, sorted from the most to the least position-dependent,
    so that the shape of a layer can be read for eight channels and for two thousand.

    Parameters
    ----------
    result
        From `probe.channelwise`.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A curve for each layer and stimulus. Channels without ω² are left out.

    Raises
    ------
    ArgumentError
        If the result has no omega2.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.channelwise(padded_net("zeros"), noise_images(20), progress=False)
    >>> probe.plot_channels(result, Figure().subplots()).get_ylabel()
    'ω² of each channel'
    """
    _check(result, "omega2", ("channel", "stimulus"), "probe.channelwise")
    names = [str(name) for name in dict.fromkeys(result.layer.values)]
    ax = _own_axes(len(names)) if ax is None else ax
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    for number, stimulus in enumerate(map(str, result.stimulus.values)):
        omega2 = result.omega2.sel(stimulus=stimulus)
        for slot, name in enumerate(names):
            draw_sorted(
                ax,
                slot,
                omega2.values[result.layer.values == name],
                color=STIMULUS_COLOURS[stimulus],
                # Curves that coincide stay visible: the later ones are narrower.
                linewidth=max(3 - 1.6 * number, 0.8),
                label=stimulus if slot == 0 else None,
            )
    name_layers(ax, names)
    ax.set(ylabel="ω² of each channel")
    ax.legend(frameon=False, fontsize="small")
    sns.despine(ax=ax)
    return ax


def plot_maps(
    result: xr.Dataset,
    layer: str,
    axes: Any = None,
    *,
    kind: Literal["decoded", "mean"] | None = None,
    count: int = 4,
) -> np.ndarray:
    """Draw the maps of one layer, a row for each stimulus, all on one scale.

    Parameters
    ----------
    result
        From `probe.layerwise` or `probe.channelwise` with this layer in ``maps=``.
    layer
        Name of the layer.
    axes
        Array of Axes, a row for each stimulus and a column for each map; by default a new figure.
    kind
        ``"decoded"``: what the readouts decode from the mean activation, a column for each target; ``"mean"``: the
        mean activation about its average over the map, for the channels that vary most over it. By default decoded
        maps where the result has them.
    count
        Number of channels.

    Returns
    -------
    numpy.ndarray
        Array of Axes, shape (stimulus, map).

    Raises
    ------
    ArgumentError
        If the result has no such maps of the layer, or `axes` has another shape.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), maps="conv4", progress=False)
    >>> probe.plot_maps(result, "conv4", Figure().subplots(2, 2)).shape
    (2, 2)
    """
    maps, titles, label = _chosen_maps(result, layer, kind, count)
    n_rows, n_columns = maps.shape[:2]
    if axes is None:
        size = (2.2 * n_columns + 1, 2.2 * n_rows)
        axes = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)[1]
    axes = np.asarray(axes, dtype=object)
    if axes.size != n_rows * n_columns:
        raise ArgumentError(
            f"axes: {axes.size} were given for {n_rows * n_columns} maps; expected the shape {(n_rows, n_columns)}, "
            "stimuli × maps."
        )
    axes = axes.reshape(n_rows, n_columns)
    limit = float(np.nanmax(np.abs(maps), initial=0)) or 1.0
    for row, stimulus in enumerate(map(str, result.stimulus.values)):
        for column, title in enumerate(titles):
            image = draw_map(axes[row, column], maps[row, column], limit)
            if row == 0:
                axes[row, column].set_title(title, fontsize="medium")
        axes[row, 0].set_ylabel(stimulus)
    axes[0, 0].figure.colorbar(image, ax=axes.ravel().tolist(), label=label)
    return axes


def draw_map(ax: Axes, values: np.ndarray, limit: float) -> Any:
    """Draw one map, shape (row, column), on the scale from −limit to limit; return the image, for its colour bar."""
    image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return image


def draw_sorted(ax: Axes, slot: float, values: np.ndarray, **line: Any) -> None:
    """Draw values as a curve in descending order, in a slot about 1 wide; one value is a point."""
    values = np.sort(values[np.isfinite(values)])[::-1]
    places = slot + _SHARE_OF_SLOT * (
        np.linspace(0, 1, len(values)) - 0.5 if len(values) > 1 else np.zeros(len(values))
    )
    ax.plot(places, values, marker="." if len(values) < 2 else None, solid_capstyle="round", **line)


def name_layers(ax: Axes, names: Sequence[str], *, most: int = 14) -> None:
    """Write the names of layers below the axis at 0, 1, 2, …: all of them, or `most` evenly spaced ones."""
    step = -(-len(names) // most)
    places = range(0, len(names), step)
    labels = [names[place] for place in places]
    slanted = max(map(len, labels), default=0) * len(labels) > 40
    # Dollar signs in a name are no formula.
    ax.set_xticks(places, labels, rotation=40 if slanted else 0, ha="right" if slanted else "center", parse_math=False)
    ax.tick_params(axis="x", labelsize="small")
    if slanted:
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")
    ax.set_xlabel("layer, in order of execution" + (f" (every {step}th named)" if step > 1 else ""))


def _own_axes(n_layers: int) -> Axes:
    width = float(np.clip(3 + 0.5 * n_layers, 5, 12))
    return plt.subplots(figsize=(width, 4), layout="constrained")[1]


def _check(result: xr.Dataset, name: str, dims: tuple[str, ...], source: str) -> None:
    if name not in result or set(result[name].dims) != set(dims):
        found = ", ".join(f"{key} on ({', '.join(map(str, value.dims))})" for key, value in result.data_vars.items())
        raise ArgumentError(
            f"result: expected {name} on ({', '.join(dims)}), as {source} returns it; found {found or 'no variables'}."
        )


def _chosen_maps(result: xr.Dataset, layer: str, kind: str | None, count: int) -> tuple[np.ndarray, list[str], str]:
    """Return maps of shape (stimulus, map, row, column), their titles, and what their colours mean."""
    if kind not in (None, "decoded", "mean"):
        raise ArgumentError(f"kind={kind!r}: expected 'decoded' or 'mean'.")
    for candidate in ("decoded", "mean") if kind is None else (kind,):
        try:
            maps = layer_map(result, f"{candidate}_map", layer)
        except KeyError:
            continue
        if candidate == "decoded":
            return maps.values, [str(target) for target in maps.target.values], "decoded target"
        about_mean = (maps - maps.mean(["row", "column"])).values
        spread = np.nan_to_num(about_mean.std(axis=(2, 3)).max(axis=0))
        strongest = np.argsort(-spread, kind="stable")[:count]
        return about_mean[:, strongest], [f"channel {index}" for index in strongest], "mean activation − its average"
    raise ArgumentError(
        f"layer={layer!r}: the result has no {kind or 'decoded or mean'} map of it. Measure it with maps={layer!r}."
    )
