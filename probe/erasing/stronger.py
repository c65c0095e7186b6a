"""What readouts that are stronger than linear ones of single cells still find after erasing."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from probe.axes import axes_of_size, sized
from probe.checks import whole_number
from probe.erasing.proof import splits
from probe.erasing.recipes import INTACT, Recipe, directions_of, recipes_for
from probe.errors import ArgumentError, ImagesError, ProbeWarning, warn
from probe.images.batches import check_reread
from probe.images.rows import Transform
from probe.models.layers import Layer
from probe.models.layouts import as_maps
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.cells import draw_cells
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.readouts.erased_sums import erased_gram, of_neighbourhoods
from probe.readouts.erasers import ErasedPlace, Projection, erased
from probe.readouts.fitted_erasers import covariances_of
from probe.readouts.scores import crossed_sums
from probe.readouts.targets import target_maps
from probe.results import finish
from probe.sums.rounding import ROUNDING_ERRORS
from probe.sums.statistics import Statistics

__all__ = ["READERS", "neighbourhoods", "stronger_readouts"]

READERS = ("cell", "neighbourhood", "perceptron")
"""A linear readout of a cell, one of its 3×3 neighbourhood, and a two-layer perceptron of a cell."""

_ALPHA = 1e-3
_SIDE = 3
_HIDDEN = 64
_EPOCHS = 60


def stronger_readouts(
    model: nn.Module,
    images: Any,
    layer: str,
    *,
    methods: str | Iterable[str] = ("leace", "cells"),
    ranks: int | Sequence[int] = (2, 8),
    targets: str | Iterable[str] = ("row", "column"),
    fit_stimulus: str = "rolled",
    stimuli: str | Iterable[str] = ("natural", "rolled"),
    readers: str | Iterable[str] = READERS,
    samples: int = 20_000,
    seeds: int = 3,
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
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
    """Measure what stronger readouts still find after erasing.

    The commonest uses::

        probe.stronger_readouts(model, images, "layer4")
        probe.stronger_readouts(model, images, "blocks.11", methods=["leace", "cells", "iterated"], ranks=[2, 8, 32])
        probe.stronger_readouts(model, images, "layer4", fit_stimulus="natural", samples=50_000)

    An eraser leaves nothing to linear readouts of single cells. It does not follow that position is gone: a perceptron
    may read what no linear readout can, and neighbouring cells together tell what none tells alone.

    Parameters
    ----------
    model, images
        As in `layerwise`. The images are read three times.
    layer
        Name of the layer.
    methods, ranks, targets
        As in `erasure_proof`.
    fit_stimulus
        What the erasers are fitted to, one of `stimuli`.
    stimuli
        What position is read on.
    readers
        Of ``cell``, ``neighbourhood`` and ``perceptron``, those to measure. Neighbourhoods have nine times as many
        features as cells; the time that they take grows with the third power of that number.
    samples
        Number of cells that the perceptron is shown, of all images together; they are kept in memory, channels × 4
        bytes each. Images of one size alone can be read.
    seeds
        Number of perceptrons, which differ in their first weights, at least 2.
    folds
        Of images, at least 4. The erasers are fitted to the first half of them.
    groups, batch_size, num_workers, device, autocast, transform, input_key, layout, forward, max_images
        As in `layerwise`.
    seed, progress
        As in `layerwise`.

    Returns
    -------
    xarray.Dataset
        On (reader, eraser, stimulus, target): ``r2``, ``r2_se``. ``reader`` is ``cell`` (linear), ``neighbourhood``
        (linear, of the features of 3×3 cells, those at the border left out) and ``perceptron`` (of one hidden layer);
        the first ``eraser`` is ``intact``. Linear ones are free of the bias of small samples, with a jackknife over
        images, and NaN where a fold has fewer samples than they have features. The perceptron's R² is plain, from a
        fold that it has not seen, below 0 where it has learnt nothing, and its error is that over seeds alone.
        ``r2_null`` is the perceptron's with the positions shuffled.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError
        Each names the argument, layer or file, what was found, and the cure.
    TooLargeError
        If the products of the neighbourhoods' features, nine times as many as channels, do not fit the memory.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> found = probe.stronger_readouts(
    ...     padded_net("zeros"), noise_images(100), "conv4", methods="leace", ranks=[2], stimuli="rolled",
    ...     samples=2000, seeds=2, progress=False,
    ... )
    >>> row = found.r2.sel(stimulus="rolled", target="row", eraser=1)
    >>> abs(row.sel(reader="cell").item()) < 0.02, row.sel(reader="neighbourhood").item() > 0.02
    (True, True)
    """
    for name, value, least in (("seeds", seeds, 2), ("samples", samples, 100)):
        whole_number(name, value, least)
    check_reread(images, "they are read for the erasers, for neighbourhoods and for perceptrons")
    options = Options(
        layers=layer, targets=targets, stimuli=stimuli, folds=folds, groups=groups, batch_size=batch_size,
        num_workers=num_workers, device=device, autocast=autocast, transform=transform, input_key=input_key,
        layout=layout, forward=forward, max_images=max_images, seed=seed, progress=progress, task="stronger readouts",
    )  # fmt: skip
    chosen = _chosen_readers(readers)
    split = splits(folds)[0]
    statistics, _ = collect_statistics(model, images, options, grams=True, moments=True)
    place = statistics.layers[0]
    recipes = recipes_for(statistics, layer, methods, ranks, targets, fit_stimulus)
    recipes = [Recipe(INTACT, 0, fit_stimulus, recipes[0].targets), *recipes]
    known = covariances_of(statistics, place, fit_stimulus, split.fitted)
    projections = [directions_of(statistics, recipe, known) for recipe in recipes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)  # the first reading has said what there is to say
        if "neighbourhood" in chosen:
            neighbours = _neighbourhood_statistics(model, images, options, layer)
        if "perceptron" in chosen:
            shown = _samples(model, images, replace(options, phase="samples"), samples)
    warned: list[str] = []
    shape = (len(recipes), len(statistics.stimuli), len(statistics.targets))
    found = {"cell": _linear(statistics, projections, split.read, warned)}
    null, n_samples = np.full(shape, np.nan), 0
    if "neighbourhood" in chosen:
        wide = [of_neighbourhoods(projection, _SIDE**2) for projection in projections]
        found["neighbourhood"] = _linear(neighbours, wide, split.read, warned)
    if "perceptron" in chosen:
        *scores, null = _perceptrons(shown, projections, split.read, seeds, progress)
        found["perceptron"], n_samples = (scores[0], scores[1]), len(shown.folds)
    r2, r2_se = (np.stack([found[reader][part] for reader in chosen]) for part in (0, 1))
    dims = ("eraser", "stimulus", "target")
    result = xr.Dataset(
        {
            "r2": (("reader", *dims), r2),
            "r2_se": (("reader", *dims), r2_se),
            "r2_null": (dims, null),
        },
        coords={
            "reader": chosen,
            "method": ("eraser", [recipe.method for recipe in recipes]),
            "n_directions": ("eraser", [recipe.rank for recipe in recipes]),
            "eraser": np.arange(len(recipes)),
            "stimulus": statistics.stimuli,
            "target": statistics.targets,
        },
    )
    return finish(
        result,
        kind="stronger_readouts",
        facts=statistics.facts.warned(warned),
        settings={
            **statistics.settings, "fitted_to": fit_stimulus, "erased": list(recipes[0].targets),
            "samples": n_samples, "seeds": seeds, "hidden": _HIDDEN, "alpha": _ALPHA,
        },
        layer=layer,
    )  # fmt: skip


def _chosen_readers(readers: str | Iterable[str]) -> list[str]:
    named = [readers] if isinstance(readers, str) else [str(reader) for reader in readers]
    if not named or set(named) - set(READERS):
        raise ArgumentError(f"readers={named}: expected some of {', '.join(READERS)}.")
    return [reader for reader in READERS if reader in named]


def _neighbourhood_statistics(model: nn.Module, images: Any, options: Options, name: str) -> Statistics:
    """Collect the sums of 3×3 cells at a time, wherever all nine are on the map."""
    with open_reader(model, images, options) as reader:
        place = reader.layer(name)
    if len(place.size) > 2:
        raise ArgumentError(
            f"layer={name!r}: a map of {sized(place.size)} cells ({', '.join(axes_of_size(place.size))}), of which "
            "neighbourhoods of rows and columns are not read. Choose readers= without 'neighbourhood'."
        )
    if min(place.size) < _SIDE + 1:
        raise ArgumentError(
            f"layer={name!r}: a map of {sized(place.size)} cells has too few of {_SIDE}×{_SIDE} to read."
        )
    given = {name: partial(neighbourhoods, layer=place)}
    return collect_statistics(
        model, images, replace(options, layout=given, phase="neighbourhoods"), grams=True, moments=False
    )[0]


def neighbourhoods(output: Tensor, layer: Layer) -> Tensor:
    """Return the features of 3×3 cells as channels of their middle, channel by channel."""
    maps = as_maps(output, layer, [layer.size])
    assert maps is not None
    grid = (maps.shape[2] - _SIDE + 1, maps.shape[3] - _SIDE + 1)
    return functional.unfold(maps, _SIDE).unflatten(2, grid)


def _linear(
    statistics: Statistics, projections: Sequence[Projection], folds: Sequence[int], warned: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return R² of linear readouts and its standard error, shape (projection, stimulus, target)."""
    n_targets, name = len(statistics.targets), statistics.layers[0].name
    shape = (len(projections), len(statistics.stimuli), n_targets)
    r2, r2_se = np.full((2, *shape), np.nan)
    for place, stimulus in enumerate(statistics.stimuli):
        gram = statistics.grams[stimulus, name]
        n_samples = int(gram.totals[list(folds), 0].min())
        if n_samples < len(gram.pilot):
            warn(
                f"{len(gram.pilot)} features, on {stimulus} images, are more than the {n_samples} samples of a fold "
                "that their readout is fitted to: NaN. Pass more images.",
                warned,
            )
            continue
        for number, one in enumerate(projections):
            sums = crossed_sums(erased_gram(gram, one, folds, n_targets), n_targets, _ALPHA)
            r2[number, place], r2_se[number, place] = sums.r2, sums.r2_se
    return r2, r2_se


@dataclass(frozen=True)
class _Samples:
    """Some cells of all images: features by stimulus, shape (sample, channel), targets (sample, target), and folds."""

    features: dict[str, np.ndarray]
    values: np.ndarray
    folds: np.ndarray


def _samples(model: nn.Module, images: Any, options: Options, count: int) -> _Samples:
    features: dict[str, list[np.ndarray]] = {stimulus: [] for stimulus in options.stimulus_names}
    values: list[np.ndarray] = []
    folds: list[int] = []
    with open_reader(model, images, options) as reader:
        place = reader.layer(options.layers)
        per_image = max(1, count // (reader.length or count))
        table = target_maps(options.target_functions, *place.size).reshape(len(options.target_functions), -1)

        def add(layer: Layer, maps: Tensor) -> None:
            image = torch.arange(len(maps))[:, None]
            chosen = maps.flatten(2).transpose(1, 2)[image, torch.from_numpy(cells)]
            features[stimulus].append(chosen.flatten(0, 1).float().cpu().numpy())

        with reader.reading([place], add) as run:
            for batch, pixels in reader.batches():
                cells = draw_cells(options.seed, batch.numbers, table.shape[1], per_image)[0]
                values.append(table[:, cells.ravel()].T)
                folds.extend(np.repeat(batch.folds, cells.shape[1]).tolist())
                for stimulus in options.stimulus_names:
                    run(pixels, stimulus)
                if len(folds) >= count:
                    break
    return _Samples(
        {stimulus: np.concatenate(parts) for stimulus, parts in features.items()},
        np.concatenate(values),
        np.array(folds),
    )


def _perceptrons(
    shown: _Samples, projections: Sequence[Projection], folds: Sequence[int], seeds: int, progress: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return R² of perceptrons, its error over seeds, and R² when shuffled, shape (projection, stimulus, target)."""
    train, test = np.isin(shown.folds, folds[:-1]), shown.folds == folds[-1]
    if not train.any() or not test.any():
        raise ImagesError("images: too few for folds=: some of the folds in which position is read have none.")
    r2, r2_se, null = [], [], []
    jobs = [(projection, stimulus) for projection in projections for stimulus in shown.features]
    bar = tqdm(
        jobs, unit="readout", desc="stronger readouts: perceptrons", leave=False, disable=None if progress else True
    )
    for projection, stimulus in bar:
        features = _without_rounding(shown.features[stimulus], projection)
        found = np.array([_fitted(features, shown.values, train, test, seed) for seed in range(seeds)])
        order = np.random.default_rng(0).permutation(len(shown.values))
        r2.append(found.mean(axis=0))
        r2_se.append(found.std(axis=0, ddof=1) / seeds**0.5)
        null.append(_fitted(features, shown.values[order], train, test, 0))
    shape = (len(projections), len(shown.features), shown.values.shape[1])
    return np.reshape(r2, shape), np.reshape(r2_se, shape), np.reshape(null, shape)


def _without_rounding(features: np.ndarray, projection: Projection) -> np.ndarray:
    """Return erased features; channels of which nothing but rounding is left are 0."""
    left = erased(torch.from_numpy(features)[None], projection, ErasedPlace("NLC"))[0].numpy()
    size = np.abs(features.mean(axis=0)) + features.std(axis=0)
    return np.where(left.std(axis=0) > ROUNDING_ERRORS * np.finfo(np.float32).eps * size, left, 0)


def _fitted(features: np.ndarray, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    scaled = StandardScaler().fit(features[train]).transform(features)
    network = MLPRegressor(hidden_layer_sizes=(_HIDDEN,), random_state=seed, max_iter=_EPOCHS, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(scaled[train], values[train])
    guessed = network.predict(scaled[test]).reshape(-1, values.shape[1])
    spread = (values[test] - values[test].mean(axis=0)) ** 2
    return 1 - ((values[test] - guessed) ** 2).sum(axis=0) / spread.sum(axis=0)
