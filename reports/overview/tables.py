"""The tables of the page of one model that no part has of its own."""

import numpy as np
import pandas as pd

from probe.reports.overview.parts import NAMES, Overview
from probe.reports.page.estimates import Estimate
from probe.reports.page.position import position

__all__ = ["depth_table", "parts_table", "variant_layers_table", "variants_table"]


def depth_table(whole: Overview) -> pd.DataFrame:
    """Return R² of each layer and stimulus, of the model and of its untrained twin, with null and control."""
    rows = []
    for layer in map(str, whole.where.layer.values):
        row: dict[str, object] = {"layer": layer}
        for stimulus in map(str, whole.where.stimulus.values):
            at = whole.where.sel(layer=layer, stimulus=stimulus)
            row[f"R² {stimulus}"] = position(at)
            if "untrained" in whole.parts:
                row[f"untrained, {stimulus}"] = whole.read(whole.parts["untrained"], layer, stimulus)
            row[f"shuffled, {stimulus}"] = float(at.r2_null.mean("target"))
            row[f"any map, {stimulus}"] = float(at.r2_control.mean("target"))
        rows.append(row)
    return pd.DataFrame(rows)


def variants_table(whole: Overview) -> pd.DataFrame:
    """Return what each change of the model does at the layer of which the findings speak."""
    unknown = Estimate(np.nan, np.nan, 0)
    shares = {"agreement_with_own": "predictions as before", "commonest_share": "one and the same class"}
    if any("accuracy" in one for one in whole.variants.values()):
        shares["accuracy"] = "accuracy"
    rows = []
    for name, result in {"as it is": whole.where, **whole.variants}.items():
        is_own = result is whole.where
        known = whole.own_shares if is_own else {share: float(result.get(share, np.nan)) for share in shares}
        row: dict[str, object] = {
            "model": name,
            "R² rolled": whole.read(result, whole.peak),
            "change": unknown if is_own else whole.change(result, whole.peak),
            **{label: known.get(share, np.nan) for share, label in shares.items()},
            "ranked": name not in whole.broken,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def variant_layers_table(whole: Overview) -> pd.DataFrame:
    """Return R² of each layer on rolled images, of the model as it is and with each thing changed."""
    results = {"as it is": whole.where, **whole.variants}
    rows = [
        {"layer": layer, **{name: whole.read(one, layer) for name, one in results.items()}}
        for layer in map(str, whole.where.layer.values)
    ]
    return pd.DataFrame(rows)


def parts_table(whole: Overview) -> pd.DataFrame:
    """Return what was measured, by which call, and how long it took."""
    rows = []
    for part, name in NAMES.items():
        if part in whole.parts:
            attrs = whole.parts[part].attrs
            rows.append((name, str(attrs.get("command", "")), float(attrs.get("duration_s", np.nan)), ""))
        else:
            reason = whole.failed.get(part) or whole.absent.get(part) or "not asked for"
            state = "failed" if part in whole.failed else "absent"
            rows.append((name, "", np.nan, f"{state}: {reason}"))
    return pd.DataFrame(rows, columns=["part", "call", "seconds", "why there is none"])
