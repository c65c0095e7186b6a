"""What globally pooled vectors know of position: images in one cell of a canvas, and a readout of which cell.

Averaging over the map takes the place of an activation away, but not what the network has written into its channels.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.checks import is_whole
from probe.errors import ArgumentError, ImagesError, counted, left_out, warn
from probe.images.canvases import CanvasColour, Normalisation, assign_cells, grid_along, place_on_grid
from probe.images.rows import Transform
from probe.intervals import jackknife, proportion
from probe.models.layers import Layer, LayerSelection
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.memory import IMAGES_WHERE_UNKNOWN, check_memory
from probe.reading.options import Options
from probe.reading.reader import Reader, open_reader
from probe.readouts.discriminant import count_correct
from probe.results import finish

__all__ = ["PERMUTATIONS", "pooled"]

PERMUTATIONS = ("image", "batch")
"""What shares a permutation of the channels: a single image, or the images of a batch as in the published code."""

_PERMUTED_TOGETHER = 48  # the batch size of the published code
_COPIES = 6  # of the widest layer's vectors in float64, while its readouts are scored


def pooled(
    model: nn.Module,
    images: Any,
    *,
    grid: int | Sequence[int] = 3,
    colour: CanvasColour = "zero",
    normalisation: Normalisation | None = None,
    permute: str | Iterable[str] = PERMUTATIONS,
    layers: LayerSelection = "auto",
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
    alpha: float = 1e-4,
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how well the place of an image on a canvas can be read from each layer, averaged over its map.

    The commonest uses::

        probe.pooled(model, images)
        probe.pooled(model, "photos/", grid=5, transform=transform)
        probe.pooled(video_model, clips, grid=(4, 1, 1))

    Each image stands in one cell of a canvas of grid × grid cells, a clip in one of grid × grid × grid, drawn from
    (seed, image number) and balanced, so that its content tells nothing of the cell. A linear discriminant (see
    `probe.readouts.discriminant`), fitted to the other folds of images, predicts the cell from the layer's averages
    over the map, one number a channel.

    A permutation of the channels leaves only which values there are, and a linear readout of channels that are
    permuted anew sees only their sum. So a readout of the sum alone, and one of the sorted values, which has all that
    permutation leaves, are always scored too.

    Parameters
    ----------
    model, images, layers, folds, groups, batch_size, num_workers, device, autocast, transform, input_key, layout, \
forward, max_images, seed, progress
        As in `probe.collect`. The model must take images of `grid` times their size.
    grid
        Cells along each side of the canvas, or a number for each axis, of clips (frame, row, column): ``(4, 1, 1)``
        asks when a clip begins in one of four times its length.
    colour
        Of the free cells: ``"zero"`` as the model takes it, which is the published choice and for normalised images
        the mean colour of the data set; ``"black"``; ``"white"``; ``"mean"``, the mean of that image; or one number
        for each channel, in the units of the images.
    normalisation
        Mean and standard deviation of each channel with which the images were normalised; black and white need them.
    permute
        ``"image"``: channels in an order of its own for each image; ``"batch"``: one order for each 48 images of a
        fold, as in the published code; or both, or none: ``()``.
    alpha
        Penalty of the readout, relative to the variance of each channel. It is smaller than for maps, since a sum of
        permuted channels may vary far less than each of them.

    Returns
    -------
    xarray.Dataset
        On (layer, readout): ``accuracy``, the share of held-out images whose cell is predicted, ``accuracy_se``
        (jackknife over folds), ``accuracy_low`` and ``accuracy_high``, its 95 % interval, which describes this one
        network (see `probe.intervals.proportion`); on (layer, readout, fold) ``accuracy_fold``; ``chance``, the share
        of the most common cell; on (layer) ``valid``. The readouts are ``ordered``, ``permuted_by_image``,
        ``permuted_by_batch``, ``sum`` and ``sorted``.

    Raises
    ------
    TooLargeError
        If the averages of all images and layers, which are kept, would not fit into memory.
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError
        Each names the argument, layer or file, what was found, and the cure.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global Pooling, More than Meets the Eye. ICCV 2021.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> images = noise_images(300, size=4)
    >>> for padding in ("zeros", "circular"):
    ...     result = probe.pooled(padded_net(padding), images, grid=2, progress=False)
    ...     print(padding, result.accuracy.sel(layer="conv4", readout="ordered").item() > 0.5)
    zeros True
    circular False
    """
    options = Options(
        layers=layers, folds=folds, groups=groups, batch_size=batch_size, num_workers=num_workers, device=device,
        autocast=autocast, transform=transform, input_key=input_key, layout=layout, forward=forward,
        max_images=max_images, seed=seed, progress=progress, task="pooled",
    )  # fmt: skip
    _check(grid, alpha)
    readouts = _readouts(permute)

    n_cells = 0

    def place(shown: Tensor, numbers: Sequence[int]) -> Tensor:
        nonlocal n_cells
        n_cells = math.prod(grid_along(grid, shown.ndim - 2))
        return place_on_grid(shown, assign_cells(numbers, n_cells, seed), grid, colour, normalisation=normalisation)

    with open_reader(model, images, options, place) as reader:
        vectors = _collect(reader, options)
        facts = reader.facts(vectors.skipped)
    settings = {
        "grid": list(map(int, grid)) if isinstance(grid, Iterable) else int(grid),
        "colour": colour if isinstance(colour, str) else np.asarray(colour).tolist(),
        "normalisation": None if normalisation is None else np.asarray(normalisation).tolist(), "folds": folds,
        "alpha": alpha, "groups": groups is not None,
    }  # fmt: skip
    result = _score(vectors, assign_cells(vectors.numbers, n_cells, seed).numpy(), readouts, n_cells, alpha, seed)
    invalid = [str(name) for name in result.layer.values[~result.valid.values]]
    if invalid:
        warn(f"not finite: {', '.join(invalid)} gave NaN or infinity and is not scored.", reader.warned)
    return finish(result, kind="pooled", facts=facts.warned(reader.warned), settings=settings)


def _check(grid: Any, alpha: float) -> None:
    is_one = is_whole(grid) and grid >= 2
    if not is_one and not isinstance(grid, tuple | list):
        raise ArgumentError(
            f"grid={grid!r}: expected a whole number of at least 2, the cells along each side, or one for each axis."
        )
    if not alpha > 0:
        raise ArgumentError(f"alpha={alpha!r}: expected a number above 0. The default is 1e-4.")


@dataclass
class _Vectors:
    """The averages over the map of each layer, shape (image, channel), of images in the order of their numbers."""

    layers: list[Layer]
    skipped: dict[str, str]
    by_layer: dict[str, np.ndarray]
    numbers: list[int]
    folds: np.ndarray


def _collect(reader: Reader, options: Options) -> _Vectors:
    layers, skipped = reader.layers(options.layers)
    if skipped:
        warn(f"layers: {left_out(len(skipped))}: {', '.join(list(skipped)[:5])}.", reader.warned)
    n_images = reader.length or options.max_images or IMAGES_WHERE_UNKNOWN
    widths = [layer.n_channels for layer in layers]
    check_memory(
        n_images * (4 * sum(widths) + 8 * _COPIES * max(widths)),
        torch.device("cpu"),
        f"the averages of {counted(n_images, 'image')} in {counted(len(layers), 'layer')}",
        "Choose fewer layers= or max_images=.",
    )
    parts: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    numbers: list[int] = []
    folds: list[int] = []

    def average(layer: Layer, maps: Tensor) -> Tensor:
        return maps.mean(dim=tuple(range(2, maps.ndim)), dtype=torch.promote_types(maps.dtype, torch.float32)).cpu()

    with reader.reading(layers, average) as run:
        for batch, canvases in reader.batches():
            numbers.extend(batch.numbers)
            folds.extend(batch.folds)
            for name, averages in run(canvases).items():
                parts[name].append(averages)
    order = np.argsort(numbers)
    by_layer = {name: torch.cat(parts.pop(name)).numpy()[order] for name in list(parts)}
    return _Vectors(layers, skipped, by_layer, [numbers[i] for i in order], np.array(folds)[order])


Readout = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _permuted_by_image(vectors: np.ndarray, folds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Permute the channels of each image, shape (image, channel), independently."""
    return generator.permuted(vectors, axis=1)


def _permuted_by_batch(vectors: np.ndarray, folds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Permute the channels of 48 images at a time in the same way; no permutation is shared between folds."""
    result = np.empty_like(vectors)
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        for start in range(0, len(members), _PERMUTED_TOGETHER):
            batch = members[start : start + _PERMUTED_TOGETHER]
            result[batch] = vectors[batch][:, generator.permutation(vectors.shape[1])]
    return result


def _readouts(permute: str | Iterable[str]) -> dict[str, Readout]:
    """Return what each readout sees of the vectors."""
    chosen = (permute,) if isinstance(permute, str) else tuple(permute)
    if set(chosen) - set(PERMUTATIONS):
        raise ArgumentError(f"permute={permute!r}: expected some of {', '.join(PERMUTATIONS)}, or () for none.")
    permuted: dict[str, Readout] = {"image": _permuted_by_image, "batch": _permuted_by_batch}
    return {
        "ordered": lambda vectors, folds, generator: vectors,
        **{f"permuted_by_{name}": permuted[name] for name in PERMUTATIONS if name in chosen},
        "sum": lambda vectors, folds, generator: vectors.sum(axis=1, keepdims=True, dtype=np.float64),
        "sorted": lambda vectors, folds, generator: np.sort(vectors, axis=1),
    }


def _score(
    vectors: _Vectors, cells: np.ndarray, readouts: dict[str, Readout], n_cells: int, alpha: float, seed: int
) -> xr.Dataset:
    counts = _check_folds(cells, vectors.folds, n_cells)
    valid = {name: bool(np.isfinite(values).all()) for name, values in vectors.by_layer.items()}
    correct = np.full((len(vectors.layers), len(readouts), len(counts)), np.nan)
    for place, (name, values) in enumerate(vectors.by_layer.items()):
        for column, seen in enumerate(readouts.values()):
            if valid[name]:
                features = seen(values, vectors.folds, np.random.default_rng((seed, place)))
                correct[place, column] = count_correct(
                    features, cells, vectors.folds, n_classes=n_cells, alpha=alpha, precision=values.dtype.type
                )
    total = correct.sum(axis=2)
    left_out = (total[..., None] - correct) / (counts.sum() - counts)
    accuracy = total / counts.sum()
    error = jackknife(accuracy, np.moveaxis(left_out, 2, 0), counts)
    low, high = proportion(accuracy, error, counts.sum())
    dims = ("layer", "readout")
    layer_facts = ("module_type", "call", "n_channels", "height", "width", "layout")
    coordinates: dict[str, Any] = {
        "layer": [layer.name for layer in vectors.layers],
        "readout": list(readouts),
        "fold": np.unique(vectors.folds),
        "depth": ("layer", [layer.depth for layer in vectors.layers]),
        **{fact: ("layer", [getattr(layer, fact) for layer in vectors.layers]) for fact in layer_facts},
        "samples_per_feature": ("layer", [counts.sum() / layer.n_channels for layer in vectors.layers]),
    }
    variables = {
        "accuracy": (dims, accuracy, _described("share of held-out images whose cell is predicted")),
        "accuracy_se": (dims, error, _described("standard error of the accuracy (jackknife over folds of images)")),
        "accuracy_low": (dims, low, _described("lower end of the 95 % interval of the accuracy")),
        "accuracy_high": (dims, high, _described("upper end of the 95 % interval of the accuracy")),
        "accuracy_fold": ((*dims, "fold"), correct / counts, _described("accuracy within each fold")),
        "chance": ((), np.bincount(cells).max() / len(cells), _described("share of the most common cell")),
        "valid": ("layer", list(valid.values()), _described("whether all activations were finite")),
    }
    return xr.Dataset(variables, coordinates)


def _described(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}


def _check_folds(cells: np.ndarray, folds: np.ndarray, n_cells: int) -> np.ndarray:
    """Return the number of images in each fold; every cell must be known without any of them."""
    numbers, counts = np.unique(folds, return_counts=True)
    for fold in numbers:
        if np.bincount(cells[folds != fold], minlength=n_cells).min() == 0:
            raise ImagesError(
                f"images: {len(cells)} are too few for {n_cells} cells: without fold {fold} one cell has none. "
                f"Pass at least {10 * n_cells} images."
            )
    return counts
