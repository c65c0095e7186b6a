"""Which layers keep the border that they have, and padding in the code of a model's forward."""

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn import functional

from probe.axes import AXES
from probe.models.blueprint import blueprint
from probe.models.geometry import TRANSPOSED, n_axes_of, sides_along, sides_of
from probe.variants.borders import CONVERTIBLE, is_convertible
from probe.variants.samplers import BlurPool
from probe.variants.tracing import Tracer

__all__ = ["axes_in", "obstacle", "padding_in_code"]

_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d, *_ADAPTIVE)
_EXTENDING = (
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d),
    *(nn.ReflectionPad3d, nn.ReplicationPad3d, nn.CircularPad3d),
)
_PADDING = (*_EXTENDING, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad2d, nn.ZeroPad3d)

_CONVOLVING = (torch.conv2d, torch.conv3d)
_TRANSPOSING = (torch.conv_transpose2d, torch.conv_transpose3d)
# Where torch takes their ceil_mode.
_POOLING_FUNCTIONS: dict[Any, int] = {
    **dict.fromkeys((functional.max_pool2d, functional.max_pool3d), 5),
    **dict.fromkeys((functional.avg_pool2d, functional.avg_pool3d), 4),
}
_ADAPTIVE_FUNCTIONS = (
    *(functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
    *(functional.adaptive_avg_pool3d, functional.adaptive_max_pool3d),
)


def axes_in(model: nn.Module) -> tuple[str, ...]:
    """Return the axes over which the layers of a model slide their windows.

    Examples
    --------
    >>> axes_in(nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU()))
    ('frame', 'row', 'column')
    """
    n_axes = max((n for n in map(n_axes_of, model.modules()) if n > 1), default=0)
    return AXES[len(AXES) - n_axes :]


def obstacle(module: nn.Module, padding: str, axes: Collection[str] = AXES) -> str:
    """Say why a layer keeps its border although the padding would change it along some axes; empty if it does not.

    Examples
    --------
    >>> obstacle(nn.MaxPool3d(3, 2, ceil_mode=True), "circular")
    'ceil_mode'
    >>> obstacle(nn.ReplicationPad3d((0, 0, 0, 0, 1, 1)), "circular", ["row", "column"])
    ''
    """
    converts = is_convertible(module)
    if padding == "zeros":
        extends = isinstance(module, _EXTENDING) or getattr(module, "padding_mode", "zeros") != "zeros"
        return "" if converts or not (extends and _pads(module, padding, axes)) else type(module).__name__
    if isinstance(module, BlurPool):
        is_uneven = padding == "circular" and len({"row", "column"} & set(axes)) == 1
        return "BlurPool, whose border is the same along rows and columns" if is_uneven else ""
    if isinstance(module, _POOLING) and padding == "partial":
        return ""
    if isinstance(module, _ADAPTIVE):
        is_even = _are_all(1, _along(module.output_size, _n_axes_of_adaptive(module), axes))
        return "" if is_even else "adaptive pooling, uneven unless the map is a multiple of its output"
    if getattr(module, "ceil_mode", False) and not _are_all(1, module.stride):
        return "ceil_mode"
    pads = _pads(module, padding, axes)
    if getattr(module, "return_indices", False) and pads and padding != "valid":
        return "return_indices"
    return "" if converts or not pads else type(module).__name__


def _n_axes_of_adaptive(module: nn.Module) -> int:
    return 3 if isinstance(module, nn.AdaptiveAvgPool3d | nn.AdaptiveMaxPool3d) else 2


def _pads(module: nn.Module, padding: str, axes: Collection[str]) -> bool:
    """Tell whether a layer pads along some axes, may pad in code of its own, or would pad under full padding."""
    if any(name != "parametrizations" for name, _ in module.named_children()):
        return False  # a block that records its settings; its layers do the padding
    n_axes = n_axes_of(module)
    if (padding == "full" or _has_own_code(module)) and not _are_all(
        1, _along(getattr(module, "kernel_size", 1), n_axes, axes)
    ):
        return True
    if isinstance(module, TRANSPOSED):
        return _reaches_out(sides_of(module), axes)
    amount: Any = getattr(module, "padding", 0)
    if isinstance(module, _PADDING):
        return _lengthens(amount, axes)
    return _is_padding(_along(amount, n_axes, axes))


def _has_own_code(module: nn.Module) -> bool:
    return isinstance(module, CONVERTIBLE) and all(type(module).forward is not kind.forward for kind in CONVERTIBLE)


def _along(setting: Any, n_axes: int, axes: Collection[str]) -> Any:
    """Return what a setting says of some axes, if it says something of each."""
    if not isinstance(setting, tuple | list) or n_axes < 2 or len(setting) != n_axes:
        return setting
    return [value for axis, value in zip(AXES[-n_axes:], setting, strict=True) if axis in axes]


def _reaches_out(sides: Sequence[Any], axes: Collection[str]) -> bool:
    return any(not _are_all(0, amounts) for axis, amounts in sides_along(sides).items() if axis in axes)


def _lengthens(sides: Sequence[Any], axes: Collection[str]) -> bool:
    """Tell whether padding lengthens a map at some side; amounts below 0 cut it."""
    amounts = [amount for axis, both in sides_along(sides).items() if axis in axes for amount in both]
    return any(not isinstance(amount, int) or amount > 0 for amount in amounts)


def _is_padding(amount: Any) -> bool:
    return isinstance(amount, int | tuple | list | str) and amount != "valid" and not _are_all(0, amount)


def _are_all(number: int, values: Any) -> bool:
    return set(values if isinstance(values, tuple | list) else (values,)) <= {number}


def padding_in_code(model: nn.Module, padding: str, axes: Collection[str]) -> list[tuple[str, str]] | None:
    """Return the layers whose code pads along some axes, each with the function it calls; None if it cannot be traced.

    Examples
    --------
    >>> class Padded(nn.Module):
    ...     def forward(self, x):
    ...         return functional.pad(x, (1, 1, 1, 1))
    >>> padding_in_code(nn.Sequential(Padded()), "circular", ["column"])
    [('0', 'pad in its code')]
    """
    tracer = Tracer()
    if padding == "zeros" or tracer.is_leaf_module(model, ""):
        return []
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = tracer.trace(blueprint(model)).nodes
    except Exception:
        return None
    found = []
    n_axes = len(axes_in(model)) or 2
    for node in nodes:
        if node.op == "call_function" and _call_pads(node, padding, axes, n_axes):
            *_, (name, _) = node.meta.get("nn_module_stack", {"": ("", None)}).values()
            if not is_convertible(model.get_submodule(name)):  # of classes that are not of torch the code is traced too
                found.append((name, f"{node.target.__name__} in its code"))
    return found


def _call_pads(node: torch.fx.Node, padding: str, axes: Collection[str], n_axes: int) -> bool:
    """Tell whether a call pads along some axes, or would under full padding; `n_axes` are those of the maps."""
    function: Any = node.target
    if function is functional.pad:
        amounts: Any = _argument(node, 1, "pad")
        # The last axes come first, and channels after those of the map.
        return not isinstance(amounts, tuple | list) or _lengthens(amounts[: 2 * n_axes], axes)
    if padding == "partial" and function in (*_POOLING_FUNCTIONS, *_ADAPTIVE_FUNCTIONS):
        return False
    own_axes = 3 if "3d" in getattr(function, "__name__", "") else 2

    def along(place: int, name: str) -> Any:
        return _along(_argument(node, place, name), own_axes, axes)

    if function in _ADAPTIVE_FUNCTIONS:
        return not _are_all(1, along(1, "output_size"))
    if function in _POOLING_FUNCTIONS:
        uses_ceil = _argument(node, _POOLING_FUNCTIONS[function], "ceil_mode")
        return padding == "full" or uses_ceil or _is_padding(along(3, "padding"))
    if function in _CONVOLVING:
        return padding == "full" or _is_padding(along(4, "padding"))
    return function in _TRANSPOSING or "pad" in getattr(function, "__name__", "")


def _argument(node: torch.fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, 0)
