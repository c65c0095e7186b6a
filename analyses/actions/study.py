"""Actions told from clips: accuracy by border, where and when actions stand as in training, and elsewhere."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor

from probe.analyses.actions.cases import PRESETS, TEST_SEED, Preset, keep_videos, n_classes_of, on_digits, on_videos
from probe.analyses.actions.clips import middle_clip
from probe.analyses.actions.digits import TASKS, task_clips
from probe.analyses.actions.nets import ARMS, SMALL
from probe.analyses.actions.numbers import (
    CASES,
    SCORES,
    accuracies,
    chance_of,
    count_products,
    curves_of,
    published_numbers,
)
from probe.analyses.actions.training import Splits
from probe.analyses.data.digits import load_digits
from probe.analyses.data.shown import keep_shown
from probe.analyses.studies import Study, choose_preset, study_result
from probe.analyses.training import training_device
from probe.errors import ArgumentError
from probe.images.numbering import evenly_spaced

__all__ = ["PRESETS", "SCORES", "STUDY", "Preset", "run"]

STUDY = Study(
    name="actions",
    title="Actions told from clips",
    question="Do networks of clips go by where and when an action happens, and does full convolution in space, and in "
    "space and time, help them where clips are few?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment on action recognition without pre-training, with the 3-D "
    "ResNets of K. Hara et al., CVPR 2018; numbers from the README of its code. They agree with the best epoch on the "
    "test clips in its figure of the training curves.",
    protocol=(
        "S-Conv: every convolution pads by half its window. F-Conv in space: by its window less one along rows and "
        "columns, and zeros around the identity branch as far as the main branch grows; in space and time: along time "
        "as well. The published one of these also has stride 2 along time in the first convolution, all others 1. "
        "Circular: as S-Conv, but what leaves at one end comes back at the other, along all three axes.",
        "Moving digits (without a folder): scikit-learn's digits, those of the tests apart, move over 16 frames of "
        "32×32 pixels with noise, in one of eight directions; what leaves at one border comes back at the opposite "
        "one, so that no place tells a direction. Without the order of the frames a direction cannot be told from its "
        "opposite: at most 50 %.",
        "Two further tasks: place, in which right stands in the upper half of training's frames, and left in the "
        "lower; and time, in which right is there in the first half of its clips, and left in the second. Swapped: "
        "the same test clips, moved by half the frame or half the clip, so that each class stands where the other was. "
        "Noise and steps are chosen so that the classes are only just told: with less noise or more steps motion is "
        "learned everywhere, and all networks tell the swapped clips too.",
        "Each clip is brought to mean 0 and deviation 1; three 3×3×3 convolutions (16, 32 and 64 channels, stride 2 in "
        "space throughout, along time in the last two), each with batch normalisation and ReLU, the mean over the map, "
        "a linear layer; AdamW on a one-cycle schedule.",
        "Videos (a folder of frames): clips of 16 frames; in training one of each video in an epoch, at a drawn place "
        "in time, cut to a square at a corner or in the middle, of one of five scales, mirrored or not. Accuracy of "
        "clips: about three a video, of its middle; of videos: the mean of the class scores of its clips. About a "
        "fifth of the training videos (3 of 18 groups of UCF101) is kept to choose the epoch and, in the preset paper, "
        "the learning rate.",
        "Preset paper: UCF101 or HMDB51, ResNet-18, 34 and 50, clips of 112×112, 150 epochs of SGD (learning rate "
        "0.1, a tenth where the validation loss has not fallen for 10 epochs, momentum and dampening 0.9, weight decay "
        "10⁻³, batches of 32).",
    ),
    departures=(
        "The published learning rate was steered by the loss on the test videos, and the best epoch on the test clips "
        "is what was published; here both are taken from validation videos that are cut from training (in UCF101 whole "
        "groups, which show one scene), and the best epoch on the test clips stands beside.",
        "Moving digits, their swapped tests, circular convolution, F-Conv in space and time with stride 1, and several "
        "seeds are ours; so is the small network that the presets tiny and quick train on a folder: with AdamW, on "
        "clips of 16×16 and 32×32 pixels, for 2 and 8 epochs in which each video is seen once and three times.",
        "In training the published code never draws the last place in time at which a clip could begin, and its score "
        "of videos leaves the last video out; here neither.",
    ),
    times={"tiny": "3 s", "quick": "8 min on 2 CPU cores", "paper": "2 weeks on a GPU, estimated"},
)

_FOLDERS = {"UCF101": "ucf101", "HMDB51": "hmdb"}
_SAME_STRIDE = ("S-Conv", "F-Conv in space", "F-Conv in space and time", "circular")
_SHOWN = 3
_SHOWN_FRAMES = (0, 5, 10, 15)


def run(
    *,
    images: str | Path | None = None,
    preset: str = "quick",
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train networks of clips with each border, on moving digits or on a folder of videos, and test them.

    Parameters
    ----------
    images
        Folder of videos that were taken apart to frames: ``train`` and ``test``, in both
        ``<class>/<video>/image_00001.jpg``; or ``<class>/<video>/image_00001.jpg`` and one annotation file of a split,
        as 3D-ResNets-PyTorch makes them. By default moving digits; the preset ``"paper"`` needs a folder.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each kind; by default as many as the preset says.
    arms
        Some of `probe.analyses.actions.nets.ARMS`; by default those of the preset.
    device
        ``"auto"`` is a GPU where there is one.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        As `probe.analyses.studies.study_result` describes it: accuracy in per cent on (data_set, net, arm, score).
        Besides ``chance`` on (data_set), ``products`` for a clip on (measured_net, measured_arm), and of videos
        ``by_epoch``, with seed, part and epoch: accuracy of the clips of ``validation`` and ``test``.

    Raises
    ------
    ArgumentError
        If a preset or arm is unknown, `seeds` is below 1, or ``paper`` has no folder.
    ImagesError
        If there are no such videos.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, arms=["circular"], progress=False)
    >>> here = result.here.sel(data_set="place", net="small", arm="circular")
    >>> bool(here.sel(score="as trained") == here.sel(score="swapped"))
    True
    """
    started = time.monotonic()
    settings = choose_preset(PRESETS, preset, seeds)
    if arms is not None and (isinstance(arms, str) or not arms or not set(arms) <= set(ARMS)):
        raise ArgumentError(f"arms={arms!r}: expected a list of some of {', '.join(ARMS)}.")
    if preset == "paper" and images is None:
        raise ArgumentError(
            "images: none given, and the preset 'paper' needs UCF101 or HMDB51. Get them from "
            "https://www.crcv.ucf.edu/data/UCF101.php or https://serre.lab.brown.edu/hmdb51.html, take the videos "
            "apart to frames FOLDER/<class>/<video>/image_00001.jpg, put the annotation of a split beside the classes, "
            "and pass that folder."
        )
    place = training_device(device)
    splits = None if images is None else keep_videos(Path(images), settings)
    cases = {net: [arm for arm in own if arms is None or arm in arms] for net, own in _nets(preset, arms).items()}
    if splits is None:
        names, found, shown = list(TASKS), on_digits(cases, settings, place, progress), _shown_digits()
        chance = {task: 100 / n_classes_of(task) for task in TASKS}
        source = "moving digits"
    else:
        source = _name(Path(images)) if images is not None else ""
        names, found = [source], on_videos(source, splits, cases, settings, place, progress)
        chance = {source: 100 / len(splits.classes)}
        shown = _shown_videos(splits, settings.size)
    here = accuracies(found, names, cases, settings.seeds)
    return study_result(
        STUDY,
        published_numbers(here),
        here,
        preset=preset,
        settings={
            **asdict(settings),
            "arms": sorted({arm for own in cases.values() for arm in own}),
            "images": source,
            "device": str(place),
            **({} if splits is None else splits.counts()),
        },
        started=started,
        others={
            "chance": chance_of(here, chance),
            "products": count_products(cases, 1 if splits is None else len(splits.classes), settings, splits is None),
            **curves_of(found, settings),
            "shown_image": shown,
        },
        command=command,
    )


def _nets(preset: str, arms: Sequence[str] | None) -> Mapping[str, Sequence[str]]:
    if preset == "paper":
        return CASES if arms is None else dict.fromkeys(CASES, tuple(arms))
    return {SMALL: _SAME_STRIDE if arms is None else tuple(arms)}


def _name(folder: Path) -> str:
    """Return the name of a data set whose numbers have been published, where the folder bears it."""
    letters = "".join(filter(str.isalnum, folder.resolve().name.lower()))  # the archive of UCF101 unpacks to UCF-101
    return next((name for name, own in _FOLDERS.items() if own in letters), "folder")


def _shown_digits() -> xr.DataArray:
    _, held_out = load_digits(enlarged=1)
    generator = torch.Generator().manual_seed(TEST_SEED)
    return _frames(torch.cat([task_clips(task, held_out, count=1, generator=generator).frames for task in TASKS]))


def _shown_videos(splits: Splits, size: int) -> xr.DataArray:
    chosen = evenly_spaced(len(splits.test), _SHOWN)
    return _frames(torch.stack([middle_clip(splits.test, index, 0, size=size) for index in chosen]))


def _frames(clips: Tensor) -> xr.DataArray:
    return keep_shown({f"frame {place + 1}": clips[:, :, place] for place in _SHOWN_FRAMES})
