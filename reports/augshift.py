"""What the page of the study augshift shows."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.axes import RESULT_COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate

__all__ = ["add_figures", "findings"]

_OURS = "AugShift, weight 1"
_CIRCULAR = "consistency, circular"
_CONTRASTS = {
    (_OURS, "plain"): "AugShift (weight 1) less plain training on crops",
    (_OURS, "two views, weight 0"): "AugShift (weight 1) less the same two views at weight 0, which is what the "
    "distance of the latents adds",
    (_OURS, "plain, twice the steps"): "AugShift (weight 1) less plain training of as many passes",
    (_OURS, "BlurPool"): "AugShift (weight 1) less BlurPool",
    ("BlurPool", "plain"): "BlurPool less plain training on crops",
    ("plain", "plain, no crops"): "Plain training on crops less the same without crops",
}
_SCORES = ("accuracy", "consistency")
_PERCENT = (0.0, 100.0)


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [*_contrasts(result), _weights(result), _known_answer(result), *_latents(result), _apart(result)]
    return [sentence for sentence in sentences if sentence]


def _arms(result: xr.Dataset) -> list[str]:
    return [str(arm) for arm in result.arm.values]


def _of(result: xr.Dataset, arm: str, score: str) -> Estimate:
    return estimate(result.here_by_seed.isel(data_set=0).sel(arm=arm, score=score).values, _PERCENT)


def _difference(result: xr.Dataset, arm: str, other: str, score: str) -> Estimate:
    """Return by how many points an arm is above another, paired by seed."""
    if not {arm, other} <= set(_arms(result)):
        return Estimate(np.nan, np.nan, 0)
    here = result.here_by_seed.isel(data_set=0).sel(score=score)
    return estimate((here.sel(arm=arm) - here.sel(arm=other)).values)


def _told(difference: Estimate) -> str:
    points = f"{difference.formatted(decimals=1, sign=True)} points"
    if np.isnan(difference.half_width):
        return f"{points} (of one network each, without an error)"
    if difference.differs:
        return f"{points} ({'higher' if difference.mean > 0 else 'lower'} beyond its error)"
    return f"{points} (within its error)"


def _contrasts(result: xr.Dataset) -> Iterator[str]:
    for (arm, other), name in _CONTRASTS.items():
        found = {score: _difference(result, arm, other, score) for score in _SCORES}
        parts = [f"{score} {_told(difference)}" for score, difference in found.items() if difference.is_known]
        if parts:
            yield f"{name}: {', '.join(parts)}."


def _weights(result: xr.Dataset) -> str:
    arms = [arm for arm in _arms(result) if arm.startswith(("AugShift", "two views"))]
    known = {arm: [_of(result, arm, score) for score in _SCORES] for arm in arms}
    parts = [
        f"{arm} {consistency.formatted(decimals=1)} % (accuracy {accuracy.formatted(decimals=1)} %)"
        for arm, (accuracy, consistency) in known.items()
        if accuracy.is_known and consistency.is_known
    ]
    return f"Consistency by weight: {'; '.join(parts)}." if len(parts) > 1 else ""


def _known_answer(result: xr.Dataset) -> str:
    if "polyphase" not in result.arm:
        return ""
    values = result.here_by_seed.isel(data_set=0).sel(arm="polyphase", score=_CIRCULAR).values
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    crops = _of(result, "polyphase", "consistency")
    beside = f" On windows, whose content changes, it is {crops.formatted(decimals=1)} %." if crops.is_known else ""
    if (known == 100).all():
        return f"Polyphase sampling is 100 % consistent under circular shifts, as it must be.{beside}"
    return (
        f"Polyphase sampling with circular padding must be 100 % consistent under circular shifts, and is "
        f"{estimate(known, _PERCENT).formatted(decimals=1)} %: something is wrong with these numbers."
    )


def _latents(result: xr.Dataset) -> Iterator[str]:
    for name, words in (
        ("latent_norm", "Mean norm of the latent"),
        ("latent_distance", "Squared distance of the latents of two windows, as a part of their variance over images"),
    ):
        found = {arm: estimate(result[name].isel(data_set=0).sel(arm=arm).values) for arm in _arms(result)}
        shown = [arm for arm in found if arm in ("plain", "two views, weight 0") or arm.startswith("AugShift")]
        parts = [f"{arm} {found[arm].formatted(decimals=2)}" for arm in shown if found[arm].is_known]
        if parts:
            yield f"{words}: {'; '.join(parts)}."


def _apart(result: xr.Dataset) -> str:
    parts = []
    for arm in _arms(result):
        right = estimate(result.subset_consistency.isel(data_set=0).sel(arm=arm, subset="right").values, _PERCENT)
        if right.is_known:
            parts.append(f"{arm} {right.formatted(decimals=1)} %")
    return (
        f"Consistency of images that are classified right as they stand, since more accurate networks are more "
        f"consistent anyway: {'; '.join(parts)}."
        if parts
        else ""
    )


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the scores of all arms, and the size of their latents."""
    section = report.add_section("Scores of each arm")
    section.add_figure(
        _draw_scores(result),
        caption="Mean over networks with its 95 % interval (of two networks both values)."
        + (" Diamonds: as published." if result.published.isel(data_set=0).notnull().any() else ""),
        alt="Points for each arm. " + " ".join(findings(result)[:2]),
    )
    section = report.add_section("Latents")
    section.add_figure(
        _draw_latents(result),
        caption="Mean norm of the pooled features, and the squared distance of those of two windows of an image as a "
        "part of their variance over images. A point for each network.",
        alt="Points for each arm. " + " ".join(_latents(result)),
    )


def _draw_scores(result: xr.Dataset) -> Figure:
    scores, arms = [str(score) for score in result.score.values], _arms(result)
    figure = Figure(figsize=(2.3 * len(scores) + 1.8, 1.0 + 0.28 * len(arms)), layout="constrained")
    places = np.arange(len(arms))
    panels = figure.subplots(1, len(scores), sharey=True)
    for panel, score in zip(panels, scores, strict=True):
        found = [_of(result, arm, score) for arm in arms]
        means = np.array([one.mean for one in found])
        panel.errorbar(means, places, xerr=bars(found, _PERCENT), fmt="o", color=RESULT_COLOURS[0], capsize=2)
        panel.plot(result.published.isel(data_set=0).sel(score=score), places, "D", color="black", fillstyle="none")
        panel.set_xlabel(f"{score} (%)", fontsize=8)
        sns.despine(ax=panel)
    panels[0].set_yticks(places, arms, fontsize=8)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _draw_latents(result: xr.Dataset) -> Figure:
    arms = _arms(result)
    figure = Figure(figsize=(7.0, 1.0 + 0.28 * len(arms)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, name, label in zip(
        panels, ("latent_norm", "latent_distance"), ("norm of the latent", "distance / variance"), strict=True
    ):
        for place, arm in enumerate(arms):
            values = result[name].isel(data_set=0).sel(arm=arm).values
            panel.plot(values, np.full(values.shape, place), "o", color=RESULT_COLOURS[1], markersize=4, alpha=0.7)
        panel.set_xlabel(label, fontsize=8)
        sns.despine(ax=panel)
    panels[0].set_yticks(range(len(arms)), arms, fontsize=8)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure
