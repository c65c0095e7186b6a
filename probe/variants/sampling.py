"""Networks that blur before they sub-sample (BlurPool)."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from probe.errors import ArgumentError
from probe.models.copies import copied
from probe.variants.tracing import traced

__all__ = ["BlurPool", "anti_aliased"]

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish)
_ACTIVATION_FUNCTIONS = (functional.relu, torch.relu, functional.gelu, functional.silu)


class BlurPool(nn.Module):
    """Blur each channel with a binomial filter, the border mirrored, then keep every `stride`-th row and column.

    Parameters
    ----------
    stride
        Step of the sub-sampling.
    size
        Length of the filter: 1 does not blur, 3 is (1, 2, 1) / 4.

    References
    ----------
    Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019.

    Examples
    --------
    >>> BlurPool(stride=2, size=3)(torch.tensor([[[[0.0, 4.0, 0.0, 4.0]]]]))
    tensor([[[[2., 2.]]]])
    """

    def __init__(self, stride: int, size: int = 4) -> None:
        super().__init__()
        self.stride, self.size = stride, size
        row = torch.ones(1, device="cpu")
        for _ in range(size - 1):
            row = functional.pad(row, (1, 0)) + functional.pad(row, (0, 1))
        self.kernel: Tensor
        self.register_buffer("kernel", torch.outer(row, row) / row.sum() ** 2, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of shape (image, channel, row / stride, column / stride), rounded up."""
        # Not functional.pad, whose reflection fails on maps shorter than the filter.
        for axis in (2, 3):
            maps = maps.index_select(axis, self._mirrored(maps.shape[axis]).to(maps.device))
        kernel = self.kernel.to(maps).expand(maps.shape[1], 1, -1, -1)
        return functional.conv2d(maps, kernel, stride=self.stride, groups=maps.shape[1])

    def _mirrored(self, length: int) -> Tensor:
        """Return the places of a row that is continued by its mirror image."""
        period = max(2 * (length - 1), 1)
        places = torch.arange(-((self.size - 1) // 2), length + self.size // 2, device="cpu") % period
        return torch.minimum(places, period - places)


def anti_aliased(model: nn.Module, *, size: int = 4, from_pixels: bool = False) -> nn.Module:
    """Return a copy of a model, with the same weights, that blurs wherever it sub-samples.

    Max pooling of stride s becomes max pooling of stride 1 and `BlurPool`; a strided convolution becomes one of stride
    1, with the blur behind the activation that follows it; average pooling becomes `BlurPool`. A strided 1×1
    convolution, as in the shortcuts of residual networks, is blurred before.

    Parameters
    ----------
    model
        A model that torch.fx can trace. Layers keep their names.
    size
        Length of the blur's filter.
    from_pixels
        Whether to convert the convolution that reads the pixels too. Zhang leaves it, since at stride 1 it would cost
        several times as much.

    Raises
    ------
    ArgumentError
        If nothing in the model sub-samples.

    References
    ----------
    Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> anti_aliased(net)(torch.zeros(1, 3, 12, 12)).shape
    torch.Size([1, 8, 5, 5])
    """
    network = traced(copied(model))
    modules = dict(network.named_modules())
    strided = [(node, modules[str(node.target)]) for node in network.graph.nodes if _sub_samples(node, modules)]
    if not from_pixels:
        strided = [(node, module) for node, module in strided if not _reads_pixels(node, module)]
    if not strided:
        raise ArgumentError("model: no pooling or convolution in it has a stride, so there is nothing to blur.")
    for number, (node, module) in enumerate(strided, start=1):
        network.add_submodule(f"blur{number}", BlurPool(_step(module), size))
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            _blur_between(node.args[0], [node], f"blur{number}")
        else:
            activated = _activated(node, modules)
            _blur_between(activated, list(activated.users), f"blur{number}")
    for node, module in strided:
        if isinstance(module, nn.AvgPool2d):
            network.set_submodule(str(node.target), nn.Identity())
        else:
            module.stride = (1, 1)
    network.recompile()
    return network


def _sub_samples(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    module = modules.get(str(node.target))
    return isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and _step(module) > 1


def _step(module: nn.Module) -> int:
    stride: Any = module.stride
    return stride if isinstance(stride, int) else stride[0]


def _reads_pixels(node: fx.Node, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and node.args[0].op == "placeholder"  # type: ignore[union-attr]


def _activated(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """Return the activation that follows a convolution, behind normalisation or not; else the convolution."""
    following = node
    while len(following.users) == 1:
        following = next(iter(following.users))
        module = modules.get(str(following.target))
        if isinstance(module, _ACTIVATIONS) or following.target in _ACTIVATION_FUNCTIONS:
            return following
        if not isinstance(module, _NORMS):
            break
    return node


def _blur_between(source: Any, readers: list[fx.Node], blur: str) -> None:
    """Blur the output of a node for some of those that read it."""
    with source.graph.inserting_after(source):
        blurred = source.graph.call_module(blur, (source,))
    for reader in readers:
        reader.replace_input_with(source, blurred)
