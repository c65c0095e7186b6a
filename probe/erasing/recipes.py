"""Ways to erase that are compared with each other, and how each is fitted to some folds of images."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from probe.errors import ArgumentError
from probe.readouts.directions import (
    CELLS,
    Covariances,
    find_directions,
    first_channels,
    n_directions,
    removed_variance,
)
from probe.readouts.erasers import Projection
from probe.readouts.fitted_erasers import check_method, check_rank, concept_of, covariances_of, named_layer
from probe.sums.statistics import Statistics

__all__ = ["COMPARED", "INTACT", "Recipe", "as_costly", "directions_of", "recipes_for"]

INTACT = "intact"
"""Nothing is erased."""

COMPARED = ("leace", "cells", "iterated", "mean_map", "channels")
"""What `erasure_curve` compares: the methods of `fit_eraser`, ``leace`` of every position, and zeroed channels."""


_OF_MAPS = ("cells", "mean_map")
_SAME = 1e-9  # of a cost: no more than rounding


@dataclass(frozen=True)
class Recipe:
    """One way to erase.

    Attributes
    ----------
    method : str
        One of `COMPARED`, ``random``, or `INTACT`.
    rank : int
        Number of directions, or of channels.
    stimulus : str
        What it is fitted to.
    targets : tuple of str
        What it makes unreadable.
    draw : int
        Number of the draw of a random subspace; it is its seed too.
    """

    method: str
    rank: int
    stimulus: str
    targets: tuple[str, ...]
    draw: int = 0


def recipes_for(
    statistics: Statistics,
    layer: str,
    methods: str | Iterable[str],
    ranks: int | Sequence[int],
    targets: str | Iterable[str],
    stimuli: str | Iterable[str],
) -> list[Recipe]:
    """Return the recipes that are asked for; a rank that a method does not have is left out.

    Zeroed channels come last: as many as the ranks say, and, for each eraser beside them, as many as cost as much.

    Raises
    ------
    ArgumentError
        If a method, a target, a stimulus or a rank cannot be.
    """
    place = named_layer(statistics, layer)
    chosen = (methods,) if isinstance(methods, str) else tuple(methods)
    names = check_method(statistics, "leace", targets)
    if names == (CELLS,):
        raise ArgumentError("targets='cells': name it as a method, methods=['cells'], beside named targets.")
    fitted = (stimuli,) if isinstance(stimuli, str) else tuple(stimuli)
    for method in chosen:
        if method not in COMPARED:
            near = difflib.get_close_matches(str(method), COMPARED)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ArgumentError(f"methods: {method!r} is none of {', '.join(COMPARED)}.{hint}")
    wanted = [ranks] if isinstance(ranks, int | np.integer) else list(ranks)
    for rank in wanted:
        check_rank(rank)
    if not chosen or not wanted or not fitted:
        raise ArgumentError("methods, ranks and fit_stimuli: name at least one of each.")
    found: list[Recipe] = []
    for stimulus in fitted:
        covariances = covariances_of(statistics, place, stimulus, range(statistics.settings["folds"]))
        erasers: list[Recipe] = []
        for method in chosen:
            if method == "channels" or (covariances.maps is None and chosen == COMPARED and method in _OF_MAPS):
                continue  # without maps, nobody asked for it by name
            most = n_directions(covariances, *_sought(statistics, covariances, method, names))
            step = len(names) if method == "iterated" else 1
            possible = sorted({int(rank) for rank in wanted if rank <= most and rank % step == 0})
            erasers += [Recipe(method, rank, stimulus, names) for rank in possible]
        counts: set[int] = set()
        if "channels" in chosen:
            counts |= {int(rank) for rank in wanted if rank <= int(covariances.live.sum())}
            counts |= {as_costly(statistics, recipe, covariances) for recipe in erasers}
        found += [*erasers, *(Recipe("channels", count, stimulus, names) for count in sorted(counts))]
    if not found:
        raise ArgumentError(
            f"ranks={list(map(int, wanted))}: {', '.join(chosen)} has none of these here. 'leace' has at most one "
            "direction for each target, 'iterated' a multiple of it, and no method more than channels that vary."
        )
    return found


def as_costly(statistics: Statistics, recipe: Recipe, covariances: Covariances) -> int:
    """Return the least number of channels, ranked first, that hold as much variance as an eraser removes."""
    concept = concept_of(statistics, covariances, "leace", recipe.targets)
    variances = covariances.features.diagonal()[_by_position(covariances, concept)].cpu().numpy()
    shares = np.cumsum(variances) / variances.sum()
    cost = removed_variance(directions_of(statistics, recipe, covariances), covariances)
    enough = int(np.searchsorted(shares, cost * (1 - _SAME)))
    return min(enough + 1, int(covariances.live.sum()))


def _sought(
    statistics: Statistics, covariances: Covariances, method: str, targets: tuple[str, ...]
) -> tuple[str, torch.Tensor]:
    """Return the method of `find_directions`, and the concept that it erases."""
    concept = concept_of(statistics, covariances, "mean_map" if method in _OF_MAPS else "leace", targets)
    return "leace" if method == "cells" else method, concept


def directions_of(statistics: Statistics, recipe: Recipe, covariances: Covariances) -> Projection:
    """Fit a recipe to what is known of some folds under its stimulus, from `covariances_of`."""
    concept = concept_of(statistics, covariances, "leace", recipe.targets)
    if recipe.method == INTACT:
        none = concept[:, :0]
        return Projection(covariances.mean, none, none)
    if recipe.method == "channels":
        return first_channels(covariances, _by_position(covariances, concept), recipe.rank)
    method, concept = _sought(statistics, covariances, recipe.method, recipe.targets)
    # Some of the images may tell of fewer directions than all of them.
    rank = min(recipe.rank, n_directions(covariances, method, concept))
    return find_directions(covariances, method, concept=concept, rank=rank, seed=recipe.draw)


def _by_position(covariances: Covariances, concept: torch.Tensor) -> list[int]:
    """Return all channels, those first of which the targets explain most: by the sum of squared correlations."""
    variances = covariances.features.diagonal()
    explained = torch.where(covariances.live, concept.square().sum(dim=1) / variances, 0.0)
    return np.argsort(-explained.cpu().numpy(), kind="stable").tolist()
