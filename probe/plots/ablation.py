"""The figure of an ablation curve."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probe.errors import ArgumentError
from probe.intervals import half_width
from probe.plots.axes import RANKED_COLOURS, check_width, legend_above, open_axes, small_text
from probe.plots.inputs import check_result

__all__ = ["plot_ablation"]

_BAND = (0.05, 0.95)
_TOP, _BOTTOM, _MATCHED = RANKED_COLOURS.values()
_RANDOM = "0.45"
_VARIABLES = ("intact", "top", "bottom", "random", "top_minus_random_se")


def plot_ablation(
    result: xr.Dataset,
    ax: Axes | None = None,
    *,
    score: str | None = None,
    ranking: str | None = None,
    width: float | None = None,
) -> Axes:
    """Draw a score against the number of channels removed, beside random draws of as many.

    The commonest uses::

        probe.plot_ablation(curve)
        probe.plot_ablation(curve, ax, score="miou:left")
        probe.plot_ablation(curve, ranking="flip")

    - ``plot_ablation(result)``: the first score and ranking.
    - ``plot_ablation(result, score="accuracy", ranking="omega2")``: another.
    - ``plot_ablation(result, width=3.4)``: for one column of a page.

    Parameters
    ----------
    result
        From `probe.ablation_curve`.
    ax
        Where to draw; by default a new figure.
    score
        Name of the score; by default the first.
    ranking
        Name of the ranking, where there are several; by default the first.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes
        A line for the channels ranked first, with the 95 % interval of its difference from the mean of the random
        draws, and one for those ranked last; the mean and the band from the 5th to the 95th percentile of the random
        draws, and of the matched ones where there are any; the score with all channels, dotted.

    Raises
    ------
    ArgumentError
        If it is no ablation curve, or has no such score.

    Examples
    --------
    >>> import probe
    >>> from matplotlib.figure import Figure
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.ablation_curve(
    ...     padded_net("zeros"), noise_images(10, 8), range(16), layer="relu2", score="agreement", counts=[2, 4, 8],
    ...     progress=False,
    ... )
    >>> probe.plot_ablation(result, Figure().subplots()).get_ylabel()
    'agreement'
    """
    result = check_result(result, "ablation_curve", dict.fromkeys(_VARIABLES, ()))
    curve = _chosen(_chosen(result, "score", score), "ranking", ranking)
    own = ax is None
    inches = check_width(width, ax)
    ax = open_axes(ax, inches, 1.9 + 0.3 * inches)
    counts = curve["count"].values
    ax.axhline(curve.intact.item(), color="0.2", linewidth=1, linestyle=":", label="all channels")
    _draw_band(ax, counts, curve.random, _RANDOM, "random", hatch=None)
    if "matched" in curve:
        _draw_band(ax, counts, curve.matched, _MATCHED, "random, equally active", hatch="///")
    ax.plot(counts, curve.bottom, "s--", color=_BOTTOM, markersize=4, label="ranked last")
    half = half_width(curve.top_minus_random_se.values, int(result.attrs["folds"]) - 1)
    ax.errorbar(counts, curve.top, half, fmt="o-", color=_TOP, markersize=4, capsize=2, label="ranked first")
    ax.set(xlabel=f"channels removed of {result.attrs['layer']}")
    ax.set_ylabel(str(curve.score.item()), parse_math=False)
    method = curve.ranking.item() if "ranking" in curve.coords else result.attrs["method"]
    ax.set_title(f"ranked by {method}", fontsize=ax.title.get_fontsize() if own else "medium", parse_math=False)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if own:
        legend_above(ax, ax.get_legend_handles_labels()[0])
    else:
        ax.legend(frameon=False, fontsize=small_text(ax))
    sns.despine(ax=ax)
    return ax


def _chosen(result: xr.Dataset, dim: str, name: str | None) -> xr.Dataset:
    """Return one score, or one ranking, of a result; by default the first."""
    names = [str(known) for known in result[dim].values] if dim in result.dims else []
    if name is not None and name not in names:
        raise ArgumentError(f"{dim}={name!r}: the result has {', '.join(names) or f'no {dim}'}.")
    return result.sel({dim: name or names[0]}) if names else result


def _draw_band(ax: Axes, counts: np.ndarray, draws: xr.DataArray, colour: str, label: str, hatch: str | None) -> None:
    low, high = draws.quantile(_BAND, "draw").values
    ax.fill_between(counts, low, high, facecolor=colour, alpha=0.2, linewidth=0, hatch=hatch, label=f"{label}, 5–95 %")
    ax.plot(counts, draws.mean("draw"), color=colour, linewidth=1.2)
