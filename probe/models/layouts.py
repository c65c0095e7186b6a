"""How the output of a layer is read as maps (image, channel, row, column)."""

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError
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
    "grid_of",
    "infer_layout",
    "possible_grids",
    "with_first_tensor",
]

GIVEN = "given"
"""The layout of a layer whose maps a function of the user's makes."""

Grid = tuple[int, int]

_MOST_TOKENS_ASIDE = 128  # where no map of the model tells the grid
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of a module's output, depth first: in a tuple, a mapping or a dataclass.

    Examples
    --------
    >>> first_tensor({"out": (None, torch.ones(1))})
    tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        parts = list(output.values())
    elif isinstance(output, list | tuple):
        parts = list(output)
    elif hasattr(output, "__dataclass_fields__"):
        parts = [getattr(output, name) for name in output.__dataclass_fields__]
    else:
        return None
    return next((tensor for tensor in map(first_tensor, parts) if tensor is not None), None)


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

    Of four axes the last one holds the channels if the module, or else the nearest module around it that has a
    say, normalises or embeds to that width, and does not give as many channels as the second axis has. Where no
    module has a say, rows and columns are where a known grid is. Rows and columns that are no known grid must have
    the aspect ratio of the images: heads × tokens and windows × tokens have not.

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
    by_widths = _layout_by_widths(shape, ancestry)
    for layout, grid in {"NCHW": (shape[2], shape[3]), "NHWC": (shape[1], shape[2])}.items():
        if by_widths in (layout, None) and grid in grids:
            return layout
        if by_widths == layout and fits_aspect(grid, grids[0]):
            return layout
    return None


def _layout_by_widths(shape: torch.Size, ancestry: Iterator[nn.Module]) -> str | None:
    for module in ancestry:
        if isinstance(module, _CONVOLUTIONS):
            return "NCHW"
        last_widths, second_widths = _widths(module)
        if shape[1] != shape[3]:
            second_widths |= last_widths
        is_last, is_second = shape[3] in last_widths, shape[1] in second_widths
        if is_last != is_second:
            return "NHWC" if is_last else "NCHW"
    return None


def _widths(module: nn.Module) -> tuple[set[int], set[int]]:
    """Return the widths on a last axis, and the widths on a second axis, that a module's parts produce."""
    last, second = set(), set()
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            last.add(part.normalized_shape[-1])
        elif isinstance(part, nn.Linear):
            last.add(part.out_features)
        elif isinstance(part, _CONVOLUTIONS):
            second.add(part.out_channels)
        elif isinstance(part, nn.BatchNorm2d):
            second.add(part.num_features)
    return last, second


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
    known = [grid for grid in reversed(grids) if grid != (1, 1) and math.prod(grid) <= n_tokens <= 4 * math.prod(grid)]
    known.sort(key=math.prod, reverse=True)
    numbers = range(n_tokens, max(n_tokens - _MOST_TOKENS_ASIDE, 1) - 1, -1)
    fitting = sorted(filter(None, (_fitting_factors(number, grids[0]) for number in numbers)), key=math.prod)
    return list(dict.fromkeys([*known, *reversed(fitting)]))


def grid_of(n_tokens: int, grids: Sequence[Grid], preferred: Grid = (0, 0)) -> Grid | None:
    """Return the grid of so many tokens, none aside: a known one, or one with the aspect ratio of the images.

    Examples
    --------
    >>> grid_of(196, [(224, 224), (14, 14)]), grid_of(49, [(224, 224), (14, 14)]), grid_of(197, [(224, 224)])
    ((14, 14), (7, 7), None)
    """
    known = [grid for grid in reversed(grids) if math.prod(grid) == n_tokens]
    if n_tokens < 1:
        return None
    fitting = _fitting_factors(n_tokens, grids[0])
    if preferred in known or (math.prod(preferred) == n_tokens and not known and fitting is None):
        return preferred
    return known[0] if known else fitting


@cache
def _fitting_factors(product: int, image_size: Grid) -> Grid | None:
    """Return the factors of a number that fit an aspect ratio best, if they do."""
    short = [side for side in range(1, math.isqrt(product) + 1) if product % side == 0]
    pairs = [(side, product // side) for side in short] + [(product // side, side) for side in reversed(short)]
    best = min(pairs, key=lambda pair: _misfit(pair, image_size))
    return best if fits_aspect(best, image_size) else None


def fits_aspect(grid: Grid, image_size: Grid) -> bool:
    """Tell whether square patches of some size give this grid, both sides rounded down or both rounded up.

    Examples
    --------
    >>> fits_aspect((6, 25), image_size=(100, 400)), fits_aspect((5, 6), image_size=(224, 224))
    (True, False)
    """
    return _misfit(grid, image_size) < max(image_size)


def _misfit(grid: Grid, image_size: Grid) -> int:
    return abs(image_size[0] * grid[1] - image_size[1] * grid[0])


def as_maps(output: Tensor, layer: Layer, grids: Sequence[Grid]) -> Tensor | None:
    """View an output as maps.

    Parameters
    ----------
    output
        With as many axes as the layer's layout has.
    layer
        Tells the layout, and which tokens are patches.
    grids
        As in `infer_layout`.

    Returns
    -------
    torch.Tensor or None
        Shape (image, channel, row, column); tokens that are no patches are left out, vectors are maps of one cell.
        None where the tokens fit no grid.
    """
    if layer.view is not None:
        return layer.view(output)
    if layer.layout == "NC":
        return output[:, :, None, None]
    if layer.layout == "NCHW":
        return output
    if layer.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    tokens = output.transpose(0, 1) if layer.layout == "LNC" else output
    n_patches = tokens.shape[1] - layer.n_before - layer.n_behind
    grid = grid_of(n_patches, grids, (layer.height, layer.width))
    if grid is None:
        return None
    return tokens[:, layer.n_before : layer.n_before + n_patches].unflatten(1, grid).permute(0, 3, 1, 2)


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
        Rows and columns of the patches; None where they were not said.
    view : callable or None
        The function.
    """

    axes: str
    patches: slice | None = None
    grid: Grid | None = None
    view: View | None = None

    def fits(self, output: Tensor) -> bool:
        """Tell whether it can be meant for this output."""
        return self.view is not None or output.ndim == LAYOUTS[self.axes]

    def patches_of(self, output: Tensor) -> dict[str, Any]:
        """Return which tokens of an output are patches, as fields of `Layer`."""
        if self.view is not None:
            return {"view": self.view}
        if self.patches is None:
            return {}
        n_tokens = output.shape[self.axes.index("L")]
        start, stop, _ = self.patches.indices(n_tokens)
        place: dict[str, Any] = {"n_before": start, "n_behind": n_tokens - stop}
        return place if self.grid is None else {**place, "view": partial(_on_grid, layout=self)}


def _on_grid(output: Tensor, layout: GivenLayout) -> Tensor:
    assert layout.patches is not None and layout.grid is not None
    tokens = output.transpose(0, 1) if layout.axes == "LNC" else output
    return tokens[:, layout.patches].unflatten(1, layout.grid).permute(0, 3, 1, 2)


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
            "are patches as in 'NLC[5:201]', and their grid as in 'NLC[5:201](14, 14)'; or pass a function (tensor) "
            "-> maps of shape (image, channel, row, column)."
        )
    return GivenLayout(*written)
