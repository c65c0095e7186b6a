"""Figures of erasing: what is left of position, what the model loses, and where position is read anew."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from probe.errors import ArgumentError
from probe.intervals import half_width
from probe.plots.axes import (
    RESULT_COLOURS,
    RESULT_MARKERS,
    check_width,
    legend_above,
    name_layers,
    open_panels,
    small_text,
)
from probe.plots.inputs import check_result

__all__ = ["METHOD_NAMES", "READERS", "degrees", "erased_targets", "plot_erasure"]

METHOD_NAMES = {
    "leace": "LEACE",
    "cells": "LEACE of every position",
    "iterated": "iterated readouts",
    "mean_map": "mean map",
    "channels": "zeroed channels",
    "intact": "nothing erased",
}
"""What each way to erase is called in figures and pages."""

READERS = {"cell": "linear,\none cell", "neighbourhood": "linear,\n3×3 cells", "perceptron": "perceptron,\none cell"}
"""What each reader is called."""

_RANDOM = "0.45"
_KINDS = ("erasure_curve", "erasure_proof", "erasure_matrix", "stronger_readouts")
_ROOM = 0.09  # of an axis, that a number takes
_NUMBERED = 12  # layers of a matrix in which the numbers can be read


def plot_erasure(
    result: xr.Dataset,
    axes: Any = None,
    *,
    target: str | None = None,
    stimulus: str | None = None,
    score: str | None = None,
    width: float | None = None,
) -> np.ndarray:
    """Draw what erasing leaves of position, and what it costs.

    The commonest uses::

        probe.plot_erasure(probe.erasure_curve(model, labelled, "layer4", score="accuracy"))
        probe.plot_erasure(proof, target="cells", stimulus="natural")
        probe.plot_erasure(probe.erasure_matrix(model, images), width=3.4)

    Parameters
    ----------
    result
        From `probe.erasure_curve`: the score against R² of position, a point for each rank. From
        `probe.erasure_proof`: R² against the rank. From `probe.erasure_matrix`: R² of each layer that is read, for
        each that is erased. From `probe.stronger_readouts`: R² of each reader.
    axes
        Where to draw, one for each panel: one for each stimulus that erasers are fitted to, or that is read; a single
        one for a matrix. By default a new figure.
    target
        Whose R² is drawn; by default the mean of those that are erased.
    stimulus
        What position is read on; by default ``rolled`` where there is one. Not for readers, which have a panel each.
    score
        Of a curve; by default the first.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        The panels. Bars are 95 % intervals over images, of perceptrons over their seeds; for random subspaces the mean
        and the band from the 5th to the 95th percentile of the draws.

    Raises
    ------
    ArgumentError
        If it is no such result, or has no such target, stimulus or score.

    Examples
    --------
    >>> import probe
    >>> from matplotlib.figure import Figure
    >>> from probe.testing import noise_images, padded_net
    >>> matrix = probe.erasure_matrix(padded_net("zeros"), noise_images(40, 8), layers="relu*", progress=False)
    >>> probe.plot_erasure(matrix, Figure().subplots())[0].get_ylabel()
    'erased at'
    """
    result = check_result(result, _KINDS, {"r2": ()})
    kind = result.attrs["kind"]
    if score is not None and kind != "erasure_curve":
        raise ArgumentError(f"score={score!r}: only a result of probe.erasure_curve has scores.")
    if stimulus is not None and kind in ("erasure_matrix", "stronger_readouts"):
        raise ArgumentError(f"stimulus={stimulus!r}: {kind} has one alone, or a panel for each.")
    drawings: dict[str, Callable[..., np.ndarray]] = {
        "erasure_matrix": _draw_matrix,
        "stronger_readouts": _draw_readers,
        "erasure_proof": _draw_ranks,
        "erasure_curve": _draw_scores,
    }
    return drawings[kind](result, axes, width=width, **_asked(result, kind, target, stimulus, score))


def _asked(
    result: xr.Dataset, kind: str, target: str | None, stimulus: str | None, score: str | None
) -> dict[str, Any]:
    asked: dict[str, Any] = {"target": _one_of(result, "target", target)}
    if kind in ("erasure_proof", "erasure_curve"):
        stimuli = [str(name) for name in result.stimulus.values]
        default = "rolled" if "rolled" in stimuli else stimuli[0]
        asked["stimulus"] = _one_of(result, "stimulus", stimulus) or default
    if kind == "erasure_curve":
        asked["score"] = _one_of(result, "score", score) or str(result.score.values[0])
    return asked


def _one_of(result: xr.Dataset, dim: str, name: str | None) -> str | None:
    known = [str(label) for label in result[dim].values]
    if name is not None and name not in known:
        raise ArgumentError(f"{dim}={name!r}: the result has {', '.join(known)}.")
    return name


def erased_targets(result: xr.Dataset) -> list[str]:
    """Return the targets that are erased and read; of erased cells, row and column, or what else is read."""
    read = [str(name) for name in result.target.values]
    named = json.loads(result.attrs["settings"]).get("erased", ["row", "column"])
    return [name for name in named if name in read and name != "cells"] or [name for name in read if name != "cells"]


def degrees(result: xr.Dataset, what: str = "r2") -> int:
    """Return the degrees of freedom of an error: of ``r2``, of a ``score``, or of a ``perceptron`` over its seeds."""
    settings = json.loads(result.attrs["settings"])
    if what == "perceptron":
        return int(settings["seeds"]) - 1
    if what == "score":
        return int(settings["score_folds"]) - 1
    folds = int(settings["folds"])
    is_read_in_some = result.attrs["kind"] in ("erasure_matrix", "stronger_readouts")
    return (folds - min(folds // 2, folds - 3) if is_read_in_some else folds) - 1


def _of_target(values: xr.DataArray, result: xr.Dataset, target: str | None) -> xr.DataArray:
    """Return the values of a target, or the mean of those that are erased."""
    if target is not None:
        return values.sel(target=target)
    return values.sel(target=erased_targets(result)).mean("target")


def _read_as(result: xr.Dataset, target: str | None) -> str:
    return "every position" if target == "cells" else target or " and ".join(erased_targets(result))


def _draw_ranks(result: xr.Dataset, axes: Any, *, width: float | None, target: str | None, stimulus: str) -> np.ndarray:
    panels, own = _open_fitted(result, axes, width, 0.45)
    for panel, fitted in zip(panels, _fitted(result), strict=True):
        read = result.sel(stimulus=stimulus)
        panel.axhline(0, color="0.2", linewidth=0.8)
        before = float(_of_target(read.r2_before, result, target))
        panel.axhline(before, color="0.2", linewidth=1, linestyle=":", label="nothing erased")
        ranks = result["rank"].values
        if "r2_random" in result:
            drawn = _of_target(read.r2_random, result, target)
            _draw_band(panel, ranks, drawn)
        for method, colour, marker, part in _lines(read, fitted):
            values = _of_target(part.r2, result, target).values
            half = half_width(_of_target(part.r2_se, result, target).values, degrees(result))
            panel.errorbar(
                part.n_directions.values, values, half, color=colour, marker=marker, markersize=4, capsize=2,
                linewidth=1.2, label=METHOD_NAMES[method],
            )  # fmt: skip
        every = _told_apart(ranks.tolist(), result.n_directions.values.tolist())
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator(every))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.set(xlabel="directions, or channels, erased", title=f"fitted to {fitted} images")
        panel.title.set_fontsize(panel.xaxis.label.get_fontsize())
    panels[0].set_ylabel(f"R² of {_read_as(result, target)}, {stimulus}")
    return _finish(panels, own)


def _draw_scores(
    result: xr.Dataset, axes: Any, *, width: float | None, target: str | None, stimulus: str, score: str
) -> np.ndarray:
    panels, own = _open_fitted(result, axes, width, 0.5)
    scored = result.sel(stimulus=stimulus, score=score)
    before = float(_of_target(scored.r2_before, result, target))
    for panel, fitted in zip(panels, _fitted(result), strict=True):
        panel.axhline(float(scored.intact), color="0.2", linewidth=0.8, linestyle=":")
        panel.axvline(0, color="0.2", linewidth=0.8)
        panel.plot([before], [float(scored.intact)], "*", color="0.2", markersize=9, label="nothing erased")
        if "r2_random" in result:
            drawn = _of_target(scored.r2_random, result, target)
            panel.plot(
                drawn.values.ravel(), scored.random.transpose(*drawn.dims).values.ravel(), ".", color=_RANDOM,
                markersize=3, alpha=0.5, linestyle="none", label="random directions",
            )  # fmt: skip
        points: list[tuple[float, float, int, str]] = []
        for method, colour, marker, part in _lines(scored, fitted):
            left = _of_target(part.r2, result, target).values
            half = half_width(part.erased_se.values, degrees(result, "score"))
            panel.errorbar(
                left, part.erased.values, half, color=colour, marker=marker, markersize=4, capsize=2, linewidth=1.2,
                label=METHOD_NAMES[method],
            )  # fmt: skip
            points += [
                (float(x), float(y), int(rank), colour)
                for x, y, rank in zip(left, part.erased.values, part.n_directions.values, strict=True)
            ]
        _number(panel, points)
        panel.set(xlabel=f"R² of {_read_as(result, target)} left, {stimulus}", title=f"fitted to {fitted} images")
        panel.title.set_fontsize(panel.xaxis.label.get_fontsize())
    panels[0].set_ylabel(score, parse_math=False)
    return _finish(panels, own)


def _told_apart(first: list[int], others: list[int]) -> list[int]:
    """Return numbers whose places on a logarithmic axis leave room for their names; the first before others."""
    every = sorted({*first, *others})
    room = _ROOM * np.log2(max(every[-1] / every[0], 2))
    kept: list[int] = []
    for number in [*sorted(first), every[-1], *every]:
        if all(abs(np.log2(number / other)) >= room for other in kept):
            kept.append(number)
    return sorted(kept)


def _number(panel: Axes, points: Sequence[tuple[float, float, int, str]]) -> None:
    """Write the number of directions beside points, but beside those that lie together beside the first alone."""
    known = [point for point in points if np.isfinite(point[:2]).all()]
    width, height = np.diff(panel.get_xlim())[0], np.diff(panel.get_ylim())[0]
    placed: list[tuple[float, float]] = []
    for x, y, rank, colour in known:
        if all(abs(x - left) > _ROOM * width or abs(y - low) > _ROOM * height for left, low in placed):
            placed.append((x, y))
            panel.annotate(
                str(rank), (x, y), (6, 3), textcoords="offset points", color=colour, fontsize=small_text(panel)
            )


def _draw_matrix(result: xr.Dataset, axes: Any, *, width: float | None, target: str | None) -> np.ndarray:
    inches = check_width(width, axes, argument="axes")
    rows = [str(name) for name in result.erased.values]
    names = [str(name) for name in result.layer.values]
    panels = open_panels(
        axes, 1, columns=1, width=inches, height=min(1.2 + 0.32 * len(rows), 1.3 * inches), meaning="matrix"
    )
    (panel,) = panels
    values = _of_target(result.r2, result, target).values
    top = max(float(np.nanmax(values)), 0.05)
    drawn = panel.imshow(np.clip(values, 0, None), cmap="Greens", vmin=0, vmax=top, aspect="auto")
    if len(names) <= _NUMBERED:
        for row, column in np.argwhere(np.isfinite(values)):
            panel.text(
                column, row, f"{values[row, column]:.2f}".replace("-0.00", "0.00").replace("-", "−"), ha="center",
                va="center", fontsize=small_text(panel), color="white" if values[row, column] > 0.6 * top else "black",
            )  # fmt: skip
    panel.set_yticks(range(len(rows)), rows, parse_math=False)
    panel.tick_params(axis="y", labelsize=small_text(panel))
    name_layers(panel, names)
    panel.set_xlabel(panel.get_xlabel().replace("layer,", "read at layer,"))
    panel.set_ylabel("erased at")
    bar = panel.figure.colorbar(drawn, ax=panel, shrink=0.8, pad=0.02)
    bar.set_label(f"R² of {_read_as(result, target)}, {result.attrs['stimulus']}", fontsize=small_text(panel))
    bar.ax.tick_params(labelsize=small_text(panel))
    sns.despine(ax=panel, left=True, bottom=True)
    return panels


def _draw_readers(result: xr.Dataset, axes: Any, *, width: float | None, target: str | None) -> np.ndarray:
    stimuli = [str(name) for name in result.stimulus.values]
    inches = check_width(width, axes, argument="axes")
    columns = len(stimuli) if inches > 5 else 1
    panels = open_panels(
        axes, len(stimuli), columns=columns, width=inches, height=(1.2 + 0.25 * inches) * (len(stimuli) / columns),
        meaning="stimuli",
    )  # fmt: skip
    n_erasers = result.sizes["eraser"]
    readers = [str(name) for name in result.reader.values]
    for panel, stimulus in zip(panels, stimuli, strict=True):
        read = result.sel(stimulus=stimulus)
        panel.axhline(0, color="0.2", linewidth=0.8)
        for number in range(n_erasers):
            part = read.isel(eraser=number)
            method, rank = str(part.method.item()), int(part.n_directions)
            places = np.arange(len(readers)) + (number - (n_erasers - 1) / 2) * 0.8 / n_erasers
            colour = "0.6" if method == "intact" else RESULT_COLOURS[(number - 1) % len(RESULT_COLOURS)]
            label = METHOD_NAMES[method] + ("" if method == "intact" else f", rank {rank}")
            errors = _of_target(part.r2_se, result, target).values
            half = [half_width(error, degrees(result, reader)) for error, reader in zip(errors, readers, strict=True)]
            panel.bar(
                places, _of_target(part.r2, result, target), 0.75 / n_erasers, color=colour, label=label,
                yerr=np.nan_to_num(half), capsize=2, error_kw={"linewidth": 0.8},
            )  # fmt: skip
        panel.set_xticks(range(len(readers)), [READERS[reader] for reader in readers])
        panel.set_title(f"read on {stimulus} images", fontsize=panel.xaxis.label.get_fontsize())
    panels[0].set_ylabel(f"R² of {_read_as(result, target)}")
    return _finish(panels, axes is None)


def _open_fitted(result: xr.Dataset, axes: Any, width: float | None, share: float) -> tuple[np.ndarray, bool]:
    inches = check_width(width, axes, argument="axes")
    n_panels = len(_fitted(result))
    columns = n_panels if inches > 5 else 1
    height = (1.0 + share * inches / columns) * (n_panels / columns) + 0.7
    panels = open_panels(
        axes, n_panels, columns=columns, width=inches, height=height, meaning="stimuli that erasers are fitted to"
    )
    return panels, axes is None


def _fitted(result: xr.Dataset) -> list[str]:
    return list(dict.fromkeys(map(str, result.fitted_to.values)))


def _lines(result: xr.Dataset, fitted: str) -> Iterator[tuple[str, str, str, xr.Dataset]]:
    methods = list(dict.fromkeys(map(str, result.method.values)))
    for number, method in enumerate(methods):
        places = np.flatnonzero((result.method.values == method) & (result.fitted_to.values == fitted))
        if len(places):
            colour, marker = (of[number % len(of)] for of in (RESULT_COLOURS, RESULT_MARKERS))
            yield method, colour, marker, result.isel(eraser=places)


def _draw_band(panel: Axes, ranks: np.ndarray, drawn: xr.DataArray) -> None:
    low, high = drawn.quantile((0.05, 0.95), "draw").transpose("quantile", "rank").values
    panel.fill_between(ranks, low, high, facecolor=_RANDOM, alpha=0.25, linewidth=0, label="random directions, 5–95 %")
    panel.plot(ranks, drawn.mean("draw").values, color=_RANDOM, linewidth=1.2)


def _finish(panels: np.ndarray, own: bool) -> np.ndarray:
    low, high = (pick(panel.get_ylim()[end] for panel in panels) for pick, end in ((min, 0), (max, 1)))
    for panel in panels:
        panel.set_ylim(low, high)
        sns.despine(ax=panel)
    handles, labels = panels[0].get_legend_handles_labels()
    figure = panels[0].figure
    if own or (figure.axes == list(panels) and figure.get_layout_engine() is not None):
        for handle, label in zip(handles, labels, strict=True):
            handle.set_label(label)
        legend_above(panels[0], handles)
    else:
        panels[0].legend(frameon=False, fontsize=small_text(panels[0]))
    return panels
