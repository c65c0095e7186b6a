"""Which tensors of a model can be read, and how the argument `layers` chooses among them."""

import difflib
import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, fx, nn

from probe.errors import (
    ArgumentError,
    LayerNotCalledError,
    LayerNotFoundError,
    LayoutError,
    ModelError,
)

__all__ = [
    "INPUT",
    "Convolution",
    "Layer",
    "Linear",
    "View",
    "axes_taken",
    "described",
    "first_convolution",
    "first_inputs",
    "is_convolution",
    "is_default_layer",
    "is_linear",
    "layer_named",
    "module_names",
    "running_layer",
    "select_layers",
    "takes_grey",
    "unwrap",
]

INPUT = "input"

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)

View = Callable[[Any], Tensor]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_GUARDS = "_guards_fn"  # checks the images of an exported model
_PATCH_EMBEDDING = re.compile("patch_?(embed|merg)", re.IGNORECASE)
_ATTENTION = re.compile("attn|attention", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One call of one module in a forward pass: a tensor that can be read.

    Attributes
    ----------
    name : str
        Name of the module, with ``_1``, ``_2``, … for its second and later calls; ``input`` for the pixels.
    module : str
        Name of the module, as in ``model.named_modules()``.
    call : int
        Which call of the module, from 0.
    module_type : str
        Class of the module.
    depth : int
        Order of execution among all calls; 0 for the pixels.
    layout : str
        One of `probe.models.notation.LAYOUTS`; ``given`` where a function makes the maps.
    n_channels : int
        Number of channels.
    size : tuple of int
        Size of the map for the first image: rows and columns, or frames, rows and columns (`probe.axes`). Empty where
        it is not known.
    n_before, n_behind : int
        Number of tokens before and behind the patches, which are no part of the map.
    n_sources : int
        Number of channels that each cell is made of, if it is a pointwise expansion (`probe.models.expansions`); else
        0.
    default : bool
        Whether ``layers="auto"`` reads it.
    problem : str
        Why it cannot be read as a map; empty if it can.
    source : tuple or None
        Where it is read, if no module gives it: name of the module that is given it, number of the call, and which of
        the tensors that this call is given.
    view : callable or None
        The user's function that makes maps of the output, or one that lays it on the user's grid.
    """

    name: str
    module: str
    call: int
    module_type: str
    depth: int
    layout: str = ""
    n_channels: int = 0
    size: tuple[int, ...] = ()
    n_before: int = 0
    n_behind: int = 0
    n_sources: int = 0
    default: bool = False
    problem: str = ""
    source: tuple[str, int, int] | None = None
    view: View | None = None

    @property
    def is_single_cell(self) -> bool:
        """Whether the map has one cell, which leaves no position to read."""
        return not self.problem and self.n_cells == 1

    @property
    def n_cells(self) -> int:
        """Number of cells of the map."""
        return math.prod(self.size) if self.size else 0

    @property
    def frames(self) -> int:
        """Number of frames; a map of rows and columns is one of a single frame."""
        return math.prod(self.size[:-2])

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.size[-2] if self.size else 0

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.size[-1] if self.size else 0


def unwrap(model: nn.Module) -> nn.Module:
    """Return the eager model inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` wrappers.

    Raises
    ------
    ModelError
        If it is no module, is scripted, traced or exported, or has parameters without values.
    """
    if not isinstance(model, nn.Module):
        exported = isinstance(model, torch.export.ExportedProgram)
        cure = " Pass the model as it was before torch.export." if exported else ""
        raise ModelError(f"model: expected a torch.nn.Module, found {type(model).__name__}.{cure}")
    while isinstance(model, _WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, _WRAPPERS) else model._orig_mod  # type: ignore[assignment]
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"model: {name or 'it'} is a scripted or traced module, which cannot be read. Pass the eager model."
            )
    if isinstance(model, fx.GraphModule) and not any(map(_calls_module, model.graph.nodes)):
        raise ModelError(
            "model: it is exported, a graph that calls none of the modules that it was made of, which hooks cannot "
            "read. Pass the model as it was before torch.export."
        )
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta:
            raise ModelError(f"model: the parameter {name} has no values. Load weights or run one forward pass first.")
    return model


def _calls_module(node: fx.Node) -> bool:
    return node.op == "call_module" and node.target != _GUARDS


def module_names(model: nn.Module) -> dict[nn.Module, str]:
    """Return the name of each module but the model itself; compiled submodules under their original names."""
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        if module is not model and not hasattr(module, "_orig_mod"):
            names[module] = name.replace("._orig_mod", "").replace("_orig_mod.", "")
    return names


def running_layer(frames: Iterable[Any], model: nn.Module) -> nn.Module:
    """Return the innermost layer whose code is running, from the frames of calls, innermost first; else the model."""
    modules = set(model.modules())
    for frame in frames:
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(owner, nn.Module) and owner in modules:
            return owner
    return model


def described(layer: nn.Module, model: nn.Module) -> str:
    """Return the name and the class of a layer of a model, as messages give them.

    Examples
    --------
    >>> model = nn.Sequential(nn.ReLU())
    >>> described(model[0], model), described(model, model)
    ('0 (ReLU)', 'the model (Sequential)')
    """
    return f"{module_names(model).get(layer, 'the model')} ({type(layer).__name__})"


class Linear(Protocol):
    """What is known of every linear layer, whatever its class."""

    in_features: int
    out_features: int


class Convolution(Protocol):
    """What is known of every convolution, whatever its class."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]


def is_linear(module: nn.Module) -> TypeGuard[Linear]:
    """Tell a linear layer, also one that is none of torch's class, as those of quantised models are.

    Examples
    --------
    >>> is_linear(nn.Linear(2, 3)), is_linear(nn.Bilinear(2, 2, 3))
    (True, False)
    """
    return isinstance(module, nn.Linear) or (
        _has_widths(module, "in_features", "out_features") and not any(map(is_linear, _parts(module)))
    )


def is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Tell a convolution of maps, also one that is none of torch's classes, as those of quantised models are.

    Examples
    --------
    >>> is_convolution(nn.ConvTranspose2d(2, 3, 3)), is_convolution(nn.Conv1d(2, 3, 3))
    (True, False)
    """
    if isinstance(module, _CONVOLUTIONS):
        return True
    kernel = vars(module).get("kernel_size")
    return (
        isinstance(kernel, tuple)
        and len(kernel) in (2, 3)
        and not isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
        and _has_widths(module, "in_channels", "out_channels")
        and not any(map(is_convolution, _parts(module)))
    )


def _has_widths(module: nn.Module, *names: str) -> bool:
    """Tell a module that keeps these numbers itself; properties are the user's code, which is not run."""
    return all(isinstance(vars(module).get(name), int) for name in names)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if part is not module)


def _is_transformer_block(module: nn.Module) -> bool:
    """Tell a block by its parts: attention, and beside it a perceptron, at least two linear layers without any.

    The tokens of a decoder are queries, which lie on no grid.
    """
    if "decoder" in type(module).__name__.lower():
        return False
    parts = dict(module.named_children())
    attention = {name for name, part in parts.items() if _is_attention(name, part)}
    beside = [part for name, part in parts.items() if name not in attention and not _holds_attention(part)]
    return bool(attention) and sum(map(_count_linear, beside)) >= 2


def _is_attention(name: str, module: nn.Module) -> bool:
    is_named_so = _ATTENTION.search(name) or _ATTENTION.search(type(module).__name__)
    return bool(is_named_so) and any(map(_count_linear, module.children()))


def _holds_attention(module: nn.Module) -> bool:
    return any(_is_attention(name.rpartition(".")[2], part) for name, part in module.named_modules())


def _count_linear(module: nn.Module) -> int:
    return sum(map(is_linear, module.modules()))


def _is_patch_embedding(module: nn.Module) -> bool:
    has_convolution = first_convolution(module) is not None
    return bool(_PATCH_EMBEDDING.search(type(module).__name__)) and not has_convolution


def is_default_layer(module: nn.Module) -> bool:
    """Tell whether ``layers="auto"`` reads this module: a convolution, patch embedding or transformer block."""
    return is_convolution(module) or _is_patch_embedding(module) or _is_transformer_block(module)


LayerSelection = str | type[nn.Module] | nn.Module | Iterable[Any]


def select_layers(
    layers: LayerSelection, found: Sequence[Layer], names: Mapping[nn.Module, str]
) -> tuple[list[Layer], dict[str, str]]:
    """Choose among the layers that a forward pass has shown.

    Parameters
    ----------
    layers
        ``"auto"``, ``"all"``, a name, a glob such as ``"layer*.conv1"``, a module type, a module of the model, or
        several of these.
    found
        All layers of a forward pass, in order of execution.
    names
        The modules of the model and their names, from `module_names`.

    Returns
    -------
    chosen : list of Layer
        In order of execution, each with a map of more than one cell.
    skipped : dict
        Layers that were asked for and left out, with the reason.

    Raises
    ------
    LayerNotFoundError
        If a name or glob matches nothing; near names are offered.
    LayerNotCalledError
        If a named layer exists but was not called.
    LayoutError
        If the output of a named layer is no map.
    """
    is_one = isinstance(layers, str | type | nn.Module) or not isinstance(layers, Iterable)
    requests = [layers] if is_one else list(layers)  # type: ignore[arg-type]
    chosen: dict[str, Layer] = {}
    skipped: dict[str, str] = {}
    for request in requests:
        matches, named = _matches(request, found, names)
        unclear = [layer for layer in matches if layer.problem]
        if unclear and named:
            _refuse_unclear(unclear[0])
        for layer in matches:
            if layer.problem:
                skipped[layer.name] = layer.problem
            elif layer.is_single_cell:
                skipped[layer.name] = "its map has a single cell, which leaves no position to read"
            else:
                chosen[layer.name] = layer
    if not chosen:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(skipped.items())[:5])
        raise LayerNotFoundError(f"layers={layers!r}: no layer with a map of more than one cell is left.{reasons}")
    return sorted(chosen.values(), key=lambda layer: layer.depth), skipped


def layer_named(name: str, found: Sequence[Layer], names: Mapping[nn.Module, str]) -> Layer:
    """Return the one layer of this name; arguments and errors are those of `select_layers`."""
    layer = next((layer for layer in found if layer.name == name), None)
    if layer is None:
        raise _unknown(name, found, names)
    _refuse_unclear(layer)
    return layer


def _refuse_unclear(layer: Layer) -> None:
    if layer.problem:
        raise LayoutError(f"layers: {layer.name} ({layer.module_type}): {layer.problem}.")


def _matches(request: Any, found: Sequence[Layer], names: Mapping[nn.Module, str]) -> tuple[list[Layer], bool]:
    """Return the layers that one request means, and whether it names a single module."""
    if isinstance(request, nn.Module):
        return _calls_of(request, found, names), True
    if isinstance(request, type):
        modules = {name for module, name in names.items() if isinstance(module, request)}
        return [layer for layer in found if layer.module in modules], False
    if not isinstance(request, str):
        raise ArgumentError(
            f"layers: expected 'auto', 'all', names, globs, modules or module types, found {type(request).__name__}."
        )
    if request == "auto":
        return [layer for layer in found if layer.default], False
    if request == "all":
        return list(found), False
    exact = [layer for layer in found if layer.name == request]
    if exact:
        return exact, True
    matches = [layer for layer in found if fnmatch.fnmatchcase(layer.name, request)]
    if matches:
        return matches, False
    raise _unknown(request, found, names)


def _unknown(request: str, found: Sequence[Layer], names: Mapping[nn.Module, str]) -> Exception:
    called = {layer.module for layer in found}
    uncalled = [name for name in fnmatch.filter(names.values(), request) if name not in called]
    if uncalled:
        return _not_called(uncalled[0], found)
    known = [layer.name for layer in found]
    near = difflib.get_close_matches(request, known, n=3, cutoff=0.4)
    offer = f" Did you mean {', '.join(map(repr, near))}?" if near else " probe.list_layers(model, images) lists them."
    return LayerNotFoundError(f"layers: no layer {request!r} among the {len(known)} of this model.{offer}")


def _calls_of(module: nn.Module, found: Sequence[Layer], names: Mapping[nn.Module, str]) -> list[Layer]:
    if module not in names:
        raise LayerNotFoundError(
            f"layers: the given {type(module).__name__} is no part of this model; choose one from model.modules()."
        )
    calls = [layer for layer in found if layer.module == names[module]]
    if not calls:
        raise _not_called(names[module], found)
    return calls


def _not_called(name: str, found: Sequence[Layer]) -> LayerNotCalledError:
    parent = _called_parent(name, found)
    cure = f"Its parent {parent!r} is called." if parent else "probe.list_layers(model, images) lists those it calls."
    return LayerNotCalledError(f"layers: {name!r} exists, but the forward pass never calls it. {cure}")


def _called_parent(name: str, found: Sequence[Layer]) -> str:
    called = {layer.module for layer in found}
    while "." in name:
        name = name.rpartition(".")[0]
        if name in called:
            return name
    return ""


def takes_grey(model: nn.Module, *, square: bool = False) -> bool:
    """Return whether a model's images have one channel.

    Its first convolution takes one, and none takes three. Without convolutions, its first weight takes all pixels of a
    square image at once, and as many as three channels cannot have.

    Parameters
    ----------
    model
        Any module.
    square
        Whether images are known to be square. Three channels of others may have as many pixels: 3·48·64 = 96².

    Examples
    --------
    >>> takes_grey(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)))
    True
    >>> takes_grey(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)))
    True
    """
    widths = [module.in_channels for module in _plain_convolutions(model)]
    if widths:
        return widths[0] == 1 and 3 not in widths
    n_pixels = first_inputs(model)
    return n_pixels > 0 and math.isqrt(n_pixels) ** 2 == n_pixels and (square or n_pixels % 3 != 0)


def first_convolution(model: nn.Module) -> Convolution | None:
    """Return the first convolution among a model's modules, None where there is none; transposed ones aside.

    Examples
    --------
    >>> first_convolution(nn.Sequential(nn.ReLU(), nn.Conv3d(1, 4, 3)))
    Conv3d(1, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1))
    """
    return next(_plain_convolutions(model), None)


def axes_taken(model: nn.Module) -> int | None:
    """Return how many axes the maps have that a model's first convolution takes; None where it has none.

    Examples
    --------
    >>> axes_taken(nn.Conv2d(3, 4, 3)), axes_taken(nn.Conv3d(3, 4, 3)), axes_taken(nn.Linear(3, 4))
    (2, 3, None)
    """
    first = first_convolution(model)
    return None if first is None else len(first.kernel_size)


def _plain_convolutions(model: nn.Module) -> Iterator[Convolution]:
    for module in model.modules():
        if is_convolution(module) and not getattr(module, "transposed", False):
            yield module


def first_inputs(model: nn.Module) -> int:
    """Return how many numbers the first weight of a model takes, where it is that of a linear layer; else 0.

    Examples
    --------
    >>> first_inputs(nn.Sequential(nn.Flatten(), nn.Linear(12, 10))), first_inputs(nn.Conv2d(1, 4, 3))
    (12, 0)
    """
    first = next(model.parameters(), None)
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return next((module.in_features for module in linear if module.weight is first), 0)
