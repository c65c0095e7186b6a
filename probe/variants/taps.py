"""How many taps of a window lie inside the map."""

import functools

import torch
from torch import Tensor

__all__ = ["taps_over_taps_inside"]


@functools.lru_cache(maxsize=256)
def taps_over_taps_inside(
    size: tuple[int, ...],
    response_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    weighed: tuple[bool, ...],
    dtype: torch.dtype,
    device: torch.device,
    *,
    is_transposed: bool = False,
) -> Tensor:
    """Return by how much the response of each window is to be raised so that cells outside the map do not weaken it.

    Parameters
    ----------
    size, response_size
        Of the map, and of the response to it.
    kernel_size, stride, dilation
        As in ``torch.nn.Conv2d``.
    before
        How many cells of padding are before each axis; of a transposed convolution, how many cells are cut.
    weighed
        Along which axes cells count as outside at all.
    dtype, device
        Of the result.
    is_transposed
        Whether it is a transposed convolution.

    Returns
    -------
    torch.Tensor
        Taps over taps inside, shape of the response; 0 where none is inside. Where a transposed convolution reads
        nothing, 1.

    Examples
    --------
    >>> taps_over_taps_inside((4,), (4,), (3,), (1,), (1,), (1,), (True,), torch.float32, torch.device("cpu"))
    tensor([1.5000, 1.0000, 1.0000, 1.5000])
    """
    # What is kept serves training too, so it must be no inference tensor.
    with torch.inference_mode(False):
        taps = inside = torch.ones((), dtype=torch.float64, device="cpu")
        for *settings, counts in zip(size, response_size, kernel_size, stride, before, dilation, weighed, strict=True):
            along = [torch.ones(settings[1], device="cpu")] * 2
            if counts:
                along = _taps_of_transposed(*settings) if is_transposed else _taps(*settings)
            taps, inside = taps[..., None] * along[0], inside[..., None] * along[1]
        return torch.where(inside > 0, taps / inside, 0).to(device=device, dtype=dtype)


def _taps(size: int, n_windows: int, kernel: int, stride: int, before: int, dilation: int) -> list[Tensor]:
    """Return how many taps each window along an axis has, and how many of them are inside the map."""
    starts = torch.arange(n_windows, device="cpu") * stride - before
    places = starts[:, None] + torch.arange(kernel, device="cpu") * dilation
    return [torch.full((n_windows,), kernel, device="cpu"), ((places >= 0) & (places < size)).sum(dim=1)]


def _taps_of_transposed(size: int, n_cells: int, kernel: int, stride: int, cut: int, dilation: int) -> list[Tensor]:
    places = torch.arange(n_cells, device="cpu")[:, None] + cut - torch.arange(kernel, device="cpu") * dilation
    reads = places % stride == 0
    taps, inside = reads.sum(dim=1), (reads & (places >= 0) & (places < size * stride)).sum(dim=1)
    return [taps.clamp(min=1), torch.where(taps == 0, 1, inside)]
