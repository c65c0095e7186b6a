"""How the output of a layer is read as maps (image, channel, row, column)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LAYOUTS", "as_maps", "first_tensor", "infer_layout", "token_grid"]

LAYOUTS = {"NCHW": 4, "NHWC": 4, "NLC": 3, "LNC": 3}
"""The layouts and their number of axes: N images, C channels, H rows, W columns, L tokens."""

Grid = tuple[int, int]

_MOST_PREFIX_TOKENS = 16


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


def infer_layout(shape: torch.Size, ancestry: Iterator[nn.Module]) -> str:
    """Tell the layout of an output.

    Of four axes the last one holds the channels if the module, or else the nearest module around it that has a
    say, normalises or embeds to that width, and does not give as many channels as the second axis has.

    Parameters
    ----------
    shape
        Shape of the output.
    ancestry
        The module, its parent, and so on up to the model.
    """
    if len(shape) != 4:
        return "NLC" if len(shape) == 3 else "NC"
    for module in ancestry:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            return "NCHW"
        last_widths, second_widths = _widths(module)
        is_last = shape[3] in last_widths
        is_second = shape[1] in last_widths | second_widths
        if is_last != is_second:
            return "NHWC" if is_last else "NCHW"
    return "NCHW"


def _widths(module: nn.Module) -> tuple[set[int], set[int]]:
    """Return the widths on a last axis, and the widths on a second axis, that a module's parts produce."""
    last, second = set(), set()
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            last.add(part.normalized_shape[-1])
        elif isinstance(part, nn.Linear):
            last.add(part.out_features)
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            second.add(part.out_channels)
        elif isinstance(part, nn.BatchNorm2d):
            second.add(part.num_features)
    return last, second


def token_grid(n_tokens: int, patch_grid: Grid | None, image_size: Grid) -> tuple[int, Grid] | None:
    """Find the number of prefix tokens and the grid of the others.

    The grid is that of the last patch embedding if it holds all tokens, else the factors that fit the aspect ratio
    of the image, else the same with prefix tokens (class, registers) in front.

    Parameters
    ----------
    n_tokens
        Number of tokens.
    patch_grid
        Height and width of the last patch embedding's output, if there was one.
    image_size
        Height and width of the image.

    Returns
    -------
    tuple or None
        Number of prefix tokens, and (height, width); None where nothing fits.

    Examples
    --------
    >>> token_grid(197, (14, 14), (224, 224))
    (1, (14, 14))
    >>> token_grid(49, (14, 14), (224, 224))
    (0, (7, 7))
    """
    if patch_grid is not None and patch_grid[0] * patch_grid[1] == n_tokens:
        return 0, patch_grid
    grid = _fitting_factors(n_tokens, image_size)
    if grid is not None:
        return 0, grid
    if patch_grid is not None and 0 < n_tokens - patch_grid[0] * patch_grid[1] <= _MOST_PREFIX_TOKENS:
        return n_tokens - patch_grid[0] * patch_grid[1], patch_grid
    for n_prefix in range(1, min(_MOST_PREFIX_TOKENS, n_tokens - 1) + 1):
        grid = _fitting_factors(n_tokens - n_prefix, image_size)
        if grid is not None:
            return n_prefix, grid
    return None


def _fitting_factors(product: int, image_size: Grid) -> Grid | None:
    """Return the factors of a number that fit an aspect ratio to within one cell, the nearest first."""
    height, width = image_size
    pairs = [(rows, product // rows) for rows in range(1, product + 1) if product % rows == 0]
    misfit = {pair: abs(pair[0] * width / height - pair[1]) for pair in pairs}
    best = min(misfit, key=lambda pair: misfit[pair])
    return best if misfit[best] < 1 else None


def as_maps(output: Tensor, layout: str, patch_grid: Grid | None, image_size: Grid) -> Tensor | None:
    """View an output as maps.

    Returns
    -------
    torch.Tensor or None
        Shape (image, channel, row, column); prefix tokens are left out. None where the tokens fit no grid.
    """
    if output.ndim == 2:
        return output[:, :, None, None]
    if layout == "NCHW":
        return output
    if layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    tokens = output.transpose(0, 1) if layout == "LNC" else output
    fit = token_grid(tokens.shape[1], patch_grid, image_size)
    if fit is None:
        return None
    n_prefix, grid = fit
    return tokens[:, n_prefix:].unflatten(1, grid).permute(0, 3, 1, 2)
