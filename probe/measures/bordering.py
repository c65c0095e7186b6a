"""How far from its border a map changes, beside how far its windows read beyond it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.axes import AXES
from probe.errors import ArgumentError, ImagesError, ModelError, warn
from probe.images.batches import check_reread
from probe.images.rows import Transform
from probe.intervals import half_width
from probe.measures.scoring import warn_of_few_images
from probe.models.first_layers import axes_taken
from probe.models.layers import INPUT, Layer, LayerSelection
from probe.models.loan import Forward
from probe.models.modules import unwrap
from probe.models.survey import LayoutOption, survey
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.reading.reader import Reader, open_reader
from probe.readouts.borders import BorderScores, score_border
from probe.results import finish
from probe.sums.statistics import Statistics, check_folds
from probe.windows.crops import SIDES, align, by_distance, middle_third, reading_beyond

__all__ = ["border_profile"]

_MARGIN = 64  # pixels, which total strides divide
_FEWEST_FOLDS = 3  # of two, one is left when an error is estimated, and a fold has no other


def border_profile(
    model: nn.Module,
    images: Any,
    *,
    layers: LayerSelection = "auto",
    stimuli: str | Iterable[str] = ("natural", "rolled"),
    threshold: float = 0.01,
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how the maps of a model change towards their border, and how far that reaches.

    The commonest uses::

        probe.border_profile(model, images)
        probe.border_profile(model, "photos/", layers=["layer1", "layer4"], transform=transform)
        probe.border_profile(model, images, stimuli="rolled", threshold=0.05)

    At each distance from a side, in the middle third along it, the mean activation over images is compared with its
    mean in the middle of the map. On ``rolled`` images content is the same everywhere, so that what changes is due to
    the architecture: near the border alone where it comes from padding, everywhere where it comes from an embedding.

    Parameters
    ----------
    model, images, layers, stimuli, folds, groups, batch_size, num_workers, device, autocast, transform, input_key, \
layout, forward, max_images, seed, progress
        As in `probe.collect`; three folds or more, images of one size. Kept are the mean maps of every fold: for many
        layers of large maps name some in `layers`.
    threshold
        Change from which on it counts for the reach.

    Returns
    -------
    xarray.Dataset
        On (layer, stimulus, distance), distance in cells from 0 at the border: ``change``, the squared difference of
        the mean activation from that in the middle over the channel's variance, mean over channels and sides. 0 in
        expectation where position plays no part, and then also negative; 1 where it changes as much as the channel
        varies at all. ``change_se``: its standard error (jackknife over folds of images;
        without a change 1.6 times too large for five folds). ``side_change`` and
        ``side_change_se``: the same on each side. On (layer, stimulus): ``reach``, the pixels from the border within
        which the lower end of the 95 % interval of the change on some side exceeds the threshold; 0 if nowhere. On
        (layer, side): ``window_reach``, the pixels from the border within which a cell's windows can read beyond it;
        NaN behind attention, or where the model takes no larger image. The attribute ``middle`` is how many pixels the
        middle is from the nearest border, beyond which neither reaches; the coordinate ``cell`` on (layer, axis) how
        many pixels one cell is from the next. NaN beyond the middle, and where no channel varies.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Warns
    -----
    ProbeWarning
        If it is not known how far windows read, or there are fewer than 20 images.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.border_profile(
    ...     padded_net("zeros", depth=2), noise_images(100, 24), stimuli="rolled", progress=False
    ... )
    >>> result.reach.sel(layer=["conv1", "conv2"]).values.ravel(), result.window_reach.sel(side="top").values
    (array([0., 1.]), array([0., 1., 2.]))
    """
    options = Options(
        layers=layers, stimuli=stimuli, folds=folds, groups=groups, batch_size=batch_size, num_workers=num_workers,
        device=device, autocast=autocast, transform=transform, input_key=input_key, layout=layout, forward=forward,
        max_images=max_images, seed=seed, progress=progress, task="border",
    )  # fmt: skip
    if folds < _FEWEST_FOLDS:
        raise ArgumentError(f"folds={folds}: expected {_FEWEST_FOLDS} or more, whose means are compared.")
    if not (isinstance(threshold, int | float) and 0 < threshold < np.inf):
        raise ArgumentError(f"threshold={threshold!r}: expected a number above 0.")
    check_reread(images, "windows are followed on the first one after they are measured")
    _check_flat(len(AXES) if axes_taken(unwrap(model)) == len(AXES) else 2)
    statistics, _ = collect_statistics(model, images, options, grams=False, moments=True)
    _check_flat(max(len(layer.size) for layer in statistics.layers))
    warned: list[str] = []
    with open_reader(model, images, options) as reader:
        size = next((layer.height, layer.width) for layer in reader.found if layer.name == INPUT)
        readable = _readable(reader, statistics.layers, warned)
    result = _profiles(statistics, size, threshold, folds)
    warn_of_few_images(statistics.facts.n_images, warned)
    result["window_reach"] = (
        ("layer", "side"),
        [
            np.minimum(readable.get(layer.name, np.full(len(SIDES), np.nan)) * _pixels(layer, size), min(size) / 2)
            for layer in statistics.layers
        ],
        {"long_name": "distance from the border within which windows read beyond it", "units": "pixel"},
    )
    return finish(
        result,
        kind="border_profile",
        facts=statistics.facts.warned(warned),
        settings={**statistics.settings, "threshold": threshold},
        threshold=float(threshold),
        middle=min(size) / 2,
        folds=folds,
    )


def _check_flat(n_axes: int) -> None:
    """Refuse maps with frames: a distance is in pixels, and from the first or last frame it would be in frames."""
    if n_axes > 2:
        raise ArgumentError(
            "model: it takes clips, whose maps have frames; the distance from the border is in pixels, of rows and "
            "columns alone. probe.layerwise measures clips with the target 'border', and probe.audit follows windows."
        )


def _cell(layer: Layer, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels from one cell to the next along rows and columns."""
    return np.array([size[0] / layer.height, size[1] / layer.width])


def _pixels(layer: Layer, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels from one cell to the next, seen from each side."""
    return np.repeat(_cell(layer, size), 2)


def _readable(reader: Reader, layers: Sequence[Layer], warned: list[str]) -> dict[str, np.ndarray]:
    """Return within how many cells of each side windows can read beyond it, as far as they can be followed."""
    found = {layer.name: layer for layer in reader.found}
    pixels = found.pop(INPUT)
    larger = [length + 2 * _MARGIN for length in (pixels.height, pixels.width)]
    outside = torch.ones(1, pixels.n_channels, *larger, device=reader.device)
    outside[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 0
    known = {INPUT: np.zeros(len(SIDES))}
    try:
        dtype = next((p.dtype for p in reader.model.parameters() if p.is_floating_point()), torch.float32)
        in_context = survey(reader.model, torch.zeros_like(outside, dtype=dtype))
        chosen = [layer for layer in in_context if layer.name in {one.name for one in layers} - {INPUT}]
        sites, skipped = align(list(found.values()), chosen, margin=_MARGIN)
        known |= reading_beyond(reader.model, sites, outside)
    except ModelError as error:
        warn(f"window_reach: paths cannot be counted: {str(error).partition(chr(10))[0]}", warned)
        return known
    except Exception as error:  # whatever the model's own code raises at a size that it cannot take
        warn(
            f"window_reach: not known, since the model takes no image of {larger[0]}×{larger[1]} pixels: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            warned,
        )
        return known
    if skipped:
        warn(f"window_reach: not known: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}.", warned)
    return known


def _profiles(statistics: Statistics, size: tuple[int, int], threshold: float, folds: int) -> xr.Dataset:
    layers, stimuli = statistics.layers, statistics.stimuli
    if counts := [name for (_, name), moments in statistics.moments.items() if moments.maps is None]:
        raise ImagesError(
            f"images: of several sizes, so that {counts[0]} has no mean map. Pass images of one size, or a transform "
            "that crops them."
        )
    check_folds(next(iter(statistics.moments.values())).images.tolist(), statistics.facts.n_images)
    scores: dict[tuple[str, str], BorderScores] = {}
    for layer in layers:
        cells, middle = by_distance(layer.height, layer.width), middle_third(layer.height, layer.width)
        for stimulus in stimuli:
            scores[layer.name, stimulus] = score_border(statistics.moments[stimulus, layer.name], cells, middle)
    longest = max(one.change.size for one in scores.values())

    def stacked(name: str) -> np.ndarray:
        values = [getattr(scores[layer.name, stimulus], name) for layer in layers for stimulus in stimuli]
        missing = [[(0, 0)] * (one.ndim - 1) + [(0, longest - one.shape[-1])] for one in values]
        filled = [np.pad(one, width, constant_values=np.nan) for one, width in zip(values, missing, strict=True)]
        return np.stack(filled).reshape(len(layers), len(stimuli), *filled[0].shape)

    pixels = np.array([_pixels(layer, size) for layer in layers])
    by_side, by_side_se = stacked("by_side"), stacked("by_side_se")
    low = by_side - half_width(by_side_se, folds - 1)
    ends = np.where(low > threshold, pixels[:, None, :, None] * (1 + np.arange(longest)), 0).max(axis=(2, 3))
    ends = np.minimum(ends, min(size) / 2)
    what = "squared change of the mean activation over the variance"
    dims = ("layer", "stimulus", "distance")
    of_sides = ("layer", "stimulus", "side", "distance")
    return xr.Dataset(
        {
            "change": (dims, stacked("change"), {"long_name": what, "units": "1"}),
            "change_se": (dims, stacked("change_se"), {"long_name": f"standard error: {what}", "units": "1"}),
            "side_change": (of_sides, by_side, {"long_name": f"{what}, by side", "units": "1"}),
            "side_change_se": (of_sides, by_side_se, {"long_name": f"standard error: {what}, by side", "units": "1"}),
            "reach": (
                ("layer", "stimulus"),
                np.where(np.isfinite(by_side).any(axis=(2, 3)), ends, np.nan),
                {"long_name": "distance within which the change exceeds the threshold", "units": "pixel"},
            ),
        },
        coords={
            "layer": [layer.name for layer in layers],
            "stimulus": stimuli,
            "side": list(SIDES),
            "distance": np.arange(longest),
            "axis": ["row", "column"],
            "cell": (("layer", "axis"), [_cell(layer, size) for layer in layers]),
        },
    )  # fmt: skip
