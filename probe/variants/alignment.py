"""What a model without padding, or with full padding, needs beyond its layers.

Its maps shrink or grow from layer to layer, so maps of different sizes meet in sums and concatenations, and a small
image can leave no map at all.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from probe.errors import ModelError, PaddingError
from probe.models.blueprint import blueprint, smallest_input
from probe.models.geometry import reach_of, sides_from

__all__ = ["AlignedForward", "Alignment"]

_SUMS = (torch.add, Tensor.add, Tensor.add_)
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
_WINDOWED = (
    *(torch.conv2d, torch.conv_transpose2d, functional.max_pool2d, functional.avg_pool2d),
    *(torch.conv3d, torch.conv_transpose3d, functional.max_pool3d, functional.avg_pool3d),
)


class Alignment(TorchFunctionMode):
    """Within this context, maps of different sizes are aligned about their centres before they are joined.

    Joined are the operands of a sum and of a concatenation of channels, all of shape (image, channel, row, column) or
    all with frames before the rows. Without padding the larger is cropped, with full padding the smaller is padded
    with zeros; an odd row, column or frame is cropped or added at the bottom, right or end. An operand with a single
    row, column or frame is a map only if convolutions or local pooling left it so; a global mean is broadcast as usual.

    Parameters
    ----------
    padding : {"valid", "full"}
        Whether to crop or to pad.

    Raises
    ------
    PaddingError
        If a sum in place had to change the size of its left operand, and that operand is used again.

    Examples
    --------
    >>> with Alignment("valid"):
    ...     total = torch.ones(1, 2, 5, 5) + torch.ones(1, 2, 2, 2)
    >>> total.shape
    torch.Size([1, 2, 2, 2])
    """

    def __init__(self, padding: str) -> None:
        super().__init__()
        self._common: Callable[[Iterable[int]], int] = min if padding == "valid" else max
        # Tensors by identity, kept alive so that no identity is given twice.
        self._thin_maps: dict[int, Tensor] = {}
        self._outdated: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _CONCATENATIONS and "tensors" in kwargs:
            args = (kwargs.pop("tensors"), *args)
        if self._outdated:
            self._check_none_outdated(args)
        operands = args
        if func in _SUMS and len(args) > 1 and self._are_maps(args[0], args[1]):
            args = (*self._aligned(args[:2]), *args[2:])
            if func == Tensor.add_ and args[0] is not operands[0]:
                self._outdated[id(operands[0])] = operands[0]
        elif func in _CONCATENATIONS and _joins_channels(args, kwargs):
            operands = tuple(args[0])
            args = (self._aligned(operands), *args[1:])
        result = func(*args, **kwargs)
        if _is_thin(result) and self._comes_from_map(func, operands):
            self._thin_maps[id(result)] = result
        return result

    def _aligned(self, maps: Iterable[Tensor]) -> list[Tensor]:
        maps = list(maps)
        size = [self._common(lengths) for lengths in zip(*(map_.shape[2:] for map_ in maps), strict=True)]
        return [_fitted(map_, size) for map_ in maps]

    def _are_maps(self, first: Any, second: Any) -> bool:
        return self._is_map(first) and self._is_map(second) and first.ndim == second.ndim

    def _is_map(self, value: Any) -> bool:
        return _has_size(value) and (not _is_thin(value) or id(value) in self._thin_maps)

    def _comes_from_map(self, func: Callable, operands: tuple) -> bool:
        keeps_maps = func in _WINDOWED + _SUMS + _CONCATENATIONS
        return (keeps_maps and self._is_map(operands[0])) or any(id(value) in self._thin_maps for value in operands)

    def _check_none_outdated(self, args: tuple) -> None:
        operands = args[0] if args and isinstance(args[0], list | tuple) else args
        if any(id(value) in self._outdated for value in operands):
            raise PaddingError(
                "padding: a sum in place, x.add_(y) or x += y, had to change the size of x, which cannot be done in "
                "place, and the former x is used again. Write x = x + y in the model's forward."
            )


def _has_size(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (4, 5)


def _is_thin(value: Any) -> bool:
    return _has_size(value) and 1 in value.shape[2:]


def _joins_channels(args: tuple, kwargs: dict[str, Any]) -> bool:
    dimension = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    if not args or not all(map(_has_size, args[0])):
        return False
    n_dims = {value.ndim for value in args[0]}
    return len(n_dims) == 1 and dimension in (1, 1 - n_dims.pop())


def _fitted(map_: Tensor, size: Sequence[int]) -> Tensor:
    """Crop or pad a map to a size, about its centre; negative padding crops."""
    missing = [length - present for length, present in zip(size, map_.shape[2:], strict=True)]
    if not any(missing):
        return map_
    return functional.pad(map_, sides_from((int(cells / 2), cells - int(cells / 2)) for cells in missing))


class AlignedForward:
    """The forward method of a converted model: its own forward, with maps aligned and failures explained.

    Parameters
    ----------
    model : nn.Module
        The converted model; this object becomes its ``forward``.
    padding : {"valid", "full"}
    """

    def __init__(self, model: nn.Module, padding: str) -> None:
        self.model = model
        self.padding = padding
        self.forward = vars(model).get("forward")  # set by other tools that wrap forward in the same way

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model; see ``with_padding`` for the errors raised."""
        forward = self.forward or functools.partial(type(self.model).forward, self.model)
        try:
            with Alignment(self.padding):
                return forward(*args, **kwargs)
        except RuntimeError as error:
            images = next(filter(_has_size, (*args, *kwargs.values())), None)
            # On the meta device it is the explanation itself that tries sizes.
            if images is not None and not images.is_meta:
                _explain(error, self.model, images, self.padding)
            raise


def _explain(error: RuntimeError, model: nn.Module, images: Tensor, padding: str) -> None:
    """Raise a PaddingError if a map vanishes in a layer; add a note if shapes do not fit between layers."""
    try:
        plan = blueprint(model)
    except ModelError:
        return
    names = {module: name for name, module in plan.named_modules() if hasattr(module, "kernel_size")}
    running: list[tuple[nn.Module, Tensor]] = []

    def enter(module: nn.Module, args: tuple) -> None:
        running.append((module, args[0]))

    def leave(*_: Any) -> None:
        running.pop()

    for module in names:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    try:
        with torch.no_grad():
            plan(images.detach().to("meta"))
    except Exception:
        if not running:
            error.add_note(
                f"With padding={padding!r} the maps have other sizes than in the original model. Only sums and "
                "concatenations of channels are aligned; whatever else expects a size may fail."
            )
        elif _exceeds_map(*running[-1]):
            layer, map_ = running[-1]
            message = _vanishing_message(names[layer], layer, map_, images, padding)
            raise PaddingError(f"{message} {_cure(model, images)}") from error


def _exceeds_map(module: nn.Module, map_: Tensor) -> bool:
    return any(reach >= size for reach, size in zip(reach_of(module), _size(module, map_), strict=True))


def _size(layer: nn.Module, map_: Tensor) -> tuple[int, ...]:
    """Return the size of a layer's map, which may have no axis of images."""
    return tuple(map_.shape[-len(reach_of(layer)) :])


def _times(size: Iterable[int]) -> str:
    return " × ".join(map(str, size))


def _vanishing_message(name: str, layer: nn.Module, map_: Tensor, images: Tensor, padding: str) -> str:
    shown = "images" if images.ndim == 4 else "clips"
    return (
        f"padding={padding!r}: {name or 'the model'} ({type(layer).__name__}) spans "
        f"{_times(reach + 1 for reach in reach_of(layer))} and gets a map of {_times(_size(layer, map_))}, so {shown} "
        f"of {_times(images.shape[2:])} leave no map."
    )


def _cure(model: nn.Module, images: Tensor) -> str:
    n_axes = images.ndim - 2
    try:
        size = smallest_input(model, images.shape[1])
    except PaddingError as error:
        return f"No smallest size that works was found: {error} Take another padding."
    smallest, larger = ("square images", "images") if n_axes == 2 else ("clips of equal sides", "clips")
    sides = _times([size] * n_axes)
    return f"The smallest {smallest} that work are {sides}: give larger {larger} or take another padding."
