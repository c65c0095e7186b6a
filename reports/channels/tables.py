"""The tables of the channel report."""

import pandas as pd
import xarray as xr

from probe.reports.channels.estimates import position

__all__ = ["agreement_table", "position_table", "ranking_table"]


def ranking_table(result: xr.Dataset) -> pd.DataFrame:
    """Return rank and score of each channel by each ranking, in the order of the first ranking."""
    table = pd.DataFrame({"channel": result.channel.values})
    for ranking in map(str, result.ranking.values):
        table[f"{ranking} rank"] = result.channel_rank.sel(ranking=ranking).values
        table[f"{ranking} score"] = result.channel_score.sel(ranking=ranking).values
    return table.sort_values(f"{result.ranking.values[0]} rank", kind="stable")


def position_table(result: xr.Dataset) -> pd.DataFrame:
    """Return R² of position before and after, by layer and stimulus."""
    rows = []
    for stimulus in map(str, result.stimulus.values):
        for layer in map(str, result.layer.values):
            before = position(result, layer, stimulus, removed="nothing")
            after = position(result, layer, stimulus, removed="ranked")
            random = result.r2_random.sel(layer=layer, stimulus=stimulus).mean("target").mean().item()
            rows.append((stimulus, layer, before, after, random))
    return pd.DataFrame(rows, columns=["stimulus", "layer", "nothing removed", "ranked removed", "random removed"])


def agreement_table(result: xr.Dataset) -> pd.DataFrame:
    """Return which share of their first channels two rankings have in common, for each number of first ones."""
    names = [str(name) for name in result.ranking.values]
    rows = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            row: dict[str, str | float] = {"ranking": first, "other": second}
            row["rank correlation"] = float(result.correlation.sel(ranking=first, other=second))
            for count in map(int, result.n_first.values):
                row[f"common to the first {count}"] = float(
                    result.overlap.sel(ranking=first, other=second, n_first=count)
                )
            rows.append(row)
    return pd.DataFrame(rows)
