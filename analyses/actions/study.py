"""Actions told from clips: accuracy by border, where and when actions stand as in training, and elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from probe.analyses.actions.digits import DIRECTIONS, FRAMES, TASKS, Clips, shuffled, swapped, task_clips
from probe.analyses.actions.nets import ARMS, Arm, ClipResNet, clip_resnet, small_clip_net
from probe.analyses.actions.training import Schedule, Splits, train_on_videos
from probe.analyses.actions.videos import LENGTH, middle_clip, read_splits
from probe.analyses.data.digits import CANVAS, Digits, load_digits
from probe.analyses.data.shown import keep_shown
from probe.analyses.studies import Study, choose_preset, study_result
from probe.analyses.training import predict, side_by_side, train, training_bar, training_device
from probe.errors import ArgumentError
from probe.images.batches import evenly_spaced

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
        "clips: about three a video, of its middle; of videos: the mean of the class scores of its clips. A fifth of "
        "the training videos is kept to choose the epoch and, in the preset paper, the learning rate.",
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

SCORES = (
    "as trained", "swapped", "frames shuffled", "clips, best epoch", "clips, chosen epoch", "clips, last epoch",
    "videos, chosen epoch", "videos, last epoch",
)  # fmt: skip
"""Of tasks of moving digits the first three, of videos the others; the best epoch is the best on the test clips."""

_SMALL = "small"
_FULL_TIME = "F-Conv in space and time, stride 2"
_PUBLISHED = {
    "UCF101": {
        "RN18": {"S-Conv": 38.6, "F-Conv in space": 40.6, _FULL_TIME: 42.2},
        "RN34": {"S-Conv": 37.0, "F-Conv in space": 46.9},
        "RN50": {"S-Conv": 36.2, "F-Conv in space": 44.1},
    },
    "HMDB51": {
        "RN18": {"S-Conv": 16.1, "F-Conv in space": 19.3},
        "RN34": {"S-Conv": 15.2, "F-Conv in space": 18.3},
        "RN50": {"S-Conv": 14.3, "F-Conv in space": 19.0},
    },
}
_FOLDERS = {"UCF101": "ucf101", "HMDB51": "hmdb"}
_SAME_STRIDE = ("S-Conv", "F-Conv in space", "F-Conv in space and time", "circular")
_CASES = {
    "RN18": ("S-Conv", "F-Conv in space", "F-Conv in space and time", _FULL_TIME),
    "RN34": ("S-Conv", "F-Conv in space"),
    "RN50": ("S-Conv", "F-Conv in space"),
}
_TEST_SEED = 1000
_SHOWN = 3
_SHOWN_FRAMES = (0, 5, 10, 15)


@dataclass(frozen=True)
class Preset:
    """How much is trained and tested.

    Attributes
    ----------
    seeds
        Networks of each kind.
    clips, steps
        To train on, by task of moving digits, and the steps, with batches of `batch`.
    test_clips
        Of each task.
    batch
        Clips of a batch.
    epochs, visits
        Of training on videos, and how often each is seen in one.
    size, short_side
        Rows and columns of clips of videos, and the short side of the frames that are kept in memory; 0: none are.
    """

    seeds: int
    clips: Mapping[str, int]
    steps: Mapping[str, int]
    test_clips: int
    batch: int
    epochs: int
    visits: int
    size: int
    short_side: int


PRESETS = {
    "tiny": Preset(
        seeds=2, clips=dict.fromkeys(TASKS, 8), steps=dict.fromkeys(TASKS, 2), test_clips=8, batch=4, epochs=2,
        visits=1, size=16, short_side=18,
    ),
    "quick": Preset(
        seeds=3, clips={"directions": 3200, "place": 800, "time": 800},
        steps={"directions": 400, "place": 50, "time": 75}, test_clips=400, batch=32, epochs=8, visits=3, size=32,
        short_side=40,
    ),
    "paper": Preset(
        seeds=3, clips={}, steps={}, test_clips=0, batch=32, epochs=150, visits=1, size=112, short_side=0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """One network and what it is trained for."""

    seed: int
    data_set: str
    net: str
    arm: str


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
    splits = None if images is None else _read(Path(images), settings)
    cases = {net: [arm for arm in own if arms is None or arm in arms] for net, own in _nets(preset, arms).items()}
    if splits is None:
        names, found, shown = list(TASKS), _on_digits(cases, settings, place, progress), _shown_digits()
        chance = {task: 100 / (len(DIRECTIONS) if task == "directions" else 2) for task in TASKS}
        source = "moving digits"
    else:
        source = _name(Path(images)) if images is not None else ""
        names, found = [source], _on_videos(source, splits, cases, settings, place, progress)
        chance = {source: 100 / len(splits.classes)}
        shown = _shown_videos(splits, settings.size)
    here = _array(found, names, cases, settings.seeds)
    return study_result(
        STUDY,
        _published(here),
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
            "chance": _chance(here, chance),
            "products": _products(cases, 1 if splits is None else len(splits.classes), settings, splits is None),
            **_curves(found, settings),
            "shown_image": shown,
        },
        command=command,
    )


def _nets(preset: str, arms: Sequence[str] | None) -> Mapping[str, Sequence[str]]:
    if preset == "paper":
        return _CASES if arms is None else dict.fromkeys(_CASES, tuple(arms))
    return {_SMALL: _SAME_STRIDE if arms is None else tuple(arms)}


def _make(net: str, arm: Arm, *, n_classes: int, n_channels: int, seed: int) -> nn.Module:
    if net == _SMALL:
        return small_clip_net(arm, n_classes=n_classes, n_channels=n_channels, seed=seed)
    return clip_resnet(int(net.removeprefix("RN")), arm, n_classes=n_classes, seed=seed)


def _on_digits(
    cases: Mapping[str, Sequence[str]], settings: Preset, device: torch.device, progress: bool
) -> dict[_Run, dict[str, Any]]:
    training, held_out = load_digits(enlarged=1)
    tests = {
        task: task_clips(task, held_out, count=settings.test_clips, generator=torch.Generator().manual_seed(_TEST_SEED))
        for task in TASKS
    }
    wanted = [
        _Run(seed, task, net, arm) for seed, task in product(range(settings.seeds), TASKS) for net in cases
        for arm in cases[net]
    ]  # fmt: skip
    steps = sum(settings.steps[one.data_set] for one in wanted)
    with training_bar(STUDY.name, steps, progress) as done, side_by_side(device) as pool:
        # Made here, since the random state is shared by all threads.
        models = [
            _make(one.net, ARMS[one.arm], n_classes=_classes(one.data_set), n_channels=1, seed=one.seed)
            for one in wanted
        ]
        jobs = [
            pool.submit(_one_task, model, one, training, tests[one.data_set], settings, device, done)
            for model, one in zip(models, wanted, strict=True)
        ]
        return {one: job.result() for one, job in zip(wanted, jobs, strict=True)}


def _classes(task: str) -> int:
    return len(DIRECTIONS) if task == "directions" else 2


def _one_task(
    model: nn.Module,
    one: _Run,
    digits: Digits,
    test: Clips,
    settings: Preset,
    device: torch.device,
    done: Callable[[], Any],
) -> dict[str, Any]:
    steps = settings.steps[one.data_set]
    generator = torch.Generator().manual_seed(one.seed)
    known = task_clips(one.data_set, digits, count=settings.clips[one.data_set], generator=generator)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.zeros(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < settings.batch:
                order = torch.randperm(len(known.labels), generator=generator)
            chosen, order = order[: settings.batch], order[settings.batch :]
            yield known.frames[chosen], known.labels[chosen]

    train(model.to(device), batches(), steps=steps, done=done)
    shown = {"as trained": test}
    if one.data_set == "directions":
        shown["frames shuffled"] = shuffled(test, seed=_TEST_SEED)
    else:
        shown["swapped"] = swapped(one.data_set, test)
    found = {name: _accuracy(model, clips, device) for name, clips in shown.items()}
    model.cpu()
    return found


def _accuracy(model: nn.Module, clips: Clips, device: torch.device) -> float:
    return 100 * float((predict(model, clips.frames.to(device)).cpu() == clips.labels).float().mean())


def _read(folder: Path, settings: Preset) -> Splits:
    training, validation, test, classes = read_splits(folder)
    if settings.short_side:
        training, validation, test = (
            part.keep(short_side=settings.short_side) for part in (training, validation, test)
        )
    return Splits(training, validation, test, classes)


def _on_videos(
    name: str,
    splits: Splits,
    cases: Mapping[str, Sequence[str]],
    settings: Preset,
    device: torch.device,
    progress: bool,
) -> dict[_Run, dict[str, Any]]:
    schedule = Schedule(
        epochs=settings.epochs,
        visits=settings.visits,
        batch=settings.batch,
        size=settings.size,
        is_published=not settings.short_side,
    )
    wanted = [_Run(seed, name, net, arm) for seed in range(settings.seeds) for net in cases for arm in cases[net]]
    n_classes = len(splits.classes)
    steps = len(wanted) * schedule.steps(len(splits.training)) * settings.epochs
    with training_bar(STUDY.name, steps, progress) as done, side_by_side(device) as pool:
        models = [_make(one.net, ARMS[one.arm], n_classes=n_classes, n_channels=3, seed=one.seed) for one in wanted]
        jobs = [
            pool.submit(train_on_videos, model, splits, schedule, seed=one.seed, device=device, done=done)
            for model, one in zip(models, wanted, strict=True)
        ]
        return {one: job.result() for one, job in zip(wanted, jobs, strict=True)}


def _name(folder: Path) -> str:
    """Return the name of a data set whose numbers have been published, where the folder bears it."""
    letters = "".join(filter(str.isalnum, folder.resolve().name.lower()))  # the archive of UCF101 unpacks to UCF-101
    return next((name for name, own in _FOLDERS.items() if own in letters), "folder")


def _array(
    found: Mapping[_Run, Mapping[str, Any]], names: Sequence[str], cases: Mapping[str, Sequence[str]], seeds: int
) -> xr.DataArray:
    """Return what was measured on our own cases, and on those of the published numbers, where nothing was."""
    coords: dict[str, list[Any]] = {
        "seed": list(range(seeds)),
        "data_set": list(dict.fromkeys([*names, *_PUBLISHED])),
        "net": list(dict.fromkeys([*cases, *_CASES])),
        "arm": [arm for arm in ARMS if arm in {*(a for own in cases.values() for a in own), *_CASES["RN18"]}],
        "score": list(SCORES),
    }
    here = xr.DataArray(
        np.full([len(values) for values in coords.values()], np.nan),
        coords,
        list(coords),
        attrs={"long_name": "accuracy", "units": "%"},
    )
    for one, scores in found.items():
        for score in set(SCORES) & set(scores):
            here.loc[{**asdict(one), "score": score}] = scores[score]
    return here


def _published(here: xr.DataArray) -> xr.DataArray:
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    for data, by_net in _PUBLISHED.items():
        for net, by_arm in by_net.items():
            for arm, accuracy in by_arm.items():
                published.loc[{"data_set": data, "net": net, "arm": arm, "score": "clips, best epoch"}] = accuracy
    return published


def _chance(here: xr.DataArray, known: Mapping[str, float]) -> xr.DataArray:
    values = [known.get(str(name), np.nan) for name in here.data_set.values]
    return xr.DataArray(
        values, {"data_set": here.data_set}, ["data_set"], attrs={"long_name": "accuracy by chance", "units": "%"}
    )


def _products(cases: Mapping[str, Sequence[str]], n_classes: int, settings: Preset, is_digits: bool) -> xr.DataArray:
    """Count the products of a forward pass of one clip, from the sizes of the layers alone."""
    arms = [arm for arm in ARMS if any(arm in own for own in cases.values())]
    counts = np.full((len(cases), len(arms)), np.nan)
    n_channels, size = (1, CANVAS) if is_digits else (3, settings.size)
    for row, (net, own) in enumerate(cases.items()):
        for arm in own:
            with torch.device("meta"):
                model = _bare(net, ARMS[arm], n_classes, n_channels)
                clip = torch.zeros(1, n_channels, FRAMES if is_digits else LENGTH, size, size)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.eval()(clip)
            counts[row, arms.index(arm)] = counter.get_total_flops() / 2
    return xr.DataArray(
        counts,
        {"measured_net": list(cases), "measured_arm": arms},
        ["measured_net", "measured_arm"],
        attrs={"long_name": "products for a clip", "units": "1"},
    )


def _bare(net: str, arm: Arm, n_classes: int, n_channels: int) -> nn.Module:
    """Make a network without drawing its weights."""
    if net == _SMALL:
        return small_clip_net(arm, n_classes=n_classes, n_channels=n_channels)
    return ClipResNet(int(net.removeprefix("RN")), arm, n_classes)


def _curves(found: Mapping[_Run, Mapping[str, Any]], settings: Preset) -> dict[str, xr.DataArray]:
    curves = {one: scores["by_epoch"] for one, scores in found.items() if "by_epoch" in scores}
    if not curves:
        return {}
    coords: dict[str, list[Any]] = {
        "seed": list(range(settings.seeds)),
        "measured_net": list(dict.fromkeys(one.net for one in curves)),
        "measured_arm": [arm for arm in ARMS if arm in {one.arm for one in curves}],
        "part": ["validation", "test"],
        "epoch": list(range(1, settings.epochs + 1)),
    }
    values = xr.DataArray(np.full([len(one) for one in coords.values()], np.nan), coords, list(coords))
    for one, curve in curves.items():
        values.loc[{"seed": one.seed, "measured_net": one.net, "measured_arm": one.arm}] = curve
    return {"by_epoch": values.assign_attrs(long_name="accuracy of clips after each epoch", units="%")}


def _shown_digits() -> xr.DataArray:
    _, held_out = load_digits(enlarged=1)
    generator = torch.Generator().manual_seed(_TEST_SEED)
    return _frames(torch.cat([task_clips(task, held_out, count=1, generator=generator).frames for task in TASKS]))


def _shown_videos(splits: Splits, size: int) -> xr.DataArray:
    chosen = evenly_spaced(len(splits.test), _SHOWN)
    return _frames(torch.stack([middle_clip(splits.test, index, 0, size=size) for index in chosen]))


def _frames(clips: Tensor) -> xr.DataArray:
    return keep_shown({f"frame {place + 1}": clips[:, :, place] for place in _SHOWN_FRAMES})
