"""The statistics of one model on some images: what `probe.collect` returns."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from probe.errors import ArgumentError, ImagesError, counted, warn
from probe.images.digests import joined_digests
from probe.images.numbering import common_numbers, first_few, missing_numbers, ranges_of_both
from probe.models.layers import Layer
from probe.results import Facts
from probe.sums.expansion_gram import ChannelGram, gram_from_state, merged
from probe.sums.moments import PositionMoments
from probe.sums.saved import read_saved, write_saved

__all__ = ["Statistics", "check_folds", "merged_facts"]

_FORMAT = "position-probe statistics 4"

Key = tuple[str, str]


@dataclass
class Statistics:
    """Sums over images from which every score is computed.

    Statistics of different images of one model are merged by adding them: two halves of a data set, two processes,
    or two runs give the same scores as one. `probe.layerwise` and `probe.channelwise` take them in place of a model.

    Attributes
    ----------
    layers : list of Layer
        What was read, in order of execution.
    settings : dict
        All that must agree for two statistics to be merged.
    grams : dict
        (stimulus, layer name) -> `probe.sums.gram.Gram`, or `probe.sums.expansion_gram.ExpansionGram`.
    moments : dict
        (stimulus, layer name) -> `probe.sums.gram.PositionMoments`.
    images : list of range
        Numbers of the images that were read, and of those in `Facts.corrupt`, which could not be.
    expected : list of range
        Numbers of the images of which these are a part: more than `images` where shards are still to be merged.
    begins : dict
        Number -> digest of the first image of each data set and of a few others, which all its shards look at.
    facts : Facts
        Provenance: digests, devices, durations, warnings, layers skipped and files left out.
    """

    layers: list[Layer]
    settings: dict[str, Any]
    grams: dict[Key, ChannelGram] = field(default_factory=dict)
    moments: dict[Key, PositionMoments] = field(default_factory=dict)
    images: list[range] = field(default_factory=list)
    expected: list[range] = field(default_factory=list)
    begins: dict[int, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    @property
    def targets(self) -> list[str]:
        """Names of the targets."""
        return list(self.settings["targets"])

    @property
    def stimuli(self) -> list[str]:
        """Names of the stimuli."""
        return list(self.settings["stimuli"])

    @property
    def missing(self) -> list[int]:
        """Numbers of the images that other shards hold."""
        return missing_numbers(self.images, self.expected)

    def __repr__(self) -> str:
        return (
            f"<Statistics of {counted(self.facts.n_images, 'image')}: {counted(len(self.layers), 'layer')}, "
            f"stimuli {', '.join(self.stimuli)}, targets {', '.join(self.targets)}>"
        )

    def merge(self, other: "Statistics") -> "Statistics":
        """Add the statistics of other images, which are left as they are; return self.

        Raises
        ------
        ArgumentError
            If the settings differ, or an image number is in both; nothing is then added.
        """
        if not isinstance(other, Statistics):
            raise ArgumentError(f"merge: expected statistics from probe.collect, found {type(other).__name__}.")
        _check_same_layers(self.layers, other.layers)
        _check_same_settings(self.settings, other.settings)
        _check_disjoint(self.images, other.images)
        for key, gram in other.grams.items():
            self.grams[key] = merged(self.grams[key], gram)
        for key, moments in other.moments.items():
            self.moments[key].merge(moments)
        self.images = ranges_of_both(self.images, other.images)
        self.expected = ranges_of_both(self.expected, other.expected)
        self.facts = merged_facts(self.facts, other.facts).warned(_doubts(self.begins, other.begins))
        self.begins |= other.begins
        return self

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write to a file, atomically; `load` reads it.

        Raises
        ------
        ResultFileError
            If the file exists and `overwrite` is false, or cannot be written. An old file then stays as it was.
        """
        return write_saved(self.content(), path, form=_FORMAT, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Statistics":
        """Read a file that `save` wrote. Nothing in it is executed.

        Raises
        ------
        ResultFileError
            If the file is absent, damaged, or holds something else.
        """
        return cls.of(read_saved(path, form=_FORMAT, what="statistics", cure="Collect them again."))

    def content(self, *, settled: bool = True) -> dict[str, Any]:
        """Return all that they hold, as plain values and tensors; see `Gram.state` for `settled`."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "settings": self.settings,
            "grams": {key: gram.state(settled=settled) for key, gram in self.grams.items()},
            "moments": {key: moments.state() for key, moments in self.moments.items()},
            "images": [(numbers.start, numbers.stop, numbers.step) for numbers in self.images],
            "expected": [(numbers.start, numbers.stop, numbers.step) for numbers in self.expected],
            "begins": self.begins,
            "facts": asdict(self.facts),
        }

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Statistics":
        """Return the statistics whose `content` this is."""
        return cls(
            layers=[Layer(**layer) for layer in content["layers"]],
            settings=content["settings"],
            grams={key: gram_from_state(state) for key, state in content["grams"].items()},
            moments={key: PositionMoments.from_state(state) for key, state in content["moments"].items()},
            images=[range(*numbers) for numbers in content["images"]],
            expected=[range(*numbers) for numbers in content["expected"]],
            begins=content.get("begins", {}),
            facts=Facts(**content["facts"]),
        )


def check_folds(counts: Iterable[float], n_images: int) -> None:
    """Raise an `ImagesError` if a fold, of as many images or samples as `counts` tell, has none."""
    numbers = [float(count) for count in counts]
    if empty := numbers.count(0):
        raise ImagesError(
            f"images: {counted(n_images, 'image')} {'leaves' if n_images == 1 else 'leave'} {empty} of "
            f"{len(numbers)} folds without any. Pass more images, or choose "
            "fewer folds=."
        )


def _check_same_layers(first: list[Layer], second: list[Layer]) -> None:
    ours, theirs = ({(layer.name, layer.layout, layer.n_channels) for layer in layers} for layers in (first, second))
    if ours != theirs:
        name, layout, n_channels = min(ours ^ theirs)
        raise ArgumentError(
            f"merge: {name} ({counted(n_channels, 'channel')}, {layout}) is in one of the two statistics alone. "
            "Collect both with the same model, layers= and layout=."
        )


def _check_same_settings(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name, value in first.items():
        if second.get(name) == value:
            continue
        if name == "cells_per_image":
            layer = next(layer for layer in value if value[layer] != second[name][layer])
            raise ArgumentError(
                f"merge: the cells read of each image differ: {value[layer]} and {second[name][layer]} in {layer} "
                "(None: all). positions='auto' follows the number of images, and hooks and the device may change how a "
                "layer is measured: collect both with positions= a number."
            )
        raise ArgumentError(
            f"merge: {name} differs: {value!r} and {second.get(name)!r}. "
            "Collect both with the same model and arguments."
        )


def _check_disjoint(first: list[range], second: list[range]) -> None:
    if common := common_numbers(first, second):
        raise ArgumentError(
            f"merge: {first_few(common)} {'are' if len(common) > 1 else 'is'} in both of the statistics, so that they "
            "overlap. Merge each shard once, and continue the numbering of a second run with first_image=."
        )


def _doubts(first: dict[int, str], second: dict[int, str]) -> list[str]:
    """Warn where the shards of one data set have looked at different images."""
    warned: list[str] = []
    others = [number for number in sorted(first.keys() & second.keys()) if first[number] != second[number]]
    if others:
        warn(
            f"merge: {first_few(others)}, at which each shard looks, {'are' if len(others) > 1 else 'is'} not the same "
            "in all. Unless other machines decode them a little differently, images may be in the sums twice, or not "
            "at all: collect all shards from the same images in the same order, unshuffled.",
            warned,
        )
    return warned


def merged_facts(facts: Facts, other: Facts) -> Facts:
    """Return the facts of two readings of other images of one model."""
    return replace(
        facts.warned(other.warnings),
        n_images=facts.n_images + other.n_images,
        duration_s=facts.duration_s + other.duration_s,
        images_digest=joined_digests(facts.images_digest, other.images_digest),
        skipped={**facts.skipped, **other.skipped},
        corrupt={**facts.corrupt, **other.corrupt},
    )
