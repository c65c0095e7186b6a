"""Which channels to remove: the first and the last of a ranking, and random ones to compare them with."""

from collections.abc import Mapping, Sequence

import numpy as np

from probe.errors import ArgumentError

__all__ = ["CONTROLS", "check_counts", "plan_removals"]

CONTROLS = ("random", "matched")
"""What random channels are drawn from: all, or those of the same decile of mean |activation|."""

_N_GROUPS = 10


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
