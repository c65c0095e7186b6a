"""What a model loses as its channels are taken away, beside what it loses without random ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.ablation.contrasts import contrast, side_by_side
from probe.ablation.estimates import mean_activity, score_settings
from probe.ablation.later_readouts import later_readouts
from probe.ablation.performance import Score, resolve_scores
from probe.ablation.plans import CONTROLS, PARTS, Ranking, channel_order, check_counts, layer_of, plan_curves
from probe.ablation.replacement import AblationMode, replacement_for
from probe.checks import whole_number
from probe.errors import ArgumentError, ImagesError, warn
from probe.images.batches import check_reread
from probe.images.labels import LabelCheck, named_classes
from probe.images.rows import Transform
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.options import Options
from probe.reading.ranks import Share, add_facts, check_ranks, gathered, own_share
from probe.reading.reader import open_reader
from probe.results import Facts, finish

__all__ = ["ablation_curve", "asked_scores"]

_POSITION = "position"
_ONLY = ""


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
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure what a model loses without the channels that rank first, last, or at random.

    The commonest uses::

        probe.ablation_curve(model, labelled, ranking, score="accuracy", counts=[1, 2, 4, 8, 16])
        probe.ablation_curve(model, images, {"flip": a, "omega2": b}, score=["agreement", "position"], counts=[8])
        probe.ablation_curve(model, images, [3, 17, 0], layer="conv1", score={"norm": norm}, counts=[1, 2])

    What precedes the layer is computed once for many settings, wherever the model allows.

    Parameters
    ----------
    model
        As in `collect`.
    images
        As in `collect`, other ones than the ranking was made on. Scores that need labels take them from rows (image,
        label) or mappings with ``label``, ``labels``, ``target`` or ``mask``; labels of pixels that are no class of
        the model are void, and their share is told. Matched draws and the position score read the images more than
        once.
    ranking
        From `rank_channels`, or all channel numbers of `layer`, the strongest first; or a dict of several, by name,
        which then share the random draws and all that precedes the layer.
    score
        One or several of ``"accuracy"`` (images or pixels), ``"miou"`` (all pixels), ``"miou:left"``,
        ``"miou:centre"`` and ``"miou:right"`` (thirds of the columns), ``"agreement"`` (share of predictions that a
        random circular shift does not change) and ``"position"`` (mean R² of row and column, read from rolled images
        at each later layer: ``position:NAME``); or ``{name: function}``, (output,) or (output, labels) -> a value for
        each image; or ``{name: probe.MeanIoU(mask)}``.
    counts
        Numbers of channels to remove.
    draws
        Number of random draws, at least 2; fewer than 20 give a rough band.
    mode, reference
        As in `ablate`. ``"resample"`` takes values from the next image among those that run together, at least two:
        what runs together is part of what it measures, so that ranks do not share the images, but each runs all.
    layer
        Name of the layer, if `ranking` does not tell it.
    controls
        ``"random"`` channels of the layer, and ``"matched"`` ones, drawn so that each channel removed first is
        replaced by one of the same decile of mean ``|activation|``: in a narrow layer, or at large counts, often by
        itself. One of the two, or both.
    folds, groups
        The standard errors are a jackknife over these folds of images; see `collect`. Frames of one video belong in
        one group.
    batch_size
        How many images, or copies of one without other channels, the model is shown at a time.
    num_workers, device, autocast, transform, input_key, layout, forward, max_images, progress
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
        attribute ``sharing`` tells how the computation before the layer was shared, ``void_labels`` the share of
        each label that is no class of the model.

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
    name = layer_of(rankings, layer)
    scores, by_position = asked_scores(score)
    controls = _check_controls(controls, draws)
    options = Options(
        layers=name, folds=folds, groups=groups, batch_size=batch_size, num_workers=num_workers, device=device,
        autocast=autocast, transform=transform, input_key=input_key, layout=layout, forward=forward,
        max_images=max_images, seed=seed, progress=progress, task="ablation",
    )  # fmt: skip
    _check_readings(images, controls, by_position)
    strengths = (
        mean_activity(model, images, replace(options, phase="mean activity"), name) if "matched" in controls else None
    )
    needs_labels = any(one.needs_labels for one in scores.values())
    share = Share() if mode == "resample" else own_share()  # it takes values from the next image
    with open_reader(model, images, options, labels=needs_labels, share=share) as reader:
        place = reader.layer(name)
        check_ranks({**reader.identity, "layer": place.name, "scores": list(scores), "mode": mode, "draws": draws})
        orders = {key: channel_order(one, place) for key, one in rankings.items()}
        plan = plan_curves(orders, check_counts(counts, place.n_channels), draws, seed, strengths, controls)
        behind = [later for later in reader.layers("auto")[0] if later.depth > place.depth]
        if by_position and not behind:
            raise ArgumentError(
                f"score='position': no layer behind {place.name} has maps to read position from. "
                "Choose an earlier layer, or another score."
            )
        if by_position and options.groups is None and (reader.length or folds) < folds:
            raise ImagesError(
                f"images: {reader.length} leave some of folds={folds} without any, and score='position' reads each. "
                f"Pass at least {folds}, or choose fewer folds=."
            )
        replacement = replacement_for(place, mode, reference)
        labels = LabelCheck(named_classes(images))
        estimates, sharing = score_settings(reader, options, replacement, plan.settings, scores, labels)
        facts, sharing = add_facts(reader.facts(), share), gathered(sharing)[0]
    if by_position:
        sharing += "; position: not shared, one pass for each setting"
        readouts = later_readouts(
            model, images, options,
            layer=place, behind=behind, settings=plan.settings, mode=mode, reference=reference, share=share,
        )  # fmt: skip
        estimates |= {f"{_POSITION}:{later}": found for later, found in readouts.items()}
    curves = {key: contrast(estimates, plan, key, controls) for key in rankings}
    messages = [message for key, one in rankings.items() for message in _doubts(curves[key], one, facts)]
    warned: list[str] = []
    for message in messages:
        warn(message, warned)
    return finish(
        side_by_side(curves) if isinstance(ranking, dict) else curves[_ONLY],
        kind="ablation_curve",
        facts=facts.warned(warned),
        settings={
            "counts": plan.counts, "draws": draws, "controls": controls, "folds": folds, "batch_size": batch_size,
            "groups": groups is not None, "reference": reference is not None,
            "autocast": options.precision and str(options.precision),
        },
        layer=place.name,
        method=", ".join(_method(one) for one in rankings.values()),
        mode=mode,
        sharing=sharing,
        folds=len(next(iter(estimates.values())).left_out),
        void_labels=labels.void,
    )  # fmt: skip


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


def _check_controls(controls: Iterable[str], draws: int) -> list[str]:
    chosen = [controls] if isinstance(controls, str) else list(controls)
    if set(chosen) - set(CONTROLS) or not chosen:
        raise ArgumentError(f"controls={controls!r}: expected 'random', 'matched' or both.")
    whole_number("draws", draws, 2, better=", better 20")
    return chosen


def _check_readings(images: Any, controls: Sequence[str], by_position: bool) -> None:
    reads_again = ["matched"] * ("matched" in controls) + [_POSITION] * by_position
    if reads_again:
        check_reread(images, f"{' and '.join(reads_again)} must read them several times, not so controls=['random']")


def _method(ranking: Ranking) -> str:
    return str(ranking.attrs["method"]) if isinstance(ranking, xr.Dataset) else "given"


def _doubts(curve: xr.Dataset, ranking: Ranking, facts: Facts) -> Iterator[str]:
    """Yield what there is to warn of in the curve of a ranking."""
    if isinstance(ranking, xr.Dataset):
        if ranking.attrs.get("images_digest") == facts.images_digest:
            yield "images: the ranking was made on the same ones, which favours it. Score on others."
        if ranking.attrs.get("weights_digest") not in (None, facts.weights_digest):
            yield "ranking: it was made on a model with other weights. Rank the channels of this one."
    for name in curve.score.values:
        scored = curve.sel(score=name)
        unknown = sum(int(scored[part].isnull().sum()) for part in (*PARTS, "random") if part in scored)
        if unknown:
            yield f"score {str(name)!r} is NaN for {unknown} choices of channels."
