"""How the output of a layer is read as maps (image, channel, row, column)."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "LAYOUTS",
    "Grid",
    "as_maps",
    "first_tensor",
    "fits_aspect",
    "infer_layout",
    "token_grid",
    "with_first_tensor",
]

LAYOUTS = {"NCHW": 4, "NHWC": 4, "NLC": 3, "LNC": 3, "NC": 2}
"""The layouts and their number of axes: N images, C channels, H rows, W columns, L tokens."""

Grid = tuple[int, int]

_MOST_PREFIX_TOKENS = 16
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


def token_grid(n_tokens: int, grids: Sequence[Grid]) -> tuple[int, Grid] | None:
    """Find the number of prefix tokens and the grid of the others, which are taken row by row.

    The grid is the known one that leaves the fewest prefix tokens (class, registers). Where all known ones are too
    large or too small, it has the aspect ratio of the images, exactly if possible, and leaves the fewest.

    Parameters
    ----------
    n_tokens
        Number of tokens.
    grids
        As in `infer_layout`.

    Returns
    -------
    tuple or None
        Number of prefix tokens, and (height, width); None where nothing fits.

    Examples
    --------
    >>> token_grid(197, [(224, 224), (14, 14)])
    (1, (14, 14))
    >>> token_grid(49, [(224, 224), (14, 14)])
    (0, (7, 7))
    """
    left_over = {grid: n_tokens - grid[0] * grid[1] for grid in grids if grid != (1, 1)}
    fitting = [grid for grid, n_prefix in left_over.items() if 0 <= n_prefix <= _MOST_PREFIX_TOKENS]
    if fitting:
        nearest = min(fitting, key=left_over.__getitem__)
        return left_over[nearest], nearest
    n_prefix_of = {}
    for n_prefix in range(min(_MOST_PREFIX_TOKENS, n_tokens - 1) + 1):
        grid = _fitting_factors(n_tokens - n_prefix, grids[0])
        if grid is not None:
            n_prefix_of[grid] = n_prefix
    if not n_prefix_of:
        return None
    best = min(n_prefix_of, key=lambda grid: (_misfit(grid, grids[0]) > 0, n_prefix_of[grid]))
    return n_prefix_of[best], best


@cache
def _fitting_factors(product: int, image_size: Grid) -> Grid | None:
    """Return the factors of a number that fit an aspect ratio best, if they do."""
    pairs = [(rows, product // rows) for rows in range(1, product + 1) if product % rows == 0]
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


def as_maps(output: Tensor, layout: str, grids: Sequence[Grid]) -> Tensor | None:
    """View an output as maps.

    Parameters
    ----------
    output
        With as many axes as its layout has.
    layout
        One of `LAYOUTS`.
    grids
        As in `infer_layout`.

    Returns
    -------
    torch.Tensor or None
        Shape (image, channel, row, column); prefix tokens are left out, vectors are maps of one cell. None where the
        tokens fit no grid.
    """
    if layout == "NC":
        return output[:, :, None, None]
    if layout == "NCHW":
        return output
    if layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    tokens = output.transpose(0, 1) if layout == "LNC" else output
    fit = token_grid(tokens.shape[1], grids)
    if fit is None:
        return None
    n_prefix, grid = fit
    return tokens[:, n_prefix:].unflatten(1, grid).permute(0, 3, 1, 2)
