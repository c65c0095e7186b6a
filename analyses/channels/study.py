"""Which channels of a layer carry position, whether rankings agree on them, and whether the model needs them."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.ablation.curves import ablation_curve, asked_scores
from probe.ablation.hooks import ablate
from probe.ablation.replacement import AblationMode
from probe.analyses.channels.examples import find_examples
from probe.analyses.data.shown import shown_images
from probe.errors import ArgumentError, ImagesError, ProbeWarning, warn
from probe.images.batches import check_reread
from probe.measures.probing import channelwise, layerwise, list_layers
from probe.ranking.agreement import compare_rankings, ranking_name
from probe.ranking.methods import rank_channels
from probe.reading.options import Options
from probe.results import Facts, finish, layer_map

__all__ = ["METHODS", "run"]

ANALYSIS = "channels"
METHODS = ("flip", "shift", "omega2", "readout", "attribution")
"""The rankings of the report; ``flip-left`` and the like name a side, ``flip-vertical`` and ``flip-both`` an axis."""

_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of all channels
_FOLDS = 10  # of the images that are scored, for the errors
_READOUT_IMAGES = 500
_READOUT_DRAWS = 3
_STIMULI = ("natural", "rolled")
_READ = ["r2", "r2_se", "r2_fold"]
_AXES = {"left": "horizontal", "right": "horizontal", "top": "vertical", "bottom": "vertical"}


def run(
    model: nn.Module,
    images: Any,
    eval_images: Any,
    *,
    layer: str,
    score: Any = "accuracy",
    methods: Sequence[str] = METHODS,
    counts: Sequence[int] | None = None,
    draws: int = 20,
    mode: AblationMode = "zero",
    strongest: int = 6,
    examples: int = 3,
    max_images: int | None = None,
    max_eval_images: int | None = None,
    eval_groups: Sequence[Any] | None = None,
    transform: Callable[[Any], Any] | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    seed: int = 0,
    command: str = "",
    progress: bool = True,
) -> xr.Dataset:
    """Rank the channels of a layer on one set of images, remove them, and score the model on another.

    Parameters
    ----------
    model
        A trained model.
    images
        What the channels are ranked on, as in `probe.collect`, of one size; read several times, so no generator.
    eval_images
        What the model is scored on; with labels, where the score needs them.
    layer
        Whose channels.
    score
        One or several, as in `probe.ablation_curve`. The findings speak of the first; names that end with a side,
        such as ``miou:left``, are compared side with side.
    methods
        Rankings: a method of `probe.rank_channels`, alone or with an axis or a side, such as ``flip-vertical`` or
        ``flip-left``. The findings speak of the first.
    counts
        How many channels to remove; by default from a thirty-second to three quarters of all.
    draws, mode, seed
        As in `probe.ablation_curve`.
    strongest
        Of so many channels ranked first the maps are kept.
    examples
        Of so many images that move each of them most, a small copy is kept; 0 keeps none.
    max_images, max_eval_images
        As in `probe.collect`, for either set.
    eval_groups
        One label an image that is scored; those of one label, as frames of one video, share a fold of the errors
        and of the position readouts.
    transform, batch_size, device
        As in `probe.collect`.
    command
        The command that was given, for the record.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        On (ranking, channel): ``channel_score``, ``channel_rank``; how far rankings agree: ``correlation``,
        ``overlap``, ``overlap_expected`` (top is called ``n_first``), ``stability``; the curves of
        `probe.ablation_curve` on (ranking, score, count); ``r2``, ``r2_se``, ``r2_fold``
        and ``r2_random`` of the position readouts from `layer` on, on (removed, layer, stimulus, target), from at most
        500 images, with their ``samples_per_feature``; ``mean_map`` and ``example_image`` of the channels ranked first;
        and ``shown_image``, a few images as the network was shown them.

    Raises
    ------
    ArgumentError
        If a method is unknown, a count too large, or `images` a generator.
    ProbeError
        As `probe.rank_channels` and `probe.ablation_curve` raise it.
    """
    started = time.monotonic()
    reading: dict[str, Any] = {
        "batch_size": batch_size,
        "device": device,
        "transform": transform,
        "seed": seed,
        "progress": progress,
    }
    on_images = {**reading, "max_images": max_images}
    on_eval = {**reading, "max_images": max_eval_images}
    asked_scores(score)
    if eval_groups is not None and (n_groups := len(set(eval_groups))) < _FOLDS:
        raise ArgumentError(
            f"eval_groups: {n_groups} distinct labels are too few for {_FOLDS} folds. Make more of them."
        )
    warned: list[str] = []
    if (folder := _folder(images)) is not None and folder == _folder(eval_images):
        warn("eval_images: the folder that channels are ranked on, which favours the ranking. Score on others.", warned)
    rankings: dict[str, xr.Dataset] = {}
    for ranking in _rank(model, images, layer, methods, on_images):
        numbers = _counts(counts, ranking.sizes["channel"])
        rankings[ranking_name(ranking)] = ranking
    main = next(iter(rankings.values()))
    layer, n_channels = str(main.attrs["layer"]), main.sizes["channel"]
    removed = max([count for count in numbers if count <= n_channels / 2], default=numbers[0])
    ablation = {"score": score, "counts": numbers, "draws": draws, "mode": mode, "folds": _FOLDS, **on_eval}
    ablation["groups"] = eval_groups
    first = main["index"].values[: min(strongest, n_channels)]
    with _naming_eval_images():
        curves = _curves(model, eval_images, rankings, ablation)
        positions = _positions(model, eval_images, main, layer, removed, mode, {**on_eval, "groups": eval_groups})
    parts = [
        _rankings(rankings),
        _agreement(rankings, numbers),
        curves,
        positions,
        _mean_maps(model, images, layer, first, on_images),
        find_examples(model, images, layer, first, count=examples, **on_images),
        shown_images(images, Options(**on_images)),
    ]
    result = xr.merge(parts, combine_attrs="override", compat="override", join="outer")
    facts = replace(Facts.of(main), duration_s=round(time.monotonic() - started, 1), warnings=tuple(warned))
    return finish(
        result,
        kind="channels",
        facts=facts.warned(_warnings([*rankings.values(), curves, positions])),
        settings={"methods": list(methods), "counts": numbers, "draws": draws, "mode": mode, "seed": seed},
        command=command,
        analysis=ANALYSIS,
        layer=layer,
        removed=removed,
        sharing=curves.attrs["sharing"],
        folds=curves.attrs["folds"],
        eval_n_images=curves.attrs["n_images"],
        eval_images_digest=curves.attrs["images_digest"],
    )


def _folder(images: Any) -> Path | None:
    """Return the folder that images come from, if it is known."""
    root = images if isinstance(images, str | Path) else getattr(images, "root", None)
    return Path(root).resolve() if isinstance(root, str | Path) else None


@contextmanager
def _naming_eval_images() -> Iterator[None]:
    """Tell faults of the images that are scored on as those of their argument."""
    try:
        yield
    except ImagesError as error:
        if str(error).startswith("images"):
            raise ImagesError(f"eval_{error}") from error
        raise


def _rank(
    model: nn.Module, images: Any, layer: str, methods: Sequence[str], options: Mapping[str, Any]
) -> Iterator[xr.Dataset]:
    """Yield a ranking by every method."""
    if isinstance(methods, str) or not methods:
        raise ArgumentError(f"methods={methods!r}: expected a list of rankings, such as {', '.join(METHODS)}.")
    check_reread(images, "each ranking reads them anew")
    for name in methods:
        method, _, variant = name.partition("-")
        about: dict[str, Any] = {}
        if variant:
            about = {"axis": _AXES.get(variant, variant), "region": variant if variant in _AXES else None}
        yield rank_channels(model, images, layer, method=method, **about, **options)


def _counts(counts: Sequence[int] | None, n_channels: int) -> list[int]:
    if counts is None:
        return sorted({max(1, round(share * n_channels)) for share in _SHARES})
    if not counts or min(counts) < 1 or max(counts) > n_channels:
        raise ArgumentError(f"counts={counts!r}: expected numbers of channels from 1 to {n_channels}, all there are.")
    return sorted({int(count) for count in counts})


def _rankings(rankings: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return scores and ranks of all channels, in the order of the channels."""
    ordered = [ranking.sortby("index") for ranking in rankings.values()]
    return xr.Dataset(
        {
            "channel_score": (
                ("ranking", "channel"),
                [ranking.score.values for ranking in ordered],
                {"long_name": "score of each channel by each ranking", "units": "that of the ranking"},
            ),
            "channel_rank": (
                ("ranking", "channel"),
                [ranking["rank"].values for ranking in ordered],
                dict(ordered[0]["rank"].attrs),
            ),
            "stability": (
                "ranking",
                [float(ranking.stability) for ranking in ordered],
                dict(ordered[0].stability.attrs),
            ),
        },
        coords={"ranking": list(rankings), "channel": np.arange(ordered[0].sizes["channel"])},
    )


def _agreement(rankings: Mapping[str, xr.Dataset], counts: Sequence[int]) -> xr.Dataset:
    if len(rankings) < 2:
        return xr.Dataset()
    agreement = compare_rankings(*rankings.values(), top=counts)
    return agreement[["correlation", "overlap", "overlap_expected"]].rename(top="n_first")


def _curves(
    model: nn.Module,
    images: Any,
    rankings: Mapping[str, xr.Dataset],
    options: Mapping[str, Any],
) -> xr.Dataset:
    """Return the ablation curves of all rankings, each beside random draws and beside its own matched draws."""
    return ablation_curve(model, images, dict(rankings), controls=["random", "matched"], **options)


def _positions(
    model: nn.Module,
    images: Any,
    ranking: xr.Dataset,
    layer: str,
    removed: int,
    mode: AblationMode,
    options: Mapping[str, Any],
) -> xr.Dataset:
    """Read position from the layer on, before and after ranked channels, or as many random ones, are removed."""
    generator = np.random.default_rng(options["seed"])
    numbers = ranking["index"].values
    random = [generator.choice(numbers, removed, replace=False) for _ in range(_READOUT_DRAWS)]
    options = {**options, "max_images": min(options["max_images"] or _READOUT_IMAGES, _READOUT_IMAGES)}
    layers = _from_layer_on(model, images, layer, options)

    def read(channels: Any) -> xr.Dataset:
        # What is removed does not vary, of which the readouts would warn; all else they warned of before.
        silently = warnings.catch_warnings(action="ignore", category=ProbeWarning)
        with silently, ablate(model, {layer: channels}, mode=mode):
            return layerwise(model, images, layers=layers, stimuli=_STIMULI, **options)

    before = layerwise(model, images, layers=layers, stimuli=_STIMULI, **options)
    after, *others = (read(channels) for channels in (numbers[:removed], *random))
    ours = xr.concat([before[_READ], after[_READ]], "removed", combine_attrs="override")
    theirs = xr.concat([other.r2 for other in others], "readout_draw", combine_attrs="override")
    known = ours.assign(r2_random=theirs).assign_coords(removed=["nothing", "ranked"])
    known.r2_random.attrs = {"long_name": "R² of position without random channels", "units": "1"}
    kept = {*known.dims, "samples_per_feature"}
    known = known.drop_vars([name for name in known.coords if name not in kept])
    known.attrs["warnings"] = before.attrs["warnings"]
    return known


def _from_layer_on(model: nn.Module, images: Any, layer: str, options: Mapping[str, Any]) -> list[str]:
    """Return the layer and, of those behind it, all that are read by default."""
    table = list_layers(model, images, device=options["device"], transform=options["transform"])
    names = list(table.index)
    behind = table.iloc[names.index(layer) + 1 :]
    return [layer, *behind.index[behind.auto & (behind.note == "")]]


def _mean_maps(
    model: nn.Module, images: Any, layer: str, channels: np.ndarray, options: Mapping[str, Any]
) -> xr.Dataset:
    measured = channelwise(model, images, layers=layer, stimuli=_STIMULI, maps=layer, **options)
    maps = layer_map(measured, "mean_map", layer).isel(channel=channels)
    variable = (("stimulus", "strongest", "row", "column"), maps.transpose("stimulus", "channel", ...).values)
    return xr.Dataset({"mean_map": variable}, coords={"stimulus": list(_STIMULI), "strongest": channels})


def _warnings(results: Sequence[xr.Dataset]) -> list[str]:
    """Return what the measurements warned of, each once."""
    return list(dict.fromkeys(message for result in results for message in json.loads(result.attrs["warnings"])))
