"""The sentences of the channel report, written from the numbers of a result."""

import re
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import xarray as xr

from probe.reports.channels.estimates import Removal, Verdict, later_layers, main_ranking, main_score, position, removal
from probe.reports.page.estimates import Estimate, listed

__all__ = ["findings", "number", "reading_layer", "spoken"]

_STABLE = 0.8
_SIDES = (("left", "right"), ("top", "bottom"))


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, the most important first.

    Errors are 95 % intervals over images. What cannot be told from random channels, or from nothing, is said to be so.

    Parameters
    ----------
    result
        From `probe.analyses.channels.study.run`.
    """
    sentences = [
        _need(result),
        _all_rankings(result),
        _activity(result),
        *_other_scores(result),
        *_sides(result),
        _position(result),
        _agreement(result),
        _stability(result),
    ]
    return [sentence for sentence in sentences if sentence]


def number(value: float) -> str:
    """Write a number with three decimals and a true minus sign, and say so where it is none."""
    return f"{value:z.3f}".replace("-", "−") if np.isfinite(value) else "not known"


def spoken(estimate: Estimate) -> str:
    """Write an estimate with its error, and say so where it is none."""
    return str(estimate) if estimate.is_known else "not known"


def _removed(result: xr.Dataset) -> int:
    return int(result.attrs["removed"])


def _need(result: xr.Dataset) -> str:
    """Say whether the model needs the channels ranked first more than random ones."""
    ranking, score, count = main_ranking(result), main_score(result), _removed(result)
    found = removal(result, ranking, score, count)
    place = f"Without the {count} of {result.sizes['channel']} channels of {result.attrs['layer']} that {ranking} ranks"
    if found.verdict == "unknown":
        return f"{place} first, {score} is not known: it is not a finite number."
    return (
        f"{place} first, {score} is {found.ranked} instead of {found.intact}; without as many random channels it is "
        f"{number(found.random)} ({_band(found)}). {_judge(found, 'random ones')}"
    )


def _band(found: Removal) -> str:
    return f"5th to 95th percentile of {found.n_draws} draws: {number(found.low)} to {number(found.high)}"


def _judge(found: Removal, others: str) -> str:
    """Say whether removing ranked channels does more harm than removing others."""
    if found.verdict == "more":
        return f"The model needs them more than {others}: the difference is {found.difference}."
    if found.verdict == "less":
        return f"The model needs them less than {others}: the difference is {found.difference}."
    if found.low <= found.ranked.mean <= found.high:
        return f"That is within the band: the model needs them no more than {others}."
    return f"That is outside the band, but the difference of {found.difference} is within its error: a tie."


def _all_rankings(result: xr.Dataset) -> str:
    """Say which rankings, at which counts, find channels that are needed more than random ones."""
    score, counts = main_score(result), [int(count) for count in result["count"].values]
    found = {
        str(ranking): {count: removal(result, str(ranking), score, count) for count in counts}
        for ranking in result.ranking.values
    }
    verdicts = {name: {count: one.verdict for count, one in by.items()} for name, by in found.items()}
    known = sum(verdict != "unknown" for found in verdicts.values() for verdict in found.values())
    if not known:
        return ""
    rankings = f"{len(verdicts)} rankings" if len(verdicts) > 1 else "one ranking"
    below = sum(_chance_below(one.n_draws) for by in found.values() for one in by.values() if one.n_draws)
    setting = (
        f"Over {rankings} and {len(counts)} counts from {counts[0]} to {counts[-1]} channels ({known} comparisons, of "
        f"which about {below:.1f} would fall below the band by chance),"
    )
    more, less = (_hits(verdicts, wanted) for wanted in ("more", "less"))
    if not more and not less:
        return f"{setting} none lowers {score} further than random channels do, and none less."
    harm = f"{score} falls further than without random channels for {listed(more)}" if more else "none does more harm"
    spared = f"it falls less for {listed(less)}" if less else "never falls less"
    return f"{setting} {harm}; {spared}."


def _chance_below(n_draws: int) -> float:
    """Return how often one more random draw lies below the 5th percentile, interpolated, of so many."""
    return (1 + 0.05 * (n_draws - 1)) / (n_draws + 1)


def _hits(verdicts: Mapping[str, Mapping[int, Verdict]], wanted: Verdict) -> list[str]:
    """Return the rankings with a verdict, and the counts at which they have it."""
    counts = {name: [str(c) for c, verdict in found.items() if verdict == wanted] for name, found in verdicts.items()}
    return [f"{name} ({listed(found)})" for name, found in counts.items() if found]


def _activity(result: xr.Dataset) -> str:
    """Say whether activity alone explains the harm."""
    ranking, score, count = main_ranking(result), main_score(result), _removed(result)
    found = removal(result, ranking, score, count, against="matched")
    if found.verdict == "unknown":
        return ""
    return (
        f"Without {count} random channels that are as active as those, {score} is {number(found.random)} "
        f"({_band(found)}). {_judge(found, 'others as active')}"
    )


def _other_scores(result: xr.Dataset) -> list[str]:
    """Say what happens to the other scores, beside random channels."""
    ranking, count = main_ranking(result), _removed(result)
    words = {"more": "further than", "less": "less far than", "same": "no further than"}
    parts = []
    for score in map(str, result.score.values[1:]):
        found = removal(result, ranking, score, count)
        if found.verdict != "unknown":
            parts.append(
                f"{score} from {number(found.intact.mean)} to {found.ranked}, {words[found.verdict]} without random "
                f"ones ({number(found.random)})"
            )
    return [f"Without the same {count} channels, the other scores go: {'; '.join(parts)}."] if parts else []


def _sides(result: xr.Dataset) -> list[str]:
    """Say whether rankings for one side of the image harm that side in particular."""
    scores = {side: name for name, side in _with_side(result.score.values)}
    pairs = [(side, other) for pair in _SIDES for side, other in (pair, pair[::-1])]
    return [
        _side(result, ranking, (side, scores[side]), (other, scores[other]))
        for side, other in pairs
        for ranking, aimed in _with_side(result.ranking.values)
        if aimed == side and {side, other} <= scores.keys()
    ]


def _with_side(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that end with a side, such as flip-left or miou:left, each with its side."""
    parts = {str(name): re.split("[-:]", str(name)) for name in names}
    return [(name, words[-1]) for name, words in parts.items() if len(words) > 1]


def _side(result: xr.Dataset, ranking: str, own: tuple[str, str], opposite: tuple[str, str]) -> str:
    count = _removed(result)
    here, there = (removal(result, ranking, score, count) for _, score in (own, opposite))
    if "unknown" in (here.verdict, there.verdict):
        return ""
    aimed = here.difference.mean - there.difference.mean
    # The regions share images; taken as independent, which is the wider error where they agree.
    half_width = float(np.hypot(here.difference.half_width, there.difference.half_width))
    gap = Estimate(aimed, half_width, 1)
    if gap.high < 0:
        verdict = f"They are aimed at the {own[0]}: the harm there is larger by {Estimate(-aimed, half_width, 1)}."
    elif gap.low > 0:
        verdict = f"They harm the {opposite[0]} more, by {gap}."
    else:
        verdict = f"The harm is not aimed: the two cannot be told apart (difference {gap})."
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
    before, after = (position(result, layer, stimulus, removed=which) for which in ("nothing", "ranked"))
    where = f"at {layer}" if layer != result.attrs["layer"] else f"from the channels of {layer} that are left"
    if not before.is_known or not after.is_known:
        return f"How well position can be read {where} is not known: the readout has no score there."
    if not before.is_present:
        return f"On rolled images no position can be read {where} even before anything is removed (R² {before})."
    random = result.r2_random.sel(layer=layer, stimulus=stimulus).mean("target").values
    span = f"{number(np.nanmin(random))} to {number(np.nanmax(random))}" if np.isfinite(random).any() else "not known"
    sentence = (
        f"On rolled images, position can be read {where} with R² {after} instead of {before} once these "
        f"{_removed(result)} channels are removed (as many random ones, {random.size} draws: {span})."
    )
    if after.is_none:
        return f"{sentence} Removing them removes position."
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
    sentence = f"Rank correlation of {listed(closest)}: {number(known[closest])}"
    if len(known) > 1:
        sentence = (
            f"The rankings agree best between {listed(closest)} (rank correlation {number(known[closest])}) and least "
            f"between {listed(farthest)} ({number(known[farthest])})"
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
    each = listed(f"{name} {number(value)}" for name, value in known.items())
    sentence = f"Split-half stability (rank correlation between two halves of the images): {each}."
    if unstable := [name for name, value in known.items() if value < _STABLE]:
        sentence += f" Below {_STABLE}, for {listed(unstable)}, the order depends much on which images are taken."
    return sentence
