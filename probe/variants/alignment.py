"""What a model without padding, or with full padding, needs beyond its layers.

Its maps shrink or grow from layer to layer, so maps of different sizes meet in sums and concatenations, and a small
image can leave no map at all.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from probe.errors import ModelError, PaddingError
from probe.models.blueprint import blueprint, smallest_input
from probe.models.geometry import reach_of

__all__ = ["AlignedForward", "Alignment"]

_SUMS = (torch.add, Tensor.add, Tensor.add_)
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
_WINDOWED = (torch.conv2d, torch.conv_transpose2d, functional.max_pool2d, functional.avg_pool2d)


class Alignment(TorchFunctionMode):
    """Within this context, maps of different sizes are aligned about their centres before they are joined.

    Joined are the operands of a sum and of a concatenation of channels, both of shape (image, channel, row, column).
    Without padding the larger is cropped, with full padding the smaller is padded with zeros; an odd row or column
    is cropped or added at the bottom or right. An operand with a single row or column is a map only if convolutions
    or local pooling left it so; a global mean is broadcast as usual.

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
        if func in _SUMS and len(args) > 1 and self._is_map(args[0]) and self._is_map(args[1]):
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
        height = self._common(map_.shape[2] for map_ in maps)
        width = self._common(map_.shape[3] for map_ in maps)
        return [_fitted(map_, height, width) for map_ in maps]

    def _is_map(self, value: Any) -> bool:
        return _is_four_dimensional(value) and (not _is_thin(value) or id(value) in self._thin_maps)

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


def _is_four_dimensional(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def _is_thin(value: Any) -> bool:
    return _is_four_dimensional(value) and 1 in value.shape[2:]


def _joins_channels(args: tuple, kwargs: dict[str, Any]) -> bool:
    dimension = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    return bool(args) and dimension in (1, -3) and all(_is_four_dimensional(value) for value in args[0])


def _fitted(map_: Tensor, height: int, width: int) -> Tensor:
    """Crop or pad a map to a size, about its centre; negative padding crops."""
    rows, columns = height - map_.shape[2], width - map_.shape[3]
    if rows == columns == 0:
        return map_
    top, left = int(rows / 2), int(columns / 2)
    return functional.pad(map_, (left, columns - left, top, rows - top))


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
            images = next(filter(_is_four_dimensional, (*args, *kwargs.values())), None)
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
            raise PaddingError(f"{message} {_cure(model, images.shape[1])}") from error


def _exceeds_map(module: nn.Module, map_: Tensor) -> bool:
    return any(reach >= size for reach, size in zip(reach_of(module), map_.shape[-2:], strict=True))


def _vanishing_message(name: str, layer: nn.Module, map_: Tensor, images: Tensor, padding: str) -> str:
    rows, columns = (reach + 1 for reach in reach_of(layer))
    return (
        f"padding={padding!r}: {name or 'the model'} ({type(layer).__name__}) spans {rows} × {columns} and gets a map "
        f"of {map_.shape[-2]} × {map_.shape[-1]}, so images of {images.shape[2]} × {images.shape[3]} leave no map."
    )


def _cure(model: nn.Module, channels: int) -> str:
    try:
        size = smallest_input(model, channels)
    except PaddingError as error:
        return f"No smallest size that works was found: {error} Take another padding."
    return f"The smallest square images that work are {size} × {size}: give larger images or take another padding."
