"""What linear readouts still find after erasing, held out, in closed form."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import xarray as xr

from probe.checks import whole_number
from probe.erasing.recipes import INTACT, Recipe, as_costly, directions_of, recipes_for
from probe.errors import ArgumentError, warn
from probe.models.layers import Layer
from probe.readouts.directions import CELLS, Covariances, removed_variance
from probe.readouts.erased_sums import cells_gram, erased_gram
from probe.readouts.erasers import Projection
from probe.readouts.fitted_erasers import covariances_of, named_layer
from probe.readouts.scores import CrossedSums, crossed_sums
from probe.results import finish
from probe.sums.expansion_gram import ChannelGram
from probe.sums.statistics import Statistics

__all__ = ["Split", "check_draws", "erasure_proof", "prove", "splits"]

_LEAST_FOLDS = 4
_LEAST_READ = 3
_MOST_CELLS = 1024


@dataclass(frozen=True)
class Split:
    """Folds to which an eraser is fitted, and the others, in which position is read."""

    fitted: tuple[int, ...]
    read: tuple[int, ...]


def splits(n_folds: int) -> list[Split]:
    """Return splits of the folds, as many as there are folds, each of which is as often read as any other.

    An eraser leaves nothing to read in the folds that it was fitted to, so that it must be judged by others: there,
    two readouts are fitted to disjoint parts, and a third is held out.

    Raises
    ------
    ArgumentError
        If there are fewer than four folds.

    Examples
    --------
    >>> splits(5)[0]
    Split(fitted=(0, 1), read=(2, 3, 4))
    """
    if n_folds < _LEAST_FOLDS:
        raise ArgumentError(
            f"folds={n_folds}: a proof needs at least {_LEAST_FOLDS}, one for the eraser, one for each of the two "
            "readouts whose errors are compared, and one that is held out. Collect with folds=5."
        )
    size = min(n_folds // 2, n_folds - _LEAST_READ)
    found = []
    for start in range(n_folds):
        fitted = tuple(sorted((start + step) % n_folds for step in range(size)))
        found.append(Split(fitted, tuple(fold for fold in range(n_folds) if fold not in fitted)))
    return found


def erasure_proof(
    statistics: Statistics,
    layer: str,
    *,
    methods: str | Iterable[str] = ("leace",),
    ranks: int | Sequence[int] = (1, 2, 4, 8),
    targets: str | Iterable[str] = ("row", "column"),
    fit_stimuli: str | Iterable[str] = ("rolled",),
    draws: int = 20,
    alpha: float = 1e-3,
) -> xr.Dataset:
    """Measure what linear readouts find before and after erasing, from statistics alone.

    The commonest uses::

        probe.erasure_proof(statistics, "layer4")
        probe.erasure_proof(statistics, "layer4", methods=["leace", "cells", "channels"], ranks=[1, 2, 4, 8, 16])
        probe.erasure_proof(statistics, "blocks.11", fit_stimuli=["rolled", "natural"])

    An eraser is fitted to two of five folds of images, and new readouts to the others; so what is left is that of an
    eraser of two fifths of the images, and less with all of them. It is said of *linear* readouts of *single cells*:
    see `probe.stronger_readouts` for others.

    Parameters
    ----------
    statistics
        From `probe.collect`, of at least four folds.
    layer
        Name of a layer in them.
    methods
        Of ``"leace"``, ``"cells"`` (that of every position), ``"iterated"`` and ``"mean_map"``, as in
        `probe.fit_eraser`; and ``"channels"``: those that correlate most with the targets are set to 0.
    ranks
        Numbers of directions, or of channels. One that a method does not have is left out. Of channels there are
        besides, for each eraser, the fewest that remove as much variance: ``as_costly`` tells how many.
    targets
        What is erased; all targets of the statistics are read, and so is every position, where the mean map is kept.
    fit_stimuli
        Of the statistics: what the erasers are fitted to. Position is read on all of them.
    draws
        Number of random subspaces of each rank, at least 2; fewer than 20 give a rough band.
    alpha
        Ridge penalty of the readouts, as in `probe.layerwise`.

    Returns
    -------
    xarray.Dataset
        On (eraser, stimulus, target), where ``eraser`` has the coordinates ``method``, ``n_directions``, ``fitted_to``
        and, beside zeroed channels, ``as_costly``:
        ``r2``, held out and free of the bias of small samples (0: nothing is read, below 0: by chance), ``r2_se``;
        on (stimulus, target) ``r2_before``, ``r2_before_se``; on (rank, draw, stimulus, target) ``r2_random``. The
        target ``cells`` is the share of the variance of all positions that is read. On (eraser, stimulus) ``cost``,
        the share of the features' variance that is removed, below 0 where it has grown; on (rank, draw, stimulus)
        ``cost_random``. Of zeroed channels alone there are no random directions.

    Raises
    ------
    ArgumentError, LayerNotFoundError, ImagesError
        As in `probe.fit_eraser`.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> statistics = probe.collect(padded_net("zeros"), noise_images(200), layers="conv4", progress=False)
    >>> proof = probe.erasure_proof(statistics, "conv4", ranks=[2], draws=2)
    >>> row = proof.sel(stimulus="rolled", target="row")
    >>> row.r2_before.item() > 0.1, abs(row.r2.item()) < 0.01
    (True, True)
    """
    check_draws(draws)
    place = named_layer(statistics, layer)
    recipes = recipes_for(statistics, layer, methods, ranks, targets, fit_stimuli)
    warned: list[str] = []
    proof = prove(statistics, place, recipes, draws, alpha, warned)
    return finish(
        proof,
        kind="erasure_proof",
        facts=statistics.facts.warned(warned),
        settings={**statistics.settings, "erased": list(recipes[0].targets), "draws": draws, "alpha": alpha},
        layer=layer,
    )


def check_draws(draws: int) -> None:
    """Raise an `ArgumentError` unless there are at least two draws."""
    whole_number("draws", draws, 2, better=", better 20")


def prove(
    statistics: Statistics, layer: Layer, recipes: Sequence[Recipe], draws: int, alpha: float, warned: list[str]
) -> xr.Dataset:
    """Return the variables that `erasure_proof` describes."""
    if not alpha > 0:
        raise ArgumentError(f"alpha={alpha!r}: expected a number above 0. The default is 1e-3.")
    ranks = sorted({recipe.rank for recipe in recipes if recipe.method != "channels"})
    intact = Recipe(INTACT, 0, recipes[0].stimulus, recipes[0].targets)
    random = [replace(intact, method="random", rank=rank, draw=draw) for rank in ranks for draw in range(draws)]
    readings = {stimulus: _Readings(statistics, layer, stimulus, alpha, warned) for stimulus in statistics.stimuli}
    names = next(iter(readings.values())).targets

    @cache
    def known(stimulus: str, folds: tuple[int, ...]) -> Covariances:
        return covariances_of(statistics, layer, stimulus, folds)

    before, before_se, _ = _proved(statistics, known, [intact], readings)
    r2, r2_se, cost = _proved(statistics, known, recipes, readings)
    proof = xr.Dataset(
        coords={
            "method": ("eraser", [recipe.method for recipe in recipes]),
            "n_directions": ("eraser", [recipe.rank for recipe in recipes]),
            "fitted_to": ("eraser", [recipe.stimulus for recipe in recipes]),
            "rank": ranks,
            "stimulus": statistics.stimuli,
            "target": names,
        }
    )
    dims = ("stimulus", "target")
    for name, meaning, of, values in (
        ("r2_before", "R² of the position readout before erasing", dims, before[0]),
        ("r2_before_se", "standard error: R² before erasing (jackknife over folds of images)", dims, before_se[0]),
        ("r2", "R² of the position readout after erasing", ("eraser", *dims), r2),
        ("r2_se", "standard error: R² after erasing (jackknife over folds of images)", ("eraser", *dims), r2_se),
        ("cost", "share of the features' variance that is removed", ("eraser", "stimulus"), cost),
    ):
        proof[name] = (of, values, {"long_name": meaning, "units": "1"})
    if any(recipe.method == "channels" for recipe in recipes):
        folds = tuple(range(statistics.settings["folds"]))
        counts = [
            recipe.rank if recipe.method == "channels" else as_costly(statistics, recipe, known(recipe.stimulus, folds))
            for recipe in recipes
        ]
        proof = proof.assign_coords(as_costly=("eraser", counts))
    if ranks:
        drawn, _, cost_drawn = _proved(statistics, known, random, readings)
        by_draw = (len(ranks), draws)
        for name, meaning, drawn_dims, values in (
            ("r2_random", "R² of the position readout without random directions", list(dims), drawn),
            ("cost_random", "share of the variance that random directions remove", ["stimulus"], cost_drawn),
        ):
            shaped = values.reshape(*by_draw, *values.shape[1:])
            proof[name] = (["rank", "draw", *drawn_dims], shaped, {"long_name": meaning, "units": "1"})
    return proof


class _Readings:
    """Reads position under one stimulus, after erasing."""

    def __init__(self, statistics: Statistics, layer: Layer, stimulus: str, alpha: float, warned: list[str]) -> None:
        key = (stimulus, layer.name)
        self.stimulus, self._alpha, self._n_targets = stimulus, alpha, len(statistics.targets)
        self._grams: dict[str, ChannelGram] = {"": statistics.grams[key].as_gram()}
        self.targets = list(statistics.targets)
        moments = statistics.moments.get(key)
        if moments is not None and moments.maps is not None:
            n_cells = moments.maps[0, 0].numel()
            if n_cells <= _MOST_CELLS:
                self.targets.append(CELLS)
                self._grams[CELLS] = cells_gram(statistics.grams[key], moments)
            elif stimulus == statistics.stimuli[0]:
                warn(f"cells: {layer.name} has {n_cells} of them; every position is read up to {_MOST_CELLS}.", warned)

    def sums(self, projection: Projection, folds: Sequence[int]) -> Mapping[str, CrossedSums]:
        """Return what readouts leave unexplained in some folds."""
        found = {}
        for name, gram in self._grams.items():
            n_design = gram.totals.shape[1] - 1 - len(gram.pilot)
            wanted = n_design if name == CELLS else self._n_targets
            found[name] = crossed_sums(erased_gram(gram, projection, folds, wanted), wanted, self._alpha)
        return found


def _proved(
    statistics: Statistics,
    known: Callable[[str, tuple[int, ...]], Covariances],
    recipes: Sequence[Recipe],
    readings: Mapping[str, _Readings],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return R² and its standard error, shape (recipe, stimulus, target), and the cost, shape (recipe, stimulus)."""
    folds = tuple(range(statistics.settings["folds"]))
    everything = {stimulus: known(stimulus, folds) for stimulus in readings}
    r2, r2_se, cost = [], [], []
    for recipe in recipes:
        by_split = [
            (split, directions_of(statistics, recipe, known(recipe.stimulus, split.fitted)))
            for split in splits(len(folds))
        ]
        scored = [_score(reading, by_split, len(folds)) for reading in readings.values()]
        r2.append([value for value, _ in scored])
        r2_se.append([error for _, error in scored])
        whole = directions_of(statistics, recipe, known(recipe.stimulus, folds))
        cost.append([removed_variance(whole, found) for found in everything.values()])
    return np.array(r2), np.array(r2_se), np.array(cost)


def _score(
    reading: _Readings, by_split: Sequence[tuple[Split, Projection]], n_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return R² over all splits, and its jackknife error over folds, shape (target,)."""
    shape = (len(reading.targets), n_folds)
    errors, deviations, counts = torch.zeros(shape), torch.zeros(shape), torch.zeros(n_folds)
    total = CrossedSums(errors.double(), deviations.double(), counts.double(), torch.ones(0))
    for split, projection in by_split:
        places = list(split.read)
        for name, sums in reading.sums(projection, split.read).items():
            of_errors, of_deviations = sums.errors.cpu(), sums.deviations.cpu()
            if name == CELLS:
                total.errors[-1, places] += of_errors.sum(dim=0)
                total.deviations[-1, places] += of_deviations.sum(dim=0)
            else:
                total.errors[: len(of_errors), places] += of_errors
                total.deviations[: len(of_errors), places] += of_deviations
            total.counts[places] = sums.counts.cpu()
    return total.r2, total.r2_se
