"""One reading of the images, one run of the model for each stimulus, and sums in the end."""

import hashlib
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.capture import reading, survey
from probe.collected import Statistics
from probe.errors import TooLargeError, noting, warn
from probe.images import Batch, ImageSource, as_floats, open_images
from probe.isolation import borrowed, resolve_device
from probe.layers import INPUT, Layer, LayerSelection, module_names, select_layers, unwrap
from probe.options import Options
from probe.positions import cells_per_image, draw_cells
from probe.statistics import Gram, PositionMoments, gram_bytes, pilot_mean, summing_dtype
from probe.stimuli import apply_stimulus
from probe.targets import N_CONTROLS, control_maps, target_maps, target_offsets

__all__ = ["collect_statistics", "find_layers", "statistics_bytes"]

_IMAGES_WHERE_UNKNOWN = 1000
_SHARE_OF_MEMORY = 0.8


def collect_statistics(
    model: nn.Module, images: Any, options: Options, *, grams: bool, moments: bool, maps: LayerSelection = ()
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

    Returns
    -------
    statistics : Statistics
        Of all layers.
    with_maps : list of str
        Names of the layers in `maps`.
    """
    start = time.monotonic()
    model = unwrap(model)
    device = resolve_device(options.device, model)
    with borrowed(model, device, options.seed):
        source = _open(images, options)
        runner = _Runner(model, device, options, source.warned)
        found, memory_format = runner.survey(source.peek())
        layers, skipped = select_layers(options.layers, found, module_names(model))
        if skipped:
            warn(f"layers: {len(skipped)} are left out: {_first_reasons(skipped)}", source.warned)
        if [layer.name for layer in layers] == [INPUT] and options.layers == "auto":
            warn(
                "layers: 'auto' found nothing but the pixels. Name layers; probe.list_layers shows them.", source.warned
            )
        with_maps = select_layers(maps, layers, module_names(model))[0] if maps else []
        with_moments = layers if moments else with_maps
        cells = _cells(layers, source, options)
        _check_memory(statistics_bytes(layers, options, grams, with_moments), device)
        statistics = Statistics(layers, _settings(model, options, cells))
        collector = _Collector(statistics, options, cells, grams, with_moments)
        numbers, digest = _run(runner, collector, source, layers, options, memory_format)
    statistics.images = _ranges(numbers)
    statistics.facts = {
        "n_images": len(numbers),
        "images_digest": f"{digest:016x}",
        "device": str(device),
        "duration_s": round(time.monotonic() - start, 3),
        "skipped": skipped,
        "corrupt": source.corrupt,
        "warnings": source.warned,
    }
    return statistics, [layer.name for layer in with_maps]


def find_layers(model: nn.Module, images: Any, options: Options) -> list[Layer]:
    """List every call of every module for the first image."""
    model = unwrap(model)
    device = resolve_device(options.device, model)
    with borrowed(model, device, options.seed):
        source = _open(images, options)
        return _Runner(model, device, options, source.warned).survey(source.peek())[0]


def statistics_bytes(layers: Sequence[Layer], options: Options, grams: bool, moments: Sequence[Layer]) -> int:
    """Return what the statistics of some layers take, in bytes: C²/2 numbers a fold and stimulus, and the maps."""
    n_design = len(options.target_functions) * (2 + N_CONTROLS)
    size = sum(gram_bytes(options.folds, n_design, layer.n_channels) for layer in layers) if grams else 0
    size += sum(8 * options.folds * layer.n_channels * layer.height * layer.width for layer in moments)
    return size * len(options.stimulus_names)


def _open(images: Any, options: Options) -> ImageSource:
    return open_images(
        images,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        transform=options.transform,
        input_key=options.input_key,
        max_images=options.max_images,
        first_image=options.first_image,
        fold_of=options.fold_of,
    )


def _cells(layers: Sequence[Layer], source: ImageSource, options: Options) -> dict[str, int | None]:
    n_images = options.max_images or _IMAGES_WHERE_UNKNOWN if source.length is None else source.length
    cells = {layer.name: cells_per_image(options.positions, layer.n_channels, n_images) for layer in layers}
    for layer in layers:
        count = cells[layer.name]
        if count is not None and count >= layer.height * layer.width:
            cells[layer.name] = None
    return cells


def _first_reasons(skipped: dict[str, str]) -> str:
    reasons = [f"{name} ({reason})" for name, reason in skipped.items()]
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more." if len(reasons) > 3 else ".")


def _settings(model: nn.Module, options: Options, cells: dict[str, int | None]) -> dict[str, Any]:
    """Return all that must agree for two statistics to be merged."""
    groups = None if options.groups is None else hashlib.sha256(repr(list(options.groups)).encode()).hexdigest()[:16]
    return {
        "model": type(model).__name__,
        "weights_digest": _weights_digest(model),
        "targets": list(options.target_functions),
        "target_offsets": target_offsets(options.target_functions).tolist(),
        "stimuli": list(options.stimulus_names),
        "folds": options.folds,
        "groups": groups,
        "cells_per_image": cells,
        "autocast": None if options.precision is None else str(options.precision),
        "seed": options.seed,
    }


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(tensor, Tensor):
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()[:16]


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _check_memory(needed: int, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > _SHARE_OF_MEMORY * free:
        raise TooLargeError(
            f"the statistics would take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free on {device}. "
            "Choose fewer layers=, stimuli= or folds=; probe.list_layers shows what each layer takes."
        )


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the ranges that image numbers cover, as (first, last plus one)."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges


class _Runner:
    """The model, and how images are brought to it."""

    def __init__(self, model: nn.Module, device: torch.device, options: Options, warned: list[str]) -> None:
        self.model, self.device, self.options, self.warned = model, device, options, warned
        parameters = [p for p in model.parameters() if p.is_floating_point()]
        self.dtype = parameters[0].dtype if parameters else None
        self._has_warned = False

    def prepare(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Bring images to the model's device and precision."""
        dtype = self.dtype or (images.dtype if images.is_floating_point() else torch.float32)
        floats, warning = as_floats(images, dtype) if not self._has_warned else (images.to(dtype), "")
        if warning:
            self._has_warned = True
            warn(warning, self.warned)
        return floats.to(self.device, non_blocking=True).contiguous(memory_format=memory_format)

    def survey(self, image: Tensor) -> tuple[list[Layer], torch.memory_format]:
        """List the layers, and choose the memory format: channels last is faster, unless the model cannot take it."""
        autocast = torch.autocast(self.device.type, self.options.precision, enabled=self.options.precision is not None)
        with noting(f"while the model ran on the first image, shape {tuple(image.shape)}"), autocast:
            if any(isinstance(module, nn.Conv2d) for module in self.model.modules()):
                try:
                    images = self.prepare(image, torch.channels_last)
                    return survey(self.model, images, self.options.layout), torch.channels_last
                except RuntimeError:
                    # The same error comes again below, unless it was a view that needs rows to be contiguous.
                    pass
            images = self.prepare(image, torch.contiguous_format)
            return survey(self.model, images, self.options.layout), torch.contiguous_format


def _run(
    runner: _Runner,
    collector: "_Collector",
    source: ImageSource,
    layers: list[Layer],
    options: Options,
    memory_format: torch.memory_format,
) -> tuple[list[int], int]:
    """Run the model on all images under all stimuli; return the image numbers and the digest of the images."""
    numbers: list[int] = []
    digest = 0
    autocast = torch.autocast(runner.device.type, options.precision, enabled=options.precision is not None)
    with (
        reading(runner.model, layers, collector.receive) as run,
        autocast,
        tqdm(total=source.length, unit="image", desc="probe", disable=not _shows_progress(options)) as bar,
    ):
        for batch in source:
            numbers.extend(batch.numbers)
            for number, image in zip(batch.numbers, batch.pixels, strict=True):
                digest = (digest + zlib.crc32(_bytes_of(image), number & 0xFFFFFFFF)) % 2**64
            pixels = runner.prepare(batch.pixels, memory_format)
            for stimulus in options.stimulus_names:
                collector.begin(batch, stimulus)
                images = f"images {min(batch.numbers)} to {max(batch.numbers)} ({stimulus})"
                with noting(f"while the model ran on {images}, shape {tuple(pixels.shape)}"):
                    run(apply_stimulus(stimulus, pixels, batch.numbers, options.seed))
            bar.update(len(batch.numbers))
    return numbers, digest


def _shows_progress(options: Options) -> bool:
    return options.progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)


class _Collector:
    """Receives the maps of a batch, layer by layer, and adds them to the statistics."""

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
        self._tables: dict[tuple[int, ...], Tensor] = {}
        self._draws: dict[tuple[int, int | None], tuple[Tensor, Tensor]] = {}
        self._batch: Batch | None = None

    def begin(self, batch: Batch, stimulus: str) -> None:
        """Announce the batch and stimulus of the maps to come."""
        if batch is not self._batch:
            self._draws.clear()
        self._batch, self._stimulus = batch, stimulus
        folds = batch.folds
        starts = [i for i in range(len(folds)) if i == 0 or folds[i] != folds[i - 1]]
        self._parts = [(folds[a], a, b) for a, b in zip(starts, [*starts[1:], len(folds)], strict=True)]

    def receive(self, layer: Layer, maps: Tensor) -> None:
        """Add the maps of a layer, shape (image, channel, row, column)."""
        key = (self._stimulus, layer.name)
        with torch.autocast(maps.device.type, enabled=False):
            if self.grams:
                self._add_to_gram(key, maps)
            if layer.name in self.moments:
                self._add_to_moments(key, maps)

    def _add_to_gram(self, key: tuple[str, str], maps: Tensor) -> None:
        dtype = summing_dtype(maps)
        table = self._table(maps.shape[2:], dtype, maps.device)
        cells, shuffled = self._drawn(maps.shape[2] * maps.shape[3], self.cells[key[1]], maps.device)
        samples = maps.flatten(2).transpose(1, 2)
        if cells.shape[1] < samples.shape[1]:
            image = torch.arange(len(maps), device=maps.device)[:, None]
            samples = samples[image, cells]
        n_targets = len(self.options.target_functions)
        seen = table[cells.flatten()]
        design = torch.cat([seen[:, :n_targets], table[shuffled.flatten(), :n_targets], seen[:, n_targets:]], dim=1)
        n_cells = cells.shape[1]
        parts = [(fold, start * n_cells, stop * n_cells) for fold, start, stop in self._parts]
        features = samples.reshape(-1, samples.shape[2])
        gram = self.statistics.grams.get(key)
        if gram is None:
            gram = Gram(self.options.folds, design.shape[1], pilot_mean(features), dtype)
            self.statistics.grams[key] = gram
        gram.update(design, features, parts)

    def _add_to_moments(self, key: tuple[str, str], maps: Tensor) -> None:
        grid = (maps.shape[2], maps.shape[3])
        n_targets = len(self.options.target_functions)
        table = self._table(maps.shape[2:], torch.float64, maps.device)
        moments = self.statistics.moments.get(key)
        if moments is None:
            moments = PositionMoments(
                self.options.folds, n_targets, pilot_mean(maps.transpose(0, 1).flatten(1).T), grid, summing_dtype(maps)
            )
            self.statistics.moments[key] = moments
        moments.update(table[:, :n_targets].T.unflatten(1, grid), maps, self._parts)

    def _table(self, grid: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the targets and controls at each cell, shape (cell, target and control)."""
        height, width = grid
        key = (height, width, dtype == torch.float64)
        if key not in self._tables:
            targets = target_maps(self.options.target_functions, height, width)
            targets -= target_offsets(self.options.target_functions)[:, None, None]
            controls = control_maps(targets, self.options.seed)
            columns = np.concatenate([targets[None], controls]).reshape(-1, height * width)
            self._tables[key] = torch.from_numpy(columns.T.copy()).to(device, dtype)
        return self._tables[key]

    def _drawn(self, n_cells: int, count: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the cells of each image of the batch and the positions that its null is told, drawn once a batch."""
        if (n_cells, count) not in self._draws:
            assert self._batch is not None
            drawn = draw_cells(self.options.seed, self._batch.numbers, n_cells, count)
            cells, shuffled = (torch.from_numpy(indices).to(device, non_blocking=True) for indices in drawn)
            self._draws[n_cells, count] = cells, shuffled
        return self._draws[n_cells, count]
