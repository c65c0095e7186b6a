"""The numbers that the channel report states: changes of scores, beside those that random channels cause."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from probe.reports.page.estimates import Estimate, interval

__all__ = ["Removal", "Verdict", "later_layers", "main_ranking", "main_score", "position", "removal"]

Verdict = Literal["more", "less", "same", "unknown"]

_BAND = (0.05, 0.95)


@dataclass(frozen=True)
class Removal:
    """A score without `count` ranked channels, beside the same without random ones.

    `low` and `high` are the 5th and the 95th percentile of the `n_draws` random draws, `random` is their mean;
    `difference` is `ranked` − `random`, with the error of the sampled images.
    """

    count: int
    intact: Estimate
    ranked: Estimate
    random: float
    low: float
    high: float
    n_draws: int
    difference: Estimate

    @property
    def verdict(self) -> Verdict:
        """Whether ranked channels do more harm than random ones: outside the band, and beyond the error."""
        if not np.isfinite([self.ranked.mean, self.low, self.high]).all():
            return "unknown"
        if self.ranked.mean < self.low and self.difference.high < 0:
            return "more"
        if self.ranked.mean > self.high and self.difference.low > 0:
            return "less"
        return "same"


def main_ranking(result: xr.Dataset) -> str:
    """Return the ranking that the findings speak of: the first."""
    return str(result.ranking.values[0])


def main_score(result: xr.Dataset) -> str:
    """Return the score that the findings speak of: the first."""
    return str(result.score.values[0])


def removal(
    result: xr.Dataset, ranking: str, score: str, count: int, *, against: Literal["random", "matched"] = "random"
) -> Removal:
    """Return what removing channels does to a score, beside random channels, or ones matched for their activation."""
    chosen = result.sel(ranking=ranking, score=score, count=count)
    draws = chosen[against].values
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, _BAND) if draws.size else (np.nan, np.nan)
    mean = float(draws.mean()) if draws.size else np.nan
    degrees = int(result.attrs["folds"]) - 1
    difference, error = chosen[f"top_minus_{against}"], chosen[f"top_minus_{against}_se"]
    return Removal(
        count=count,
        intact=interval(chosen.intact.item(), chosen.intact_se.item(), degrees=degrees),
        ranked=interval(chosen.top.item(), chosen.top_se.item(), degrees=degrees),
        random=mean,
        low=float(low),
        high=float(high),
        n_draws=draws.size,
        difference=interval(difference.item(), error.item(), degrees=degrees),
    )


def position(result: xr.Dataset, layer: str, stimulus: str, *, removed: Literal["nothing", "ranked"]) -> Estimate:
    """Return the R² of position, the mean of row and column, at a layer, with the t interval over folds of images."""
    folds = result.r2_fold.sel(layer=layer, stimulus=stimulus, removed=removed).mean("target").values
    r2 = result.r2.sel(layer=layer, stimulus=stimulus, removed=removed).mean("target").item()
    # The folds of row and column are the same images: their errors are taken together.
    error = folds.std(ddof=1) / np.sqrt(folds.size)
    return interval(r2, error, degrees=folds.size - 1)


def later_layers(result: xr.Dataset) -> list[str]:
    """Return the layers behind the one whose channels are removed."""
    return [str(layer) for layer in result.layer.values if str(layer) != result.attrs["layer"]]
