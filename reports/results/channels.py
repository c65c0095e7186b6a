"""What the pages of results by channel say and show: ω², rankings, and curves without some channels."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.ablation import plot_ablation
from probe.plots.channels import plot_channels
from probe.plots.comparison import plot_ranking
from probe.reports.page.estimates import interval, joined, written
from probe.reports.page.provenance import json_attribute
from probe.reports.page.removals import CONTROLS, headline, main_score, removal, removal_table, verdicts

__all__ = [
    "ablation_figures",
    "ablation_findings",
    "ablation_table",
    "agreement_figures",
    "agreement_findings",
    "agreement_table",
    "omega2_figures",
    "omega2_findings",
    "omega2_table",
    "ranking_figures",
    "ranking_findings",
    "ranking_table",
]

_WIDTH = 8.0  # inches


def omega2_findings(result: xr.Dataset) -> list[str]:
    """Say for each stimulus which channel depends most on position."""
    folds = int(json_attribute(result, "settings").get("folds", 0))
    sentences = []
    for stimulus in map(str, result.stimulus.values):
        chosen = result.sel(stimulus=stimulus)
        known = chosen.omega2.notnull().values
        if not known.any():
            sentences.append(f"On {stimulus} images no channel could be scored.")
            continue
        place = int(np.nanargmax(chosen.omega2.values))
        highest = interval(float(chosen.omega2[place]), float(chosen.omega2_se[place]), degrees=folds - 1)
        sentences.append(
            f"On {stimulus} images, of {int(known.sum()):,} channels position explains most of channel "
            f"{int(result['index'][place])} of {result.layer.values[place]}: ω² {highest}; the median is "
            f"{written(float(np.nanmedian(chosen.omega2.values)))}."
        )
    return sentences


def omega2_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw ω² of all channels by layer."""
    figure = Figure(figsize=(_WIDTH, 3.8), layout="constrained")
    plot_channels(result, figure.subplots())
    yield figure, "Share of each channel's variance that position explains, layer by layer."


def omega2_table(result: xr.Dataset) -> pd.DataFrame:
    """Return ω² of every channel, the highest first."""
    frame = pd.DataFrame({"layer": result.layer.values.astype(str), "channel": result["index"].values})
    for stimulus in map(str, result.stimulus.values):
        frame[f"ω² {stimulus}"] = result.omega2.sel(stimulus=stimulus).values
    return frame.sort_values(str(frame.columns[-1]), ascending=False, kind="stable")


def ranking_findings(result: xr.Dataset) -> list[str]:
    """Say which channels come first, and whether they do so on other images."""
    known = int(result.score.notnull().sum())
    about = f"{result.sizes['channel']} channels of {result.attrs['layer']}"
    if not known:
        return [f"None of the {about} could be ranked: their scores are not finite, or they do not vary."]
    first = joined(str(int(channel)) for channel in result["index"].values[: min(3, known)])
    return [
        f"By {result.attrs['method']}, channel{'s' if known > 1 else ''} {first} come first of the {about}.",
        f"The stability of the ranking is {written(float(result.stability), 2)}.",
    ]


def ranking_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the scores by rank."""
    figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
    plot_ranking(result, figure.subplots())
    yield figure, f"Score of each channel of {result.attrs['layer']} by its rank."


def ranking_table(result: xr.Dataset) -> pd.DataFrame:
    """Return all channels, the first of the ranking first."""
    ranks = result["rank"].values
    return pd.DataFrame({"rank": ranks, "channel": result["index"].values, "score": result.score.values})


def agreement_findings(result: xr.Dataset) -> list[str]:
    """Say which rankings agree most and least."""
    names = [str(name) for name in result.ranking.values]
    pairs = {pair: float(result.correlation.sel(ranking=pair[0], other=pair[1])) for pair in combinations(names, 2)}
    known = {pair: value for pair, value in pairs.items() if np.isfinite(value)}
    if not known:
        return ["How far the rankings agree is not known: they have no finite scores in common."]
    best, least = max(known, key=lambda pair: known[pair]), min(known, key=lambda pair: known[pair])
    if best == least:
        return [f"The rank correlation of {joined(best)} is {written(known[best], 2)}."]
    return [
        f"Of the rank correlations of two rankings that of {joined(best)} is the highest, {written(known[best], 2)}, "
        f"and that of {joined(least)} the lowest, {written(known[least], 2)}."
    ]


def agreement_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the rank correlations."""
    side = 2.5 + 0.6 * result.sizes["ranking"]
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    plot_ranking(result, figure.subplots())
    yield figure, "Spearman's correlation of the rankings; on the diagonal, of each with itself on other images."


def agreement_table(result: xr.Dataset) -> pd.DataFrame:
    """Return correlation and overlap of each pair."""
    rows = []
    tops = [int(top) for top in result.top.values if float(result.overlap_expected.sel(top=top)) < 1]
    chance = {top: float(result.overlap_expected.sel(top=top)) for top in tops}
    for first, second in combinations(map(str, result.ranking.values), 2):
        pair = result.sel(ranking=first, other=second)
        shared = {
            f"common to the first {top} (by chance {chance[top]:.2f})": float(pair.overlap.sel(top=top)) for top in tops
        }
        rows.append({"ranking": first, "other": second, "rank correlation": float(pair.correlation), **shared})
    return pd.DataFrame(rows)


def _by_ranking(result: xr.Dataset) -> xr.Dataset:
    """Return the curve on ``ranking``, which a curve of one ranking does not have."""
    if "ranking" in result.dims:
        return result
    shared = [name for name in ("intact", "intact_se", "random") if name in result]
    own = result.drop_vars(shared).expand_dims(ranking=[str(result.attrs["method"])])
    return own.assign(result[shared])


def ablation_findings(result: xr.Dataset) -> list[str]:
    """Say whether removing the channels ranked first does more harm than removing others."""
    curve = _by_ranking(result)
    judged, score = verdicts(curve), main_score(curve)
    compared = sum(verdict != "unknown" for found in judged.values() for verdict in found.values())
    if not compared:
        return [f"What removing channels of {result.attrs['layer']} does is not known: the scores are not finite."]
    key = headline(curve, judged)
    if key is None:
        return [
            f"In {compared} comparisons, corrected after Holm, nothing tells the channels of {result.attrs['layer']} "
            f"ranked first from random ones by {score} as needed more. That is absence of evidence, not evidence that "
            "the model does without them."
        ]
    _, ranking, count = key
    beyond = []
    for against in CONTROLS:
        if judged[against][key] == "more":
            found = removal(curve, ranking, score, count, against=against)
            phrase = "random ones" if against == "random" else "others as active"
            beyond.append(f"{phrase} ({written(found.random)}; difference {found.difference})")
    found = removal(curve, ranking, score, count)
    return [
        f"Without the {count} channels of {result.attrs['layer']} that {ranking} ranks first, {score} is "
        f"{found.ranked} instead of {found.intact}: more harm than without {' and '.join(beyond)}, after "
        f"Holm's correction over {compared} comparisons."
    ]


def ablation_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw the curve of each ranking, by the first score."""
    names = list(map(str, result.ranking.values)) if "ranking" in result.dims else [None]
    for name in names:
        figure = Figure(figsize=(6.5, 3.8), layout="constrained")
        plot_ablation(result, figure.subplots(), ranking=name)
        yield figure, "Score against the number of channels removed, beside random draws of as many."


def ablation_table(result: xr.Dataset) -> pd.DataFrame:
    """Return every score of every ranking at every count."""
    return removal_table(_by_ranking(result))
