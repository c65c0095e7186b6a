"""The numbers that the padding report states: means over training seeds, with their intervals."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import stdtrit

__all__ = ["NEGLIGIBLE", "Estimate", "content_part", "estimate", "focus_layer", "padding_estimates", "position_r2"]

NEGLIGIBLE = 0.01
"""An R² or a difference below this is called none, whatever its error."""

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` independent values, ± `half_width` of its 95 % t interval (NaN for a single value)."""

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself where there is no error."""
        return self.mean - np.nan_to_num(self.half_width)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself where there is no error."""
        return self.mean + np.nan_to_num(self.half_width)

    @property
    def is_known(self) -> bool:
        """Whether there is a mean."""
        return self.count > 0

    @property
    def is_none(self) -> bool:
        """Whether it is so small, or below 0, that it counts for nothing."""
        is_narrow = np.nan_to_num(self.half_width) < NEGLIGIBLE
        return self.is_known and (self.high < NEGLIGIBLE or (is_narrow and abs(self.mean) < NEGLIGIBLE))

    @property
    def is_present(self) -> bool:
        """Whether it is above 0 beyond its error, and not negligible."""
        return self.is_known and not self.is_none and self.low > 0

    @property
    def is_tie(self) -> bool:
        """Whether, as a difference, it cannot be told from 0."""
        if np.isnan(self.half_width):
            return abs(self.mean) < NEGLIGIBLE
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        mean = f"{self.mean:z.3f}".replace("-", "−")
        # With no-break spaces.
        return (
            mean if np.isnan(self.half_width) else f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{self.half_width:.3f}"
        )


def estimate(values: np.ndarray) -> Estimate:
    """Return the mean of independent values with its 95 % t interval; values that are not finite are left out.

    Examples
    --------
    >>> round(estimate(np.array([0.1, 0.2, 0.3])).half_width, 3)
    0.248
    """
    known = np.asarray(values, dtype=float).ravel()
    known = known[np.isfinite(known)]
    if known.size < 2:
        return Estimate(float(known[0]) if known.size else np.nan, np.nan, known.size)
    error = known.std(ddof=1) / np.sqrt(known.size)
    return Estimate(float(known.mean()), float(stdtrit(known.size - 1, (1 + _CONFIDENCE) / 2) * error), known.size)


def padding_estimates(values: xr.DataArray) -> dict[str, Estimate]:
    """Return the estimate over seeds of each padding, from values on (padding, seed)."""
    return {str(padding): estimate(values.sel(padding=padding).values) for padding in values.padding.values}


def focus_layer(result: xr.Dataset) -> str:
    """Return the layer that the findings speak of: the deepest one that is scored under every padding.

    Where there is none, the deepest one that is scored under any.
    """
    scored = result.r2.sel(training="trained", stimulus="rolled").notnull().all("target").any("seed")
    for everywhere in (scored.all("padding"), scored.any("padding")):
        if everywhere.any():
            return str(result.layer.values[everywhere.values][-1])
    return str(result.layer.values[-1])


def position_r2(result: xr.Dataset) -> xr.DataArray:
    """Return the R² of position, the mean of row and column, on (padding, seed, training, layer, stimulus)."""
    return result.r2.mean("target", skipna=False)


def content_part(result: xr.Dataset) -> xr.DataArray:
    """Return what content adds to the R² of position: natural − rolled, on (padding, seed, training, layer, fold).

    Both stimuli are made from the same images in the same folds, so the difference is taken within each fold.
    """
    by_fold = result.r2_fold.mean("target", skipna=False)
    return by_fold.sel(stimulus="natural", drop=True) - by_fold.sel(stimulus="rolled", drop=True)
