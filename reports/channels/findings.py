"""The sentences of the channel report, written from the numbers of a result."""

import re
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import xarray as xr

from probe.intervals import CONFIDENCE, half_width
from probe.reports.channels.estimates import later_layers, main_ranking, position
from probe.reports.page.estimates import Estimate, joined, written
from probe.reports.page.removals import (
    CONTROLS,
    Against,
    Key,
    Removal,
    Verdict,
    chance_of,
    headline,
    main_score,
    removal,
    verdicts,
)

__all__ = ["findings", "reading_layer"]

_STABLE = 0.8
_SIDES = (("left", "right"), ("top", "bottom"))
_OTHERS: dict[Against, str] = {"random": "random", "matched": "random ones that are as active"}

Judged = Mapping[Against, Mapping[Key, Verdict]]


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, the most important first.

    Errors are 95 % intervals over images. Whether channels are needed more than others is judged over all rankings,
    counts and scores together. What cannot be told from random channels, or from nothing, is said to be so.

    Parameters
    ----------
    result
        From `probe.analyses.channels.study.run`.
    """
    judged = verdicts(result)
    sentences = [
        _need(result, judged),
        _all_rankings(result, judged),
        *_other_scores(result, judged),
        *_sides(result, judged),
        _position(result),
        _agreement(result),
        _stability(result),
    ]
    return [sentence for sentence in sentences if sentence]


def _removed(result: xr.Dataset) -> int:
    return int(result.attrs["removed"])


def _spoken_key(result: xr.Dataset, judged: Judged) -> Key:
    """Return the removal that the findings speak of: the headline, else the first ranking at the settled count."""
    return headline(result, judged) or (main_score(result), main_ranking(result), _removed(result))


def _need(result: xr.Dataset, judged: Judged) -> str:
    """Say whether the model needs some channels more than random ones, and more than others as active."""
    key = _spoken_key(result, judged)
    score, ranking, count = key
    found, matched = (removal(result, ranking, score, count, against=against) for against in ("random", "matched"))
    place = (
        f"Without the {count} of {result.sizes['channel']} channels of {result.attrs['layer']} that {ranking} ranks "
        f"first, {score}"
    )
    if judged["random"][key] == "unknown":
        return f"{place} is not known: it is not a finite number."
    beside = f"without {count} random ones it is {written(found.random)} ({_band(found)})"
    if judged["matched"][key] != "unknown":
        beside += f", without {count} {_OTHERS['matched']} {written(matched.random)} ({_band(matched)})"
    formatted = f"{place} is {found.ranked} instead of {found.intact}; {beside}."
    return f"{formatted} {_judge(key, judged, found, matched)}"


def _band(found: Removal) -> str:
    return f"5th to 95th percentile of {found.n_draws} draws: {written(found.low)} to {written(found.high)}"


def _judge(key: Key, judged: Judged, found: Removal, matched: Removal) -> str:
    """Say what follows from a removal, with the number of all comparisons in view."""
    by_random, by_matched = (judged[against][key] for against in CONTROLS)
    if by_random == by_matched == "more":
        return (
            f"The model needs them more than random ones (difference {found.difference}), and more than others as "
            f"active ({matched.difference})."
        )
    if by_matched == "more":
        return (
            f"The model needs them more than others as active: the difference is {matched.difference}. Beside random "
            f"ones it is {found.difference}, but some draws of these fall as low, so that this is undecided."
        )
    if by_random == "more":
        formatted = f"The model needs them more than random ones: the difference is {found.difference}."
        if by_matched == "unknown":
            return f"{formatted} Whether it needs them more than others as active is not known."
        return (
            f"{formatted} Whether it needs them more than others as active cannot be told: that difference is "
            f"{matched.difference}, so their activity may explain the harm."
        )
    if by_random == "less":
        return f"The model needs them less than random ones: the difference is {found.difference}."
    return (
        "That is no evidence that the model needs them more than random ones, and none that it does not: the "
        f"difference is {found.difference}."
    )


def _all_rankings(result: xr.Dataset, judged: Judged) -> str:
    """Say which rankings, at which counts, find channels that are needed more than others."""
    score, counts = main_score(result), [int(count) for count in result["count"].values]
    n_known = sum(verdict != "unknown" for found in judged.values() for verdict in found.values())
    by_score = {
        against: {key: verdict for key, verdict in found.items() if key[0] == score}
        for against, found in judged.items()
    }
    if not any(verdict != "unknown" for verdict in by_score["random"].values()):
        return ""
    n_rankings, n_scores = result.sizes["ranking"], result.sizes["score"]
    setting = (
        f"Over {_counted(n_rankings, 'ranking')}, {_counted(len(counts), 'count')} ({joined(map(str, counts))} "
        f"channels) and {_counted(n_scores, 'score')}, each beside random and as active channels: {n_known} "
        "comparisons, corrected together after Holm."
    )
    more, less = (_hits(by_score["random"], wanted) for wanted in ("more", "less"))
    as_active = _hits(by_score["matched"], "more")
    if not more and not less and not as_active:
        return (
            f"{setting} None tells the channels ranked first from random ones by {score}. That is absence of "
            f"evidence, not evidence that the model does without them.{_nearest(result, by_score['random'])}"
        )
    parts = []
    if more or as_active:
        parts.append(f"{score} falls further than without random channels for {joined(more or ['none'])}")
        parts.append(f"further than without as active ones for {joined(as_active or ['none'])}")
    if less:
        parts.append(f"{score} falls less than without random channels for {joined(less)}")
    return f"{setting} Beyond chance: {'; '.join(parts)}. All else is undecided."


def _nearest(result: xr.Dataset, found: Mapping[Key, Verdict]) -> str:
    """Name the removal that would pass for harm if it were the only one that was tried."""
    known = {key: removal(result, key[1], key[0], key[2]) for key, verdict in found.items() if verdict != "unknown"}
    (_, ranking, count), farthest = min(known.items(), key=lambda item: item[1].difference.mean)
    if not farthest.difference.high < 0:
        return ""
    return f" The largest difference, {farthest.difference} for {ranking} ({count}), does not outlast the correction."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}s" if number > 1 else f"one {what}"


def _hits(found: Mapping[Key, Verdict], wanted: Verdict) -> list[str]:
    """Return the rankings with a verdict, and the counts at which they have it."""
    counts: dict[str, list[str]] = {}
    for (_, ranking, count), verdict in found.items():
        if verdict == wanted:
            counts.setdefault(ranking, []).append(str(count))
    return [f"{ranking} ({joined(those)})" for ranking, those in counts.items()]


def _other_scores(result: xr.Dataset, judged: Judged) -> list[str]:
    """Say what happens to the other scores, beside random channels."""
    _, ranking, count = _spoken_key(result, judged)
    words = {
        "more": "further than",
        "less": "less far than",
        "undecided": "which cannot be told from what happens",
    }
    parts = []
    for score in map(str, result.score.values[1:]):
        verdict = judged["random"][score, ranking, count]
        found = removal(result, ranking, score, count)
        if verdict != "unknown":
            parts.append(
                f"{score} from {written(found.intact.mean)} to {found.ranked}, {words[verdict]} without random ones "
                f"({written(found.random)})"
            )
    return [f"Without the same {count} channels, the other scores go: {'; '.join(parts)}."] if parts else []


def _sides(result: xr.Dataset, judged: Judged) -> list[str]:
    """Say whether rankings for one side of the image harm that side in particular."""
    scores = {side: name for name, side in _with_side(result.score.values)}
    pairs = [(side, other) for pair in _SIDES for side, other in (pair, pair[::-1])]
    compared = [
        (ranking, (side, scores[side]), (other, scores[other]))
        for side, other in pairs
        for ranking, aimed in _with_side(result.ranking.values)
        if aimed == side and {side, other} <= scores.keys()
    ]
    return [_side(result, judged, *item, n_compared=len(compared)) for item in compared]


def _with_side(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that end with a side, such as flip-left or miou:left, each with its side."""
    parts = {str(name): re.split("[-:]", str(name)) for name in names}
    return [(name, words[-1]) for name, words in parts.items() if len(words) > 1]


def _side(
    result: xr.Dataset,
    judged: Judged,
    ranking: str,
    own: tuple[str, str],
    opposite: tuple[str, str],
    *,
    n_compared: int,
) -> str:
    """Say whether a ranking for one side harms it more than the other, corrected for the number of such rankings."""
    count = _removed(result)
    here, there = (removal(result, ranking, score, count) for _, score in (own, opposite))
    harm = {side: judged["random"][score, ranking, count] for side, score in (own, opposite)}
    if "unknown" in harm.values():
        return ""
    # The regions share images; taken as independent, which is the wider error where they agree.
    half = float(np.hypot(here.difference.half_width, there.difference.half_width))
    gap = Estimate(here.difference.mean - there.difference.mean, half, 1)
    degrees = int(result.attrs["folds"]) - 1
    p = n_compared * chance_of(gap.mean, half / half_width(1, degrees), degrees)
    is_told = p <= 1 - CONFIDENCE
    if is_told and gap.mean < 0 and harm[own[0]] == "more":
        larger = Estimate(-gap.mean, half, 1)
        verdict = f"They are aimed at the {own[0]}: the harm there is larger by {larger}."
    elif is_told and gap.mean > 0 and harm[opposite[0]] == "more":
        verdict = f"They harm the {opposite[0]} more, by {gap}."
    else:
        verdict = f"That they are aimed at a side is not shown (difference {gap})."
    return (
        f"Compared with random channels, the {count} that {ranking} ranks first change {own[1]} by {here.difference} "
        f"and {opposite[1]} by {there.difference}. {verdict}"
    )


def reading_layer(result: xr.Dataset) -> str:
    """Return the layer at which the findings read position: the last later one, else the ablated layer itself."""
    return (later_layers(result) or [result.attrs["layer"]])[-1]


def _position(result: xr.Dataset) -> str:
    """Say whether removing the channels removes position from what comes after."""
    if "r2" not in result:
        return ""
    layer, stimulus = reading_layer(result), "rolled"
    before, after = (position(result, layer, stimulus, removed=chosen_key) for chosen_key in ("nothing", "ranked"))
    where = f"at {layer}" if layer != result.attrs["layer"] else f"from the channels of {layer} that are left"
    if not before.is_known or not after.is_known:
        return f"How well position can be read {where} is not known: the readout has no score there."
    if not before.is_present:
        return f"On rolled images no position can be read {where} even before anything is removed (R² {before})."
    random = result.r2_random.sel(layer=layer, stimulus=stimulus).mean("target").values
    span = f"{written(np.nanmin(random))} to {written(np.nanmax(random))}" if np.isfinite(random).any() else "not known"
    sentence = (
        f"On rolled images, position can be read {where} with R² {after} instead of {before} once the "
        f"{_removed(result)} channels that {main_ranking(result)} ranks first are removed (as many random ones, "
        f"{random.size} draws: {span})."
    )
    if after.is_none:
        return f"{sentence} Removing them removes position."
    if not after.is_present:
        return f"{sentence} Whether any of it is left cannot be told."
    if after.mean < np.nanmin(random, initial=np.inf) and after.high < before.low:
        return (
            f"{sentence} Removing them takes some of it, more than any random draw (by chance 1 time in "
            f"{random.size + 1}), but position stays readable."
        )
    if after.high < before.low:
        return f"{sentence} Some of it goes, but no more than with random channels."
    if after.low > before.high:
        return f"{sentence} Removing them does not remove position: it can even be read better."
    return f"{sentence} Removing them does not remove position: it is carried by the other channels as well."


def _agreement(result: xr.Dataset) -> str:
    """Say how far the rankings agree, and whether they share more channels than chance."""
    names = [str(name) for name in result.ranking.values]
    pairs = {
        (first, second): float(result.correlation.sel(ranking=first, other=second))
        for first, second in combinations(names, 2)
        if not _are_opposite(first, second)
    }
    known = {pair: value for pair, value in pairs.items() if np.isfinite(value)}
    if not known:
        return ""
    closest, farthest = max(known, key=lambda pair: known[pair]), min(known, key=lambda pair: known[pair])
    count = int(result.n_first.values[np.abs(result.n_first.values - _removed(result)).argmin()])
    shared = [float(result.overlap.sel(ranking=a, other=b, n_first=count)) for a, b in known]
    expected = float(result.overlap_expected.sel(n_first=count))
    sentence = f"Rank correlation of {joined(closest)}: {written(known[closest])}"
    if len(known) > 1:
        sentence = (
            f"Of the rank correlations of two rankings that of {joined(closest)} is the highest, "
            f"{written(known[closest])}, and that of {joined(farthest)} the lowest, {written(known[farthest])}"
        )
    return (
        f"{sentence}; of their first {count} channels, two rankings share {100 * np.mean(shared):.0f} % on average, "
        f"where chance gives {100 * expected:.0f} %."
    )


def _are_opposite(first: str, second: str) -> bool:
    """Tell whether two rankings are for opposite sides, so that one is the other from last to first."""
    (method, _, side), (other, _, other_side) = first.partition("-"), second.partition("-")
    return method == other and {side, other_side} in map(set, _SIDES)


def _stability(result: xr.Dataset) -> str:
    """Say which rankings come out the same on another half of the images."""
    values = {str(name): float(result.stability.sel(ranking=name)) for name in result.ranking.values}
    known = {name: value for name, value in values.items() if np.isfinite(value)}
    if not known:
        return ""
    item = joined(f"{name} {written(value)}" for name, value in known.items())
    sentence = f"Split-half stability (rank correlation between two halves of the images): {item}."
    if unstable := [name for name, value in known.items() if value < _STABLE]:
        sentence += f" Below {_STABLE}, for {joined(unstable)}, the order depends much on which images are taken."
    return sentence
