"""What removing channels does to scores, beside random channels, with the number of all comparisons in view."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import stdtr

from probe.intervals import CONFIDENCE
from probe.reports.page.estimates import Estimate, interval

__all__ = [
    "CONTROLS",
    "Key",
    "Removal",
    "Verdict",
    "chance_of",
    "headline",
    "holm",
    "main_score",
    "removal",
    "removal_table",
    "verdicts",
]

Verdict = Literal["more", "less", "undecided", "unknown"]
Against = Literal["random", "matched"]
Key = tuple[str, str, int]
"""Score, ranking and count of a comparison."""

CONTROLS: tuple[Against, ...] = ("random", "matched")
"""What ranked channels are compared with; a curve can hold one of them alone."""

_BAND = (0.05, 0.95)


@dataclass(frozen=True)
class Removal:
    """A score without `count` ranked channels, beside the same without random ones.

    `low` and `high` are the 5th and the 95th percentile of the `n_draws` random draws, `random` is their mean;
    `difference` is `ranked` − `random`, with the error of the sampled images. `p` is the probability of so large a
    difference, in either direction, were the ranked channels one more draw and the images others.
    """

    count: int
    intact: Estimate
    ranked: Estimate
    random: float
    low: float
    high: float
    n_draws: int
    difference: Estimate
    p: float


def main_score(result: xr.Dataset) -> str:
    """Return the score that the findings speak of: the first."""
    return str(result.score.values[0])


def removal(result: xr.Dataset, ranking: str, score: str, count: int, *, against: Against = "random") -> Removal:
    """Return what removing channels does to a score, beside random channels, or ones matched for their activation."""
    chosen = result.sel(ranking=ranking, score=score, count=count)
    draws = chosen[against].values
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, _BAND) if draws.size else (np.nan, np.nan)
    mean = float(draws.mean()) if draws.size else np.nan
    degrees = int(result.attrs["folds"]) - 1
    difference, error = (float(chosen[f"top_minus_{against}{suffix}"]) for suffix in ("", "_se"))
    ranked = interval(chosen.top.item(), chosen.top_se.item(), degrees=degrees)
    return Removal(
        count=count,
        intact=interval(chosen.intact.item(), chosen.intact_se.item(), degrees=degrees),
        ranked=ranked,
        random=mean,
        low=float(low),
        high=float(high),
        n_draws=draws.size,
        difference=interval(difference, error, degrees=degrees),
        p=max(_chance_among(draws, ranked.mean), chance_of(difference, error, degrees)),
    )


def chance_of(difference: float, error: float, degrees: int) -> float:
    """Return the two-sided p-value of a difference with a standard error, by Student's t.

    Examples
    --------
    >>> round(chance_of(2.0, 1.0, 9), 3), chance_of(0.0, 0.0, 9), chance_of(1.0, 0.0, 9)
    (0.077, 1.0, 0.0)
    """
    if not np.isfinite([difference, error]).all():
        return np.nan
    if error == 0:
        return float(difference == 0)
    return float(2 * stdtr(degrees, -abs(difference) / error))


def _chance_among(draws: np.ndarray, value: float) -> float:
    """Return the p-value of a value as one more of some draws.

    By Student's t from their mean and spread, and no less than the share of draws that lie as far out on its side,
    for draws that are not normal.
    """
    if draws.size < 2 or not np.isfinite(value):
        return np.nan
    as_far = min(int((draws <= value).sum()), int((draws >= value).sum()))
    spread = draws.std(ddof=1) * np.sqrt(1 + 1 / draws.size)
    by_spread = chance_of(float(value - draws.mean()), float(spread), draws.size - 1)
    return max(by_spread, min(1.0, 2 * as_far / (draws.size + 1)))


def holm(chances: Mapping[object, float]) -> dict[object, float]:
    """Return p-values corrected for their number, after Holm (1979); unknown ones stay so and are not counted.

    Examples
    --------
    >>> holm({"a": 0.01, "b": 0.03, "c": 0.04})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    known = sorted((key for key, p in chances.items() if np.isfinite(p)), key=lambda key: chances[key])
    corrected, highest = {}, 0.0
    for rank, key in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * chances[key]))
        corrected[key] = highest
    return {key: corrected.get(key, np.nan) for key in chances}


def verdicts(result: xr.Dataset) -> dict[Against, dict[Key, Verdict]]:
    """Say for every score, ranking and count whether ranked channels do more harm than others.

    All comparisons, with random and with matched draws, are corrected together after Holm, so that the chance of a
    single false verdict among all is at most 5 %.
    """
    keys: list[Key] = [
        (str(score), str(ranking), int(count))
        for score, ranking, count in product(result.score.values, result.ranking.values, result["count"].values)
    ]
    measured = [against for against in CONTROLS if against in result]
    found = {
        (against, key): removal(result, key[1], key[0], key[2], against=against) for against in measured for key in keys
    }
    corrected = holm({place: one.p for place, one in found.items()})
    return {
        against: {
            key: _verdict(found[against, key], corrected[against, key]) if against in measured else "unknown"
            for key in keys
        }
        for against in CONTROLS
    }


def _verdict(found: Removal, p: float) -> Verdict:
    if not np.isfinite(p):
        return "unknown"
    if p > 1 - CONFIDENCE:
        return "undecided"
    return "more" if found.difference.mean < 0 else "less"


def headline(result: xr.Dataset, judged: Mapping[Against, Mapping[Key, Verdict]]) -> Key | None:
    """Return where removing channels does the most harm for each of them, beyond what draws explain.

    Of the main score. Removals beyond both random and matched draws come first, then those beyond matched draws, for
    which activity is no explanation, then those beyond random ones; None if there is none.
    """
    score = main_score(result)
    hits = {
        against: {key for key, verdict in judged[against].items() if verdict == "more" and key[0] == score}
        for against in CONTROLS
    }
    both = hits["random"] & hits["matched"]
    against: Against = "matched" if hits["matched"] else "random"

    def harm(key: Key) -> float:
        return -removal(result, key[1], key[0], key[2], against=against).difference.mean / key[2]

    # In the order of the result, so that equal ones are chosen from alike.
    chosen = both or hits[against]
    return max((key for key in judged[against] if key in chosen), key=harm, default=None)


def removal_table(result: xr.Dataset, score: str | None = None) -> pd.DataFrame:
    """Return a row for each score, ranking and count; of one score if it is named."""
    judged, rows = verdicts(result), []
    for key in judged["random"]:
        name, ranking, count = key
        if score not in (None, name):
            continue
        row: dict[str, object] = {"score": name, "ranking": ranking, "removed": count}
        for against, phrase in zip(CONTROLS, ("random", "as active"), strict=True):
            if against in result:
                found = removal(result, ranking, name, count, against=against)
                row |= {"ranked first": found.ranked, phrase: found.random, f"− {phrase}": found.difference}
        row["needed"] = _needed(judged["random"][key], judged["matched"][key])
        rows.append(row)
    return pd.DataFrame(rows)


def _needed(by_random: Verdict, by_matched: Verdict) -> str:
    if "more" in (by_random, by_matched):
        return (
            "more than both"
            if by_random == by_matched
            else f"more than {'random' if by_random == 'more' else 'as active'}"
        )
    return {"less": "less than random", "undecided": "undecided", "unknown": "not known"}[by_random]
