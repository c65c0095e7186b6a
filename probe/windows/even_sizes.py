"""Input sizes at which a model reads all of its padding."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from probe.axes import axes_of_size
from probe.errors import ModelError
from probe.models.blueprint import blueprint, reason_of
from probe.models.capture import input_grids
from probe.windows.windows import Windows

__all__ = ["WindowsOf", "nearest_even_sizes"]

WindowsOf = Mapping[str, tuple[Windows, ...]]
"""The windows along each axis of each audited layer, by the name of its module."""

_FURTHEST = 128  # pixels, or frames


def nearest_even_sizes(model: nn.Module, images: Tensor, windows: WindowsOf) -> tuple[np.ndarray, list[str]]:
    """Search outwards from the size of the images, up to 128 pixels, for sizes at which no padding is unread.

    Each axis is searched by itself, the other as long as in the images.

    Parameters
    ----------
    model
        An eager model.
    images
        Shape (1, channel, row, column), or with frames before the rows.
    windows
        Of the layers that must read all of their padding.

    Returns
    -------
    nearest : numpy.ndarray
        Shape (axis, direction): rows and columns, of clips frames before them; smaller and larger. NaN where no size
        was found.
    refused : list of str
        Where no size was found because the model took none: the axis and direction, and what ended the run at the
        nearest size.

    Raises
    ------
    ModelError
        If the model cannot be copied, or cannot run on tensors without values, by which sizes are tried.
    """
    # Sizes are all that is asked for, and tensors without values cost nothing to compute with.
    shadow, blank = blueprint(model), images.to("meta")
    _, failure = _unread(shadow, blank, windows)
    if failure:
        raise ModelError(f"model: cannot run on tensors of torch's device 'meta', by which sizes are tried: {failure}")
    names = axes_of_size(blank.shape[2:])
    nearest = np.full((len(names), 2), np.nan)
    refused = []
    for axis, axis_name in enumerate(names):
        for direction, sign in enumerate((-1, 1)):
            size, failures = blank.shape[2 + axis], []
            sizes = [size + sign * distance for distance in range(1, _FURTHEST + 1) if size + sign * distance > 0]
            for tried in sizes:
                shape = list(blank.shape)
                shape[2 + axis] = tried
                unread, failure = _unread(shadow, blank.new_empty(shape), windows)
                if failure:
                    failures.append(f"{tried} {axis_name}s: {failure}")
                elif unread[axis] == 0:
                    nearest[axis, direction] = tried
                    break
            if sizes and len(failures) == len(sizes):
                refused.append(failures[0])
    return nearest, refused


def _unread(shadow: nn.Module, images: Tensor, windows: WindowsOf) -> tuple[np.ndarray, str]:
    """Return how much padding all layers leave unread along each axis, and what ends the model's run, if any."""
    unread = np.zeros(images.ndim - 2, int)
    try:
        with torch.device("meta"):
            grids = input_grids(shadow, images)
    except Exception as error:  # whatever the model's own code raises at a size that it cannot take
        return unread, reason_of(error, shadow)
    for (name, _), grid in grids.items():
        if name in windows:
            unread += [sum(axis.unread(size)) for axis, size in zip(windows[name], grid, strict=True)]
    return unread, ""
