"""Tracing a model's graph while other threads go on running theirs, and running a graph that was changed."""

import threading
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import fx, nn

__all__ = ["GraphForward", "Tracer"]

_ONE_AT_A_TIME = threading.RLock()


class Tracer(fx.Tracer):
    """Trace as ``torch.fx`` does, and leave the calls of other threads alone.

    While ``torch.fx`` traces, it takes over the call of every module in the process, so that a model that another
    thread trains or runs meanwhile would fail as "not installed as a submodule".

    Parameters
    ----------
    leaves
        Classes of modules whose own code is not traced, besides those of torch.

    Examples
    --------
    >>> [node.op for node in Tracer().trace(nn.Sequential(nn.ReLU())).nodes]
    ['placeholder', 'call_module', 'output']
    """

    def __init__(self, leaves: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module's call is recorded as one."""
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)

    def trace(self, *args: Any, **kwargs: Any) -> fx.Graph:
        """Return the graph of a model; see `torch.fx.Tracer.trace`."""
        with _ONE_AT_A_TIME:
            self._thread = threading.get_ident()
            return super().trace(*args, **kwargs)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the call of a module that is traced, and let others run."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a stand-in for a parameter of the model that is traced, and the parameter itself of others."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class GraphForward:
    """The forward method of a model whose graph was changed; all else of the model stays as it is.

    A `torch.fx.GraphModule` holds what its graph uses alone, so that a model would lose weights that no run touches.

    Parameters
    ----------
    model : nn.Module
        The model that was traced; this object becomes its ``forward``.
    graph : torch.fx.Graph
        Calls the model's modules by their names.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.ReLU())
    >>> model.forward = GraphForward(model, Tracer().trace(model))
    >>> model(torch.tensor([[-1.0, 2.0]]))
    tensor([[0., 2.]])
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        code = graph.python_code("self")
        self.model = model
        self.source = code.src
        self._compile(code.globals)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph."""
        return self._function(self.model, *args, **kwargs)

    def _compile(self, names: dict[str, Any]) -> None:
        self._names = names
        space = dict(names)
        exec(self.source, space)
        self._function = space["forward"]

    def __getstate__(self) -> dict[str, Any]:
        # A module of Python cannot be copied or written, its name can.
        modules = {name: value.__name__ for name, value in self._names.items() if isinstance(value, ModuleType)}
        objects = {name: value for name, value in self._names.items() if name not in modules}
        return {"model": self.model, "source": self.source, "modules": modules, "objects": objects}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.model, self.source = state["model"], state["source"]
        self._compile({name: import_module(value) for name, value in state["modules"].items()} | state["objects"])
