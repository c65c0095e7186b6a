"""Descriptors learned from few matching patches, with truncated and with full convolution, and their controls."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.analyses.data.shown import keep_shown
from probe.analyses.patch_matching.cases import STEPS, Pixels, all_cases, measure, n_steps, score
from probe.analyses.patch_matching.data import PRESETS, Preset, read_data
from probe.analyses.patch_matching.nets import NETS, HardNet
from probe.analyses.patch_matching.numbers import PIXELS, on_common_dims, other_numbers, published_numbers
from probe.analyses.patch_matching.pair import read_pair
from probe.analyses.patch_matching.patches import Patches, draw_pairs, taken
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

_SHOWN = 3


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
    data = read_data(preset, None if images is None else Path(images), settings, max_images)
    most = max(settings.pairs)
    drawn = {
        (seed, batch): draw_pairs(data.training.points, count=most, batch=batch, seed=seed)
        for seed, batch in product(range(settings.seeds), settings.batches)
    }
    wanted = list(all_cases(settings, nets))
    # Made here, since the random state is shared by all threads.
    networks = [HardNet(NETS[one.net], width=settings.width, seed=one.seed) for one in wanted]
    steps = sum(n_steps(one, settings) for one in wanted)
    with training_bar(STUDY.name, steps, progress) as done, side_by_side(place) as pool:
        work = [
            pool.submit(measure, network, one, data, drawn[one.seed, one.batch], scene, settings, place, done)
            for network, one in zip(networks, wanted, strict=True)
        ]
        measured = {one: job.result() for one, job in zip(wanted, work, strict=True)}
        pixels = score(nn.Sequential(Pixels()), data, scene, place)
    whole = on_common_dims(measured, pixels, settings, nets)
    return study_result(
        STUDY,
        published_numbers(whole.fpr),
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
        others=other_numbers(whole, nets, settings, scene) | {"shown_image": _shown(data.training)},
        warnings=_warnings(preset, images),
        command=command,
    )


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
