"""Tracing a model's graph while other threads go on running theirs."""

import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn

_ONE_AT_A_TIME = threading.RLock()


class Tracer(fx.Tracer):
    """Trace as ``torch.fx`` does, and leave the calls of other threads alone.

    While ``torch.fx`` traces, it takes over the call of every module in the process, so that a model that another
    thread trains or runs meanwhile would fail as "not installed as a submodule".

    Examples
    --------
    >>> [node.op for node in Tracer().trace(nn.Sequential(nn.ReLU())).nodes]
    ['placeholder', 'call_module', 'output']
    """

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


def traced(model: nn.Module) -> fx.GraphModule:
    """Return a model as its graph, as `torch.fx.symbolic_trace` does."""
    tracer = Tracer()
    graph = tracer.trace(model)
    return fx.GraphModule(tracer.root, graph, type(model).__name__)
