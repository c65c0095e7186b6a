"""The main numbers of each kind of result: rows that hold them all, a title, and a table for people. No torch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from probe.axes import sized
from probe.bundles import unbundle
from probe.errors import ArgumentError
from probe.intervals import CONFIDENCE, half_width
from probe.results import published_table

__all__ = ["KINDS", "Kind", "kind_of"]

_SCORES = ("r2", "r2_se", "r2_null", "r2_control", "bits")
_MOST_CHANNELS = 20


@dataclass(frozen=True)
class Kind:
    """How results of one kind are told.

    Attributes
    ----------
    rows : callable
        result -> a frame of all main numbers, which JSON shows.
    title : callable
        result -> what the table shows, in one line.
    table : callable
        (result, rows) -> a frame for people; its index names the rows.
    empty : str
        What is said where that frame has no rows.
    """

    rows: Callable[[xr.Dataset], pd.DataFrame]
    title: Callable[[xr.Dataset], str]
    table: Callable[[xr.Dataset, pd.DataFrame], pd.DataFrame]
    empty: str = "nothing to list: no number of this could be computed"


def kind_of(result: xr.Dataset) -> Kind:
    """Return how a result is told, by its attribute ``kind``.

    Raises
    ------
    ArgumentError
        If there is no such kind.
    """
    kind = result.attrs.get("kind")
    if kind not in KINDS:
        raise ArgumentError(f"result: kind={kind!r}: expected a result of probe, of kind {', '.join(KINDS)}.")
    return KINDS[kind]


def _estimates(values: pd.Series, halves: pd.Series) -> list[str]:
    return [f"{value:z.3f} ± {half:.3f}" for value, half in zip(values, halves, strict=True)]


def _intervals(values: pd.Series, lows: pd.Series, highs: pd.Series) -> list[str]:
    """Write numbers with the ends of their intervals, where these are known."""
    parts = zip(values, lows, highs, strict=True)
    return [
        f"{value:.3f} ({low:.3f}–{high:.3f})" if np.isfinite(low) else "" if np.isnan(value) else f"{value:.3f}"
        for value, low, high in parts
    ]


def _significant(values: pd.Series) -> list[str]:
    """Write numbers whose size is not known beforehand."""
    return ["" if np.isnan(value) else f"{value:.3g}" for value in values]


def _frame(result: xr.Dataset, names: Sequence[str]) -> pd.DataFrame:
    """Return variables in long form, without coordinates that are no dims."""
    chosen = result[list(names)]
    chosen = chosen.drop_vars(set(chosen.coords) - set(chosen.dims))
    return chosen.to_dataframe(dim_order=list(chosen[names[0]].dims)).reset_index()


# ---- Position by layer and by channel


def _layers(result: xr.Dataset) -> pd.DataFrame:
    return _frame(result, [name for name in _SCORES if name in result])


def _layers_title(result: xr.Dataset) -> str:
    return f"R² of position ± {CONFIDENCE:.0%} interval over {_n_folds(result)} folds of images"


def _n_folds(result: xr.Dataset) -> int:
    """Return over how many folds R² and its error are, of which a saved choice may hold fewer."""
    settings = json.loads(result.attrs.get("settings", "{}"))
    return int(settings["folds"] if "folds" in settings else result.sizes["fold"])


def _layers_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    halves = half_width(rows.r2_se, _n_folds(result) - 1)
    return rows.assign(text=_estimates(rows.r2, halves)).pivot_table(
        "text", "layer", ["stimulus", "target"], aggfunc="first", sort=False
    )


def _channels(result: xr.Dataset) -> pd.DataFrame:
    frame = result["omega2"].to_dataframe().reset_index()
    groups = frame.groupby(["layer", "stimulus"], sort=False)
    return groups[["index", "omega2"]].apply(_channels_of_layer).reset_index()


def _channels_of_layer(group: pd.DataFrame) -> pd.Series:
    scored = group.dropna().sort_values("omega2", ascending=False, kind="stable")
    return pd.Series(
        {
            "channels": len(scored),
            "omega2_mean": scored["omega2"].mean(),
            "omega2_max": scored["omega2"].max(),
            "strongest": scored["index"].iloc[0] if len(scored) else None,
        },
        dtype=object,
    )


# ---- Rankings


def _ranking(result: xr.Dataset) -> pd.DataFrame:
    return pd.DataFrame({name: result[name].values for name in ("rank", "index", "score")})


def _ranking_title(result: xr.Dataset) -> str:
    about = result.attrs
    how = ", ".join(filter(None, (about[name] for name in ("method", "axis", "region", "stimulus"))))
    n_channels, shown = result.sizes["channel"], min(result.sizes["channel"], _MOST_CHANNELS)
    return (
        f"channels of {about['layer']} by {how}: the first {shown} of {n_channels}; "
        f"rank correlation between two halves of the images {result.stability.item():.3f}"
    )


def _ranking_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    first = rows.head(_MOST_CHANNELS).rename(columns={"index": "channel"}).set_index("rank")
    return first.assign(score=_significant(first.score))


def _rankings(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each pair, and one for each ranking beside itself, which holds its stability."""
    rows = []
    names = result.ranking.values
    for place, name in enumerate(names):
        for other in names[place:]:
            pair = result.sel(ranking=name, other=other)
            row = {"ranking": name, "other": other}
            row["correlation"] = float(pair.stability if name == other else pair.correlation)
            if name != other:
                row |= {f"first_{n}": float(pair.overlap.sel(top=n)) for n in result.top.values}
                row |= {f"chance_{n}": float(pair.overlap_expected.sel(top=n)) for n in result.top.values}
            rows.append(row)
    return pd.DataFrame(rows)


def _rankings_title(result: xr.Dataset) -> str:
    return (
        f"rank correlation of rankings of {result.attrs['layer']}, of one with itself between two halves of the "
        "images; share of the first N channels in common, and by chance"
    )


# ---- Channels removed


def _curves(result: xr.Dataset) -> pd.DataFrame:
    names = ["top", "bottom", "top_minus_random", "top_minus_random_se"]
    names += [name for name in ("top_minus_matched", "top_minus_matched_se") if name in result]
    # An ablation without random draws has matched ones.
    curves = result[[name for name in names if name in result]]
    for control in ("random", "matched"):
        if control in result:
            curves = curves.assign({control: result[control].mean("draw")})
    curves = curves.assign(intact=result.intact)
    dims = [dim for dim in ("ranking", "score", "count") if dim in curves.dims]
    curves = curves.drop_vars(set(curves.coords) - set(dims))
    return curves.to_dataframe(dim_order=dims).reset_index()


def _curves_title(result: xr.Dataset) -> str:
    about = result.attrs
    removed = {"zero": "set to 0", "mean": "set to their mean", "resample": "taken from another image"}
    settings = json.loads(about["settings"])
    mode = about.get("mode", settings.get("mode", ""))
    return (
        f"score without channels of {about['layer']} ({removed.get(mode, mode)}): ranked first, last, mean of "
        f"{settings['draws']} random draws, and the difference ± {CONFIDENCE:.0%}"
    )


def _curves_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("ranking", "score", "count") if name in rows]
    table = rows[[*keys, "intact", "top", "bottom"]].copy()
    for control in ("random", "matched"):
        if control in rows:
            halves = half_width(rows[f"top_minus_{control}_se"], int(result.attrs["folds"]) - 1)
            difference = _estimates(rows[f"top_minus_{control}"], halves)
            table[control] = rows[control]
            table[f"top − {control}"] = np.where(rows[control].isna(), "", difference)
    return table.set_index(keys)


# ---- Pooled vectors and objects that move


def _pooled(result: xr.Dataset) -> pd.DataFrame:
    return _frame(result, ["accuracy", "accuracy_low", "accuracy_high"]).assign(chance=result.chance.item())


def _pooled_title(result: xr.Dataset) -> str:
    return f"accuracy of the cell of an image, and its {CONFIDENCE:.0%} interval; by chance {result.chance.item():.3f}"


def _pooled_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    text = _intervals(rows.accuracy, rows.accuracy_low, rows.accuracy_high)
    return rows.assign(text=text).pivot_table("text", "layer", "readout", aggfunc="first", sort=False)


def _similarity(result: xr.Dataset) -> pd.DataFrame:
    names = ["global_similarity", "local_roughness"]
    return _frame(result[names].mean("object"), names)


def _similarity_title(result: xr.Dataset) -> str:
    return (
        f"cosine similarity to the features at a reference, mean over all positions and {result.sizes['object']} "
        "objects (1: position is not told), and how rough it is"
    )


def _similarity_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(local_roughness=_significant(rows.local_roughness)).set_index(["layer", "reference"])


# ---- Images that are shifted, and cells that are matched


def _shifts(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each number and part of the images."""
    rows = []
    for name in ("consistency", "unchanged", "same_neighbour", "accuracy"):
        if name not in result:
            continue
        frame = result[[name, *(f"{name}_{end}" for end in ("se", "low", "high"))]]
        frame = frame if "subset" in frame[name].dims else frame.expand_dims(subset=["all"])
        for subset in map(str, frame.subset.values):
            at = frame.sel(subset=subset)
            ends = {end: at[f"{name}_{end}"].item() for end in ("se", "low", "high")}
            rows.append({"number": name, "images": subset, "value": at[name].item(), **ends})
    return pd.DataFrame(rows)


def _shifts_title(result: xr.Dataset) -> str:
    what = "share of pairs of shifts with the same prediction"
    if result.attrs["compare"] == "embedding":
        what = "mean cosine similarity of the embedding at pairs of shifts"
    drawn = f"law {result.attrs['law']}, {result.sizes['pair']} pairs an image of {result.attrs['n_shifts']} shifts"
    return f"consistency: {what} ({drawn}), and its {CONFIDENCE:.0%} interval"


def _shifts_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    table = rows.assign(text=_intervals(rows.value, rows.low, rows.high), number=rows.number.str.replace("_", " "))
    return table.pivot_table("text", "number", "images", aggfunc="first", sort=False).fillna("")


def _neighbours(result: xr.Dataset) -> pd.DataFrame:
    names = [f"same_place{end}" for end in ("", "_se", "_low", "_high")]
    rows = _frame(result, [*names, "distance"])
    return rows.assign(chance=result.chance.sel(layer=rows.layer.values).values)


def _neighbours_title(result: xr.Dataset) -> str:
    return (
        f"share of cells whose nearest in another image is within {result.attrs['reach']} of the same place, its "
        f"{CONFIDENCE:.0%} interval over {result.attrs['n_pairs']} pairs of images, and by chance"
    )


def _neighbours_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    text = _intervals(rows.same_place, rows.same_place_low, rows.same_place_high)
    table = rows.assign(text=text).pivot_table("text", "layer", "stimulus", aggfunc="first", sort=False)
    return table.assign(chance=rows.groupby("layer", sort=False).chance.first())


def _border(result: xr.Dataset) -> pd.DataFrame:
    rows = result[["change", "change_se"]].isel(distance=0, drop=True).to_dataframe().reset_index()
    rows = rows.assign(reach=result.reach.sel(layer=result.layer).values.ravel())
    return rows.assign(window_reach=result.window_reach.max("side").sel(layer=rows.layer.values).values)


def _border_title(result: xr.Dataset) -> str:
    return (
        "squared change of the mean activation at the border over the channel's variance, and its "
        f"{CONFIDENCE:.0%} interval; pixels within which it exceeds {result.attrs['threshold']:g} (reach), and within "
        "which windows read beyond the border"
    )


def _border_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    halves = half_width(rows.change_se, result.attrs["folds"] - 1)
    table = rows.assign(change=_estimates(rows.change, halves)).drop(columns="change_se")
    return table.rename(columns=lambda name: name.replace("_", " ")).set_index(["layer", "stimulus"])


# ---- Position erased


def _erasing(result: xr.Dataset) -> pd.DataFrame:
    """Return a row for each eraser, stimulus and target."""
    rows = result[["r2", "r2_se", "cost"]].to_dataframe().reset_index()
    for score in map(str, result.score.values if "score" in result.dims else []):
        rows[score] = result.erased.sel(score=score).values[rows.eraser.values]
    return rows.rename(columns={"n_directions": "rank"})


def _erasing_title(result: xr.Dataset) -> str:
    before = result.r2_before.sel(target=result.target != "cells").mean("target")
    told = ", ".join(f"{before.sel(stimulus=name).item():.3f} on {name}" for name in map(str, result.stimulus.values))
    return (
        f"R² ± {CONFIDENCE:.0%} of position left in {result.attrs['layer']}, and the share of the variance that is "
        f"removed (cost); with nothing erased, mean over targets: {told}"
    )


def _erasing_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    halves = half_width(rows.r2_se, int(json.loads(result.attrs["settings"])["folds"]) - 1)
    keys = ["method", "rank", "fitted_to", "stimulus"]
    scores = [str(name) for name in result.score.values] if "score" in result.dims else []
    texts = rows.assign(text=_estimates(rows.r2, halves)).pivot_table(
        "text", [*keys, "cost", *scores], "target", aggfunc="first", sort=False
    )
    return texts.reset_index(["cost", *scores])


def _matrix(result: xr.Dataset) -> pd.DataFrame:
    return _frame(result, ["r2", "r2_se"])


def _matrix_title(result: xr.Dataset) -> str:
    return (
        f"R² of position on {result.attrs['stimulus']} images, mean over targets: read at each layer, erased at another"
    )


def _matrix_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    mean = rows.groupby(["layer", "erased"], sort=False, as_index=False).r2.mean()
    return mean.pivot_table("r2", "layer", "erased", aggfunc="first", sort=False)


def _readers(result: xr.Dataset) -> pd.DataFrame:
    return result[["r2", "r2_se"]].to_dataframe().reset_index().rename(columns={"n_directions": "rank"})


def _readers_title(result: xr.Dataset) -> str:
    return f"R² of position that readouts find in {result.attrs['layer']}, mean over targets, before and after erasing"


def _readers_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot_table("r2", ["method", "rank", "stimulus"], "reader", aggfunc="mean", sort=False)


# ---- Audits


def _audit(result: xr.Dataset) -> pd.DataFrame:
    rows = result.sel(axis="row")
    table = pd.DataFrame({"layer": result.layer.values, "input": rows["input_size"].values})
    table["kernel"], table["stride"] = rows["kernel"].values, rows["stride"].values
    if "frame" in result.axis.values:
        frames = result.sel(axis="frame")
        for name in ("input_size", "kernel", "stride"):
            table[f"{name.removesuffix('_size')}_frames"] = frames[name].values
    for name in ("padding", "unread"):
        for side in map(str, result.side.values):
            table[f"{name}_{side}"] = result[name].sel(side=side).values
    return table


def _audit_title(result: xr.Dataset) -> str:
    """Tell how much padding is unread, and at which sizes none would be."""
    padded = (result.padding > 0).any("side")
    uneven = (result.unread > 0).any("side")
    size = json.loads(result.attrs["input_shape"])[1:]
    shown = "images" if len(size) == 2 else "clips"
    if not padded.any():
        return f"{shown} of {sized(size)}: no layer pads by its own arguments"
    found = f"{shown} of {sized(size)}: {int(uneven.sum())} of {int(padded.sum())} padded layers leave padding unread"
    if "even_size" not in result or not uneven.any():
        return found
    sizes = {
        axis: " or ".join(f"{size:.0f}" for size in result.even_size.sel(axis=axis).values if size == size)
        for axis in map(str, result.axis.values)
    }
    nearest = ", ".join(f"{numbers or 'none'} {axis}s" for axis, numbers in sizes.items())
    return f"{found}; nearest sizes that leave none: {nearest}"


def _audit_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what is unread of the padding of each side, for the layers that have a stride and padding."""
    table = rows[[name for name in rows if not str(name).startswith(("padding_", "unread_"))]].copy()
    for side in map(str, result.side.values):
        pairs = zip(rows[f"unread_{side}"], rows[f"padding_{side}"], strict=True)
        table[side] = [f"{unread} of {padding}" for unread, padding in pairs]
    strided = (result["stride"] > 1).any("axis").values & (result.padding > 0).any("side").values
    return table[strided].set_index("layer")


# ---- Studies


def _study_title(result: xr.Dataset) -> str:
    about = result.here.attrs
    return f"{about['long_name']} ({about['units']}), beside the published one"


def _study_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index(list(map(str, result.here.dims)))


def _paddings_title(result: xr.Dataset) -> str:
    return f"R² of position, mean over targets and networks ({result.sizes['seed']} for each padding)"


def _paddings_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot_table("r2", ["training", "stimulus", "layer"], "padding", aggfunc="mean", sort=False)


def _overview(result: xr.Dataset) -> pd.DataFrame:
    return _layers(unbundle(result)["where"])


def _overview_title(result: xr.Dataset) -> str:
    parts = unbundle(result)
    return f"{len(parts)} parts ({', '.join(parts)}); of where: {_layers_title(parts['where'])}"


def _overview_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    return _layers_table(unbundle(result)["where"], rows)


def _comparison(result: xr.Dataset) -> pd.DataFrame:
    models = zip(json.loads(result.attrs["names"]), unbundle(result).values(), strict=True)
    return pd.concat([_overview(one).assign(model=name) for name, one in models], ignore_index=True)


def _comparison_title(result: xr.Dataset) -> str:
    return "R² of position, mean over targets, of each model at the layer where it is highest"


def _comparison_table(result: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    means = rows.groupby(["model", "stimulus", "layer"], sort=False).r2.mean()
    return means.groupby(["model", "stimulus"], sort=False).max().unstack("stimulus")


KINDS = {
    "layerwise": Kind(_layers, _layers_title, _layers_table),
    "channelwise": Kind(
        _channels,
        lambda result: "share of each channel's variance that position explains (omega2), and the strongest channel",
        lambda result, rows: rows.set_index("layer"),
    ),
    "ranking": Kind(_ranking, _ranking_title, _ranking_table),
    "rankings": Kind(_rankings, _rankings_title, lambda result, rows: rows.set_index(["ranking", "other"])),
    "ablation_curve": Kind(_curves, _curves_title, _curves_table),
    "pooled": Kind(_pooled, _pooled_title, _pooled_table),
    "similarity": Kind(_similarity, _similarity_title, _similarity_table),
    "shift_consistency": Kind(_shifts, _shifts_title, _shifts_table),
    "neighbours": Kind(_neighbours, _neighbours_title, _neighbours_table),
    "erasure_proof": Kind(_erasing, _erasing_title, _erasing_table),
    "erasure_curve": Kind(_erasing, _erasing_title, _erasing_table),
    "erasure_matrix": Kind(_matrix, _matrix_title, _matrix_table),
    "stronger_readouts": Kind(_readers, _readers_title, _readers_table),
    "border_profile": Kind(_border, _border_title, _border_table),
    "audit": Kind(
        _audit,
        _audit_title,
        _audit_table,
        "no layer with a stride above 1 pads by its own arguments, so nothing is listed",
    ),
    "padding_comparison": Kind(_layers, _paddings_title, _paddings_table),
    "channels": Kind(_curves, _curves_title, _curves_table),
    "overview": Kind(_overview, _overview_title, _overview_table),
    "comparison": Kind(_comparison, _comparison_title, _comparison_table),
    "study": Kind(published_table, _study_title, _study_table),
}
"""How each kind of result is told."""
