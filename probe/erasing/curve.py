"""What a model loses as position is erased, beside what is left of position."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.ablation.erasing import Erasing
from probe.ablation.estimates import score_settings
from probe.ablation.later_readouts import Estimates
from probe.ablation.performance import resolve_scores
from probe.erasing.proof import check_draws, prove
from probe.erasing.recipes import COMPARED, Recipe, directions_of, recipes_for
from probe.errors import ArgumentError, ImagesError, ProbeWarning, warn
from probe.images.batches import check_reread
from probe.images.labels import LabelCheck, named_classes
from probe.images.rows import Transform
from probe.intervals import jackknife
from probe.measures.matching import same_places
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.readouts.erasers import ErasedPlace, Projection, erased
from probe.readouts.fitted_erasers import covariances_of, named_layer
from probe.results import finish
from probe.sums.statistics import Statistics

__all__ = ["erasure_curve"]

_MOST_MATCHED = 200  # images
_ALSO_READ = ("radius", "border", "stripes_row", "stripes_column")


def erasure_curve(
    model: nn.Module,
    images: Any,
    layer: str,
    *,
    score: Any,
    statistics: Statistics | None = None,
    methods: str | Iterable[str] = COMPARED,
    ranks: int | Sequence[int] = (1, 2, 4, 8),
    targets: str | Iterable[str] = ("row", "column"),
    fit_stimuli: str | Iterable[str] = ("rolled", "natural"),
    draws: int = 20,
    alpha: float = 1e-3,
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
    """Measure what a model loses as position is erased from a layer, beside what is left of position there.

    The commonest uses::

        probe.erasure_curve(model, labelled, "layer4", score="accuracy")
        probe.erasure_curve(model, images, "blocks.11", score="agreement", methods=["leace", "cells"], ranks=[2, 8, 32])
        probe.erasure_curve(model, labelled, "layer4", score="accuracy", statistics=probe.collect(model, other_images))

    Parameters
    ----------
    model, images
        As in `ablation_curve`. The images are read three times, once for the erasers unless `statistics` are given.
    layer
        Name of the layer.
    score
        As in `ablation_curve`, but for ``"position"``.
    statistics
        Of this model on other images, from `collect`: what the erasers are fitted to. By default the same images
        serve for both; the readouts are held out in any case, the score is then not.
    methods, ranks, targets, fit_stimuli, draws, alpha
        As in `erasure_proof`. Radius, border and stripes are read beside them, unless `statistics` have others.
    folds, groups, batch_size, num_workers, device, autocast, transform, input_key, layout, forward, max_images
        As in `collect`.
    seed
        Of the stimuli and shifts.
    progress
        As in `collect`.

    Returns
    -------
    xarray.Dataset
        All that `erasure_proof` returns; and on (score, eraser) ``erased``, ``erased_se``, and ``erased_minus_random``,
        its distance from the mean of the random subspaces of the same rank, with its error over images and draws; on
        score ``intact``, ``intact_se``; on (score, rank, draw) ``random``. The attribute ``sharing`` tells how the
        computation before the layer was shared. On (eraser, match_stimulus) ``same_place``, as in `neighbours`, from at
        most 200 images, with ``same_place_se``; ``same_place_before`` with nothing erased, ``same_place_random`` on
        (rank, draw, match_stimulus), and ``same_place_chance``; of maps without frames alone.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> curve = probe.erasure_curve(
    ...     CoordinateNet(), noise_images(50), "identity", score={"row": lambda output: output[:, 3].std(dim=(1, 2))},
    ...     methods="leace", ranks=[2], fit_stimuli="rolled", draws=2, progress=False,
    ... )
    >>> curve.intact.values.round(2), curve.erased.values.round(2)
    (array([0.58]), array([[0.]]))
    """
    check_draws(draws)
    scores = resolve_scores(score)
    options = Options(
        layers=layer, targets=targets, folds=folds, groups=groups, batch_size=batch_size, num_workers=num_workers,
        device=device, autocast=autocast, transform=transform, input_key=input_key, layout=layout, forward=forward,
        max_images=max_images, seed=seed, progress=progress, task="erasure curve",
    )  # fmt: skip
    check_reread(images, "they are read for the erasers, for the scores and for matching")
    needs_labels = any(one.needs_labels for one in scores.values())
    if statistics is None:
        _check_labels(model, images, options, needs_labels)
        named = (targets,) if isinstance(targets, str) else tuple(targets)
        fitting = replace(options, phase="statistics", targets=tuple(dict.fromkeys([*named, *_ALSO_READ])))
        statistics, _ = collect_statistics(model, images, fitting, grams=True, moments=True)
    fitted_place = named_layer(statistics, layer)
    recipes = recipes_for(statistics, layer, methods, ranks, targets, fit_stimuli)
    warned: list[str] = []
    proof = prove(statistics, fitted_place, recipes, draws, alpha, warned)
    random = [
        replace(recipes[0], method="random", rank=int(rank), draw=draw)
        for rank in proof["rank"].values
        for draw in range(draws)
    ]
    every = range(statistics.settings["folds"])
    known = {name: covariances_of(statistics, fitted_place, name, every) for name in {one.stimulus for one in recipes}}
    projections = [directions_of(statistics, recipe, known[recipe.stimulus]) for recipe in (*recipes, *random)]
    settings = np.concatenate([np.zeros((1, len(projections)), dtype=bool), np.eye(len(projections), dtype=bool)])
    with open_reader(model, images, options, labels=needs_labels) as reader:
        place = reader.layer(layer)
        _check_fits(statistics, reader.weights_digest, place.n_channels, len(projections[0].mean))
        labels = LabelCheck(named_classes(images))
        estimates, sharing = score_settings(reader, options, Erasing(place, projections), settings, scores, labels)
        facts = reader.facts()
    scored = [_of_score(found, recipes, proof, draws) for found in estimates.values()]
    curve = proof.merge(xr.concat(scored, xr.Variable("score", list(estimates))))
    if len(place.size) > 2:
        warn(f"same_place: left out: the maps of {place.name} have frames; it is of rows and columns alone.", warned)
    else:
        try:
            curve = curve.merge(_matched(model, images, layer, projections, options, len(recipes), draws))
        except ImagesError as error:
            warn(f"same_place: left out: {error}", warned)
    return finish(
        curve,
        kind="erasure_curve",
        facts=facts.warned(warned),
        settings={
            **statistics.settings, "erased": list(recipes[0].targets), "draws": draws, "alpha": alpha,
            "batch_size": batch_size, "images_of_erasers": statistics.facts.images_digest,
            "score_folds": len(next(iter(estimates.values())).left_out), "score_seed": seed,
            "score_groups": options.groups is not None,
        },
        layer=layer,
        sharing=sharing,
        void_labels=labels.void,
    )  # fmt: skip


def _matched(
    model: nn.Module,
    images: Any,
    layer: str,
    projections: Sequence[Projection],
    options: Options,
    n_recipes: int,
    draws: int,
) -> xr.Dataset:
    """Return how often the nearest cell is at the same place, for all recipes and random draws."""
    changes: list[Callable[[Tensor], Tensor]] = [lambda features: features]
    changes += [partial(erased, projection=one, place=ErasedPlace("NC")) for one in projections]
    shown = replace(options, max_images=min(options.max_images or _MOST_MATCHED, _MOST_MATCHED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)  # the readings before have said what there is to say
        found = same_places(model, images, layer, changes, shown)
    values, errors = found.same_place.values, found.same_place_se.values
    end = 1 + n_recipes
    what = "share of cells whose nearest in another image is at the same place"
    curve = xr.Dataset(coords={"match_stimulus": found.stimulus.values})
    for name, meaning, dims, part in (
        ("same_place_before", what, (), values[0]),
        ("same_place_before_se", f"standard error of the {what}", (), errors[0]),
        ("same_place", f"{what}, after erasing", ("eraser",), values[1:end]),
        ("same_place_se", f"standard error of the {what}, after erasing", ("eraser",), errors[1:end]),
        ("same_place_random", f"{what}, without random directions", ("rank", "draw"), values[end:]),
    ):
        if np.size(part):
            shaped = part.reshape(-1, draws, part.shape[-1]) if "draw" in dims else part
            curve[name] = ((*dims, "match_stimulus"), shaped, {"long_name": meaning, "units": "1"})
    curve["same_place_chance"] = ((), found.attrs["chance"], {"long_name": f"{what}, by chance", "units": "1"})
    return curve


def _check_labels(model: nn.Module, images: Any, options: Options, needs_labels: bool) -> None:
    """Read the first image alone, to miss its label before all are read for the erasers."""
    if needs_labels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)  # the readings after say what there is to say
            with open_reader(model, images, replace(options, max_images=1), labels=True):
                pass


def _check_fits(statistics: Statistics, weights_digest: str, n_channels: int, n_fitted: int) -> None:
    if statistics.facts.weights_digest != weights_digest or n_channels != n_fitted:
        raise ArgumentError("statistics: they are of a model with other weights. Collect them with this one.")


def _of_score(found: Estimates, recipes: Sequence[Recipe], proof: xr.Dataset, draws: int) -> xr.Dataset:
    """Return the curves of one score: its settings are intact, the recipes, and all random draws, rank by rank."""
    first_random = 1 + len(recipes)
    ranks = proof["rank"].values.tolist()
    errors = jackknife(found.values, found.left_out, found.sizes)
    random = found.values[first_random:].reshape(len(ranks), draws)
    random_left_out = found.left_out[:, first_random:].reshape(len(found.left_out), len(ranks), draws)
    difference, difference_se = np.full((2, len(recipes)), np.nan)
    for number, recipe in enumerate(recipes):
        if recipe.rank not in ranks:
            continue
        drawn = ranks.index(recipe.rank)
        difference[number] = found.values[1 + number] - random[drawn].mean()
        left_out = found.left_out[:, 1 + number] - random_left_out[:, drawn].mean(axis=1)
        over_images = jackknife(difference[number], left_out, found.sizes)
        difference_se[number] = np.hypot(over_images, random[drawn].std(ddof=1) / draws**0.5)
    curve = xr.Dataset()
    for name, meaning, dims, values in (
        ("intact", "score with nothing erased", (), found.values[0]),
        ("intact_se", "standard error: score with nothing erased (over images)", (), errors[0]),
        ("erased", "score after erasing", ("eraser",), found.values[1:first_random]),
        ("erased_se", "standard error: score after erasing (over images)", ("eraser",), errors[1:first_random]),
        ("erased_minus_random", "score after erasing − mean without random directions", ("eraser",), difference),
        ("erased_minus_random_se", "standard error: score after erasing − random", ("eraser",), difference_se),
        ("random", "score without random directions", ("rank", "draw"), random),
    ):  # fmt: skip
        if np.size(values):
            curve[name] = (dims, values, {"long_name": meaning, "units": "score"})
    return curve
