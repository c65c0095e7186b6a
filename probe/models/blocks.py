"""Repeated blocks: what a model computes several times over, found where no name tells that it is a transformer's.

Some blocks are no modules: attention and perceptron stand in a list, and the loop that runs them adds the residuals.
What such a block computes is given to the call behind it, and read there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from probe.models.kinds import is_convolution, is_default_layer, is_linear
from probe.models.layers import Layer

__all__ = ["Start", "tensors_of", "with_blocks"]

_LEAST_LINEAR = 3  # queries, keys and values, or what takes their place; and a perceptron


@dataclass(frozen=True)
class Start:
    """The start of a call of a module in a forward pass.

    Attributes
    ----------
    module : str
        Its name.
    call : int
        Which call of it, from 0.
    n_ended : int
        Number of layers that were there before it.
    shapes : tuple
        Shapes of the tensors that it was given.
    """

    module: str
    call: int
    n_ended: int
    shapes: tuple[tuple[int, ...], ...]


def tensors_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments of a call."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def with_blocks(
    model: nn.Module,
    names: Mapping[nn.Module, str],
    found: Sequence[Layer],
    starts: Sequence[Start],
    shapes: Mapping[tuple[str, int], tuple[int, ...]],
) -> list[Layer]:
    """Add the repeated blocks of a model to its layers, and let ``layers="auto"`` read them.

    Parameters
    ----------
    model
        An eager model.
    names
        Its modules and their names.
    found
        The layers of a forward pass, in order.
    starts
        The starts of its calls, in order.
    shapes
        Module and number of the call -> shape of its output.
    """
    layers = list(found)
    for block, name in _blocks(model, names):
        inside = [layer for layer in found if f"{layer.module}.".startswith(f"{name}.")]
        own = next((layer for layer in inside if layer.module == name), None)
        if not inside or (own is not None and not own.problem):
            layers = [_read_by_default(layer) if layer is own else layer for layer in layers]
            continue
        readable = [layer for layer in inside if _is_map(layer)]
        if not readable:
            if own is None:
                problem = "it is no module that is called, and none of its parts gives a map"
                missing = Layer(name, name, 0, type(block).__name__, 0, default=True, problem=problem)
                layers.insert(layers.index(inside[-1]) + 1, missing)
            continue
        last = readable[-1]
        source = _taker(name, inside[-1].depth, shapes[last.module, last.call], starts)
        if source is None:
            layers = [_read_by_default(layer) if layer is last else layer for layer in layers]
            continue
        layer = replace(
            last, name=name, module=name, call=0, module_type=type(block).__name__, default=True, n_sources=0,
            source=source,
        )  # fmt: skip
        if own is None:
            layers.insert(layers.index(inside[-1]) + 1, layer)
        else:
            layers[layers.index(own)] = layer
    return [replace(layer, depth=depth) for depth, layer in enumerate(layers)]


def _blocks(model: nn.Module, names: Mapping[nn.Module, str]) -> Iterator[tuple[nn.Module, str]]:
    """Yield the innermost modules that stand in a row with others of their class and hold several linear layers.

    Those with convolutions are left out, which are read themselves; and those around blocks that are found by name.
    """
    repeated = {}
    for module in model.modules():
        row = _row(module)
        classes = Counter(map(type, row))
        for block in row:
            if block in names and classes[type(block)] > 1 and _may_be_block(block):
                repeated[block] = names[block]
    for block, name in repeated.items():
        inner = [module for module in block.modules() if module is not block]
        if not any(module in repeated or is_default_layer(module) for module in inner):
            yield block, name


def _row(module: nn.Module) -> list[nn.Module]:
    """Return the modules that stand in a row; torch.fx keeps rows without their class, but with the numbers in it."""
    if isinstance(module, nn.ModuleList | nn.Sequential):
        return list(module)
    if type(module) is nn.Module:
        return [part for name, part in module.named_children() if name[-1].isdecimal()]
    return []


def _may_be_block(module: nn.Module) -> bool:
    parts = list(module.modules())
    n_linear = sum(map(is_linear, parts))
    has_convolution = any(map(is_convolution, parts))
    return n_linear >= _LEAST_LINEAR and not has_convolution and "decoder" not in type(module).__name__.lower()


def _is_map(layer: Layer) -> bool:
    return not layer.problem and not layer.is_single_cell


def _read_by_default(layer: Layer) -> Layer:
    return replace(layer, default=layer.default or _is_map(layer))


def _taker(name: str, end: int, shape: tuple[int, ...], starts: Sequence[Start]) -> tuple[str, int, int] | None:
    """Return the first call behind a block that is given a tensor of its shape, and which of its tensors that is."""
    for start in starts:
        if start.n_ended > end and not f"{start.module}.".startswith(f"{name}.") and shape in start.shapes:
            return start.module, start.call, start.shapes.index(shape)
    return None
