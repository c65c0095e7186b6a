"""What the pages of results without readouts say and show: borders of windows, and similarity under shifts."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.intervals import half_width
from probe.plots.auditing import plot_audit, plot_foveation
from probe.plots.bordering import plot_border
from probe.plots.strips import strip_of, strip_width
from probe.reports.page.estimates import Estimate, interval, joined
from probe.reports.page.legends import move_legend_above
from probe.results import FEW_IMAGES

__all__ = [
    "audit_figures",
    "audit_findings",
    "audit_table",
    "border_figures",
    "border_findings",
    "border_table",
    "similarity_figures",
    "similarity_findings",
    "similarity_table",
]

_MOST_NAMED = 5
_SIDE = 1.6  # inches of a map


def audit_findings(result: xr.Dataset) -> list[str]:
    """Say which layers leave padding unread, and which sizes would not."""
    at_risk = _down_samples(result)
    if not at_risk.any():
        return [
            "No layer with a stride above 1 pads by its own arguments, so there is no such padding that could be left "
            "unread. Padding in the code of forward, as TensorFlow's kind has it, is not looked at."
        ]
    uneven = (result.unread > 0).any("side").values & at_risk
    names = [str(name) for name in result.layer.values[uneven]]
    if not names:
        return [f"All {int(at_risk.sum())} layers that pad and have a stride above 1 read all of their padding."]
    named = joined(names[:_MOST_NAMED]) + (f", among {len(names)}" if len(names) > _MOST_NAMED else "")
    among = f"{len(names)} of the {int(at_risk.sum())} layers that pad and have a stride above 1"
    sentence = f"{among} leave padding unread: {named}."
    larger = result.even_size.sel(direction="larger").values
    unit = "pixels" if len(larger) == 2 else "frames and pixels"
    cure = (
        f"At {' × '.join(f'{size:.0f}' for size in larger)} {unit} none would."
        if np.isfinite(larger).all()
        else "No larger size within 128 pixels is even on every axis."
    )
    return [sentence, cure]


def _down_samples(result: xr.Dataset) -> np.ndarray:
    return ((result["stride"] > 1).any("axis") & (result.padding > 0).any("side")).values


def audit_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw unread padding, and how often pixels are read."""
    chosen = int(_down_samples(result).sum())
    if chosen:
        figure = Figure(figsize=(5.5, 0.9 + 0.36 * chosen), layout="constrained")
        plot_audit(result, figure.subplots())
        yield figure, "Padding that is never read, of all padding, by layer and side."
    maps = [map_ for name, map_ in result.data_vars.items() if str(name).startswith("foveation_")]
    count = len(maps)
    if count and all(map_.notnull().all() for map_ in maps):
        is_clip = maps[0].ndim == 3
        columns = 1 if is_clip else min(count, 4)
        rows = -(-count // columns)
        size = (7, (0.5 + 6 / strip_width(maps[0].shape)) * rows) if is_clip else (2.2 * columns + 1, 2.4 * rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[count:]:
            ax.set_axis_off()
        plot_foveation(result, axes[:count])
        shown = " Frames from left to right, evenly spaced ones if there are many." if is_clip else ""
        yield figure, f"How many paths lead from each pixel to the layer, relative to the mean.{shown}"


def audit_table(result: xr.Dataset) -> pd.DataFrame:
    """Return kernel, stride and padding of each layer, and what of it is unread."""
    rows = result.sel(axis="row")
    table = pd.DataFrame({"layer": result.layer.values.astype(str), "input": rows["input_size"].values})
    table["kernel"], table["stride"] = rows["kernel"].values, rows["stride"].values
    if "frame" in result.axis.values:
        frames = result.sel(axis="frame")
        table["kernel, frames"], table["stride, frames"] = frames["kernel"].values, frames["stride"].values
    for side in map(str, result.side.values):
        unread, padding = result.unread.sel(side=side).values, result.padding.sel(side=side).values
        table[f"unread, {side}"] = [f"{int(u)} of {int(p)}" for u, p in zip(unread, padding, strict=True)]
    return table


def border_findings(result: xr.Dataset) -> list[str]:
    """Say how far from the border mean activations change, how much, and whether windows can carry it so far."""
    stimulus = "rolled" if "rolled" in result.stimulus.values else str(result.stimulus.values[0])
    at = result.sel(stimulus=stimulus)
    known = at.isel(layer=np.flatnonzero(np.isfinite(at.reach.values)))
    if not known.sizes["layer"]:
        return [f"How far the border reaches is not known: no layer varies on {stimulus} images."]
    threshold, middle = float(result.attrs["threshold"]), float(result.attrs["middle"])
    what = f"by more than {100 * threshold:.3g} % of a channel's variance"
    if not (known.reach > 0).any():
        return [f"On {stimulus} images the mean activation changes towards the border {what} in no layer."]
    reached = known.isel(layer=np.flatnonzero(known.reach.values > 0))
    sentences = [
        f"On {stimulus} images the mean activation near the border lies off that in the middle {what} "
        f"{_distances(reached.reach, middle)}."
    ]
    strongest = known.isel(layer=int(np.nanargmax(known.change.max("distance").values)))
    place = int(np.nanargmax(strongest.change.values))
    most = _change(strongest.isel(distance=place), result)
    pixels = _pixels((place + 0.5) * float(strongest.cell.mean()))
    sentences.append(f"It is off most in {strongest.layer.item()}, {pixels} from the border: by {most}.")
    windows = reached.window_reach.max("side")
    if not windows.notnull().any():
        return [*sentences, "Whether padding can carry it so far is not known: windows could not be followed."]
    followed = reached.isel(layer=np.flatnonzero(windows.notnull().values))
    carried = followed.window_reach.max("side")
    sentences.append(f"Windows can read beyond the border {_distances(carried, middle)}.")
    farther = [str(name) for name in followed.layer.values[(followed.reach > carried + 0.5).values]]
    beyond = [name for name in farther if _lies_off_beyond(followed.sel(layer=name), result)]
    if farther and result.attrs.get("n_images", np.inf) < FEW_IMAGES:
        sentences.append(f"Whether it reaches farther than that cannot be told from fewer than {FEW_IMAGES} images.")
    elif beyond:
        sentences.append(f"In {joined(beyond[:_MOST_NAMED])} it reaches farther than that: padding alone is not why.")
    return sentences


def _lies_off_beyond(one: xr.Dataset, result: xr.Dataset) -> bool:
    """Return whether the change, the mean over sides, is above the threshold farther in than windows can carry it.

    Of single sides one in so many is above it by chance.
    """
    ends = (1 + one.distance.values) * float(one.cell.mean())
    beyond = one.isel(distance=np.flatnonzero(ends > float(one.window_reach.max()) + 0.5))
    degrees = int(result.attrs["folds"]) - 1
    return bool((beyond.change - half_width(beyond.change_se.values, degrees) > result.attrs["threshold"]).any())


def _distances(pixels: xr.DataArray, middle: float) -> str:
    """Say how far something reaches in each layer, those alike together."""
    together: dict[float, list[str]] = {}
    for name, distance in zip(pixels.layer.values, pixels.values, strict=True):
        together.setdefault(float(distance), []).append(str(name))
    parts = []
    for distance, names in sorted(together.items()):
        named = joined(names[:_MOST_NAMED]) + (f", among {len(names)}," if len(names) > _MOST_NAMED else "")
        far = f"up to the middle ({middle:.0f} pixels)" if distance >= middle else f"within {_pixels(distance)} of it"
        parts.append(f"{'nowhere' if distance == 0 else far} in {named}")
    return joined(parts)


def _pixels(distance: float) -> str:
    return f"{distance:.3g} pixel" + ("" if distance == 1 else "s")


def _change(one: xr.Dataset, result: xr.Dataset) -> Estimate:
    return interval(float(one.change), float(one.change_se), degrees=int(result.attrs["folds"]) - 1)


def border_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the change by distance from the border."""
    if result.change.notnull().any():
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        ax = plot_border(result, figure.subplots())
        move_legend_above(figure, np.array([ax]))
        yield (
            figure,
            "Squared distance of the mean activation from that in the middle of the map, in variances of a channel, by "
            "distance from the border, with 95 % intervals; dotted: the threshold of the reach of the border, above "
            "which the scale is logarithmic. Triangles: as far as windows can read beyond the border.",
        )


def border_table(result: xr.Dataset) -> pd.DataFrame:
    """Return reach and change at the border of each layer and stimulus."""
    windows = result.window_reach.max("side")
    rows = []
    for layer in result.layer.values:
        row: dict[str, object] = {"layer": str(layer), "windows read beyond, pixels": float(windows.sel(layer=layer))}
        for stimulus in map(str, result.stimulus.values):
            one = result.sel(layer=layer, stimulus=stimulus)
            row[f"reach of the border, {stimulus}, pixels"] = float(one.reach)
            row[f"change at the border, {stimulus}"] = _change(one.isel(distance=0), result)
        rows.append(row)
    return pd.DataFrame(rows)


def similarity_findings(result: xr.Dataset) -> list[str]:
    """Say which layers tell positions apart most and least."""
    means = result.global_similarity.mean(["reference", "object"])
    known = means.dropna("layer")
    if not known.sizes["layer"]:
        return ["No layer could be compared: their features are not finite, or do not answer to the object."]
    ordered = known.sortby(known)
    values = [f"{layer} {float(ordered.sel(layer=layer)):.4f}" for layer in ordered.layer.values[:_MOST_NAMED]]
    return [f"Global similarity, lowest first (1: the layer does not tell where an object is): {joined(values)}."]


def similarity_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the similarity at each position, with a scale for each layer: a row of maps, or of clips a column."""
    layers, references = ([str(name) for name in result[dim].values] for dim in ("layer", "reference"))
    size = result.similarity.shape[2:]
    caption = "Cosine similarity of the features at each position of the object to those at the reference."
    is_clip = len(size) == 3
    n_columns = 1 if is_clip else len(references)
    n_rows = len(references) if is_clip else 1
    side = 5 / strip_width(size) + 0.25 if is_clip else _SIDE + 0.1
    figure = Figure(figsize=(7 if is_clip else _SIDE * n_columns + 1.8, side * n_rows * len(layers) + 0.3))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(n_rows * len(layers), n_columns, squeeze=False)
    for number, layer in enumerate(layers):
        maps = result.similarity.sel(layer=layer)
        lowest = float(maps.min()) if maps.notnull().any() else 0.0
        panels = grid[number * n_rows : (number + 1) * n_rows].ravel()
        for ax, reference in zip(panels, references, strict=True):
            values = maps.sel(reference=reference).values
            values = strip_of(values)[0] if is_clip else values
            image = ax.imshow(values, vmin=min(lowest, 1 - 1e-6), vmax=1, cmap="viridis", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if number == 0 or is_clip:
                title = f"{layer}, {reference}" if is_clip else reference
                ax.set_title(title, fontsize="small", parse_math=False)
        if not is_clip:
            panels[0].set_ylabel(layer, fontsize="small", parse_math=False)
        figure.colorbar(image, ax=panels.tolist(), aspect=10 * n_rows)
    yield figure, f"{caption} Moments from left to right, evenly spaced ones if there are many." if is_clip else caption


def similarity_table(result: xr.Dataset) -> pd.DataFrame:
    """Return both numbers of each layer and reference, means over objects."""
    table = result[["global_similarity", "local_roughness"]].mean("object").to_dataframe().reset_index()
    table = table[["layer", "reference", "global_similarity", "local_roughness"]]
    return table.rename(columns=lambda name: name.replace("_", " "))
