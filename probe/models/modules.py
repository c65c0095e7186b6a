"""The eager model inside its wrappers, and what its modules are called."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn

from probe.errors import ModelError

__all__ = ["described", "module_names", "running_layer", "unwrap"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_GUARDS = "_guards_fn"  # checks the images of an exported model


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
