"""What the page of the study erasing shows."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.axes import RESULT_COLOURS, RESULT_MARKERS, STIMULUS_COLOURS
from probe.plots.erasing import METHOD_NAMES, READERS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, estimate, interval, written

__all__ = ["add_figures", "findings"]

_DEGREES = 4  # of the errors over five folds of images
_READERS = {reader: name.replace("\n", " ") for reader, name in READERS.items()}
_EDITS = {"neighbourhood": "LEACE of 3×3 cells", "second_order": "one mean and variance at every position"}
_RANDOM = "0.45"


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [*_erased(result), _channels(result), *_matched(result), *_read(result), *_tried(result)]
    return [sentence for sentence in sentences if sentence]


def _value(result: xr.Dataset, eraser: str, quantity: str) -> Estimate:
    """Return a number over seeds; of one network with its error over images."""
    at = {"eraser": eraser, "quantity": quantity}
    values = result.here_by_seed.sel(at).values
    known = values[np.isfinite(values)]
    if len(known) != 1:
        return estimate(values)
    error = float(result.error.sel(at).values[np.isfinite(values)][0])
    return interval(float(known[0]), error, degrees=_DEGREES)


def _difference(result: xr.Dataset, eraser: str, quantity: str) -> Estimate:
    """Return how much more it is than with nothing erased, over seeds; of one network with both errors."""
    names = {"quantity": quantity}
    paired = result.here_by_seed.sel(eraser=eraser, **names) - result.here_by_seed.sel(eraser="intact", **names)
    values = paired.values[np.isfinite(paired.values)]
    if len(values) != 1:
        return estimate(values)
    ours, intact = (float(result.error.sel(eraser=name, **names).max()) for name in (eraser, "intact"))
    return interval(float(values[0]), float(np.hypot(ours, intact)), degrees=_DEGREES)


def _parts(eraser: str) -> tuple[str, int, str]:
    method, rank, fitted = eraser.replace(",", "").split(" ")
    return method, int(rank), fitted


def _name(eraser: str) -> str:
    method, rank, fitted = _parts(eraser)
    return f"{METHOD_NAMES[method]} of rank {rank}, fitted to {fitted} images,"


def _erasers(result: xr.Dataset, method: str, fitted: str = "rolled") -> list[str]:
    named = [str(name) for name in result.eraser.values if str(name) != "intact"]
    return [name for name in named if (_parts(name)[0], _parts(name)[2]) == (method, fitted)]


def _erased(result: xr.Dataset) -> Iterator[str]:
    before = _value(result, "intact", "r2_rolled")
    score = _value(result, "intact", "score")
    if before.is_known and not before.is_present:
        yield f"With nothing erased, R² on rolled images is {before}: no position is read that could be taken out."
    for fitted in ("rolled", "natural"):
        for eraser in _erasers(result, "leace", fitted)[-1:]:
            left, change = _value(result, eraser, "r2_rolled"), _difference(result, eraser, "score")
            if not (before.is_known and left.is_known):
                continue
            sentence = f"{_name(eraser)} takes R² on rolled images from {before} to {left}"
            if change.is_known:
                told = "changes the score by no more than its error" if change.is_tie else "changes the score"
                sentence += f", and {told} ({change.formatted(sign=True)} from {written(score.mean)})"
            yield sentence + "."


def _channels(result: xr.Dataset) -> str:
    """Say what it takes of channels to leave as little as LEACE does."""
    best = _erasers(result, "leace")[-1:]
    left = _value(result, best[0], "r2_rolled") if best else Estimate(np.nan, np.nan, 0)
    known = {name: _value(result, name, "r2_rolled") for name in _erasers(result, "channels")}
    known = {name: value for name, value in known.items() if value.is_known}
    if not left.is_known or not known or not _value(result, "intact", "r2_rolled").is_present:
        return ""
    enough = [name for name, value in known.items() if value.mean <= max(left.high, 0)]
    if not enough:
        most = max(known, key=lambda name: _parts(name)[1])
        return f"Zeroing {_parts(most)[1]} channels, the most that was tried, still leaves R² {known[most]}."
    score = _value(result, enough[0], "score")
    lost = f", with a score of {score}" if score.is_known else ""
    return f"To leave as little, zeroing channels takes {_parts(enough[0])[1]} of them, of the numbers tried{lost}."


def _matched(result: xr.Dataset) -> Iterator[str]:
    for quantity, what in (
        ("matched", "Cells that find themselves again under a homography"),
        ("same_place_rolled", "Nearest cells of another, rolled image at the same place"),
    ):
        before = _value(result, "intact", quantity)
        changes = {}
        for method in ("leace", "cells", "iterated", "mean_map"):
            for eraser in _erasers(result, method)[-1:]:
                changes[eraser] = _difference(result, eraser, quantity)
        changes = {eraser: change for eraser, change in changes.items() if change.is_known}
        if not before.is_known or not changes:
            continue
        most = max(changes, key=lambda name: abs(changes[name].mean))
        told = changes[most].formatted(sign=True)
        verdict = " (within its error)" if changes[most].is_tie else ""
        yield f"{what}: {before} with nothing erased; changed most by {_name(most)} {told}{verdict}."


def _mean_read(values: xr.DataArray) -> Estimate:
    return estimate(values.mean("target").values)


def _read(result: xr.Dataset) -> Iterator[str]:
    read = result.readers_r2.sel(stimulus="rolled")
    for eraser in [str(name) for name in result.read_eraser.values if str(name) != "intact"]:
        parts = []
        for reader, name in _READERS.items():
            before, after = (_mean_read(read.sel(reader=reader, read_eraser=which)) for which in ("intact", eraser))
            if before.is_known and after.is_known:
                parts.append(f"{name} {written(after.mean)} (before: {written(before.mean)})")
        if parts:
            yield f"After {_name(eraser)} readouts find on rolled images: {'; '.join(parts)}."


def _tried(result: xr.Dataset) -> Iterator[str]:
    for edit, name in _EDITS.items():
        found = {reader: _mean_read(result.edits_r2.sel(edit=edit, reader=reader)) for reader in _READERS}
        parts = [f"{_READERS[reader]} {written(one.mean)}" for reader, one in found.items() if one.is_known]
        if parts:
            yield f"Tried beyond single cells: {name} leaves to {'; to '.join(parts)}."


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add what is left beside the score, the matching of cells, and what readers find."""
    has_score = bool(np.isfinite(result.here.sel(quantity="score")).any())
    section = report.add_section("What is left and what it costs")
    section.add_figure(
        _draw_costs(result, "score" if has_score else "cost"),
        caption=f"{'Score' if has_score else 'Share of the variance that is removed'} against R² of row and column "
        "that is left, mean over networks; a point for each rank, named by it. Grey: random subspaces.",
        alt="Points for each method and rank. " + " ".join(_erased(result)),
    )
    section = report.add_section("Matching cells")
    section.add_figure(
        _draw_matching(result),
        caption="Share of cells whose most similar cell in another image lies at the same place, and share that is "
        "found again in the same image under a homography.",
        alt="Bars for each eraser. " + " ".join(_matched(result)),
    )
    section = report.add_section("What stronger readouts find")
    section.add_figure(
        _draw_readers(result),
        caption="R² of row and column on rolled images that each readout finds, before and after erasing, and after "
        "what is tried beyond one linear map of a cell.",
        alt="Bars for each readout. " + " ".join([*_read(result), *_tried(result)]),
    )


def _draw_costs(result: xr.Dataset, quantity: str) -> Figure:
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    mean = result.here
    for panel, fitted in zip(panels, ("rolled", "natural"), strict=True):
        if quantity == "score" and "random_score" in result:
            panel.plot(
                result.random_r2.sel(stimulus="rolled").mean("seed").values.ravel(),
                result.random_score.mean("seed").values.ravel(), ".", color=_RANDOM, markersize=3, alpha=0.5,
            )  # fmt: skip
        intact = mean.sel(eraser="intact")
        panel.plot(intact.sel(quantity="r2_rolled"), intact.sel(quantity=quantity), "*", color="0.2", markersize=9)
        for number, (method, name) in enumerate(METHOD_NAMES.items()):
            names = _erasers(result, method, fitted) if method != "intact" else []
            if not names:
                continue
            chosen = mean.sel(eraser=names)
            left, cost = chosen.sel(quantity="r2_rolled").values, chosen.sel(quantity=quantity).values
            panel.plot(
                left, cost, marker=RESULT_MARKERS[number], color=RESULT_COLOURS[number], markersize=4, linewidth=1.2,
                label=name,
            )  # fmt: skip
            for x, y, eraser in zip(left, cost, names, strict=True):
                if np.isfinite(x) and np.isfinite(y):
                    panel.annotate(
                        str(_parts(eraser)[1]), (x, y), (3, 3), textcoords="offset points", fontsize=6,
                        color=RESULT_COLOURS[number],
                    )  # fmt: skip
        panel.axvline(0, color="0.2", linewidth=0.8)
        panel.set(xlabel="R² left, rolled", title=f"fitted to {fitted} images")
        sns.despine(ax=panel)
    panels[0].set_ylabel("score" if quantity == "score" else "variance removed")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=5, frameon=False, fontsize=7)
    return figure


def _draw_matching(result: xr.Dataset) -> Figure:
    names = [
        str(name)
        for name in result.eraser.values
        if np.isfinite(result.here.sel(eraser=name, quantity="matched")) or str(name) == "intact"
    ]
    figure = Figure(figsize=(7.0, 1.4 + 0.2 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(names))
    for offset, stimulus in ((-0.2, "natural"), (0.2, "rolled")):
        _draw_bars(
            panels[0], result, names, f"same_place_{stimulus}", places + offset, 0.38, STIMULUS_COLOURS[stimulus]
        )
        panels[0].plot([], [], "s", color=STIMULUS_COLOURS[stimulus], label=stimulus)
    _draw_bars(panels[1], result, names, "matched", places, 0.7, "0.5")
    panels[0].set_yticks(places, [name if name == "intact" else _short(name) for name in names], fontsize=7)
    panels[0].invert_yaxis()
    panels[0].set_xlabel("nearest cell at the same place")
    panels[1].set_xlabel("matched under a homography")
    panels[0].legend(frameon=False, fontsize=7)
    for panel in panels:
        sns.despine(ax=panel)
    return figure


def _short(eraser: str) -> str:
    method, rank, fitted = _parts(eraser)
    return f"{METHOD_NAMES[method]} {rank}, {fitted}"


def _draw_bars(
    panel: Axes, result: xr.Dataset, names: list[str], quantity: str, places: np.ndarray, width: float, colour: str
) -> None:
    found = [_value(result, name, quantity) for name in names]
    half = np.nan_to_num([one.half_width for one in found])
    panel.barh(
        places, [one.mean for one in found], width, xerr=half, color=colour, error_kw={"linewidth": 0.8}, capsize=1.5
    )


def _draw_readers(result: xr.Dataset) -> Figure:
    columns = [str(name) for name in result.read_eraser.values]
    bars = {
        name if name == "intact" else _short(name): result.readers_r2.sel(stimulus="rolled", read_eraser=name)
        for name in columns
    }
    bars |= {name: result.edits_r2.sel(edit=edit) for edit, name in _EDITS.items()}
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    panel = figure.subplots()
    panel.axhline(0, color="0.2", linewidth=0.8)
    for number, (name, values) in enumerate(bars.items()):
        found = [_mean_read(values.sel(reader=reader)) for reader in _READERS]
        places = np.arange(len(_READERS)) + (number - (len(bars) - 1) / 2) * 0.8 / len(bars)
        colour = "0.6" if number == 0 else RESULT_COLOURS[(number - 1) % len(RESULT_COLOURS)]
        panel.bar(places, [one.mean for one in found], 0.75 / len(bars), color=colour, label=name)
    panel.set_xticks(range(len(_READERS)), list(_READERS.values()))
    panel.set_ylabel("R² of row and column, rolled")
    sns.despine(ax=panel)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=7)
    return figure
