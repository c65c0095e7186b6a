"""What a model loses as its channels are taken away, beside what it loses without random ones."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.ablation.estimates import mean_activity, score_settings
from probe.ablation.hooks import AblationMode, check_channels, replacement_for
from probe.ablation.later_readouts import Estimates, later_readouts
from probe.ablation.performance import Score, resolve_scores
from probe.ablation.plans import CONTROLS, check_counts, plan_removals
from probe.errors import ArgumentError, ImagesError, warn
from probe.images.batches import Transform
from probe.intervals import jackknife
from probe.models.capture import LayoutOption
from probe.models.layers import Layer
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.results import describe, versions

__all__ = ["ablation_curve", "asked_scores"]

_POSITION = "position"
_ONLY = ""

Ranking = xr.Dataset | Sequence[int]


def ablation_curve(
    model: nn.Module,
    images: Any,
    ranking: Ranking | dict[str, Ranking],
    *,
    score: Any,
    counts: Sequence[int],
    draws: int = 20,
    mode: AblationMode = "zero",
    reference: xr.Dataset | None = None,
    layer: str | None = None,
    controls: Iterable[str] = CONTROLS,
    folds: int = 10,
    groups: Sequence[Any] | np.ndarray | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | None = None,
    layout: LayoutOption = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure what a model loses without the channels that rank first, last, or at random.

    What precedes the layer is computed once for many settings, wherever the model allows.

    Parameters
    ----------
    model
        As in `collect`.
    images
        As in `collect`, other ones than the ranking was made on. Scores that need labels take them from rows (image,
        label) or mappings with ``label``, ``labels``, ``target`` or ``mask``; labels that are no class of the model
        are void. Matched draws and the position score read the images more than once.
    ranking
        From `rank_channels`, or all channel numbers of `layer`, the strongest first; or a dict of several, by name,
        which then share the random draws and all that precedes the layer.
    score
        One or several of ``"accuracy"`` (images or pixels), ``"miou"`` (all pixels), ``"miou:left"``,
        ``"miou:centre"`` and ``"miou:right"`` (thirds of the columns), ``"agreement"`` (share of predictions that a
        random circular shift does not change) and ``"position"`` (mean R² of row and column, read from rolled images
        at each later layer: ``position:NAME``); or ``{name: function}``, (output,) or (output, labels) -> a value for
        each image; or ``{name: probe.ablation.performance.MeanIoU(mask)}``.
    counts
        Numbers of channels to remove.
    draws
        Number of random draws, at least 2; fewer than 20 give a rough band.
    mode, reference
        As in `ablate`. ``"resample"`` takes values from the next image among those that run together, at least two.
    layer
        Name of the layer, if `ranking` does not tell it.
    controls
        ``"random"`` channels of the layer, and ``"matched"`` ones, drawn so that each channel removed first is
        replaced by one of the same decile of mean |activation|: in a narrow layer, or at large counts, often by
        itself. One of the two, or both.
    folds, groups
        The standard errors are a jackknife over these folds of images; see `collect`. Frames of one video belong in
        one group.
    batch_size
        How many images, or copies of one without other channels, the model is shown at a time.
    num_workers, device, autocast, transform, input_key, layout, max_images, progress
        As in `collect`.
    seed
        Of the draws and the shifts.

    Returns
    -------
    xarray.Dataset
        On ``score``: ``intact``; on (score, count): ``top``, ``bottom``, ``top_minus_random`` and
        ``top_minus_matched`` (from the mean of the draws), each with its standard error ``…_se``, paired over images;
        on (score, draw, count): ``random``, ``matched``. The errors of differences include that of the mean over
        draws. Of several rankings, on ``ranking`` besides, but for ``intact`` and ``random``, which they share. The
        attribute ``sharing`` tells how the computation before the layer was shared.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.ablation_curve(
    ...     CoordinateNet(), noise_images(20), [3, 4, 0, 1, 2], layer="identity", counts=[2], draws=2,
    ...     score={"row": lambda output: output[:, 3].std(dim=(1, 2))}, progress=False,
    ... )
    >>> result.intact.values.round(2), result.top.values.round(2)
    (array([0.58]), array([[0.]]))
    """
    rankings = dict(ranking) if isinstance(ranking, dict) else {_ONLY: ranking}
    name = _common_layer(rankings, layer)
    scores, by_position = asked_scores(score)
    controls = _check_controls(controls, draws)
    options = Options(
        layers=name, folds=folds, groups=groups, batch_size=batch_size, num_workers=num_workers, device=device,
        autocast=autocast, transform=transform, input_key=input_key, layout=layout, max_images=max_images, seed=seed,
        progress=progress,
    )  # fmt: skip
    reads_again = ["matched"] * ("matched" in controls) + [_POSITION] * by_position
    if reads_again and hasattr(images, "__next__"):
        raise ImagesError(
            f"images: {' and '.join(reads_again)} must read them several times, and an iterator gives them once. Pass "
            "a tensor, Dataset, DataLoader or folder, or controls=['random']."
        )
    strengths = mean_activity(model, images, options, name) if "matched" in controls else None
    with open_reader(model, images, options, labels=any(each.needs_labels for each in scores.values())) as reader:
        place = reader.layer(name)
        numbers = check_counts(counts, place.n_channels)
        plan = {
            (which, part): removed
            for which, each in rankings.items()
            for part, removed in plan_removals(_order(each, place), numbers, draws, seed, strengths).items()
            if part in (*_SPOKEN, *controls)
        }
        settings, whereabouts = _distinct(plan)
        replacement = replacement_for(place, mode, reference)
        behind = [later for later in reader.layers("auto")[0] if later.depth > place.depth]
        if by_position and not behind:
            raise ArgumentError(
                f"score='position': no layer behind {place.name} has maps to read position from. "
                "Choose an earlier layer, or another score."
            )
        estimates, sharing = score_settings(reader, options, replacement, settings, scores)
        facts = reader.facts()
    if by_position:
        sharing += "; position: not shared, one pass for each setting"
        readouts = later_readouts(
            model, images, options, layer=place, behind=behind, settings=settings, mode=mode, reference=reference
        )
        estimates |= {f"{_POSITION}:{later}": found for later, found in readouts.items()}
    curves = []
    for which, each in rankings.items():
        places = {part: found for (owner, part), found in whereabouts.items() if owner == which}
        scored = [_curve(found, places, controls) for found in estimates.values()]
        curve = xr.concat(scored, xr.Variable("score", list(estimates))).assign_coords(count=numbers)
        _warn(curve, each, facts)
        curves.append(curve)
    result = _joined(curves, list(rankings)) if isinstance(ranking, dict) else curves[0]
    methods = ", ".join(_method(each) for each in rankings.values())
    named = {"layer": place.name, "method": methods, "mode": mode, "sharing": sharing}
    provenance = {
        **named,
        **facts,
        "folds": len(next(iter(estimates.values())).left_out),
        "settings": {
            "counts": numbers, "draws": draws, "controls": list(controls), "folds": folds, "batch_size": batch_size,
            "groups": groups is not None, "reference": reference is not None,
            "autocast": options.precision and str(options.precision),
        },
        "versions": versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    return describe(result, provenance)


def asked_scores(score: Any) -> tuple[dict[str, Score], bool]:
    """Return the scores of the model's output that are asked for, by name, and whether the position readouts are.

    Raises
    ------
    ArgumentError
        If there is none, or one is unknown.
    """
    asked = [score] if isinstance(score, str | Mapping) or not isinstance(score, Iterable) else list(score)
    if not asked:
        raise ArgumentError(f"score={score!r}: expected at least one score, such as 'accuracy'.")
    return resolve_scores([item for item in asked if item != _POSITION]), _POSITION in asked


def _common_layer(rankings: Mapping[str, Ranking], layer: str | None) -> str:
    names = list(dict.fromkeys(_layer_name(ranking, layer) for ranking in rankings.values()))
    if len(names) != 1:
        found = f"rankings of {', '.join(names)}" if names else "no ranking"
        raise ArgumentError(f"ranking: {found}. Pass rankings of one layer.")
    return names[0]


def _layer_name(ranking: Ranking, layer: str | None) -> str:
    if not isinstance(ranking, xr.Dataset):
        if layer is None:
            raise ArgumentError("layer: a ranking given as channel numbers does not tell its layer. Pass layer=.")
        return layer
    if "layer" not in ranking.attrs or "index" not in ranking.coords:
        raise ArgumentError("ranking: expected a result of probe.rank_channels, or all channel numbers of a layer.")
    named = str(ranking.attrs["layer"])
    if layer not in (None, named):
        raise ArgumentError(f"layer={layer!r}: the ranking is one of {named!r}. Leave layer out.")
    return named


def _order(ranking: Ranking, layer: Layer) -> np.ndarray:
    """Return all channels of the layer, the strongest first."""
    given = ranking.index.values if isinstance(ranking, xr.Dataset) else ranking
    order = check_channels(given, layer)
    if len(order) < layer.n_channels:
        raise ArgumentError(
            f"ranking: {len(order)} of the {layer.n_channels} channels of {layer.name!r}. Rank all of them."
        )
    return np.array(order)


def _method(ranking: Ranking) -> str:
    return str(ranking.attrs["method"]) if isinstance(ranking, xr.Dataset) else "given"


def _check_controls(controls: Iterable[str], draws: int) -> list[str]:
    chosen = [controls] if isinstance(controls, str) else list(controls)
    if set(chosen) - set(CONTROLS) or not chosen:
        raise ArgumentError(f"controls={controls!r}: expected 'random', 'matched' or both.")
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 2:
        raise ArgumentError(f"draws={draws!r}: expected a whole number of at least 2, better 20.")
    return chosen


def _distinct(plan: Mapping[tuple[str, str], np.ndarray]) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """Return each set of channels once, and where the sets of the plan are among them."""
    n_channels = next(iter(plan.values())).shape[-1]
    every = np.concatenate([removed.reshape(-1, n_channels) for removed in plan.values()])
    distinct, places = np.unique(every, axis=0, return_inverse=True)
    whereabouts, start = {}, 0
    for name, removed in plan.items():
        size = removed.size // n_channels
        whereabouts[name] = places.ravel()[start : start + size].reshape(removed.shape[:-1])
        start += size
    return distinct, whereabouts


def _joined(curves: Sequence[xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    """Return the curves of several rankings on ``ranking``, but for what they share."""
    shared = [name for name in ("intact", "intact_se", "random") if name in curves[0]]
    own = [curve.drop_vars(shared) for curve in curves]
    return xr.concat(own, xr.Variable("ranking", list(names)), data_vars="all").assign(curves[0][shared])


def _curve(found: Estimates, whereabouts: Mapping[str, np.ndarray], controls: Sequence[str]) -> xr.Dataset:
    """Return the curves of one score."""
    curve = xr.Dataset()
    for name, spoken in _SPOKEN.items():
        dims = ("count",) if name != "intact" else ()
        curve[name] = (dims, found.values[whereabouts[name]], _about(f"score {spoken}"))
        error = jackknife(found.left_out[:, whereabouts[name]])
        curve[f"{name}_se"] = (dims, error, _about(f"standard error of the score {spoken} (jackknife over images)"))
    for control in controls:
        places = whereabouts[control]
        drawn = found.values[places]
        curve[control] = (("draw", "count"), drawn, _about(f"score without {_DRAWN[control]}"))
        difference = curve.top.values - drawn.mean(axis=0)
        over_images = jackknife(found.left_out[:, whereabouts["top"]] - found.left_out[:, places].mean(axis=1))
        over_draws = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
        name = f"top_minus_{control}"
        spoken = f"score without the channels ranked first − mean without {_DRAWN[control]}"
        curve[name] = ("count", difference, _about(spoken))
        curve[f"{name}_se"] = ("count", np.hypot(over_images, over_draws), _about(f"standard error: {spoken}"))
    return curve


_SPOKEN = {
    "intact": "with all channels",
    "top": "without the channels ranked first",
    "bottom": "without the channels ranked last",
}
_DRAWN = {"random": "random channels", "matched": "random channels of the same mean |activation|"}


def _about(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "score"}


def _warn(result: xr.Dataset, ranking: Ranking, facts: dict[str, Any]) -> None:
    if isinstance(ranking, xr.Dataset):
        if ranking.attrs.get("images_digest") == facts["images_digest"]:
            warn("images: the ranking was made on the same ones, which favours it. Score on others.", facts["warnings"])
        if ranking.attrs.get("weights_digest") not in (None, facts["weights_digest"]):
            warn(
                "ranking: it was made on a model with other weights. Rank the channels of this one.", facts["warnings"]
            )
    for name in result.score.values:
        scored = result.sel(score=name)
        unknown = sum(int(scored[part].isnull().sum()) for part in (*_SPOKEN, "random") if part in scored)
        if unknown:
            warn(f"score {str(name)!r} is NaN for {unknown} choices of channels.", facts["warnings"])
