"""The sentences of the page of one model, written from the numbers of its parts."""

import numpy as np
import xarray as xr

from probe.reports.overview.parts import Overview
from probe.reports.page.estimates import NEGLIGIBLE, Estimate, joined
from probe.reports.page.position import is_told, position_change
from probe.reports.results.page import KINDS

__all__ = ["findings", "nothing", "percent"]

_AFTER = {
    "erasing": 3, "stronger": 1, "rereading": 1, "ablation": 1, "rankings": 1, "consistency": 2, "neighbours": 2,
    "audit": 2, "border": 4,
}  # fmt: skip
"""Part -> how many of its sentences are among the findings; all stand in its section."""


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, the most important first.

    Errors are 95 % intervals over images. What cannot be told from nothing, or from the model as it is, is said to be
    so; a changed model that does its task no more is not ranked.

    Parameters
    ----------
    result
        From `probe.analyses.overview.study.run`.
    """
    whole = Overview.of(result)
    r2 = whole.read(whole.where, whole.peak)
    is_settled = is_told(r2) or not r2.is_known
    beside = [_content(whole), _learned(whole)] if is_settled else []
    sentences = [_where(whole), _why(whole) if is_settled else "", _broken(whole), *beside]
    for part, most in _AFTER.items():
        if part in whole.parts:
            sentences.append(" ".join(KINDS[whole.parts[part].attrs["kind"]].findings(whole.parts[part])[:most]))
    return [sentence for sentence in sentences if sentence]


def _where(whole: Overview) -> str:
    """Say where position is read best on rolled images, beside natural ones and the pixels themselves."""
    layer, setting = whole.peak, "On rolled images, whose content cannot tell position,"
    rolled, natural = (whole.read(whole.where, layer, stimulus) for stimulus in ("rolled", "natural"))
    if not rolled.is_known:
        return f"{setting} no layer of {whole.model} could be scored."
    if not is_told(rolled):
        return (
            f"{setting} where it is read best in {whole.model} is not known from so few images: no layer's R² is known "
            "closely enough."
        )
    beside = ""
    if natural.is_known:
        beside = f" (on natural images {natural if is_told(natural) else 'not known from so few'})"
    if rolled.is_none:
        return f"{setting} no layer of {whole.model} tells it: even at {layer}, the highest, R² is {rolled}{beside}."
    if not rolled.is_present:
        return (
            f"{setting} no layer of {whole.model} tells it beyond its error: the highest R² is {rolled}, at {layer}"
            f"{beside}."
        )
    return f"{setting} it is read best from {layer} of {whole.model}: R² {rolled}{beside}."


def _content(whole: Overview) -> str:
    """Say what content adds at the layer."""
    at = whole.where.sel(layer=whole.peak)
    added = position_change(at.sel(stimulus="natural"), at.sel(stimulus="rolled"))
    if not added.is_known:
        return ""
    if not added.differs:
        return f"What the content of images adds at {whole.peak} {nothing(added)} (natural − rolled: {added})."
    if added.mean > 0:
        return f"The content of natural images adds {added} to R² there."
    return f"On natural images R² at {whole.peak} is lower than on rolled ones, by {_size(added)}."


def nothing(change: Estimate) -> str:
    """Say of a difference that does not count, whether it is unclear or negligible."""
    return "cannot be told from 0" if change.is_tie else f"is negligible, below {NEGLIGIBLE}"


def _size(change: Estimate) -> Estimate:
    return Estimate(abs(change.mean), change.half_width, change.count)


def _learned(whole: Overview) -> str:
    """Say what training changed."""
    if "untrained" not in whole.parts:
        return ""
    twin, layer = whole.parts["untrained"], whole.peak
    before, change = whole.read(twin, layer), whole.change(twin, layer)
    if not before.is_known or not change.is_known:
        return f"Whether training changed R² at {layer} is not known: the untrained twin has no score there."
    start = f"Before training, R² at {layer} on rolled images is {before}"
    if not change.differs:
        return f"{start}: what training changed {nothing(change)} (difference {change})."
    return f"{start}: training {'raised' if change.mean < 0 else 'lowered'} it by {_size(change)}."


def _why(whole: Overview) -> str:
    """Say what each change of the model, with the same weights, does to position."""
    layer, own = whole.peak, whole.read(whole.where, whole.peak)
    ranked = {name: one for name, one in whole.variants.items() if name not in whole.broken}
    found = {name: whole.read(one, layer) for name, one in ranked.items()}
    known = {name: found[name] for name in sorted(found, key=lambda name: found[name].mean) if found[name].is_known}
    if not known or not own.is_known:
        return ""
    parts = []
    for name, r2 in known.items():
        share = whole.agreement(name)
        kept = f", predictions as before {percent(share)}" if share == share else ""
        change = whole.change(ranked[name], layer).formatted(sign=True)
        parts.append(f"{r2} with {name} ({change}{kept})")
    sentence = (
        f"With one thing changed and the same weights, R² at {layer} on rolled images goes from {own} to "
        f"{joined(parts)}."
    )
    if not own.is_present:
        return sentence
    changes = {name: whole.change(ranked[name], layer) for name in known}
    lower = [name for name in known if changes[name].differs and changes[name].mean < 0]
    if not lower:
        return f"{sentence} None of these takes position away beyond the error."
    told = {
        "no linear readout of a cell finds position with": [name for name in lower if known[name].is_none],
        "it is lower, but still read, with": [name for name in lower if known[name].is_present],
        "whether any is left cannot be told with": [
            name for name in lower if not known[name].is_none and not known[name].is_present
        ],
    }
    verdict = "; ".join(f"{what} {joined(names)}" for what, names in told.items() if names)
    return f"{sentence} So {verdict}."


def _broken(whole: Overview) -> str:
    """Name what changes the model so much that it does its task no more."""
    if not whole.broken:
        return ""
    named = joined(f"{name} ({percent(share)}{_commonest(whole, name)})" for name, share in whole.broken.items())
    return (
        "Not ranked, since fewer than half of the predictions are as before, or no more than one and the same answer "
        f"to all images would get, so that features mean little: {named}."
    )


def _commonest(whole: Overview, variant: str) -> str:
    share = float(whole.variants[variant].get("commonest_share", np.nan))
    return f"; {percent(share)} of the images get one and the same class" if share > 0.5 else ""


def percent(share: float) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> percent(0.974)
    '97.4 %'
    """
    return f"{100 * share:.1f} %"
