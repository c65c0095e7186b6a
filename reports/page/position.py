"""R² of position of one network, the mean of row and column, with its error over images; and how it changes."""

import xarray as xr

from probe.reports.page.estimates import Estimate, estimate, interval

__all__ = ["position", "position_change"]


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
