"""Pointwise expansions: layers that make many channels of few, at each cell alone.

A 1×1 convolution or a linear layer gives y = W·x + b at each cell. Where it widens, as the last convolution of a
bottleneck, the first one of an inverted residual and the first layer of a perceptron do, all sums over y follow from
those over x, of which there are far fewer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.rounding import ROUNDING_ERRORS, keeps_digits

__all__ = ["Expansion", "expansion_of"]

_LEAST_RATIO = 3  # below it, scoring costs about what the shorter sums save
_RELATIVE_ERROR = 1e-3  # of a channel's deviation; convolutions in TF32 stay below


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

    def gives(self, features: Tensor, sources: Tensor) -> bool:
        """Tell whether features are W·x + b, and can be told from rounding where W·x nearly cancels.

        Parameters
        ----------
        features, sources
            Shape (sample, channel) and (sample, source), of the same samples.

        Examples
        --------
        >>> doubling = Expansion(torch.empty(0), torch.tensor([[2.0], [2.0], [2.0]]), torch.zeros(3))
        >>> sources = torch.arange(4.0)[:, None]
        >>> doubling.gives(2 * sources.expand(-1, 3), sources), doubling.gives(3 * sources.expand(-1, 3), sources)
        (True, False)
        """
        rounding = ROUNDING_ERRORS * torch.finfo(features.dtype).eps
        x, weight, bias = sources.double(), self.weight.double(), self.bias.double()
        variance = features.double().var(dim=0, correction=0)
        tolerance = rounding * (x.abs() @ weight.abs().T + bias.abs())
        is_given = (features - (x @ weight.T + bias)).abs() <= tolerance + _RELATIVE_ERROR * variance.sqrt()
        parts = weight.square() @ x.var(dim=0, correction=0)
        return bool(is_given.all() and (keeps_digits(variance, parts, features.dtype) | (parts == 0)).all())


def expansion_of(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Expansion | None:
    """Return what a module expanded, if it is a 1×1 convolution or linear layer to at least three times the channels.

    All must be in one precision, single or double: what is rounded to less is not W·x + b any more. Whether the
    numbers are is for the caller to see, since hooks can change them.

    Examples
    --------
    >>> convolution, images = nn.Conv2d(2, 8, kernel_size=1, stride=2), torch.ones(1, 2, 5, 5)
    >>> expansion_of(convolution, (images,), convolution(images)).sources.shape
    torch.Size([1, 2, 3, 3])
    """
    if not isinstance(output, Tensor) or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        return None
    sources: Tensor = inputs[0]
    if type(module) is nn.Conv2d:  # subclasses may do anything
        if module.kernel_size != (1, 1) or module.groups != 1 or module.padding not in ((0, 0), "valid", "same"):
            return None
        sources = sources[..., :: module.stride[0], :: module.stride[1]]
    elif type(module) is not nn.Linear:
        return None
    weight = module.weight.detach().flatten(1)
    if len(weight) < _LEAST_RATIO * weight.shape[1]:
        return None
    if sources.dtype not in (torch.float32, torch.float64) or not sources.dtype == weight.dtype == output.dtype:
        return None
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
    return Expansion(sources, weight, bias)
