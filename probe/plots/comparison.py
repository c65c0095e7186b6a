"""Rankings of channels: the scores by rank, and how far rankings agree."""

from collections.abc import Mapping
from typing import Any, overload

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probe.checks import is_whole
from probe.errors import ArgumentError
from probe.plots.axes import DIVERGING, RANKED_COLOURS, TWO_COLUMNS, check_width, open_axes, open_panels, small_text
from probe.plots.inputs import Results, check_result, results_by_name

__all__ = ["plot_ranking"]

_NAMED = 5
_CURVE, _STRONGEST = "0.55", RANKED_COLOURS["first"]
_MOST_TAKEN = 0.6  # of a panel, by names
_DARK = 0.6  # from this correlation on, numbers are white
_RANKING = {"score": ("channel",), "rank": ("channel",), "stability": ()}


@overload
def plot_ranking(
    result: xr.Dataset, ax: Axes | None = None, *, named: int | None = None, width: float | None = None
) -> Axes: ...


@overload
def plot_ranking(
    result: Mapping[str, xr.Dataset], ax: Any = None, *, named: int | None = None, width: float | None = None
) -> np.ndarray: ...


def plot_ranking(result: Results, ax: Any = None, *, named: int | None = None, width: float | None = None) -> Any:
    """Draw a ranking of channels, several of them, or how far they agree.

    The commonest uses::

        probe.plot_ranking(ranking)
        probe.plot_ranking({"flip": first, "omega2": second})
        probe.plot_ranking(probe.compare_rankings(first, second))

    - ``plot_ranking(ranking)``: the score of each channel by its rank, the strongest channels named.
    - ``plot_ranking({"flip": a, "omega2": b})``: a panel for each ranking, each with its own scale and unit.
    - ``plot_ranking(probe.compare_rankings(a, b, c))``: a heat map of their rank correlations.

    Parameters
    ----------
    result
        From `probe.rank_channels`, or several by name; or from `probe.compare_rankings`.
    ax
        Where to draw: Axes, or for several rankings an array of them. By default a new figure.
    named
        How many of the strongest channels are named; by default 5, and 3 in each of several panels.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default; that of a heat map follows
        from the number of rankings.

    Returns
    -------
    matplotlib.axes.Axes or numpy.ndarray
        The Axes; of several rankings an array of them. The title states the stability of a ranking, Spearman's
        correlation of the scores from two halves of the images. In a heat map it stands on the diagonal.

    Raises
    ------
    ArgumentError
        If the result is of another kind.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> from matplotlib.figure import Figure
    >>> net, images = CoordinateNet(), noise_images(20)
    >>> rankings = [probe.rank_channels(net, images, "identity", method=m, progress=False) for m in ("omega2", "shift")]
    >>> print(probe.plot_ranking(rankings[0], Figure().subplots(), named=2).texts[0].get_text())
    1. channel 3
    2. channel 4
    >>> probe.plot_ranking(probe.compare_rankings(*rankings, top=[2]), Figure().subplots()).get_title()
    'rank correlation, stability on the diagonal'
    """
    if isinstance(result, xr.Dataset) and (result.attrs.get("kind") == "rankings" or "correlation" in result):
        if named is not None:
            raise ArgumentError(f"named={named!r}: a comparison of rankings names no channels.")
        return _draw_agreement(result, ax, width)
    rankings = results_by_name(result, ("ranking", "rankings"), _RANKING)
    inches = check_width(width, ax)
    if named is not None and not (is_whole(named) and named >= 0):
        raise ArgumentError(f"named={named!r}: expected a number of channels, 0 or more.")
    if isinstance(result, xr.Dataset):
        ax = open_axes(ax, inches, 1.5 + 0.22 * inches)
        _draw_ranking(ax, rankings[""], _NAMED if named is None else named)
        return ax
    columns = min(len(rankings), 2 if inches < TWO_COLUMNS else 3)
    height = 0.2 + 1.9 * -(-len(rankings) // columns)
    meaning = f"rankings ({', '.join(rankings)})"
    axes = open_panels(
        ax, len(rankings), columns=columns, width=inches, height=height, meaning=meaning, argument="ax"
    )  # fmt: skip
    for panel, (name, ranking) in zip(axes, rankings.items(), strict=True):
        _draw_ranking(panel, ranking, 3 if named is None else named, name)
    return axes


def _draw_ranking(ax: Axes, ranking: xr.Dataset, named: int, name: str | None = None) -> None:
    """Draw scores by rank; `name` is that of a panel."""
    ranked = ranking.sortby("rank")
    scores = ranked.score.values
    known = np.isfinite(scores)
    rank, scores, channels = ranked["rank"].values[known], scores[known], ranked["index"].values[known][:named]
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.plot(rank, scores, color=_CURVE, linewidth=1.4, marker="." if len(rank) < 2 else None)
    ax.plot(rank[:named], scores[:named], "o", color=_STRONGEST, markersize=3.5)
    lines = [f"{place}. channel {channel}" for place, channel in enumerate(channels, 1)]
    lines += [f"{(~known).sum()} without a score"] if not known.all() else []
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.get_offset_text().set_fontsize(small_text(ax))
    _list_beside_curve(ax, scores, lines)
    title = f"{name or ranking.attrs.get('method', 'score')}\nstability {_rounded(ranking.stability)}"
    ax.set_title(title, fontsize=small_text(ax), parse_math=False)
    units = ranking.score.attrs.get("units", "1")
    ax.set_ylabel("score" if units == "1" else f"score / {units}", parse_math=False)
    layer = ranking.attrs.get("layer")
    ax.set_xlabel("rank" if name is not None or layer is None else f"rank among channels of {layer}", parse_math=False)
    sns.despine(ax=ax)


def _list_beside_curve(ax: Axes, scores: np.ndarray, lines: list[str]) -> None:
    """Write lines on the right: below a curve that rises, else above it, with room made for them."""
    rising = len(scores) > 1 and scores[0] < scores[-1]
    size = small_text(ax)
    low, high = ax.get_ylim()
    taken = min(1.3 * size * len(lines) * ax.figure.dpi / 72 / ax.bbox.height + 0.1, _MOST_TAKEN)
    if len(scores):
        middle = scores[len(scores) // 2]
        room = (
            {"bottom": min(low, high - (high - middle) / (1 - taken))}
            if rising
            else {"top": max(high, low + (middle - low) / (1 - taken))}
        )
        ax.set_ylim(**room)
    ax.text(
        0.98, 0.03 if rising else 0.97, "\n".join(lines), transform=ax.transAxes, ha="right",
        va="bottom" if rising else "top", fontsize=size, color=_STRONGEST,
    )  # fmt: skip


def _draw_agreement(result: xr.Dataset, ax: Axes | None, width: float | None) -> Axes:
    result = check_result(
        result, ("rankings", "ranking"), {"correlation": ("ranking", "other"), "stability": ("ranking",)}
    )
    names = [str(name) for name in result.ranking.values]
    inches = min(2.2 + 0.4 * len(names), TWO_COLUMNS) if width is None and ax is None else check_width(width, ax)
    ax = open_axes(ax, inches, min(0.9 + 0.4 * len(names), inches))
    values = result.correlation.transpose("ranking", "other").values.copy()
    np.fill_diagonal(values, result.stability.values)
    image = ax.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        ax.text(
            column, row, _rounded(value), ha="center", va="center", fontsize=small_text(ax),
            color="white" if abs(value) > _DARK else "black", fontweight="bold" if row == column else None,
        )  # fmt: skip
    size = small_text(ax)
    ax.set_xticks(
        range(len(names)), names, fontsize=size, parse_math=False, rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    ax.tick_params(length=0)
    ax.set_title("rank correlation, stability on the diagonal", fontsize=ax.title.get_fontsize())
    bar = ax.figure.colorbar(image, ax=ax, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=small_text(ax))
    return ax


def _rounded(value: Any) -> str:
    return f"{float(value):.2f}".replace("-", "−").replace("nan", "unknown")
