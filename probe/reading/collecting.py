"""One reading of the images, one run of the model for each stimulus, and sums in the end."""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.axes import on_cells
from probe.errors import ArgumentError, LayerNotCalledError, LayerNotFoundError, ProbeError, counted, left_out, warn
from probe.images.sources import Batch
from probe.models.expansions import Expansion
from probe.models.layers import INPUT, Layer, LayerSelection, select_layers
from probe.models.layouts import Grid
from probe.models.loan import resolve_device
from probe.models.modules import module_names, unwrap
from probe.reading.cells import cells_per_image, draw_cells
from probe.reading.checkpoints import open_checkpoint
from probe.reading.memory import IMAGES_WHERE_UNKNOWN, check_memory
from probe.reading.options import Options
from probe.reading.ranks import Share, add_facts, add_statistics, check_ranks, own_share
from probe.reading.reader import Reader, open_reader
from probe.readouts.targets import N_CONTROLS, control_maps, target_maps, target_offsets
from probe.sums.expansion_gram import add_samples, expansion_gram_bytes
from probe.sums.gram import gram_bytes, pilot_mean, summing_dtype
from probe.sums.moments import PositionMoments
from probe.sums.statistics import Statistics

__all__ = ["collect_statistics", "find_layers", "statistics_bytes"]


def collect_statistics(
    model: nn.Module,
    images: Any,
    options: Options,
    *,
    grams: bool,
    moments: bool,
    maps: LayerSelection = (),
    share: Share | None = None,
) -> tuple[Statistics, list[str]]:
    """Collect statistics of a model on images.

    Parameters
    ----------
    model, images, options
        See `probe.collect`.
    grams
        Whether to collect the Grams that layerwise readouts need.
    moments
        Whether to collect the moments that channel scores need; maps need them too.
    maps
        Layers whose maps are wanted.
    share
        What this process reads; by default that of its rank, or the one in `options`.

    Returns
    -------
    statistics : Statistics
        Of all layers.
    with_maps : list of str
        Names of the layers in `maps`.
    """
    share = share or own_share()
    if options.shard is not None and share.of > 1:
        raise ArgumentError(f"shard={options.shard}: the {share.of} ranks share the images already. Leave it out.")
    if options.shard is not None:
        share = Share(options.shard[0] - 1, options.shard[1])
    path = None if options.checkpoint is None else Path(options.checkpoint).expanduser()
    device = resolve_device(options.device, unwrap(model))
    with ExitStack() as stack:
        checkpoint = stack.enter_context(open_checkpoint(path, share, options.checkpoint_every, device))

        reader = stack.enter_context(open_reader(model, images, options, share=share, done=checkpoint.done))
        layers, skipped = reader.layers(options.layers)
        options = options.on(layers)
        if skipped:
            warn(f"layers: {left_out(len(skipped))}: {_first_reasons(skipped)}", reader.warned)
        if [layer.name for layer in layers] == [INPUT] and options.layers == "auto":
            warn(
                "layers: 'auto' found nothing but the pixels. Name layers; probe.list_layers shows them.", reader.warned
            )
        with_maps = _with_maps(maps, layers, reader) if maps else []
        with_moments = layers if moments else with_maps
        cells = _cells(layers, reader.length, options)
        check_memory(
            statistics_bytes(layers, options, grams, with_moments),
            reader.device,
            "the statistics",
            "Choose fewer layers=, stimuli= or folds=; probe.list_layers shows what each layer takes.",
        )
        # What makes maps of an output is of use only here, and cannot be saved.
        kept = [replace(layer, view=None) for layer in layers]
        statistics = Statistics(kept, _settings(reader, options, layers, cells))
        identity = {
            **reader.identity,
            "layers": [f"{layer.name} ({layer.layout}, {layer.n_channels})" for layer in layers],
            **statistics.settings,
            "kept": [*["Grams"] * grams, *(layer.name for layer in with_moments)],
        }
        check_ranks(identity)
        checkpoint.restore(statistics, reader, {"shard": str(share), **identity})
        collector = _Collector(statistics, options, cells, grams, with_moments)
        with reader.reading(layers, collector.add, collector.add) as run, checkpoint.guarding():
            for batch, pixels in reader.batches():
                for stimulus in options.stimulus_names:
                    collector.begin(batch, stimulus)
                    run(pixels, stimulus)
                for gram in statistics.grams.values():
                    gram.between_batches()
                checkpoint.after(batch, statistics, reader.facts(skipped))
            if share.of > 1 and not (statistics.grams or statistics.moments):
                # A share without any image has sums as well, to which the first image of all gives their form.
                first, pixels = reader.first()
                for stimulus in options.stimulus_names:
                    collector.begin(first, stimulus, counted=False)
                    run(pixels, stimulus)
            checkpoint.write(statistics, reader.facts(skipped))
        statistics.facts = checkpoint.facts(reader.facts(skipped))
        assert reader.length is not None
        whole = range(options.first_image, options.first_image + reader.length)
        # Those of files that could not be read are among them.
        statistics.images, statistics.expected = [whole[share.place :: share.of]], [whole]
        statistics.begins = {**reader.seen, options.first_image: identity["the first image"]}
        if options.shard is None:
            add_statistics(statistics, share)
            statistics.facts, statistics.images = add_facts(statistics.facts, share), statistics.expected
    return statistics, [layer.name for layer in with_maps]


def find_layers(model: nn.Module, images: Any, options: Options) -> list[Layer]:
    """List every call of every module for the first image."""
    with open_reader(model, images, options) as reader:
        return reader.found


def statistics_bytes(layers: Sequence[Layer], options: Options, grams: bool, moments: Sequence[Layer]) -> int:
    """Return what the statistics of some layers take, in bytes: C²/2 numbers a fold and stimulus, and the maps.

    C is the number of channels, or of the sources of a pointwise expansion. One whose outputs turn out to be something
    else takes what any layer does.
    """
    n_design = len(options.target_functions) * (2 + N_CONTROLS)
    size = sum(_gram_bytes(options.folds, n_design, layer) for layer in layers) if grams else 0
    size += sum(8 * options.folds * layer.n_channels * layer.n_cells for layer in moments)
    return size * len(options.stimulus_names)


def _gram_bytes(n_folds: int, n_design: int, layer: Layer) -> int:
    if layer.n_sources:
        return expansion_gram_bytes(n_folds, n_design, layer.n_channels, layer.n_sources)
    return gram_bytes(n_folds, n_design, layer.n_channels)


def _cells(layers: Sequence[Layer], length: int | None, options: Options) -> dict[str, int | None]:
    n_images = options.max_images or IMAGES_WHERE_UNKNOWN if length is None else length
    cells = {
        layer.name: cells_per_image(options.positions, layer.n_channels, n_images, layer.n_sources) for layer in layers
    }
    for layer in layers:
        count = cells[layer.name]
        if count is not None and count >= layer.n_cells:
            cells[layer.name] = None
    return cells


def _with_maps(maps: LayerSelection, layers: Sequence[Layer], reader: Reader) -> list[Layer]:
    """Choose among the layers that are measured; what the model lacks is told apart from what is not measured."""
    maps = list(maps) if isinstance(maps, Iterator) else maps
    try:
        reader.layers(maps)
    except ProbeError as error:
        raise type(error)(f"maps={maps!r}: {re.sub('^layers(=.*?)?: ', '', str(error))}") from None
    try:
        return select_layers(maps, layers, module_names(reader.model))[0]
    except (LayerNotFoundError, LayerNotCalledError) as error:
        raise LayerNotFoundError(
            f"maps={maps!r}: not among the {counted(len(layers), 'layer')} that layers= chooses. Name it in layers= "
            f"too."
        ) from error


def _first_reasons(skipped: dict[str, str]) -> str:
    reasons = [f"{name} ({reason})" for name, reason in skipped.items()]
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more." if len(reasons) > 3 else ".")


def _settings(
    reader: Reader, options: Options, layers: Sequence[Layer], cells: dict[str, int | None]
) -> dict[str, Any]:
    """Return all that must agree for two statistics to be merged."""
    groups = None if options.groups is None else hashlib.sha256(repr(list(options.groups)).encode()).hexdigest()[:16]
    return {
        "model": type(reader.model).__name__,
        "weights_digest": reader.weights_digest,
        "modules_digest": reader.modules_digest,
        "targets": list(options.target_functions),
        "target_offsets": {
            layer.name: target_offsets(options.target_functions, *layer.size).tolist() for layer in layers
        },
        "stimuli": list(options.stimulus_names),
        "folds": options.folds,
        "groups": groups,
        "cells_per_image": cells,
        "autocast": None if options.precision is None else str(options.precision),
        "seed": options.seed,
    }


class _Collector:
    """Adds the maps of a batch, layer by layer, to the statistics."""

    def __init__(
        self,
        statistics: Statistics,
        options: Options,
        cells: dict[str, int | None],
        grams: bool,
        moments: Sequence[Layer],
    ) -> None:
        self.statistics, self.options, self.cells, self.grams = statistics, options, cells, grams
        self.moments = {layer.name for layer in moments}
        self._tables: dict[tuple[Any, ...], Tensor] = {}
        self._draws: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        self._batch: Batch | None = None

    def begin(self, batch: Batch, stimulus: str, *, counted: bool = True) -> None:
        """Announce the batch and stimulus of the maps to come, and whether they are to be added."""
        if batch is not self._batch:
            self._draws.clear()
        self._batch, self._stimulus = batch, stimulus
        folds = batch.folds
        starts = [i for i in range(len(folds)) if i == 0 or folds[i] != folds[i - 1]]
        self._parts = [(folds[a], a, b) for a, b in zip(starts, [*starts[1:], len(folds)], strict=True)]
        if not counted:
            self._parts = []

    def add(self, layer: Layer, maps: Tensor, expansion: Expansion | None = None) -> None:
        """Add the maps of a layer, shape (image, channel, *size), and what they were made of."""
        key = (self._stimulus, layer.name)
        with torch.autocast(maps.device.type, enabled=False):
            if self.grams:
                self._add_to_gram(key, maps, expansion)
            if layer.name in self.moments:
                self._add_to_moments(key, maps)

    def _add_to_gram(self, key: tuple[str, str], maps: Tensor, expansion: Expansion | None) -> None:
        dtype = summing_dtype(maps)
        cells, design = self._drawn(key[1], tuple(maps.shape[2:]), dtype, maps.device)
        n_cells = cells.shape[1]
        parts = [(fold, start * n_cells, stop * n_cells) for fold, start, stop in self._parts]
        self.statistics.grams[key] = add_samples(
            self.statistics.grams.get(key),
            self.options.folds,
            design,
            maps,
            expansion,
            lambda read: _chosen(read, cells),
            parts,
        )

    def _add_to_moments(self, key: tuple[str, str], maps: Tensor) -> None:
        grid = tuple(maps.shape[2:])
        n_targets = len(self.options.target_functions)
        table = self._table(key[1], grid, torch.float64, maps.device)
        moments = self.statistics.moments.get(key)
        if moments is None:
            moments = PositionMoments(
                self.options.folds, n_targets, pilot_mean(maps.transpose(0, 1).flatten(1).T), grid, summing_dtype(maps)
            )
            self.statistics.moments[key] = moments
        moments.update(table[:, :n_targets].T.unflatten(1, grid), maps, self._parts)

    def _table(self, name: str, grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the targets of a layer and their controls at each cell, shape (cell, target and control)."""
        offsets = tuple(self.statistics.settings["target_offsets"][name])
        key = (grid, offsets, dtype, device)
        if key not in self._tables:
            targets = target_maps(self.options.target_functions, *grid)
            targets -= np.array(offsets)[on_cells(grid)]
            controls = control_maps(targets, self.options.seed)
            columns = np.concatenate([targets[None], controls]).reshape(-1, math.prod(grid))
            self._tables[key] = torch.from_numpy(columns.T.copy()).to(device, dtype)
        return self._tables[key]

    def _drawn(self, name: str, grid: Grid, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the cells of each image of the batch and the design columns there, made once a batch for each grid."""
        count = self.cells[name]
        key = (grid, count, tuple(self.statistics.settings["target_offsets"][name]), dtype, device)
        if key not in self._draws:
            assert self._batch is not None
            table = self._table(name, grid, dtype, device)
            drawn = draw_cells(self.options.seed, self._batch.numbers, len(table), count)
            cells, shuffled = (torch.from_numpy(indices).to(device, non_blocking=True) for indices in drawn)
            n_targets = len(self.options.target_functions)
            seen, null = table[cells.flatten()], table[shuffled.flatten(), :n_targets]
            self._draws[key] = cells, torch.cat([seen[:, :n_targets], null, seen[:, n_targets:]], dim=1)
        return self._draws[key]


def _chosen(maps: Tensor, cells: Tensor) -> Tensor:
    """Return the chosen cells of each image, shape (image · cell, channel), from maps (image, channel, *size)."""
    samples = maps.flatten(2).transpose(1, 2)
    if cells.shape[1] == samples.shape[1]:
        return samples.reshape(-1, samples.shape[2])
    image = torch.arange(len(samples), device=samples.device)[:, None]
    if samples.is_contiguous():  # rows of one table are copied several times faster
        return samples.flatten(0, 1).index_select(0, (image * samples.shape[1] + cells).flatten())
    return samples[image, cells].flatten(0, 1)
