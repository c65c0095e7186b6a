"""Copying a model that was not made to be copied.

Pruned and weight-normalised layers, modules that keep what they computed, and modules that hold locks or files cannot
be copied as they are by `copy.deepcopy`.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ModelError

__all__ = ["copied"]


def copied(model: nn.Module, replacements: Mapping[int, Any] | None = None) -> nn.Module:
    """Return a copy of a model that shares no weight with it.

    Tensors that were computed, and not made by the user, are copied without their history. What cannot be copied and
    holds no module or tensor, such as a lock or an open file, is shared with the original.

    Parameters
    ----------
    model
        Any model; it stays as it was.
    replacements
        What takes the place of objects of the model, by their `id`, as in the memo of `copy.deepcopy`.

    Raises
    ------
    ModelError
        If the model cannot be copied. It names the attribute.

    Examples
    --------
    >>> import threading
    >>> model = nn.Conv2d(1, 1, 3)
    >>> model.lock, model.last = threading.Lock(), model(torch.ones(1, 1, 3, 3))
    >>> twin = copied(model)
    >>> twin.lock is model.lock, twin.last.requires_grad, torch.equal(twin.last, model.last)
    (True, False, True)
    """
    replacements = dict(replacements or {})
    try:
        return copy.deepcopy(model, dict(replacements))
    except Exception:  # of whatever kind an object of the user's raises
        replacements |= _of_what_cannot_be_copied(model, replacements)
    try:
        return copy.deepcopy(model, dict(replacements))
    except Exception as error:
        layer = _refusing_layer(model, replacements)
        raise ModelError(f"model: {layer} cannot be copied: {type(error).__name__}: {error}") from error


def _of_what_cannot_be_copied(model: nn.Module, replacements: Mapping[int, Any]) -> dict[int, Any]:
    modules = {module: name for name, module in model.named_modules()}
    # In trials of single attributes what is known to be copied stands for itself.
    known: dict[int, Any] = {id(part): part for part in (*modules, *model.parameters(), *model.buffers())}
    known |= dict.fromkeys(replacements)
    found: dict[int, Any] = {}
    for module, name in modules.items():
        for attribute, value in vars(module).items():
            for part in _uncopied(value, {**known, **found}, set()):
                if isinstance(part, torch.Generator):
                    found[id(part)] = part.clone_state()
                elif isinstance(part, Tensor):
                    found[id(part)] = part.detach().clone()
                elif _holds_weights(part, set()):
                    raise ModelError(
                        f"model: cannot be copied: the attribute {attribute!r} of {name or 'the model'} "
                        f"({type(module).__name__}) holds a {type(part).__name__}, which cannot be copied and itself "
                        "holds modules or tensors. Delete the attribute before, or give its class a __deepcopy__."
                    )
                else:
                    found[id(part)] = part
    return found


def _refusing_layer(model: nn.Module, replacements: Mapping[int, Any]) -> str:
    """Return the layer that refuses to be copied in a way of its own."""
    for name, module in model.named_modules():
        known = {id(part): part for part in module.modules() if part is not module}
        if not _can_be_copied(module, {**replacements, **known}):
            return f"{name or 'the model'} ({type(module).__name__})"
    return type(model).__name__


def _uncopied(value: Any, known: Mapping[int, Any], seen: set[int]) -> Iterator[Any]:
    """Yield the innermost parts of a value that cannot be copied."""
    if id(value) in seen or _can_be_copied(value, known):
        return
    seen.add(id(value))
    inner = [part for child in _children(value) for part in _uncopied(child, known, seen)]
    settled = {**known, **{id(part): part for part in inner}}
    yield from inner
    if not _can_be_copied(value, settled):
        yield value


def _can_be_copied(value: Any, known: Mapping[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(known))
    except Exception:
        return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return []
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, tuple | list | set | frozenset):
        return list(value)
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name) for name in slots if hasattr(value, name))]


def _holds_weights(value: Any, seen: set[int]) -> bool:
    if isinstance(value, nn.Module | Tensor):
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds_weights(child, seen) for child in _children(value))
