"""Maps of one layer: what is decoded from it, or its mean activation; their profiles; and positions over an image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probe.axes import AXES, sized
from probe.errors import ArgumentError
from probe.plots.axes import DIVERGING, TWO_COLUMNS, check_width, open_panels, small_text
from probe.plots.inputs import Results, check_alike, results_by_name
from probe.plots.profiles import Row, draw_profiles
from probe.plots.strips import MOST_FRAMES, shown_frames
from probe.results import layer_map

__all__ = ["draw_map", "plot_maps", "shape_of_panels"]

_CHANNELS = 4
_WIDEST_MAP = 2.6  # inches
_TALLEST = 8.5  # inches, of all rows
_MOST_ARROWS = 8  # along each side
_PALENESS = 0.5  # of the image below arrows
_EMPTY = 0.2  # a row that uses less of the common scale gets its own


def plot_maps(
    result: Results,
    layer: str,
    axes: Any = None,
    *,
    kind: Literal["decoded", "mean"] | None = None,
    count: int | None = None,
    image: Any = None,
    profiles: bool = False,
    width: float | None = None,
) -> np.ndarray:
    """Draw the maps of one layer, a row for each stimulus; of clips and volumes a row of frames for each map.

    The commonest uses::

        probe.plot_maps(result, "layer4")
        probe.plot_maps(result, "layer4", image=photo)
        probe.plot_maps(result, "layer4", kind="mean", count=8)

    - ``plot_maps(result, "layer4.1.conv2")``: what the readouts decode, or the mean activation of channels.
    - ``plot_maps({"zeros": a, "circular": b}, "layer4.1.conv2")``: of several results, rows for each.
    - ``plot_maps(result, "layer4.1.conv2", image=photograph)``: the decoded position over an image, with its error.
    - ``plot_maps(result, "layer4.1.conv2", profiles=True)``: along each axis, averaged over the others.

    Parameters
    ----------
    result
        From `probe.layerwise` or `probe.channelwise` with this layer in ``maps=``; or several by name.
    layer
        Name of the layer.
    axes
        Array of Axes, a row for each result and stimulus and a column for each map; by default a new figure. Of maps
        with frames, a row for each result, stimulus and map and a column for each frame, of more than 8 for 8, evenly
        spaced. With an `image`, a row for each result and a column for each stimulus; with `profiles`, a row for each
        result and stimulus and a column for each axis.
    kind
        ``"decoded"``: what the readouts decode from the mean activation, a column for each target; ``"mean"``: the
        mean activation about its average over the map, for the channels that vary most over it. By default decoded
        maps where the result has them.
    count
        Number of channels of mean maps; by default 4.
    image
        An image to draw the decoded position over: an array or tensor of shape (row, column), (row, column, 3) or
        (3, row, column), or a PIL image. Values beyond 0 to 1, as of normalised images, are brought to that range.
        Not of maps with frames.
    profiles
        Whether to draw lines instead: each map along rows, columns and frames, from −1 to 1, averaged over the other
        axes. Of a target that is decoded, a faint line is where it truly is, along its own axis.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two. By default as wide as the maps need.

    Returns
    -------
    numpy.ndarray
        Array of Axes, shape (results · stimuli, maps); of maps with frames (results · stimuli · maps, frames); with an
        `image`, (results, stimuli); with `profiles`, (results · stimuli, axes). All maps are on one scale, but a row
        that would be almost empty on it has its own, with a colour bar of its own.

    Raises
    ------
    ArgumentError
        If the result has no such maps of the layer, or `axes` are not as many as the maps.

    Notes
    -----
    With an `image`, an arrow leads from the centre of a cell to where the readouts of row and column place the *mean*
    activation of that cell, averaged over all images that were measured; the image is only the ground it is drawn on,
    and was not decoded itself. The error is the mean distance between the two over all cells, along each axis in per
    cent of that side of the image. A readout that knows nothing places all cells in the middle: that error stands
    beside it.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> images = noise_images(100)
    >>> result = probe.layerwise(padded_net("zeros"), images, maps="conv4", progress=False)
    >>> probe.plot_maps(result, "conv4", Figure().subplots(2, 2)).shape
    (2, 2)
    >>> axes = probe.plot_maps(result, "conv4", Figure().subplots(1, 2), image=images[0])
    >>> axes[0, 1].get_title().startswith("rolled: error ")
    True
    """
    results = results_by_name(result, ("layerwise", "channelwise"), {})
    if image is not None:
        if kind == "mean" or count is not None:
            raise ArgumentError(
                "image: the decoded position is drawn over it; it goes with neither kind='mean' nor count=."
            )
        if profiles:
            raise ArgumentError("image: it goes with no profiles=True, which draws lines.")
        return _draw_over_image(results, layer, axes, _picture(image), width)
    rows = [row for name, result in results.items() for row in _rows(name, result, layer, kind, count)]
    if len(kinds := {(row.meaning, row.maps.shape) for row in rows}) > 1:
        found = " and ".join(f"{shape[0]} of {meaning}, {sized(shape[1:])}" for meaning, shape in sorted(kinds))
        raise ArgumentError(f"layer={layer!r}: the results have different maps, {found}. Draw each by itself.")
    if profiles:
        return draw_profiles(rows, axes, width)
    return _draw_maps([part for row in rows for part in _by_frames(row)], axes, width)


def shape_of_panels(maps: xr.DataArray) -> tuple[int, int]:
    """Return in how many rows and columns `plot_maps` draws the decoded maps of one layer."""
    n_stimuli, n_targets, *size = maps.shape
    return (n_stimuli, n_targets) if len(size) == 2 else (n_stimuli * n_targets, min(size[0], MOST_FRAMES))


def draw_map(ax: Axes, values: np.ndarray, limit: float) -> Any:
    """Draw one map, shape (row, column), on the scale from −limit to limit; return the image, for its colour bar."""
    image = ax.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return image


def _by_frames(row: Row) -> list[Row]:
    """Return a row of frames for each map that has them."""
    if row.maps.ndim == 3:
        return [row]
    shown = shown_frames(row.maps.shape[1])
    titles = [f"frame {number + 1}" for number in shown]
    return [
        Row(f"{row.label}\n{title}", maps[shown], titles, row.meaning)
        for title, maps in zip(row.titles, row.maps, strict=True)
    ]


def _draw_maps(rows: Sequence[Row], given: Any, width: float | None) -> np.ndarray:
    shape = len(rows), len(rows[0].maps)
    grid = _open_grid(
        given, shape, width, ratio=rows[0].maps.shape[1] / rows[0].maps.shape[2], beside=1.0, above=0.1,
        meaning=f"maps; expected the shape {shape}, stimuli × maps",
    )  # fmt: skip
    limits = [float(np.nanmax(np.abs(row.maps), initial=0)) for row in rows]
    own = [limit < _EMPTY * max(limits) for limit in limits]
    common = []
    for place, (row, limit) in enumerate(zip(rows, limits, strict=True)):
        scale = (limit if own[place] else max(limits)) or 1.0
        for ax, values in zip(grid[place], row.maps, strict=True):
            image = draw_map(ax, values, scale)
        if place == 0 or row.titles != rows[place - 1].titles:
            for ax, title in zip(grid[place], row.titles, strict=True):
                ax.set_title(title, fontsize=ax.title.get_fontsize(), parse_math=False)
        grid[place, 0].set_ylabel(row.label, parse_math=False)
        if own[place]:
            _add_bar(image, grid[place], "own scale")
        else:
            common += grid[place].tolist()
            shared = image
    _add_bar(shared, common, rows[0].meaning)
    return grid


def _add_bar(image: Any, axes: Iterable[Axes], label: str) -> None:
    axes = list(axes)
    bar = axes[0].figure.colorbar(image, ax=axes, aspect=12 + 4 * len(axes) // 2, fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=small_text(axes[0]))
    bar.ax.tick_params(labelsize=small_text(axes[0]))
    bar.locator = MaxNLocator(5, symmetric=True)
    bar.update_ticks()


def _open_grid(
    given: Any, shape: tuple[int, int], width: float | None, *, ratio: float, beside: float, above: float, meaning: str
) -> np.ndarray:
    """Return Axes in rows and columns; those of a new figure for maps of that ratio of height to width.

    `beside` is the room for what stands beside all maps, `above` for what stands above and below each, in inches.
    """
    rows, columns = shape
    if width is None and given is None:
        width = min(TWO_COLUMNS, 1.6 * columns + beside)
    inches = check_width(width, given, argument="axes")
    side = min((inches - beside) / columns, _WIDEST_MAP, _TALLEST / rows / ratio)
    height = (side * ratio + above) * rows + 0.35
    axes = open_panels(
        given, rows * columns, columns=columns, width=inches, height=height, meaning=meaning, layout="compressed"
    )
    return axes.reshape(rows, columns)


def _rows(name: str, result: xr.Dataset, layer: str, kind: str | None, count: int | None) -> list[Row]:
    """Return a row of maps for each stimulus."""
    if kind not in (None, "decoded", "mean"):
        raise ArgumentError(f"kind={kind!r}: expected 'decoded' or 'mean'.")
    for candidate in ("decoded", "mean") if kind is None else (kind,):
        maps = _layer_maps(result, candidate, layer)
        if maps is None:
            continue
        if candidate == "decoded":
            if count is not None:
                raise ArgumentError(
                    f"count={count}: it is a number of channels, of kind='mean'; these maps are decoded."
                )
            values, titles, meaning = maps.values, list(map(str, maps.target.values)), "decoded target"
        else:
            about_mean = (maps - maps.mean(list(maps.dims[2:]))).values
            spread = np.nan_to_num(about_mean.std(axis=tuple(range(2, maps.ndim))).max(axis=0))
            strongest = np.argsort(-spread, kind="stable")[: _CHANNELS if count is None else count]
            titles = [f"channel {index}" for index in strongest]
            values, meaning = about_mean[:, strongest], "activation − average"
        stimuli = map(str, result.stimulus.values)
        return [
            Row("\n".join(filter(None, (name, stimulus))), row, titles, meaning)
            for stimulus, row in zip(stimuli, values, strict=True)
        ]
    raise ArgumentError(_without_maps(result, layer, kind or "decoded or mean"))


def _layer_maps(result: xr.Dataset, kind: str, layer: str) -> xr.DataArray | None:
    try:
        maps = layer_map(result, f"{kind}_map", layer)
    except KeyError:
        return None
    axes = [axis for axis in AXES if axis in maps.dims]
    return maps.transpose("stimulus", "target" if kind == "decoded" else "channel", *axes)


def _without_maps(result: xr.Dataset, layer: str, kind: str) -> str:
    having = dict.fromkeys(str(v.attrs["layer"]) for n, v in result.data_vars.items() if "_map_" in str(n))
    others = f"only of {', '.join(having)}" if having else "nor of any other layer"
    return f"layer={layer!r}: the result has no {kind} map of it, {others}. Measure it with maps={layer!r}."


def _draw_over_image(
    results: Mapping[str, xr.Dataset], layer: str, given: Any, picture: np.ndarray, width: float | None
) -> np.ndarray:
    decoded = {name: _decoded_position(result, layer) for name, result in results.items()}
    stimuli = [str(stimulus) for stimulus in next(iter(results.values())).stimulus.values]
    if len(results) > 1:
        check_alike(results, "stimulus")
    shape = len(results), len(stimuli)
    grid = _open_grid(
        given, shape, width, ratio=picture.shape[0] / picture.shape[1], beside=0.3, above=0.4,
        meaning=f"images; expected the shape {shape}, results × stimuli",
    )  # fmt: skip
    for axes, (name, maps) in zip(grid, decoded.items(), strict=True):
        for ax, stimulus, position in zip(axes, stimuli, maps, strict=True):
            _draw_arrows(ax, picture, position)
            error, of_middle = _errors(position)
            text = f"error {100 * error:.2g} %" if np.isfinite(error) else "not scored"
            ax.set_title(f"{stimulus}: {text}", fontsize=ax.title.get_fontsize())
            ax.set_xlabel(f"all in the middle: {100 * of_middle:.2g} %", fontsize=small_text(ax))
        axes[0].set_ylabel(name, parse_math=False)
    return grid


def _decoded_position(result: xr.Dataset, layer: str) -> np.ndarray:
    """Return decoded row and column, shape (stimulus, 2, row, column)."""
    maps = _layer_maps(result, "decoded", layer)
    if maps is None:
        raise ArgumentError(_without_maps(result, layer, "decoded"))
    if "frame" in maps.dims:
        raise ArgumentError(f"image: the maps of {layer!r} have frames, and arrows are drawn over images alone.")
    if missing := [target for target in ("row", "column") if target not in maps.target.values]:
        raise ArgumentError(
            f"image: the decoded position needs row and column; the result has no {' nor '.join(missing)}. "
            "Measure them with targets=('row', 'column')."
        )
    return maps.sel(target=["row", "column"]).values


def _cells(n_rows: int, n_columns: int) -> np.ndarray:
    """Return row and column of the centre of each cell, from −1 to 1."""
    return np.array(np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in (n_rows, n_columns)), indexing="ij"))


def _errors(position: np.ndarray) -> tuple[float, float]:
    """Return the mean distance of decoded from true positions, and that of the middle, as shares of the sides."""
    cells = _cells(*position.shape[1:])
    error, of_middle = (float(np.hypot(*(place - cells) / 2).mean()) for place in (position, np.zeros_like(cells)))
    return error, of_middle


def _draw_arrows(ax: Axes, picture: np.ndarray, position: np.ndarray) -> None:
    ratio = picture.shape[0] / picture.shape[1]
    ax.imshow(picture, extent=(-1, 1, 1, -1), aspect=ratio, cmap="gray", vmin=0, vmax=1, alpha=_PALENESS)
    drawn = np.ix_(
        *(np.unique(np.linspace(0, n - 1, min(n, _MOST_ARROWS)).round().astype(int)) for n in position.shape[1:])
    )
    row, column = (values[drawn] for values in _cells(*position.shape[1:]))
    to_row, to_column = (values[drawn] for values in position)
    arrows = ax.quiver(
        column, row, to_column - column, to_row - row, angles="xy", scale_units="xy", scale=1, units="inches",
        width=0.014, headwidth=4.5, headlength=5, headaxislength=4.5, color="black", edgecolor="white", linewidth=0.3,
        clip_on=False,
    )  # fmt: skip
    arrows.set_in_layout(False)  # an arrow may point out of the image
    ax.plot(
        column.ravel(), row.ravel(), "o", markersize=2.4, color="black", markeredgecolor="white", markeredgewidth=0.4
    )
    ax.set(xticks=[], yticks=[], xlim=(-1, 1), ylim=(1, -1))


def _picture(image: Any) -> np.ndarray:
    """Return an image as values from 0 to 1, shape (row, column) or (row, column, colour)."""
    values = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    shape = values.shape
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.dtype.kind not in "buif" or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise ArgumentError(
            f"image: expected one image, (row, column), (row, column, 3) or (3, row, column), found a "
            f"{type(image).__name__} of shape {shape}."
        )
    values = values / 255 if values.dtype == np.uint8 else values.astype(float)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low or 1.0) if low < 0 or high > 1 else values
