"""A model is lent, not given: run it in evaluation mode and hand it back as it was."""

import inspect
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from probe.errors import ArgumentError, ModelError

__all__ = ["Forward", "borrowed", "resolve_device", "run_model", "seeded"]

Forward = Callable[[nn.Module, Tensor], Any]

_FORWARD_OFFER = (
    "pass forward=, a function (model, images) -> output, such as "
    "forward=lambda model, images: model(pixel_values=images, input_ids=ids.expand(len(images), -1)); to the "
    "command, a function (module:function) that returns a module which does so"
)

# As versions of torch word it when images do not have the shape that was exported.
_OF_EXPORTED = re.compile(r"Guard failed|Expected input at .* to be")

_one_at_a_time = threading.RLock()


def resolve_device(device: str | torch.device, model: nn.Module) -> torch.device:
    """Return the device to run on: ``"auto"`` is the one of the model's first parameter or buffer.

    Raises
    ------
    ArgumentError
        If the device is unknown or absent.
    """
    tensors = [*model.parameters(), *model.buffers()]
    places = {str(tensor.device) for tensor in tensors}
    if device == "auto":
        return tensors[0].device if tensors else torch.device("cpu")
    if len(places) > 1:
        raise ArgumentError(
            f"device={device!r}: the model lies on several devices ({', '.join(sorted(places))}) and stays there. "
            "Leave device='auto'."
        )
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ArgumentError(
            f"device={device!r} cannot be used: {reason}. Use 'auto' (where the model is), 'cpu' or 'cuda'."
        ) from None
    return resolved


def run_model(model: nn.Module, images: Tensor, forward: Forward | None = None) -> Any:
    """Run a model on images of shape (image, channel, row, column), as all measurements do.

    Parameters
    ----------
    model, images
        What to run, and on what.
    forward
        (model, images) -> output; by default the model is called with the images alone.

    Raises
    ------
    ModelError
        If the model needs more than images. An error of the model that further inputs may cure says so in a note.

    Examples
    --------
    >>> scaled = nn.Bilinear(2, 2, 1)
    >>> run_model(scaled, torch.ones(3, 2), lambda model, images: model(images, images)).shape
    torch.Size([3, 1])
    """
    if forward is not None:
        return forward(model, images)
    parameters = _parameters_of(model)
    needed = [
        p.name for p in parameters[1:] if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise ModelError(f"model: {type(model).__name__} needs {', '.join(needed)} besides images; {_FORWARD_OFFER}.")
    try:
        return model(images)
    except Exception as error:
        if _OF_EXPORTED.search(str(error)) and any(isinstance(module, fx.GraphModule) for module in model.modules()):
            error.add_note(
                "probe: a part of the model was exported for other shapes. Put there what it was before torch.export, "
                "or export it for any number of images: dynamic_shapes=({0: torch.export.Dim('images')},)."
            )
        elif len(parameters) > 1:
            named = ", ".join(p.name for p in parameters)
            error.add_note(
                f"probe: the images were given as the first of ({named}). If they belong elsewhere, or others are "
                f"needed, {_FORWARD_OFFER}."
            )
        raise


def _parameters_of(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []


@contextmanager
def borrowed(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Run a model on a device, without gradients, in evaluation mode, seeded; restore everything on any exit.

    Restored are the mode of every module, the device, and the random states of torch, numpy and Python. Compiled
    parts run eagerly meanwhile, since hooks set after compilation would not be called. Random states and modes are
    shared by all threads of a process, so a second thread waits until the first one has handed its model back.
    """
    with ExitStack() as stack:
        stack.enter_context(_one_at_a_time)
        stack.enter_context(seeded(seed))
        # Tensors made in the caller's inference mode could not be added to outside of it.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo.eval_frame" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # The fused kernel of a transformer layer calls none of its parts.
        stack.enter_context(_without_fused_layers())
        home = resolve_device("auto", model)
        modes = {module: module.training for module in model.modules()}
        try:
            # Not by eval(), which some models use to fold weights or even to train.
            for module in modes:
                module.training = False
            if device != home:
                model.to(device)
            yield
        finally:
            if device != home:
                model.to(home)
            # What the model has made of itself meanwhile, such as a copy of a part, follows the whole.
            for module in model.modules():
                module.training = modes.get(module, modes[model])
            for module, mode in modes.items():
                module.training = mode


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python, and give their random states back.

    Examples
    --------
    >>> with seeded(0):
    ...     first = torch.rand(2)
    >>> with seeded(0):
    ...     print(torch.rand(2).equal(first))
    True
    """
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
