"""How far rankings of channels agree."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import xarray as xr

from probe.errors import ArgumentError
from probe.ranking.strengths import ASCENDING, default_stimulus, rank_correlation
from probe.results import Facts, finish

__all__ = ["compare_rankings", "ranking_name"]


def ranking_name(ranking: xr.Dataset) -> str:
    """Return a short name of a ranking: its method, and what of it is not the default.

    Examples
    --------
    >>> ranking_name(
    ...     xr.Dataset(attrs={"method": "flip", "axis": "horizontal", "region": "left", "stimulus": "natural"})
    ... )
    'flip-left'
    >>> ranking_name(xr.Dataset(attrs={"method": "omega2", "axis": "", "region": "", "stimulus": "natural"}))
    'omega2-natural'
    """
    method, axis, region, stimulus = (ranking.attrs[name] for name in ("method", "axis", "region", "stimulus"))
    parts = [
        method,
        "" if region == "overall" else region,
        axis if axis != "horizontal" and region == "overall" else "",
        "" if stimulus == default_stimulus(method) else stimulus,
    ]
    return "-".join(filter(None, parts))


def compare_rankings(*rankings: xr.Dataset, top: Sequence[int] = (10, 50, 100)) -> xr.Dataset:
    """Compare rankings of the channels of one layer.

    The commonest uses::

        probe.compare_rankings(flip, omega2)
        probe.compare_rankings(*rankings, top=[5, 20])
        probe.compare_rankings(natural, rolled, top=[10])

    Parameters
    ----------
    *rankings
        From `rank_channels`, two or more.
    top
        Numbers N of channels; those above the number C of channels that all rankings give a score count all of them.

    Returns
    -------
    xarray.Dataset
        On (ranking, other): ``correlation``, Spearman's, over the channels that have a score in both. On (ranking,
        other, top): ``overlap``, the share of the first N of these C channels that two rankings have in common; on
        top: ``overlap_expected``, the share N/C that chance gives. On ranking: ``stability``. Rankings are called by
        their method and what of axis, region and stimulus is not the default; equal ones are numbered.

    Raises
    ------
    ArgumentError
        If there are fewer than two rankings, or they are not of the same channels.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> net, images = padded_net("zeros"), noise_images(50)
    >>> methods = ("flip", "shift", "omega2")
    >>> rankings = [probe.rank_channels(net, images, "conv4", method=m, progress=False) for m in methods]
    >>> agreement = probe.compare_rankings(*rankings, top=[4])
    >>> agreement.ranking.values.tolist(), agreement.overlap_expected.item()
    (['flip', 'shift', 'omega2'], 0.25)
    """
    _check(rankings, top)
    n_channels = rankings[0].sizes["channel"]
    names = _distinct([ranking_name(ranking) for ranking in rankings])
    strengths = [_strengths(ranking) for ranking in rankings]
    scored = np.flatnonzero(np.isfinite(strengths).all(axis=0))
    # Channels without a score, such as silent ones, come last everywhere, which is no agreement.
    orders = [ranking.index.values[np.isin(ranking.index.values, scored)] for ranking in rankings]
    counts = sorted({min(int(count), scored.size or n_channels) for count in top})
    first = [{count: set(order[:count]) for count in counts} for order in orders]
    correlation = [[rank_correlation(a, b) for b in strengths] for a in strengths]
    overlap = np.array([[[len(a[count] & b[count]) / count for count in counts] for b in first] for a in first])
    expected = np.array(counts) / max(scored.size, 1)
    if scored.size == 0:
        overlap[:], expected[:] = np.nan, np.nan
    result = xr.Dataset(
        {
            "correlation": (("ranking", "other"), correlation, _described("rank correlation of two rankings")),
            "overlap": (("ranking", "other", "top"), overlap, _described("share of the first N channels in common")),
            "overlap_expected": ("top", expected, _described("share in common by chance, N/C")),
            "stability": (
                "ranking",
                [float(ranking.stability) for ranking in rankings],
                dict(rankings[0].stability.attrs),
            ),
        },
        coords={"ranking": names, "other": names, "top": counts},
    )
    facts = Facts.of(rankings[0]).warned(message for ranking in rankings for message in Facts.of(ranking).warnings)
    return finish(
        result,
        kind="rankings",
        facts=facts,
        settings={"top": list(map(int, top))},
        layer=rankings[0].attrs["layer"],
        n_channels=n_channels,
    )


def _described(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}


def _strengths(ranking: xr.Dataset) -> np.ndarray:
    """Return the scores in the order of the channels, larger for channels that rank higher."""
    scores = ranking.score.values[np.argsort(ranking.index.values)]
    return -scores if ranking.attrs["region"] in ASCENDING else scores


def _distinct(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return numbered


def _check(rankings: Sequence[xr.Dataset], top: Sequence[int]) -> None:
    if len(rankings) < 2:
        raise ArgumentError(f"rankings: found {len(rankings)}, expected two or more, from probe.rank_channels.")
    for ranking in rankings:
        if not isinstance(ranking, xr.Dataset) or not {"score", "rank", "stability"} <= ranking.data_vars.keys():
            raise ArgumentError("rankings: expected results of probe.rank_channels, each as an argument of its own.")
    if not top or any(count < 1 for count in top):
        raise ArgumentError(f"top={top!r}: expected numbers of channels, each at least 1.")
    found = {(ranking.attrs["layer"], ranking.sizes["channel"]) for ranking in rankings}
    if len(found) > 1:
        (layer, n_channels), (other, n_other) = sorted(found)[:2]
        raise ArgumentError(
            f"rankings: they rank different channels: {n_channels} of {layer} and {n_other} of {other}. "
            "Rank the channels of one layer."
        )
