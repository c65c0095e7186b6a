"""AugShift beside plain training, BlurPool and polyphase sampling: accuracy, consistency, and size of the latent."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import TensorDataset

from probe.analyses.augshift.arms import ARMS, LARGE_NET, SMALL_NET, Arm, Views, make_net, named_weight
from probe.analyses.data.crops import random_crops
from probe.analyses.data.shown import keep_shown
from probe.analyses.data.splits import SmallImages, check_folder, small_images
from probe.analyses.nets import AugShift
from probe.analyses.studies import Study, choose_preset, on_dims, study_result, with_published_places
from probe.analyses.training import ONE_CYCLE, Recipe, side_by_side, train, training_bar, training_device
from probe.images.numbering import evenly_spaced
from probe.measures.consistency import shift_consistency

__all__ = ["APS_LAW", "PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="augshift",
    title="AugShift: two shifted views pulled together",
    question="Does pulling the pooled features of two shifted views together make a classifier consistent under shifts "
    "without costing accuracy?",
    source="M. A. Islam, M. Kowal, S. Jia, K. G. Derpanis, N. D. B. Bruce, “Global Pooling, More than Meets the Eye: "
    "Position Information is Encoded Channel-Wise in CNNs”, ICCV 2021; numbers from the slides of the talk (single "
    "runs: consistency is higher with AugShift than with BlurPool, and with BlurPool than without, on both data sets).",
    protocol=(
        "Two windows of an image go through one network. Loss: the mean cross-entropy of both, and a weight times the "
        "mean squared distance of their pooled features (the latents).",
        "As published (preset paper): ResNet-18 on CIFAR-10 or CIFAR-100.",
        "Accuracy is that of the middle window of each test image. Consistency is the share of 5 pairs of windows of "
        "an image, at two different places drawn for each image, with the same prediction, of 81 places; beside it "
        "stands the consistency under circular shifts of the middle window, by −3 to 3.",
        "Size of the latent: its mean norm, and the squared distance of the latents of two windows as a part of their "
        "variance over images: a distance alone can be made small by making all latents small.",
    ),
    departures=(
        "No code has been released, and size and range of the crops, weight, latent, optimiser, epochs, augmentation "
        "of the plain network, the filter of BlurPool and the law of consistency are not told. "
        "Ours: windows of 32 pixels of images with a "
        "border of 4 pixels of zeros (preset paper), the latent after global average pooling, weights 0.1, 1 and 10, "
        "BlurPool of (1, 2, 1) / 4 that continues maps with zeros, both views mirrored alike and in one batch. "
        "Published AugShift stands beside weight 1, the published plain "
        "network beside ours with crops.",
        "Optimiser of the preset paper, from the nearest documented study (APS, Chaman and Dokmanić 2021): SGD 0.1, "
        "momentum 0.9, weight decay 5·10⁻⁴, batches of 256, 250 epochs, a tenth of the rate every 100; all training "
        "images, and the last epoch is tested. That preset also gives the consistency by the law of APS: shifts by −3 "
        "to 2 with zeros, one pair for a batch, which may coincide.",
        "Controls of ours: no crops; two views at weight 0, which is the augmentation without the distance; twice the "
        "steps on one view, which are as many passes; polyphase sampling with circular padding, whose consistency "
        "under circular shifts must be 100 %.",
        "The presets tiny and quick train ResNet-8 with AdamW on one cycle, on 24×24 windows of 32×32 pixels, of "
        "scikit-learn's digits or of the folder: windows of real neighbouring pixels.",
    ),
    times={
        "tiny": "3 s",
        "quick": "8 min on 2 CPU cores",
        "paper": "about 45 hours on a GPU for each data set (not run)",
    },
)

APS_LAW = "consistency, law of APS"

_PUBLISHED = {
    "CIFAR-10": {"plain": (93.1, 90.8), "BlurPool": (92.5, 92.5), named_weight(1): (92.1, 94.8)},
    "CIFAR-100": {"plain": (72.6, 70.1), "BlurPool": (72.4, 78.2), named_weight(1): (72.6, 85.6)},
}
_CLASSES_OF = {"CIFAR-10": (10, {"airplane", "frog", "truck"}), "CIFAR-100": (100, {"apple", "aquarium_fish", "worm"})}
_OF_APS = Recipe(rate=0.1, momentum=0.9, weight_decay=5e-4, drops=(0.4, 0.8))
_EPOCHS = 250
_FROM_FOLDER = 10_000  # training images of the preset quick
_CIRCULAR = 3
_AT_ONCE = 256
_SHOWN = 3


@dataclass(frozen=True)
class Preset:
    """How many networks are trained, and on how much.

    Attributes
    ----------
    net
        Which network.
    arms
        Names from `probe.analyses.augshift.arms.ARMS`.
    seeds
        Networks of each arm.
    n_training, n_test
        Images; None for all.
    steps
        Of training; None for 250 epochs.
    batch_size
        Images at a time.
    window, border
        Rows and columns that networks see, and zeros around images.
    recipe
        How weights are updated.
    width
        Channels of the first stage; None for the usual.
    """

    net: str
    arms: tuple[str, ...]
    seeds: int
    n_training: int | None
    n_test: int | None
    steps: int | None
    batch_size: int
    window: int = 24
    border: int = 0
    recipe: Recipe = ONE_CYCLE
    width: int | None = None


PRESETS = {
    "tiny": Preset(SMALL_NET, ("plain", "polyphase", named_weight(1)), 2, 64, 40, 5, 16, width=4),
    "quick": Preset(SMALL_NET, tuple(ARMS), 3, 1200, 400, 300, 64),
    "paper": Preset(LARGE_NET, tuple(ARMS), 3, None, None, None, 256, window=32, border=4, recipe=_OF_APS),
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
    """Train classifiers with and without AugShift, and measure how accurate and how consistent they are.

    Parameters
    ----------
    images
        Folder with ``train/<class>/<image file>`` and ``test/<class>/<image file>``, such as CIFAR-10 or CIFAR-100,
        which are known by their classes. By default digits, but in the preset ``paper``; ``tiny`` takes no folder.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each arm; by default that of the preset.
    device
        Where to train and to test.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`: ``here``, on (data_set, arm, score), in per cent; behind our own
        data set stand those of the published numbers, where nothing was measured. ``score`` is
        ``accuracy``, ``consistency``, ``consistency, circular``, and in the preset ``paper`` the consistency by the law
        of APS. Beside it, by seed: ``subset_consistency`` of images that are classified right and wrong as they stand;
        ``latent_norm`` and ``latent_distance``, a part of the latents' variance.

    Raises
    ------
    ArgumentError
        If an argument has no such value, `paper` has no images, or `tiny` has some.
    ImagesError
        If the folder does not hold such images.
    TooLargeError
        If images or batches do not fit into memory.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> result.here.sel(data_set="digits", arm="polyphase", score="consistency, circular").item()
    100.0
    """
    started = time.monotonic()
    chosen = choose_preset(PRESETS, preset, seeds)
    check_folder(images, preset, needed="CIFAR-10 or CIFAR-100", where="CIFAR-10")
    n_training = _FROM_FOLDER if images is not None and preset == "quick" else chosen.n_training
    found = small_images(images, (n_training, chosen.n_test))
    views = Views.of(found, window=chosen.window, border=chosen.border)
    data = _name_of(found)
    measured = _measure_all(views, len(found.classes), data, chosen, training_device(device), progress)
    measured = with_published_places(measured, {"data_set": list(_PUBLISHED)})
    here = measured["value"].assign_attrs(long_name="accuracy or consistency", units="%")
    return study_result(
        STUDY,
        _published(here),
        here,
        preset=preset,
        settings={**asdict(chosen), "images": found.source, "n_training": len(views.training)},
        started=started,
        others={str(name): measured[name] for name in measured.data_vars if name != "value"}
        | {"shown_image": _shown(views)},
        command=command,
    )


def _name_of(found: SmallImages) -> str:
    """Tell the data sets that have been published by their classes."""
    for name, (count, some) in _CLASSES_OF.items():
        if len(found.classes) == count and some <= set(found.classes):
            return name
    return found.source


def _measure_all(
    views: Views, n_classes: int, data: str, chosen: Preset, device: torch.device, progress: bool
) -> xr.Dataset:
    """Train the networks, and test each when it is done."""
    steps = chosen.steps or _EPOCHS * max(len(views.training) // chosen.batch_size, 1)
    total = steps * chosen.seeds * sum(ARMS[name].longer for name in chosen.arms)
    measured = []
    with training_bar(STUDY.name, total, progress) as done, side_by_side(device) as pool:
        for seed in range(chosen.seeds):  # one seed's networks at a time are kept in memory
            jobs = []
            for arm in (ARMS[name] for name in chosen.arms):
                # Made here, since the random state is shared by all threads.
                model = make_net(chosen.net, arm, n_classes=n_classes, seed=seed, width=chosen.width)
                jobs.append((model, pool.submit(_train, model, arm, views, chosen, steps, seed, device, done)))
            for model, job in jobs:
                job.result()
                measured.append(_measure(model, views, seed, device, with_aps=chosen.net == LARGE_NET))
                model.to("cpu")
    return on_dims(measured, {"seed": range(chosen.seeds), "data_set": [data], "arm": list(chosen.arms)})


def _train(
    model: AugShift, arm: Arm, views: Views, chosen: Preset, steps: int, seed: int, device: torch.device, done: Any
) -> None:
    batches = views.batches(arm, steps=steps, batch_size=chosen.batch_size, seed=seed)
    train(model.to(device), batches, steps=arm.longer * steps, recipe=chosen.recipe, loss=arm.loss, done=done)


def _measure(model: AugShift, views: Views, seed: int, device: torch.device, *, with_aps: bool) -> xr.Dataset:
    whole = TensorDataset(views.test.images, views.test.labels)
    middle = TensorDataset(views.middle.images, views.middle.labels)
    options: dict[str, Any] = {
        "labels": True,
        "seed": seed,
        "device": device,
        "progress": False,
        "batch_size": _AT_ONCE,
    }
    crops = shift_consistency(model, whole, law="crop", reach=views.room, diagonal=False, **options)
    rolls = shift_consistency(model, middle, law="circular", reach=_CIRCULAR, diagonal=False, **options)
    scores = {
        "accuracy": float(crops.accuracy),
        "consistency": float(crops.consistency.sel(subset="all")),
        "consistency, circular": float(rolls.consistency.sel(subset="all")),
    }
    if with_aps:
        aps = shift_consistency(model, middle, law="chaman_zero", diagonal=False, **options)
        scores[APS_LAW] = float(aps.consistency.sel(subset="all"))
    norm, distance = _latents(model, views, seed)
    return xr.Dataset(
        {
            "value": ("score", [100 * value for value in scores.values()]),
            "subset_consistency": (
                "subset", 100 * crops.consistency.values, _about("consistency of these images", "%")
            ),
            "latent_norm": ((), norm, _about("mean norm of the latent")),
            "latent_distance": ((), distance, _about("squared distance of two views' latents, part of their variance")),
        },
        {"score": list(scores), "subset": crops["subset"].values},
    )  # fmt: skip


def _about(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def _latents(model: AugShift, views: Views, seed: int) -> tuple[float, float]:
    """Return the mean norm of the latents of the middle windows, and how far those of two windows are apart."""
    generator = torch.Generator().manual_seed(seed)
    shown = [views.middle.images, *(random_crops(views.test.images, views.window, generator) for _ in range(2))]
    middle, first, second = (_encoded(model, windows) for windows in shown)
    variance = (first.var(dim=0).mean() + second.var(dim=0).mean()) / 2
    distance = (first - second).square().mean()
    return float(middle.norm(dim=1).mean()), float(distance / variance) if variance > 0 else float("nan")


def _encoded(model: AugShift, images: Tensor) -> Tensor:
    device = model.head.weight.device
    with torch.no_grad():
        return torch.cat([model.encoder(part.to(device)).double().cpu() for part in images.split(_AT_ONCE)])


def _published(here: xr.DataArray) -> xr.DataArray:
    """Return the published numbers in the shape of ours, NaN where there are none."""
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    places: Mapping[str, int] = {"accuracy": 0, "consistency": 1}
    for data, arms in _PUBLISHED.items():
        for arm, values in arms.items():
            for score, place in places.items():
                if data in published.data_set and arm in published.arm:
                    published.loc[{"data_set": data, "arm": arm, "score": score}] = values[place]
    return published


def _shown(views: Views) -> xr.DataArray:
    """Keep two windows of a few test images."""
    chosen = views.test[evenly_spaced(len(views.test), _SHOWN)]
    generator = torch.Generator().manual_seed(0)
    names: Sequence[str] = ("first view", "second view")
    return keep_shown({name: random_crops(chosen.images, views.window, generator) for name in names})
