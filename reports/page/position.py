"""R² of position of one network, the mean of row and column, with its error over images; and how it changes."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from probe.reports.page.estimates import NEGLIGIBLE, Estimate, estimate, interval

__all__ = ["best_read", "is_told", "position", "position_change"]

_WIDEST = 0.25
"""With a half width above this, an R² of too few images says nothing of where position is."""


def is_told(r2: Estimate) -> bool:
    """Return whether an R² is known to within an error that lets it be told, and is one that can be.

    Examples
    --------
    >>> is_told(Estimate(0.9, 0.1, 1)), is_told(Estimate(0.93, 0.44, 1)), is_told(Estimate(1.14, 0.1, 1))
    (True, False, False)
    """
    return bool(r2.is_known and np.nan_to_num(r2.half_width) <= _WIDEST and r2.mean <= 1 + NEGLIGIBLE)


def best_read(scores: Mapping[str, Estimate]) -> str:
    """Return the layer whose R² is highest for sure, by the lower end of its interval; empty where none can be told.

    By the mean the layer of the largest error would be chosen, of those that differ by chance.

    Examples
    --------
    >>> best_read({"conv1": Estimate(0.5, 0.1, 1), "conv2": Estimate(0.6, 0.24, 1), "conv3": Estimate(0.93, 0.44, 1)})
    'conv1'
    """
    told = {layer: r2.low for layer, r2 in scores.items() if is_told(r2)}
    return max(told, key=lambda layer: told[layer], default="")


def position(chosen: xr.Dataset, *, degrees: int | None = None) -> Estimate:
    """Return R² of position, the mean over targets, with its 95 % interval over images.

    Parameters
    ----------
    chosen
        ``r2`` and ``r2_se`` on target.
    degrees
        Of freedom, folds − 1; by default told by the dim ``fold``.
    """
    # The errors of row and column are those of the same images, so that of their mean is at most the mean of both.
    r2, error = (chosen[name].mean("target", skipna=False).item() for name in ("r2", "r2_se"))
    return interval(r2, error, degrees=chosen.sizes["fold"] - 1 if degrees is None else degrees)


def position_change(first: xr.Dataset, second: xr.Dataset) -> Estimate:
    """Return the first − the second R² of position, of the same images in the same folds: the error is of differences.

    Parameters
    ----------
    first, second
        ``r2`` on target and ``r2_fold`` on (target, fold).
    """
    by_fold = first.r2_fold.mean("target", skipna=False) - second.r2_fold.mean("target", skipna=False)
    change = first.r2.mean("target", skipna=False).item() - second.r2.mean("target", skipna=False).item()
    return Estimate(change, estimate(by_fold.values).half_width, int(change == change))
