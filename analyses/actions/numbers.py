"""The accuracies of all networks beside the published ones, what chance gives, and what a clip takes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.utils.flop_counter import FlopCounterMode

from probe.analyses.actions.cases import Case, Preset
from probe.analyses.actions.digits import FRAMES
from probe.analyses.actions.nets import ARMS, bare_net
from probe.analyses.actions.videos import LENGTH
from probe.analyses.data.digits import CANVAS

__all__ = ["CASES", "SCORES", "accuracies", "chance_of", "count_products", "curves_of", "published_numbers"]

SCORES = (
    "as trained", "swapped", "frames shuffled", "clips, best epoch", "clips, chosen epoch", "clips, last epoch",
    "videos, chosen epoch", "videos, last epoch",
)  # fmt: skip
"""Of tasks of moving digits the first three, of videos the others; the best epoch is the best on the test clips."""

_FULL_TIME = "F-Conv in space and time, stride 2"
_PUBLISHED = {
    "UCF101": {
        "RN18": {"S-Conv": 38.6, "F-Conv in space": 40.6, _FULL_TIME: 42.2},
        "RN34": {"S-Conv": 37.0, "F-Conv in space": 46.9},
        "RN50": {"S-Conv": 36.2, "F-Conv in space": 44.1},
    },
    "HMDB51": {
        "RN18": {"S-Conv": 16.1, "F-Conv in space": 19.3},
        "RN34": {"S-Conv": 15.2, "F-Conv in space": 18.3},
        "RN50": {"S-Conv": 14.3, "F-Conv in space": 19.0},
    },
}
CASES = {
    "RN18": ("S-Conv", "F-Conv in space", "F-Conv in space and time", _FULL_TIME),
    "RN34": ("S-Conv", "F-Conv in space"),
    "RN50": ("S-Conv", "F-Conv in space"),
}


def accuracies(
    found: Mapping[Case, Mapping[str, Any]], names: Sequence[str], cases: Mapping[str, Sequence[str]], seeds: int
) -> xr.DataArray:
    """Return what was measured on our own cases, and on those of the published numbers, where nothing was."""
    coords: dict[str, list[Any]] = {
        "seed": list(range(seeds)),
        "data_set": list(dict.fromkeys([*names, *_PUBLISHED])),
        "net": list(dict.fromkeys([*cases, *CASES])),
        "arm": [arm for arm in ARMS if arm in {*(a for own in cases.values() for a in own), *CASES["RN18"]}],
        "score": list(SCORES),
    }
    here = xr.DataArray(
        np.full([len(values) for values in coords.values()], np.nan),
        coords,
        list(coords),
        attrs={"long_name": "accuracy", "units": "%"},
    )
    for one, scores in found.items():
        for score in set(SCORES) & set(scores):
            here.loc[{**asdict(one), "score": score}] = scores[score]
    return here


def published_numbers(here: xr.DataArray) -> xr.DataArray:
    """Return the published numbers in the shape of ours, NaN where there are none."""
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    for data, by_net in _PUBLISHED.items():
        for net, by_arm in by_net.items():
            for arm, accuracy in by_arm.items():
                published.loc[{"data_set": data, "net": net, "arm": arm, "score": "clips, best epoch"}] = accuracy
    return published


def chance_of(here: xr.DataArray, known: Mapping[str, float]) -> xr.DataArray:
    """Return the accuracy by chance on each data set, NaN where it is not known."""
    values = [known.get(str(name), np.nan) for name in here.data_set.values]
    return xr.DataArray(
        values, {"data_set": here.data_set}, ["data_set"], attrs={"long_name": "accuracy by chance", "units": "%"}
    )


def count_products(
    cases: Mapping[str, Sequence[str]], n_classes: int, settings: Preset, is_digits: bool
) -> xr.DataArray:
    """Count the products of a forward pass of one clip, from the sizes of the layers alone."""
    arms = [arm for arm in ARMS if any(arm in own for own in cases.values())]
    counts = np.full((len(cases), len(arms)), np.nan)
    n_channels, size = (1, CANVAS) if is_digits else (3, settings.size)
    for row, (net, own) in enumerate(cases.items()):
        for arm in own:
            with torch.device("meta"):
                model = bare_net(net, ARMS[arm], n_classes, n_channels)
                clip = torch.zeros(1, n_channels, FRAMES if is_digits else LENGTH, size, size)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.eval()(clip)
            counts[row, arms.index(arm)] = counter.get_total_flops() / 2
    return xr.DataArray(
        counts,
        {"measured_net": list(cases), "measured_arm": arms},
        ["measured_net", "measured_arm"],
        attrs={"long_name": "products for a clip", "units": "1"},
    )


def curves_of(found: Mapping[Case, Mapping[str, Any]], settings: Preset) -> dict[str, xr.DataArray]:
    """Return the accuracy of clips after each epoch, where networks were trained on videos."""
    curves = {one: scores["by_epoch"] for one, scores in found.items() if "by_epoch" in scores}
    if not curves:
        return {}
    coords: dict[str, list[Any]] = {
        "seed": list(range(settings.seeds)),
        "measured_net": list(dict.fromkeys(one.net for one in curves)),
        "measured_arm": [arm for arm in ARMS if arm in {one.arm for one in curves}],
        "part": ["validation", "test"],
        "epoch": list(range(1, settings.epochs + 1)),
    }
    values = xr.DataArray(np.full([len(one) for one in coords.values()], np.nan), coords, list(coords))
    for one, curve in curves.items():
        values.loc[{"seed": one.seed, "measured_net": one.net, "measured_arm": one.arm}] = curve
    return {"by_epoch": values.assign_attrs(long_name="accuracy of clips after each epoch", units="%")}
