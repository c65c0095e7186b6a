"""The images that move a channel most, as small copies for a page."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.analyses.data.shown import small_copies
from probe.models.layers import Layer
from probe.reading.options import Options
from probe.reading.reader import open_reader

__all__ = ["find_examples"]


def find_examples(
    model: nn.Module, images: Any, layer: str, channels: np.ndarray, *, count: int, **options: Any
) -> xr.Dataset:
    """Find the images whose mirror image changes a channel's mean over the map most.

    Parameters
    ----------
    model, images
        As in `probe.collect`.
    layer
        Its name.
    channels
        Numbers of the channels, shape (channel,).
    count
        Images for each channel; none are read for 0.
    **options
        As in `probe.collect`.

    Returns
    -------
    xarray.Dataset
        ``example_change``, on (strongest, example): z(x) − z(mirrored x), largest first without regard to sign.
        ``example_image``, on (strongest, example, pixel_row, pixel_column, colour): each as the model sees it, at
        most 64 pixels wide and high, its contrast stretched to 0 to 255. Nothing for a `count` of 0.

    Examples
    --------
    >>> from probe.testing import noise_images, padded_net
    >>> found = find_examples(padded_net("zeros"), noise_images(8), "conv2", np.array([3]), count=2, progress=False)
    >>> dict(found.example_image.sizes)
    {'strongest': 1, 'example': 2, 'pixel_row': 24, 'pixel_column': 24, 'colour': 3}
    """
    if count == 0:
        return xr.Dataset()
    best = _Best(len(channels), count)

    def average(_: Layer, maps: Tensor) -> Tensor:
        return maps[:, channels].mean(dim=(2, 3)).cpu()

    with (
        open_reader(model, images, Options(layers=layer, task="examples", **options)) as reader,
        reader.reading([reader.layer(layer)], average) as run,
    ):
        for batch, pixels in reader.batches():
            mirrored, shown = pixels.flip(3), small_copies(batch.pixels)  # before a model that overwrites its input
            (here,), (there,) = run(pixels).values(), run(mirrored).values()
            best.add(here - there, shown)
    return best.result(channels)


class _Best:
    """For each channel the images with the largest changes so far."""

    def __init__(self, n_channels: int, count: int) -> None:
        self._count = count
        self._changes = [torch.empty(0) for _ in range(n_channels)]
        self._images: list[Tensor] = [torch.empty(0) for _ in range(n_channels)]

    def add(self, changes: Tensor, images: Tensor) -> None:
        """Take a batch in: `changes` of shape (image, channel), small `images`."""
        for place, (known, shown) in enumerate(zip(self._changes, self._images, strict=True)):
            candidates = torch.cat([known, changes[:, place]])
            kept = candidates.abs().nan_to_num(nan=-1.0).argsort(descending=True, stable=True)[: self._count]
            self._changes[place] = candidates[kept]
            self._images[place] = torch.cat([shown, images])[kept] if len(known) else images[kept]

    def result(self, channels: np.ndarray) -> xr.Dataset:
        """Return what was found."""
        return xr.Dataset(
            {
                "example_change": (
                    ("strongest", "example"),
                    torch.stack(self._changes).numpy(),
                    {"long_name": "change of the channel's mean when the image is mirrored", "units": "activation"},
                ),
                "example_image": (
                    ("strongest", "example", "pixel_row", "pixel_column", "colour"),
                    torch.stack(self._images).permute(0, 1, 3, 4, 2).numpy(),
                    {"long_name": "image that moves the channel, contrast stretched", "units": "1"},
                ),
            },
            coords={"strongest": channels},
        )
