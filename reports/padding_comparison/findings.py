"""The sentences of the padding report, written from the numbers of a result."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from probe.reports.padding_comparison.estimates import (
    broken,
    content_estimates,
    focus_layer,
    is_given,
    own_padding,
    padding_estimates,
    position_difference,
    position_estimates,
    position_r2,
    unbroken,
)
from probe.reports.page.estimates import Estimate, joined

__all__ = ["findings", "percent"]


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, the most important first.

    Errors are 95 % intervals: over training seeds, or of a given network over images. What cannot be told from
    nothing, or from one another, is said to be so. A padding under which a given model does its task no more is not
    ranked.

    Parameters
    ----------
    result
        From `probe.analyses.padding_comparison.study.run`.
    """
    layer, ranked = focus_layer(result), unbroken(result)
    rolled = position_estimates(ranked, layer=layer, stimulus="rolled", training="trained")
    sentences = [
        _best(ranked, layer, rolled),
        _blind(ranked, layer, rolled),
        _broken(result),
        _content(ranked, layer, rolled),
        _ranking(ranked, layer, rolled),
        _last(ranked, layer),
        _learned(ranked, layer),
        _accuracy(result),
        _agreement(result),
    ]
    return [sentence for sentence in sentences if sentence]


def _best(result: xr.Dataset, layer: str, rolled: Mapping[str, Estimate]) -> str:
    """Say under which padding position can be read best, and which others cannot be told from it."""
    scores = _descending(rolled)
    setting = "On rolled images, whose content cannot tell position,"
    if not scores:
        return f"{setting} no network could be scored at any layer: its activations are not finite or do not vary."
    present = [padding for padding, score in scores.items() if score.is_present]
    if not present:
        highest, score = next(iter(scores.items()))
        if all(item.is_none for item in scores.values()):
            sentence = f"position can be read under no padding: even at {layer}, where it is highest, R² is negligible"
        else:
            sentence = f"no padding shows position beyond its error, even at {layer}, where R² is highest"
        sentence += f" ({_named(result, highest)} {score})."
    else:
        best, score = present[0], scores[present[0]]
        superlative = "best " if len(scores) > 1 else ""
        sentence = (
            f"position can be read {superlative}under {_named(result, best)} padding: R² {score} at {layer}, the peak "
            "of the layers."
        )
        sentence += _runners_up(result.sel(layer=layer, stimulus="rolled", training="trained"), scores, best)
    if is_given(result):
        sentence += " The errors are those of this one network, over images."
    elif score.count == 1:
        sentence += " There is one network for each padding, so no error over training seeds can be given."
    return f"{setting} {sentence}"


def _named(result: xr.Dataset, padding: str) -> str:
    """Return the name of a padding, marked where it is the model's own."""
    return f"{padding} (the model's own)" if padding == own_padding(result) else padding


def _runners_up(chosen: xr.Dataset, scores: Mapping[str, Estimate], best: str) -> str:
    """Say how far behind the others are, each compared with the best within seeds or folds of images."""
    behind = {
        padding: position_difference(chosen.sel(padding=best), chosen.sel(padding=padding))
        for padding in scores
        if padding != best
    }
    ties = [f"{padding} ({scores[padding]})" for padding, difference in behind.items() if difference.is_tie]
    if ties:
        return f" A tie: {joined(ties)} cannot be told apart from it."
    for padding, difference in behind.items():
        return f" Next is {_named(chosen, padding)} with {scores[padding]}, lower by {difference}."
    return ""


def _blind(result: xr.Dataset, layer: str, rolled: Mapping[str, Estimate]) -> str:
    """Say under which paddings there is no position, and under which that cannot be told."""
    known = _descending(rolled)
    blind = {padding: score for padding, score in known.items() if score.is_none}
    unclear = {padding: score for padding, score in known.items() if not score.is_none and not score.is_present}
    sentences = []
    if blind and len(blind) < len(known):
        sentences.append(f"No position can be found at {layer} under {_scored(blind)} padding.")
    if unclear and len(unclear) < len(known):
        sentences.append(f"Whether there is any cannot be told under {_scored(unclear)} padding.")
    if len(known) > 1 and not blind and not unclear:
        sentences.append("No padding ranked here is blind to position: on rolled images every R² is above 0.")
    if missing := [padding for padding, score in rolled.items() if not score.is_known]:
        sentences.append(f"Not scored: {joined(missing)} padding.")
    return " ".join(sentences)


def _broken(result: xr.Dataset) -> str:
    """Name the paddings under which the model does its task no more."""
    lost = broken(result)
    if not lost:
        return ""
    parts = []
    for padding, reason in lost.items():
        one_class = float(result.commonest_share.sel(padding=padding).mean())
        parts.append(f"{padding} ({reason}; {percent(one_class)} of the images get one and the same class)")
    return f"Not ranked, since the model does its task no more, so that its features mean little: {'; '.join(parts)}."


def _content(result: xr.Dataset, layer: str, rolled: Mapping[str, Estimate]) -> str:
    """Say what content adds, above all to networks that cannot know position."""
    added = content_estimates(result, layer)
    natural = position_estimates(result, layer=layer, stimulus="natural", training="trained")
    deceived = [p for p in _descending(natural) if rolled[p].is_none and natural[p].is_present]
    if deceived:
        scores = _scored({padding: natural[padding] for padding in deceived})
        return (
            f"On natural images the same readout finds position even under {scores} padding, where rolled images give "
            "none: what it reads there is the content of the images, not a position that the network knows."
        )
    present = {p: part for p, part in _descending(added).items() if part.is_present and natural[p].is_present}
    if present:
        padding, part = next(iter(present.items()))
        return f"Content adds most under {padding} padding: natural − rolled is {part} at {layer}."
    known = _descending(added)
    if not known:
        return ""
    parts = joined(f"{padding} {part}" for padding, part in known.items())
    return f"What content adds at {layer} cannot be told from 0 under any padding (natural − rolled: {parts})."


def _ranking(result: xr.Dataset, layer: str, rolled: Mapping[str, Estimate]) -> str:
    known = _descending(rolled)
    if len(known) < 3:
        return ""
    numbers = ", ".join(
        f"{_named(result, padding)} {score}{_share(result, padding)}" for padding, score in known.items()
    )
    return f"All ranked paddings on rolled images at {layer}, in descending order: {numbers}."


def _share(result: xr.Dataset, padding: str) -> str:
    """Return what of the task is left under a padding, for a given classifier."""
    if not is_given(result):
        return ""
    names = {"accuracy": "accuracy", "agreement_with_own": "predictions as its own"}
    shares = [
        f"{phrase} {percent(float(result[name].sel(padding=padding).mean()))}"
        for name, phrase in names.items()
        if name in result
    ]
    return f" ({', '.join(shares)})" if shares else ""


def _last(result: xr.Dataset, layer: str) -> str:
    """Say what is left of position at the last layer, where that is not the one spoken of."""
    scored = position_r2(result).sel(training="trained", stimulus="rolled").notnull().any(["padding", "seed"])
    if not scored.any():
        return ""
    last = str(result.layer.values[scored.values][-1])
    if last == layer:
        return ""
    known = _descending(position_estimates(result, layer=last, stimulus="rolled", training="trained"))
    return f"At {last}, the last layer: {joined(f'{padding} {score}' for padding, score in known.items())}."


def _learned(result: xr.Dataset, layer: str) -> str:
    """Say what training changed, each network compared with its untrained twin."""
    if "untrained" not in result.training:
        return ""
    at_layer = result.sel(layer=layer, stimulus="rolled")
    changes = {
        str(padding): position_difference(
            *(at_layer.sel(padding=padding, training=training) for training in ("trained", "untrained"))
        )
        for padding in result.padding.values
    }
    known = {padding: change for padding, change in changes.items() if np.isfinite(change.mean)}
    ends = [
        position_estimates(result, layer=layer, stimulus="rolled", training=training)
        for training in ("trained", "untrained")
    ]
    still = [
        padding for padding, change in known.items() if not change.differs or all(end[padding].is_none for end in ends)
    ]
    raised = _descending({p: change for p, change in known.items() if p not in still and change.mean > 0})
    lowered = _descending({p: change for p, change in known.items() if p not in still and change.mean < 0})
    parts = [
        f"{verb} under {joined(f'{padding} ({change.formatted(sign=True)})' for padding, change in changed.items())}"
        for verb, changed in (("rises", raised), ("falls", lowered))
        if changed
    ]
    if still:
        parts.append(f"does not change, or not beyond its error, under {joined(still)}")
    return f"With training, R² on rolled images at {layer} {joined(parts)}." if parts else ""


def _accuracy(result: xr.Dataset) -> str:
    if "accuracy" not in result or is_given(result) or result.accuracy.isnull().all():
        return ""
    lowest = result.accuracy.min("seed")
    worst = str(result.padding.values[int(lowest.argmin("padding"))])
    return (
        f"Each of the {int(result.accuracy.notnull().sum())} networks recognises at least "
        f"{percent(float(lowest.min()))} of held-out digits at held-out placements (the lowest: {worst})."
    )


def _agreement(result: xr.Dataset) -> str:
    if "agreement" not in result:
        return ""
    shares = {p: share for p, share in padding_estimates(result.agreement).items() if share.is_known}
    if not shares:
        return ""
    ordered = list(_descending(shares))
    ends = dict.fromkeys((ordered[-1], ordered[0]))
    span = " to ".join(f"{percent(shares[padding].mean)} ({padding})" for padding in ends)
    return f"The predicted class stays the same at two independent placements for {span} of the images."


def _descending(scores: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Return what is known, the highest first."""
    known = [padding for padding, score in scores.items() if score.is_known]
    return {padding: scores[padding] for padding in sorted(known, key=lambda padding: -scores[padding].mean)}


def _scored(scores: Mapping[str, Estimate]) -> str:
    """List paddings with their R²."""
    first, *rest = (f"{padding} ({score})" for padding, score in scores.items())
    return joined([first.replace("(", "(R² ", 1), *rest])


def percent(share: float) -> str:
    """Return a share in percent; rounded down, so that no share is shown as more than it is.

    Examples
    --------
    >>> percent(0.9799)
    '97.9 %'
    """
    return f"{np.floor(share * 1000 + 1e-9) / 10:.1f} %"
