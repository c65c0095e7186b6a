"""A model is lent, not given: run it in evaluation mode and hand it back as it was."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from probe.errors import ArgumentError

__all__ = ["borrowed", "resolve_device"]


def resolve_device(device: str | torch.device, model: nn.Module) -> torch.device:
    """Return the device to run on: ``"auto"`` is the one of the model's first parameter or buffer.

    Raises
    ------
    ArgumentError
        If the device is unknown or absent.
    """
    if device == "auto":
        tensors = [*model.parameters(), *model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ArgumentError(
            f"device={device!r} cannot be used: {reason} Use 'auto' (where the model is), 'cpu' or 'cuda'."
        ) from None
    return resolved


@contextmanager
def borrowed(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Run a model on a device, without gradients, in evaluation mode, seeded; restore everything on any exit.

    Restored are the mode of every module, the device, and the random states of torch, numpy and Python. Compiled
    parts run eagerly meanwhile, since hooks set after compilation would not be called.
    """
    modes = [(module, module.training) for module in model.modules()]
    home = resolve_device("auto", model)
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's own state
    with ExitStack() as stack:
        if device.type not in ("cpu", "meta"):
            stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
        else:
            stack.enter_context(torch.random.fork_rng([]))
        if _is_compiled(model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.no_grad())
        try:
            torch.manual_seed(seed)
            model.eval()
            if device != home:
                model.to(device)
            yield
        finally:
            if device != home:
                model.to(home)
            for module, mode in modes:
                module.training = mode
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def _is_compiled(model: nn.Module) -> bool:
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
