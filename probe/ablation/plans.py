"""Which channels to remove: the first and the last of a ranking, and random ones to compare them with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from probe.ablation.replacement import check_channels
from probe.errors import ArgumentError
from probe.models.layers import Layer

__all__ = [
    "CONTROLS",
    "PARTS",
    "Plan",
    "Ranking",
    "channel_order",
    "check_counts",
    "layer_of",
    "plan_curves",
    "plan_removals",
]

CONTROLS = ("random", "matched")
"""What random channels are drawn from: all, or those of the same decile of mean |activation|."""

PARTS = ("intact", "top", "bottom")
"""What every curve has: nothing removed, the channels that rank first, those that rank last."""

Ranking = xr.Dataset | Sequence[int]

_N_GROUPS = 10


@dataclass(frozen=True)
class Plan:
    """Which channels are removed in each setting, and which settings make each curve.

    Attributes
    ----------
    counts : list of int
        Numbers of channels that are removed, ascending.
    settings : numpy.ndarray
        Shape (setting, channel), true where a channel is removed; each choice of channels stands there once.
    places : dict
        (ranking, part) -> numbers of the settings: shape () for ``intact``, (count,) for ``top`` and ``bottom``,
        (draw, count) for random draws.
    """

    counts: list[int]
    settings: np.ndarray
    places: dict[tuple[str, str], np.ndarray]


def layer_of(rankings: Mapping[str, Ranking], layer: str | None) -> str:
    """Return the name of the layer that all rankings are of; `layer` names it where they do not tell it.

    Raises
    ------
    ArgumentError
        If they are of several layers, or it is not known.
    """
    names = list(dict.fromkeys(_layer_name(ranking, layer) for ranking in rankings.values()))
    if len(names) != 1:
        found = f"rankings of {', '.join(names)}" if names else "no ranking"
        raise ArgumentError(f"ranking: {found}. Pass rankings of one layer.")
    return names[0]


def _layer_name(ranking: Ranking, layer: str | None) -> str:
    if not isinstance(ranking, xr.Dataset):
        if layer is None:
            raise ArgumentError("layer: a ranking given as channel numbers does not tell its layer. Pass layer=.")
        return layer
    if "layer" not in ranking.attrs or "index" not in ranking.coords:
        raise ArgumentError("ranking: expected a result of probe.rank_channels, or all channel numbers of a layer.")
    named = str(ranking.attrs["layer"])
    if layer not in (None, named):
        raise ArgumentError(f"layer={layer!r}: the ranking is one of {named!r}. Leave layer out.")
    return named


def channel_order(ranking: Ranking, layer: Layer) -> np.ndarray:
    """Return all channels of the layer, the strongest first.

    Raises
    ------
    ArgumentError
        If the ranking is not one of all channels of this layer.
    """
    given = ranking.index.values if isinstance(ranking, xr.Dataset) else ranking
    order = check_channels(given, layer)
    if len(order) < layer.n_channels:
        raise ArgumentError(
            f"ranking: {len(order)} of the {layer.n_channels} channels of {layer.name!r}. Rank all of them."
        )
    return np.array(order)


def check_counts(counts: Sequence[int], n_channels: int) -> list[int]:
    """Return numbers of channels to remove, ascending.

    Raises
    ------
    ArgumentError
        If one is no whole number from 1 to the number of channels.
    """
    found = np.atleast_1d(np.asarray(counts))
    if found.size == 0 or not np.issubdtype(found.dtype, np.integer) or found.min() < 1 or found.max() > n_channels:
        raise ArgumentError(f"counts={counts!r}: expected whole numbers from 1 to {n_channels}, the layer's channels.")
    return sorted({int(count) for count in found.ravel()})


def plan_curves(
    orders: Mapping[str, np.ndarray],
    counts: Sequence[int],
    draws: int,
    seed: int,
    strengths: np.ndarray | None,
    controls: Sequence[str],
) -> Plan:
    """Plan the curves of several rankings, which share the random draws.

    Parameters
    ----------
    orders
        Name of the ranking -> all channels in its order.
    counts, draws, seed, strengths
        As in `plan_removals`.
    controls
        Of `CONTROLS`, those to draw.

    Examples
    --------
    >>> orders = {"a": np.array([2, 0, 1]), "b": np.array([0, 1, 2])}
    >>> plan = plan_curves(orders, [1], draws=2, seed=0, strengths=None, controls=["random"])
    >>> plan.settings[plan.places["a", "top"]]
    array([[False, False,  True]])
    """
    removed = {
        (name, part): chosen
        for name, order in orders.items()
        for part, chosen in plan_removals(order, counts, draws, seed, strengths).items()
        if part in (*PARTS, *controls)
    }
    n_channels = len(next(iter(orders.values())))
    every = np.concatenate([chosen.reshape(-1, n_channels) for chosen in removed.values()])
    settings, numbers = np.unique(every, axis=0, return_inverse=True)
    ends = np.cumsum([chosen.size // n_channels for chosen in removed.values()])
    parts = np.split(numbers.ravel(), ends[:-1])
    places = {key: part.reshape(chosen.shape[:-1]) for (key, chosen), part in zip(removed.items(), parts, strict=True)}
    return Plan(list(counts), settings, places)


def plan_removals(
    order: np.ndarray, counts: Sequence[int], draws: int, seed: int, strengths: np.ndarray | None
) -> Mapping[str, np.ndarray]:
    """Return the channels that each setting removes.

    The random channels of one draw are nested: those of a smaller count are among those of a larger one.

    Parameters
    ----------
    order
        All channels, in the order of a ranking.
    counts
        Numbers of channels to remove.
    draws
        Number of random draws.
    seed
        Seed of the draws.
    strengths
        Mean |activation| of each channel, to draw matched channels; None to draw none.

    Returns
    -------
    dict
        ``intact`` of shape (channel,), ``top`` and ``bottom`` of shape (count, channel), ``random`` and, with
        strengths, ``matched`` of shape (draw, count, channel), all true where a channel is removed. In a matched draw
        each channel of ``top`` is replaced by one of its decile, so it removes as many channels of each decile.

    Examples
    --------
    >>> plan = plan_removals(np.array([2, 0, 1]), counts=[2], draws=1, seed=0, strengths=None)
    >>> plan["top"], plan["bottom"]
    (array([[ True, False,  True]]), array([[ True,  True, False]]))
    """
    n_channels = len(order)
    rng = np.random.default_rng(seed)
    plan = {
        "intact": np.zeros(n_channels, dtype=bool),
        "top": np.array([_marked(order[:count], n_channels) for count in counts]),
        "bottom": np.array([_marked(order[n_channels - count :], n_channels) for count in counts]),
        "random": np.array(
            [
                [_marked(drawn[:count], n_channels) for count in counts]
                for drawn in (rng.permutation(n_channels) for _ in range(draws))
            ]
        ),
    }
    if strengths is not None:
        groups = np.array_split(np.argsort(strengths, kind="stable"), _N_GROUPS)
        plan["matched"] = np.array([_matched_draw(plan["top"], groups, rng) for _ in range(draws)])
    return plan


def _matched_draw(top: np.ndarray, groups: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    drawn = np.zeros_like(top)
    for group in groups:
        shuffled = rng.permutation(group)
        for row, removed in zip(drawn, top, strict=True):
            row[shuffled[: removed[group].sum()]] = True
    return drawn


def _marked(channels: np.ndarray, n_channels: int) -> np.ndarray:
    marked = np.zeros(n_channels, dtype=bool)
    marked[channels] = True
    return marked
