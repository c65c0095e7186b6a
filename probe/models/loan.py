"""A model is lent, not given: run it in evaluation mode and hand it back as it was."""

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from probe.errors import ArgumentError

__all__ = ["borrowed", "resolve_device"]

_one_at_a_time = threading.RLock()


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
        torch.empty(0, device=resolved).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ArgumentError(
            f"device={device!r} cannot be used: {reason}. Use 'auto' (where the model is), 'cpu' or 'cuda'."
        ) from None
    return resolved


@contextmanager
def borrowed(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Run a model on a device, without gradients, in evaluation mode, seeded; restore everything on any exit.

    Restored are the mode of every module, the device, and the random states of torch, numpy and Python. Compiled
    parts run eagerly meanwhile, since hooks set after compilation would not be called. Random states and modes are
    shared by all threads of a process, so a second thread waits until the first one has handed its model back.
    """
    with ExitStack() as stack:
        stack.enter_context(_one_at_a_time)
        stack.enter_context(_seeded(seed))
        # Tensors made in the caller's inference mode could not be added to outside of it.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo.eval_frame" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        home = resolve_device("auto", model)
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            if device != home:
                model.to(device)
            yield
        finally:
            if device != home:
                model.to(home)
            for module, mode in modes:
                module.training = mode


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python, and give their random states back."""
    seed %= 2**32
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's own state
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        # torch.manual_seed would also seed devices whose state is not kept here.
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
