"""How far the mean activation near each border lies from that in the middle, from the sums at each position."""

from dataclasses import dataclass

import numpy as np

from probe.intervals import jackknife
from probe.readouts.channels import summed
from probe.sums.moments import PositionMoments

__all__ = ["BorderScores", "score_border"]


@dataclass(frozen=True)
class BorderScores:
    """The change of one layer under one stimulus, in variances of a channel.

    Attributes
    ----------
    change, change_se : numpy.ndarray
        Shape (distance,). Mean over channels, cells at the distance, and sides; and its standard error (jackknife over
        the folds; without a change it is too large, by √(2 (folds − 1) / (folds − 2))). NaN where no channel varies.
    by_side, by_side_se : numpy.ndarray
        Shape (side, distance).
    """

    change: np.ndarray
    change_se: np.ndarray
    by_side: np.ndarray
    by_side_se: np.ndarray


def score_border(moments: PositionMoments, cells: np.ndarray, middle: np.ndarray) -> BorderScores:
    """Measure how far mean activations lie from their mean in the middle.

    The square of a mean over images is too large by the variance of that mean. It is therefore estimated from products
    of the means of different folds, whose errors are independent: without a change its expectation is 0.

    Parameters
    ----------
    moments
        Of one layer under one stimulus, of images of one size, with images in three folds or more.
    cells
        Shape (side, distance, row, column), of bool: the cells at each distance from each side.
    middle
        Shape (row, column), of bool: the cells that stand for a place without a border.
    """
    sizes = moments.images.cpu().numpy()
    whole = summed(moments)
    deviation = np.sqrt(whole.deviations / whole.cells)
    known = np.isfinite(deviation) & (deviation > 0)
    if moments.maps is None or not known.any():
        unknown = np.full(cells.shape[:2], np.nan)
        return BorderScores(unknown[0], unknown[0], unknown, unknown)
    means = moments.maps.cpu().numpy()[:, known] / sizes[:, None, None, None]
    about = means - means[..., middle].mean(axis=-1)[..., None, None]
    scaled = (about / deviation[known][:, None, None]).reshape(len(sizes), int(known.sum()), -1)
    products = np.einsum("fcu,gcu->fgu", scaled, scaled) / int(known.sum())
    masks = cells.reshape(*cells.shape[:2], -1)
    at = np.einsum("fgu,sdu->fgsd", products, masks) / masks.sum(axis=-1)
    folds = np.arange(len(sizes))
    by_side = _between_folds(at, sizes)
    left_out = np.stack(
        [_between_folds(at[np.ix_(rest, rest)], sizes[rest]) for rest in (folds[folds != f] for f in folds)]
    )
    return BorderScores(
        change=by_side.mean(axis=0),
        change_se=jackknife(by_side.mean(axis=0), left_out.mean(axis=1), sizes),
        by_side=by_side,
        by_side_se=jackknife(by_side, left_out, sizes),
    )


def _between_folds(products: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean of products of different folds, weighed by their images."""
    weights = np.outer(sizes, sizes)
    np.fill_diagonal(weights, 0)
    return np.einsum("fg,fgsd->sd", weights, products) / weights.sum()
