"""Sentences and tables of erasing: what is left of position, what it costs, what other readers still find."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from probe.plots.erasing import METHOD_NAMES, degrees, erased_targets
from probe.reports.page.estimates import Estimate, interval, joined, written

__all__ = [
    "erasing_findings",
    "erasing_table",
    "left_of_position",
    "lost_by_erasing",
    "matrix_findings",
    "matrix_table",
    "reader_findings",
    "reader_table",
    "score_name",
    "told_first",
]

_READERS = {
    "cell": "a linear readout of a cell",
    "neighbourhood": "a linear readout of 3×3 cells",
    "perceptron": "a perceptron of a cell",
}


def _mean(result: xr.Dataset, name: str, targets: list[str]) -> Estimate:
    """Return the mean of a variable over targets; its error is not below that of a single one."""
    value = float(result[name].sel(target=targets).mean("target"))
    error = float(result[f"{name}_se"].sel(target=targets).max("target"))
    reader = str(result.reader.item()) if "reader" in result.coords and not result.reader.dims else ""
    return interval(value, error, degrees=degrees(result, reader or "r2"))


def _stimulus(result: xr.Dataset) -> str:
    stimuli = [str(name) for name in result.stimulus.values]
    return "rolled" if "rolled" in stimuli else stimuli[0]


def score_name(score: str, *, first: bool = False) -> str:
    """Return what a score is called in a sentence, and at its beginning.

    Examples
    --------
    >>> score_name("miou:left", first=True), score_name("accuracy", first=True), score_name("accuracy")
    ('mIoU (left)', 'Accuracy', 'accuracy')
    """
    name, _, region = score.partition(":")
    known = {"miou": "mIoU"}.get(name)
    called = known or (f"{name[0].upper()}{name[1:]}" if first else name)
    return f"{called} ({region})" if region else called


def told_first(result: xr.Dataset) -> int:
    """Return the number of the eraser that is told first: LEACE fitted to rolled images, where there is such."""
    return _first_of_each(result)[0]


def left_of_position(result: xr.Dataset) -> tuple[Estimate, Estimate]:
    """Return R² of position before erasing, and after it by the eraser that is told first."""
    read, targets = result.sel(stimulus=_stimulus(result)), erased_targets(result)
    return _mean(read, "r2_before", targets), _mean(read.isel(eraser=told_first(result)), "r2", targets)


def lost_by_erasing(result: xr.Dataset) -> Estimate:
    """Return the first score after the eraser that is told first, minus that after random directions."""
    one = result.isel(eraser=told_first(result), score=0)
    return interval(float(one.erased_minus_random), float(one.erased_minus_random_se), degrees=degrees(result, "score"))


def erasing_findings(result: xr.Dataset) -> list[str]:
    """Say what the first eraser leaves of position, and what it costs, beside random directions and channels."""
    stimulus, targets = _stimulus(result), erased_targets(result)
    read = result.sel(stimulus=stimulus)
    before = _mean(read, "r2_before", targets)
    if not before.is_known:
        return ["Position could not be read in this layer: its activations are not finite, or nothing varies."]
    what = " and ".join(targets)
    sentences = []
    if not before.is_present:
        sentences.append(
            f"A linear readout of a cell finds no position here that is beyond its error: R² of {what} "
            f"{before.formatted()} on {stimulus} images. What erasers remove is then no position either."
        )
    for number in _first_of_each(result):
        sentences += _of_eraser(result, read.isel(eraser=number), before, what, stimulus, targets)
    return sentences


def _first_of_each(result: xr.Dataset) -> list[int]:
    """Return the number of the erasers that are told: for each stimulus the one of LEACE of the largest rank."""
    chosen = []
    for fitted in dict.fromkeys(map(str, result.fitted_to.values)):
        places = [
            place
            for place in range(result.sizes["eraser"])
            if str(result.fitted_to.values[place]) == fitted and str(result.method.values[place]) != "channels"
        ]
        methods = [str(result.method.values[place]) for place in places]
        preferred = [place for place, method in zip(places, methods, strict=True) if method == "leace"] or places
        if preferred:
            chosen.append(max(preferred, key=lambda place: int(result.n_directions.values[place])))
    return chosen


def _of_eraser(
    result: xr.Dataset, one: xr.Dataset, before: Estimate, what: str, stimulus: str, targets: list[str]
) -> Iterator[str]:
    left = _mean(one, "r2", targets)
    rank, name = int(one.n_directions), METHOD_NAMES[str(one.method.item())]
    if not left.is_known:
        yield f"What {name} of rank {rank} leaves could not be read."
        return
    eraser, cost = f"{name} of rank {rank}, fitted to {one.fitted_to.item()} images,", 100 * float(one.cost)
    # As much as before, and nothing, both lie within the error.
    is_told = left.is_none or left.low > 0 or left.high < before.low
    sentence = (
        f"{eraser} takes R² of {what} on {stimulus} images from {before.formatted()} to {left.formatted()}, and "
        f"{cost:.1f} % of the variance of the features"
    )
    if not is_told:
        sentence = (
            f"What {eraser} leaves of {what} on {stimulus} images cannot be told from so few images (R² "
            f"{left.formatted()}, before {before.formatted()}); it takes {cost:.1f} % of the variance of the features"
        )
    if "r2_random" in one and rank in one["rank"].values:
        random = one.r2_random.sel(target=targets).mean("target").sel(rank=rank)
        sentence += f"; random directions of the same rank leave {written(float(random.mean()))}"
    yield sentence + "."
    yield from _of_as_costly(result, one, stimulus, targets)
    for score in map(str, result.score.values if "score" in result.dims else []):
        at = one.sel(score=score)
        after, intact = written(float(at.erased)), written(float(at.intact))
        told = f"{score_name(score, first=True)} after {name} of rank {rank} is {after}, with nothing erased {intact}"
        difference = interval(
            float(at.erased_minus_random), float(at.erased_minus_random_se), degrees=degrees(result, "score")
        )
        if difference.is_known:
            told += f"; its distance from random directions is {difference.formatted(sign=True)}"
            told += ", within its error" if difference.is_tie else ""
        yield f"{told}."
        if is_told:
            yield from _of_channels(result, score, left, stimulus, targets, str(one.fitted_to.item()))


def _channel_places(result: xr.Dataset, fitted: str) -> list[int]:
    """Return which of the erasers are zeroed channels, ranked on images of one kind."""
    return [
        place
        for place in range(result.sizes["eraser"])
        if (str(result.method.values[place]), str(result.fitted_to.values[place])) == ("channels", fitted)
    ]


def _of_as_costly(result: xr.Dataset, one: xr.Dataset, stimulus: str, targets: list[str]) -> Iterator[str]:
    """Say what is left where as much of the variance is taken by zeroing channels."""
    places = _channel_places(result, str(one.fitted_to.item()))
    if "as_costly" not in one.coords or not places:
        return
    count = int(one.as_costly)
    place = next(place for place in places if int(result.n_directions.values[place]) == count)
    channels = result.isel(eraser=place).sel(stimulus=stimulus)
    named = "The channel ranked first holds" if count == 1 else f"The {count} channels ranked first hold"
    yield (
        f"{named} {100 * float(channels.cost):.1f} % of the variance; zeroed, "
        f"{'it leaves' if count == 1 else 'they leave'} R² "
        f"{_mean(channels, 'r2', targets).formatted()}."
    )


def _of_channels(
    result: xr.Dataset, score: str, left: Estimate, stimulus: str, targets: list[str], fitted: str
) -> Iterator[str]:
    """Say how many channels must be zeroed to leave as little, and the score that they leave."""
    places = _channel_places(result, fitted)
    if not places:
        return
    channels = result.sel(stimulus=stimulus, score=score).isel(eraser=places)
    values = channels.r2.sel(target=targets).mean("target").values
    reached = np.flatnonzero(values <= max(left.high, 0))
    if not len(reached):
        most = int(np.max(channels.n_directions))
        yield f"Zeroing up to {most} channels leaves more of position: R² {written(float(np.nanmin(values)))} or more."
        return
    first = channels.isel(eraser=int(reached[0]))
    count, score_left = int(first.n_directions), written(float(first.erased))
    zeroed = f"{count} channels leaves" if count > 1 else "one channel leaves"
    yield f"Of the numbers tried, zeroing {zeroed} as little; {score_name(score)} is then {score_left}."


def erasing_table(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each eraser and stimulus: what is left of each target, the cost, the scores."""
    rows = []
    for number in range(result.sizes["eraser"]):
        for stimulus in map(str, result.stimulus.values):
            one = result.isel(eraser=number).sel(stimulus=stimulus)
            row = {
                "method": METHOD_NAMES[str(one.method.item())],
                "rank": int(one.n_directions),
                "fitted to": str(one.fitted_to.item()),
                "read on": stimulus,
                "cost": float(one.cost),
            }
            for score in map(str, result.score.values if "score" in result.dims else []):
                row[score] = float(one.erased.sel(score=score))
            for target in map(str, result.target.values):
                row[f"R² of {target}"] = _mean(one, "r2", [target])
            rows.append(row)
    return pd.DataFrame(rows)


def matrix_findings(result: xr.Dataset) -> list[str]:
    """Say where position that was erased is read anew."""
    targets = erased_targets(result)
    names = [str(name) for name in result.layer.values]
    sentences = []
    for erased in map(str, result.erased.values[1:]):
        behind = names[names.index(erased) + 1 :]
        row = result.sel(erased=erased)
        left = _mean(row.sel(layer=erased), "r2", targets)
        if not behind or not left.is_known:
            continue
        found = {name: _mean(row.sel(layer=name), "r2", targets) for name in behind}
        known = {name: one for name, one in found.items() if one.is_known}
        if not known:
            continue
        most = max(known, key=lambda name: known[name].mean)
        intact = _mean(result.sel(erased="nothing").sel(layer=most), "r2", targets)
        anew = known[most].is_present and known[most].low > left.high
        verb = "is read again most at" if anew else "is not read again beyond its error; most is found at"
        sentences.append(
            f"Erased at {erased} (R² left {left.formatted()}), position {verb} {most}: "
            f"{known[most].formatted()}, with nothing erased {intact.formatted()}."
        )
    return sentences or ["No layer behind an erased one could be read."]


def matrix_table(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each erased layer and each that is read from it on."""
    targets = erased_targets(result)
    rows = []
    for erased in map(str, result.erased.values):
        for layer in map(str, result.layer.values):
            found = _mean(result.sel(erased=erased, layer=layer), "r2", targets)
            if found.is_known:
                rows.append({"erased at": erased, "read at": layer, f"R² of {' and '.join(targets)}": found})
    return pd.DataFrame(rows)


def reader_findings(result: xr.Dataset) -> list[str]:
    """Say for each reader what it finds before and after the first eraser."""
    stimulus, targets = _stimulus(result), erased_targets(result)
    read = result.sel(stimulus=stimulus)
    sentences = []
    for number in range(1, result.sizes["eraser"]):
        one = read.isel(eraser=number)
        parts, still = [], []
        for reader in map(str, result.reader.values):
            words = _READERS[reader]
            before, after = (_mean(read.isel(eraser=place).sel(reader=reader), "r2", targets) for place in (0, number))
            if before.is_known and after.is_known:
                parts.append(f"{words} {after.formatted()} (before: {before.formatted()})")
                still += [words] if after.is_present else []
        if parts:
            name = METHOD_NAMES[str(one.method.item())]
            verdict = f"Position is still there for {joined(still)}" if still else "None finds it beyond its error"
            sentences.append(
                f"After {name} of rank {int(one.n_directions)}, R² of {' and '.join(targets)} on {stimulus} images is, "
                f"of {', of '.join(parts)}. {verdict}."
            )
    return sentences or ["Nothing could be read."]


def reader_table(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each reader, eraser and stimulus."""
    rows = []
    for reader in map(str, result.reader.values):
        for number in range(result.sizes["eraser"]):
            for stimulus in map(str, result.stimulus.values):
                one = result.isel(eraser=number).sel(reader=reader, stimulus=stimulus)
                row = {
                    "reader": _READERS[reader],
                    "erased": METHOD_NAMES[str(one.method.item())],
                    "rank": int(one.n_directions),
                    "read on": stimulus,
                }
                targets = map(str, one.target.values)
                rows.append(row | {f"R² of {target}": _mean(one, "r2", [target]) for target in targets})
    return pd.DataFrame(rows)
