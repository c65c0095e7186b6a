"""The readouts of the PosENet study, and their scores on common dims."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.analyses.posenet.images import IMAGES
from probe.analyses.posenet.readouts import POSITION_MAPS, absolute_errors, position_maps, rank_correlations

__all__ = ["MEASURES", "READOUTS", "TRAININGS", "Scores", "Setting", "join_scores"]

READOUTS = ("descent", "closed form")
TRAININGS = ("natural", "rolled")
MEASURES = ("SPC", "MAE")

_DEEP_TARGETS = ("H", "G", "HS")  # those that were published for depth 2 and 3, whose cost grows with each target
_DIMS = ("target", "images", "readout")


@dataclass(frozen=True)
class Setting:
    """A readout: of which encoder and block (``"all"``: the stack of all blocks), and of which form."""

    encoder: str
    block: str = "all"
    kernel: int = 3
    depth: int = 1
    padding: int = 0

    @property
    def name(self) -> str:
        """As in the result, for example ``vgg16 f5, 3×3``."""
        features = self.encoder if self.encoder == "image" else f"{self.encoder} {self.block}"
        parts = [features, f"{self.kernel}×{self.kernel}"]
        parts += [f"depth {self.depth}"] if self.depth > 1 else []
        parts += [f"padding {self.padding}"] if self.padding else []
        return ", ".join(parts)

    @property
    def targets(self) -> tuple[str, ...]:
        """The maps that are read."""
        return tuple(POSITION_MAPS) if self.depth == 1 else _DEEP_TARGETS


class Scores:
    """The scores of all readouts that were fitted to one training set with one seed."""

    def __init__(self, seed: int, training: str) -> None:
        self.seed, self.training = seed, training
        self.by_image: dict[tuple[Setting, str, str], list[np.ndarray]] = {}
        self.maps: dict[tuple[Setting, str, str], list[Tensor]] = {}
        self.seconds: dict[tuple[str, str], float] = {}

    def add(self, setting: Setting, readout: str, images: str, read: Tensor) -> None:
        """Score the maps read from some images, shape (image, target, row, column)."""
        both = np.stack([rank_correlations(read, setting.targets), absolute_errors(read, setting.targets)], axis=-1)
        self.by_image.setdefault((setting, readout, images), []).append(both)
        if setting == Setting(setting.encoder) and self.seed == 0 and self.training == "natural":
            self.maps.setdefault((setting, readout, images), []).append(read.cpu())


def join_scores(results: Sequence[Scores], settings: Sequence[Setting]) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Put the scores of all seeds and training sets on common dims.

    Returns
    -------
    here : xarray.DataArray
        Mean over test images, on (seed, setting, target, training, images, readout, measure).
    others : dict
        ``images_se``, ``seconds``, ``mean_map`` and ``true_map``; see `probe.analyses.posenet.study.run`.
    """
    coords: dict[str, list[Any]] = {
        "seed": sorted({scores.seed for scores in results}),
        "setting": [setting.name for setting in settings],
        "target": list(POSITION_MAPS),
        "training": list(TRAININGS),
        "images": list(IMAGES),
        "readout": list(READOUTS),
        "measure": list(MEASURES),
    }
    here = xr.DataArray(np.nan, coords, list(coords)).assign_attrs(long_name="score of the maps read", units="1")
    errors = here.copy()
    seconds = here.isel(target=0, images=0, measure=0, drop=True).copy()
    for scores in results:
        run = {"seed": scores.seed, "training": scores.training}
        for (setting, readout, images), batches in scores.by_image.items():
            values = np.concatenate(batches)
            chosen_key = {**run, "setting": setting.name, "readout": readout, "images": images}
            chosen_key["target"] = list(setting.targets)
            here.loc[chosen_key] = values.mean(axis=0)
            if len(values) > 1:
                errors.loc[chosen_key] = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        for (name, readout), spent in scores.seconds.items():
            seconds.loc[{**run, "setting": name, "readout": readout}] = spent
    others = {
        "images_se": _described(errors.mean("seed"), "standard error over test images, mean over seeds", "1"),
        "seconds": _described(seconds.mean("seed"), "time of fitting, without the encoder", "s"),
        **_maps(results, coords),
    }
    return here, others


def _maps(results: Sequence[Scores], coords: dict[str, list[Any]]) -> dict[str, xr.DataArray]:
    """Return the mean maps that were read, of the first seed, and the true ones."""
    read = {key: torch.cat(parts).mean(dim=0) for scores in results for key, parts in scores.maps.items()}
    size = next(iter(read.values())).shape[-1]
    encoders = list(dict.fromkeys(setting.encoder for setting, _, _ in read))
    grid = {"encoder": encoders, **{name: coords[name] for name in _DIMS}}
    maps = xr.DataArray(np.nan, grid, ["encoder", *_DIMS]).expand_dims(row=size, column=size, axis=(4, 5)).copy()
    for (setting, readout, images), mean_map in read.items():
        maps.loc[{"encoder": setting.encoder, "readout": readout, "images": images}] = mean_map.numpy()
    true = xr.DataArray(position_maps(POSITION_MAPS, size).numpy(), dims=("target", "row", "column"))
    return {
        "mean_map": _described(maps, "map read, mean over test images", "target"),
        "true_map": _described(true, "map to be read", "target"),
    }


def _described(variable: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    return variable.drop_attrs().assign_attrs(long_name=long_name, units=units)
