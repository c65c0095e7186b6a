"""How far into the maps of a model its border reaches, and how much of the signal it is."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torchvision
import xarray as xr
from torch import Tensor, nn

from probe.analyses.border_reach.readings import UNKNOWN, Framing, Reading, read_twice
from probe.analyses.data.shown import keep_shown
from probe.analyses.nets import cifar_resnet
from probe.analyses.studies import Study, check_preset, study_result
from probe.checks import whole_number
from probe.images.batches import check_reread
from probe.images.rows import Transform
from probe.models.layers import LayerSelection
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.testing import noise_images
from probe.windows.crops import SIDES, Site, reach

__all__ = ["PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="border_reach",
    title="How far the border reaches",
    question="How far into the maps of a network does its padding reach, and how much of the signal is it?",
    source="Lin et al., arXiv:2206.01202, which compares features under a padding with those of the same crop inside "
    "its image. Nothing of it is reproduced in numbers; the comparison with receptive fields follows W. Luo, Y. Li, "
    "R. Urtasun and R. Zemel, “Understanding the Effective Receptive Field in Deep Convolutional Neural Networks”, "
    "NeurIPS 2016.",
    protocol=(
        "A crop is shown to the network twice: alone, under the network's own padding, and inside its larger image "
        "(natural context), or continued periodically (circular context). Features of the crop are cut out of the "
        "larger map; cells correspond because the margin is a multiple of a layer's total stride.",
        "The difference is the mean square over channels, images and cells, divided by the variance of the features "
        "within their channels: 0 where the border does not reach, above 1 where it changes more than content varies. "
        "Its profile takes the cells at a distance from a side in the middle third along it, away from other sides.",
        "The reach is the distance up to which the difference exceeds 1 % of the signal's variance, and up to which it "
        "can be detected at all (10⁻⁸, above single precision), on the side where it is largest.",
        "Theory: cells that can read a pixel outside the crop, by counting paths with all weights one. Effective "
        "receptive field: root of the number of pixels whose gradient exceeds 4.55 % of the largest, of the middle "
        "cell, root mean square over images and channels.",
    ),
    departures=(
        "The paper has metrics of its own, on models that are not at hand; nothing is compared with its numbers.",
        "Without a model and images, networks are untrained and images are smooth noise.",
    ),
    times={"tiny": "1 s", "quick": "30 s on 2 CPU cores", "paper": "16 min on one CPU core"},
)

_THRESHOLDS = {"detectable": 1e-8, "1 %": 1e-2}
_SMOOTH = 5  # pixels over which noise images are correlated
_BATCH = 8


@dataclass(frozen=True)
class Preset:
    """How many networks or groups of images, of how many images of which size, and how many for gradients."""

    seeds: int
    n_images: int
    size: int
    n_gradients: int


PRESETS = {
    "tiny": Preset(seeds=2, n_images=4, size=96, n_gradients=2),
    "quick": Preset(seeds=3, n_images=12, size=448, n_gradients=4),
    "paper": Preset(seeds=10, n_images=64, size=448, n_gradients=16),
}


def run(
    model: nn.Module | None = None,
    images: Any = None,
    *,
    preset: str = "quick",
    seeds: int | None = None,
    context: str = "natural",
    crop: int | None = None,
    margin: int | None = None,
    layers: LayerSelection = "auto",
    max_images: int | None = None,
    transform: Transform | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Compare the features of a crop under a model's own padding with those inside a larger image.

    Parameters
    ----------
    model
        Any convolutional model that takes images of several sizes. By default untrained networks, one a seed: a
        ResNet-18 of torchvision, or a small residual network with the preset ``"tiny"``.
    images
        As in `probe.collect`, in the larger size; by default smooth noise. For a given model each seed takes images
        of its own, so the data set must hold at least one for each; untrained networks are all shown the same ones.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of untrained networks, or, for a given model, of groups into which its images are divided; by default
        that of the preset.
    context
        ``"natural"``: the image around its middle, or ``"circular"``: the crop continued periodically.
    crop, margin
        Pixels of the crop, and of the context on each side; the margin must be a multiple of a layer's total stride.
        By default the margin is about a third of the image, and the crop the rest; in circular context the crop is
        the image, and the margin as wide.
    layers
        As in `probe.collect`.
    max_images
        Images for each seed, instead of the preset's number.
    transform, device, progress
        As in `probe.collect`.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`; ``here``, the reach in pixels, on (layer, threshold). Beside it, on
        (seed, layer, side, distance in cells), ``difference`` and ``difference_se`` (over images); on (seed, layer)
        ``share`` and ``share_se``, the difference over the whole crop, and ``effective_field``; on (layer, side)
        ``theoretical_reach``; on (layer, axis) ``receptive_field``, NaN where it exceeds the context; on (layer)
        ``outer_border``, whether the border of the larger image can reach the crop too.

    Raises
    ------
    ArgumentError
        If the preset or context is unknown, or crop or margin do not fit.
    ImagesError
        If the images are too small or too few.

    Examples
    --------
    >>> from probe.testing import noise_images, padded_net
    >>> result = run(padded_net("zeros", depth=2), noise_images(4, size=24), crop=8, margin=8, seeds=1, progress=False)
    >>> result.here.sel(threshold="detectable").values
    array([1., 2.])
    """
    started = time.monotonic()
    settings = _settings(preset, seeds, max_images, model, images)
    framing = Framing(context, crop, margin)
    readings: list[Reading] = []
    for network, shown, n_seeds, seed in _readings(model, images, preset, settings):
        options = Options(
            batch_size=_BATCH,
            device=device,
            transform=transform,
            max_images=n_seeds * settings.n_images,
            seed=seed,
            progress=progress,
            task=STUDY.name,
        )
        with open_reader(network, shown, options, framing) as reader:
            readings += read_twice(reader, framing, layers, n_seeds=n_seeds, n_gradients=settings.n_gradients)
    here = _reaches(readings)
    framed = {"context": framing.context, "crop": framing.crop, "margin": framing.margin}
    result = study_result(
        STUDY,
        here.isel(seed=0, drop=True) * np.nan,
        here,
        preset=preset,
        settings={**asdict(settings), **framed},
        started=started,
        others=_others(readings) | {"shown_image": _shown(readings[0].larger, framing)},
        facts=replace(
            readings[0].facts, n_images=sum(next(iter(reading.profiles.values())).n_images for reading in readings)
        ),
        warnings=[warning for reading in readings for warning in reading.facts.warnings],
        command=command,
    )
    result.attrs.update(**framed, has_own_networks=int(model is None))
    return result


def _settings(preset: str, seeds: int | None, max_images: int | None, model: Any, images: Any) -> Preset:
    check_preset(preset)
    if seeds is not None:
        whole_number("seeds", seeds, 1)
    if model is None:
        check_reread(images, "each untrained network reads them anew")
    chosen = PRESETS[preset]
    return replace(chosen, seeds=seeds or chosen.seeds, n_images=max_images or chosen.n_images)


def _readings(
    model: nn.Module | None, images: Any, preset: str, settings: Preset
) -> Iterator[tuple[nn.Module, Any, int, int]]:
    """Yield a network, its images, into how many seeds they are divided, and the first of these."""
    if model is not None:
        count = settings.seeds * settings.n_images
        noise = noise_images(count, settings.size, smooth=_SMOOTH) if images is None else images
        yield model, noise, settings.seeds, 0
        return
    for seed in range(settings.seeds):
        noise = noise_images(settings.n_images, settings.size, smooth=_SMOOTH, seed=seed) if images is None else images
        yield _untrained(preset, seed), noise, 1, seed


def _untrained(preset: str, seed: int) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return cifar_resnet(8) if preset == "tiny" else torchvision.models.resnet18(weights=None)


def _reaches(readings: Sequence[Reading]) -> xr.DataArray:
    """Return up to how many pixels from the border the difference exceeds each threshold, on its farthest side."""
    sites = readings[0].sites
    reaches = [
        [[_reach(of_seed, site, level) for level in _THRESHOLDS.values()] for site in sites] for of_seed in readings
    ]
    return xr.DataArray(
        reaches,
        dims=("seed", "layer", "threshold"),
        coords={"layer": [site.layer.name for site in sites], "threshold": list(_THRESHOLDS)},
        attrs={"long_name": "reach of the border", "units": "pixel"},
    )


def _reach(of_seed: Reading, site: Site, level: float) -> float:
    difference, _ = of_seed.profiles[site.layer.name].difference()
    return float((reach(difference, level) * _pixels(site)).max()) if np.isfinite(difference).any() else np.nan


def _pixels(site: Site) -> np.ndarray:
    """Return how many pixels a cell takes, seen from each side."""
    return np.repeat(site.stride, 2)


def _others(readings: Sequence[Reading]) -> dict[str, xr.DataArray]:
    sites = readings[0].sites
    names = [site.layer.name for site in sites]
    theory = [readings[0].theory.get(name, UNKNOWN) for name in names]
    pixels = np.array([_pixels(site) for site in sites])
    difference, difference_se = _profiles(readings, names)
    share, share_se = np.moveaxis(np.array([[r.profiles[name].share() for name in names] for r in readings]), -1, 0)
    by_distance, by_layer = ("seed", "layer", "side", "distance"), ("seed", "layer")
    found = xr.Dataset(
        {
            "difference": (by_distance, difference, _described("difference of features over their variance")),
            "difference_se": (by_distance, difference_se, _described("standard error of the difference over images")),
            "share": (by_layer, share, _described("difference over the whole crop")),
            "share_se": (by_layer, share_se, _described("standard error of the share over images")),
            "effective_field": (
                by_layer,
                [[r.effective[name] for name in names] for r in readings],
                _described("effective receptive field", "pixel"),
            ),
            "theoretical_reach": (
                ("layer", "side"),
                pixels * [item.reach for item in theory],
                _described("cells that can read beyond the crop", "pixel"),
            ),
            "receptive_field": (
                ("layer", "axis"),
                [item.field for item in theory],
                _described("theoretical receptive field", "pixel"),
            ),
            "outer_border": (
                "layer",
                [int(item.meets_outer_border) for item in theory],
                _described("whether the border of the larger image can reach the crop"),
            ),
        },
        coords={
            "layer": names,
            "side": list(SIDES),
            "axis": ["row", "column"],
            "stride": (("layer", "axis"), [site.stride for site in sites]),
            "size": (("layer", "axis"), [site.size for site in sites]),
        },
    )
    return {str(name): variable for name, variable in found.items()}


def _shown(larger: Tensor, framing: Framing) -> xr.DataArray:
    return keep_shown({"crop alone": framing.cut(larger), f"in {framing.context} context": larger})


def _described(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def _profiles(readings: Sequence[Reading], names: Sequence[str]) -> np.ndarray:
    """Return differences and their errors, on (seed, layer, side, distance), NaN beyond the middle of a map."""
    profiles = [[np.stack(r.profiles[name].difference()) for name in names] for r in readings]
    longest = max(profile.shape[-1] for profile in profiles[0])
    padded = [
        [np.pad(p, ((0, 0), (0, 0), (0, longest - p.shape[-1])), constant_values=np.nan) for p in of_seed]
        for of_seed in profiles
    ]
    return np.moveaxis(np.array(padded), 2, 0)
