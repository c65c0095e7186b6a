"""What is kept of how a network did on shifted images, whether it was trained here or given."""

from collections.abc import Mapping
from typing import Any

import xarray as xr
from torch import nn

__all__ = ["about", "numbers_of"]


def numbers_of(results: Mapping[str, xr.Dataset], model: nn.Module, multiplications: int | None) -> xr.Dataset:
    """Return what is kept of a network's results, one by each law."""
    first = results["consistency"]
    scores: dict[str, tuple[float, float]] = {}
    if "accuracy" in first:
        scores["diagonal"] = (float(first.accuracy), float(first.accuracy_se))
    for score, result in results.items():
        every = result.sel(subset="all")
        scores[score] = (float(every.consistency), float(every.consistency_se))
    found: dict[str, Any] = {
        "value": ("score", [100 * value for value, _ in scores.values()]),
        "error": ("score", [100 * error for _, error in scores.values()], about("standard error over images")),
        "subset_consistency": ("subset", 100 * first.consistency.values, about("consistency of these images")),
        "unchanged": ((), 100 * float(first.unchanged.sel(subset="all")), about("images that never change")),
        "distance_consistency": (
            "distance", 100 * first.distance_consistency.values, about("same prediction of windows so far apart")
        ),
        "same_share": ("image", 100 * first.same.mean("pair").values, about("pairs of an image that agree")),
        "parameters": ((), sum(part.numel() for part in model.parameters()), about("parameters", "1")),
    }  # fmt: skip
    if "diagonal_accuracy" in first:
        found["diagonal_accuracy"] = (
            "diagonal", 100 * first.diagonal_accuracy.values, about("accuracy at this shift along the diagonal")
        )  # fmt: skip
    if multiplications is not None:
        found["multiplications"] = ((), multiplications, about("multiplications for an image", "1"))
    coordinates = {name: first[name].values for name in ("subset", "distance", "diagonal", "image") if name in first}
    return xr.Dataset(found, {"score": list(scores), **coordinates})


def about(long_name: str, units: str = "%") -> dict[str, str]:
    """Return the attributes of a number."""
    return {"long_name": long_name, "units": units}
