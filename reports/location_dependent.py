"""What the page of the study on location-dependent tasks says and shows. Never loads torch."""

from collections.abc import Callable

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, joined

__all__ = ["add_figures", "draw_rings", "draw_scores", "findings"]

_COLOURS = COLOURS
_CANVAS_COLOURS = {"black": "black", "white": "0.75", "mean": _COLOURS[0]}
_MARKERS = "osD^vPX"
_ROUNDING = 1e-6  # points
_PERCENT = (0, 100)
_ONE_NETWORK = "of one network each, without an error"
_NAMES = {
    "location": "location (accuracy, %)",
    "classification": "classification (accuracy, %)",
    "segmentation": "segmentation (mean IoU, %)",
}


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences. Errors are 95 % t intervals over seeds.

    Parameters
    ----------
    result
        From `probe.analyses.location_dependent.study.run`.
    """
    sentences = [_formatted(result, grid) for grid in result.grid.values]
    sentences += [_blind(result)]
    sentences += [_rings(result, task) for task in ("classification", "segmentation")]
    sentences += [_canvases(result), _task(result, "classification"), _task(result, "segmentation")]
    sentences += [_unlearned(result), _errors(result)]
    return [sentence for sentence in sentences if sentence]


def _formatted(result: xr.Dataset, grid: int) -> str:
    """List how often the cell is named, the most first."""
    chance = float(result.chance.sel(task="location", grid=grid))
    ordered = _descending(_by_padding(result.here_by_seed.sel(task="location", grid=grid).mean("canvas")))
    if not ordered:
        return ""
    return (
        f"Location, {grid}×{grid} cells (chance {chance:.1f} %), mean of the canvases: "
        f"{joined(f'{padding} {_percent(score)}' for padding, score in ordered.items())}."
    )


def _blind(result: xr.Dataset) -> str:
    """Name the paddings under which the cell is not told beyond chance, on any grid."""
    above = (result.here_by_seed - result.chance).sel(task="location").mean("canvas")
    scores = {grid: _by_padding(above.sel(grid=grid)) for grid in result.grid.values}
    known = [str(p) for p in result.padding.values if all(s[str(p)].is_known for s in scores.values())]
    blind = [padding for padding in known if all(one[padding].low <= 0 for one in scores.values())]
    if not known:
        return ""
    if not blind:
        return f"Under every padding that was scored the cell is told beyond chance{_and_error(result)} on some grid."
    return f"That the cell is told beyond chance{_and_error(result)} is not shown on any grid under {joined(blind)}."


def _and_error(result: xr.Dataset) -> str:
    return " and error" if _has_error(result) else f" ({_ONE_NETWORK})"


def _has_error(result: xr.Dataset) -> bool:
    return result.sizes["seed"] > 1


def _rings(result: xr.Dataset, task: str) -> str:
    """Compare cells at the border with the innermost ones, on the largest grid."""
    grid = int(result.grid.max())
    rings = result.by_ring.sel(task=task, grid=grid).mean("canvas")
    innermost = (grid - 1) // 2
    costs = _by_padding(rings.sel(ring=0) - rings.sel(ring=innermost))
    worse = {padding: cost for padding, cost in costs.items() if cost.high < 0}
    better = {padding: cost for padding, cost in costs.items() if cost.low > 0}
    neither = [padding for padding, cost in costs.items() if cost.is_known and padding not in {**worse, **better}]
    parts = [
        f"{verb} there under {joined(f'{padding} ({_points(cost)})' for padding, cost in found.items())}"
        for verb, found in (("lower", worse), ("higher", better))
        if found
    ]
    if neither:
        parts.append(
            f"a difference is not shown{' beyond error' if _has_error(result) else ''} under {joined(neither)}"
        )
    if not parts:
        return ""
    if not _has_error(result):
        parts[-1] += f" ({_ONE_NETWORK})"
    return f"{task.capitalize()} in cells at the border against the middle one ({grid}×{grid}): {'; '.join(parts)}."


def _canvases(result: xr.Dataset) -> str:
    """Compare the colours of the canvas under zero padding, on the largest grid."""
    if result.sizes["canvas"] < 2 or "zeros" not in result.padding:
        return ""
    grid = int(result.grid.max())
    chosen = result.here_by_seed.sel(task="location", padding="zeros", grid=grid)
    scores = {str(c): estimate(chosen.sel(canvas=c).values) for c in chosen.canvas.values}
    if len(ordered := list(_descending(scores))) < 2:
        return ""
    first, last = ordered[0], ordered[-1]
    difference = estimate((chosen.sel(canvas=first) - chosen.sel(canvas=last)).values)
    verdict = "no more than error" if difference.is_tie else "more than error"
    if not _has_error(result):
        verdict = _ONE_NETWORK
    return (
        f"Zero padding tells the cell ({grid}×{grid}) of "
        f"{joined(f'{_percent(score)} on {canvas}' for canvas, score in scores.items())}; the largest difference, "
        f"{first} − {last}, is {_points(difference)}, {verdict}."
    )


def _task(result: xr.Dataset, task: str) -> str:
    """Say which padding is best at a task, and which cannot be told from it, on the largest grid."""
    grid = int(result.grid.max())
    chosen = result.here_by_seed.sel(task=task, grid=grid).mean("canvas")
    ordered = _descending(_by_padding(chosen))
    if len(ordered) < 2:
        return ""
    best, *others = ordered
    if ordered[best].mean - ordered[others[-1]].mean < _ROUNDING:
        return f"{task.capitalize()} ({grid}×{grid}): {_percent(ordered[best])} under all paddings alike."
    gaps = {padding: estimate((chosen.sel(padding=best) - chosen.sel(padding=padding)).values) for padding in others}
    ties = [padding for padding, gap in gaps.items() if gap.is_tie]
    if _has_error(result):
        behind = f", not beyond error above {joined(ties)}" if ties else ""
    else:
        behind = f"{f', level with {joined(ties)}' if ties else ''} ({_ONE_NETWORK})"
    numbers = joined(f"{padding} {_percent(score)}" for padding, score in ordered.items() if padding != best)
    return (
        f"{task.capitalize()} ({grid}×{grid}): {best} is highest with {_percent(ordered[best])}{behind}. "
        f"The others: {numbers}."
    )


def _unlearned(result: xr.Dataset) -> str:
    """Name what scores no more than a constant answer, where content alone would do."""
    above = result.here.mean("canvas") - result.chance
    cases = [
        f"{task} ({grid}×{grid}) under {joined(failing)}"
        for task in ("classification", "segmentation")
        for grid in result.grid.values
        if (failing := [p for p in map(str, result.padding.values) if above.sel(task=task, grid=grid, padding=p) < 1])
    ]
    if not cases:
        return ""
    return (
        f"Less than a point above a constant answer, so nothing was learned of it in this training: {joined(cases)}. "
        "That says nothing of what these networks could learn in a longer one."
    )


def _errors(result: xr.Dataset) -> str:
    if result.sizes["seed"] > 1:
        return ""
    return "There is one network of each kind, so no error over seeds can be given."


def _by_padding(scores: xr.DataArray) -> dict[str, Estimate]:
    return {str(padding): estimate(scores.sel(padding=padding).values) for padding in scores.padding.values}


def _descending(scores: dict[str, Estimate]) -> dict[str, Estimate]:
    known = {name: score for name, score in scores.items() if score.is_known}
    return dict(sorted(known.items(), key=lambda item: -item[1].mean))


def _percent(score: Estimate) -> str:
    return f"{score.formatted(decimals=1, within=(0, 100))} %"


def _points(difference: Estimate) -> str:
    return f"{difference.formatted(decimals=1, sign=True)} points"


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the scores by padding and by distance to the border, each in a section of its own.

    Parameters
    ----------
    report
        The page.
    result
        From `probe.analyses.location_dependent.study.run`.
    """
    means = result.here.mean("canvas").to_series().rename("mean of the canvases (%)").reset_index()
    said = "; ".join(f"{r.task}, {r.grid}×{r.grid}, {r.padding} {r[-1]:.0f} %" for r in means.itertuples(index=False))
    report.add_section("Scores by padding").add_figure(
        draw_scores(result),
        caption="Scores by padding: the mean over seeds with its 95 % interval (of two, both values), a colour for "
        "each canvas. Dashed: what a constant answer scores.",
        alt=f"Scores by padding, a panel for each task and grid. Means of the canvases: {said}.",
        table=means,
    )
    rings = result.by_ring.mean(["seed", "canvas"]).to_series().dropna().rename("score (%)").reset_index()
    phrase = "; ".join(
        f"{r.task}, {r.grid}×{r.grid}, {r.padding}, ring {r.ring}: {r[-1]:.0f} %" for r in rings.itertuples(index=False)
    )
    report.add_section("Scores by distance to the border").add_figure(
        draw_rings(result),
        caption="Scores by the number of cells between the image and the border, a line for each padding: the mean "
        "over canvases and seeds, with the 95 % interval over seeds (of two, both values).",
        alt=f"Scores by distance to the border. {phrase}.",
        table=rings,
    )


def draw_scores(result: xr.Dataset) -> Figure:
    """Draw the score of each padding and canvas: a row for each grid, a column for each task."""
    paddings = [str(padding) for padding in result.padding.values]

    def draw(ax: Axes, task: str, grid: int) -> None:
        for number, canvas in enumerate(map(str, result.canvas.values)):
            shift = 0.22 * (number - (result.sizes["canvas"] - 1) / 2)
            scores = _by_padding(result.here_by_seed.sel(task=task, grid=grid, canvas=canvas))
            ax.errorbar(
                [score.mean for score in scores.values()],
                np.arange(len(scores)) + shift,
                xerr=bars(list(scores.values()), _PERCENT),
                fmt="o",
                markersize=5,
                color=_CANVAS_COLOURS[canvas],
                markeredgecolor="0.3",
                ecolor="0.3",
                elinewidth=1,
                label=canvas,
            )
        ax.axvline(float(result.chance.sel(task=task, grid=grid)), color="0.5", linestyle="--", linewidth=0.8)
        ax.set_yticks(range(len(paddings)), paddings, fontsize="small")
        ax.set(ylim=(len(paddings) - 0.5, -0.5), xlim=(-3, 103))

    figure, panels = _panels(result, draw, height=0.6 + 0.28 * len(paddings))
    for ax in panels[-1]:
        ax.set_xlabel("score (%)", fontsize="small")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        title="canvas",
        loc="outside upper center",
        ncols=result.sizes["canvas"],
        frameon=False,
    )
    return figure


def draw_rings(result: xr.Dataset) -> Figure:
    """Draw the score of each padding by distance to the border: a row for each grid, a column for each task."""
    paddings = [str(padding) for padding in result.padding.values]

    def draw(ax: Axes, task: str, grid: int) -> None:
        rings = range((grid + 1) // 2)
        for number, padding in enumerate(paddings):
            chosen = result.by_ring.sel(task=task, grid=grid, padding=padding).mean("canvas")
            scores = [estimate(chosen.sel(ring=ring).values) for ring in rings]
            ax.errorbar(
                np.array(rings) + 0.05 * (number - (len(paddings) - 1) / 2),
                [score.mean for score in scores],
                bars(scores, _PERCENT),
                fmt=f"{_MARKERS[number]}-",
                markersize=4,
                color=_COLOURS[number],
                linewidth=1,
                elinewidth=0.8,
                label=padding,
            )
        ax.axhline(float(result.chance.sel(task=task, grid=grid)), color="0.5", linestyle="--", linewidth=0.8)
        ax.set_xticks(list(rings))
        ax.set_ylim(-3, 103)

    figure, panels = _panels(result, draw, height=2.2)
    for ax in panels[-1]:
        ax.set_xlabel("cells between image and border", fontsize="small")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), title="padding", loc="outside right center", frameon=False)
    return figure


def _panels(result: xr.Dataset, draw: Callable[[Axes, str, int], None], *, height: float) -> tuple[Figure, np.ndarray]:
    """Make a panel for each grid (row) and task (column)."""
    grids, tasks = [int(grid) for grid in result.grid.values], [str(task) for task in result.task.values]
    figure = Figure(figsize=(9.6, height * len(grids) + 0.8), layout="constrained")
    panels = figure.subplots(len(grids), len(tasks), sharey=True, squeeze=False)
    for row, grid in enumerate(grids):
        for column, task in enumerate(tasks):
            draw(panels[row, column], task, grid)
            sns.despine(ax=panels[row, column])
            if row == 0:
                panels[row, column].set_title(_NAMES[task], fontsize="medium")
        panels[row, 0].set_ylabel(f"{grid}×{grid} cells", fontsize="medium")
    return figure, panels
