"""Counting the paths by which the windows of a model read its images."""

import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.errors import ModelError
from probe.models.marks import is_marked, mark, marked_in, name_of, tensors_in
from probe.models.modules import described, running_layer
from probe.windows.counts import COUNTING, READING_BY_CONTENT, UncountableError, count_of
from probe.windows.trials import Trial

__all__ = ["PathCounting", "paths_from", "paths_in"]

_TENSOR_GETTERS = {"T", "mT", "H", "mH", "data", "real", "imag", "grad"}
# What these tell is the same for counts as for features.
_OF_SHAPE = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "is_complex"),
    *("__len__", "element_size", "get_device", "__hash__", "empty_like", "new_empty"),
}
_LEAVING_TENSORS = {
    *("__bool__", "__int__", "__float__", "__complex__", "__index__", "__contains__", "is_nonzero"),
    *("item", "tolist", "numpy", "__array__", "equal", "allclose"),
}
_WRITING_OPERATORS = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__"}


class PathCounting(TorchFunctionMode):
    """Within this context a model counts paths instead of computing features.

    Every weight is one, channels are averaged, and what treats all positions alike (biases, normalisation,
    activations) is left out. So on an image of ones each cell holds how many paths lead to it from the pixels, and
    its gradient how many from each pixel. Pooling, adaptive or not, reads all cells of its windows, each once. A sum
    and a product read what their operands read; where a product, quotient or difference has an operand smaller than
    another, such as the gate or the mean of a channel, this is left aside. A mean over an axis remains a mean.

    Functions that are not known are tried on random numbers: those whose result does not depend on the values, that
    move values to other places, or that change each value by itself, are understood. All others are refused, so
    that nothing is counted wrongly in silence.

    Parameters
    ----------
    model
        The model that will run, whose layers the errors name.
    pixels
        The images that it will run on, at least of precision float32.

    Raises
    ------
    ModelError
        On leaving the context, after attention, which reads by content, or another function that was refused and that
        ended the model's run. It names the function and the layer.

    Examples
    --------
    >>> convolution = nn.Conv2d(3, 8, 3, padding=1)
    >>> pixels = torch.ones(1, 3, 5, 5)
    >>> with PathCounting(convolution, pixels):
    ...     paths = convolution(pixels)
    >>> paths[0, 0, 0]
    tensor([4., 6., 6., 6., 4.])
    """

    def __init__(self, model: nn.Module, pixels: Tensor) -> None:
        super().__init__()
        self._model = model
        self._with_gradients = pixels.requires_grad
        self._kept = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self._refusal = ""
        mark(pixels)

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        is_getter = getattr(func, "__name__", "") == "__get__" and name not in _TENSOR_GETTERS
        if is_getter or name in _OF_SHAPE or not marked_in((args, kwargs)):
            return func(*args, **kwargs)
        try:
            if _writes(name) and not is_marked(args[0]) and args[0].untyped_storage().data_ptr() in self._kept:
                raise UncountableError("writes into a parameter or buffer")
            # A model may switch gradients off, but paths are traced through all of it.
            with torch.set_grad_enabled(self._with_gradients):
                return _counted(func, name, args, kwargs)
        except UncountableError as reason:
            layer = running_layer((frame for frame, _ in traceback.walk_stack(sys._getframe())), self._model)
            self._refusal = f"model: {described(layer, self._model)}: {name} {reason}, so paths cannot be counted."
            raise

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        # Not raised in the model: operators take a TypeError for an operand that they do not know, and go on.
        if self._refusal:
            raise ModelError(self._refusal) from failure[1]


def paths_in(maps: Tensor, layer: str) -> Tensor:
    """Return maps that a model gave while it counted paths, after a check that these are paths.

    Raises
    ------
    ModelError
        If they come from functions that torch does not show, or read no pixel.
    """
    if not is_marked(maps):
        raise ModelError(
            f"model: paths cannot be counted: the output of {layer} reads no pixel by functions that torch shows; "
            "scripted functions are among those that it does not."
        )
    return maps


def paths_from(pixels: Tensor, total: Tensor) -> Tensor:
    """Return how many of the paths in a total come from each value of an image.

    Parameters
    ----------
    pixels
        Images of ones, with gradients, on which a model has counted.
    total
        A sum of paths, of no axes.

    Raises
    ------
    ModelError
        If the paths from all pixels do not add up to the total: some code of the model has a gradient of its own.
    """
    paths = None
    if total.requires_grad:
        (paths,) = torch.autograd.grad(total, pixels, retain_graph=True, allow_unused=True)
    if paths is None or not torch.isclose(paths.sum(), total, rtol=1e-6):
        raise ModelError(
            "model: paths cannot be counted: those from all pixels do not add up to those that arrive. Does an "
            "autograd.Function have a backward of its own, or is a part run in inference mode?"
        )
    return paths


def _counted(func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return what a function makes of counts, each tensor of it marked."""
    known = (name.strip("_") if name.startswith("__") else name.rstrip("_")).removeprefix("aten.").partition(".")[0]
    if known in READING_BY_CONTENT or name in _LEAVING_TENSORS:
        raise UncountableError("reads by content")
    if kwargs.get("out") is not None or name == "__set__":
        raise UncountableError("writes counts in a way that is not known")
    if name == "__setitem__":
        return _write(*args)
    if known not in COUNTING:
        return _derived(func, args, kwargs, _writes(name))
    try:
        result = COUNTING[known](*args, **kwargs)
    except TypeError as error:
        raise UncountableError("is called with arguments that are not known") from error
    mark(*tensors_in(result))
    if _writes(name):
        _write(args[0], ..., result)
        return args[0]
    return result


def _writes(name: str) -> bool:
    """Tell whether a function changes its first argument."""
    return name in _WRITING_OPERATORS or (name.endswith("_") and not name.endswith("__"))


def _write(target: Tensor, places: Any, value: Any) -> None:
    """Write into a tensor of counts, or of constants, which are no paths."""
    if marked_in(places):
        raise UncountableError("reads by content")
    if not is_marked(target):
        whole = target if target._base is None else target._base
        whole.zero_()
        mark(whole)
    mark(target)
    target[places] = count_of(value)


def _derived(func: Callable, args: tuple, kwargs: dict[str, Any], writes: bool) -> Any:
    """Find out by trial what a function does with counts, and do it."""
    counting = marked_in((args, kwargs))
    if any(not tensor.is_floating_point() for tensor in counting):
        raise UncountableError("reads by content")
    if writes and not is_marked(args[0]):
        raise UncountableError("writes counts in a way that is not known")
    try:
        trial = Trial(func, args, kwargs, counting)
        if not trial.read:
            return args[0].zero_() if writes else func(*args, **kwargs)
        moves = trial.moves()
        is_understood = len(trial.read) == 1 and (moves or trial.is_pointwise())
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise UncountableError("is not known, and could not be tried") from error
    if not is_understood:
        raise UncountableError("is not known, and joins or mixes values")
    if moves:
        result = func(*args, **kwargs)
    elif writes:
        return args[0]
    else:
        result = trial.read[0].to(trial.result.device, copy=True)
    mark(*tensors_in(result))
    return result
