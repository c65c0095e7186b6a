"""What the page of an audit says and shows. Never loads torch."""

import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.auditing import draw_foveation
from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report

__all__ = ["add_figures", "findings"]

_MOST_MAPS = 4
_NONE = 1e-6  # asymmetry below this is rounding
_SIZE_COLOURS = COLOURS


def findings(result: xr.Dataset) -> list[str]:
    """Say what the counts show, beside the published ones. They are exact, so they have no errors."""
    return [_agreement(result), *_by_size(result), *_nearest(result), *_foveation(result)]


def _agreement(result: xr.Dataset) -> str:
    known = result[["here", "published"]].where(result.published.notnull() & result.here.notnull(), drop=True)
    if not known.sizes["case"]:
        return "Nothing is published on these networks at these sizes."
    wrong = known.where(known.here != known.published, drop=True)
    if not wrong.sizes["case"]:
        return (
            f"All {known.sizes['case']} published counts of uneven down-samplings are found again, exactly; "
            "they follow from the architecture and have no error."
        )
    joined = "; ".join(f"{c.case.item()}: {c.here:.0f}, published {c.published:.0f}" for c in _cases(wrong))
    return f"{wrong.sizes['case']} of {known.sizes['case']} published counts are not found again: {joined}."


def _by_size(result: xr.Dataset) -> list[str]:
    sentences = []
    padded = result.here.where(result.n_downsamplings > 0, drop=True)
    for size in np.unique(padded["size"]):
        here = padded[padded["size"] == size].dropna("case")
        if not here.size:
            continue
        uneven = here[here > 0]
        whose = "the only network that pads where it down-samples"
        if here.size > 1:
            whose = f"{uneven.size or 'none'} of the {here.size} networks that pad where they down-sample"
        if uneven.size:
            layers = "layer" if (span := _span(uneven)) == "1" else "layers"
            what = f"{'leaves' if here.size == 1 else 'leave'} padding unread, in {span} {layers}"
        else:
            what = "leaves no padding unread" if here.size == 1 else "leaves any padding unread"
        sentences.append(f"At {size:.0f} × {size:.0f} pixels, {whose} {what}.")
    return sentences


def _span(values: xr.DataArray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _nearest(result: xr.Dataset) -> list[str]:
    larger = result.even_size.sel(direction="larger")
    uneven = larger.where(result.here > 0, drop=True)
    if not uneven.sizes["case"]:
        return []
    steps = uneven - uneven["size"]
    unknown = int(steps.isnull().sum())
    found = steps.dropna("case")
    sentence = (
        f"Of the {uneven.sizes['case']} uneven cases, {int((found == 1).sum())} become even with a single pixel more"
    )
    return [f"{sentence}; for {unknown} there is no even size within 128 pixels." if unknown else f"{sentence}."]


def _foveation(result: xr.Dataset) -> list[str]:
    asymmetry = result.foveation_asymmetry.max("axis")
    uneven, even = asymmetry[result.here > 0].dropna("case"), asymmetry[result.here == 0].dropna("case")
    sentences = []
    unequally = uneven[uneven.values > _NONE]
    if unequally.size:
        whole = "" if unequally.size == uneven.size else f" in {unequally.size} of {uneven.size} cases"
        sentences.append(
            f"Where padding is unread, opposite sides are read unequally often{whole}: {float(unequally.min()):.2g} to "
            f"{float(unequally.max()):.2g} of the variance of foveation, the number of paths, is antisymmetric."
        )
    unequal = [str(name) for name in even.case.values[even.values > _NONE]]
    if even.size:
        sentences.append(
            f"Of the {even.size} cases without unread padding, {even.size - len(unequal)} read opposite sides equally "
            "often."
        )
    if unequal:
        sentences.append(
            f"Read unequally although no padding is unread: {', '.join(unequal)}. Layers that do not pad can end "
            "unevenly too, where their windows miss the last rows or reach beyond them."
        )
    return sentences


def _cases(result: xr.Dataset) -> list[xr.Dataset]:
    return [result.isel(case=number) for number in range(result.sizes["case"])]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the figures of an audit."""
    section = report.add_section("Uneven down-samplings")
    section.add_figure(
        _draw_counts(result),
        caption="Down-samplings that leave padding unread, by network and input size. Grey: all of its down-samplings "
        "that pad. Crosses: published.",
        alt="; ".join(f"{c.case.item()}: {c.here:.0f} of {c.n_downsamplings:.0f}" for c in _cases(result)),
        table=result[["here", "published", "n_downsamplings"]].to_dataframe().reset_index(),
    )
    chosen = _with_maps(result)
    if chosen:
        section = report.add_section("Foveation")
        section.add_paragraph(
            "How often the last layer reads each pixel, as the number of paths through the windows of all layers, "
            "channels averaged; behind attention, where paths cannot be counted, the last layer before it. "
            "Pixels near the border are read less; where padding is unread, less at the bottom and right than at the "
            "top and left."
        )
        section.add_figure(
            _draw_foveation(result, chosen),
            caption="Paths from each pixel to the last layer, channels averaged, relative to the mean, on one "
            "logarithmic scale. They are counted with all weights set to one, and are no response of a trained "
            "network.",
            alt="; ".join(
                f"{result.case.values[i]}: antisymmetric share {float(result.foveation_asymmetry[i].max()):.2g}"
                for i in chosen
            ),
            image_format="png",
        )


def _draw_counts(result: xr.Dataset) -> Figure:
    networks = list(dict.fromkeys(map(str, result.network.values)))
    ranks = pd.Series(result["size"].values).groupby(result.network.values).rank(method="dense").astype(int) - 1
    figure = Figure(figsize=(7, 1.1 + 0.34 * len(networks)), layout="constrained")
    ax = figure.subplots()
    n_ranks = int(ranks.max()) + 1
    for case, rank in zip(_cases(result), ranks, strict=True):
        place = networks.index(str(case.network.item())) + 0.22 * (rank - (n_ranks - 1) / 2)
        ax.plot([0, float(case.n_downsamplings)], [place, place], color="0.88", linewidth=4, zorder=0)
        ax.plot(float(case.here), place, "o", color=_SIZE_COLOURS[rank % len(_SIZE_COLOURS)], markersize=6)
        ax.plot(float(case.published), place, "x", color="black", markersize=5, markeredgewidth=1.2)
    for rank in range(n_ranks):
        sizes = " or ".join(f"{size}" for size in np.unique(result["size"].values[ranks == rank]))
        ax.plot([], [], "o", color=_SIZE_COLOURS[rank % len(_SIZE_COLOURS)], label=f"{sizes} pixels")
    ax.plot([], [], "x", color="black", label="published")
    ax.set_yticks(range(len(networks)))
    ax.set_yticklabels(networks, parse_math=False)
    ax.set(xlabel="down-samplings with uneven padding", ylim=(len(networks) - 0.5, -0.5))
    ax.set_xlim(-0.3)
    figure.legend(loc="outside upper center", ncols=n_ranks + 1, frameon=False, fontsize="small")
    sns.despine(ax=ax)
    return figure


def _with_maps(result: xr.Dataset) -> list[int]:
    """Return the cases of the first networks, as many as fit into a figure."""
    networks = list(dict.fromkeys(map(str, result.network.values)))
    first = [networks[0], *[name for name in networks[1:] if name.startswith("cifar")], *networks[1:]]
    shown = list(dict.fromkeys(first))[:_MOST_MAPS]
    return [i for i, name in enumerate(result.network.values) if name in shown and _has_map(result, i)]


def _has_map(result: xr.Dataset, number: int) -> bool:
    return f"foveation_{number}" in result and bool(result[f"foveation_{number}"].notnull().any())


def _draw_foveation(result: xr.Dataset, chosen: list[int]) -> Figure:
    maps = [result[f"foveation_{index}"].values for index in chosen]
    columns = min(len(maps), 4)
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(2.1 * columns + 0.9, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    limits = (
        float(np.nanmin(np.concatenate([m.ravel() for m in maps]))),
        float(np.nanmax(np.concatenate([m.ravel() for m in maps]))),
    )
    for ax in axes[len(maps) :]:
        ax.set_axis_off()
    for ax, index, map_ in zip(axes, chosen, maps, strict=False):
        image = draw_foveation(ax, map_, limits)
        ax.set_title(str(result.case.values[index]), fontsize="small", parse_math=False)
    figure.colorbar(image, ax=axes.tolist(), label="paths from each pixel ÷ mean")
    return figure
