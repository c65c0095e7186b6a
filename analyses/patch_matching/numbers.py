"""What was measured on common dims, beside the published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from probe.analyses.patch_matching.cases import STEPS, Case
from probe.analyses.patch_matching.data import BROWN, Preset
from probe.analyses.patch_matching.nets import NETS, HardNet
from probe.analyses.patch_matching.pair import Pair

__all__ = ["PIXELS", "on_common_dims", "other_numbers", "published_numbers"]

PIXELS = "pixels"
_PUBLISHED = {
    "S-Conv": {500_000: 2.0, 250_000: 2.3, 100_000: 3.8, 50_000: 8.4, 25_000: 14.5},
    "F-Conv": {500_000: 2.06, 250_000: 2.27, 100_000: 2.88, 50_000: 4.31, 25_000: 8.25},
}
_PUBLISHED_BATCH = 256


def on_common_dims(
    measured: Mapping[Case, dict[str, float]], pixels: dict[str, float], settings: Preset, nets: Sequence[str]
) -> xr.Dataset:
    """Return what was measured on our own cases, and on those of the published numbers, where nothing was."""
    tests = list(dict.fromkeys([*(name for name in pixels if name not in ("spread", "found")), BROWN]))
    coords: dict[str, list[Any]] = {
        "seed": list(range(settings.seeds)),
        "net": [PIXELS, *nets],
        "pairs": sorted({0, *settings.pairs, *_PUBLISHED["S-Conv"]}),
        "steps": list(STEPS),
        "batch": sorted({*settings.batches, _PUBLISHED_BATCH}),
    }
    shape = [len(values) for values in coords.values()]
    names = ["loss", "spread", *(["found"] if "found" in pixels else [])]
    found = xr.Dataset({name: (list(coords), np.full(shape, np.nan)) for name in names}, coords)
    found["fpr"] = ([*coords, "test"], np.full([*shape, len(tests)], np.nan))
    found = found.assign_coords(test=tests)

    def keep(values: Mapping[str, float], **at: Any) -> None:
        for name in names:
            found[name].loc[at] = values.get(name, np.nan)
        found["fpr"].loc[at] = [values.get(test, np.nan) for test in tests]

    # Nothing of them is drawn, so they are there once.
    keep(pixels, seed=0, net=PIXELS, pairs=0, steps=STEPS[0], batch=settings.batches[0])
    for one, values in measured.items():
        for steps in STEPS if one.pairs == max(settings.pairs) else (one.steps,):
            keep(values, **{**asdict(one), "steps": steps})
    return found


def published_numbers(fpr: xr.DataArray) -> xr.DataArray:
    """Return the published numbers, NaN where there are none."""
    published = xr.full_like(fpr.isel(seed=0, drop=True), np.nan)
    for net, by_pairs in _PUBLISHED.items():
        if net in published.net:
            for pairs, share in by_pairs.items():
                at = {"net": net, "pairs": pairs, "steps": STEPS[0], "batch": _PUBLISHED_BATCH, "test": BROWN}
                published.loc[at] = share
    return published


def other_numbers(
    whole: xr.Dataset, nets: Sequence[str], settings: Preset, scene: Pair | None
) -> dict[str, xr.DataArray]:
    """Return what else is kept of the networks, and of the pair of photographs."""
    about = {
        "loss": ("loss in the last tenth of the steps", "1"),
        "spread": ("distance of descriptors from their mean, root of the mean square", "1"),
        "found": ("points that find their like in the other photograph", "%"),
    }
    others = {
        name: whole[name].assign_attrs(long_name=words, units=units)
        for name, (words, units) in about.items()
        if name in whole
    }
    costs = [HardNet(NETS[net], width=settings.width).cost() for net in nets]
    coords = {"trained_net": list(nets)}
    for place, name, words in ((0, "length", "numbers of a descriptor"), (1, "products", "products for a patch")):
        numbers = np.array([cost[place] for cost in costs])
        others[name] = xr.DataArray(numbers, coords, ["trained_net"], attrs={"long_name": words, "units": "1"})
    if scene is not None:
        has_one = int(scene.is_right.any(axis=1).sum())
        for name, value, words, units in (
            ("found_chance", scene.chance, "points found by chance", "%"),
            ("found_of", has_one, "points of the first photograph that have their like in the second", "1"),
        ):
            others[name] = xr.DataArray(value, attrs={"long_name": words, "units": units})
    return others
