"""The loss that descriptors are trained with, and how well their distances tell matching patches from others."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["distances", "false_positives", "hardest_in_batch"]

RECALL = 95
"""Per cent of the matching pairs that the threshold accepts."""

_SAME = 0.008  # descriptors that are nearer are taken for those of one patch
_FAR = 10.0
_MARGIN = 1.0


def distances(anchors: Tensor, positives: Tensor) -> Tensor:
    """Return the Euclidean distance of each anchor, a descriptor of unit length, to each positive."""
    squared = 2 - 2 * anchors @ positives.T
    return (squared.clamp(min=0) + 1e-6).sqrt()


def hardest_in_batch(anchors: Tensor, positives: Tensor) -> Tensor:
    """Return the mean over pairs of max(0, 1 + their distance − that to the nearest other descriptor).

    Of each pair, the other descriptors are the positives of other pairs beside its anchor, and the anchors of other
    pairs beside its positive. Those nearer than 0.008 are left out, so that descriptors that are all alike cost
    nothing: the loss cannot tell a network that has collapsed from a perfect one.

    Parameters
    ----------
    anchors, positives
        Shape (pair, number), of unit length.

    References
    ----------
    Mishchuk, Mishkin, Radenovic, Matas: Working hard to know your neighbor's margins. NeurIPS 2017, with the
    constants of its code.

    Examples
    --------
    >>> hardest_in_batch(torch.eye(3), torch.eye(3)).item()
    0.0
    """
    between = distances(anchors, positives)
    own = between.diagonal()
    others = between + _FAR * torch.eye(len(between), dtype=between.dtype, device=between.device)
    others = torch.where(others < _SAME, others + _FAR, others)
    hardest = torch.minimum(others.min(dim=0).values, others.min(dim=1).values)
    return (_MARGIN + own - hardest).clamp(min=0).mean()


def false_positives(matching: np.ndarray, others: np.ndarray) -> float:
    """Return the share of other pairs that are accepted where 95 % of the matching ones are, by their distances.

    The threshold is the least distance of a matching pair that accepts as many; what is as near as the threshold is
    accepted, as in scikit-learn's ``roc_curve``.

    Parameters
    ----------
    matching, others
        Distances of the pairs that match, and of those that do not.

    Returns
    -------
    float
        0: told apart; 0.95: by chance; 1: all distances alike. NaN where there are none, or one is not finite.

    Examples
    --------
    >>> false_positives(np.array([0.1, 0.2]), np.array([0.2, 0.3, 0.4, 0.5]))
    0.25
    """
    if not len(matching) or not len(others) or not np.isfinite([*matching, *others]).all():
        return float("nan")
    threshold = np.sort(matching)[-(-RECALL * len(matching) // 100) - 1]
    return float((others <= threshold).mean())
