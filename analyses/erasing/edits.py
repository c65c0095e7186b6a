"""Ways to erase that go beyond one linear map of single cells: tried, and read as all others are."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from probe.erasing.stronger import neighbourhoods, stronger_readouts
from probe.measures.probing import collect
from probe.models.layers import Layer
from probe.models.layouts import as_maps
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.readouts.erasers import Eraser
from probe.readouts.fitted_erasers import fit_eraser

__all__ = ["read_edits"]

_VIEWED = Callable[[Tensor], Tensor]


def read_edits(
    model: nn.Module,
    fitting: Any,
    reading: Any,
    layer: str,
    *,
    stimulus: str,
    options: Mapping[str, Any],
    **readers: Any,
) -> xr.Dataset:
    """Fit each edit to some images, and read position from others.

    Parameters
    ----------
    model
        As in `probe.collect`.
    fitting, reading
        Images for either.
    layer
        Name of the layer.
    stimulus
        Of both.
    options
        As in `probe.collect`.
    **readers
        As in `probe.stronger_readouts`.

    Returns
    -------
    xarray.Dataset
        ``r2`` and ``r2_se`` on (edit, reader, stimulus, target).
    """
    with open_reader(model, fitting, Options(**options, layers=layer)) as reader:
        place = reader.layer(layer)
    views = {
        "neighbourhood": _neighbourhood_view(model, fitting, place, stimulus, options),
        "second_order": _standardising_view(model, fitting, place, stimulus, options),
    }
    found = []
    for view in views.values():
        given = {**options, "layout": {layer: view}}
        read = stronger_readouts(
            model,
            reading,
            layer,
            methods="leace",
            ranks=[2],
            stimuli=stimulus,
            fit_stimulus=stimulus,
            **given,
            **readers,
        )
        found.append(read[["r2", "r2_se"]].sel(eraser=0).drop_vars(["method", "n_directions", "eraser"]))
    return xr.concat(found, xr.Variable("edit", list(views)))


def _neighbourhood_view(
    model: nn.Module, images: Any, place: Layer, stimulus: str, options: Mapping[str, Any]
) -> _VIEWED:
    given = {**options, "layout": {place.name: partial(neighbourhoods, layer=place)}}
    statistics = collect(model, images, layers=place.name, stimuli=stimulus, **given)
    return partial(_middle, layer=place, eraser=fit_eraser(statistics, place.name, stimulus=stimulus))


def _middle(output: Tensor, layer: Layer, eraser: Eraser) -> Tensor:
    erased = eraser(neighbourhoods(output, layer=layer))
    return erased.unflatten(1, (layer.n_channels, -1))[:, :, 4]


def _standardising_view(
    model: nn.Module, images: Any, place: Layer, stimulus: str, options: Mapping[str, Any]
) -> _VIEWED:
    count, total, squares = 0, torch.zeros(()), torch.zeros(())

    def reduce(layer: Layer, maps: Tensor) -> tuple[int, Tensor, Tensor]:
        return len(maps), maps.double().sum(dim=0), maps.double().square().sum(dim=0)

    chosen = replace(Options(**options), layers=place.name, stimuli=stimulus)
    with open_reader(model, images, chosen) as reader, reader.reading([reader.layer(place.name)], reduce) as run:
        for _, pixels in reader.batches():
            n_images, summed, squared = run(pixels, stimulus)[place.name]
            count, total, squares = count + n_images, total + summed.cpu(), squares + squared.cpu()
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    common = deviation.square().mean(dim=(1, 2), keepdim=True).sqrt()
    scale = torch.where(deviation > 0, common / deviation, 0.0)
    return partial(_standardised, layer=place, mean=mean, scale=scale)


def _standardised(output: Tensor, layer: Layer, mean: Tensor, scale: Tensor) -> Tensor:
    maps = as_maps(output, layer, [layer.size])
    assert maps is not None
    return (maps - mean.to(maps)) * scale.to(maps) + mean.mean(dim=(1, 2), keepdim=True).to(maps)
