"""How strong each channel of a layer is by some method, from all images and from two halves of them."""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from probe.models.layers import Layer
from probe.results import Facts

__all__ = ["ASCENDING", "ChannelStrengths", "default_stimulus", "rank_correlation"]

ASCENDING = ("right", "bottom", "last")
"""The regions whose channels have the smallest scores."""


@dataclass(frozen=True)
class ChannelStrengths:
    """Scores of the channels of one layer.

    Attributes
    ----------
    layer : Layer
        The layer.
    scores : numpy.ndarray
        Shape (channel,). NaN for a channel that does not vary or is not finite.
    halves : numpy.ndarray
        Shape (2, channel). The same from each half of the images alone.
    facts : Facts
        Provenance.
    targets : list of str
        Those of the readout, where there is one.
    """

    layer: Layer
    scores: np.ndarray
    halves: np.ndarray
    facts: Facts
    targets: list[str] = field(default_factory=list)


def default_stimulus(method: str) -> str:
    """Return the stimulus by which a method ranks: images as they are for what compares two views of one image."""
    return "natural" if method in ("flip", "shift") else "rolled"


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation over the channels that both scores know.

    Parameters
    ----------
    first, second
        Shape (channel,). Channels that are not finite in one of them are left out.

    Returns
    -------
    float
        NaN where fewer than two channels are known, or all are equal.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, np.nan, 3.0]), np.array([10.0, 20.0, 0.0, 1000.0]))
    1.0
    """
    known = np.isfinite(first) & np.isfinite(second)
    ranks = [rankdata(scores[known]) for scores in (first, second)]
    if known.sum() < 2 or any(np.ptp(values) == 0 for values in ranks):
        return np.nan
    return float(np.corrcoef(ranks)[0, 1])
