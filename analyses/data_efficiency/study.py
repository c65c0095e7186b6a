"""Classifiers of other borders, trained on ever fewer images: of equally many epochs, and of equally many steps."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.analyses.data.shown import keep_shown
from probe.analyses.data.splits import check_folder
from probe.analyses.data_efficiency.subsets import (
    SCORES,
    OnCanvases,
    Shown,
    digits_on_canvases,
    files,
    nested_subset,
    small_folder,
)
from probe.analyses.nets import residual_net, seeded, small_net
from probe.analyses.studies import Study, choose_preset, on_dims, study_result, with_published_places
from probe.analyses.training import ONE_CYCLE, Recipe, side_by_side, train, training_bar, training_device
from probe.errors import ArgumentError
from probe.variants.padding import with_padding

__all__ = ["ARMS", "PRESETS", "SCHEDULES", "STUDY", "Preset", "make_net", "n_steps", "run"]

STUDY = Study(
    name="data_efficiency",
    title="Few training images: S-Conv and F-Conv",
    question="Does taking away the position that borders tell pay when training images are few?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment on data efficiency in classification; numbers read off its "
    "figure (S-Conv printed, F-Conv within 0.05 points): F-Conv is ahead at 50 to 500 images a class, the more the "
    "fewer there are, and equal on all.",
    protocol=(
        "As published (preset paper): ResNet-50 from scratch on 50, 100, 250, 500 and all images of each of the 1,000 "
        "classes of ImageNet, windows of 224 pixels of any size and place, mirrored; SGD 0.1, momentum 0.9, weight "
        "decay 10⁻⁴, batches of 256, 90 epochs, a tenth of the rate every 30. Tested: the middle 224 of 256 pixels.",
        "Equal epochs, as published, give fewer images fewer steps: 90 epochs are 450,000 steps on all images and "
        "17,600 on 50 a class. Equal steps give each subset as many steps as all images get.",
        "The size of a subset is its number of images of each class. Subsets are nested, and drawn anew for each seed; "
        "all arms of a seed see the same images. S: S-Conv, which pads with zeros; F: F-Conv, which pads fully.",
        "Elsewhere: the test images where no training image stood. Small images stand on canvases of 32×32 pixels, in "
        "training in the upper part, elsewhere in the lower one, at any column. Large ones stand at half their size in "
        "the four corners of a canvas of the mean colour.",
        "“At one place”: the same without crops; each training image always stands at one place.",
    ),
    departures=(
        "The last epoch is tested. The published code keeps the best epoch on the images that it is tested on; which "
        "of both the figure shows is not told.",
        "Only the published list of 50 images a class is known; whether the subsets nest, and the other lists, are "
        "not. Ours are drawn for each seed, where the source has one subset and one run.",
        "Equal steps, nets without crops, the test elsewhere, and F-Conv with the max pooling of S-Conv are ours. "
        "F-Conv takes three times the multiplications of S-Conv.",
        "The presets tiny and quick train four convolutions, without max pooling, with AdamW on one cycle, on "
        "scikit-learn's digits or a folder such as CIFAR-10 at 16×16 pixels: this answers the question on small "
        "images, and not the published numbers. Circular and no padding are ours.",
    ),
    times={
        "tiny": "3 s",
        "quick": "7 min on 2 CPU cores",
        "paper": "about 2,500 hours on a GPU (not run); 13 for a ResNet-50 of S-Conv on all images",
    },
)

SCHEDULES = ("equal epochs", "equal steps")

ARMS = (
    "S", "F", "F, S's pool", "circular", "valid", "S, at one place", "F, at one place",
)  # fmt: skip
"""S-Conv pads with zeros, F-Conv fully; which of them a preset trains is its own."""

_PADDING = {"S": "zeros", "F": "full", "circular": "circular", "valid": "valid"}
_AT_ONE_PLACE = ", at one place"
_ALL = "all"
_PUBLISHED = {
    "50": {"S": 26.39, "F": 31.15},
    "100": {"S": 43.99, "F": 47.35},
    "250": {"S": 59.67, "F": 62.86},
    "500": {"S": 68.82, "F": 70.14},
    _ALL: {"S": 75.75, "F": 75.77},
}
_AS_PUBLISHED = Recipe(rate=0.1, momentum=0.9, weight_decay=1e-4, drops=(1 / 3, 2 / 3))
_EPOCHS = 90
_FROM_FOLDER = (10, 50, 200)  # images a class of the preset quick
_MOST_TESTED = 2_000
_SHOWN = 3


@dataclass(frozen=True)
class Preset:
    """How many networks are trained, and on how much.

    Attributes
    ----------
    arms
        Some of `ARMS`.
    sizes
        Images of each class; None for all.
    seeds
        Networks of each arm and size.
    n_training, n_test
        Images to choose from, and to test on; None for all.
    steps
        On the largest subset; None for 90 epochs. Equal epochs are as many over each as these are over the largest.
    batch_size
        Images at a time, or all where there are fewer.
    width
        Factor to the channels of small networks; 0 for ResNet-50.
    recipe
        How weights are updated.
    """

    arms: tuple[str, ...]
    sizes: tuple[int | None, ...]
    seeds: int
    n_training: int | None
    n_test: int | None
    steps: int | None
    batch_size: int
    width: int
    recipe: Recipe = ONE_CYCLE


_SMALL_ARMS = ("S", "F", "circular", "valid", "S, at one place", "F, at one place")
_LARGE_ARMS = ("S", "F", "F, S's pool", "S, at one place", "F, at one place")

PRESETS = {
    "tiny": Preset(("S", "F"), (2, 8), 2, 300, 40, 8, 16, 1),
    "quick": Preset(_SMALL_ARMS, (5, 20, 80, None), 3, None, None, 260, 32, 2),
    "paper": Preset(_LARGE_ARMS, (50, 100, 250, 500, None), 3, None, None, None, 256, 0, _AS_PUBLISHED),
}


def run(
    *,
    images: str | Path | None = None,
    preset: str = "quick",
    seeds: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train classifiers on subsets of the training images, and test them as trained and elsewhere.

    Parameters
    ----------
    images
        Folder with ``train/<class>/<image file>`` and ``test/<class>/<image file>`` (or ``val``). By default digits,
        but in the preset ``paper``, which reads large images as it needs them; ``tiny`` takes no folder.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each arm and size; by default that of the preset.
    device
        Where to train and to test.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`: ``here``, on (size, schedule, arm, score), in per cent. ``size`` is
        the number of images of each class, as text, or ``all``, and behind them those of the published numbers, such as
        ``50 of ImageNet``, where nothing was measured; ``score`` is ``accuracy`` or ``elsewhere``. Beside it
        ``n_images`` on (size), and ``steps`` on (size, schedule).

    Raises
    ------
    ArgumentError
        If an argument has no such value, `paper` has no images, or `tiny` has some.
    ImagesError
        If the folder does not hold such images, or too few of a class.
    TooLargeError
        If images or batches do not fit into memory.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> dict(result.here.dropna("size").sizes)
    {'size': 2, 'schedule': 2, 'arm': 2, 'score': 2}
    """
    started = time.monotonic()
    chosen = choose_preset(PRESETS, preset, seeds)
    shown, sizes = _shown_images(images, preset, chosen)
    found = _train_all(shown, sizes, chosen, training_device(device), progress)
    published = _by_place(is_imagenet=preset == "paper")
    found = with_published_places(found, {"size": list(published)})
    here = found["value"].assign_attrs(long_name="accuracy", units="%")
    return study_result(
        STUDY,
        _published(here, published),
        here,
        preset=preset,
        settings={**asdict(chosen), "sizes": list(map(_named, sizes)), "images": shown.source},
        started=started,
        others={name: found[name] for name in ("n_images", "steps")} | _shown(shown),
        command=command,
    )


def _shown_images(images: str | Path | None, preset: str, chosen: Preset) -> tuple[Shown, tuple[int | None, ...]]:
    check_folder(images, preset, needed="ImageNet", where="ImageNet")
    if images is None:
        return digits_on_canvases(chosen.n_training, chosen.n_test), chosen.sizes
    if preset == "paper":
        return files(images, torch.get_num_threads()), chosen.sizes
    return small_folder(images, _MOST_TESTED), _FROM_FOLDER


def _named(size: int | None) -> str:
    return _ALL if size is None else str(size)


def make_net(arm: str, *, n_classes: int, seed: int, width: int) -> nn.Module:
    """Make an untrained network of an arm; all arms of a seed begin with the same weights.

    Parameters
    ----------
    arm
        One of `ARMS`.
    n_classes, seed
        Number of classes, and seed of the weights.
    width
        As in `probe.analyses.nets.small_net`; 0 for ResNet-50.

    Raises
    ------
    ArgumentError
        If the network has no max pooling to choose, or this padding has not been built for it.

    Examples
    --------
    >>> make_net("valid", n_classes=3, seed=0, width=1)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3])
    """
    border, _, pool = arm.removesuffix(_AT_ONE_PLACE).partition(", ")
    if arm not in ARMS or (pool and width) or (border not in ("S", "F") and not width):
        raise ArgumentError(f"arm={arm!r}: there is no such network. Expected one of {', '.join(ARMS)}.")
    if width:
        net: nn.Module = small_net(n_classes=n_classes, n_channels=3, width=width, seed=seed)
        return net if border == "S" else with_padding(net, _PADDING[border])
    side = "full" if border == "F" else "same"
    return seeded(lambda: residual_net(50, n_classes=n_classes, border=side, pool="same" if pool else None), seed)


def n_steps(n_images: int, largest: int, *, epochs: float, batch_size: int, schedule: str) -> int:
    """Return for how many steps a network is trained.

    Parameters
    ----------
    n_images, largest
        Images in its subset, and in the largest one.
    epochs, batch_size
        Over the largest subset.
    schedule
        One of `SCHEDULES`.

    Examples
    --------
    >>> [n_steps(50_000, 1_281_167, epochs=90, batch_size=256, schedule=schedule) for schedule in SCHEDULES]
    [17578, 450410]
    """
    counted = n_images if schedule == "equal epochs" else largest
    return max(round(epochs * counted / min(batch_size, counted)), 1)


def _train_all(
    shown: Shown, sizes: tuple[int | None, ...], chosen: Preset, device: torch.device, progress: bool
) -> xr.Dataset:
    subsets = {
        (seed, size): nested_subset(shown.labels, size, seed) for seed, size in product(range(chosen.seeds), sizes)
    }
    counts = {size: len(subsets[0, size]) for size in sizes}
    largest = max(counts.values())
    epochs = chosen.steps * min(chosen.batch_size, largest) / largest if chosen.steps else _EPOCHS
    steps = {
        (size, schedule): n_steps(counts[size], largest, epochs=epochs, batch_size=chosen.batch_size, schedule=schedule)
        for size, schedule in product(sizes, SCHEDULES)
    }
    key = list(product(range(chosen.seeds), sizes, SCHEDULES, chosen.arms))
    # Where both schedules are one, one network stands for both.
    own = {case: case for case in key}
    for seed, size, _, arm in key:
        if steps[size, SCHEDULES[0]] == steps[size, SCHEDULES[1]]:
            own[seed, size, SCHEDULES[1], arm] = (seed, size, SCHEDULES[0], arm)
    trained = [case for case in key if own[case] == case]
    with (
        training_bar(STUDY.name, sum(steps[size, schedule] for _, size, schedule, _ in trained), progress) as done,
        side_by_side(device) as pool,
    ):
        scores: dict[Any, Mapping[str, float]] = {}
        for seed in range(chosen.seeds):  # one seed's networks at a time are kept in memory
            jobs = {}
            for case in [case for case in trained if case[0] == seed]:
                _, size, schedule, arm = case
                # Made here, since the random state is shared by all threads.
                model = make_net(arm, n_classes=shown.n_classes, seed=seed, width=chosen.width)
                batches = shown.batches(
                    subsets[seed, size], steps=steps[size, schedule], batch_size=chosen.batch_size, seed=seed,
                    anew=not arm.endswith(_AT_ONE_PLACE),
                )  # fmt: skip
                jobs[case] = pool.submit(
                    _scores, model, shown, batches, device, steps=steps[size, schedule], recipe=chosen.recipe, done=done
                )
            scores |= {case: job.result() for case, job in jobs.items()}
    cases = [
        xr.Dataset({"value": ("score", [100 * scores[own[case]][score] for score in SCORES])}, {"score": list(SCORES)})
        for case in key
    ]
    names = [_named(size) for size in sizes]
    found = on_dims(
        cases, {"seed": range(chosen.seeds), "size": names, "schedule": SCHEDULES, "arm": list(chosen.arms)}
    )
    found["n_images"] = ("size", [counts[size] for size in sizes], _about("training images", "1"))
    found["steps"] = (
        ("size", "schedule"), [[steps[size, schedule] for schedule in SCHEDULES] for size in sizes],
        _about("steps of training", "1"),
    )  # fmt: skip
    return found


def _scores(model: nn.Module, shown: Shown, batches: Any, device: torch.device, **given: Any) -> Mapping[str, float]:
    train(model.to(device), batches, **given)
    return shown.test(model, device)


def _about(long_name: str, units: str) -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def _by_place(*, is_imagenet: bool) -> dict[str, Mapping[str, float]]:
    """Return the published accuracy of each arm by ``size``, whose images a class are not those of other images."""
    return {size if is_imagenet else f"{size} of ImageNet": by_arm for size, by_arm in _PUBLISHED.items()}


def _published(here: xr.DataArray, by_place: Mapping[str, Mapping[str, float]]) -> xr.DataArray:
    """Return the published numbers in the shape of ours, NaN where there are none."""
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    for size, by_arm in by_place.items():
        for arm, value in by_arm.items():
            published.loc[{"size": size, "schedule": SCHEDULES[0], "arm": arm, "score": "accuracy"}] = value
    return published


def _shown(shown: Shown) -> dict[str, xr.DataArray]:
    """Keep a few small images as in training and elsewhere."""
    if not isinstance(shown, OnCanvases):
        return {}
    generator = torch.Generator().manual_seed(0)
    few: Tensor = shown.held_out.images[:_SHOWN]
    names = {"as in training": False, "elsewhere": True}
    return {
        "shown_image": keep_shown(
            {name: shown.place(few, generator, elsewhere=elsewhere) for name, elsewhere in names.items()}
        )
    }
