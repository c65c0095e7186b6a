"""The same weights under another way of sub-sampling: blurred before, or from the cell on that the maps choose."""

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.blueprint import reason_of
from probe.models.copies import copied
from probe.models.geometry import TRANSPOSED, pair
from probe.models.modules import unwrap
from probe.variants.alignment import AlignedForward
from probe.variants.remarks import listed
from probe.variants.samplers import BlurPool, PhaseChoice, PolyphasePool, Wrapped
from probe.variants.strides import NOT_PADDED, SAMPLED, Step, Strided, layer_of, strided_calls
from probe.variants.tracing import GraphForward, Tracer

__all__ = ["SAMPLINGS", "with_sampling"]

SAMPLINGS = ("blur", "polyphase")

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish)
_ACTIVATION_FUNCTIONS = (functional.relu, torch.relu, functional.gelu, functional.silu)
_JOINING = (operator.add, operator.iadd, torch.add, torch.cat, torch.concat, operator.mul, torch.mul, "add", "add_")


def with_sampling(
    model: nn.Module, sampling: str, *, size: int | None = None, from_pixels: bool | None = None
) -> nn.Module:
    """Return a copy of a model, with the same weights, that sub-samples in another way.

    The commonest uses::

        probe.with_sampling(model, "blur")
        probe.layerwise(probe.with_sampling(model, "polyphase"), images)
        probe.with_sampling(probe.with_padding(model, "circular"), "polyphase")

    A stride keeps every s-th cell, so that what falls between is lost, and the same image shifted by one pixel gives
    other maps. Besides the border this is the second thing by which a convolutional network can tell places apart.

    ``blur`` [1]_
        A low-pass filter stands before each sub-sampling. Max pooling of stride s becomes max pooling of stride 1 and
        a blur of stride s; a strided convolution becomes one of stride 1, with the blur behind the normalisation and
        activation that follow it; average pooling becomes the blur, unless its window is wider than the filter. Shifts
        matter less. Pooling with ``ceil_mode`` rounds down.
    ``polyphase`` [2]_
        The layer runs at stride 1, and of the s × s maps that keep every s-th cell, each from another first cell, the
        one of the largest norm is kept, for each image. A shifted image gives the same maps from another first cell:
        with circular padding, sides that are multiples of the total stride, and global pooling at the end, the
        output is exactly the same for every shift.

    A strided 1 × 1 convolution and a slice ``x[:, :, ::s, ::s]``, as in the shortcuts of residual networks, are
    sampled before. Under ``polyphase`` all branches that leave the same maps with the same stride keep the same
    phase, or they could not be joined: the phase is chosen on the main path, which is the first branch that has a
    window of more than one cell, and the shortcut follows it, even if the model runs it first.

    Parameters
    ----------
    model : nn.Module
        A model that ``torch.fx`` can trace; of a compiled, ``DataParallel`` or ``DistributedDataParallel`` one, the
        model inside is copied. It stays as it was.
    sampling : {"blur", "polyphase"}
    size : int, optional
        Length of the filter of ``blur``, 4 by default.
    from_pixels : bool, optional
        Whether to convert the convolution that reads the pixels too, which at stride 1 costs s² times as much. By
        default ``blur`` leaves it, as Zhang does, and ``polyphase`` converts it unless its windows do not overlap,
        as in the patch embedding of a transformer; what is left is listed.

    Returns
    -------
    nn.Module
        A copy with the same keys and values in its state dict and layers of the same names, sharing no memory. Its
        forward is bound to it, and calls layers; the blocks around them, whose code was traced, are not called. It was
        traced in evaluation mode: what code does in training alone, such as ``functional.dropout``, is left out.

    Raises
    ------
    ArgumentError
        If the sampling is unknown, or a size is given that has no effect.
    ModelError
        If nothing in the model can be converted, it cannot be traced or copied, or was converted already.

    Warns
    -----
    ProbeWarning
        Lists what sub-samples as before: functions and slices in the code of ``forward``, other classes of layers,
        the convolution that reads the pixels. Under ``polyphase`` it also lists where maps of different phases meet
        and where maps are sampled up again, since phases are not put back there. What happens within functions that
        ``torch.fx`` does not trace is not seen.

    Notes
    -----
    Under ``polyphase`` a window without padding does not fit at the last cells of all phases, so there the map is
    continued around its other side. An output is exactly invariant if every layer that samples has a map whose sides
    are multiples of its stride, and pads by (kernel − 1) / 2, circularly, or not at all.

    References
    ----------
    .. [1] Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019.
    .. [2] Chaman and Dokmanić, "Truly Shift-Invariant Convolutional Neural Networks", CVPR 2021.

    Examples
    --------
    >>> import probe, torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> probe.with_sampling(net, "blur")(torch.zeros(1, 3, 12, 12)).shape
    torch.Size([1, 8, 5, 5])
    """
    if sampling not in SAMPLINGS:
        raise ArgumentError(f"sampling={sampling!r} is unknown; expected one of {', '.join(SAMPLINGS)}.")
    if size is not None and sampling != "blur":
        raise ArgumentError(f"size={size}: only sampling='blur' has a filter, so it would have no effect.")
    converted = copied(unwrap(model))
    graph = _graph_of(converted)
    modules = dict(converted.named_modules())
    strided, rest = strided_calls(graph, modules, leave_pixels=sampling == "blur", from_pixels=from_pixels)
    filter_size = 4 if size is None else size
    if sampling == "blur":
        strided = [call for call in strided if not _is_wider(call.module, filter_size)]
    if not strided:
        found = f" {listed('Left as they are', rest)}." if rest else ""
        raise ModelError(
            "model: there is nothing to convert: looked for were strides of convolutions and pooling over rows and "
            f"columns, and slices x[:, :, ::s, ::s] in the code of forward.{found}"
        )
    meeting: dict[str, str] = {}
    if sampling == "blur":
        _insert_blurs(converted, graph, strided, filter_size)
    else:
        meeting = _insert_phases(converted, graph, strided)
    graph.lint()
    _set_forward(converted, GraphForward(converted, graph))
    remarks = [listed("not converted", rest), listed("not exact", meeting)]
    if any(remarks):
        warnings.warn(f"sampling={sampling!r}: {'. '.join(filter(None, remarks))}.", ProbeWarning, stacklevel=2)
    return converted


def _graph_of(model: nn.Module) -> fx.Graph:
    present = vars(model).get("forward")
    if isinstance(present, AlignedForward):
        present = present.forward
    if isinstance(present, GraphForward):
        raise ModelError("model: its sampling has been converted already. Convert the original model instead.")
    if present is not None:
        raise ModelError(
            "model: its method forward was replaced by another tool, so its class does not tell what it does. "
            "Convert the model before."
        )
    modes = {module: module.training for module in model.modules()}
    try:
        # A graph holds one mode for good, and measurements are made in this one.
        for module in modes:
            module.training = False
        with warnings.catch_warnings(action="ignore"):
            return Tracer(SAMPLED).trace(model)
    except Exception as error:  # whatever the model's own code raises
        raise ModelError(
            f"model: torch.fx cannot trace it, and so where it sub-samples is not known: {reason_of(error, model)}"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def _is_wider(module: nn.Module | None, size: int) -> bool:
    """Tell whether a layer averages over more than the filter does, and so blurs by itself."""
    return isinstance(module, nn.AvgPool2d) and min(pair(module.kernel_size)) > size


def _set_forward(model: nn.Module, forward: GraphForward) -> None:
    present = vars(model).get("forward")
    if isinstance(present, AlignedForward):
        present.forward = forward
    else:
        model.forward = forward


def _insert_blurs(model: nn.Module, graph: fx.Graph, strided: Sequence[Strided], size: int) -> None:
    for call in strided:
        if isinstance(call.module, nn.AvgPool2d):
            model.set_submodule(str(call.node.target), nn.Identity())
        elif call.module is not None:
            call.module.stride = (1, 1)
    modules = dict(model.named_modules())
    border = (
        "circular" if any(getattr(part, "padding_mode", "") == "circular" for part in model.modules()) else "reflect"
    )
    for call in strided:
        blur = _put_in(model, call, "blur", BlurPool(call.step, size, border))
        source, readers = _place_of(call, modules)
        with graph.inserting_after(source):
            blurred = graph.call_module(blur, (source,))
        _redirect(call, source, readers, blurred)


def _insert_phases(model: nn.Module, graph: fx.Graph, strided: Sequence[Strided]) -> dict[str, str]:
    """Let each branch keep the phase that is chosen on the main path; return where different phases meet."""
    modules = dict(model.named_modules())
    groups, meeting = _groups_of(graph, {call.node: call for call in strided}, modules)
    for calls in groups:
        # Of branches that leave the same maps the main path is the one with windows.
        calls.sort(key=lambda call: call.is_pointwise)
        phase = _put_in(model, calls[0], "phase", PhaseChoice(calls[0].step))
        chosen: fx.Node | None = None
        for call in calls:
            pool = _put_in(model, call, "polyphase", PolyphasePool(call.step))
            source, readers = _place_of(call, modules)
            with graph.inserting_after(source):
                chosen = chosen or graph.call_module(phase, (source,))
            with graph.inserting_after(chosen if chosen.args[0] is source else source):
                kept = graph.call_module(pool, (source, chosen))
            _redirect(call, source, readers, kept)
            if type(call.module) in SAMPLED and not call.is_pointwise and call.module.padding in NOT_PADDED:
                wrapping = _put_in(model, call, "wrapped", Wrapped(call.module))
                with graph.inserting_before(call.node):
                    wrapped = graph.call_module(wrapping, (call.source,))
                call.node.replace_input_with(call.source, wrapped)
    for call in strided:
        if call.module is not None:
            call.module.stride = (1, 1)
    _sort(graph)
    return meeting


def _put_in(model: nn.Module, call: Strided, kind: str, layer: nn.Module) -> str:
    """Put a layer into the one whose stride it replaces, or whose code slices, and return its name."""
    owner = layer_of(call.node)
    parent = model.get_submodule(owner)
    names = (kind, *(f"{kind}{number}" for number in range(2, 1000)))
    own = next(name for name in names if not hasattr(parent, name))
    parent.add_module(own, layer)
    return f"{owner}.{own}".removeprefix(".")


def _place_of(call: Strided, modules: Mapping[str, nn.Module]) -> tuple[fx.Node, list[fx.Node]]:
    """Return behind what to sample, and who then reads the sample."""
    if call.is_pointwise:
        return call.source, [call.node]
    activated = _activated(call.node, modules)
    return activated, list(activated.users)


def _activated(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node:
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


def _redirect(call: Strided, source: fx.Node, readers: Iterable[fx.Node], sample: fx.Node) -> None:
    """Let readers read the sample; it takes the place of a slice."""
    if call.module is None:
        call.node.replace_all_uses_with(sample)
        call.node.graph.erase_node(call.node)
        return
    for reader in readers:
        reader.replace_input_with(source, sample)


def _samples_up(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], (nn.Upsample, nn.PixelShuffle, *TRANSPOSED))
    return node.target in (functional.interpolate, torch.conv_transpose2d)


def _groups_of(
    graph: fx.Graph, calls: Mapping[fx.Node, Strided], modules: Mapping[str, nn.Module]
) -> tuple[list[list[Strided]], dict[str, str]]:
    """Return the calls that keep one phase, together, and the layers in which maps of different phases meet.

    Maps are of one phase if they have come through the same choices; all calls of the same stride on maps of one
    phase are to choose alike.
    """
    groups: dict[tuple[Any, Step], list[Strided]] = {}
    phases: dict[fx.Node, Any] = {}
    meeting: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            if not phases:  # the images; what else may be given is no map
                phases[node] = 0
        elif node in calls:
            key = (phases.get(calls[node].source), calls[node].step)
            groups.setdefault(key, []).append(calls[node])
            phases[node] = 1 + list(groups).index(key)
        elif node.target not in ("size", getattr):
            met = {phases[given] for given in node.all_input_nodes if given in phases}
            if len(met) > 1 and node.target in _JOINING:
                meeting[layer_of(node)] = "maps of different phases meet"
            elif met - {0} and _samples_up(node, modules):
                meeting[layer_of(node)] = "samples up, and does not put phases back"
            if met:
                phases[node] = met.pop() if len(met) == 1 else frozenset(met)
    return list(groups.values()), meeting


def _sort(graph: fx.Graph) -> None:
    """Put each node behind all that it reads, and otherwise leave the order."""
    order: dict[fx.Node, None] = {}

    def visit(node: fx.Node) -> None:
        for given in node.all_input_nodes:
            if given not in order:
                visit(given)
        order.setdefault(node)

    for node in graph.nodes:
        visit(node)
    *before, output = order
    for node in before:
        output.prepend(node)
