"""Which networks leave padding unread at which input sizes, and what that does to how often pixels are read."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.analyses.nets import cifar_resnet
from probe.analyses.studies import Study, check_preset, study_result
from probe.checks import is_whole
from probe.errors import ArgumentError
from probe.windows.auditing import audit

__all__ = ["PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="audit",
    title="Padding that the stride never reads",
    question="In which networks, and at which input sizes, is padding read on one side and not on the other?",
    source="B. Alsallakh, N. Kokhlikyan, V. Miglani, J. Yuan and O. Reblitz-Richardson, “Mind the Pad – CNNs Can "
    "Develop Blind Spots”, ICLR 2021. The published counts follow from its condition for even padding and its "
    "input sizes, h = a·2ᵈ + 1 for d down-samplings by 2.",
    protocol=(
        "One forward pass gives the size of the map that each convolution and pooling layer is given. A layer with "
        "stride s leaves r = (h + padding − dilation·(kernel − 1) − 1) mod s rows unread at the bottom, and columns at "
        "the right, unless it rounds its size up, as some pooling does. A down-sampling is uneven if a row or column "
        "of its padding, on any side, is read by no window.",
        "The nearest even sizes are searched by running the network on tensors without values, up to 128 pixels away.",
        "Foveation: with all weights set to one and channels averaged, the gradient of the last layer's sum with "
        "respect to the image counts the paths by which each pixel is read; behind attention they cannot be counted, "
        "so there the last layer before it stands for it. Its asymmetry is the share of its variance over the image "
        "that changes its sign when the image is mirrored: 0 if opposite sides are read alike. It depends on windows "
        "alone, not on weights.",
    ),
    departures=(
        "Nothing is trained: counts, sizes and foveation follow from the architecture, and have no error. Accuracy at "
        "even and uneven sizes, and detection of small objects, which the paper also reports, are left out.",
        "Foveation counts the paths through pooling, shortcuts and strides too, averaged over channels.",
    ),
    times={"tiny": "3 s", "quick": "1 min on 2 CPU cores", "paper": "3 min on 2 CPU cores"},
)

_CIFAR = "cifar_resnet"
_USUAL_SIZES = (224, 225)
_CIFAR_SIZES = (32, 33)


@dataclass(frozen=True)
class Preset:
    """Which networks are audited: names of torchvision, or ``cifar_resnet`` and its depth."""

    networks: tuple[str, ...]


_QUICK = (
    *("resnet18", "resnet34", "resnet50", "densenet121", "googlenet", "mobilenet_v2"),
    *("mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_1"),
    *("convnext_tiny", "cifar_resnet20", "cifar_resnet56"),
)
_LARGE = ("resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d", "densenet169", "alexnet", "vgg11", "vgg16_bn")

PRESETS = {
    "tiny": Preset(("resnet18", "cifar_resnet20")),
    "quick": Preset(_QUICK),
    "paper": Preset((*_QUICK, *_LARGE, "mnasnet1_0", "efficientnet_v2_s", "cifar_resnet110")),
}


def run(
    *,
    preset: str = "quick",
    networks: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Count the uneven down-samplings of networks, beside those that are known.

    Parameters
    ----------
    preset
        Which networks: ``"tiny"``, ``"quick"`` or ``"paper"``.
    networks
        Names of torchvision's models, or ``cifar_resnet`` and a depth, instead of those of the preset.
    sizes
        Rows and columns of the image; by default 224 and 225, of CIFAR networks 32 and 33.
    device
        As in `probe.layerwise`.
    progress
        Show a progress bar.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`; ``here`` on ``case``, a network at a size. Beside it
        ``n_downsamplings`` on (case), ``even_size`` on (case, direction), and for each case the map ``foveation_i`` of
        the last layer whose paths could be counted; ``foveation_asymmetry`` of these maps on (case, axis).

    Raises
    ------
    ArgumentError
        If the preset or a network is unknown, or a size is below 1.

    Examples
    --------
    >>> result = run(networks=["cifar_resnet20"], progress=False)
    >>> result.case.values.tolist(), result.here.values.tolist()
    (['cifar_resnet20 at 32', 'cifar_resnet20 at 33'], [2.0, 0.0])
    """
    check_preset(preset)
    started = time.monotonic()
    names = list(PRESETS[preset].networks if networks is None else networks)
    _check(names, sizes)
    cases, audits = [], []
    for name in tqdm(names, unit="network", desc="audit", disable=None if progress else True):
        network = _make(name)
        for size in sizes or (_CIFAR_SIZES if name.startswith(_CIFAR) else _USUAL_SIZES):
            cases.append((name, size))
            audits.append(audit(network, (3, size, size), device=device))
    about = {"long_name": "down-samplings with uneven padding", "units": "layer"}
    labels = {"case": [f"{name} at {size}" for name, size in cases]}
    here = xr.DataArray([[_count_uneven(a) for a in audits]], dims=("seed", "case"), coords=labels, attrs=about)
    published = xr.DataArray([_published(*case) for case in cases], dims="case", coords=labels)
    result = study_result(
        STUDY,
        published,
        here.astype(float),
        preset=preset,
        settings={"networks": names, "sizes": None if sizes is None else list(sizes)},
        started=started,
        others=_others(audits),
        command=command,
    )
    return result.assign_coords(
        network=("case", [name for name, _ in cases]), size=("case", [size for _, size in cases])
    )


def _check(names: Sequence[str], sizes: Sequence[int] | None) -> None:
    known = set(torchvision.models.list_models(module=torchvision.models))
    for name in names:
        if name not in known and not name.removeprefix(_CIFAR).isdigit():
            raise ArgumentError(
                f"networks: {name!r} is unknown; expected a classifier of torchvision, or cifar_resnet and its depth."
            )
    if sizes is not None and (not sizes or not all(is_whole(size) and size >= 1 for size in sizes)):
        raise ArgumentError(f"sizes={sizes!r}: expected at least one number of pixels, each above 0.")


def _make(name: str) -> nn.Module:
    """Make a network with random weights, which the counts do not depend on."""
    if name.startswith(_CIFAR):
        return cifar_resnet(int(name.removeprefix(_CIFAR)))
    with torch.random.fork_rng([]), warnings.catch_warnings(action="ignore", category=FutureWarning):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None)


def _published(name: str, size: int) -> float:
    """Return how many of a residual network's down-samplings are known to be uneven at a size."""
    if name.startswith("resnet"):
        return {224: 5.0, 225: 0.0}.get(size, np.nan)
    return {32: 2.0, 33: 0.0}.get(size, np.nan) if name.startswith(_CIFAR) else np.nan


def _down_samples(result: xr.Dataset) -> xr.DataArray:
    return (result["stride"] > 1).any("axis")


def _count_uneven(result: xr.Dataset) -> int:
    return int((_down_samples(result) & (result.unread > 0).any("side")).sum())


def _others(audits: Sequence[xr.Dataset]) -> dict[str, xr.DataArray]:
    foveations = [_last_foveation(result) for result in audits]
    others = {
        "n_downsamplings": xr.DataArray(
            [int((_down_samples(result) & (result.padding > 0).any("side")).sum()) for result in audits],
            dims="case",
            attrs={"long_name": "down-samplings with padding", "units": "layer"},
        ),
        "even_size": xr.DataArray(
            [result.even_size.sel(axis="row", drop=True).values for result in audits],
            dims=("case", "direction"),
            coords={"direction": ["smaller", "larger"]},
            attrs=audits[0].even_size.attrs,
        ),
        "foveation_asymmetry": xr.DataArray(
            [[_antisymmetric_share(map_.values, axis) for axis in (0, 1)] for map_ in foveations],
            dims=("case", "axis"),
            coords={"axis": ["row", "column"]},
            attrs={"long_name": "antisymmetric share of foveation, channels averaged", "units": "1"},
        ),
    }
    for number, map_ in enumerate(foveations):
        others[f"foveation_{number}"] = map_.rename(row=f"row_{number}", column=f"column_{number}")
    return others


def _last_foveation(result: xr.Dataset) -> xr.DataArray:
    """Return how often each pixel is read by the last layer whose paths could be counted."""
    maps = [variable for name, variable in result.items() if str(name).startswith("foveation")]
    return maps[-1].drop_vars(list(maps[-1].coords))


def _antisymmetric_share(map_: np.ndarray, axis: int) -> float:
    """Return the share of a map's variance that changes its sign under mirroring; NaN if it does not vary."""
    varying = map_.astype(float) - map_.mean()
    variance = (varying**2).sum()
    if variance <= 1e-10 * map_.size:
        return float("nan")
    return float(((varying - np.flip(varying, axis)) ** 2).sum() / 4 / variance)
