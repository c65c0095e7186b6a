"""How far from the border of an image can a network tell location: two corners, ever wider black borders."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.analyses.data.photographs import square_images
from probe.analyses.data.shown import keep_shown
from probe.analyses.quadrants.corners import (
    Corners,
    LastMap,
    build_network,
    fit_readout,
    read_features,
    settle_normalisation,
    train_from_scratch,
)
from probe.analyses.studies import Study, check_preset, study_result
from probe.analyses.training import side_by_side, training_device
from probe.checks import whole_number
from probe.errors import ArgumentError, ImagesError, warn
from probe.images.rows import Transform
from probe.testing import noise_images

__all__ = ["NETS", "STUDY", "TRAININGS", "run"]

NETS = ("bagnet33", "resnet18", "densenet121")
TRAININGS = _RANDOM, _GIVEN, _SCRATCH = ("random, frozen", "given weights, frozen", "from scratch")
_BORDERS = (0, 16, 32, 64, 128, 256, 512)
_TEST_SETS = ("clean", "as published")

STUDY = Study(
    name="quadrants",
    title="How far from the border can location be told?",
    question="Can a network tell whether a patch stands top left or bottom right, when the border is far away?",
    source="Kayhan, van Gemert: On translation invariance in CNNs. CVPR 2020, section 4.2 (Quadrant ImageNet).",
    protocol=(
        "Each image becomes a patch of 56×56 pixels, and stands on a black canvas of 120×120 once in the top left and "
        "once in the bottom right corner; the places differ by 64 pixels, a multiple of all strides.",
        "A black border of 0 to 512 pixels is added on each side. As soon as it is wider than the receptive field, "
        "both places give the same features, and 50 % is all that is left.",
        "Networks: BagNet-33, ResNet-18 (with global maximum, and windows of 2×2 in its max pooling) and DenseNet-121 "
        "(global mean). Random and given weights stay frozen, and a linear readout is fitted to the pooled features; "
        "networks from scratch are trained as a whole.",
        "From scratch: SGD with Nesterov momentum 0.9, weight decay 5·10⁻⁵, batches of 8, up to 30 epochs; the "
        "learning rate of 10⁻³ falls tenfold after 5 epochs without gain on the validation images; the network of "
        "the best epoch is tested.",
        "Each image gives one canvas of either class, so a readout that cannot know the place scores 50 % exactly.",
    ),
    departures=(
        "The published sets for training, validation and testing were the same 2,000 canvases. Here the three have no "
        "image in common; beside the clean accuracy stands, as published, that on the training images.",
        "Published numbers are read off a figure, to about half a percent.",
        "Frozen networks: the readout is a ridge regression on standardised features, not SGD on raw ones, so that "
        "it finds what is there in little time. Features that vary by less than 10⁻⁴ of their size are left out as "
        "rounding errors.",
        "Frozen means frozen: given weights keep the statistics of their batch normalisation, where the original let "
        "them drift. Random networks have none of their own, and take them from the training canvases.",
        "The border is added to the image, which the first convolution pads with 3 pixels more, but for BagNet; in the "
        "original it took the place of that padding.",
        "Black is the mean colour, as in the original: zero after normalisation.",
        "No ImageNet weights come with this package, so nothing is measured with given weights unless they are passed "
        "with weights=. A model of your own is read at its last map, by its global maximum.",
        "The presets tiny and quick take patches of 8 and 24 pixels on canvases of 40 and 56, fewer images, wider "
        "learning steps, and leave out wide borders, where a single image takes seconds.",
    ),
    times={
        "tiny": "3 s",
        "quick": "4 min on 2 CPU cores",
        "paper": "9 hours on a recent GPU, by the number of operations (not run); needs 3,000 images",
    },
)

_PUBLISHED = {  # accuracy by border, on the images of the training
    ("bagnet33", "random, frozen"): (98.7, 79.5, 50, 50, 50, 50, 50),
    ("bagnet33", "given weights, frozen"): (98.8, 96.5, 50, 50, 50, 50, 50),
    ("bagnet33", "from scratch"): (100, 100, 50, 50, 50, 50, 50),
    ("resnet18", "random, frozen"): (100, 100, 100, 80.5, 51.5, 50, 50),
    ("resnet18", "given weights, frozen"): (98.8, 97, 96.3, 97.2, 94, 50, 50),
    ("resnet18", "from scratch"): (100, 100, 100, 100, 100, 100, 50),
    ("densenet121", "random, frozen"): (100, 100, 100, 100, 95.6, 50, 50),
    ("densenet121", "given weights, frozen"): (99.7, 99.4, 99.3, 99.3, 99.7, 87.5, 50),
    ("densenet121", "from scratch"): (100, 100, 100, 100, 100, 100, 50),
}

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_SPLIT_SEED = 1_000_000
_SHOWN, _SHOWN_BORDERS = 2, 2


@dataclass(frozen=True)
class Preset:
    """Borders by network, images in each of three sets, sizes in pixels, and how long to train."""

    frozen: Mapping[str, Sequence[int]]
    scratch: Mapping[str, Sequence[int]]
    n_images: int
    patch: int
    canvas: int
    epochs: int
    learning_rate: float
    seeds: int


_PRESETS = {
    "tiny": Preset(
        frozen={"bagnet33": (32,), "resnet18": (0,)},
        scratch={"resnet18": (0,)},
        n_images=3,
        patch=8,
        canvas=40,
        epochs=1,
        learning_rate=0.01,
        seeds=2,
    ),
    "quick": Preset(
        frozen={"bagnet33": (0, 16, 32), "resnet18": (0, 16, 32, 64, 128), "densenet121": (0, 16, 32, 64, 128)},
        scratch={"bagnet33": (0,), "resnet18": (0, 32, 64), "densenet121": (0, 32)},
        n_images=16,
        patch=24,
        canvas=56,
        epochs=8,
        learning_rate=0.01,
        seeds=3,
    ),
    "paper": Preset(
        frozen=dict.fromkeys(NETS, _BORDERS),
        scratch=dict.fromkeys(NETS, _BORDERS),
        n_images=1000,
        patch=56,
        canvas=120,
        epochs=30,
        learning_rate=0.001,
        seeds=3,
    ),
}


def run(
    model: nn.Module | None = None,
    images: Any = None,
    *,
    preset: str = "quick",
    seeds: int | None = None,
    weights: Mapping[str, Any] | None = None,
    transform: Transform | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Tell top left from bottom right behind black borders of ever greater width.

    Parameters
    ----------
    model
        A network of your own, frozen as it is, in addition to the published ones. It should take images of any size.
    images
        As in `probe.collect`, values in [0, 1] unless there is a `transform`; without it, smooth noise, in which
        there is nothing to recognise. The presets use up to 9, 48 and 3,000 images.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``. The first two leave out wide borders, and use smaller sizes.
    seeds
        Number of networks of each kind, each with other images for training and testing; by default the preset's.
    weights
        State dicts, or files of them, by name of the network (`NETS`). Those of the last layer are not used.
    transform
        Brings each file to a normalised image, as the weights need it; by default as for ImageNet.
    device
        By default a GPU where there is one.
    progress
        Show a progress bar.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        From `probe.analyses.studies.study_result`, on (net, training, border, test_set): accuracy in percent. NaN where
        a preset leaves something out.

    Raises
    ------
    ArgumentError
        If the preset or a network is unknown, there are no seeds, or there is no such file of weights.
    ModelError
        If weights cannot be read, or do not fit their network.
    ImagesError
        If the preset ``"paper"`` comes without images, or there are too few.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> result.here.sel(net="bagnet33", training="random, frozen", border=32, test_set="clean").item()
    50.0
    """
    started = time.monotonic()
    check_preset(preset)
    chosen = _PRESETS[preset]
    seeds = chosen.seeds if seeds is None else whole_number("seeds", seeds, 1)
    weights = dict(weights or {})
    if unknown := sorted(set(weights) - set(NETS)):
        raise ArgumentError(f"weights: there is no network {unknown[0]!r}; expected some of {', '.join(NETS)}.")
    for name, given in weights.items():
        build_network(name, 0, given)  # refuses those that cannot be loaded, before the long work
    warned: list[str] = []
    patches = _read_patches(images, transform, preset, warned)
    place = training_device(device)
    plan = _plan(chosen, weights, model)
    here = _empty(range(seeds), [name for name, _, _ in plan])
    with (
        side_by_side(place) as pool,
        tqdm(total=seeds * len(plan), unit="network", desc="quadrants", disable=None if progress else True) as bar,
    ):

        def measure(seed: int, name: str, training: str, border: int) -> list[float]:
            sets = [Corners(part, canvas=chosen.canvas, border=border, device=place) for part in _split(patches, seed)]
            given = (weights.get(name) if name in NETS else model) if training == _GIVEN else None
            return _accuracies(name, training, given, sets, chosen, seed)

        jobs = {(seed, *key): pool.submit(measure, seed, *key) for seed in range(seeds) for key in plan}
        for (seed, name, training, border), job in jobs.items():
            here.loc[{"seed": seed, "net": name, "training": training, "border": border}] = job.result()
            bar.update()
    settings = {**asdict(chosen), "seeds": seeds, "n_images": len(patches) // 3, "weights": sorted(weights)}
    return study_result(
        STUDY,
        _published(here),
        here,
        preset=preset,
        settings=settings | {"device": str(place), "images": "noise" if images is None else "given"},
        started=started,
        others={"shown_image": _shown(patches, chosen, [border for _, _, border in plan])},
        warnings=warned,
        command=command,
    )


def _plan(preset: Preset, weights: Mapping[str, Any], model: nn.Module | None) -> list[tuple[str, str, int]]:
    """List (network, training, border) of all that is to be measured."""
    borders = {(name, _RANDOM): borders for name, borders in preset.frozen.items()}
    borders |= {(name, _GIVEN): preset.frozen[name] for name in weights if name in preset.frozen}
    borders |= {(name, _SCRATCH): borders for name, borders in preset.scratch.items()}
    if model is not None:
        borders[type(model).__name__, _GIVEN] = preset.frozen["resnet18"]
    return [(name, training, border) for (name, training), widths in borders.items() for border in widths]


def _accuracies(
    name: str, training: str, given: Any, sets: Sequence[Corners], preset: Preset, seed: int
) -> list[float]:
    """Return the accuracy of one network on clean test canvases, and on those of its training."""
    train, validation, test = sets
    is_own = isinstance(given, nn.Module)
    network = (LastMap(given, preset.canvas) if is_own else build_network(name, seed, given)).to(train.device)
    if training == _SCRATCH:
        model = train_from_scratch(
            network, train, validation, epochs=preset.epochs, learning_rate=preset.learning_rate, seed=seed
        )
        outputs = read_features(model, test), read_features(model, train)
        return [_percent_right(logits.argmax(dim=1), classes) for logits, classes in outputs]
    if training == _RANDOM:
        settle_normalisation(network, train)
    outputs = read_features(network, test), read_features(network, train)
    readout = fit_readout(*outputs[1])
    return [_percent_right(readout(features), classes) for features, classes in outputs]


def _percent_right(predicted: Tensor, classes: Tensor) -> float:
    return 100 * float((predicted == classes).double().mean())


def _shown(patches: Tensor, preset: Preset, borders: Sequence[int]) -> xr.DataArray:
    """Keep the canvases of a few patches, without a border and with the narrowest one."""
    shown = {}
    for border in sorted(set(borders))[:_SHOWN_BORDERS]:
        corners = Corners(patches[:_SHOWN], canvas=preset.canvas, border=border, device=torch.device("cpu"))
        canvases = torch.cat([batch for batch, _ in corners.batches()])
        for place, corner in enumerate(("top left", "bottom right")):
            shown[f"{corner}, border {border}"] = canvases[place::2]
    return keep_shown(shown)


def _read_patches(images: Any, transform: Transform | None, preset: str, warned: list[str]) -> Tensor:
    """Return normalised patches for training, validation and testing, three times as many as each set has."""
    chosen = _PRESETS[preset]
    wanted = 3 * chosen.n_images
    if images is None and preset == "paper":
        raise ImagesError(
            "images: the paper preset needs a folder of at least 3,000 images. Get the validation images of "
            "ILSVRC 2012 at https://image-net.org (free for research, after registration), unpack them anywhere, and "
            "pass that folder as images= (--images)."
        )
    if images is None:
        return noise_images(wanted, chosen.patch, smooth=4)
    patches = square_images(images, size=chosen.patch, max_images=wanted, transform=transform)
    if len(patches) < 6:
        raise ImagesError(f"images: found {len(patches)}; expected at least 6, two in each of three sets.")
    if len(patches) < wanted:
        warn(f"images: {len(patches)} are fewer than the {wanted} of the preset {preset!r}.", warned)
    if transform is not None:
        return patches
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (patches - mean) / deviation


def _split(patches: Tensor, seed: int) -> list[Tensor]:
    """Return patches for training, validation and testing; other ones for each seed."""
    order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(_SPLIT_SEED + seed))
    size = len(patches) // 3
    return [patches[order[start : start + size]] for start in (0, size, 2 * size)]


def _empty(seeds: Sequence[int], measured: Sequence[str]) -> xr.DataArray:
    coordinates: dict[str, list[Any]] = {
        "seed": list(seeds),
        "net": list(dict.fromkeys([*NETS, *measured])),
        "training": list(TRAININGS),
        "border": list(_BORDERS),
        "test_set": list(_TEST_SETS),
    }
    attributes = {"long_name": "accuracy at telling top left from bottom right", "units": "%"}
    shape = [len(values) for values in coordinates.values()]
    values = xr.DataArray(np.full(shape, np.nan), coords=coordinates, attrs=attributes)
    values.border.attrs = {"long_name": "width of the black border", "units": "pixel"}
    return values


def _published(here: xr.DataArray) -> xr.DataArray:
    published = here.isel(seed=0, drop=True).copy(data=np.full(here.shape[1:], np.nan))
    for (name, training), percents in _PUBLISHED.items():
        published.loc[{"net": name, "training": training, "test_set": "as published"}] = np.array(percents)
    return published
