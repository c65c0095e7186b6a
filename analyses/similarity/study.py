"""How alike the features of an object are wherever in the frame it stands, in plain and in anti-aliased networks."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.analyses.data.shown import keep_shown
from probe.analyses.similarity.cases import PRESETS, VARIANTS, Case, black, given_cases, published_cases
from probe.analyses.studies import Study, check_preset, study_result
from probe.analyses.training import clock, training_device
from probe.checks import whole_number
from probe.errors import ArgumentError
from probe.images.rows import Transform
from probe.images.shifts import Placements
from probe.measures.similarity import shift_similarity
from probe.models.loan import borrowed
from probe.models.modules import unwrap

__all__ = ["MEASURES", "PRESETS", "STUDY", "run"]

STUDY = Study(
    name="similarity",
    title="What shift invariance looks like",
    question="Are the features of an object the same wherever in the frame it stands, and does blurring before "
    "sub-sampling make them so, from one pixel to the next and over the whole frame?",
    source="J. Lee, J. Yang and Z. Wang, “What Does CNN Shift Invariance Look Like? A Visualization Study”, ECCV "
    "Workshops 2020.",
    protocol=(
        "An object is shifted over every position of a black frame: large objects of 121×121 and small ones of 61×61 "
        "pixels in frames of 225×225, which gives 11,025 and 27,225 shifts an object.",
        "At each shift the features are compared, by cosine similarity, with those of the same object at five "
        "reference positions: the corners and the centre. The heat maps are the mean over objects.",
        "Features: fc6, fc7 and fc8 of AlexNet, and the mean over the last map of ResNet-50 and MobileNetV2; each "
        "network plain, and anti-aliased after Zhang (ICML 2019): blurred with a binomial filter of length 4 wherever "
        "it sub-samples, but for the convolution that reads the pixels.",
        "Global similarity is the mean of a heat map: 1 if the features do not depend on the place at all. Local "
        "roughness is how far the similarity at a position is, in the mean, from that at its two neighbours: 0 if it "
        "changes smoothly. Both are means over references and objects.",
    ),
    departures=(
        "The study was published as heat maps; no numbers of it are known to us. Its claim, that blurring makes "
        "features smoother locally but not more alike over the frame, is put to the test with two numbers of our own.",
        "The published networks were trained on ImageNet. Unless a model is given, those here have random weights, the "
        "same in both variants, so they show what the architecture alone does; a small network trained on digits, once "
        "plain and once anti-aliased (everywhere, as its first convolution has a stride too), stands beside them.",
        "Sizes of frame and objects, and the objects themselves, are not told in the parts of the paper that we could "
        "read; 225, 121 and 61 pixels give the numbers of shifts that are reported of it.",
        "Without a folder of images the objects of the networks of torchvision are crops of two photographs.",
        "The presets tiny and quick take smaller frames, with objects of about the same share of them (tiny: "
        "that nearly fill them), ResNet-18 in place of ResNet-50 and fewer objects.",
    ),
    times={"tiny": "4 s", "quick": "4 min on 2 CPU cores", "paper": "about 1 hour on a GPU (not run)"},
)

MEASURES = ("global similarity", "local roughness")

_TIMED = 5  # batches
_SHOWN = 2  # objects

_QUANTITY = "similarity of features at shifted positions, and its roughness"

_RANDOM_WEIGHTS = (
    "The torchvision networks have random weights. Published results are those of networks trained on ImageNet; give "
    "one with model= and layers=."
)
_CROPS = "The objects are crops of two photographs: pass images= for natural ones that vary."


def run(
    *,
    preset: str = "quick",
    seeds: int | None = None,
    model: nn.Module | None = None,
    blurred: nn.Module | None = None,
    layers: Sequence[str] = (),
    images: Any = None,
    transform: Transform | None = None,
    background: float | Sequence[float] | None = None,
    max_images: int | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Shift objects over a frame, and tell how much their features change, locally and globally.

    Parameters
    ----------
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of random weights; by default that of the preset. A given model has its own.
    model
        A model of your own, in place of those of the study.
    blurred
        Its anti-aliased counterpart; ``probe.with_sampling(model, "blur")`` makes one with the same weights.
    layers
        Names of the layers of a given model to compare.
    images
        The objects, as in `probe.collect`; of files the central square. By default crops of two photographs, but a
        model of your own needs images.
    transform
        Applied to each file, for a given model; its result is resized to the size of the objects.
    background
        Value of the frame for a given model, in its own units. By default, of files with a `transform`, what it makes
        of black; else 0.
    max_images
        Number of objects; by default that of the preset.
    batch_size
        Shifts at a time.
    device
        ``"auto"`` is a GPU where there is one.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`; ``here`` on (features, variant, size, measure). ``objects_se``: its
        standard error over objects. On (features, variant, size) ``shifts_per_second`` and ``relative_speed``: these
        over the frames that the model alone takes in a second, in batches as large. Heat maps, the mean over objects
        and seeds: ``similarity_i`` on (features_i, variant, reference, row_i, column_i), whose attributes
        name the network and the size of the objects.

    Raises
    ------
    ArgumentError
        If the preset is unknown, or a model comes without layers or images or with several seeds, or layers, a
        transform or a background without a model.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> dict(result.here.sizes)
    {'features': 2, 'variant': 2, 'size': 2, 'measure': 2}
    """
    started = time.monotonic()
    check_preset(preset)
    settings = PRESETS[preset]
    count = (1 if model is not None else settings.seeds) if seeds is None else seeds
    _check(model, blurred, layers, images, transform, background, count)
    place = training_device(device)
    n_objects = max_images or settings.n_objects
    if model is not None:
        if background is None:
            is_file = isinstance(images, str | Path)
            background = black(transform, settings.frame) if transform is not None and is_file else 0.0
        cases = given_cases(model, blurred, layers, images, transform, background, settings, n_objects)
    else:
        cases = published_cases(images, settings, n_objects, count)
    measured = []
    for case in tqdm(cases, desc="similarity", unit="network", disable=None if progress else True):
        found = shift_similarity(
            case.model, case.objects, case.layers, frame=case.frame, background=case.background,
            batch_size=batch_size, device=place, seed=case.seed, progress=False,
        )  # fmt: skip
        measured.append((case, found, _frames_per_second(case, batch_size, place)))
    here, others = _joined(measured)
    return study_result(
        STUDY,
        xr.full_like(here.isel(seed=0, drop=True), np.nan),
        here,
        preset=preset,
        settings={
            **asdict(settings),
            "n_objects": n_objects,
            "batch_size": batch_size,
            "device": str(place),
            "background": "black" if model is None else background,
        },
        started=started,
        others=others | {"shown_image": _shown([case for case, *_ in measured])},
        warnings=_warnings(model, images),
        command=command,
    )


def _check(
    model: nn.Module | None,
    blurred: nn.Module | None,
    layers: Sequence[str],
    images: Any,
    transform: Transform | None,
    background: float | Sequence[float] | None,
    seeds: int,
) -> None:
    whole_number("seeds", seeds, 1)
    if model is not None and (not layers or images is None):
        raise ArgumentError(
            "model: pass layers= whose features are to be compared, and images= of objects, as the model takes them."
        )
    if model is not None and seeds > 1:
        raise ArgumentError(f"seeds={seeds}: a model of your own has weights already; leave seeds out.")
    if model is None and (blurred is not None or layers or transform is not None or background is not None):
        raise ArgumentError(
            "blurred, layers, transform and background belong to a model of your own: pass model= as well."
        )


def _warnings(model: nn.Module | None, images: Any) -> list[str]:
    if model is not None:
        return []
    return [_RANDOM_WEIGHTS] if images is not None else [_RANDOM_WEIGHTS, _CROPS]


def _frames_per_second(case: Case, batch_size: int, device: torch.device) -> float:
    """Return how many frames a network takes in a second, in batches as large as those of its shifts."""
    model = unwrap(case.model)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), case.objects)
    item = case.objects[0].to(device, parameter.dtype)
    placements = _placements(case, item)
    frames = placements.frames(torch.arange(min(batch_size, len(placements))))
    frames = frames.contiguous(memory_format=torch.channels_last)
    durations = []
    with borrowed(model, device, case.seed):
        try:
            model(frames)
        except RuntimeError:
            # As for the shifts: a model with views may need rows to be contiguous.
            frames = frames.contiguous()
            model(frames)
        for _ in range(_TIMED):
            start = clock(device)
            model(frames)
            durations.append(clock(device) - start)
    return len(frames) / statistics.median(durations)


def _shown(cases: Sequence[Case]) -> xr.DataArray:
    """Keep frames of a few objects in either size, as the first network was shown them."""
    shown = {}
    for case in cases:
        if (case.net, case.variant, case.seed) == (cases[0].net, cases[0].variant, cases[0].seed):
            objects = [_placements(case, item) for item in case.objects[:_SHOWN]]
            shown[f"{case.size}, top left"] = torch.cat([each.frames(torch.tensor([0])) for each in objects])
            shown[f"{case.size}, bottom right"] = torch.cat(
                [each.frames(torch.tensor([len(each) - 1])) for each in objects]
            )
    return keep_shown(shown)


def _placements(case: Case, item: Tensor) -> Placements:
    return Placements(item, (case.frame, case.frame), torch.as_tensor(case.background).to(item))


def _joined(
    measured: Sequence[tuple[Case, xr.Dataset, float]],
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Put all cases on common dims: what was found of each, and the frames a second of its bare network."""
    cases = [case for case, *_ in measured]
    coords = {
        "seed": sorted({case.seed for case in cases}),
        "features": list(dict.fromkeys(name for case in cases for name in case.layers)),
        "variant": [variant for variant in VARIANTS if any(case.variant == variant for case in cases)],
        "size": list(dict.fromkeys(case.size for case in cases)),
        "measure": list(MEASURES),
    }
    here = xr.DataArray(np.nan, coords, list(coords)).assign_attrs(long_name=_QUANTITY, units="1")
    errors, speed = here.copy(), here.isel(measure=0, drop=True).copy()
    relative_speed = speed.copy()
    maps: dict[tuple[str, str], list[xr.DataArray]] = {}
    for case, found, frames_per_second in measured:
        key = {"seed": case.seed, "features": list(case.layers), "variant": case.variant, "size": case.size}
        speed.loc[key] = found.attrs["shifts_per_second"]
        relative_speed.loc[key] = found.attrs["shifts_per_second"] / frames_per_second
        for measure, name in zip(MEASURES, ("global_similarity", "local_roughness"), strict=True):
            by_object = found[name].mean("reference")
            here.loc[{**key, "measure": measure}] = by_object.mean("object").values
            if by_object.sizes["object"] > 1:
                error = by_object.std("object", ddof=1) / np.sqrt(by_object.sizes["object"])
                errors.loc[{**key, "measure": measure}] = error.values
        maps.setdefault((case.net, case.size), []).append(found.similarity.expand_dims(variant=[case.variant]))
    others = {
        "objects_se": _described(errors.mean("seed"), "standard error over objects, mean over seeds", "1"),
        "shifts_per_second": _described(speed.mean("seed"), "shifts measured", "1/s"),
        "relative_speed": _described(
            relative_speed.mean("seed"), "shifts over frames of the bare forward pass in the same time", "1"
        ),
    }
    for index, ((net, size), heat_maps) in enumerate(maps.items()):
        by_variant = xr.concat(heat_maps, "variant").groupby("variant").mean().reindex(variant=coords["variant"])
        by_variant = by_variant.rename(layer=f"features_{index}", row=f"row_{index}", column=f"column_{index}")
        described = _described(by_variant, "cosine similarity, mean over objects and seeds", "1")
        others[f"similarity_{index}"] = described.assign_attrs(net=net, size=size)
    return here, others


def _described(variable: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    return variable.drop_attrs().assign_attrs(long_name=long_name, units=units)
