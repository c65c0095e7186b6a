"""Hooks that act within their block alone, and on the modules they were set on alone.

A model may copy its modules while it runs, hooks and all. On a copy a hook does nothing; after the block it does
nothing anywhere, and is taken off every copy that the model holds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["Hooks", "hook_for_good", "hooking"]

# Where torch keeps the hooks of a module, all by the same number.
_KEPT_IN = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class Hooks:
    """Sets hooks on the modules of a model; from `hooking`.

    Attributes
    ----------
    met_copies : bool
        Whether a copy of a module ran, on which its hook did nothing.
    """

    def __init__(self) -> None:
        self.met_copies = False
        self._handles: list[Any] = []
        self._set: list[list[Any]] = []

    def before(self, module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> None:
        """Call hook(module, args, kwargs) before the module runs."""
        handle = module.register_forward_pre_hook(self._guarded(module, hook), with_kwargs=True)
        self._handles.append(handle)

    def after(self, module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> None:
        """Call hook(module, args, output) when the module has run."""
        self._handles.append(module.register_forward_hook(self._guarded(module, hook)))

    def after_with_options(self, module: nn.Module, hook: Callable[[nn.Module, Any, Any, Any], Any]) -> None:
        """Call hook(module, args, kwargs, output) when the module has run."""
        self._handles.append(module.register_forward_hook(self._guarded(module, hook), with_kwargs=True))

    def end(self, model: nn.Module) -> None:
        """Take all hooks off the model, its copies within it, and whatever else they were set on."""
        for kept in self._set:
            kept.clear()
        for handle in self._handles:
            handle.remove()
        for module in _held_by(model):
            for kept_in in _KEPT_IN:
                hooks = getattr(module, kept_in, {})
                for handle in self._handles if hooks else ():
                    hooks.pop(handle.id, None)

    def _guarded(self, module: nn.Module, hook: Callable[..., Any]) -> Callable[..., Any]:
        # A function is not copied with the module it hangs on, so that its copies share what is emptied here.
        kept = [(module, hook)]
        self._set.append(kept)

        def guarded(called: nn.Module, *rest: Any) -> Any:
            for meant, act in list(kept):
                if called is meant:
                    return act(called, *rest)
                self.met_copies = True
            return None

        return guarded


def hook_for_good(module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> None:
    """Call hook(module, args, output) whenever a module of one's own copy has run; its copies have the hook too.

    Parameters
    ----------
    module
        Is changed.
    hook
        An object that can be pickled and copied, so that the module can.
    """
    module.register_forward_hook(hook)


@contextmanager
def hooking(model: nn.Module) -> Iterator[Hooks]:
    """Set hooks on modules of a model for a block.

    Examples
    --------
    >>> import torch
    >>> net, seen = nn.Sequential(nn.ReLU()), []
    >>> with hooking(net) as hooks:
    ...     hooks.after(net[0], lambda module, args, output: seen.append(module))
    ...     _ = net(torch.ones(1))
    >>> _ = net(torch.ones(1))
    >>> seen
    [ReLU()]
    """
    hooks = Hooks()
    try:
        yield hooks
    finally:
        hooks.end(model)


def _held_by(model: nn.Module) -> list[nn.Module]:
    """Return every module that a model holds, also in lists and mappings, where `modules` does not look."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [model]
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or not isinstance(thing, nn.Module | dict | list | tuple | set):
            continue
        found[id(thing)] = thing
        held = vars(thing) if isinstance(thing, nn.Module) else thing
        waiting.extend(held.values() if isinstance(held, dict) else held)
    return [thing for thing in found.values() if isinstance(thing, nn.Module)]
