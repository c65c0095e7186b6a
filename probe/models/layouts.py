"""How the output of a layer is read as maps (image, channel, *size): rows and columns, before them perhaps frames."""

import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError
from probe.models.kinds import is_convolution, is_linear
from probe.models.layers import Layer, View
from probe.models.notation import LAYOUTS, read_layout

__all__ = [
    "GIVEN",
    "GivenLayout",
    "Grid",
    "as_maps",
    "first_tensor",
    "fits_aspect",
    "given_layout",
    "grid_in",
    "grid_of",
    "infer_layout",
    "possible_grids",
    "tensors_in",
    "with_first_tensor",
]

GIVEN = "given"
"""The layout of a layer whose maps a function of the user's makes."""

Grid = tuple[int, ...]
"""Rows and columns, or frames, rows and columns."""

_MOST_TOKENS_ASIDE = 128  # where no map of the model tells the grid
_CHANNELS_FIRST, _CHANNELS_LAST = {4: "NCHW", 5: "NCDHW"}, {4: "NHWC", 5: "NDHWC"}


def first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of a module's output, depth first: in a tuple, a mapping or a dataclass.

    Examples
    --------
    >>> first_tensor({"out": (None, torch.ones(1))})
    tensor([1.])
    """
    return next((tensor for _, tensor in tensors_in(output)), None)


def tensors_in(output: Any, path: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield how each tensor of a module's output is written in Python, and the tensor, in the order of `first_tensor`.

    Examples
    --------
    >>> [path for path, _ in tensors_in({"out": (None, torch.ones(1))})]
    ["output['out'][1]"]
    """
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(output, Tensor):
        yield path, output.dequantize() if output.is_quantized else output
    elif isinstance(output, dict):
        parts = ((f"{path}[{key!r}]", part) for key, part in output.items())
    elif isinstance(output, list | tuple):
        parts = ((f"{path}[{index}]", part) for index, part in enumerate(output))
    elif hasattr(output, "__dataclass_fields__"):
        parts = ((f"{path}.{name}", getattr(output, name)) for name in output.__dataclass_fields__)
    for inner, part in parts:
        yield from tensors_in(part, inner)


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """Return a copy of a module's output in which another tensor stands in the place of `first_tensor`.

    Examples
    --------
    >>> with_first_tensor({"out": (None, torch.ones(1)), "size": 3}, torch.zeros(1))
    {'out': (None, tensor([0.])), 'size': 3}
    """
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, dict):
        place = next(key for key, part in output.items() if first_tensor(part) is not None)
        changed = copy.copy(output)
        changed[place] = with_first_tensor(output[place], tensor)
        return changed
    if isinstance(output, list | tuple):
        index = next(index for index, part in enumerate(output) if first_tensor(part) is not None)
        parts = [*output[:index], with_first_tensor(output[index], tensor), *output[index + 1 :]]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    fields = output.__dataclass_fields__
    name = next(name for name in fields if first_tensor(getattr(output, name)) is not None)
    return dataclasses.replace(output, **{name: with_first_tensor(getattr(output, name), tensor)})


def infer_layout(shape: torch.Size, n_images: int, ancestry: Iterator[nn.Module], grids: Sequence[Grid]) -> str | None:
    """Tell the layout of an output.

    Of four or five axes the last one holds the channels if the module, or else the nearest module around it that has
    a say, normalises or embeds to that width, and does not give as many channels as the second axis has. Where no
    module has a say, rows and columns are where a known grid is. Rows and columns that are no known grid must have
    the aspect ratio of the images, and frames as the images have: heads × tokens and windows × tokens have not.

    Parameters
    ----------
    shape
        Shape of the output.
    n_images
        Number of images in the batch.
    ancestry
        The module, its parent, and so on up to the model.
    grids
        Sizes of the images and of the maps so far, the images first.

    Returns
    -------
    str or None
        One of `LAYOUTS`; None where nothing fits.
    """
    if len(shape) == 2:
        return "NC"
    if len(shape) == 3:
        return "LNC" if shape[1] == n_images != shape[0] else "NLC"
    first, last = _CHANNELS_FIRST[len(shape)], _CHANNELS_LAST[len(shape)]
    by_widths = _layout_by_widths(shape, ancestry)
    for layout, grid in {first: tuple(shape[2:]), last: tuple(shape[1:-1])}.items():
        if by_widths in (layout, None) and grid in grids:
            return layout
        if by_widths == layout and fits_aspect(grid, grids[0]):
            return layout
    return None


def _layout_by_widths(shape: torch.Size, ancestry: Iterator[nn.Module]) -> str | None:
    first, last = _CHANNELS_FIRST[len(shape)], _CHANNELS_LAST[len(shape)]
    for module in ancestry:
        if is_convolution(module):
            return first
        last_widths, second_widths = _widths(module)
        if shape[1] != shape[-1]:
            second_widths |= last_widths
        is_last, is_second = shape[-1] in last_widths, shape[1] in second_widths
        if is_last != is_second:
            return last if is_last else first
    return None


def _widths(module: nn.Module) -> tuple[set[int], set[int]]:
    """Return the widths on a last axis, and the widths on a second axis, that a module's parts produce."""
    last, second = set(), set()
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            last.add(part.normalized_shape[-1])
        elif is_linear(part):
            last.add(part.out_features)
        elif is_convolution(part):
            second.add(part.out_channels)
        elif isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            second.add(part.num_features)
    return last, second


def grid_in(maps: Tensor) -> Grid:
    """Return the size of maps, of five axes or of fewer.

    Examples
    --------
    >>> grid_in(torch.zeros(2, 3, 4, 5)), grid_in(torch.zeros(2, 3, 8, 4, 5))
    ((4, 5), (8, 4, 5))
    """
    return tuple(maps.shape[-3:] if maps.ndim == 5 else maps.shape[-2:])


def possible_grids(n_tokens: int, grids: Sequence[Grid]) -> list[Grid]:
    """Return the grids on which tokens may lie, row by row, some of them perhaps set aside (class, registers, prompts).

    These are the known ones that leave the fewest aside, and no more than three quarters, of several the latest first;
    and behind them those that have the aspect ratio of the images.

    Parameters
    ----------
    n_tokens
        Number of tokens.
    grids
        As in `infer_layout`.

    Examples
    --------
    >>> possible_grids(297, [(224, 224), (14, 14)])[:2]
    [(14, 14), (17, 17)]
    """
    sizes = {grid: math.prod(grid) for grid in reversed(grids)}
    known = [grid for grid, size in sizes.items() if size > 1 and size <= n_tokens <= 4 * size]
    known.sort(key=math.prod, reverse=True)
    numbers = range(n_tokens, max(n_tokens - _MOST_TOKENS_ASIDE, 1) - 1, -1)
    fitting = [grid for number in numbers for grid in _fitting_grids(number, grids[0])]
    return list(dict.fromkeys([*known, *fitting]))


def grid_of(n_tokens: int, grids: Sequence[Grid], preferred: Grid = ()) -> Grid | None:
    """Return the grid of so many tokens, none aside: a known one, or the only one that fits the images.

    Examples
    --------
    >>> grid_of(196, [(224, 224), (14, 14)]), grid_of(49, [(224, 224), (14, 14)]), grid_of(197, [(224, 224)])
    ((14, 14), (7, 7), None)
    """
    known = [grid for grid in reversed(grids) if math.prod(grid) == n_tokens]
    if n_tokens < 1:
        return None
    fitting = _fitting_grids(n_tokens, grids[0])
    may_stay = preferred and math.prod(preferred) == n_tokens and not known
    if preferred in known or (may_stay and (not fitting or preferred in fitting)):
        return preferred
    if known:
        return known[0]
    return fitting[0] if len(fitting) == 1 else None


@cache
def _fitting_grids(product: int, image_size: Grid) -> tuple[Grid, ...]:
    """Return the grids of so many cells that fit the images; of clips one for each number of frames."""
    numbers = range(image_size[0], 0, -1) if len(image_size) == 3 else ()
    starts: list[Grid] = [(n_frames,) for n_frames in numbers if product % n_frames == 0] if numbers else [()]
    best = [(*start, *_best_factors(product // math.prod(start), image_size)) for start in starts]
    return tuple(grid for grid in best if fits_aspect(grid, image_size))


def _best_factors(product: int, image_size: Grid) -> Grid:
    short = [side for side in range(1, math.isqrt(product) + 1) if product % side == 0]
    pairs = [(side, product // side) for side in short] + [(product // side, side) for side in reversed(short)]
    return min(pairs, key=lambda pair: _misfit(pair, image_size))


def fits_aspect(grid: Grid, image_size: Grid) -> bool:
    """Tell whether square patches of some size give this grid, both sides rounded down or both rounded up.

    Of clips any number of frames will do that they have: time is cut as coarsely as a model likes.

    Examples
    --------
    >>> fits_aspect((6, 25), image_size=(100, 400)), fits_aspect((5, 6), image_size=(224, 224))
    (True, False)
    >>> fits_aspect((8, 7, 7), image_size=(16, 112, 112)), fits_aspect((32, 7, 7), image_size=(16, 112, 112))
    (True, False)
    """
    if len(grid) != len(image_size) or grid[:-2] > image_size[:-2]:
        return False
    return _misfit(grid, image_size) < max(image_size[-2:])


def _misfit(grid: Grid, image_size: Grid) -> int:
    return abs(image_size[-2] * grid[-1] - image_size[-1] * grid[-2])


def as_maps(output: Any, layer: Layer, grids: Sequence[Grid]) -> Tensor | None:
    """View an output as maps.

    Parameters
    ----------
    output
        A tensor with as many axes as the layer's layout has; the whole output, where a function makes the maps.
    layer
        Tells the layout, and which tokens are patches.
    grids
        As in `infer_layout`.

    Returns
    -------
    torch.Tensor or None
        Shape (image, channel, *size); tokens that are no patches are left out, vectors are maps of one cell.
        None where the tokens fit no grid.
    """
    if layer.view is not None:
        return layer.view(output)
    if layer.layout == "NC":
        return output[:, :, None, None]
    if layer.layout in _CHANNELS_FIRST.values():
        return output
    if layer.layout in _CHANNELS_LAST.values():
        return output.movedim(-1, 1)
    tokens = output.transpose(0, 1) if layer.layout == "LNC" else output
    n_patches = tokens.shape[1] - layer.n_before - layer.n_behind
    grid = grid_of(n_patches, grids, layer.size)
    if grid is None:
        return None
    return tokens[:, layer.n_before : layer.n_before + n_patches].unflatten(1, grid).movedim(-1, 1)


@dataclass(frozen=True)
class GivenLayout:
    """What a user says of the outputs of some layers; from `given_layout`.

    Attributes
    ----------
    axes : str
        One of `LAYOUTS`; ``GIVEN`` for a function.
    patches : slice or None
        Which tokens are patches; None where it was not said.
    grid : tuple of int or None
        Rows and columns of the patches, or frames, rows and columns; None where they were not said.
    view : callable or None
        The function.
    """

    axes: str
    patches: slice | None = None
    grid: Grid | None = None
    view: View | None = None

    def fits(self, tensor: Tensor) -> bool:
        """Tell whether it can be meant for this tensor."""
        return self.view is not None or tensor.ndim == LAYOUTS[self.axes]

    def patches_of(self, output: Tensor) -> dict[str, Any]:
        """Return which tokens of an output are patches, as fields of `Layer`."""
        if self.patches is None:
            return {}
        n_tokens = output.shape[self.axes.index("L")]
        start, stop, _ = self.patches.indices(n_tokens)
        place: dict[str, Any] = {"n_before": start, "n_behind": n_tokens - stop}
        return place if self.grid is None else {**place, "view": partial(_on_grid, layout=self)}


def _on_grid(output: Tensor, layout: GivenLayout) -> Tensor:
    assert layout.patches is not None and layout.grid is not None
    tokens = output.transpose(0, 1) if layout.axes == "LNC" else output
    return tokens[:, layout.patches].unflatten(1, layout.grid).movedim(-1, 1)


def given_layout(value: Any, pattern: str) -> GivenLayout:
    """Return what one value of the argument `layout` says.

    Raises
    ------
    ArgumentError
        If it is no layout.

    Examples
    --------
    >>> given_layout("NLC[5:201]", "blocks.*")
    GivenLayout(axes='NLC', patches=slice(5, 201, None), grid=None, view=None)
    """
    if callable(value):
        return GivenLayout(GIVEN, view=value)
    written = read_layout(value) if isinstance(value, str) else None
    if written is None:
        raise ArgumentError(
            f"layout: unknown layout {value!r} for {pattern!r}. Choose from {', '.join(LAYOUTS)}; tell which tokens "
            "are patches as in 'NLC[5:201]', and their grid as in 'NLC[5:201](14, 14)'; or pass a function "
            "(output) -> maps of shape (image, channel, row, column), or with frames before the rows."
        )
    return GivenLayout(*written)
