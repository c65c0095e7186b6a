"""Descriptors learned from few matching patches, with truncated and with full convolution, and their controls."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.analyses.data.shown import keep_shown
from probe.analyses.patch_matching.brown import NAMES, find_sets, read_patches, read_test
from probe.analyses.patch_matching.nets import NETS, HardNet, normalised
from probe.analyses.patch_matching.pair import Pair, found_share, read_pair
from probe.analyses.patch_matching.patches import (
    Patches,
    TestPairs,
    draw_pairs,
    draw_test_pairs,
    in_floats,
    made_patches,
    taken,
)
from probe.analyses.patch_matching.photographs import read_photographs, sample_photographs, texture
from probe.analyses.patch_matching.scores import false_positives
from probe.analyses.patch_matching.training import train_descriptors
from probe.analyses.studies import Study, choose_preset, study_result
from probe.analyses.training import side_by_side, training_bar, training_device
from probe.errors import ArgumentError

__all__ = ["PIXELS", "PRESETS", "STEPS", "STUDY", "Preset", "run", "train_descriptors"]

STUDY = Study(
    name="patch_matching",
    title="Descriptors learned from few matching patches",
    question="Does full convolution help a network that learns to match patches from few pairs, and is it the border "
    "or the length of the descriptor that helps?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment on data efficiency in patch matching, with the HardNet of "
    "A. Mishchuk et al., NeurIPS 2017, on the patches of M. Brown et al. Numbers read off the figure in its code.",
    protocol=(
        "HardNet: six 3×3 convolutions, two of stride 2, each with batch normalisation without weights and ReLU, "
        "dropout 0.3, and a convolution of 8×8 over the map; the descriptor has unit length. S-Conv pads the 3×3 "
        "convolutions by 1, F-Conv by 2. Each patch of 32×32 pixels is brought to mean 0 and deviation 1 first.",
        "The descriptor of F-Conv has 6,272 numbers, that of S-Conv 128: its map has 14×14 cells, and the last "
        "convolution leaves 7×7 of them. So there are controls: F-Conv with a last convolution of 14×14, or with its "
        "7×7 outputs averaged, has 128 numbers; S-Conv with 7×7 outputs has 6,272.",
        "Loss: of each pair in a batch, the distance to the nearest other descriptor in the batch is to exceed that of "
        "the pair by 1. SGD with learning rate 10, falling to 0, momentum and dampening 0.9, weight decay 10⁻⁴. The "
        "pairs are drawn once, and come in the same order in every epoch.",
        "Steps: in proportion to the pairs, as published (so that few pairs are also few steps), and as many as with "
        "the most pairs.",
        "Score: the share of other pairs that are as near as 95 % of the matching ones (FPR95); ties are accepted. "
        "0 pairs: the untrained network. Pixels: the normalised patch itself.",
        "Preset paper: trained on Yosemite, tested on the listed pairs of Liberty and Notre Dame; Brown is the mean of "
        "the two. The others cut patches out of photographs, round corners at least 24 pixels apart, each view under a "
        "homography of its own (rotation within 15°, scale 0.8 to 1.25, perspective to a tenth, 1.5 pixels of jitter, "
        "gain, gamma and noise). Half of the photographs are for training, the others for testing; pairs that do not "
        "match are of the same photograph, or of two.",
    ),
    departures=(
        "Homographies of flat photographs are no changes of viewpoint of a solid scene, so what is measured on made "
        "patches is not Brown's score.",
        "Which of the two test sets the published number is of, or whether it is their mean, is not said; here it "
        "stands beside the mean. Nor is it said whether it is of the fifth or of the last epoch; here it is the last.",
        "The code drew the pairs for each number of pairs; here fewer pairs are the first of more.",
        "Steps made equal, the controls of the length of the descriptor, pixels and untrained networks are ours, as "
        "are several seeds.",
        "The preset paper trains on batches of 1,024 pairs too, as the original HardNet; published are batches of 256. "
        "The presets tiny and quick train networks of an eighth and a quarter of the channels, on batches of 16 and 32 "
        "pairs, which are as many fewer descriptors to be told apart, for 1 and 2 epochs in place of 10.",
    ),
    times={"tiny": "2 s", "quick": "5 min on 2 CPU cores", "paper": "2 days on a GPU, estimated"},
)

PIXELS = "pixels"
STEPS = ("in proportion", "equal")
"""Steps of fewer pairs: as many epochs, or as many steps, as with the most pairs."""

_BROWN = "Brown"
_ALL = "all others"
_PUBLISHED = {
    "S-Conv": {500_000: 2.0, 250_000: 2.3, 100_000: 3.8, 50_000: 8.4, 25_000: 14.5},
    "F-Conv": {500_000: 2.06, 250_000: 2.27, 100_000: 2.88, 50_000: 4.31, 25_000: 8.25},
}
_PUBLISHED_BATCH = 256
_TRAINED_ON = "yosemite"

_AT_ONCE = 256  # patches that are described
_LATE = 10  # one part in so many of the steps, whose loss is kept
_SHOWN = 3
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
class _Data:
    """What is trained on, and what it is tested with, by the name of the test."""

    training: Patches
    tests: Mapping[str, tuple[Patches, TestPairs]]
    photographs: str


@dataclass(frozen=True)
class _Run:
    """One network and how it is trained; with 0 pairs it is not."""

    seed: int
    net: str
    pairs: int
    steps: str
    batch: int


def run(
    *,
    images: str | Path | None = None,
    pair: str | Path | None = None,
    preset: str = "quick",
    seeds: int | None = None,
    nets: Sequence[str] = tuple(NETS),
    max_images: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train descriptors from few and from many matching patches, and test how well they tell patches apart.

    Parameters
    ----------
    images
        Folder of photographs; with the preset ``"paper"`` that of the three sets of Brown et al. By default three
        photographs that come with scikit-learn and matplotlib, and made textures for the preset ``"tiny"``.
    pair
        Folder of two photographs of a flat scene and the homography between them, as
        `probe.analyses.patch_matching.pair.read_pair` reads it, to match points in. By default none.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each kind; by default as many as the preset says.
    nets
        Some of `NETS`.
    max_images
        Read so many photographs, evenly spaced over the folder; by default as many as the preset says, 240 in
        ``quick``.
    device
        ``"auto"`` is a GPU where there is one.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        As `probe.analyses.studies.study_result` describes it: the share of other pairs accepted at 95 % recall, in
        per cent, on (net, pairs, steps, batch, test). Besides, on (seed, net, pairs, steps, batch): ``loss`` in the
        last tenth of the steps; ``spread``: how far descriptors lie from their mean, 0 where all are alike; with a
        pair ``found``: points of the first photograph, of those that have their like in the second, that find it
        within 3 pixels, in per cent, and ``found_chance``. On (net): ``length`` of the descriptor, ``products``.

    Raises
    ------
    ArgumentError
        If the preset or a net is unknown, or `seeds` is below 1.
    ImagesError
        If there are no such images, or too few.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, nets=["S-Conv"], progress=False)
    >>> result.net.values.tolist()
    ['pixels', 'S-Conv']
    """
    started = time.monotonic()
    settings = choose_preset(PRESETS, preset, seeds)
    if isinstance(nets, str) or not nets or not set(nets) <= set(NETS):
        raise ArgumentError(f"nets={nets!r}: expected a list of some of {', '.join(NETS)}.")
    place = training_device(device)
    scene = None if pair is None else read_pair(Path(pair))
    data = _read(preset, None if images is None else Path(images), settings, max_images)
    most = max(settings.pairs)
    drawn = {
        (seed, batch): draw_pairs(data.training.points, count=most, batch=batch, seed=seed)
        for seed, batch in product(range(settings.seeds), settings.batches)
    }
    wanted = list(_runs(settings, nets))
    # Made here, since the random state is shared by all threads.
    networks = [HardNet(NETS[one.net], width=settings.width, seed=one.seed) for one in wanted]
    steps = sum(_steps(one, settings) for one in wanted)
    with training_bar(STUDY.name, steps, progress) as done, side_by_side(place) as pool:
        work = [
            pool.submit(_measure, network, one, data, drawn[one.seed, one.batch], scene, settings, place, done)
            for network, one in zip(networks, wanted, strict=True)
        ]
        measured = {one: job.result() for one, job in zip(wanted, work, strict=True)}
        pixels = _scored(nn.Sequential(_Pixels()), data, scene, place)
    whole = _arrays(measured, pixels, settings, nets)
    return study_result(
        STUDY,
        _published(whole.fpr),
        whole.fpr.assign_attrs(long_name="other pairs accepted at 95 % recall", units="%"),
        preset=preset,
        settings={
            **asdict(settings),
            "nets": list(nets),
            "images": data.photographs,
            "pair": str(pair or ""),
            "device": str(place),
            "patches": len(data.training.points),
            "points": len(np.unique(data.training.points)),
        },
        started=started,
        others=_others(whole, nets, settings, scene) | {"shown_image": _shown(data.training)},
        warnings=_warnings(preset, images),
        command=command,
    )


class _Pixels(nn.Module):
    def forward(self, patches: Tensor) -> Tensor:
        return nn.functional.normalize(normalised(patches).flatten(1))


def _runs(settings: Preset, nets: Sequence[str]) -> Iterator[_Run]:
    """Yield each network that is trained; where both numbers of steps are the same, once."""
    for seed, net in product(range(settings.seeds), nets):
        yield _Run(seed, net, 0, STEPS[0], settings.batches[0])
        for batch, pairs, steps in product(settings.batches, settings.pairs, STEPS):
            if pairs < max(settings.pairs) or steps == STEPS[0]:
                yield _Run(seed, net, pairs, steps, batch)


def _steps(one: _Run, settings: Preset) -> int:
    length = one.pairs if one.steps == STEPS[0] else max(settings.pairs)
    return settings.epochs * -(-length // one.batch) if one.pairs else 0


def _measure(
    network: HardNet,
    one: _Run,
    data: _Data,
    pairs: np.ndarray,
    scene: Pair | None,
    settings: Preset,
    device: torch.device,
    done: Callable[[], Any],
) -> dict[str, float]:
    network.to(device).eval()
    losses = [float("nan")]
    if steps := _steps(one, settings):
        chosen = pairs[: one.pairs]
        losses = train_descriptors(network, data.training, chosen, batch=one.batch, steps=steps, done=done)
    found = _scored(network, data, scene, device)
    network.cpu()
    return {**found, "loss": float(np.mean(losses[-(-len(losses) * (_LATE - 1) // _LATE) :] or losses))}


def _scored(network: nn.Module, data: _Data, scene: Pair | None, device: torch.device) -> dict[str, float]:
    """Return what a network in evaluation mode scores in each test, the spread of its descriptors, and in the pair."""
    describe = partial(_descriptors, network, device=device)
    whole = _ALL if _ALL in data.tests else _BROWN
    found = {whole: float("nan")}
    spreads = []
    for name, (patches, pairs) in data.tests.items():
        descriptors = describe(patches.pixels)
        matching = _between(descriptors, pairs.matching)
        others = {kind: _between(descriptors, these) for kind, these in pairs.others.items()}
        found |= {kind: 100 * false_positives(matching, these) for kind, these in others.items()}
        if name == _ALL:
            found[_ALL] = 100 * false_positives(matching, np.concatenate(list(others.values())))
        spreads.append(float((1 - descriptors.mean(dim=0).square().sum()).clamp(min=0).sqrt()))
    if whole == _BROWN:
        found[_BROWN] = float(np.mean([share for kind, share in found.items() if kind != _BROWN]))
    found["spread"] = float(np.mean(spreads))
    if scene is not None:
        first, second = (describe(part).numpy() for part in (scene.first, scene.second))
        found["found"] = found_share(first, second, scene.is_right)
    return found


def _descriptors(network: nn.Module, pixels: Tensor, *, device: torch.device) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(in_floats(part).to(device)).cpu() for part in pixels.split(_AT_ONCE)])


def _between(descriptors: Tensor, pairs: np.ndarray) -> np.ndarray:
    first, second = (descriptors[torch.from_numpy(pairs[:, side])] for side in (0, 1))
    return (first - second).norm(dim=1).numpy()


def _read(preset: str, images: Path | None, settings: Preset, max_images: int | None) -> _Data:
    if max_images is not None and max_images < 2:
        raise ArgumentError(f"max_images={max_images!r}: half are for training, so expected two photographs or more.")
    if max_images is not None and images is None and preset != "paper":
        raise ArgumentError("max_images: without a folder of images= it would have no effect. Leave it out.")
    if preset == "paper":
        if max_images is not None:
            raise ArgumentError("max_images: the preset 'paper' takes all patches of Brown et al.; leave it out.")
        sets = find_sets(images)
        tests = {name: read_test(sets[name]) for name in NAMES if name != _TRAINED_ON}
        return _Data(read_patches(sets[_TRAINED_ON]), tests, "Brown et al.")
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
    return _Data(training, {_ALL: (test, pairs)}, source)


def _arrays(
    measured: Mapping[_Run, dict[str, float]], pixels: dict[str, float], settings: Preset, nets: Sequence[str]
) -> xr.Dataset:
    """Return what was measured on our own cases, and on those of the published numbers, where nothing was."""
    tests = list(dict.fromkeys([*(name for name in pixels if name not in ("spread", "found")), _BROWN]))
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


def _published(fpr: xr.DataArray) -> xr.DataArray:
    """Return the published numbers, NaN where there are none."""
    published = xr.full_like(fpr.isel(seed=0, drop=True), np.nan)
    for net, by_pairs in _PUBLISHED.items():
        if net in published.net:
            for pairs, share in by_pairs.items():
                at = {"net": net, "pairs": pairs, "steps": STEPS[0], "batch": _PUBLISHED_BATCH, "test": _BROWN}
                published.loc[at] = share
    return published


def _others(whole: xr.Dataset, nets: Sequence[str], settings: Preset, scene: Pair | None) -> dict[str, xr.DataArray]:
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


def _shown(patches: Patches) -> xr.DataArray:
    """Keep two patches of a few points."""
    pairs = draw_pairs(patches.points, count=_SHOWN, batch=_SHOWN, seed=0)
    return keep_shown({f"patch {side + 1} of a pair": taken(patches, pairs[:, side]) for side in (0, 1)})


def _warnings(preset: str, images: str | Path | None) -> list[str]:
    if preset != "quick" or images is not None:
        return []
    return [
        "Patches of three photographs alone, one to train on and two to test with: errors over seeds do not tell what "
        "other photographs would give. Pass a folder of photographs with --images."
    ]
