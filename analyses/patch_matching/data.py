"""How much is trained and tested, and the patches that it is done with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probe.analyses.patch_matching.brown import NAMES, find_sets, read_patches, read_test
from probe.analyses.patch_matching.patches import Patches, TestPairs, draw_test_pairs, made_patches
from probe.analyses.patch_matching.photographs import read_photographs, sample_photographs, texture
from probe.errors import ArgumentError

__all__ = ["ALL", "BROWN", "PRESETS", "Data", "Preset", "read_data"]

BROWN = "Brown"
ALL = "all others"
_TRAINED_ON = "yosemite"
_TEST_SEED = 1000


@dataclass(frozen=True)
class Preset:
    """How much is trained and tested.

    Attributes
    ----------
    seeds
        Networks of each kind.
    pairs
        Numbers of pairs that are trained on.
    batches
        Pairs of a batch.
    epochs
        Over the pairs.
    width
        Of the networks.
    views
        Of each point of a photograph.
    photographs
        How many are read.
    points, test_points
        To train on and to test with, at most, about as many of each photograph.
    test_pairs
        Of each kind.
    """

    seeds: int
    pairs: tuple[int, ...]
    batches: tuple[int, ...]
    epochs: int
    width: float
    views: int
    photographs: int
    points: int
    test_points: int
    test_pairs: int


PRESETS = {
    "tiny": Preset(
        seeds=2, pairs=(16, 32), batches=(16,), epochs=1, width=0.125, views=2, photographs=4, points=32,
        test_points=32, test_pairs=32,
    ),
    "quick": Preset(
        seeds=3, pairs=(256, 1024, 3072), batches=(32,), epochs=2, width=0.25, views=4, photographs=240, points=2400,
        test_points=600, test_pairs=2000,
    ),
    "paper": Preset(
        seeds=3, pairs=(25_000, 50_000, 100_000, 250_000, 500_000), batches=(256, 1024), epochs=10, width=1.0, views=0,
        photographs=0, points=0, test_points=0, test_pairs=0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """What is trained on, and what it is tested with, by the name of the test."""

    training: Patches
    tests: Mapping[str, tuple[Patches, TestPairs]]
    photographs: str


def read_data(preset: str, images: Path | None, settings: Preset, max_images: int | None) -> Data:
    """Read or make the patches of a preset."""
    if max_images is not None and max_images < 2:
        raise ArgumentError(f"max_images={max_images!r}: half are for training, so expected two photographs or more.")
    if max_images is not None and images is None and preset != "paper":
        raise ArgumentError("max_images: without a folder of images= it would have no effect. Leave it out.")
    if preset == "paper":
        if max_images is not None:
            raise ArgumentError("max_images: the preset 'paper' takes all patches of Brown et al.; leave it out.")
        sets = find_sets(images)
        tests = {name: read_test(sets[name]) for name in NAMES if name != _TRAINED_ON}
        return Data(read_patches(sets[_TRAINED_ON]), tests, "Brown et al.")
    if images is not None:
        photographs = read_photographs(images, settings.photographs if max_images is None else max_images)
        source = "folder of photographs"
    elif preset == "tiny":
        photographs = [texture(number) for number in range(settings.photographs)]
        source = "made textures"
    else:
        photographs = sample_photographs()
        source = "photographs that come with scikit-learn and matplotlib"
    training, test = (
        made_patches(part, views=settings.views, seed=seed, most=-(-most // len(part)))
        for part, seed, most in (
            (photographs[1::2], 0, settings.points),
            (photographs[::2], _TEST_SEED, settings.test_points),
        )
    )
    pairs = draw_test_pairs(test, count=settings.test_pairs, seed=_TEST_SEED)
    return Data(training, {ALL: (test, pairs)}, source)
