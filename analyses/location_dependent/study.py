"""What a network can tell of an image by where it stands on a canvas: under each padding, by distance to the border."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.analyses.data.digits import load_digits
from probe.analyses.data.photographs import read_classes
from probe.analyses.data.shown import keep_shown
from probe.analyses.location_dependent.tasks import CANVASES, TASKS, CanvasTask, LabelledImages, OnCanvas, rings
from probe.analyses.studies import Study, check_preset, study_result
from probe.analyses.training import LEARNING_RATE, side_by_side, train, training_device
from probe.checks import whole_number
from probe.errors import ArgumentError, ImagesError, PaddingError, warn
from probe.images.canvases import assign_cells
from probe.images.numbering import evenly_spaced
from probe.variants.padding import PADDINGS, with_padding

__all__ = ["STUDY", "run"]

STUDY = Study(
    name="location_dependent",
    title="Location-dependent classification and segmentation",
    question="Which padding tells where an image stands on a canvas, and what does the border do near it and far away?",
    source="Islam, Kowal, Jia, Derpanis, Bruce: Position, padding and predictions. arXiv 2101.12322, 2021.",
    protocol=(
        "An image stands in one cell of a canvas of k×k cells, each as large as the image; the rest of the canvas is "
        "black, white, or of the mean colour. In training each image of a batch is put into a cell at random; tested "
        "are held-out images, each in every cell.",
        "Three tasks, each with a network of its own: name the cell (location); name the class of the image "
        "(classification); give each pixel the class of the image it belongs to, or background (segmentation).",
        "Classification is scored by the share of right answers, segmentation by the mean intersection over union of "
        "all classes and the background. Both are also taken by ring: cells that touch the border, cells one away "
        "from it, and so on.",
        "Without padding a network need not be blind to location: fewer windows see an image at the border than one in "
        "the middle, and the mean over the map can count them.",
        "Networks of one seed begin with the same weights and see the same canvases; they differ in padding alone.",
        "Images are normalised with the mean and standard deviation of the training images, so the mean canvas is "
        "zero, the colour of zero padding.",
        "In segmentation the map of scores is enlarged by the total stride of 4 and laid on the canvas, middle on "
        "middle. Beyond a smaller map, as without padding, its border is repeated; a larger one is cut.",
    ),
    departures=(
        "The tables of the paper were not at hand, so nothing published stands beside our numbers; its protocol is "
        "followed as far as its abstract and the authors' code for canvases tell.",
        "The network has four convolutions with batch normalisation and one linear layer, where the paper has VGG-5 "
        "and ResNet-18. It is trained by AdamW.",
        "Without padding means without padding: the authors' code enlarges the image instead. Reflect and replicate "
        "are what they say, where the torch release that their code was written for pads zeros.",
        "The presets tiny and quick use scikit-learn's digits of 8×8 pixels unless a folder is given. Quick trains a "
        "quarter as wide a network for 100 steps, on grids of 3×3 and 5×5 alone, and tests 50 images; of a "
        "folder it reads 4,000 images at 16×16 pixels. Paper trains for 20,000 steps and tests 1,000 images.",
    ),
    times={
        "tiny": "3 s",
        "quick": "5 min on 2 CPU cores",
        "paper": "4 days on a recent GPU, by the number of operations (not run); needs CIFAR-10 as a folder",
    },
)

_SHOWN = 2
_HELD_OUT = 4  # every fourth image


@dataclass(frozen=True)
class Preset:
    """Grids and canvases; images to read of a folder, their size, how many to test on; how long to train."""

    grids: Sequence[int]
    canvases: Sequence[str]
    max_images: int | None
    size: int
    n_tested: int
    width: int
    steps: int
    batch_size: int
    seeds: int


_PRESETS = {
    "tiny": Preset((3,), ("black",), 40, 8, n_tested=10, width=1, steps=3, batch_size=16, seeds=2),
    "quick": Preset((3, 5), tuple(CANVASES), 4000, 16, n_tested=50, width=1, steps=100, batch_size=32, seeds=3),
    "paper": Preset(
        (3, 5, 7, 9, 11, 13), tuple(CANVASES), None, 32, n_tested=1000, width=4, steps=20000, batch_size=48, seeds=3
    ),
}


@dataclass(frozen=True)
class _Case:
    """One network to train; its fields are the coordinates of its score."""

    seed: int
    task: str
    padding: str
    canvas: str
    grid: int

    @property
    def asks(self) -> CanvasTask:
        return CanvasTask(self.task, self.canvas, self.grid)


def run(
    images: Any = None,
    *,
    paddings: Sequence[str] = PADDINGS,
    preset: str = "quick",
    seeds: int | None = None,
    max_images: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train networks on images that stand in a cell of a canvas, under each padding.

    Parameters
    ----------
    images
        Folder with a folder for each class, such as CIFAR-10 as files; without it, scikit-learn's digits. Every fourth
        image is held out.
    paddings
        Some of ``probe.PADDINGS``.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks of each kind; by default the preset's.
    max_images
        How many to read of a folder; by default the preset's.
    device
        By default a GPU where there is one.
    progress
        Show a progress bar.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        From `probe.analyses.studies.study_result`, on (task, padding, canvas, grid): accuracy in percent, and for
        segmentation the mean intersection over union; besides ``by_ring``, on (seed, ring) as well, and ``chance``,
        on (task, grid), what a network gets that knows nothing.

    Raises
    ------
    ArgumentError
        If the preset or a padding is unknown, or there are no seeds.
    ImagesError
        If the preset ``"paper"`` comes without images, or the folder has fewer than two classes.

    Examples
    --------
    >>> result = run(preset="tiny", paddings=["zeros"], seeds=1, progress=False)
    >>> result.here.dims
    ('task', 'padding', 'canvas', 'grid')
    """
    started = time.monotonic()
    check_preset(preset)
    chosen = _PRESETS[preset]
    seeds = chosen.seeds if seeds is None else whole_number("seeds", seeds, 1)
    if isinstance(paddings, str) or not paddings or set(paddings) - set(PADDINGS):
        raise ArgumentError(f"paddings={paddings!r}: expected a list of some of {', '.join(PADDINGS)}.")
    if max_images is not None and images is None:
        raise ArgumentError("max_images: without a folder of images= it would have no effect. Leave it out.")
    resolved = training_device(device)
    training, tested = _load(images, preset, max_images or chosen.max_images, resolved)
    cases = [
        _Case(seed, task, padding, canvas, grid)
        for seed in range(seeds)
        for grid in chosen.grids
        for canvas in chosen.canvases
        for padding in paddings
        for task in TASKS
    ]
    # All made before the first is trained: random state and tracing, for the padding, are shared by all threads.
    networks = [_network(case, training, chosen).to(resolved) for case in cases]
    by_ring = _empty(cases)
    here = by_ring.isel(ring=0, drop=True).copy()
    warned: list[str] = []
    with (
        side_by_side(resolved) as pool,
        tqdm(total=len(cases), unit="network", desc="canvases", disable=None if progress else True) as bar,
    ):
        jobs = [
            pool.submit(_scores, case, network, training, tested, chosen)
            for case, network in zip(cases, networks, strict=True)
        ]
        for case, job in zip(cases, jobs, strict=True):
            try:
                here.loc[asdict(case)], values = job.result()
                by_ring.loc[asdict(case) | {"ring": list(range(len(values)))}] = values
            except PaddingError as error:
                warn(f"{case.padding}, grid {case.grid}: {error}", warned)
            bar.update()
    here.attrs = {"long_name": "accuracy, for segmentation mean intersection over union", "units": "%"}
    by_ring.attrs = {"long_name": f"{here.long_name}, by cells between image and border", "units": "%"}
    settings = {**asdict(chosen), "seeds": seeds, "learning_rate": LEARNING_RATE, "device": str(resolved)}
    return study_result(
        STUDY,
        here.isel(seed=0, drop=True) * np.nan,
        here,
        preset=preset,
        settings=settings | {"images": "digits" if images is None else Path(images).name, "n": len(training.labels)},
        started=started,
        others={
            "by_ring": by_ring,
            "chance": _chance(chosen.grids, training.n_classes),
            "shown_image": _shown(tested, chosen),
        },
        warnings=warned,
        command=command,
    )


def _load(
    images: Any, preset: str, max_images: int | None, device: torch.device
) -> tuple[LabelledImages, LabelledImages]:
    """Return the images to train on and those to test on."""
    chosen = _PRESETS[preset]
    if images is None and preset == "paper":
        raise ImagesError(
            "images: the paper preset needs CIFAR-10 as files. Get it at "
            "https://www.cs.toronto.edu/~kriz/cifar.html, write its images to <folder>/<class>/<number>.png anywhere, "
            "and pass that folder as images= (--images)."
        )
    if images is None:
        digits = [(part.strokes[:, None], part.labels) for part in load_digits(enlarged=1)]
        return _normalised(*digits[0], *digits[1], chosen.n_tested, device)
    pixels, labels, classes = read_classes(images, size=chosen.size, max_images=max_images)
    if len(classes) < 2:
        raise ImagesError(f"images: {images} has one class; expected <folder>/<class>/<image file>.")
    held_out = torch.arange(len(labels)) % _HELD_OUT == 0
    parts = pixels[~held_out], labels[~held_out], pixels[held_out], labels[held_out]
    return _normalised(*parts, chosen.n_tested, device)


def _normalised(
    images: Tensor, labels: Tensor, tested: Tensor, tested_labels: Tensor, n_tested: int, device: torch.device
) -> tuple[LabelledImages, LabelledImages]:
    mean, deviation = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    n_classes = int(labels.max()) + 1

    def normalised(pixels: Tensor, labels: Tensor) -> LabelledImages:
        scaled = (pixels - mean[:, None, None]) / deviation[:, None, None]
        return LabelledImages(scaled.to(device), labels.to(device), (mean.tolist(), deviation.tolist()), n_classes)

    chosen = evenly_spaced(len(tested), n_tested)  # a folder is read class by class: its first images are of one class
    return normalised(images, labels), normalised(tested[chosen], tested_labels[chosen])


def _network(case: _Case, data: LabelledImages, preset: Preset) -> nn.Module:
    padded = with_padding(case.asks.network(data, width=preset.width, seed=case.seed), case.padding)
    return OnCanvas(padded) if case.task == "segmentation" else padded


def _scores(
    case: _Case, model: nn.Module, training: LabelledImages, tested: LabelledImages, preset: Preset
) -> tuple[float, list[float]]:
    """Train a network; return its score on all cells, and by ring."""
    train(model, _batches(case, training, preset), steps=preset.steps)
    confusion, ring = case.asks.confusion(model, tested), rings(case.grid)
    parts = [confusion[ring == number].sum(dim=0) for number in range(int(ring.max()) + 1)]
    return case.asks.score(confusion.sum(dim=0)), [case.asks.score(part) for part in parts]


def _batches(case: _Case, data: LabelledImages, preset: Preset) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(case.seed)
    for _ in range(preset.steps):
        images = torch.randint(len(data.labels), (preset.batch_size,), generator=generator)
        cells = torch.randint(case.grid**2, (preset.batch_size,), generator=generator)
        yield case.asks.pose(data, images, cells)


def _shown(tested: LabelledImages, preset: Preset) -> xr.DataArray:
    """Keep a few test images on canvases of every colour, of as many cells as any."""
    grid = max(preset.grids)
    images = torch.tensor(evenly_spaced(len(tested.labels), _SHOWN))
    cells = assign_cells(range(len(images)), grid**2, seed=0)
    return keep_shown(
        {
            f"{canvas} canvas": CanvasTask("location", canvas, grid).pose(tested, images, cells)[0]
            for canvas in preset.canvases
        }
    )


def _chance(grids: Sequence[int], n_classes: int) -> xr.DataArray:
    rows = [[CanvasTask(task, "mean", grid).chance(n_classes) for grid in grids] for task in TASKS]
    about = {"long_name": "score of a constant answer", "units": "%"}
    return xr.DataArray(rows, coords={"task": list(TASKS), "grid": list(grids)}, attrs=about)


def _empty(cases: Sequence[_Case]) -> xr.DataArray:
    """Make an array of NaN on all coordinates of the cases and ``ring``."""
    names = {name: list(dict.fromkeys(getattr(case, name) for case in cases)) for name in asdict(cases[0])}
    coordinates = {**names, "ring": range((max(names["grid"]) + 1) // 2)}
    return xr.DataArray(np.full([len(values) for values in coordinates.values()], np.nan), coords=coordinates)
