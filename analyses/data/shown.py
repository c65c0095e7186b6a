"""Small copies of what a network was shown, for the page of a study."""

from collections.abc import Mapping
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from probe.images.batches import open_images
from probe.images.stimuli import apply_stimulus
from probe.reading.options import Options

__all__ = ["keep_shown", "shown_images", "small_copies"]

_SHOWN = ("natural", "rolled")
_LONGEST_SIDE = 64  # pixels of a small copy


def shown_images(images: Any, options: Options, *, count: int = 3) -> xr.Dataset:
    """Keep small copies of a few images, natural and rolled, as the network was shown them.

    Parameters
    ----------
    images, options
        As in `probe.collect`; they are read once more.
    count
        Evenly spaced over the images.

    Returns
    -------
    xarray.Dataset
        ``shown_image``, on (shown_number, shown, shown_row, shown_column, colour), with what each was shown as in
        ``shown``.

    Examples
    --------
    >>> found = shown_images(torch.rand(10, 3, 8, 8), Options())
    >>> dict(found.shown_image.sizes)
    {'shown_number': 3, 'shown': 2, 'shown_row': 8, 'shown_column': 8, 'colour': 3}
    """
    source = open_images(
        images,
        batch_size=1,
        num_workers=0,
        transform=options.transform,
        input_key=options.input_key,
        max_images=min(count, options.max_images or count),
        first_image=0,
        fold_of=lambda number, origin: 0,
    )
    batches = list(source)
    return keep_shown(
        {
            name: torch.cat([apply_stimulus(name, batch.pixels, batch.numbers, options.seed) for batch in batches])
            for name in _SHOWN
        }
    ).to_dataset()


def keep_shown(shown: Mapping[str, Tensor]) -> xr.DataArray:
    """Keep small copies of a few images, each as a network was shown it.

    Parameters
    ----------
    shown
        By what an image was shown as, such as ``natural`` or ``in the upper left``: images of shape (image, channel,
        row, column), as many of each, the same ones in the same order. Their sizes and channels may differ.

    Returns
    -------
    xarray.DataArray
        ``shown_image``, on (shown_number, shown, shown_row, shown_column, colour), from 0 to 255. All copies have the
        size of the largest; what one image was shown as shares one scale of brightness.

    Examples
    --------
    >>> kept = keep_shown({"black": torch.zeros(1, 1, 2, 2), "white": torch.ones(1, 1, 4, 4)})
    >>> kept.shape, kept.sel(shown="white").values.min()
    ((1, 2, 4, 4, 3), np.uint8(255))
    """
    copies = [_small(images) for images in shown.values()]
    size = tuple(max(copy.shape[axis] for copy in copies) for axis in (2, 3))
    stacked = torch.stack([functional.interpolate(copy, size, mode="nearest-exact") for copy in copies], dim=1)
    return xr.DataArray(
        _stretched(stacked).permute(0, 1, 3, 4, 2).numpy(),
        dims=("shown_number", "shown", "shown_row", "shown_column", "colour"),
        coords={"shown": list(shown)},
        name="shown_image",
        attrs={"long_name": "image that the network was shown, contrast stretched", "units": "1"},
    )


def small_copies(images: Tensor) -> Tensor:
    """Return copies of at most 64 pixels a side, in three colours from 0 to 255."""
    return _stretched(_small(images))


def _small(images: Tensor) -> Tensor:
    """Return copies of at most 64 pixels a side, in three colours."""
    height, width = images.shape[2:]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    small = functional.interpolate(images.detach().cpu().float(), size, mode="bilinear", antialias=True)
    return small if small.shape[1] == 3 else small.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def _stretched(images: Tensor) -> Tensor:
    """Bring the values of each row to 0 … 255."""
    every = tuple(range(1, images.ndim))
    low, high = images.amin(dim=every, keepdim=True), images.amax(dim=every, keepdim=True)
    return (255 * (images - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)
