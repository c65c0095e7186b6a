"""Which tensors of a model can be read, and how the argument `layers` chooses among them."""

import difflib
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.errors import ArgumentError, LayerNotCalledError, LayerNotFoundError, LayoutError

__all__ = [
    "INPUT",
    "Layer",
    "View",
    "layer_named",
    "select_layers",
]

INPUT = "input"

View = Callable[[Any], Tensor]


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
