"""Where in another image the features of a cell find their like: what positional bias does to matching."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.axes import axes_of_size
from probe.checks import whole_number
from probe.errors import ArgumentError, ImagesError, counted, left_out, warn
from probe.images.rows import Transform
from probe.intervals import half_width, mean_over_images
from probe.models.layers import Layer, LayerSelection
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.cells import draw_cells
from probe.reading.memory import check_memory
from probe.reading.options import Options
from probe.reading.reader import Reader, open_reader
from probe.results import finish
from probe.sums.gram import summing_dtype

__all__ = ["chance_of_same_place", "neighbours", "same_places"]

_STIMULI = ("natural", "rolled")
_FOLDS = 2  # images of one fold come in the order of their numbers, whatever the batches and the form of the data set
_KEPT = 32  # images of each fold, among which the other one is drawn
_TIE = 1e-6  # of similarity: less is rounding
_POSITIONS = 256

Change = Callable[[Tensor], Tensor]


def _unchanged(features: Tensor) -> Tensor:
    return features


def neighbours(
    model: nn.Module,
    images: Any,
    layer: LayerSelection,
    *,
    reach: int = 1,
    stimuli: str | Iterable[str] = _STIMULI,
    positions: int | None = _POSITIONS,
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
    """Measure how often the features of a cell find their nearest at the same place of another image.

    The commonest uses::

        probe.neighbours(model, images, "blocks.11")
        probe.neighbours(model, "photos/", ["layer3", "layer4"], transform=transform)
        probe.neighbours(model, images, "layer4", reach=0, positions=None)

    Each image is compared with one that was read before it, drawn from (seed, image number) among up to 32 that stand
    for all of these. Of each cell, the most similar (cosine) among all cells of the other image is sought; the same
    place is within `reach` cells along rows and along columns.

    On ``natural`` images both share sky on top and objects in the middle, so that content too finds its like at the
    same place. For ``rolled``, the other image is rolled by a uniform offset on both axes, and place is that of the
    network's map, not of the content: what was on top may be anywhere, independently of the image that is compared, so
    a nearest at the same place more often than by chance is due to the architecture. The roll is therefore not undone;
    undoing it would ask whether content is found again.

    The images are read once, and the model runs on each as it is and, for ``rolled``, rolled. Kept are the features of
    at most 64 images, 4 · 64 · stimuli · channels · cells bytes, whatever the number of images.

    Parameters
    ----------
    model, images, batch_size, num_workers, device, autocast, transform, input_key, layout, forward, max_images, seed, \
progress
        As in `probe.collect`. Within ``with probe.ablate(model, …):`` the changed features are compared.
    layer
        One layer or several, as in `probe.collect`; prefix tokens are left aside.
    reach
        In cells, along rows and along columns; 0 for the very same cell.
    stimuli
        ``"natural"``, ``"rolled"`` or both: what the other image is shown as.
    positions
        Cells of each image whose nearest is sought, drawn from (seed, image number); None for all. They are sought
        among all cells in any case.

    Returns
    -------
    xarray.Dataset
        On (layer, stimulus): ``same_place``, the share of cells whose nearest is at the same place: 1 if features tell
        place alone, ``chance`` if they do not tell it; below chance if they avoid it. ``same_place_se`` (jackknife over
        the other images), ``same_place_low`` and ``same_place_high``, its 95 % interval; ``distance``, the mean
        distance in cells between the two places, beside ``distance_chance``. On layer: ``chance``, the number of cells
        within reach over all cells, mean over cells, and ``n_cells``. On (image, layer, stimulus):
        ``same_place_image``; on image: ``other_image``, the number of the one it was compared with. Cells that are
        equally near count in equal parts; cells with no features but 0 have no direction, and are left out.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayoutError, TooLargeError
        Each names the argument or layer, what was found, and the cure.

    References
    ----------
    Amir, Gandelsman, Bagon, Dekel: Deep ViT Features as Dense Visual Descriptors. ECCV Workshops 2022, on what position
    does to nearest features.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> faint = 1 + noise_images(10, 8) / 1000
    >>> result = probe.neighbours(CoordinateNet(), faint, "identity", reach=0, progress=False)
    >>> result.same_place.sel(stimulus="rolled").item(), result.chance.item()
    (1.0, 0.015625)
    """
    options = Options(
        layers=layer, stimuli=stimuli, folds=_FOLDS, batch_size=batch_size, num_workers=num_workers, device=device,
        autocast=autocast, transform=transform, input_key=input_key, layout=layout, forward=forward,
        max_images=max_images, seed=seed, progress=progress, task="neighbours",
    )  # fmt: skip
    _check(options, reach, positions)
    with open_reader(model, images, options) as reader:
        layers, skipped = reader.layers(layer)
        if skipped:
            warn(f"layer: {left_out(len(skipped))}: {', '.join(list(skipped)[:5])}.", reader.warned)
        _check_flat(layers)
        _check_memory(reader, layers, options)
        matches = _read(reader, [_View(one) for one in layers], options, reach, positions)
        facts = reader.facts(skipped)
    result = _summarise(matches, layers, options, reach)
    for name in (str(name) for name in result.layer.values):
        if result.same_place.sel(layer=name).isnull().any():
            warn(f"not scored: {name} gave NaN, infinity or only 0.", reader.warned)
    return finish(
        result,
        kind="neighbours",
        facts=facts.warned(reader.warned),
        settings={
            "layers": [one.name for one in layers], "reach": reach, "stimuli": list(options.stimulus_names),
            "positions": positions, "autocast": options.precision and str(options.precision),
        },
        reach=reach,
        n_pairs=len(matches.numbers),
    )  # fmt: skip


def same_places(
    model: nn.Module, images: Any, layer: str, changes: Sequence[Change], options: Options, *, reach: int = 1
) -> xr.Dataset:
    """Measure how often the nearest cell is at the same place, with the features of a layer changed in several ways.

    The images are read once for all of them.

    Parameters
    ----------
    model, images
        As in `neighbours`.
    layer
        One layer.
    changes
        Functions from the features of cells, shape (cell, channel), to others of the same shape.
    options
        As in `neighbours`; its layers, stimuli and folds are not looked at.
    reach
        As in `neighbours`.

    Returns
    -------
    xarray.Dataset
        ``same_place`` and ``same_place_se`` on (change, stimulus), and ``chance``.
    """
    options = replace(options, layers=layer, stimuli=_STIMULI, folds=_FOLDS, groups=None, phase="same place")
    with open_reader(model, images, options) as reader:
        place = reader.layer(layer)
        _check_flat([place])
        _check_memory(reader, [place], options)
        matches = _read(reader, [_View(place, change) for change in changes], options, reach, _POSITIONS)
    _, mean, error, _ = _mean_shares(matches)
    dims = ("change", "stimulus")
    return xr.Dataset(
        {"same_place": (dims, mean), "same_place_se": (dims, error)},
        {"stimulus": list(_STIMULI)},
        {"chance": chance_of_same_place(place.height, place.width, reach)},
    )


def chance_of_same_place(height: int, width: int, reach: int) -> float:
    """Return how often two cells of a map that are drawn independently are within reach of each other.

    It is the number of cells within reach of a cell over all cells, mean over cells: those at the border have fewer.

    Examples
    --------
    >>> chance_of_same_place(3, 3, 0), chance_of_same_place(2, 2, 1)
    (0.1111111111111111, 1.0)
    """
    near = [sum(max(size - abs(d), 0) for d in range(-reach, reach + 1)) / size**2 for size in (height, width)]
    return near[0] * near[1]


def _chance_distance(height: int, width: int) -> float:
    """Return the mean distance of two cells of a map that are drawn independently."""
    rows, columns = (np.abs(np.subtract.outer(np.arange(size), np.arange(size))) for size in (height, width))
    # How often each difference occurs, along either axis.
    row_counts, column_counts = (np.bincount(part.ravel()) / part.size for part in (rows, columns))
    distances = np.hypot(np.arange(height)[:, None], np.arange(width)[None, :])
    return float(row_counts @ distances @ column_counts)


def _check(options: Options, reach: Any, positions: Any) -> None:
    for name, value, least in (("reach", reach, 0), ("positions", positions, 1)):
        if name != "positions" or value is not None:
            whole_number(name, value, least, otherwise="None (every cell) or " * (name == "positions"))
    if other := [name for name in options.stimulus_names if name not in _STIMULI]:
        raise ArgumentError(f"stimuli: {', '.join(other)} has no content to compare; expected {' or '.join(_STIMULI)}.")


def _check_flat(layers: Sequence[Layer]) -> None:
    """Refuse maps with frames: the same place in two clips need not be the same moment."""
    for layer in layers:
        if len(layer.size) > 2:
            raise ArgumentError(
                f"layer={layer.name!r}: its maps have {', '.join(axes_of_size(layer.size))}; neighbours are sought in "
                "maps of rows and columns alone, as of single frames."
            )


def _check_memory(reader: Reader, layers: Sequence[Layer], options: Options) -> None:
    n_images = min(_FOLDS * _KEPT, reader.length or _FOLDS * _KEPT) + options.batch_size
    width = 8 if any(p.dtype == torch.float64 for p in reader.model.parameters()) else 4
    numbers = sum(layer.n_channels * layer.height * layer.width for layer in layers)
    check_memory(
        n_images * len(options.stimulus_names) * numbers * width,
        reader.device,
        f"the features of {counted(n_images, 'image')} in {counted(len(layers), 'layer')}",
        "Choose fewer layers, or one with a smaller map, or a smaller batch_size=.",
    )


@dataclass
class _Matches:
    """Of each image that was compared: its number and the other's; share and distance on (layer, stimulus)."""

    numbers: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    shares: list[np.ndarray] = field(default_factory=list)
    distances: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _View:
    """The features of a layer as they are compared: changed, each by its length."""

    layer: Layer
    change: Change = _unchanged

    def __call__(self, features: Tensor) -> Tensor:
        """Return the changed features of cells, shape (cell, channel), of length 1; NaN where they are all 0."""
        changed = self.change(features)
        return changed / changed.norm(dim=1, keepdim=True)


def _features(layer: Layer, maps: Tensor) -> Tensor:
    """Return the features of each cell, shape (image, cell, channel)."""
    if maps.shape[2:] != (layer.height, layer.width):
        raise ImagesError(
            f"images: {layer.name} has maps of {layer.height}×{layer.width} and of {maps.shape[2]}×{maps.shape[3]} "
            "cells, which have no places in common. Bring the images to one size."
        )
    return maps.flatten(2).transpose(1, 2).to(summing_dtype(maps), memory_format=torch.contiguous_format)


def _read(reader: Reader, views: Sequence[_View], options: Options, reach: int, positions: int | None) -> _Matches:
    """Compare each image with one of those kept of its fold; which are kept follows from the image numbers."""
    layers = list({view.layer.name: view.layer for view in views}.values())
    matches = _Matches()
    kept: list[list[tuple[int, dict[str, dict[str, Tensor]]]]] = [[] for _ in range(_FOLDS)]
    n_read = [0] * _FOLDS
    with reader.reading(layers, _features) as run:
        for batch, pixels in reader.batches():
            # The image that is compared is natural, whatever the other one is shown as.
            shown = {name: run(pixels, name) for name in dict.fromkeys(("natural", *options.stimulus_names))}
            for place, (number, fold) in enumerate(zip(batch.numbers, batch.folds, strict=True)):
                generator = np.random.default_rng((options.seed, number))
                if kept[fold]:
                    which, other = kept[fold][generator.integers(len(kept[fold]))]
                    one = {layer.name: shown["natural"][layer.name][place] for layer in layers}
                    found = [
                        _compare(one[view.layer.name], other, view, number, options, reach, positions) for view in views
                    ]
                    matches.numbers.append(number)
                    matches.others.append(which)
                    matches.shares.append(np.array([share for share, _ in found]))
                    matches.distances.append(np.array([distance for _, distance in found]))
                # Every image so far stays with the same chance, so that those kept stand for all (reservoir sampling).
                n_read[fold] += 1
                slot = len(kept[fold]) if len(kept[fold]) < _KEPT else int(generator.integers(n_read[fold]))
                if slot < _KEPT:
                    parts = {
                        name: {layer.name: shown[name][layer.name][place].clone() for layer in layers}
                        for name in options.stimulus_names
                    }
                    kept[fold][slot : slot + 1] = [(number, parts)]
    return matches


def _compare(
    one: Tensor,
    other: dict[str, dict[str, Tensor]],
    view: _View,
    number: int,
    options: Options,
    reach: int,
    positions: int | None,
) -> tuple[list[float], list[float]]:
    """Return the share of cells whose nearest is at the same place, and how far that is on average, by stimulus."""
    layer = view.layer
    cells = torch.from_numpy(draw_cells(options.seed, [number], len(one), positions)[0][0]).to(one.device)
    rows, columns = (axis.to(one.device) for axis in _places(layer, len(one)))
    apart = [(axis[cells, None] - axis[None, :]).abs() for axis in (rows, columns)]
    within = (apart[0] <= reach) & (apart[1] <= reach)
    distance = torch.hypot(*(axis.float() for axis in apart))
    shares: list[float] = []
    distances: list[float] = []
    for name in options.stimulus_names:
        with torch.autocast(one.device.type, enabled=False):
            similarity = view(one[cells]) @ view(other[name][layer.name]).T
        known = ~similarity.isnan().all(dim=1)
        similarity = similarity.nan_to_num(nan=-torch.inf)
        nearest = (similarity >= similarity.amax(dim=1, keepdim=True) - _TIE) & known[:, None]
        count = nearest.sum(dim=1).clamp(min=1)
        for values, into in ((within, shares), (distance, distances)):
            of_cells = (nearest * values).sum(dim=1, dtype=torch.float64) / count
            into.append(of_cells[known].mean().item())  # NaN where no cell has features
    return shares, distances


def _places(layer: Layer, n_cells: int) -> tuple[Tensor, Tensor]:
    """Return the row and column of each cell."""
    places = torch.arange(n_cells, device="cpu")
    return places // layer.width, places % layer.width


def _mean_shares(matches: _Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return the order of the images by number, the mean share and its error on (view, stimulus), and of how many."""
    if len(matches.numbers) < 2:
        raise ImagesError(
            f"images: they give {counted(len(matches.numbers), 'pair')} of images. Pass at least {_FOLDS + 2}."
        )
    order = np.argsort(matches.numbers)
    # Several images are compared with the same one, in which all of them meet the same content and the same roll.
    units = np.unique(np.array(matches.others)[order], return_inverse=True)[1]
    mean, error, n_units = mean_over_images(np.stack(matches.shares)[order], units)
    return order, mean, error, n_units


def _summarise(matches: _Matches, layers: Sequence[Layer], options: Options, reach: int) -> xr.Dataset:
    order, mean, error, n_units = _mean_shares(matches)
    shares, distances = np.stack(matches.shares)[order], np.stack(matches.distances)[order]
    units = np.unique(np.array(matches.others)[order], return_inverse=True)[1]
    half = half_width(error, n_units - 1)
    mean_distance = mean_over_images(distances, units)[0]
    dims = ("layer", "stimulus")
    grids = [(layer.height, layer.width) for layer in layers]
    same = "share of cells whose nearest in another image is at the same place"
    low, high = np.maximum(mean - half, 0), np.minimum(mean + half, 1)
    variables = {
        "same_place": (dims, mean, _described(same)),
        "same_place_se": (dims, error, _described(f"standard error of the {same} (jackknife over the other images)")),
        "same_place_low": (dims, low, _described(f"lower end of the 95 % interval of the {same}")),
        "same_place_high": (dims, high, _described(f"upper end of the 95 % interval of the {same}")),
        "same_place_image": (("image", *dims), shares, _described(f"{same}, of each image")),
        "other_image": ("image", np.array(matches.others)[order], _described("the one it is compared with")),
        "chance": (
            "layer",
            [chance_of_same_place(*grid, reach) for grid in grids],
            _described("share of cells within reach, mean over cells"),
        ),
        "distance": (dims, mean_distance, _described("mean distance", "cell")),
        "distance_chance": (
            "layer", [_chance_distance(*grid) for grid in grids], _described("mean distance of cells at random", "cell")
        ),
        "n_cells": ("layer", [height * width for height, width in grids], _described("number of cells")),
    }  # fmt: skip
    facts = ("module_type", "call", "depth", "n_channels", "height", "width", "layout")
    coordinates: dict[str, Any] = {
        "layer": [layer.name for layer in layers],
        "stimulus": list(options.stimulus_names),
        "image": np.array(matches.numbers)[order],
        **{fact: ("layer", [getattr(layer, fact) for layer in layers]) for fact in facts},
    }
    return xr.Dataset(variables, coordinates)


def _described(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}
