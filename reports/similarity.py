"""What the page of the study similarity shows."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import Estimate, estimate, joined

__all__ = ["add_figures", "findings"]

_COLOURS = dict(zip(("plain", "anti-aliased"), COLOURS, strict=False))
_MAP = 1.05  # inches
_ALIKE = 1e-6  # rounding
_QUANTITIES = {"local roughness": "local roughness", "global similarity": "1 − global similarity"}


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [
        _compare(
            result, "local roughness", "the roughness from one pixel to the next",
            "blurring makes features smoother locally", says_lower=True,
        ),
        _compare(
            result, "global similarity", "the distance from full similarity over the frame",
            "blurring does not make features more alike over the frame", says_lower=False,
        ),
        _range_of(result),
        _seeds(result),
        _speed(result),
    ]  # fmt: skip
    return [sentence for sentence in sentences if sentence]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add both numbers of all networks, and the heat maps."""
    section = report.add_section("Locally and globally")
    section.add_figure(
        _draw_numbers(result),
        caption="A point for each network: local roughness, and how far the mean similarity over the frame is from 1, "
        "on logarithmic axes. Left is more alike.",
        alt=f"Points by features. Anti-aliased over plain, roughness: {_ratios(result, 'local roughness')}; 1 − global "
        f"similarity: {_ratios(result, 'global similarity')}.",
    )
    section = report.add_section("Heat maps")
    for name, heat_map in result.data_vars.items():
        if str(name).startswith("similarity_"):
            _add_heat_maps(section, heat_map)


def _differences(result: xr.Dataset, measure: str) -> Iterator[tuple[str, Estimate]]:
    """Yield for all features and sizes the logarithm of anti-aliased over plain, paired by seeds."""
    if result.sizes["variant"] < 2:
        return
    values = _quantity(result, measure)
    for features in result.features.values:
        for size in result["size"].values:
            plain, blurred = (
                values.sel(features=features, size=size, variant=variant).values
                for variant in ("plain", "anti-aliased")
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                found = estimate(np.log(blurred / plain))
            if found.is_known:
                yield f"{features}, {size} objects", found


def _quantity(result: xr.Dataset, measure: str) -> xr.DataArray:
    """Return what is the smaller, the more alike the features are."""
    values = result.here_by_seed.sel(measure=measure)
    return 1 - values if measure == "global similarity" else values


def _compare(result: xr.Dataset, measure: str, meaning: str, claim: str, *, says_lower: bool) -> str:
    """Say where anti-aliasing lowers or raises a quantity beyond its error, and what that means for the claim."""
    found = dict(_differences(result, measure))
    if not found:
        return ""
    factors = [np.exp(item.mean) for item in found.values()]
    falls = [name for name, item in found.items() if item.high < 0]
    rises = [name for name, item in found.items() if item.low > 0]
    ties = [name for name in found if name not in falls and name not in rises]
    for_it, against_it = (falls, rises) if says_lower else (rises, falls)
    verdict = f"speaks for it in {len(for_it)}, against it in {len(against_it)}, and decides nothing in {len(ties)}"
    return (
        f"Anti-aliasing changes {meaning} by a factor of {min(factors):.2f} to {max(factors):.2f}: it falls in "
        f"{len(falls)} of {len(found)} comparisons"
        + (f", rises in {len(rises)} ({joined(rises)})" if rises else "")
        + (f", and cannot be told from unchanged for {joined(ties)}" if ties else "")
        + f". For the published claim, that {claim}: {verdict}."
    )


def _range_of(result: xr.Dataset) -> str:
    """Say which plain features are most and least alike over the frame."""
    means = result.here.sel(measure="global similarity", variant="plain").mean("size")
    known = means.dropna("features")
    if known.sizes["features"] < 2:
        return ""
    if float(known.max() - known.min()) < _ALIKE:
        return f"The plain networks are all alike in their global similarity ({float(known[0]):.4f})."
    ordered = known.sortby(known)
    least, most = str(ordered.features.values[0]), str(ordered.features.values[-1])
    return (
        f"Of the plain networks, {least} tells positions apart most (global similarity {float(ordered[0]):.4f}) and "
        f"{most} least ({float(ordered[-1]):.4f}); 1 would mean that the features do not depend on the place at all."
    )


def _seeds(result: xr.Dataset) -> str:
    if result.sizes["seed"] > 1:
        return ""
    return "There is one network of each kind, so no error over seeds is given; “objects_se” is the one over objects."


def _speed(result: xr.Dataset) -> str:
    speed = result.shifts_per_second
    if speed.isnull().all():
        return ""
    sentence = f"Between {float(speed.min()):,.0f} and {float(speed.max()):,.0f} shifts were measured in a second"
    share = result.relative_speed
    return f"{sentence}: {float(share.min()):.2f} to {float(share.max()):.2f} times the images of a bare forward pass."


def _ratios(result: xr.Dataset, measure: str) -> str:
    return "; ".join(f"{name} {np.exp(item.mean):.2f}" for name, item in _differences(result, measure)) or "none"


def _draw_numbers(result: xr.Dataset) -> Figure:
    by_size = {}
    for size in map(str, result["size"].values):
        part = result.sel(size=size)
        known = part.sel(features=part.here.notnull().any(["variant", "measure"]))
        if known.sizes["features"]:
            by_size[size] = known
    heights = [part.sizes["features"] for part in by_size.values()]
    figure = Figure(figsize=(9, 0.9 * len(heights) + 0.4 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), 2, sharey="row", sharex="col", squeeze=False, height_ratios=heights)
    for row, (size, part) in enumerate(by_size.items()):
        for ax, (measure, label) in zip(grid[row], _QUANTITIES.items(), strict=True):
            _draw_points(ax, _quantity(part, measure))
            ax.set_xlabel(label if row == len(heights) - 1 else "")
        grid[row, 0].set_title(f"{size} objects", fontsize="medium", loc="left")
    grid[0, 1].legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


def _draw_points(ax: Axes, values: xr.DataArray) -> None:
    features = [str(name) for name in values.features.values]
    for number, variant in enumerate(map(str, values.variant.values)):
        for place, name in enumerate(features):
            seen = values.sel(variant=variant, features=name).values
            ax.plot(
                seen, np.full(len(seen), place + 0.2 * (number - 0.5)), "o", color=_COLOURS[variant], markersize=5,
                alpha=0.75, label=variant if place == 0 else None, clip_on=False,
            )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yticks(range(len(features)), features, parse_math=False)
    ax.set_ylim(len(features) - 0.5, -0.5)
    ax.grid(axis="x", color="0.92")
    ax.set_axisbelow(True)
    sns.despine(ax=ax)


def _add_heat_maps(section: Section, heat_map: xr.DataArray) -> None:
    net, size = heat_map.attrs["net"], heat_map.attrs["size"]
    lowest = float(heat_map.min())
    section.add_figure(
        _draw_heat_maps(heat_map),
        caption=f"{net}, {size} objects: cosine similarity of the features at each position of the object to those at "
        "the reference named above, mean over objects and seeds. Each row of features has a scale of its own, the same "
        "for both variants.",
        alt=f"Heat maps of {net}, a row for each variant and a column for each reference; similarities from "
        f"{lowest:.4f} to 1.",
        image_format="png",
    )


def _draw_heat_maps(heat_map: xr.DataArray) -> Figure:
    """Draw a row for each features and variant, a column for each reference."""
    features_dim = next(str(name) for name in heat_map.dims if str(name).startswith("features"))
    rows = [(name, variant) for name in heat_map[features_dim].values for variant in heat_map.variant.values]
    references = [str(name) for name in heat_map.reference.values]
    figure = Figure(figsize=(_MAP * len(references) + 2.2, (_MAP + 0.08) * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), len(references), squeeze=False)
    n_variants = heat_map.sizes["variant"]
    for row, (name, variant) in enumerate(rows):
        maps = heat_map.sel({features_dim: name})
        lowest = float(maps.min())
        for column, reference in enumerate(references):
            ax = grid[row, column]
            values = maps.sel(variant=variant, reference=reference).values
            image = ax.imshow(values, vmin=lowest, vmax=1, cmap="viridis", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(reference, fontsize="small")
        label = f"{name}\n{variant}" if len(heat_map[features_dim]) > 1 else str(variant)
        grid[row, 0].set_ylabel(label, fontsize="small", parse_math=False)
        if row % n_variants == n_variants - 1:
            axes = grid[row - n_variants + 1 : row + 1].ravel().tolist()
            figure.colorbar(image, ax=axes, label="cosine similarity", aspect=12 * n_variants)
    return figure
