"""Where a model sub-samples: strides of its layers and in its code, and which of them can be converted."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from probe.models.geometry import TRANSPOSED, along_each, pair

__all__ = ["NOT_PADDED", "SAMPLED", "Step", "Strided", "layer_of", "strided_calls"]

NOT_PADDED = (0, (0, 0), "valid")
SAMPLED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Layers whose strides can be converted, along rows and columns alone."""

_STRIDED_FUNCTIONS = {functional.max_pool2d: 2, functional.avg_pool2d: 2, torch.conv2d: 3}

Step = tuple[int, int]


@dataclass(frozen=True)
class Strided:
    """A call that sub-samples and can be converted.

    Attributes
    ----------
    node : torch.fx.Node
        The call.
    step : tuple of int
        Strides of rows and columns.
    module : nn.Module or None
        The layer; None for a slice.
    """

    node: fx.Node
    step: Step
    module: Any

    @property
    def source(self) -> fx.Node:
        """What is sub-sampled."""
        return self.node.all_input_nodes[0]

    @property
    def is_pointwise(self) -> bool:
        """Whether it reads single cells, so that it can be sampled before."""
        return self.module is None or (isinstance(self.module, nn.Conv2d) and pair(self.module.kernel_size) == (1, 1))


def strided_calls(
    graph: fx.Graph, modules: Mapping[str, nn.Module], *, leave_pixels: bool, from_pixels: bool | None
) -> tuple[list[Strided], dict[str, str]]:
    """Return the calls of a graph to convert, and by name of the layer why others that sub-sample stay.

    Parameters
    ----------
    graph
        In which convolutions and pooling are called as one.
    modules
        The modules that it calls, by name.
    leave_pixels
        Whether a convolution that reads the pixels stays; else it does if its windows do not overlap.
    from_pixels
        True converts it anyway; False leaves it and does not say so.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.MaxPool2d(2), nn.LPPool2d(2, 2))
    >>> graph, modules = fx.Tracer().trace(model), dict(model.named_modules())
    >>> strided, rest = strided_calls(graph, modules, leave_pixels=False, from_pixels=None)
    >>> [call.node.target for call in strided], rest
    (['1'], {'0': 'patch embedding; from_pixels=True converts it', '2': 'LPPool2d'})
    """
    strided: list[Strided] = []
    rest: dict[str, str] = {}
    for node in graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        reason = _obstacle(node, module)
        if reason:
            known = rest.get(layer_of(node), reason)
            rest[layer_of(node)] = known if reason in known else f"{known}, {reason}"
            continue
        step = _step(node, module)
        if max(step) == 1:
            continue
        call = Strided(node, step, module)
        if isinstance(module, nn.Conv2d) and call.source.op == "placeholder" and not from_pixels:
            if from_pixels is False:
                continue
            if leave_pixels or pair(module.kernel_size) == step:
                kind = "reads the pixels" if leave_pixels else "patch embedding"
                rest[layer_of(node)] = f"{kind}; from_pixels=True converts it"
                continue
        strided.append(call)
    return strided, rest


def _step(node: fx.Node, module: nn.Module | None) -> Step:
    """Return the strides of a call that can be converted, (1, 1) if it has none."""
    if isinstance(module, SAMPLED):
        return pair(module.stride)
    index = _index_of(node)
    others = [_index_of(user) for user in node.all_input_nodes[0].users if user is not node] if index else []
    # Slices that begin elsewhere, or stand beside others, are put together again and lose nothing.
    if len(index) != 4 or any(map(_largest_step, others)):
        return 1, 1
    if not all(isinstance(part, slice) and part.start in (None, 0) and part.stop is None for part in index):
        return 1, 1
    steps = [part.step or 1 for part in index]
    return (steps[2], steps[3]) if steps[:2] == [1, 1] else (1, 1)


def _index_of(node: fx.Node) -> tuple[Any, ...]:
    """Return the index of a slice in code, empty if it is none."""
    if node.target is not operator.getitem:
        return ()
    index = node.args[1]
    return index if isinstance(index, tuple) else (index,)


def _largest_step(index: tuple[Any, ...]) -> int:
    """Return the largest step of an index, 0 if it has none."""
    steps = [part.step for part in index if isinstance(part, slice) and isinstance(part.step, int)]
    return max((step for step in steps if step > 1), default=0)


def _obstacle(node: fx.Node, module: nn.Module | None) -> str:
    """Say why a call that sub-samples keeps doing so; empty if it does not, or can be converted."""
    if module is not None:
        if isinstance(module, SAMPLED):
            if max(pair(module.stride)) == 1:
                return ""
            if getattr(module, "return_indices", False):
                return "return_indices"
            rounds_up = getattr(module, "ceil_mode", False) and module.padding not in NOT_PADDED
            return "ceil_mode with padding" if rounds_up else ""
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            return "" if set(pair(module.output_size)) == {1} else "adaptive pooling to several cells"
        stride = getattr(module, "stride", 1) or getattr(module, "kernel_size", 1)
        is_strided = (
            isinstance(stride, int | tuple) and not isinstance(module, TRANSPOSED) and max(along_each(stride, 1)) > 1
        )
        return type(module).__name__ if is_strided or isinstance(module, nn.PixelUnshuffle) else ""
    place = _STRIDED_FUNCTIONS.get(node.target) if node.op == "call_function" else None  # type: ignore[arg-type]
    if place is not None:
        kernel = node.args[1] if len(node.args) > 1 else node.kwargs.get("kernel_size", 1)
        given = node.args[place] if len(node.args) > place else node.kwargs.get("stride")
        stride = given or (kernel if place == 2 else 1)
        is_strided = not isinstance(stride, int | tuple | list) or max(along_each(stride, 1)) > 1
        return f"{node.target.__name__} in its code" if is_strided else ""  # type: ignore[union-attr]
    is_slice = _largest_step(_index_of(node)) and max(_step(node, None)) == 1
    return "strided slice in its code" if is_slice else ""


def layer_of(node: fx.Node) -> str:
    """Return the name of the layer that is called, or in whose code something is; empty for the model."""
    if node.op == "call_module":
        return str(node.target)
    *_, (name, _) = node.meta.get("nn_module_stack", {"": ("", None)}).values()
    return name
