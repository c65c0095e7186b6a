"""Statistics -> results: the scores of all layers as labelled arrays, with provenance and warnings."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.axes import AXES, axes_of_size, on_cells
from probe.errors import ArgumentError, IllConditionedError, ImagesError, counted, warn
from probe.images.numbering import first_few
from probe.models.layers import Layer, LayerSelection, select_layers
from probe.readouts.channels import ChannelScores, score_channels
from probe.readouts.scores import ReadoutScores, decode, position_bits, score_readout
from probe.results import FEW_IMAGES, FEW_SAMPLES, finish
from probe.sums.statistics import Statistics, check_folds

__all__ = ["channelwise_result", "check_alpha", "layerwise_result"]

Each = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]

_BY_TARGET = ("r2", "r2_se", "r2_null", "r2_control")
_LARGEST_ERROR = 1.0  # standard error of an R²


def layerwise_result(
    statistics: Statistics, alpha: float, maps: LayerSelection, each: Each = lambda score, keys: list(map(score, keys))
) -> xr.Dataset:
    """Score the readouts of all layers; see `probe.layerwise`.

    Parameters
    ----------
    statistics, alpha, maps
        As there.
    each
        (function, items) -> the function of each item; `probe.reading.ranks.in_turn` where the ranks share them.
    """
    check_alpha(alpha)
    _check_folds(statistics)
    warned: list[str] = []
    _warn_of_missing(statistics, warned)
    keys = [(stimulus, layer) for layer in statistics.layers for stimulus in statistics.stimuli]
    found = each(lambda key: _score(statistics, key[0], key[1], alpha), keys)
    scores = {(stimulus, layer.name): of_layer for (stimulus, layer), (of_layer, _) in zip(keys, found, strict=True)}
    unscored = {layer.name: reason for (_, layer), (_, reason) in zip(keys, found, strict=True) if reason}
    dims = ("layer", "stimulus", "target")

    def stacked(name: str) -> np.ndarray:
        return np.array(
            [
                [getattr(scores[stimulus, layer.name], name) for stimulus in statistics.stimuli]
                for layer in statistics.layers
            ]
        )

    result = xr.Dataset(
        {name: (dims, stacked(name)) for name in _BY_TARGET},
        coords=_layer_coordinates(statistics),
    )
    result["r2_fold"] = ((*dims, "fold"), stacked("r2_fold"))
    result["bits"] = (dims, _bits(result, statistics.layers))
    result["n_dead"] = (dims[:2], stacked("n_dead"))
    finite = [[statistics.grams[s, layer.name].is_finite for s in statistics.stimuli] for layer in statistics.layers]
    result["valid"] = (dims[:2], finite)
    result = result.assign_coords(samples_per_feature=("layer", stacked("samples_per_feature").min(axis=1)))
    for index, layer in _with_maps(statistics, maps):
        for name, variable in _layer_maps(statistics, layer, index, alpha).items():
            result[name] = variable
    _warn_of_layers(result, unscored, statistics.facts.n_images, warned)
    result = _without_untold(result, warned)
    settings = {**statistics.settings, "alpha": alpha}
    return finish(result, kind="layerwise", facts=statistics.facts.warned(warned), settings=settings)


def check_alpha(alpha: float) -> None:
    """Raise an `ArgumentError` unless a penalty is a finite number above 0."""
    if not 0 < alpha < math.inf:
        raise ArgumentError(f"alpha={alpha!r}: expected a number above 0. The default is 1e-3.")


def channelwise_result(statistics: Statistics, maps: LayerSelection) -> xr.Dataset:
    """Score the single channels of all layers; see `probe.channelwise`."""
    _check_folds(statistics)
    warned: list[str] = []
    _warn_of_missing(statistics, warned)
    parts = []
    for layer in statistics.layers:
        scores = [_score_channels(statistics, stimulus, layer) for stimulus in statistics.stimuli]
        channel = xr.Dataset(
            {
                "r2": (("channel", "stimulus", "target"), np.stack([s.r2 for s in scores], axis=1)),
                "r2_se": (("channel", "stimulus", "target"), np.stack([s.r2_se for s in scores], axis=1)),
                "omega2": (("channel", "stimulus"), np.stack([s.omega2 for s in scores], axis=1)),
                "omega2_se": (("channel", "stimulus"), np.stack([s.omega2_se for s in scores], axis=1)),
            },
            coords={
                "layer": ("channel", np.full(layer.n_channels, layer.name)),
                "index": ("channel", np.arange(layer.n_channels)),
                "stimulus": statistics.stimuli,
                "target": statistics.targets,
            },
        )
        parts.append(channel)
    result = xr.concat(parts, dim="channel")
    for index, layer in _with_maps(statistics, maps):
        for name, variable in _layer_maps(statistics, layer, index, None).items():
            result[name] = variable
    _warn_of_channels(result, statistics, warned)
    facts = statistics.facts.warned(warned)
    return finish(result, kind="channelwise", facts=facts, settings=statistics.settings)


def _check_folds(statistics: Statistics) -> None:
    if statistics.grams:
        counts = next(iter(statistics.grams.values())).totals[:, 0]
    else:
        counts = next(iter(statistics.moments.values())).images
    check_folds(counts.tolist(), statistics.facts.n_images)


def _score(statistics: Statistics, stimulus: str, layer: Layer, alpha: float) -> tuple[ReadoutScores, str]:
    """Return the scores of a layer, and why there are none."""
    gram = statistics.grams.get((stimulus, layer.name))
    if gram is None:
        raise ArgumentError("statistics: they hold no Grams. Collect them with probe.collect.")
    n_targets, reason = len(statistics.targets), ""
    if gram.is_finite:
        try:
            return score_readout(gram, n_targets, alpha), ""
        except IllConditionedError as error:
            reason = str(error)
    return ReadoutScores.unknown(n_targets, len(gram.totals)), reason


def _score_channels(statistics: Statistics, stimulus: str, layer: Layer) -> ChannelScores:
    with np.errstate(invalid="ignore"):  # channels that are not finite are NaN in the end
        return score_channels(statistics.moments[stimulus, layer.name])


def _layer_coordinates(statistics: Statistics) -> dict[str, Any]:
    layers = statistics.layers
    facts = {
        name: ("layer", [getattr(layer, name) for layer in layers])
        for name in ("module_type", "call", "n_channels", "height", "width", "layout")
    }
    if any(len(layer.size) == len(AXES) for layer in layers):
        facts["frames"] = ("layer", [layer.frames for layer in layers])
    return {
        "layer": [layer.name for layer in layers],
        "stimulus": statistics.stimuli,
        "target": statistics.targets,
        "fold": np.arange(statistics.settings["folds"]),
        "depth": ("layer", [layer.depth for layer in layers]),
        **facts,
    }


def _bits(result: xr.Dataset, layers: Sequence[Layer]) -> np.ndarray:
    bits = np.full(result.r2.shape, np.nan)
    for index, target in enumerate(result.target.values):
        for place, layer in enumerate(layers):
            length = dict(zip(axes_of_size(layer.size), layer.size, strict=True)).get(target)
            if length is not None:
                bits[place, :, index] = position_bits(result.r2.values[place, :, index], length)
    return bits


def _with_maps(statistics: Statistics, maps: LayerSelection) -> Iterator[tuple[int, Layer]]:
    """Yield the layers whose maps are wanted, with their place in the result."""
    if isinstance(maps, Sequence) and not maps:
        return
    available = {name for _, name in statistics.moments}
    wanted, _ = select_layers(maps, [layer for layer in statistics.layers if layer.name in available], {})
    for index, layer in enumerate(statistics.layers):
        if layer in wanted:
            yield index, layer


def _layer_maps(statistics: Statistics, layer: Layer, index: int, alpha: float | None) -> dict[str, xr.Variable]:
    """Return the mean map of a layer and, given `alpha`, what the readouts decode from it."""
    means, decoded = [], []
    n_targets = len(statistics.targets)
    offsets = np.array(statistics.settings["target_offsets"][layer.name])[on_cells(layer.size)]
    for stimulus in statistics.stimuli:
        mean_map = _score_channels(statistics, stimulus, layer).mean_map
        if mean_map is None:
            raise ImagesError(f"maps: {layer.name} has maps of several sizes. Bring the images to one size.")
        means.append(mean_map)
        if alpha is not None:
            gram = statistics.grams[stimulus, layer.name]
            unknown = np.full((n_targets, *mean_map.shape[1:]), np.nan)
            decoded.append(decode(gram, mean_map, n_targets, alpha) + offsets if gram.is_finite else unknown)
    axes = [f"{axis}_{index}" for axis in axes_of_size(layer.size)]
    found = {f"mean_map_{index}": xr.Variable(("stimulus", f"channel_{index}", *axes), means)}
    if decoded:
        found[f"decoded_map_{index}"] = xr.Variable(("stimulus", "target", *axes), decoded)
    for variable in found.values():
        variable.attrs["layer"] = layer.name
    return found


def _first_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _warn_of_missing(statistics: Statistics, warned: list[str]) -> None:
    if missing := statistics.missing:
        total = sum(map(len, statistics.expected))
        warn(f"statistics: {first_few(missing)} of {total} are missing: those of shards that were not merged.", warned)


def _warn_of_layers(result: xr.Dataset, unscored: dict[str, str], n_images: int, warned: list[str]) -> None:
    names = result.layer.values
    if len(unscored) == len(names):
        raise IllConditionedError(next(iter(unscored.values())))
    for reason in dict.fromkeys(unscored.values()):
        layers = [name for name in unscored if unscored[name] == reason]
        warn(f"not scored: {_first_names(layers)}: {reason}", warned)
    valid = result.valid.values.all(axis=1)
    if not valid.all():
        warn(f"not finite: {_first_names(names[~valid])} gave NaN or infinity and is not scored.", warned)
    few = result.samples_per_feature.values < FEW_SAMPLES
    if few.any():
        warn(
            f"fewer than {FEW_SAMPLES} samples a feature in {_first_names(names[few])}: r2 underestimates what can be "
            "read there. Pass more images, or positions=None.",
            warned,
        )
    warn_of_few_images(n_images, warned)
    dead = result.n_dead.values.max(axis=1)
    if dead.any():
        n_dead = dead.sum()
        what = f"{counted(n_dead, 'channel')} {'does not vary and is' if n_dead == 1 else 'do not vary and are'}"
        warn(f"{what} left out, in {_first_names(names[dead > 0])}.", warned)
    constant = np.isnan(result.r2.values).all(axis=1) & valid[:, None] & ~np.isin(names, list(unscored))[:, None]
    for index in np.flatnonzero(constant.any(axis=0)):
        target = str(result.target.values[index])
        warn(f"target {target!r} is constant on the grid of {_first_names(names[constant[:, index]])}: NaN.", warned)


def warn_of_few_images(n_images: int, warned: list[str]) -> None:
    """Warn where errors and intervals are of too few images."""
    if n_images < FEW_IMAGES:
        warn(
            f"{n_images} images: cells of one image are alike, so that errors and intervals from fewer than "
            f"{FEW_IMAGES} images are rough. Pass more images.",
            warned,
        )


def _without_untold(result: xr.Dataset, warned: list[str]) -> xr.Dataset:
    """Take for unknown what was measured with an error that is larger than any R² can be.

    Where images are so few that readouts go astray on others, the product of two errors is anything from minus to plus
    thousands.
    """
    is_told = ~(result.r2_se > _LARGEST_ERROR)
    if is_told.all():
        return result
    layers = result.layer.values[~is_told.all(["stimulus", "target"]).values]
    warn(
        f"r2 of {_first_names(layers)} cannot be told from so few images: its error is above {_LARGEST_ERROR:g}, so it "
        "is NaN. Pass more images.",
        warned,
    )
    names = [*_BY_TARGET, "r2_fold", "bits"]
    return result.assign({name: result[name].where(is_told) for name in names})


def _warn_of_channels(result: xr.Dataset, statistics: Statistics, warned: list[str]) -> None:
    several = [
        layer.name for layer in statistics.layers if statistics.moments[statistics.stimuli[0], layer.name].maps is None
    ]
    if several:
        warn(f"omega2 and maps need images of one size; omega2 is NaN in {_first_names(several)}.", warned)
    unknown = np.isnan(result.r2.values).all(axis=(1, 2))
    if unknown.any():
        layers = list(dict.fromkeys(result.layer.values[unknown]))
        warn(f"{unknown.sum()} channels do not vary or are not finite: NaN, in {_first_names(layers)}.", warned)
