"""What takes the place of channels in the output of a layer."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import torch
import xarray as xr
from torch import Tensor

from probe.axes import AXES, on_cells
from probe.checks import is_whole
from probe.errors import ArgumentError, ImagesError, LayoutError, ModelError, counted
from probe.models.layers import Layer
from probe.models.layouts import as_maps, first_tensor, with_first_tensor
from probe.models.notation import LAYOUTS
from probe.results import layer_map

__all__ = [
    "MODES",
    "AblationMode",
    "Replacement",
    "check_channels",
    "check_replaceable",
    "checked_output",
    "replacement_for",
]

AblationMode = Literal["zero", "mean", "resample"]

MODES = ("zero", "mean", "resample")
"""What takes a channel's place; see `ablate`."""


class Replacement:
    """Replaces channels in the output of a layer, the same ones in every image or others in each copy of a batch.

    Parameters
    ----------
    layer
        The layer, from `probe.models.survey.survey`.
    mode
        One of `MODES`.
    means
        For ``mean``: the value that takes the place of each channel, shape (channel,); by default the mean over the
        map, of each image by itself.
    """

    def __init__(self, layer: Layer, mode: AblationMode, means: Tensor | None = None) -> None:
        check_replaceable(layer)
        self.layer, self.mode, self.means = layer, mode, means
        self._image_axis, self._channel_axis = layer.layout.index("N"), layer.layout.index("C")

    def apply(self, output: Any, removed: Tensor, n_images: int | None = None) -> Any:
        """Return the output of the layer with channels replaced; the output itself stays as it is.

        Parameters
        ----------
        output
            What the layer gave. Its first tensor holds the batch once, or once for each setting, one behind the
            other.
        removed
            Shape (setting, channel), true where a channel is to be replaced.
        n_images
            Images in the batch; by default all that the output holds.

        Returns
        -------
        Any
            The same structure, with as many rows as settings × images.

        Raises
        ------
        LayoutError
            If the output has another layout or other channels than the layer had before.
        ImagesError
            If an image has no other one in its batch to take values from.
        """
        tensor = checked_output(output, self.layer)
        copies = tensor.unflatten(self._image_axis, (-1, n_images or tensor.shape[self._image_axis]))
        shape = [1] * copies.ndim
        shape[self._image_axis], shape[self._channel_axis + 1] = removed.shape
        chosen = torch.where(removed.to(tensor.device).reshape(shape), self._filler(tensor, copies), copies)
        return with_first_tensor(output, chosen.flatten(self._image_axis, self._image_axis + 1))

    def _filler(self, tensor: Tensor, copies: Tensor) -> Tensor:
        if self.mode == "zero":
            return copies.new_zeros(())
        if self.mode == "mean":
            return self._map_means(tensor).reshape(copies.shape)
        if copies.shape[self._image_axis + 1] == 1:
            raise ImagesError(
                f"{self.layer.name}: mode='resample' takes values from the next image in the batch, and the batch "
                "holds one image. Pass batches of at least two."
            )
        return copies.roll(-1, self._image_axis + 1)

    def _map_means(self, tensor: Tensor) -> Tensor:
        """Return the output with its maps levelled; tokens that lie on no grid stay."""
        levelled = tensor.clone()
        maps = as_maps(levelled, self.layer, [self.layer.size])
        assert maps is not None
        cells = tuple(range(2, maps.ndim))
        means = maps.mean(dim=cells) if self.means is None else self.means.to(maps)[None]
        maps.copy_(means[on_cells(cells)].expand_as(maps))
        return levelled


def checked_output(output: Any, layer: Layer) -> Tensor:
    """Return the first tensor of an output.

    Raises
    ------
    LayoutError
        If it has another layout or other channels than the layer had before.
    ModelError
        If it is quantised, so that nothing else can be put in its place.
    """
    if isinstance(output, Tensor) and output.is_quantized:
        raise ModelError(
            f"{layer.name} ({layer.module_type}): its output is quantised, and nothing can be put in its place. Take "
            "the model as it was before it was quantised."
        )
    tensor = first_tensor(output)
    axis = layer.layout.index("C")
    if tensor is None or tensor.ndim != LAYOUTS[layer.layout] or tensor.shape[axis] != layer.n_channels:
        shape = None if tensor is None else tuple(tensor.shape)
        raise LayoutError(
            f"{layer.name} ({layer.module_type}): an output of shape {shape} is no map of "
            f"{counted(layer.n_channels, 'channel')} in layout {layer.layout}, as the first image gave. "
            f"Pass layout={{{layer.name!r}: ...}}, one of {', '.join(LAYOUTS)}."
        )
    return tensor


def check_replaceable(layer: Layer) -> None:
    """Raise an `ArgumentError` if the output of a layer cannot be put back."""
    if layer.source is not None:
        raise ArgumentError(
            f"layer: {layer.name} is no output of a module, but read where {layer.source[0]} is given it. Choose "
            "one of its parts, whose output can be replaced."
        )
    if layer.layout not in LAYOUTS:
        raise ArgumentError(
            f"layout: {layer.name} is read through a function, which does not tell where its channels are put "
            f"back. Give one of {', '.join(LAYOUTS)}, tokens as in 'NLC[1:197]'."
        )


def replacement_for(layer: Layer, mode: str, reference: xr.Dataset | None = None) -> Replacement:
    """Return what replaces channels of a layer; see `ablate` for the arguments.

    Raises
    ------
    ArgumentError
        If the mode is unknown, or the reference does not fit.
    """
    if mode not in MODES:
        raise ArgumentError(f"mode={mode!r}: expected one of {', '.join(MODES)}.")
    if reference is None:
        return Replacement(layer, mode)  # type: ignore[arg-type]
    if mode != "mean":
        raise ArgumentError(f"reference: it gives the means for mode='mean', and the mode is {mode!r}.")
    try:
        maps = layer_map(reference, "mean_map", layer.name)
    except (KeyError, AttributeError):
        raise ArgumentError(
            f"reference: expected a result of probe.channelwise with the mean map of {layer.name!r}. "
            f"Measure it with maps={layer.name!r}."
        ) from None
    natural = maps.sel(stimulus="natural") if "natural" in maps.stimulus else maps.isel(stimulus=0)
    means = natural.mean(set(natural.dims) & set(AXES)).values
    if len(means) != layer.n_channels:
        raise ArgumentError(
            f"reference: it has {counted(len(means), 'channel')} of {layer.name!r}, and the model {layer.n_channels}. "
            "Measure it on this model."
        )
    return Replacement(layer, "mean", torch.from_numpy(means))


def check_channels(channels: Any, layer: Layer) -> list[int]:
    """Return channel numbers of a layer as a list.

    Raises
    ------
    ArgumentError
        If one is no whole number, out of range, or given twice.
    """
    numbers = list(channels) if isinstance(channels, Iterable) else [channels]
    for number in numbers:
        is_scalar = isinstance(number, Tensor) and number.ndim == 0 and not number.is_floating_point()
        if not is_whole(number) and not is_scalar:
            raise ArgumentError(f"channels of {layer.name!r}: expected channel numbers, found {number!r}.")
        if not 0 <= number < layer.n_channels:
            raise ArgumentError(
                f"channels of {layer.name!r}: {int(number)} is out of range; it has channels 0 to "
                f"{layer.n_channels - 1}."
            )
    numbers = [int(number) for number in numbers]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number, times in Counter(numbers).items() if times > 1)
        raise ArgumentError(f"channels of {layer.name!r}: {twice} is given twice. Name each channel once.")
    return numbers
