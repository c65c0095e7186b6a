"""A model without values: its forward pass computes shapes alone, and costs no arithmetic."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from probe.errors import PaddingError

__all__ = ["blueprint", "smallest_input"]

LARGEST_INPUT = 2**14


def blueprint(model: nn.Module) -> nn.Module:
    """Return a copy without values and without hooks, on the meta device: its forward pass costs no arithmetic."""
    replacements: dict[int, Any] = {}
    for parameter in model.parameters():
        replacements[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        replacements[id(buffer)] = buffer.to("meta")
    for module in model.modules():
        replacements[id(module._forward_hooks)] = OrderedDict()
        replacements[id(module._forward_pre_hooks)] = OrderedDict()
    return copy.deepcopy(model, replacements)


def smallest_input(model: nn.Module, channels: int = 3) -> int:
    """Return the side of the smallest square image that a model can process, in pixels.

    Every size that is tried costs one forward pass on the meta device, which computes shapes alone.

    Parameters
    ----------
    model : nn.Module
        A model that takes a tensor of shape (image, channel, row, column).
    channels : int
        Channels of the images.

    Raises
    ------
    PaddingError
        If no power of two up to 16,384 works, for example because a linear layer expects maps of one size.

    Examples
    --------
    >>> smallest_input(nn.Sequential(nn.Conv2d(3, 8, 5), nn.MaxPool2d(2)))
    6
    """
    plan = blueprint(model)
    largest_failing, smallest_working = 0, 1
    while not _runs(plan, channels, smallest_working):
        largest_failing, smallest_working = smallest_working, 2 * smallest_working
        if smallest_working > LARGEST_INPUT:
            raise PaddingError(
                f"model: none of the square images of 1, 2, 4, … up to {LARGEST_INPUT} pixels can be processed. "
                "Does a layer expect maps of one fixed size?"
            )
    while smallest_working - largest_failing > 1:
        size = (largest_failing + smallest_working) // 2
        if _runs(plan, channels, size):
            smallest_working = size
        else:
            largest_failing = size
    return smallest_working


def _runs(plan: nn.Module, channels: int, size: int) -> bool:
    parameter = next(plan.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            plan(torch.empty(2, channels, size, size, dtype=parameter.dtype, device="meta"))
    except Exception:
        return False
    return True
