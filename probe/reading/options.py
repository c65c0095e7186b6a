"""The arguments that all measurements share, checked once."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from probe.checks import whole_number
from probe.errors import ArgumentError, counted
from probe.images.rows import Transform
from probe.images.stimuli import check_stimuli
from probe.models.layers import Layer, LayerSelection
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.readouts.targets import TargetFunction, resolve_targets, targets_of

__all__ = ["Options"]

TargetSelection = str | Iterable[str] | Mapping[str, TargetFunction]

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to collect statistics; `probe.collect` tells the meaning of each field.

    `task` names the progress bar. One is left of a call: those of its further readings name their `phase`, and go when
    they are full.
    """

    layers: LayerSelection = "auto"
    targets: TargetSelection = AUTO
    stimuli: str | Iterable[str] = ("natural", "rolled")
    folds: int = 5
    groups: Sequence[Any] | np.ndarray | None = None
    positions: str | int | None = "auto"
    batch_size: int = 32
    num_workers: int = 0
    device: str | torch.device = "auto"
    autocast: str | torch.dtype | None = None
    transform: Transform | None = None
    input_key: str | int | None = None
    layout: LayoutOption = None
    forward: Forward | None = None
    max_images: int | None = None
    first_image: int = 0
    shard: tuple[int, int] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int | None = None
    seed: int = 0
    progress: bool = True
    task: str = "probe"
    phase: str = ""
    target_functions: dict[str, TargetFunction] = field(init=False)
    stimulus_names: tuple[str, ...] = field(init=False)
    precision: torch.dtype | None = field(init=False)

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("batch_size", 1), ("num_workers", 0), ("first_image", 0), ("seed", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.max_images is not None:
            wanted = whole_number("max_images", self.max_images, 1, otherwise="None (all) or ")
            object.__setattr__(self, "max_images", wanted)
        if self.positions is not None and self.positions != "auto":
            wanted = whole_number("positions", self.positions, 1, otherwise="'auto', None (every cell) or ")
            object.__setattr__(self, "positions", wanted)
        if self.checkpoint_every is not None:
            whole_number("checkpoint_every", self.checkpoint_every, 1, otherwise="None (about every two minutes) or ")
            if self.checkpoint is None:
                raise ArgumentError("checkpoint_every: given without checkpoint=, the file that would be written.")
        if self.shard is not None:
            _check_shard(self.shard)
        if self.forward is not None and not callable(self.forward):
            raise ArgumentError(
                f"forward: expected a function (model, images) -> output, found {type(self.forward).__name__}."
            )
        if self.groups is not None:
            labels: Any = self.groups
            object.__setattr__(self, "groups", labels.tolist() if hasattr(labels, "tolist") else list(labels))
        is_auto = isinstance(self.targets, str) and self.targets == AUTO
        object.__setattr__(self, "target_functions", resolve_targets(targets_of([(1, 1)]) if is_auto else self.targets))
        object.__setattr__(self, "stimulus_names", check_stimuli(self.stimuli))
        object.__setattr__(self, "precision", _resolve_precision(self.autocast))

    def on(self, layers: Iterable[Layer]) -> "Options":
        """Return the options with the targets that the maps of layers have, where `targets` is ``"auto"``."""
        is_auto = isinstance(self.targets, str) and self.targets == AUTO
        return replace(self, targets=targets_of(layer.size for layer in layers)) if is_auto else self

    def fold_of(self, number: int, origin: int) -> int:
        """Return the fold of an image: its number, or its group's place in sorted order, modulo the folds."""
        if self.groups is None:
            return number % self.folds
        if origin >= len(self.groups):
            raise ArgumentError(
                f"groups: {counted(len(self.groups), 'label')}, but image {origin} has none. Pass one label an image."
            )
        return self._fold_of_label[self.groups[origin]]

    @cached_property
    def _fold_of_label(self) -> dict[Any, int]:
        try:
            labels = sorted(set(self.groups or ()))
        except TypeError as error:
            raise ArgumentError(f"groups: labels cannot be sorted ({error}). Pass all text or all numbers.") from None
        if len(labels) < self.folds:
            raise ArgumentError(f"groups: {len(labels)} distinct labels are too few for folds={self.folds}.")
        return {label: place % self.folds for place, label in enumerate(labels)}


def _check_shard(shard: Any) -> None:
    is_pair = isinstance(shard, tuple | list) and len(shard) == 2
    for value in shard if is_pair else ():
        whole_number("shard", value, 1, otherwise="(k, n), each ")
    if not is_pair or shard[0] > shard[1]:
        raise ArgumentError(f"shard={shard!r}: expected (k, n) for the k-th of n shards, such as (3, 8).")


def _resolve_precision(precision: str | torch.dtype | None) -> torch.dtype | None:
    names = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in names:
        return names[precision]
    if precision in (torch.bfloat16, torch.float16):
        return precision
    raise ArgumentError(f"autocast={precision!r}: expected None, 'bfloat16' or 'float16'.")
