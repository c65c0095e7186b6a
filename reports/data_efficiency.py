"""What the page of the study data_efficiency shows."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.axes import RESULT_COLOURS, RESULT_MARKERS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, written

__all__ = ["add_figures", "findings"]

_NAMES = {
    "S": "S-Conv",
    "F": "F-Conv",
    "F, S's pool": "F-Conv with S-Conv's pooling",
    "circular": "circular padding",
    "valid": "no padding",
    "S, at one place": "S-Conv, at one place",
    "F, at one place": "F-Conv, at one place",
}
_PAIRS = (
    ("F", "S"), ("F, S's pool", "S"), ("circular", "S"), ("valid", "S"), ("F, at one place", "S, at one place"),
)  # fmt: skip
_SCORES = {"accuracy": "accuracy", "elsewhere": "accuracy elsewhere"}
_PERCENT = (0.0, 100.0)


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    return [*_contrasts(result), *_levels(result)]


def _schedules(result: xr.Dataset) -> list[str]:
    return [str(schedule) for schedule in result.schedule.values]


def _sizes(result: xr.Dataset) -> list[str]:
    """Return the sizes that were measured, the fewest images first."""
    return [str(size) for size in result.n_images.dropna("size").sortby(result.n_images)["size"].values]


def _of(result: xr.Dataset, **at: str) -> Estimate:
    return estimate(result.here_by_seed.sel(at).values, _PERCENT)


def _differences(result: xr.Dataset, arm: str, other: str, **at: str) -> dict[str, Estimate]:
    """Return, by size, by how many points an arm is above another, paired by seed."""
    here = result.here_by_seed.sel(at)
    paired = here.sel(arm=arm) - here.sel(arm=other)
    found = {size: estimate(paired.sel(size=size).values) for size in _sizes(result)}
    return {size: difference for size, difference in found.items() if difference.is_known}


def _contrasts(result: xr.Dataset) -> Iterator[str]:
    """Tell which border is ahead, at which numbers of images."""
    for arm, other in _PAIRS:
        if not {arm, other} <= set(result.arm.values):
            continue
        for schedule in _schedules(result):
            parts = []
            for score, name in _SCORES.items():
                found = _differences(result, arm, other, schedule=schedule, score=score)
                if found:
                    numbers = ", ".join(
                        f"{one.formatted(decimals=1, sign=True)} at {_images(size)}" for size, one in found.items()
                    )
                    parts.append(f"{name} {_verdict(found)} ({numbers})")
            if parts:
                yield f"{_NAMES[arm]} less {_NAMES[other]}, {schedule}, in points: {'; '.join(parts)}."


def _images(size: str) -> str:
    return "all images" if size == "all" else f"{size} a class"


def _verdict(found: dict[str, Estimate]) -> str:
    if all(np.isnan(one.half_width) for one in found.values()):
        return "of one network each, so without an error"
    ahead = [size for size, one in found.items() if one.differs and one.mean > 0]
    behind = [size for size, one in found.items() if one.differs and one.mean < 0]
    if not ahead and not behind:
        return "nowhere beyond its error"
    told = [
        f"{word} beyond its error at {' and '.join(map(_images, sizes))}"
        for word, sizes in (("ahead", ahead), ("behind", behind))
        if sizes
    ]
    return ", ".join(told)


def _levels(result: xr.Dataset) -> Iterator[str]:
    """Tell what is learned at all of the fewest and of the most images, and what of it is known elsewhere."""
    sizes = _sizes(result)
    for schedule in _schedules(result):
        parts = []
        for arm in map(str, result.arm.values):
            numbers = [
                " and ".join(
                    written(value.mean, 1)
                    for score in _SCORES
                    if (value := _of(result, size=size, schedule=schedule, arm=arm, score=score)).is_known
                )
                for size in dict.fromkeys((sizes[0], sizes[-1]))
            ]
            if all(numbers):
                parts.append(f"{_NAMES[arm]} {' to '.join(numbers)}")
        if parts:
            yield (
                f"Accuracy as trained and elsewhere, {schedule}, in per cent, from {_images(sizes[0])} to "
                f"{_images(sizes[-1])}: {'; '.join(parts)}."
            )


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add accuracy by the number of images, and by how much other borders are above S-Conv."""
    section = report.add_section("Accuracy by the number of images")
    section.add_figure(
        _draw_levels(result),
        caption="Means over networks. Above: tested as trained; below: where no training image stood."
        + (" Diamonds and squares: S-Conv and F-Conv as published." if _is_published(result) else ""),
        alt="Lines for each arm. " + " ".join(_levels(result)),
    )
    section = report.add_section("Beside S-Conv")
    section.add_figure(
        _draw_differences(result),
        caption="By how many points networks are above S-Conv of the same seed and images, with the 95 % interval over "
        "seeds (of two seeds both values).",
        alt="Points for each arm. " + " ".join(_contrasts(result)),
    )


def _is_published(result: xr.Dataset) -> bool:
    return bool(result.published.sel(size=_sizes(result)).notnull().any())


def _draw_levels(result: xr.Dataset) -> Figure:
    schedules, sizes = _schedules(result), _sizes(result)
    counts = result.n_images.sel(size=sizes).values
    figure = Figure(figsize=(3.6 * len(schedules), 4.8), layout="constrained")
    grid = figure.subplots(len(_SCORES), len(schedules), sharex=True, sharey=True, squeeze=False)
    for row, (score, name) in zip(grid, _SCORES.items(), strict=True):
        for panel, schedule in zip(row, schedules, strict=True):
            for number, arm in enumerate(map(str, result.arm.values)):
                found = [_of(result, size=size, schedule=schedule, arm=arm, score=score) for size in sizes]
                panel.plot(
                    counts, [one.mean for one in found], color=RESULT_COLOURS[number % len(RESULT_COLOURS)],
                    marker=RESULT_MARKERS[number % len(RESULT_MARKERS)], markersize=4, linewidth=1.2,
                    linestyle="--" if arm.endswith("one place") else "-", label=_NAMES[arm],
                )  # fmt: skip
            for arm, marker in (("S", "D"), ("F", "s")):
                published = result.published.sel(size=sizes, schedule=schedule, arm=arm, score=score)
                panel.plot(counts, published, marker, color="black", fillstyle="none", markersize=5)
            panel.set_xscale("log")
            panel.set_xticks(counts, [f"{count:,.0f}" for count in counts], minor=False)
            panel.set_xticks([], minor=True)
            sns.despine(ax=panel)
        row[0].set_ylabel(f"{name} (%)", fontsize=8)
    for panel, schedule in zip(grid[0], schedules, strict=True):
        panel.set_title(schedule, fontsize=9)
    for panel in grid[-1]:
        panel.set_xlabel("training images", fontsize=8)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw_differences(result: xr.Dataset) -> Figure:
    schedules, sizes = _schedules(result), _sizes(result)
    arms = [(arm, other) for arm, other in _PAIRS if {arm, other} <= set(result.arm.values)]
    figure = Figure(figsize=(3.6 * len(schedules), 4.6), layout="constrained")
    grid = figure.subplots(len(_SCORES), len(schedules), sharex=True, sharey="row", squeeze=False)
    for row, (score, name) in zip(grid, _SCORES.items(), strict=True):
        for panel, schedule in zip(row, schedules, strict=True):
            panel.axhline(0, color="0.2", linewidth=0.8)
            for number, (arm, other) in enumerate(arms):
                found = _differences(result, arm, other, schedule=schedule, score=score)
                places = np.array([sizes.index(size) for size in found]) + 0.12 * (number - (len(arms) - 1) / 2)
                panel.errorbar(
                    places, [one.mean for one in found.values()], yerr=bars(list(found.values())),
                    fmt=RESULT_MARKERS[number % len(RESULT_MARKERS)], markersize=4, linewidth=1, capsize=1.5,
                    color=RESULT_COLOURS[(number + 1) % len(RESULT_COLOURS)],
                    label=f"{_NAMES[arm]} − {_NAMES[other]}",
                )  # fmt: skip
            sns.despine(ax=panel)
        row[0].set_ylabel(f"{name}, points", fontsize=8)
    for panel, schedule in zip(grid[0], schedules, strict=True):
        panel.set_title(schedule, fontsize=9)
    for panel in grid[-1]:
        panel.set_xticks(range(len(sizes)), sizes)
        panel.set_xlabel("images a class", fontsize=8)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure
