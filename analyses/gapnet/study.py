"""Does global average pooling take position away? Networks that end in it are trained to tell place and class."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from probe.analyses.data.digits import load_digits
from probe.analyses.data.photographs import read_classes
from probe.analyses.data.shown import keep_shown
from probe.analyses.data.splits import check_folder, open_splits
from probe.analyses.gapnet.nets import NETS, PooledNet
from probe.analyses.studies import Study, check_preset, study_result
from probe.analyses.training import side_by_side, take_steps, training_device
from probe.checks import whole_number
from probe.errors import ArgumentError
from probe.images.canvases import assign_cells, place_on_grid
from probe.images.numbering import evenly_spaced
from probe.measures.pooling import pooled

__all__ = ["MEASURES", "PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="gapnet",
    title="Position after global pooling: GAPNet and PermuteNet",
    question="Does averaging over the whole map take away where things are, or does the order of the channels keep it?",
    source="M. A. Islam, M. Kowal, S. Jia, K. G. Derpanis, N. D. B. Bruce, “Global Pooling, More than Meets the Eye: "
    "Position Information is Encoded Channel-Wise in CNNs”, ICCV 2021; numbers from the slides of the talk, protocol "
    "from the released code.",
    protocol=(
        "Each CIFAR-10 image stands in one cell of a canvas of 3×3, 5×5 or 7×7 cells, elsewhere 0 after normalisation, "
        "which is the mean colour of the data set. One network is trained to tell the cell, another to tell the class.",
        "ResNet-18 with a first convolution of 7×7 and stride 2, no max-pool, zero padding, trained from scratch. "
        "GAPNet ends in a 3×3 convolution to the classes and the mean over its map; PermuteNet in the mean over the "
        "last map, a random permutation of its 512 channels, and a linear layer.",
        "As published, all images of a batch share a permutation, in training (batches of 48) and in testing (of 100).",
        "Adam (learning rate 0.001, β 0.5 and 0.999), batches of 48, 20 epochs, cross-entropy, horizontal flips; in "
        "each epoch every image is placed in a cell drawn anew.",
        "The published numbers are those of the best epoch on the test images; the last epoch stands beside them here.",
    ),
    departures=(
        "Two networks are ours: a PermuteNet that permutes each image on its own, and the same network without any "
        "permutation, since GAPNet and PermuteNet differ in more than the permutation.",
        "Beside the trained networks stand linear readouts of the cell from the pooled channels of each: in order, "
        "permuted, their sum alone, and their sorted values, which is all that a permutation leaves.",
        "In testing each image stands in one cell, drawn anew each epoch and balanced over cells; published numbers "
        "are means over as many placements as there are cells.",
        "CIFAR-10 is read from JPEG files where the original read lossless images, if the folder given holds such.",
        "The preset “quick” halves the images to 16×16 pixels and the study to 3×3 cells, 10,000 training and 2,000 "
        "test images, a quarter of the channels (16 to 128) and 8 epochs. Without a folder of images it takes "
        "scikit-learn's 1,797 digits of 16×16 pixels, for 40 epochs.",
    ),
    times={
        "tiny": "3 s",
        "quick": "8 min on 2 CPU cores",
        "paper": "not run: about 5 hours a seed on a recent GPU, by the number of operations",
    },
)

MEASURES = ("location", "image class")
"""What a network is trained to tell."""

_PUBLISHED = {  # by (measure, net) and grid
    ("location", "GAPNet"): {3: 100.0, 7: 100.0},
    ("location", "PermuteNet"): {3: 78.8, 7: 21.4},
    ("image class", "GAPNet"): {3: 82.6, 7: 82.1},
    ("image class", "PermuteNet"): {3: 82.1, 7: 69.9},
}
# A separate run at the published setting, on JPEG images.
_SEPARATE = {
    ("location", "GAPNet"): {3: 100.0},
    ("location", "PermuteNet"): {3: 67.0},
    ("image class", "PermuteNet"): {3: 41.0},
}
_BATCH, _TEST_BATCH = 48, 100
_LEARNING_RATE, _BETAS = 1e-3, (0.5, 0.999)
_DIGITS_EPOCHS = 40
_TEST_SEED = 1_000_000  # far from the seeds of training
_IMAGES_OF_READOUTS = 2000
_SHOWN = 3
_FOLDER, _DIGITS = "a folder of images", "digits of scikit-learn"
_NO_FOLDER = "images: no folder was given, so digits stand in for CIFAR-10; published numbers are of other images."


@dataclass(frozen=True)
class Preset:
    """Size of the study; None takes all images."""

    seeds: int
    grids: tuple[int, ...]
    n_training: int | None
    n_test: int | None
    size: int
    width: int
    epochs: int


PRESETS = {
    "tiny": Preset(seeds=2, grids=(3,), n_training=96, n_test=60, size=8, width=2, epochs=2),
    "quick": Preset(seeds=1, grids=(3,), n_training=10_000, n_test=2_000, size=16, width=16, epochs=8),
    "paper": Preset(seeds=1, grids=(3, 5, 7), n_training=None, n_test=None, size=32, width=64, epochs=20),
}


class _Case(NamedTuple):
    """Which network is trained, what for, and on which canvas."""

    seed: int
    measure: str
    net: str
    grid: int


@dataclass(frozen=True)
class _Split:
    """Normalised images of shape (image, 3, row, column), and their classes."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "_Split":
        return _Split(self.images.to(device), self.labels.to(device))


def run(
    *,
    preset: str = "quick",
    images: str | Path | None = None,
    seeds: int | None = None,
    nets: Sequence[str] = NETS,
    grids: Sequence[int] | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train networks that end in global average pooling to tell where an image stands, and what it shows.

    Parameters
    ----------
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    images
        Folder of CIFAR-10 (or other images) as ``train/<class>/<image file>`` and ``test/<class>/<image file>``;
        without one, `quick` takes scikit-learn's digits, as `tiny` does, which takes no folder.
    seeds
        Number of networks of each kind; by default as many as the preset says.
    nets
        Some of `NETS`.
    grids
        Cells along each side of the canvas; by default those of the preset.
    device
        ``"auto"`` is a GPU where there is one.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        As `probe.analyses.studies.study_result` describes it, accuracy on the test images in per cent on (measure, net,
        grid, epoch), where ``epoch`` is ``last`` or ``best``, the highest of all on these same test images. Besides,
        ``by_epoch`` on (seed, measure, net, grid, trained_epochs); ``readout`` on (seed, measure, net, grid, kind):
        accuracy of linear readouts of the cell from the pooled channels of the trained networks; ``separate``: a
        separate run at the published setting; ``chance`` on (measure, grid).

    Raises
    ------
    ArgumentError
        If a preset, net or grid is unknown, `seeds` is below 1, `paper` has no images, or `tiny` has some.
    ImagesError
        If the folder does not hold such images.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, nets=["PermuteNet"], progress=False)
    >>> dict(result.here.sizes)
    {'measure': 2, 'net': 1, 'grid': 1, 'epoch': 2}
    """
    started = time.monotonic()
    settings = _settings(preset, images, seeds, nets, grids)
    place = training_device(device)
    training, test, source = _read(preset, images, settings)
    n_classes = int(training.labels.max()) + 1
    dims = {"seed": range(settings.seeds), "measure": MEASURES, "net": nets, "grid": settings.grids}
    cases = [_Case(*chosen) for chosen in product(range(settings.seeds), MEASURES, nets, settings.grids)]
    # Made here, since the random state is shared by all threads.
    networks = [
        PooledNet(
            case.net,
            n_classes=case.grid**2 if case.measure == "location" else n_classes,
            width=settings.width,
            seed=case.seed,
        )
        for case in cases
    ]
    work = _train_all(networks, cases, training.to(place), test.to(place), settings.epochs, place)
    bar = tqdm(work, total=len(cases), unit="network", desc="gapnet", disable=None if progress else True)
    by_epoch = _labelled(list(bar), dims, "trained_epochs", range(1, settings.epochs + 1), "accuracy after each epoch")
    here = xr.concat(
        [by_epoch.isel(trained_epochs=-1, drop=True), by_epoch.max("trained_epochs")],
        xr.Variable("epoch", ["last", "best"]),
    )
    here = here.transpose("seed", "measure", "net", "grid", "epoch").assign_attrs(long_name="accuracy", units="%")
    return study_result(
        STUDY,
        _published(here, _PUBLISHED, "best"),
        here,
        preset=preset,
        settings={
            **asdict(settings),
            "nets": list(nets),
            "images": source,
            "n_classes": n_classes,
            "device": str(place),
        },
        started=started,
        others={
            "by_epoch": by_epoch,
            "readout": _read_out(networks, cases, test, dims),
            "separate": _published(here, _SEPARATE, "last").assign_attrs(
                long_name="accuracy of a separate run at the published setting", units="%"
            ),
            "chance": _chance(settings.grids, n_classes),
            "shown_image": _shown(test, settings.grids),
        },
        warnings=[] if source == _FOLDER or preset == "tiny" else [_NO_FOLDER],
        command=command,
    )


def _settings(
    preset: str, images: str | Path | None, seeds: int | None, nets: Sequence[str], grids: Sequence[int] | None
) -> Preset:
    check_preset(preset)
    if isinstance(nets, str) or not nets or not set(nets) <= set(NETS):
        raise ArgumentError(f"nets={nets!r}: expected a list of some of {', '.join(NETS)}.")
    if seeds is not None:
        whole_number("seeds", seeds, 1)
    if grids is not None and (not grids or min(grids) < 2):
        raise ArgumentError(f"grids={grids!r}: expected a list of whole numbers of at least 2.")
    check_folder(images, preset, needed="CIFAR-10", where="CIFAR-10")
    settings = PRESETS[preset]
    if preset == "quick" and images is None:
        settings = replace(settings, epochs=_DIGITS_EPOCHS)
    if grids is not None:
        settings = replace(settings, grids=tuple(grids))
    return settings if seeds is None else replace(settings, seeds=seeds)


def _read(preset: str, images: str | Path | None, settings: Preset) -> tuple[_Split, _Split, str]:
    """Return training and test images, normalised with the mean and deviation of those of training."""
    if images is None:
        source = _DIGITS
        training, test = (
            _Split(
                functional.interpolate(digits.strokes[:count, None].expand(-1, 3, -1, -1), settings.size),
                digits.labels[:count],
            )
            for digits, count in zip(load_digits(), (settings.n_training, settings.n_test), strict=True)
        )
    else:
        source = _FOLDER
        training, test = _read_folders(Path(images), settings)
    deviation, mean = torch.std_mean(training.images, dim=(0, 2, 3), keepdim=True)
    training, test = (_Split((part.images - mean) / deviation, part.labels) for part in (training, test))
    return training, test, source


def _read_folders(folder: Path, settings: Preset) -> tuple[_Split, _Split]:
    files = open_splits(folder, where="CIFAR-10")
    parts = [
        read_classes(part.root, size=settings.size, max_images=count)
        for part, count in zip(files, (settings.n_training, settings.n_test), strict=True)
    ]
    training, test = (_Split(*part[:2]) for part in parts)
    return training, test


def _train_all(
    networks: Sequence[PooledNet],
    cases: Sequence[_Case],
    training: _Split,
    test: _Split,
    epochs: int,
    device: torch.device,
) -> Iterator[list[float]]:
    """Train the networks, side by side on a CPU, and yield the accuracies of each, epoch by epoch, in per cent."""
    with side_by_side(device) as pool:
        jobs = [
            pool.submit(_train, network, training, test, case, epochs)
            for network, case in zip(networks, cases, strict=True)
        ]
        for job in jobs:
            yield job.result()


def _train(network: PooledNet, training: _Split, test: _Split, case: _Case, epochs: int) -> list[float]:
    network.to(training.images.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE, betas=_BETAS)
    generator = torch.Generator().manual_seed(case.seed)
    accuracies = []
    for epoch in range(epochs):
        take_steps(network, _epoch(training, case, generator), optimiser)
        accuracies.append(_accuracy(network, test, case, _TEST_SEED + epoch))
    return accuracies


def _epoch(training: _Split, case: _Case, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of canvases, and what is to be told of each."""
    for chosen in torch.randperm(len(training.labels), generator=generator).split(_BATCH):
        chosen = chosen.to(training.labels.device)
        cells = torch.randint(case.grid**2, (len(chosen),), generator=generator).to(chosen.device)
        flipped = (torch.rand(len(chosen), 1, 1, 1, generator=generator) < 0.5).to(chosen.device)
        images = training.images[chosen]
        canvases = place_on_grid(torch.where(flipped, images.flip(3), images), cells, case.grid)
        yield canvases, cells if case.measure == "location" else training.labels[chosen]


def _shown(test: _Split, grids: Sequence[int]) -> xr.DataArray:
    """Keep canvases of a few test images, as in the first epoch's test."""
    numbers = evenly_spaced(len(test.labels), _SHOWN)
    return keep_shown(
        {
            f"{grid}×{grid} cells": place_on_grid(
                test.images[numbers], assign_cells(range(len(test.labels)), grid**2, _TEST_SEED)[numbers], grid
            )
            for grid in grids
        }
    )


def _accuracy(network: PooledNet, test: _Split, case: _Case, seed: int) -> float:
    network.eval()
    cells = assign_cells(range(len(test.labels)), case.grid**2, seed).to(test.labels.device)
    classes_shown = cells if case.measure == "location" else test.labels
    with torch.no_grad():
        predicted = torch.cat(
            [
                network(place_on_grid(images, placed, case.grid)).argmax(dim=1)
                for images, placed in zip(test.images.split(_TEST_BATCH), cells.split(_TEST_BATCH), strict=True)
            ]
        )
    return 100 * float((predicted == classes_shown).float().mean())


def _read_out(
    networks: Sequence[PooledNet],
    cases: Sequence[_Case],
    test: _Split,
    dims: Mapping[str, Sequence[Any]],
) -> xr.DataArray:
    """Read the cell from the pooled channels of each trained network, without its head."""
    some = test.images[:_IMAGES_OF_READOUTS]
    results = [
        pooled(network.body, some, grid=case.grid, layers="layer4", seed=case.seed, progress=False)
        for network, case in zip(networks, cases, strict=True)
    ]
    kinds = results[0].readout.values
    accuracies = [100 * result.accuracy.sel(layer="layer4").values for result in results]
    return _labelled(accuracies, dims, "kind", kinds, "cells told by a linear readout of the pooled channels")


def _labelled(
    rows: Sequence[Any], dims: Mapping[str, Sequence[Any]], last: str, values: Sequence[Any], about: str
) -> xr.DataArray:
    shape = [len(coordinate) for coordinate in dims.values()]
    coords = {name: list(coordinate) for name, coordinate in {**dims, last: values}.items()}
    data = np.array(rows).reshape(*shape, len(values))
    return xr.DataArray(data, coords=coords, dims=list(coords), attrs={"long_name": about, "units": "%"})


def _published(here: xr.DataArray, numbers: Mapping[tuple[str, str], Mapping[int, float]], epoch: str) -> xr.DataArray:
    """Return published numbers in the shape of our own, NaN where there are none."""
    published = xr.full_like(here.isel(seed=0, drop=True), float("nan"))
    for (measure, net), by_grid in numbers.items():
        for grid, accuracy in by_grid.items():
            if net in published.net and grid in published.grid:
                published.loc[{"measure": measure, "net": net, "grid": grid, "epoch": epoch}] = accuracy
    return published


def _chance(grids: Sequence[int], n_classes: int) -> xr.DataArray:
    by_measure = [[100 / grid**2 for grid in grids], [100 / n_classes for _ in grids]]
    coords = {"measure": list(MEASURES), "grid": list(grids)}
    return xr.DataArray(by_measure, coords, list(coords), attrs={"long_name": "accuracy by chance", "units": "%"})
