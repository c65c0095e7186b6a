"""Whether a model moves with its images: a rolled image must give rolled maps, and the same vector.

A model whose layers all continue their maps around the other side does so, if the image is rolled by a multiple of
all strides. What does not, pads in code that no list of functions knows, or tells positions apart in another way.
"""

import itertools
import math
import re
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.axes import AXES, axes_of_size
from probe.errors import ModelError
from probe.models.blueprint import blueprint, reason_of
from probe.models.copies import copied
from probe.models.geometry import along_each
from probe.models.kinds import is_convolution
from probe.models.loan import borrowed, resolve_device
from probe.models.marks import is_marked, mark, marked_in, name_of, tensors_in
from probe.models.modules import module_names, running_layer

__all__ = ["Findings", "bare_twin", "roll_images"]

Size = tuple[int, ...]

_SIZES = (64, 96, 128, 224, 160, 192, 256, 288, 384, 448, 512, 32, 28, 16)
_FRAMES = (16, 32, 64)
_TOLERANCE = 1e-4  # of the largest value of a map, for what rounding does to it
_PLACES = {2: ("row or column", "rows or columns"), 3: ("frame, row or column", "frames, rows or columns")}
_MOST_PREFIX_TOKENS = 16
_SLIDING = {"unfold", "fold"} | {
    f"{name}{n}d{more}"
    for n in (2, 3)
    for name, more in (("conv", ""), ("max_pool", ""), ("max_pool", "_with_indices"), ("avg_pool", ""), ("lp_pool", ""))
}
_POOLING = {"mean", "sum", "amax", "amin", "max"} | {
    f"{name}_pool{n}d" for n in (2, 3) for name in ("adaptive_avg", "adaptive_max", "avg", "max")
}
# What these give is judged with what is made of it: a map continued on all sides, or cut, is no map of whole cells.
_NOT_JUDGED = {
    "pad",
    "constant_pad_nd",
    "__getitem__",
    "index_select",
    "flatten",
    "reshape",
    "view",
    "ravel",
    "squeeze",
}
_ATTENTION = re.compile("attn|attention", re.IGNORECASE)
_ATTENTION_FUNCTIONS = {"scaled_dot_product_attention", "multi_head_attention_forward", "softmax"}
_MATRICES = {"linear", "matmul", "__matmul__", "addmm", "mm", "bmm", "einsum"}
_WITH_TABLES = {"add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "cat", "concat", "stack", "where"}


@dataclass
class Findings:
    """What does not move with the images.

    Attributes
    ----------
    padding : dict
        By name of the layer, empty for the model itself: the function in its code whose output does not move.
    otherwise : dict
        By name of the layer: how it tells positions apart without padding.
    not_tried : str
        Why the model could not be tried; empty if it was.
    """

    padding: dict[str, str] = field(default_factory=dict)
    otherwise: dict[str, str] = field(default_factory=dict)
    not_tried: str = ""


def bare_twin(model: nn.Module) -> nn.Module:
    """Return a copy of a model without hooks that shares its parameters, to be run and thrown away."""
    replacements: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    for module in model.modules():
        replacements[id(module._forward_hooks)] = OrderedDict()
        replacements[id(module._forward_pre_hooks)] = OrderedDict()
    return copied(model, replacements)


def roll_images(model: nn.Module, images: Tensor | None = None, axes: Collection[str] = AXES) -> Findings:
    """Run a model once, on an image and the same image rolled, and list what does not move with it.

    Parameters
    ----------
    model
        An eager model without hooks; it runs in evaluation mode where it is, and random states are kept.
    images
        An image, shape (1, channel, row, column), or a clip, which has frames before the rows. By default one of
        noise, of the first of some usual sizes that the model can take and of which all of its maps are whole parts.
    axes
        Along which to roll.

    Returns
    -------
    Findings
        What was found, each part as if all before it moved.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 4, 3, padding=1))
    >>> roll_images(net).padding
    {'1': 'conv2d'}
    """
    device = resolve_device("auto", model)
    if device.type == "meta":
        return Findings(not_tried="it has no values")
    with borrowed(model, device, 0):
        try:
            images = _image_of(model, device, axes) if images is None else images[:1].to(device)
            grids = _grids_of(model, images)
            strides = _total_strides(images, grids, axes)
        except _NotTriedError as reason:
            return Findings(not_tried=str(reason))
        rolled = images.roll(strides, tuple(range(2, images.ndim)))
        both = torch.cat([images, rolled])
        judge = _Judge(model, tuple(images.shape[2:]), strides, grids)
        mark(both)
        try:
            with judge:
                model(both)
        except Exception as error:  # whatever the model's own code raises
            return Findings(not_tried=reason_of(error, model))
    return judge.findings


class _NotTriedError(Exception):
    """No size of image was found on which a model can be tried."""


def _image_of(model: nn.Module, device: torch.device, axes: Collection[str]) -> Tensor:
    """Return an image or clip of noise of the first size at which all maps are whole parts of it."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    first = next(filter(is_convolution, model.modules()), None)
    n_channels = 3 if first is None else first.in_channels
    lengths = _FRAMES if first is not None and len(first.kernel_size) == 3 else (None,)
    try:
        plan = blueprint(model)
    except ModelError as error:
        raise _NotTriedError(str(error)) from error
    failures: dict[int, str] = {}
    for side, length in itertools.product(_SIZES, lengths):
        size = (side, side) if length is None else (length, side, side)
        try:
            blank = torch.empty(2, n_channels, *size, dtype=dtype, device="meta")
            _total_strides(blank, _grids_of(plan, blank), axes)
        except _NotTriedError as reason:
            failures[side] = str(reason)
            continue
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(1, n_channels, *size, generator=generator, device="cpu")
        return image.to(device=device, dtype=dtype)
    largest = max(failures)
    shown = "images" if lengths == (None,) else f"clips of {', '.join(map(str, lengths))} frames"
    raise _NotTriedError(
        f"no size of {shown} fits of {', '.join(map(str, sorted(failures)))} pixels; at {largest}, {failures[largest]}"
    )


def _grids_of(model: nn.Module, images: Tensor) -> set[Size]:
    """Run a model and return the sizes of its maps."""
    sizes = _MapSizes(images.ndim - 2)
    try:
        with torch.no_grad(), torch.device(images.device), sizes:
            model(images)
    except Exception as error:  # whatever the model's own code raises
        raise _NotTriedError(reason_of(error, model)) from error
    return sizes.found


def _total_strides(images: Tensor, grids: set[Size], axes: Collection[str]) -> Size:
    """Return by how much to roll images along each axis, so that all maps roll by whole cells; 0 along other axes.

    That is half the image if it can be, which is a multiple even of strides that are not seen.
    """
    strides = []
    names = axes_of_size(images.shape[2:])
    for axis, (name, size) in enumerate(zip(names, images.shape[2:], strict=True)):
        if name not in axes:
            strides.append(0)
            continue
        lengths = {grid[axis] for grid in grids}
        odd = [length for length in lengths if size % length and length % size]
        if odd:
            raise _NotTriedError(f"a map of {odd[0]} {_PLACES[len(names)][1]} is no whole part of an image of {size}")
        stride = math.lcm(1, *(max(size // length, 1) for length in lengths))
        if stride >= size:
            raise _NotTriedError(f"a map has a single {_PLACES[len(names)][0]}, which cannot be rolled")
        strides.append(stride if size // 2 % stride or size % 2 else size // 2)
    return tuple(strides)


class _MapSizes(TorchFunctionMode):
    """The sizes of all maps that convolutions and local pooling give, whatever they slide over more than one cell."""

    def __init__(self, n_axes: int) -> None:
        super().__init__()
        self.found: set[Size] = set()
        self._n_axes = n_axes

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        maps = next(tensors_in(output), None)
        if name_of(func) in _SLIDING and maps is not None and maps.ndim == self._n_axes + 2:
            given = next(tensors_in((args, kwargs or {})))
            kernel = (kwargs or {}).get("kernel_size", args[1] if len(args) > 1 else 0)
            is_global = "pool" in name_of(func) and along_each(kernel, self._n_axes) == tuple(given.shape[2:])
            if given.ndim == maps.ndim and set(given.shape[2:]) != {1} and not is_global:
                self.found.add(tuple(maps.shape[2:]))
        return output


class _Judge(TorchFunctionMode):
    """Compare, in what every function gives, the second image with the first, and make it follow where it does not.

    So everything is judged as if all before it moved with the images.
    """

    def __init__(self, model: nn.Module, size: Size, shift: Size, grids: set[Size]) -> None:
        super().__init__()
        self.findings = Findings()
        self._model, self._size, self._shift = model, size, shift
        self._grids = {size, *grids}

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        depends = bool(marked_in((args, kwargs)))
        output = func(*args, **kwargs)
        if not depends:
            return output
        outputs = list(tensors_in(output))
        mark(*outputs)
        name = name_of(func)
        for part in outputs:
            expected = self._expected(part, name)
            if expected and not any(_are_close(part[1], rolled) for rolled in expected):
                self._note(name, args, kwargs, part)
                if part is output and not _is_among(part, args):
                    output = torch.stack([part[0], expected[0]])
                    mark(output)
                else:
                    part[1].copy_(expected[0])
        return output

    def _expected(self, output: Tensor, name: str) -> list[Tensor]:
        """Return what the rolled image may give, the axes of the map being where they can be; none if nothing fits."""
        if name in _NOT_JUDGED or not output.is_floating_point() or output.ndim < 2 or len(output) != 2:
            return []
        first = output[0]
        if output.ndim == 2:
            return [first]
        n_axes = len(self._size)
        if output.ndim == n_axes + 2:
            at = [start for start in (1, 0) if self._is_grid(tuple(first.shape[start : start + n_axes]))]
            if 1 in at:
                self._grids.add(tuple(first.shape[1:]))
            return [self._rolled(first, start) for start in at]
        return list(self._rolled_tokens(first)) if output.ndim == 3 else []

    def _is_grid(self, grid: Size) -> bool:
        """Tell whether a map of this size is one cell, or the image scaled alike on both axes and rolls by whole cells.

        Other axes that are as long as a map by chance, such as channels, seldom pass.
        """
        if set(grid) == {1}:
            return True
        # An axis that was not rolled may have any length, but one axis alone is too easily scaled.
        axes = list(zip(grid, self._size, self._shift, strict=True))
        cells = [(n, size, shift) for n, size, shift in axes if shift]
        alike = {Fraction(n, size) for n, size, _ in (cells if len(cells) > 1 else axes)}
        is_scaled = grid in self._grids or len(alike) == 1
        fits = all((size % n == 0 or n % size == 0) and shift * n % size == 0 for n, size, shift in cells)
        return is_scaled and fits

    def _rolled(self, maps: Tensor, start: int) -> Tensor:
        """Return maps rolled along the axes from one on."""
        axes = tuple(range(start, start + len(self._size)))
        lengths = [maps.shape[axis] for axis in axes]
        if set(lengths) == {1}:
            return maps
        by = (shift * n // size for n, size, shift in zip(lengths, self._size, self._shift, strict=True))
        return maps.roll(tuple(by), axes)

    def _rolled_tokens(self, tokens: Tensor) -> Iterator[Tensor]:
        for axis in (0, 1):
            for grid in self._grids:
                n_prefix = tokens.shape[axis] - math.prod(grid)
                if 0 <= n_prefix <= _MOST_PREFIX_TOKENS and math.prod(grid) > 1:
                    prefix, rest = tokens.split([n_prefix, math.prod(grid)], dim=axis)
                    rolled = self._rolled(rest.unflatten(axis, grid), axis).flatten(axis, axis + len(grid) - 1)
                    yield torch.cat([prefix, rolled], dim=axis)

    def _note(self, name: str, args: tuple, kwargs: dict[str, Any], output: Tensor) -> None:
        module = running_layer(_frames(), self._model)
        layer = module_names(self._model).get(module, "")
        known = name.strip("_")
        if known in _POOLING and (output.ndim == 2 or set(output.shape[2:]) == {1}):
            self.findings.otherwise.setdefault(layer, "maps that do not move by whole cells")
        elif known in _ATTENTION_FUNCTIONS or _ATTENTION.search(f"{layer} {type(module).__name__}"):
            self.findings.otherwise.setdefault(layer, "attention that tells places apart")
        elif known in _MATRICES or (known in ("conv2d", "conv3d") and set(output.shape[2:]) == {1}):
            self.findings.otherwise.setdefault(layer, "weights of their own for each place of a map")
        elif known in _WITH_TABLES and any(_varies(tensor) for tensor in tensors_in((args, kwargs))):
            self.findings.otherwise.setdefault(layer, "a table of positions")
        else:
            self.findings.padding.setdefault(layer, known)


def _frames() -> Iterator[Any]:
    return (frame for frame, _ in traceback.walk_stack(sys._getframe(2)))


def _varies(tensor: Tensor) -> bool:
    """Tell whether a tensor is a constant with more than one value along its last two axes."""
    return not is_marked(tensor) and tensor.ndim > 1 and max(tensor.shape[-2:]) > 1


def _is_among(tensor: Tensor, args: Sequence[Any]) -> bool:
    return any(tensor is other for other in tensors_in(tuple(args)))


def _are_close(found: Tensor, expected: Tensor) -> bool:
    tolerance = max(_TOLERANCE, 16 * torch.finfo(found.dtype).eps) * expected.abs().max().nan_to_num()
    return torch.allclose(found, expected, rtol=0, atol=float(tolerance), equal_nan=True)
