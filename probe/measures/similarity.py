"""How alike the features of an object are wherever in the frame it stands (after Lee, Yang, Wang 2020)."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.axes import axes_of_size, sized
from probe.checks import is_whole, whole_number
from probe.errors import ArgumentError, ImagesError, noting
from probe.images.digests import pixels_digest
from probe.images.shifts import Placements, references_of
from probe.models.capture import reading
from probe.models.first_layers import axes_taken
from probe.models.layers import Layer, layer_named
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import module_names, unwrap
from probe.models.survey import survey_fast
from probe.models.weights import weights_digest
from probe.results import Facts, finish
from probe.sums.gram import summing_dtype

__all__ = ["local_roughness", "shift_similarity"]


def local_roughness(similarity: np.ndarray, n_axes: int = 2) -> np.ndarray:
    """Return how far each value is, on average, from the mean of its two neighbours along each axis.

    A smooth map has none, however far it falls; features that change back and forth with every pixel have much.

    Parameters
    ----------
    similarity
        Shape (..., row, column), or with frames before the rows; at least 3 along each axis.
    n_axes
        How many axes are those of positions.

    Returns
    -------
    numpy.ndarray
        Shape (...).

    Examples
    --------
    >>> local_roughness(np.add.outer(np.arange(5.0), np.arange(4.0))).item()
    0.0
    >>> local_roughness(np.indices((4, 4)).sum(axis=0) % 2).item()
    1.0
    """
    axes = tuple(range(-n_axes, 0))
    total = np.zeros(similarity.shape[:-n_axes])
    for axis in axes:
        along = np.moveaxis(similarity, axis, -1)
        bends = np.abs(along[..., 1:-1] - (along[..., :-2] + along[..., 2:]) / 2)
        total = total + np.moveaxis(bends, -1, axis).mean(axis=axes)
    return total / n_axes


def shift_similarity(
    model: nn.Module,
    objects: Tensor,
    layers: str | Sequence[str] | Mapping[str, str],
    *,
    frame: int | tuple[int, ...] = 225,
    background: float | Sequence[float] = 0.0,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Shift objects over every position of a frame, and compare their features with those at corners and centre.

    The commonest uses::

        probe.shift_similarity(model, objects, "avgpool")
        probe.shift_similarity(model, objects, ["layer3", "layer4"], frame=129)
        probe.shift_similarity(video_model, short_clips, "layer4", frame=(16, 64, 64))

    The features of a layer are its vector, or the mean over its map, which a network that treats all positions alike
    would give unchanged wherever the object stands. They are compared by cosine similarity; only the features at the
    references and one number a shift are kept.

    Parameters
    ----------
    model
        Any eager vision model; it is left as it was found.
    objects
        Shape (object, channel, row, column), as the model takes them; of a model of clips (object, channel, frame,
        row, column), shorter and smaller than what it is shown.
    layers
        Names of layers, whose outputs are vectors or maps; or a mapping from names of your own to names of layers.
    frame
        Rows and columns of the frame, or one number for both; of clips frames, rows and columns of what is shown.
    background
        Value of the frame around the object, or one for each channel, in the units of the objects: after
        normalisation 0 is the mean colour of the data set.
    batch_size
        Shifts at a time.
    device
        As in `probe.collect`.
    seed
        Of random numbers that the model draws in evaluation mode.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        ``similarity`` on (layer, reference, row, column), of clips with ``frame`` before ``row``, from −1 to 1, the
        mean over objects; the references are the corners and the centre. On (layer, reference, object):
        ``global_similarity``, its mean over all positions (1: the layer does not tell position), and
        ``local_roughness``, see `probe.measures.similarity.local_roughness`. NaN where a layer is silent, all features
        0, for the object or at the reference; means are over what is known. Row and column are those of the object's
        upper left pixel, frame that of its first. The attribute ``shifts_per_second`` is what was reached.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError
        Each names the argument or layer, what was found, and the cure.

    References
    ----------
    Lee, Yang, Wang: What Does CNN Shift Invariance Look Like? A Visualization Study. ECCV Workshops 2020.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> for padding in ("circular", "zeros"):
    ...     result = probe.shift_similarity(padded_net(padding), noise_images(1, 4), "conv4", frame=12, progress=False)
    ...     print(padding, result.global_similarity.min().item() > 0.9999)
    circular True
    zeros False
    """
    start = time.monotonic()
    names = {layers: layers} if isinstance(layers, str) else layers
    names = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    model = unwrap(model)
    size = _check(objects, frame, batch_size, axes_taken(model))
    place = resolve_device(device, model)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    objects = objects.to(place, objects.dtype if parameter is None else parameter.dtype)
    try:
        colour = torch.as_tensor(background, device=objects.device).to(objects)
    except (TypeError, ValueError):
        colour = objects.new_empty(0)
    if colour.shape not in ((), (1,), objects.shape[1:2]) or not colour.isfinite().all():
        raise ArgumentError(
            f"background={background!r}: expected a number, or {objects.shape[1]}, one for each channel."
        )
    with borrowed(model, place, seed):
        shifted = [Placements(item, size, colour) for item in objects]
        chosen, memory_format = _survey(model, shifted[0], names)
        shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        with tqdm(
            total=len(objects) * len(shifted[0]), unit="shift", desc="shift similarity", disable=not shown
        ) as bar:
            maps = np.stack([_similarity_of(model, item, chosen, batch_size, memory_format, bar) for item in shifted])
    duration = time.monotonic() - start
    axes = axes_of_size(size)
    result = xr.Dataset(
        {
            "similarity": (("layer", "reference", *axes), _mean_of_known(maps, (0,))),
            "global_similarity": (
                ("object", "layer", "reference"),
                _mean_of_known(maps, tuple(range(-len(axes), 0))),
            ),
            "local_roughness": (("object", "layer", "reference"), local_roughness(maps, len(axes))),
        },
        coords={"layer": list(names), "reference": list(references_of(len(axes)))},
    ).transpose("layer", "reference", *axes, "object")
    facts = Facts(
        model=type(model).__name__,
        weights_digest=weights_digest(model),
        n_images=len(objects),
        images_digest=pixels_digest(objects, range(len(objects))),
        device=str(place),
        seed=seed,
        duration_s=round(duration, 3),
    )
    return finish(
        result,
        kind="similarity",
        facts=facts,
        settings={"layers": names, "background": colour.flatten().tolist(), "batch_size": batch_size},
        n_objects=len(objects),
        frame=list(size),
        object_size=list(objects.shape[2:]),
        shifts_per_second=round(len(objects) * len(shifted[0]) / duration, 1),
    )


def _mean_of_known(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the mean over axes of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axes)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=axes) / np.maximum(count, 1), np.nan)


def _check(objects: Any, frame: int | tuple[int, ...], batch_size: int, n_axes: int | None) -> tuple[int, ...]:
    """Return the size of the frame."""
    if (
        not isinstance(objects, Tensor)
        or objects.ndim not in (4, 5)
        or not objects.is_floating_point()
        or not len(objects)
    ):
        found = tuple(objects.shape) if isinstance(objects, Tensor) else type(objects).__name__
        raise ImagesError(
            "objects: expected a tensor of floats of shape (object, channel, row, column), of clips (object, channel, "
            f"frame, row, column), found {found}. Normalise them as in training."
        )
    own = objects.shape[2:]
    if n_axes not in (None, len(own)):
        taken = (
            "clips (object, channel, frame, row, column)" if n_axes == 3 else "images (object, channel, row, column)"
        )
        raise ImagesError(
            f"objects: found shape {tuple(objects.shape)}, but the model's first convolution takes {taken}. "
            f"{'Make them clips of one frame: objects[:, :, None].' if n_axes == 3 else 'Pass single frames.'}"
        )
    size = tuple(frame) if isinstance(frame, Iterable) else (frame,) * len(own)
    if len(size) != len(own) or not all(is_whole(side) for side in size):
        raise ArgumentError(f"frame={frame!r}: expected one number for each of {', '.join(axes_of_size(own))}.")
    whole_number("batch_size", batch_size, 1)
    if min(whole - side for whole, side in zip(size, own, strict=True)) < 2:
        raise ArgumentError(
            f"frame={size}: objects of {sized(own)} pixels have fewer than 3 positions along a side, which leaves no "
            "roughness to measure. Pass a larger frame or smaller objects."
        )
    return size


def _survey(
    model: nn.Module, placements: Placements, names: Mapping[str, str]
) -> tuple[dict[str, Layer], torch.memory_format]:
    """Find the layers by name, and choose the memory format of the frames."""
    frame = placements.frames(torch.tensor([0], device="cpu"))
    with noting(f"while the model ran on a frame, shape {tuple(frame.shape)}"):
        found, memory_format = survey_fast(model, frame)
    modules = module_names(model)
    return {own: layer_named(name, found, modules) for own, name in names.items()}, memory_format


def _similarity_of(
    model: nn.Module,
    placements: Placements,
    layers: Mapping[str, Layer],
    batch_size: int,
    memory_format: torch.memory_format,
    bar: Any,
) -> np.ndarray:
    """Return the similarity of one object's features, shape (layer, reference, *position)."""

    def direction(layer: Layer, maps: Tensor) -> Tensor:
        features = maps.flatten(2).mean(dim=2, dtype=summing_dtype(maps))
        length = features.norm(dim=1, keepdim=True)
        # Features that are all 0 have no direction: nothing can be said of how alike they are.
        return torch.where(length > 0, features / length, torch.nan)

    def frames(positions: Tensor) -> Tensor:
        return placements.frames(positions).contiguous(memory_format=memory_format)

    similarities: dict[str, list[Tensor]] = {name: [] for name in layers}
    with reading(model, list(layers.values()), direction) as run:
        references = run(frames(placements.references()))
        for positions in torch.arange(len(placements), device="cpu").split(batch_size):
            features = run(frames(positions))
            for name, layer in layers.items():
                similarities[name].append(features[layer.name] @ references[layer.name].T)
            bar.update(len(positions))
    stacked = torch.stack([torch.cat(similarities[name]).T for name in layers])
    return stacked.unflatten(2, placements.grid).double().cpu().numpy()
