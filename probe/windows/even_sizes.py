"""Input sizes at which a model reads all of its padding."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from probe.errors import ModelError
from probe.models.blueprint import blueprint
from probe.models.capture import input_grids
from probe.windows.windows import Windows

__all__ = ["WindowsOf", "nearest_even_sizes"]

WindowsOf = Mapping[str, tuple[Windows, Windows]]
"""The windows along rows and along columns of each audited layer, by the name of its module."""

_FURTHEST = 128  # pixels


def nearest_even_sizes(model: nn.Module, images: Tensor, windows: WindowsOf) -> np.ndarray:
    """Search outwards from the size of the images, up to 128 pixels, for sizes at which no padding is unread.

    Parameters
    ----------
    model
        An eager model.
    images
        Shape (1, channel, row, column).
    windows
        Of the layers that must read all of their padding.

    Returns
    -------
    numpy.ndarray
        Shape (axis, direction): rows and columns, smaller and larger; NaN where there is no such size.

    Raises
    ------
    ModelError
        If the model cannot run on tensors without values, by which sizes are tried.
    """
    # Sizes are all that is asked for, and tensors without values cost nothing to compute with.
    shadow, blank = blueprint(model), images.to("meta")
    if _unread(shadow, blank, windows) is None:
        raise ModelError("model: cannot run on tensors of torch's device 'meta'. Audit other sizes one by one.")
    nearest = np.full((2, 2), np.nan)
    for direction, sign in enumerate((-1, 1)):
        for distance in range(1, _FURTHEST + 1):
            size = np.array(images.shape[2:]) + sign * distance
            unread = _unread(shadow, blank.new_empty(*images.shape[:2], *size.clip(1).tolist()), windows)
            if unread is not None:
                is_first = (unread == 0) & (size > 0) & np.isnan(nearest[:, direction])
                nearest[is_first, direction] = size[is_first]
            if not np.isnan(nearest[:, direction]).any():
                break
    return nearest


def _unread(shadow: nn.Module, images: Tensor, windows: WindowsOf) -> np.ndarray | None:
    """Return how many rows and columns of padding all layers leave unread; None if the model cannot take this size."""
    try:
        with torch.device("meta"):
            grids = input_grids(shadow, images)
    except Exception:  # whatever the model's own code raises at a size that it cannot take
        return None
    unread = np.zeros(2, int)
    for (name, _), grid in grids.items():
        if name in windows:
            unread += [sum(axis.unread(size)) for axis, size in zip(windows[name], grid, strict=True)]
    return unread
