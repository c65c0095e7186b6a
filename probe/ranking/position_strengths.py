"""How strong each channel is by statistics of position: ω², the loss of the readout, and its attribution.

Two halves of the images are kept apart by collecting twice as many folds: fold f of 2n belongs to half f mod 2, and
to fold f mod n of the cross-validation.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from probe.axes import axes_of_size
from probe.errors import ArgumentError, ImagesError
from probe.images.batches import check_reread
from probe.models.layers import Layer
from probe.ranking.attribution import attribute_readouts, layer_attribution
from probe.ranking.strengths import ChannelStrengths
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.reading.reader import single
from probe.readouts.channels import score_channels
from probe.readouts.omission import fit_ridge, score_omissions
from probe.sums.expansion_gram import ChannelGram
from probe.sums.rounding import is_constant
from probe.sums.statistics import Statistics, check_folds

__all__ = ["score_attributions", "score_omega2", "score_readout_losses"]


def score_omega2(model: nn.Module, images: Any, options: Options) -> ChannelStrengths:
    """Score channels by the share of their variance that position explains."""
    statistics = _collect(model, images, replace(options, folds=2), grams=False)
    layer = single(statistics.layers, options.layers)
    moments = statistics.moments[options.stimulus_names[0], layer.name]
    if moments.maps is None:
        raise ImagesError(f"images: {layer.name} has maps of several sizes; ω² needs images of one size.")
    # Channels that are not finite, and halves of too few images, are NaN in the end.
    with np.errstate(invalid="ignore", divide="ignore"):
        scores, *halves = (score_channels(moments.of(folds)).omega2 for folds in ([0, 1, 2, 3], [0, 2], [1, 3]))
    return ChannelStrengths(layer, scores, np.stack(halves), statistics.facts)


def score_readout_losses(model: nn.Module, images: Any, options: Options, alpha: float) -> ChannelStrengths:
    """Score channels by the held-out R², the mean over targets, that the readout loses without them."""
    statistics = _collect(model, images, options, grams=True)
    layer, gram = _only_gram(statistics, options)
    n_folds, n_targets = options.folds, len(statistics.targets)

    def losses(folds: Sequence[Sequence[int]]) -> np.ndarray:
        found = score_omissions(gram, folds, n_targets, alpha)
        return found.losses[:, np.isfinite(found.r2)].mean(axis=1)

    _check_targets(gram, layer, statistics.targets)
    filled = [fold for fold in range(2 * n_folds) if gram.totals[fold, 0] > 0]
    whole = [[fold for fold in filled if fold % n_folds == number] for number in range(n_folds)]
    check_folds(map(len, whole), statistics.facts.n_images)
    halves = [[[fold] for fold in filled if fold % 2 == half] for half in (0, 1)]
    unknown = np.full(layer.n_channels, np.nan)
    by_half = [losses(folds) if len(folds) > 2 else unknown for folds in halves]
    return ChannelStrengths(layer, losses(whole), np.stack(by_half), statistics.facts, statistics.targets)


def score_attributions(
    model: nn.Module, images: Any, options: Options, alpha: float, captum_method: str
) -> ChannelStrengths:
    """Score channels by what captum attributes to them of the readout's output."""
    layer_attribution(captum_method)
    check_reread(images, "method='attribution' reads them twice, first to fit the readout")
    statistics = _collect(model, images, replace(options, phase="readout"), grams=True)
    layer, gram = _only_gram(statistics, options)
    _check_targets(gram, layer, statistics.targets)
    parts = [range(2 * options.folds), range(0, 2 * options.folds, 2), range(1, 2 * options.folds, 2)]
    ridges = [fit_ridge(gram, folds, len(statistics.targets), alpha) for folds in parts]
    scores, halves = attribute_readouts(
        model,
        images,
        replace(options, layers=layer.name, folds=2),
        ridges=ridges,
        pilot=gram.pilot,
        captum_method=captum_method,
        cells_per_image=statistics.settings["cells_per_image"][layer.name],
        images_digest=statistics.facts.images_digest,
    )
    return ChannelStrengths(layer, scores.numpy(), halves.numpy(), statistics.facts, statistics.targets)


def _collect(model: nn.Module, images: Any, options: Options, *, grams: bool) -> Statistics:
    folds = 2 * options.folds
    if options.groups is not None and len(set(options.groups)) < folds:
        raise ArgumentError(
            f"groups: {len(set(options.groups))} distinct labels are too few: {options.folds} folds of each half of "
            f"the images take {folds}. Choose fewer folds=."
        )
    return collect_statistics(model, images, replace(options, folds=folds), grams=grams, moments=not grams)[0]


def _only_gram(statistics: Statistics, options: Options) -> tuple[Layer, ChannelGram]:
    layer = single(statistics.layers, options.layers)
    return layer, statistics.grams[options.stimulus_names[0], layer.name]


def _check_targets(gram: ChannelGram, layer: Layer, names: Sequence[str]) -> None:
    """Raise unless some target varies over the map."""
    targets = slice(1, 1 + len(names))
    totals, squares = gram.totals.sum(dim=0), gram.squares.sum(dim=0)[targets]
    if is_constant(squares - totals[targets] ** 2 / totals[0], squares).all():
        named = [f"{length} {axis}s" for axis, length in zip(axes_of_size(layer.size), layer.size, strict=True)]
        written = " and ".join(", ".join(named).rsplit(", ", 1))
        raise ArgumentError(
            f"targets: {', '.join(names)} is constant on the grid of {written} of {layer.name}. Name a target that "
            "varies."
        )
