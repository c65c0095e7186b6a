"""The page of several models side by side, from the results of each. Never loads torch."""

import json
from collections.abc import Mapping
from itertools import count

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.bundles import unbundle
from probe.errors import ArgumentError
from probe.plots.erasing import plot_erasure
from probe.plots.position import plot_layers
from probe.reports.overview.parts import NAMES, Overview
from probe.reports.overview.tables import depth_table
from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report, Section
from probe.reports.page.erasures import left_of_position, lost_by_erasing
from probe.reports.page.estimates import Estimate, joined
from probe.reports.page.legends import move_legend_above
from probe.reports.page.opening import add_findings, lead_with_a_picture
from probe.reports.page.position import position_change
from probe.reports.page.provenance import add_provenance, json_attribute
from probe.reports.results.meanings import meanings_of
from probe.reports.results.shifts import interval_of

__all__ = ["build", "findings", "lead"]

_WIDTH = 9.0  # inches
_MOST_PANELS = 3  # in a row
_BEST = "R² at its best, rolled"

_DEFINITIONS = [
    ("relative depth", "Place of a layer among those that were read, in order of execution: 0 the first, 1 the last."),
    (
        "difference",
        "To the first model. Of R², taken within folds where all models were shown the same images; of other numbers, "
        "with the errors of both as if they were independent.",
    ),
    (
        "at its best",
        "At the layer from which the model tells position best on rolled images; models have unlike layers.",
    ),
]


def build(result: xr.Dataset) -> Report:
    """Make the page of several models side by side.

    Parameters
    ----------
    result
        From `probe.analyses.overview.comparison.compare`, or loaded from its file.

    Returns
    -------
    Report
        The same for the same result.

    Raises
    ------
    ArgumentError
        If the result is of another kind.
    """
    models = _models(result)
    sentences = findings(result)
    report = Report(
        "Where models know position, side by side",
        summary=f"{joined(models)}: the same measurements of each, on the same scales.",
    )
    add_findings(report, sentences, _notes(models, result))
    _add_depth(report.add_section("Where is position read?"), models)
    _add_numbers(report.add_section("Number by number"), models, result)
    _add_erasing(report.add_section("What happens without it?"), models)
    section = report.add_section("All numbers")
    for name, whole in models.items():
        section.add_table(
            depth_table(whole), caption=f"{name}: R² of position, layer by layer.", name=f"layers-{name}", max_rows=60
        )
    said = " ".join([*sentences, *NAMES.values(), "R² ± natural rolled same place consistency random directions"])
    report.add_section("What each number means").add_definitions([*meanings_of(said), *_DEFINITIONS], linked=True)
    _add_provenance(report.add_section("Provenance"), models, result)
    lead_with_a_picture(report)
    return report


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences: each number of all models, and which differ from the first.

    Parameters
    ----------
    result
        From `probe.analyses.overview.comparison.compare`.
    """
    models = _models(result)
    numbers, differences = _numbers(models), _differences(models, result)
    sentences = []
    for label, values in numbers.items():
        known = {name: value for name, value in values.items() if value.is_known}
        if not known:
            continue
        where = f" (at {joined(f'{models[name].peak} of {name}' for name in known)})" if label == _BEST else ""
        sentence = f"{label}{where}: {joined(f'{name} {value}' for name, value in known.items())}."
        sentences.append(" ".join([sentence, *_verdict(differences[label], next(iter(models)))]))
    return sentences or ["Nothing came out: no number of any model is known."]


def _verdict(differences: Mapping[str, Estimate], first: str) -> list[str]:
    """Say which models differ from the first, and which cannot be told from it."""
    known = {name: value for name, value in differences.items() if value.is_known}
    parts = [
        f"{name} is {'higher' if value.mean > 0 else 'lower'} than {first} by "
        f"{Estimate(abs(value.mean), value.half_width, 1)}"
        for name, value in known.items()
        if value.differs
    ]
    for told in (True, False):
        alike = [f"{name} ({value})" for name, value in known.items() if not value.differs and value.is_tie == told]
        if alike:
            what = f"cannot be told from {first}" if told else f"differs from {first} by a negligible amount"
            parts.append(f"{joined(alike)} {what}")
    return [f"{'; '.join(parts)}."] if parts else []


def _models(result: xr.Dataset) -> dict[str, Overview]:
    if result.attrs.get("kind") != "comparison":
        raise ArgumentError(
            f"result: expected kind='comparison', found {result.attrs.get('kind')!r}. Make one with "
            "`probe report compare`."
        )
    return dict(zip(json_attribute(result, "names"), map(Overview.of, unbundle(result).values()), strict=True))


def _of_one(whole: Overview) -> dict[str, Estimate]:
    """Return the numbers in which models are compared."""
    found = {_BEST: whole.read(whole.where, whole.peak)}
    found["R² there, natural"] = whole.read(whole.where, whole.peak, "natural")
    if "untrained" in whole.parts:
        found["R² there, rolled, untrained"] = whole.read(whole.parts["untrained"], whole.peak)
    if "erasing" in whole.parts:
        curve = whole.parts["erasing"]
        before, after = left_of_position(curve)
        found |= {"R² before erasing, rolled": before, "R² after erasing, rolled": after}
        found[f"Score ({curve.score.values[0]}) after erasing − after random directions"] = lost_by_erasing(curve)
    if "consistency" in whole.parts:
        shifts = whole.parts["consistency"]
        what = "embedding" if shifts.attrs.get("compare") == "embedding" else "predictions"
        found[f"Consistency of the {what} under shifts"] = interval_of(shifts.sel(subset="all"), "consistency")
    if "neighbours" in whole.parts:
        nearest = whole.parts["neighbours"].isel(layer=-1)
        for stimulus in map(str, nearest.stimulus.values):
            share = interval_of(nearest.sel(stimulus=stimulus), "same_place")
            excess = Estimate(share.mean - float(nearest.chance), share.half_width, share.count)
            found[f"Same place − chance, {stimulus}"] = excess
    return found


def _numbers(models: Mapping[str, Overview]) -> dict[str, dict[str, Estimate]]:
    """Return each number of each model, of those that have it."""
    numbers: dict[str, dict[str, Estimate]] = {}
    for name, whole in models.items():
        for label, value in _of_one(whole).items():
            numbers.setdefault(label, {})[name] = value
    return numbers


def _differences(models: Mapping[str, Overview], result: xr.Dataset) -> dict[str, dict[str, Estimate]]:
    """Return each number of each further model − that of the first, of those that have both."""
    first, *others = models
    found: dict[str, dict[str, Estimate]] = {}
    for label, values in _numbers(models).items():
        both = [name for name in others if name in values and first in values]
        found[label] = {name: _independent(values[name], values[first]) for name in both}
    if int(result.attrs["same_images"]):
        for name in others:
            if found[_BEST][name].is_known:
                found[_BEST][name] = position_change(*(_at_peak(models[which]) for which in (name, first)))
    return found


def _independent(value: Estimate, reference: Estimate) -> Estimate:
    half = float(np.hypot(value.half_width, reference.half_width))
    return Estimate(value.mean - reference.mean, half, min(value.count, reference.count))


def _at_peak(whole: Overview) -> xr.Dataset:
    return whole.where.sel(layer=whole.peak, stimulus="rolled")


def _notes(models: Mapping[str, Overview], result: xr.Dataset) -> list[str]:
    notes = [] if int(result.attrs["same_images"]) else [json_attribute(result, "warnings")[-1]]
    for name, whole in models.items():
        notes += [f"{name}: {NAMES.get(part, part)} failed. {reason}" for part, reason in whole.failed.items()]
    return notes


def lead(result: xr.Dataset) -> Figure:
    """Return the figure that shows such a result where there is room for one."""
    return _draw_depth(_models(result))


def _draw_depth(models: Mapping[str, Overview]) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    plot_layers({name: whole.where for name, whole in models.items()}, axes, relative=True)
    move_legend_above(figure, axes)
    return figure


def _add_depth(section: Section, models: Mapping[str, Overview]) -> None:
    numbers = "; ".join(f"{name} {whole.read(whole.where, whole.peak)}" for name, whole in models.items())
    section.add_figure(
        _draw_depth(models),
        caption="How well position can be read, by relative depth. Bands: 95 % interval over images.",
        alt=f"Lines of R² by relative depth, a colour for each model, natural beside rolled. Highest: {numbers}.",
    )


def _add_numbers(section: Section, models: Mapping[str, Overview], result: xr.Dataset) -> None:
    numbers, differences = _numbers(models), _differences(models, result)
    figure = _draw_numbers(numbers, list(models))
    section.add_figure(
        figure,
        caption="Each number of each model, with its 95 % interval over images; dotted: 0.",
        alt="Points with bars, a panel for each number. "
        + " ".join(
            f"{label}: {', '.join(f'{name} {value}' for name, value in of.items())}." for label, of in numbers.items()
        ),
    )
    first, *others = models
    unknown = Estimate(np.nan, np.nan, 0)
    rows = [
        {
            "number": label,
            **{name: values.get(name, unknown) for name in models},
            **{f"{name} − {first}": differences[label].get(name, unknown) for name in others},
        }
        for label, values in numbers.items()
    ]
    section.add_table(pd.DataFrame(rows), caption=f"Each number, and its difference to {first}.", name="comparison")


def _draw_numbers(numbers: Mapping[str, Mapping[str, Estimate]], names: list[str]) -> Figure:
    n_rows = -(-len(numbers) // _MOST_PANELS)
    figure = Figure(figsize=(_WIDTH, n_rows * (0.9 + 0.28 * len(names))), layout="constrained")
    grid = figure.subplots(n_rows, _MOST_PANELS, squeeze=False, sharey=True)
    for ax, (label, values) in zip(grid.flat, numbers.items(), strict=False):
        ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
        for place, name in enumerate(names):
            if name in values and values[name].is_known:
                value = values[name]
                colour = COLOURS[place % len(COLOURS)]
                ax.errorbar(value.mean, place, xerr=value.high - value.mean, fmt="o", color=colour, capsize=2)
        ax.set_title(_in_lines(label), fontsize="small", parse_math=False)
        ax.set_yticks(range(len(names)), names, parse_math=False)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in grid.flat[len(numbers) :]:
        ax.set_axis_off()
    return figure


def _in_lines(label: str) -> str:
    """Break a long title near its middle."""
    places = [place for place, sign in enumerate(label) if sign == " "]
    if len(label) < 30 or not places:
        return label
    middle = min(places, key=lambda place: abs(place - len(label) / 2))
    return f"{label[:middle]}\n{label[middle + 1 :]}"


def _add_erasing(section: Section, models: Mapping[str, Overview]) -> None:
    curves = {name: whole.parts["erasing"] for name, whole in models.items() if "erasing" in whole.parts}
    for name in models:
        if name not in curves:
            section.add_paragraph(f"{name}: not measured.")
    by_score: dict[str, dict[str, xr.Dataset]] = {}
    for name, curve in curves.items():
        by_score.setdefault(str(curve.score.values[0]), {})[name] = curve
    for score, chosen in by_score.items():
        numbers = "; ".join(f"{name}: R² {left_of_position(curve)[1]} left" for name, curve in chosen.items())
        section.add_figure(
            _draw_erasing(chosen),
            caption=f"The score ({score}) against the R² of position that a linear readout of a cell still finds, as "
            "directions are erased that are fitted to rolled images; on the same scales.",
            alt=f"A panel for each model, a colour for each way to erase. {numbers}.",
        )


def _draw_erasing(curves: Mapping[str, xr.Dataset]) -> Figure:
    n_columns = min(len(curves), _MOST_PANELS)
    n_rows = -(-len(curves) // n_columns)
    figure = Figure(figsize=(max(5.0, 3.2 * n_columns), 3.0 * n_rows + 0.6), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for number, (name, curve) in zip(count(), curves.items(), strict=False):
        ax = grid.flat[number]
        fitted = "rolled" if "rolled" in curve.fitted_to.values else str(curve.fitted_to.values[0])
        plot_erasure(curve.isel(eraser=np.flatnonzero(curve.fitted_to.values == fitted)), ax)
        ax.set_title(name, fontsize="medium", parse_math=False)
    drawn = grid.flat[: len(curves)]
    move_legend_above(figure, drawn)
    limits = [(*ax.get_xlim(), *ax.get_ylim()) for ax in drawn]
    left, bottom = (min(one[place] for one in limits) for place in (0, 2))
    right, top = (max(one[place] for one in limits) for place in (1, 3))
    for ax in grid.flat:
        if legend := ax.get_legend():
            legend.remove()
        ax.set(xlim=(left, right), ylim=(bottom, top))
    for ax in grid.flat[len(curves) :]:
        ax.set_axis_off()
    return figure


def _add_provenance(section: Section, models: Mapping[str, Overview], result: xr.Dataset) -> None:
    facts = []
    for name, whole in models.items():
        attrs = whole.where.attrs
        about = f"{whole.model}, weights {attrs.get('weights_digest', '?')}, {attrs.get('n_images', '?')} images"
        facts.append((name, f"{about} ({attrs.get('images_digest', '?')})"))
    add_provenance(section, result, facts)
    for name, whole in models.items():
        section.add_json(f"Settings of {name}", json.loads(whole.where.attrs["settings"]))
