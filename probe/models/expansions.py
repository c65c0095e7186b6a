"""Pointwise expansions: layers that make many channels of few, at each cell alone.

A 1×1 convolution or a linear layer gives y = W·x + b at each cell. Where it widens, as the last convolution of a
bottleneck, the first one of an inverted residual and the first layer of a perceptron do, all sums over y follow from
those over x, of which there are far fewer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Expansion", "does_more", "expansion_of"]

_POINTWISE = (nn.Conv2d, nn.Conv3d, nn.Linear)
_LEAST_RATIO = 3  # below it, scoring costs about what the shorter sums save


@dataclass(frozen=True)
class Expansion:
    """One call of a pointwise expansion.

    Attributes
    ----------
    sources : torch.Tensor
        What was expanded, on the cells of the output and with its axes.
    weight : torch.Tensor
        Shape (channel, source).
    bias : torch.Tensor
        Shape (channel,).
    """

    sources: Tensor
    weight: Tensor
    bias: Tensor


def expansion_of(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Expansion | None:
    """Return what a module expanded, if it is a 1×1 convolution or linear layer to at least three times the channels.

    All must be in one precision, single or double, and on a CPU: elsewhere products in double precision can cost more
    than the fewer of them save.

    Examples
    --------
    >>> convolution, images = nn.Conv2d(2, 8, kernel_size=1, stride=2), torch.ones(1, 2, 5, 5)
    >>> expansion_of(convolution, (images,), convolution(images)).sources.shape
    torch.Size([1, 2, 3, 3])
    """
    # Subclasses may do anything.
    if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) or type(module) not in _POINTWISE:
        return None
    tensors = [output, *inputs, module.weight, *([] if module.bias is None else [module.bias])]
    if len(inputs) != 1 or not all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors):
        return None
    sources: Tensor = inputs[0]
    if sources.dtype not in (torch.float32, torch.float64) or any(
        tensor.dtype != sources.dtype or tensor.device.type != "cpu" for tensor in tensors
    ):
        return None
    weight = module.weight.detach()
    if not isinstance(module, nn.Linear):
        n_axes = 3 if isinstance(module, nn.Conv3d) else 2
        is_pointwise = weight.shape[2:] == (1,) * n_axes and module.groups == 1
        is_padded = module.padding not in (0, (0,) * n_axes, "valid", "same")
        if not is_pointwise or is_padded or not _is_of_axes(module.stride, n_axes):
            return None
        cells: tuple[Any, ...] = (..., *(slice(None, None, step) for step in module.stride))
        sources, weight = sources[cells], weight.flatten(1)
    if weight.ndim != 2 or len(weight) < _LEAST_RATIO * weight.shape[1]:
        return None
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
    return Expansion(sources, weight, bias)


def does_more(module: nn.Module) -> bool:
    """Tell whether calling a module may do more than its class says: by hooks, or a `forward` of its own.

    What they change need not be alike for all images, so that a trial on some may not show it.

    Examples
    --------
    >>> module = nn.Linear(2, 8)
    >>> does_more(module)
    False
    >>> handle = module.register_forward_hook(print)
    >>> does_more(module)
    True
    """
    of_all = torch.nn.modules.module
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        of_all._global_forward_hooks,
        of_all._global_forward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module) or "_conv_forward" in vars(module)


def _is_of_axes(stride: Any, n_axes: int) -> bool:
    return isinstance(stride, tuple) and len(stride) == n_axes
