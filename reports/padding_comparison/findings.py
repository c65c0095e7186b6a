"""The sentences of the padding report, written from the numbers of a result."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from probe.reports.padding_comparison.estimates import content_part, focus_layer, padding_estimates, position_r2
from probe.reports.page.estimates import Estimate, estimate, listed

__all__ = ["findings", "percent"]


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, the most important first.

    Errors are 95 % t intervals over training seeds. What cannot be told from nothing, or from one another, is said
    to be so.

    Parameters
    ----------
    result
        From `probe.analyses.padding_comparison.study.run`.
    """
    layer = focus_layer(result)
    trained = position_r2(result).sel(layer=layer, training="trained")
    rolled = trained.sel(stimulus="rolled")
    sentences = [
        _best(rolled, layer),
        _blind(padding_estimates(rolled)),
        _content(result, layer),
        _ranking(padding_estimates(rolled), layer),
        _learned(result, layer),
        _accuracy(result),
        _agreement(result),
    ]
    return [sentence for sentence in sentences if sentence]


def _best(rolled: xr.DataArray, layer: str) -> str:
    """Say under which padding position can be read best, and which others cannot be told from it."""
    scores = _descending(padding_estimates(rolled))
    setting = "On rolled images, whose content cannot tell position,"
    if not scores:
        return f"{setting} no network could be scored at {layer}: its activations are not finite or do not vary."
    present = [padding for padding, score in scores.items() if score.is_present]
    if not present:
        highest, score = next(iter(scores.items()))
        if all(each.is_none for each in scores.values()):
            sentence = f"position can be read under no padding: at {layer} every R² is negligible"
        else:
            sentence = f"no padding shows position at {layer} beyond its error"
        sentence += f" (highest: {highest} {score})."
    else:
        best, score = present[0], scores[present[0]]
        sentence = f"position can be read best under {best} padding: R² {score} at {layer}."
        sentence += _runners_up(rolled, scores, best)
    if score.count == 1:
        sentence += " There is one network for each padding, so no error over training seeds can be given."
    return f"{setting} {sentence}"


def _runners_up(rolled: xr.DataArray, scores: Mapping[str, Estimate], best: str) -> str:
    """Say how far behind the others are, each compared with the best by the networks of the same seeds."""
    behind = {
        padding: estimate((rolled.sel(padding=best) - rolled.sel(padding=padding)).values)
        for padding in scores
        if padding != best
    }
    ties = [f"{padding} ({scores[padding]})" for padding, difference in behind.items() if difference.is_tie]
    if ties:
        return f" A tie: {listed(ties)} cannot be told apart from it."
    for padding, difference in behind.items():
        return f" Next is {padding} with {scores[padding]}, lower by {difference}."
    return ""


def _blind(scores: Mapping[str, Estimate]) -> str:
    """Say under which paddings there is no position, and under which that cannot be told."""
    known = _descending(scores)
    blind = {padding: score for padding, score in known.items() if score.is_none}
    unclear = {padding: score for padding, score in known.items() if not score.is_none and not score.is_present}
    sentences = []
    if blind and len(blind) < len(known):
        sentences.append(f"No position can be found under {_scored(blind)} padding.")
    if unclear:
        sentences.append(f"Whether there is any cannot be told under {_scored(unclear)} padding.")
    if len(known) > 1 and not blind and not unclear:
        sentences.append("No padding measured here is blind to position: on rolled images every R² is above 0.")
    if missing := [padding for padding, score in scores.items() if not score.is_known]:
        sentences.append(f"Not scored: {listed(missing)} padding.")
    return " ".join(sentences)


def _content(result: xr.Dataset, layer: str) -> str:
    """Say what content adds, above all to networks that cannot know position."""
    trained = position_r2(result).sel(layer=layer, training="trained")
    added = padding_estimates(content_part(result).sel(layer=layer, training="trained").mean("fold"))
    natural, rolled = (padding_estimates(trained.sel(stimulus=stimulus)) for stimulus in ("natural", "rolled"))
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
    if not any(part.is_known for part in added.values()):
        return ""
    return f"Natural images give no more than rolled ones at {layer}: what content adds cannot be told from 0."


def _ranking(scores: Mapping[str, Estimate], layer: str) -> str:
    known = _descending(scores)
    numbers = ", ".join(f"{padding} {score}" for padding, score in known.items())
    return f"All paddings on rolled images at {layer}, in descending order: {numbers}." if len(known) > 2 else ""


def _learned(result: xr.Dataset, layer: str) -> str:
    """Say what training changed, each network compared with its untrained twin."""
    if "untrained" not in result.training:
        return ""
    rolled = position_r2(result).sel(layer=layer, stimulus="rolled")
    changes = padding_estimates(rolled.sel(training="trained") - rolled.sel(training="untrained"))
    known = {padding: change for padding, change in changes.items() if change.is_known}
    ends = [padding_estimates(rolled.sel(training=training)) for training in ("trained", "untrained")]
    still = [
        padding for padding, change in known.items() if not change.differs or all(end[padding].is_none for end in ends)
    ]
    raised = _descending({p: change for p, change in known.items() if p not in still and change.mean > 0})
    lowered = _descending({p: change for p, change in known.items() if p not in still and change.mean < 0})
    parts = [
        f"{verb} under {listed(f'{padding} ({_signed(change)})' for padding, change in changed.items())}"
        for verb, changed in (("rises", raised), ("falls", lowered))
        if changed
    ]
    if still:
        parts.append(f"does not change, or not beyond its error, under {listed(still)}")
    return f"With training, R² on rolled images {listed(parts)}." if parts else ""


def _accuracy(result: xr.Dataset) -> str:
    if "accuracy" not in result:
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
    return listed([first.replace("(", "(R² ", 1), *rest])


def _signed(change: Estimate) -> str:
    return f"{'+' if change.mean > 0 else ''}{change}"


def percent(share: float) -> str:
    """Return a share in percent; rounded down, so that no share is shown as more than it is.

    Examples
    --------
    >>> percent(0.9799)
    '97.9 %'
    """
    return f"{np.floor(share * 1000 + 1e-9) / 10:.1f} %"
