"""Where the numbers of the page of the study posenet stand in its result."""

from collections.abc import Iterator

import xarray as xr

from probe.reports.page.estimates import Estimate, estimate

__all__ = ["block_settings", "correlation_at", "correlations", "encoder_settings", "fitted_twice"]


def correlations(result: xr.Dataset) -> xr.DataArray:
    """Return Spearman's correlations by seed."""
    return result.here_by_seed.sel(measure="SPC")


def encoder_settings(result: xr.Dataset) -> dict[str, str]:
    """Return the setting of each encoder with the published form: all blocks, kernel 3."""
    names = {str(name): "image, 3×3" if name == "image" else f"{name} all, 3×3" for name in result.encoder.values}
    return {encoder: setting for encoder, setting in names.items() if setting in result.setting}


def correlation_at(result: xr.Dataset, setting: str, training: str, target: str = "H") -> Estimate:
    """Return what the published readout reaches on the kind of images that it was fitted to."""
    key = {"setting": setting, "training": training, "target": target, "images": training}
    return estimate(correlations(result).sel({**key, "readout": "descent"}).values)


def block_settings(result: xr.Dataset) -> dict[str, dict[str, str]]:
    """Return encoder -> block -> setting of single blocks, kernel 3."""
    found: dict[str, dict[str, str]] = {}
    for name in map(str, result.setting.values):
        for encoder in map(str, result.encoder.values):
            block = name.removeprefix(f"{encoder} ").removesuffix(", 3×3")
            if name == f"{encoder} {block}, 3×3" and block != "all" and encoder != "image" and " " not in block:
                found.setdefault(encoder, {})[block] = name
    return found


def fitted_twice(result: xr.Dataset) -> Iterator[tuple[str, str, str, xr.DataArray]]:
    """Yield (setting, training, target, scores on seed, readout and measure) where both readouts are fitted."""
    for setting in map(str, result.setting.values):
        for training in map(str, result.training.values):
            scores = result.here_by_seed.sel(setting=setting, training=training, images=training)
            for target in map(str, result.target.values):
                if scores.sel(target=target).notnull().all():
                    yield setting, training, target, scores.sel(target=target)
