"""The same weights under another padding."""

import difflib
import warnings
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.blueprint import blueprint
from probe.models.copies import copied
from probe.models.layers import unwrap
from probe.variants.alignment import AlignedForward
from probe.variants.borders import CONVERTED, CONVERTIBLE, convert
from probe.variants.remarks import listed
from probe.variants.rolling import Findings, bare_twin, roll_images
from probe.variants.samplers import BlurPool
from probe.variants.tracing import Tracer

__all__ = ["PADDINGS", "with_padding"]

PADDINGS = ("zeros", "reflect", "replicate", "circular", "partial", "valid", "full")

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, *_ADAPTIVE)
_EXTENDING = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
_POOLING_FUNCTIONS = (functional.max_pool2d, functional.avg_pool2d)
_ADAPTIVE_FUNCTIONS = (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d)


def with_padding(model: nn.Module, padding: str, *, images: Tensor | None = None) -> nn.Module:
    """Return a copy of a model whose convolutions and pooling layers see another border.

    The commonest uses::

        probe.with_padding(model, "circular")
        probe.layerwise(probe.with_padding(model, "valid"), images)
        probe.with_padding(model, "circular", images=images[:1])

    =============  ==============================================  ================================================
    padding        convolutions                                    pooling
    =============  ==============================================  ================================================
    ``zeros``      zeros                                           unchanged
    ``reflect``    the map mirrored at its border                  the same, then pooled
    ``replicate``  the pixels of the border repeated               the same, then pooled
    ``circular``   the opposite side                               the same, then pooled
    ``partial``    zeros, the response without its bias            unchanged
                   re-weighted by taps / taps inside the map [1]_
    ``valid``      nothing                                         nothing
    ``full``       dilation · (kernel − 1) zeros [2]_              kernel − 1 of −∞ (average: not counted)
    =============  ==============================================  ================================================

    The first five keep the sizes of all maps; what a layer did not pad stays unpadded. Under ``full``, convolutions
    without padding whose windows do not overlap, such as patch embeddings and strided 1 × 1 convolutions, stay as
    they are. Under ``valid`` and ``full`` maps shrink and grow, so the operands of sums and of concatenations of
    channels are aligned about their centres (:class:`probe.variants.alignment.Alignment`). This happens while the
    returned model itself is called; a part of it that is called alone, or traced by ``torch.fx``, is not aligned. Its
    forward is bound to it, so use ``DistributedDataParallel`` on several devices, not ``DataParallel``.

    Where a branch with stride s has lost (``valid``) or gained (``full``) an odd number of cells against the other,
    the centres cannot meet: in a residual block with a 3 × 3 convolution of stride 2 beside a 1 × 1 convolution of
    stride 2, the operands are one input pixel apart, half a cell of the new map. Blocks of stride 1 with odd kernels
    meet exactly.

    Parameters
    ----------
    model : nn.Module
        Any model; of a compiled, ``DataParallel`` or ``DistributedDataParallel`` one, the model inside is copied.
        It stays as it was.
    padding : str
        One of ``probe.variants.padding.PADDINGS``.
    images : torch.Tensor, optional
        Shape (image, channel, row, column), on the first of which the conversion is tried. By default it is noise of a
        size that is found by trial; give one if the warning says that none fits. Rows and columns are multiples of
        all strides.

    Returns
    -------
    nn.Module
        A copy with the same classes, names, hooks, modes and bits of weights, sharing no memory. Layers of class
        ``nn.Conv2d``, ``nn.MaxPool2d`` and ``nn.AvgPool2d`` are converted, the first whatever its padding mode was.

    Raises
    ------
    ArgumentError
        If the padding is unknown, or `images` are none or have no effect.
    ModelError
        If the model is scripted or traced, cannot be copied, or has been converted already.
    PaddingError
        From the forward pass of the returned model, under ``valid``: if the images are so small that no map is left.
        It names the layer and the smallest size that works.

    Warns
    -----
    ProbeWarning
        Lists what was not converted: other classes of layers that pad, transposed convolutions, pooling with
        ``ceil_mode`` or to several cells, and padding in the code of ``forward``. Under ``zeros``, layers that
        continue the map; under ``partial``, no pooling. Under ``circular`` it also tells what else than padding tells
        positions apart, such as a table of positions, or why nothing could be tried.

    Notes
    -----
    Padding in code is found in two ways: ``torch.fx`` shows calls of known functions, and a copy under circular padding
    is run once on an image of noise and on the same image rolled by a multiple of all strides, in evaluation mode and
    without hooks. A function whose output does not roll along is listed with its layer, unless it tells positions
    apart without padding: attention, a table of positions, or weights of their own for each place of a map. Only
    what runs on this image is seen.

    References
    ----------
    .. [1] Liu et al., "Partial Convolution based Padding", 2018, arXiv:1811.11718.
    .. [2] Kayhan and van Gemert, "On Translation Invariance in CNNs: Convolutional Layers Can Exploit Absolute
       Spatial Location", CVPR 2020.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    >>> with_padding(model, "valid")(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 28, 28])
    """
    if padding not in PADDINGS:
        near = difflib.get_close_matches(str(padding), PADDINGS, n=1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"padding={padding!r} is unknown; expected one of {', '.join(PADDINGS)}.{offer}")
    original = unwrap(model)
    if images is not None:
        _check_images(images, padding)
    if any(_is_converted(module) for module in original.modules()):
        raise ModelError("model: its padding has been converted already. Convert the original model instead.")
    converted = copied(original)
    _convert_all(converted, padding)
    if padding in ("valid", "full"):
        converted.forward = AlignedForward(converted, padding)
    _warn_of_rest(original, padding, images)
    return converted


def _check_images(images: Any, padding: str) -> None:
    if padding == "zeros":
        raise ArgumentError("images: padding='zeros' is not tried on images, so they would have no effect.")
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        found = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ArgumentError(f"images: expected a tensor of shape (image, channel, row, column), found {found}.")


def _convert_all(model: nn.Module, padding: str) -> None:
    for module in model.modules():
        if type(module) in CONVERTIBLE and not _obstacle(module, padding):
            convert(module, padding)
        elif isinstance(module, BlurPool) and (padding == "circular" or module.border == "circular"):
            module.border = "circular" if padding == "circular" else "reflect"


def _is_converted(module: nn.Module) -> bool:
    return isinstance(module, CONVERTED) or isinstance(vars(module).get("forward"), AlignedForward)


def _warn_of_rest(model: nn.Module, padding: str, images: Tensor | None) -> None:
    """List in one warning what keeps the border it had, and what else tells positions apart in a circular model."""
    reasons = {name: _obstacle(module, padding) for name, module in model.named_modules()}
    found = _found_by_rolling(model, images) if padding != "zeros" else Findings()
    in_code = _padding_in_code(model, padding)
    if in_code is None and found.not_tried:
        reasons[""] = reasons[""] or "torch.fx cannot trace it, so padding in its code would go unseen"
    for name, function in in_code or ():
        reasons[name] = reasons[name] or function
    for name, function in found.padding.items():
        # What is to be said of layers that can be converted does not depend on a trial under another padding.
        settled = type(model.get_submodule(name)) in CONVERTIBLE or (padding == "partial" and "pool" in function)
        if not settled:
            reasons[name] = reasons.get(name) or f"{function} in its code"
    parts = [listed("not converted", reasons)]
    if padding == "circular":
        parts.append(listed("positions are told apart otherwise than by padding", found.otherwise))
        if found.not_tried:
            parts.append(
                f"not tried whether a rolled image gives rolled maps: {found.not_tried}. Padding in code that is not "
                "listed would go unseen; pass images= that the model takes, whose sizes are multiples of all strides"
            )
    if any(parts):
        warnings.warn(f"padding={padding!r}: {'. '.join(filter(None, parts))}.", ProbeWarning, stacklevel=3)


def _found_by_rolling(model: nn.Module, images: Tensor | None) -> Findings:
    """Convert a throw-away copy to circular padding, in which only padding in code is left, and try it."""
    twin = bare_twin(model)
    _convert_all(twin, "circular")
    return roll_images(twin, images)


def _obstacle(module: nn.Module, padding: str) -> str:
    """Say why a layer keeps its border although the padding would change it; empty if it does not."""
    is_convertible = type(module) in CONVERTIBLE
    if padding == "zeros":
        extends = isinstance(module, _EXTENDING) or getattr(module, "padding_mode", "zeros") != "zeros"
        return "" if is_convertible or not extends else type(module).__name__
    if isinstance(module, _TRANSPOSED):
        return "transposed convolution"
    if isinstance(module, _POOLING) and padding == "partial":
        return ""
    if isinstance(module, _ADAPTIVE) and not _are_all(1, module.output_size):
        return "adaptive pooling, uneven unless the map is a multiple of its output"
    if getattr(module, "ceil_mode", False) and not _are_all(1, module.stride):
        return "ceil_mode"
    pads = _pads(module, padding)
    if getattr(module, "return_indices", False) and pads and padding != "valid":
        return "return_indices"
    return "" if is_convertible or not pads else type(module).__name__


def _pads(module: nn.Module, padding: str) -> bool:
    """Tell whether a layer pads, may pad in code of its own, or would pad under full padding."""
    if any(name != "parametrizations" for name, _ in module.named_children()):
        return False  # a block that records its settings; its layers do the padding
    if (padding == "full" or _has_own_code(module)) and not _are_all(1, getattr(module, "kernel_size", 1)):
        return True
    return _is_padding(getattr(module, "padding", 0))


def _has_own_code(module: nn.Module) -> bool:
    return isinstance(module, CONVERTIBLE) and all(type(module).forward is not kind.forward for kind in CONVERTIBLE)


def _is_padding(amount: Any) -> bool:
    return isinstance(amount, int | tuple | list | str) and amount != "valid" and not _are_all(0, amount)


def _are_all(number: int, values: Any) -> bool:
    return set(values if isinstance(values, tuple | list) else (values,)) <= {number}


def _padding_in_code(model: nn.Module, padding: str) -> list[tuple[str, str]] | None:
    """Return the layers whose code pads, each with the function it calls; None if the model cannot be traced."""
    tracer = Tracer()
    if padding == "zeros" or tracer.is_leaf_module(model, ""):
        return []
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = tracer.trace(blueprint(model)).nodes
    except Exception:
        return None
    found = []
    for node in nodes:
        if node.op == "call_function" and _call_pads(node, padding):
            *_, (name, _) = node.meta.get("nn_module_stack", {"": ("", None)}).values()
            found.append((name, f"{node.target.__name__} in its code"))
    return found


def _call_pads(node: torch.fx.Node, padding: str) -> bool:
    """Tell whether a call pads, or would pad under full padding."""
    function: Any = node.target
    if function is functional.pad:
        amounts: Any = _argument(node, 1, "pad")
        return _is_padding(amounts[:4])  # rows and columns come first
    if padding == "partial" and function in (*_POOLING_FUNCTIONS, *_ADAPTIVE_FUNCTIONS):
        return False
    if function in _ADAPTIVE_FUNCTIONS:
        return not _are_all(1, _argument(node, 1, "output_size"))
    if function in _POOLING_FUNCTIONS:
        uses_ceil = _argument(node, 5 if function is functional.max_pool2d else 4, "ceil_mode")
        return padding == "full" or uses_ceil or _is_padding(_argument(node, 3, "padding"))
    if function is torch.conv2d:
        return padding == "full" or _is_padding(_argument(node, 4, "padding"))
    return function is torch.conv_transpose2d or "pad" in getattr(function, "__name__", "")


def _argument(node: torch.fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, 0)
