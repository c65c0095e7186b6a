"""A model without values: its forward pass computes shapes alone, and costs no arithmetic."""

import traceback
from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.errors import PaddingError
from probe.models.copies import copied
from probe.models.first_layers import axes_taken
from probe.models.modules import described, running_layer

__all__ = ["blueprint", "failure_of", "reason_of", "smallest_input"]

LARGEST_INPUT = 2**14

# Of these torch composes a dozen operations on the meta device, and they take most of the time of a forward pass.
_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.GELU)

_CONVOLUTIONS = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


def blueprint(model: nn.Module) -> nn.Module:
    """Return a copy without values and without hooks, on the meta device: its forward pass costs no arithmetic.

    Raises
    ------
    ModelError
        If the model cannot be copied.
    """
    replacements: dict[int, Any] = {}
    for parameter in model.parameters():
        replacements[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        replacements[id(buffer)] = buffer.detach().to("meta")
    for module in model.modules():
        replacements[id(module._forward_hooks)] = OrderedDict()
        replacements[id(module._forward_pre_hooks)] = OrderedDict()
        for value in vars(module).values():
            if isinstance(value, Tensor):
                replacements[id(value)] = value.detach().to("meta")
    plan = copied(model, replacements)
    for module in plan.modules():
        is_usual = type(module).forward is _BatchNorm.forward or type(module) in _ELEMENTWISE
        if is_usual and "forward" not in vars(module):
            module.forward = partial(_keep_the_shape, module)
        if type(module).forward in _CONVOLUTIONS and "forward" not in vars(module):
            module.forward = partial(_convolve, module)
    return plan


def _convolve(convolution: Any, maps: Tensor) -> Tensor:
    """Refuse a window that is larger than the map by one cell, which older versions of torch let pass on meta."""
    result = type(convolution).forward(convolution, maps)
    if isinstance(result, Tensor) and 0 in result.shape[2:]:  # no tensor while the model is traced
        amounts = (0,) * (maps.ndim - 2) if isinstance(convolution.padding, str) else convolution.padding
        padded = [n + 2 * p for n, p in zip(maps.shape[2:], amounts, strict=True)]
        spans = [d * (k - 1) + 1 for k, d in zip(convolution.kernel_size, convolution.dilation, strict=True)]
        raise RuntimeError(
            f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
            f"({' x '.join(map(str, spans))}). Kernel size can't be greater than actual input size"
        )
    return result


def _keep_the_shape(module: nn.Module, maps: Any) -> Any:
    """Return what a layer gives that keeps the shape, without composing it; what the layer refuses, it still does."""
    is_shape_alone = isinstance(maps, Tensor) and maps.is_meta
    if is_shape_alone and isinstance(module, _BatchNorm):
        module._check_input_dim(maps)
        has_several_values = maps.numel() > maps.shape[1]
        is_shape_alone = maps.shape[1] == module.num_features and (has_several_values or not module.training)
    if not is_shape_alone:
        return type(module).forward(module, maps)
    return maps if getattr(module, "inplace", False) else torch.empty_like(maps)


def failure_of(plan: nn.Module, shape: tuple[int, ...]) -> str:
    """Run a blueprint on images of some shape, and return what ends the run; empty if nothing does.

    Examples
    --------
    >>> plan = blueprint(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 5)))
    >>> failure_of(plan, (1, 3, 9, 9))
    ''
    >>> print(failure_of(plan, (1, 3, 4, 4)))
    1 (Conv2d): RuntimeError: Calculated padded input size per channel: (4 x 4). Kernel size: (5 x 5). Kernel size
    can't be greater than actual input size
    """
    parameter = next(plan.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            plan(torch.empty(*shape, dtype=parameter.dtype, device="meta"))
    except Exception as error:  # whatever the model's own code raises
        return reason_of(error, plan)
    return ""


def reason_of(error: Exception, model: nn.Module) -> str:
    """Return where in a model an exception arose, its type, and the first line of its message, without its last stop.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> try:
    ...     model(torch.ones(1, 3))
    ... except RuntimeError as error:
    ...     reason_of(error, model)
    '0 (Linear): RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 2x2)'
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    layer = running_layer(reversed(frames), model)
    first_line = str(error).partition("\n")[0].rstrip(".!")
    return f"{described(layer, model)}: {type(error).__name__}: {first_line}"


def smallest_input(model: nn.Module, channels: int = 3) -> int:
    """Return the side of the smallest square image that a model can process, in pixels; of clips also the frames.

    Every size that is tried costs one forward pass on the meta device, which computes shapes alone.

    Parameters
    ----------
    model : nn.Module
        A model that takes a tensor of shape (image, channel, row, column), or (image, channel, frame, row, column) if
        its first convolution does.
    channels : int
        Channels of the images.

    Raises
    ------
    PaddingError
        If no power of two up to 16,384 works. It tells what ended the run at the last of them.
    ModelError
        If the model cannot be copied.

    Examples
    --------
    >>> smallest_input(nn.Sequential(nn.Conv2d(3, 8, 5), nn.MaxPool2d(2)))
    6
    >>> smallest_input(nn.Sequential(nn.Conv3d(3, 8, 5), nn.MaxPool3d(2)))
    6
    """
    plan = blueprint(model)
    n_axes = axes_taken(model) or 2
    largest_failing, smallest_working = 0, 1
    while failure := failure_of(plan, (2, channels, *[smallest_working] * n_axes)):
        if smallest_working == LARGEST_INPUT:
            shown = "square images" if n_axes == 2 else "clips of equal sides"
            raise PaddingError(
                f"model: none of the {shown} of 1, 2, 4, … up to {LARGEST_INPUT} pixels could be processed on torch's "
                f"device 'meta'. At {' × '.join([str(LARGEST_INPUT)] * n_axes)}, {failure}"
            )
        largest_failing, smallest_working = smallest_working, 2 * smallest_working
    while smallest_working - largest_failing > 1:
        size = (largest_failing + smallest_working) // 2
        if failure_of(plan, (2, channels, *[size] * n_axes)):
            largest_failing = size
        else:
            smallest_working = size
    return smallest_working
