"""Scores of a model under many ablations of one layer."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.ablation.erasing import Erasing
from probe.ablation.later_readouts import Estimates
from probe.ablation.performance import Score, Shown, at_chance
from probe.ablation.replacement import Replacement
from probe.ablation.stacking import Stacked, stacking
from probe.errors import ImagesError, ProbeWarning, warn
from probe.images.labels import LabelCheck, Labels
from probe.images.sources import Batch
from probe.images.stimuli import apply_stimulus
from probe.intervals import jackknife
from probe.models.layers import Layer
from probe.reading.options import Options
from probe.reading.ranks import Share, add_arrays, gathered, own_share
from probe.reading.reader import Reader, noting_images, open_reader

__all__ = ["mean_activity", "score_settings"]


class _EnoughError(Exception):
    """The layer was read; what comes behind it is not needed."""


def mean_activity(model: nn.Module, images: Any, options: Options, name: str) -> np.ndarray:
    """Return the mean |activation| of each channel of a layer, shape (channel,), running no more than it takes."""
    total, n_images = torch.zeros((), dtype=torch.float64, device="cpu"), 0

    def add(layer: Layer, maps: Tensor) -> None:
        nonlocal total, n_images
        total = total + maps.abs().double().mean(dim=tuple(range(2, maps.ndim))).sum(dim=0).cpu()
        n_images += len(maps)
        raise _EnoughError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)  # they come again when the images are read for the scores
        with (
            open_reader(model, images, options, share=own_share()) as reader,
            reader.reading([reader.layer(name)], add) as run,
        ):
            for _, pixels in reader.batches():
                with suppress(_EnoughError):
                    run(pixels)
            added = add_arrays({"total": total.numpy(), "images": np.array(float(n_images))}, reader.share)
    return added["total"] / added["images"]


def score_settings(
    reader: Reader,
    options: Options,
    replacement: Replacement | Erasing,
    settings: np.ndarray,
    scores: Mapping[str, Score],
    labels: LabelCheck,
) -> tuple[dict[str, Estimates], str]:
    """Score a model without some channels.

    Parameters
    ----------
    reader
        The model and the images.
    options
        As in `probe.collect`.
    replacement
        What replaces channels of the layer, or erases in it.
    settings
        Shape (setting, channel), true where a channel is removed; or (setting, projection), true where one is applied.
    scores
        By name.
    labels
        Is shown those that scores read.

    Returns
    -------
    estimates : dict
        Of each score.
    sharing : str
        How the computation before the layer was shared.
    """
    if replacement.mode == "resample" and reader.length is not None and reader.length % options.batch_size == 1:
        raise ImagesError(
            f"images: mode='resample' takes values from the next image in the batch, and the last of {reader.length} "
            f"images would be alone in a batch of {options.batch_size}. Choose another batch_size=."
        )
    with stacking(reader.model, replacement, reader.layers("all")[0], options.forward) as stacked:
        scorer = _Scorer(stacked, torch.from_numpy(settings), scores, options, labels)
        for batch, pixels in reader.batches():
            if scores:
                scorer.add(replace(batch, pixels=pixels), least=2 if replacement.mode == "resample" else 1)
        scorer.add_ranks(reader.share)
        for message in scorer.findings():
            warn(message, reader.warned)
        return scorer.estimates(), stacked.sharing


class _Scorer:
    """Runs all settings on batch after batch, and adds up the amounts of each score, fold by fold."""

    def __init__(
        self, stacked: Stacked, settings: Tensor, scores: Mapping[str, Score], options: Options, labels: LabelCheck
    ) -> None:
        self._stacked, self._settings, self._scores, self._options = stacked, settings, scores, options
        self._stimuli = sorted({stimulus for score in scores.values() for stimulus in score.stimuli})
        self._images = np.zeros(options.folds, dtype=int)
        self._sums: dict[str, np.ndarray] = {}
        self._labels = labels
        self._intact = next((index for index, removed in enumerate(settings) if not removed.any()), None)
        self._margins: dict[str, np.ndarray] = {}
        # The two that differ most tell best whether settings mix.
        sizes = settings.sum(dim=1)
        self._extremes = settings[[int(sizes.argmin()), int(sizes.argmax())]]

    def add(self, batch: Batch, least: int) -> None:
        """Run a batch in parts of at least so many images: the fewer, the more settings share them."""
        n_images = len(batch.numbers)
        at_once = min(n_images, max(least, self._options.batch_size // len(self._settings)))
        self._stacked.verify(batch.pixels[:at_once], self._extremes)
        n_parts = n_images // at_once if self._stacked.is_shared else 1
        for part in np.array_split(np.arange(n_images), n_parts):
            self._add_part(_part_of(batch, part))

    def add_ranks(self, share: Share) -> None:
        """Add the amounts that the ranks counted that have the other shares."""
        if share.of == 1:
            return
        self._images = add_arrays({"images": self._images}, share)["images"].astype(int)
        self._sums, self._margins = add_arrays(self._sums, share), add_arrays(self._margins, share)
        for rank, other in enumerate(gathered(self._labels)):
            if rank != share.place:
                self._labels.add(other)

    def estimates(self) -> dict[str, Estimates]:
        """Return the score of each setting, and what it is without each fold that has images."""
        found = {}
        for name, score in self._scores.items():
            sums = self._sums[name][self._images > 0]
            total = sums.sum(axis=0)
            found[name] = Estimates(score.value(total), score.value(total - sums), self._images[self._images > 0])
        return found

    def findings(self) -> list[str]:
        """Return what labels and the scores of the whole model are to be warned of."""
        found, estimates = self._labels.findings(), self.estimates()
        for name, margins in self._margins.items():
            scored = estimates[name]
            errors = jackknife(scored.values, scored.left_out, scored.sizes)
            value, error = float(scored.values[self._intact]), float(errors[self._intact])
            found.append(at_chance(name, value, error, len(scored.left_out) - 1, margins, self._scores[name]))
        return [message for message in found if message]

    def _add_part(self, part: Batch) -> None:
        labels = Labels(part.labels)
        np.add.at(self._images, part.folds, 1)
        n_images = len(part.numbers)
        n_at_once = max(1, self._options.batch_size // n_images) if self._stacked.is_shared else 1
        n_chunks = -(-len(self._settings) // n_at_once)
        for chosen in np.array_split(np.arange(len(self._settings)), n_chunks):
            outputs = {stimulus: self._run(stimulus, part, self._settings[chosen]) for stimulus in self._stimuli}
            for place, setting in enumerate(chosen):
                shown = Shown(
                    outputs={stimulus: output[place] for stimulus, output in outputs.items()},
                    labels=labels,
                    numbers=part.numbers,
                    size=tuple(part.pixels.shape[2:]),
                    seed=self._options.seed,
                )
                for name, score in self._scores.items():
                    self._count(name, setting, part.folds, score.amounts(shown).cpu().numpy())
                if setting == self._intact:
                    self._look_at(shown)

    def _look_at(self, shown: Shown) -> None:
        """Count labels and predictions, where a score compares them."""
        comparing = {name: score for name, score in self._scores.items() if hasattr(score, "margins")}
        if comparing:
            self._labels.count(shown.targets, shown.outputs["natural"].shape[1])
        for name, score in comparing.items():
            self._margins[name] = self._margins.get(name, 0) + score.margins(shown).cpu().numpy()

    def _run(self, stimulus: str, part: Batch, settings: Tensor) -> Tensor:
        images = apply_stimulus(stimulus, part.pixels, part.numbers, self._options.seed)
        with noting_images(part.numbers, stimulus, images):
            return self._stacked.run(images, settings)

    def _count(self, name: str, setting: int, folds: list[int], amounts: np.ndarray) -> None:
        if name not in self._sums:
            shape = (self._options.folds, len(self._settings), amounts.shape[1])
            self._sums[name] = np.zeros(shape)
        np.add.at(self._sums[name][:, setting], folds, amounts)


def _part_of(batch: Batch, images: np.ndarray) -> Batch:
    return Batch(
        numbers=[batch.numbers[image] for image in images],
        folds=[batch.folds[image] for image in images],
        pixels=batch.pixels[images[0] : images[-1] + 1],
        labels=[batch.labels[image] for image in images] if batch.labels else [],
    )
