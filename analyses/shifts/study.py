"""S-Conv and F-Conv, with and without BlurPool, on shifted images; and what a given model owes to either."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.analyses.data.photographs import rows_of
from probe.analyses.data.shown import keep_shown
from probe.analyses.data.splits import check_folder
from probe.analyses.nets import multiply_adds
from probe.analyses.shifts.arms import ARMS, SMALL_NET, Task, large_task, make_arm, small_task
from probe.analyses.shifts.given import OWN, measure_given
from probe.analyses.shifts.scores import numbers_of
from probe.analyses.studies import Study, choose_preset, on_dims, study_result, with_published_places
from probe.analyses.training import ONE_CYCLE, Recipe, side_by_side, train, training_bar, training_device
from probe.errors import ArgumentError
from probe.images.folders import Unreadable
from probe.images.numbering import evenly_spaced
from probe.images.rows import Transform, as_tensor, image_in
from probe.measures.consistency import shift_consistency

__all__ = ["OWN", "PRESETS", "PUBLISHED_LAW", "STUDY", "Preset", "run"]

_PAIRS = (
    "Consistency: share of pairs of windows of an image, at two places, with the same prediction; 5 pairs an image "
    "(tiny: 2)."
)
_DISTINCT = (
    "Two shifts of a pair differ and are drawn for each image. The published ones are shared by a batch of 256, may "
    "coincide, and never reach the last offset of the diagonal."
)

STUDY = Study(
    name="shifts",
    title="Shifted images: F-Conv and BlurPool",
    question="Does taking away the position that borders tell make classifiers more accurate and more consistent on "
    "shifted images, alone and together with anti-aliasing?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment on image shifts; numbers from the README of its code, where "
    "both scores are higher for F-Conv than for S-Conv in 8 of 8 comparisons, and highest for F-Conv with BlurPool.",
    protocol=(
        "S-Conv (S) pads each map with half a kernel of zeros, F-Conv (F) with a kernel less one pixel. Of each there "
        "is a version with BlurPool (S+B, F+B), (1, 2, 1) / 4, before all sub-sampling but that of the first "
        "convolution.",
        "As published (preset paper): ResNet-18 to 101 from scratch on 200 classes of ImageNet, windows of 224 "
        "pixels of any size and place, mirrored; SGD 0.1, momentum 0.9, weight decay 10⁻⁴, batches of 256, 90 "
        "epochs, a tenth of the rate every 30.",
        "Diagonal: accuracy over the windows at (d, d) of each test image, d = 0, 1, …, the largest shift (64 of 288 "
        "pixels; small images: 8 of 32).",
        _PAIRS,
    ),
    departures=(
        "All arms have as many outputs as classes; the published S-Conv nets have 1,000 for 200 classes.",
        f"{_DISTINCT} The preset paper gives both.",
        "The last epoch is tested. The published code chooses the epoch on the images that it is tested on.",
        "Two controls are ours: F-Conv with the max pooling of S-Conv (3×3 with a border, in place of 2×2 without), "
        "and F-Conv with so few channels that it takes no more multiplications than S-Conv. F-Conv takes 3 to 10 times "
        "as many, for larger maps, and no control for it has been published. The narrower nets have fewer parameters.",
        "The presets tiny and quick train ResNet-8 with AdamW on one cycle, on 24×24 windows of 32×32 pixels, of "
        "scikit-learn's digits or of a folder such as CIFAR-10; it has no max pooling to control for. Windows are of "
        "one size.",
        "Published BlurPool nets pad the blur with zeros, as ours do; Zhang's reflect.",
    ),
    times={
        "tiny": "3 s",
        "quick": "7 min on 2 CPU cores; of a given model by its size",
        "paper": "about 1,000 hours on a GPU (not run); 23 million images a network",
    },
)

_OF_A_GIVEN_MODEL = replace(
    STUDY,
    question="Is a trained classifier as accurate and as consistent on shifted images with another padding, or another "
    "sampling?",
    protocol=(
        "The model is not trained: as it is, it stands beside copies of it with the same weights, of another padding "
        "and of another sampling.",
        "Diagonal: accuracy over the windows at (d, d) of each image, d = 0, 1, …, the largest shift, where classes "
        "are known.",
        _PAIRS,
    ),
    departures=(
        "In the original, networks are trained with their padding and their sampling; here the weights are those that "
        "the model has.",
        _DISTINCT,
        "Copies are blurred as Zhang's networks are: the blur reflects at the border. The original pads it with zeros.",
    ),
)

PUBLISHED_LAW = "consistency, published law"

_PUBLISHED = {
    "ResNet-18": ((79.43, 82.74, 81.96, 83.95), (86.43, 88.38, 88.32, 90.03)),
    "ResNet-34": ((82.06, 85.66, 83.73, 86.91), (87.62, 90.12, 89.21, 91.53)),
    "ResNet-50": ((86.36, 87.92, 87.50, 88.93), (90.21, 91.36, 91.68, 92.75)),
    "ResNet-101": ((86.95, 87.78, 88.22, 88.73), (90.76, 91.71, 92.36, 92.86)),
}
_AS_PUBLISHED = Recipe(rate=0.1, momentum=0.9, weight_decay=1e-4, drops=(1 / 3, 2 / 3))
_PADDINGS = ("circular", "reflect", "full")
_EPOCHS = 90
_FROM_FOLDER = 10_000  # training images of the preset quick
_SHOWN = 3


@dataclass(frozen=True)
class Preset:
    """How many networks are trained, on how much, and how a given model is tested.

    Attributes
    ----------
    nets
        Names of networks.
    seeds
        Of each arm.
    n_training, n_test
        Images; None for all of large ones.
    steps
        Of training; None for 90 epochs.
    batch_size
        Images at a time.
    recipe
        How weights are updated.
    width
        Channels of the first stage; None for the usual.
    pairs
        Of shifts, for each image.
    reach, max_images
        Of a given model: largest shift, and images.
    """

    nets: tuple[str, ...]
    seeds: int
    n_training: int | None
    n_test: int | None
    steps: int | None
    batch_size: int
    recipe: Recipe = ONE_CYCLE
    width: int | None = None
    pairs: int = 5
    reach: int = 32
    max_images: int | None = None


PRESETS = {
    "tiny": Preset((SMALL_NET,), 2, 64, 40, 5, 16, width=4, pairs=2, reach=4, max_images=20),
    "quick": Preset((SMALL_NET,), 3, 1200, 400, 600, 64, max_images=50),
    "paper": Preset(tuple(_PUBLISHED), 3, None, None, None, 256, recipe=_AS_PUBLISHED, reach=64),
}


def run(
    model: nn.Module | None = None,
    images: Any = None,
    *,
    labels: Sequence[int] | None = None,
    paddings: Sequence[str] | None = None,
    preset: str = "quick",
    seeds: int | None = None,
    max_images: int | None = None,
    transform: Transform | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Measure how accurate and how consistent classifiers are on shifted images.

    Without a model, networks of each arm are trained. With one, it is compared with copies of it.

    Parameters
    ----------
    model
        A trained classifier; it stays as it was.
    images
        Without a model, a folder with ``train/<class>/`` and ``test/<class>/`` (or ``val/``); by default digits, but in
        the preset ``paper``; ``tiny`` takes no folder. For a given model a folder, Dataset or tensor of images,
        larger by the largest shift (32 pixels in ``quick``, 64 in ``paper``) than what the model is to see of them.
    labels
        For a given model, the class of each image. By default those of a folder with as many folders in it as the model
        has outputs, in sorted order, or of a Dataset with ``targets``; else accuracy is not known.
    paddings
        For a given model, of the copies; by default circular, reflect and full.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each arm, without a model; by default that of the preset.
    max_images, transform
        For a given model, as in `probe.collect`; by default as many images as the preset says, 50 in ``quick``.
    device
        Where to train and to test.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`: ``here``, on (net, arm, score), in per cent; behind the networks
        that were trained stand those of the published numbers, where nothing was measured. ``score`` is
        ``diagonal``, ``consistency``, and in the preset ``paper`` the consistency by the published law. Beside it, by
        seed: ``diagonal_accuracy`` on (net, arm, diagonal), ``subset_consistency`` of images that are classified right
        and wrong as they stand, ``unchanged``, the share of images that never change, ``distance_consistency`` by the
        distance of windows; ``error``, the standard error over images of each number of ``here``; ``same_share``, on
        (arm, image), the share of its pairs that agree; ``multiplications`` and ``parameters`` of the networks.
        Of a given model ``agreement``, the share of images that a copy predicts as the model as it is does, and
        ``commonest``, the share of its commonest prediction.

    Raises
    ------
    ArgumentError
        If an argument has no such value, or has no effect.
    ImagesError
        If the folder does not hold such images.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> dict(result.here.sel(net="ResNet-8").dropna("score").sizes)
    {'arm': 5, 'score': 2}
    """
    started = time.monotonic()
    if model is not None and seeds is not None:
        raise ArgumentError(f"seeds={seeds!r}: a given model is not trained, so it would have no effect. Leave it out.")
    chosen = choose_preset(PRESETS, preset, 1 if model is not None else seeds)
    if model is not None:
        found, facts, warned = measure_given(
            model, images, labels=labels, paddings=_PADDINGS if paddings is None else paddings, pairs=chosen.pairs,
            reach=chosen.reach, max_images=chosen.max_images if max_images is None else max_images,
            transform=transform, device=device, progress=progress,
        )  # fmt: skip
        shown, source = _shown(rows_of(images), transform, chosen.reach), "given model"
    else:
        for name, value in (
            ("labels", labels), ("paddings", paddings), ("max_images", max_images), ("transform", transform),
        ):  # fmt: skip
            if value is not None:
                raise ArgumentError(f"{name}: given without a model, it would have no effect. Pass a model as well.")
        task = _task(images, preset, chosen)
        found, warned = _of_trained(task, preset, chosen, training_device(device), progress), []
        found = with_published_places(found, {"net": list(_PUBLISHED), "score": ["diagonal", PUBLISHED_LAW]})
        facts, shown, source = None, _shown(task.test, task.transform, task.room), task.source
    here = found["value"].assign_attrs(long_name="diagonal accuracy or consistency", units="%")
    others = {str(name): found[name] for name in found.data_vars if name != "value"}
    return study_result(
        STUDY if model is None else _OF_A_GIVEN_MODEL,
        _published(here),
        here,
        preset=preset,
        settings={**asdict(chosen), "images": source, "paddings": paddings and list(paddings)},
        started=started,
        others=others | {"shown_image": shown},
        facts=facts,
        warnings=warned,
        command=command,
    )


def _task(images: Any, preset: str, chosen: Preset) -> Task:
    check_folder(images, preset, needed="ImageNet, or 200 classes of it (published: ImageNet-A's)", where="ImageNet")
    if preset == "paper":
        return large_task(images)
    assert chosen.n_training is not None and chosen.n_test is not None
    if images is not None and not isinstance(images, str | Path):
        raise ArgumentError(f"images: without a model, expected a folder, found a {type(images).__name__}.")
    return small_task(images, chosen.n_training if images is None else _FROM_FOLDER, chosen.n_test)


def _of_trained(task: Task, preset: str, chosen: Preset, device: torch.device, progress: bool) -> xr.Dataset:
    """Train the networks, and test each when it is done."""
    n_training = len(task.training)
    steps = chosen.steps or _EPOCHS * max(n_training // chosen.batch_size, 1)
    num_workers = 0 if chosen.n_training is not None else torch.get_num_threads()
    arms = [arm for arm in ARMS if arm != "F, S's pool" or SMALL_NET not in chosen.nets]
    n_networks = chosen.seeds * len(chosen.nets) * len(arms)
    laws: dict[str, dict[str, Any]] = {"consistency": {"law": "crop", "reach": task.room}}
    if preset == "paper":
        laws[PUBLISHED_LAW] = {"law": "kayhan"}
    measured = []
    with (
        training_bar(STUDY.name, steps * n_networks, progress) as done,
        side_by_side(device) as pool,
    ):
        counts: dict[tuple[str, str], int] = {}
        for seed in range(chosen.seeds):  # one seed's networks at a time are kept in memory
            jobs = {}
            for net, arm in product(chosen.nets, arms):
                # Made here, since the random state is shared by all threads.
                model = make_arm(net, arm, n_classes=task.n_classes, window=task.window, seed=seed, width=chosen.width)
                batches = task.batches(steps=steps, batch_size=chosen.batch_size, seed=seed, num_workers=num_workers)
                jobs[net, arm] = (
                    model,
                    pool.submit(_trained, model, device, batches, steps=steps, recipe=chosen.recipe, done=done),
                )
            for case, (model, job) in jobs.items():
                job.result()
                results = {
                    score: shift_consistency(
                        model, task.test, labels=True, pairs=chosen.pairs, transform=task.transform, device=device,
                        num_workers=num_workers, seed=seed, progress=False, **law,
                    )
                    for score, law in laws.items()
                }  # fmt: skip
                model.to("cpu")
                if case not in counts:
                    counts[case] = multiply_adds(model, (3, task.window, task.window))
                measured.append(numbers_of(results, model, counts[case]))
    by_place: dict[str, Sequence[Any]] = {"seed": range(chosen.seeds), "net": list(chosen.nets), "arm": arms}
    return on_dims(measured, by_place)


def _trained(model: nn.Module, device: torch.device, batches: Any, **given: Any) -> None:
    train(model.to(device), batches, **given)


def _published(here: xr.DataArray) -> xr.DataArray:
    """Return the published numbers in the shape of ours, NaN where there are none."""
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    places = {"diagonal": 0, PUBLISHED_LAW: 1}
    for net, scores in _PUBLISHED.items():
        for score, place in places.items():
            for arm, value in zip(ARMS, scores[place], strict=False):
                if net in published.net and score in published.score and arm in published.arm:
                    published.loc[{"net": net, "arm": arm, "score": score}] = value
    return published


def _shown(rows: Any, transform: Transform | None, room: int) -> xr.DataArray:
    """Keep a few test images in their first and last window along the diagonal."""
    found = [rows[index] for index in evenly_spaced(len(rows), _SHOWN)]
    images = [image_in(row, None) for row in found if not isinstance(row, Unreadable)]
    pixels = [as_tensor(transform(image) if transform else image) for image in images]
    first = [part[:, : part.shape[1] - room, : part.shape[2] - room] for part in pixels]
    last = [part[:, room:, room:] for part in pixels]
    return xr.concat(
        [
            keep_shown({"first window": one[None], "last window": other[None]})
            for one, other in zip(first, last, strict=True)
        ],
        "shown_number",
    )
