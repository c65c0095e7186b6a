"""What the page of the study shifts shows."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from probe.plots.axes import RESULT_COLOURS, RESULT_MARKERS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, interval, joined, written

__all__ = ["add_figures", "findings"]

_NAMES = {
    "S": "S-Conv",
    "F": "F-Conv",
    "S+B": "S-Conv with BlurPool",
    "F+B": "F-Conv with BlurPool",
    "F, S's pool": "F-Conv with S-Conv's pooling",
    "F, S's arithmetic": "F-Conv with S-Conv's arithmetic",
}
_PAIRS = (("F", "S"), ("F+B", "S+B"), ("S+B", "S"), ("F", "S+B"))
_CONTROLS = ("F, S's pool", "F, S's arithmetic")
_OWN = "as it is"
_SCORES = {"diagonal": "accuracy along the diagonal", "consistency": "consistency"}
_PERCENT = (0.0, 100.0)
_BROKEN = 50.0  # per cent of predictions that a copy shares with the model as it is


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    if _OWN in result.arm:
        sentences = [_as_it_is(result), *_copies(result), _collapsed(result), _cause(result)]
    else:
        sentences = [*_contrasts(result), *_controls(result), _cost(result), *_accuracy_apart(result)]
    return [sentence for sentence in sentences if sentence]


def _nets(result: xr.Dataset) -> list[str]:
    """Return the networks that were measured; others have been published."""
    return [str(net) for net in result.here_by_seed.dropna("net", how="all").net.values]


def _of(result: xr.Dataset, net: str, arm: str, score: str) -> Estimate:
    """Return a score over seeds, in per cent; of one network with its error over images."""
    if score not in result.score or arm not in result.arm:
        return Estimate(np.nan, np.nan, 0)
    at = {"net": net, "arm": arm, "score": score}
    values, errors = (result[name].sel(at).values for name in ("here_by_seed", "error"))
    return estimate(values, _PERCENT, errors=errors, degrees=result.sizes["image"] - 1)


def _difference(result: xr.Dataset, net: str, arm: str, other: str, score: str) -> Estimate:
    """Return by how many points an arm is above another, paired by seed."""
    if not {arm, other} <= set(result.arm.values) or score not in result.score:
        return Estimate(np.nan, np.nan, 0)
    here = result.here_by_seed.sel(net=net, score=score)
    return estimate((here.sel(arm=arm) - here.sel(arm=other)).values)


def _verdict(difference: Estimate) -> str:
    if np.isnan(difference.half_width):
        return "one network each, so without an error"
    if difference.differs:
        return "higher beyond its error" if difference.mean > 0 else "lower beyond its error"
    return "within its error"


def _told(difference: Estimate) -> str:
    return f"{difference.formatted(decimals=1, sign=True)} points, {_verdict(difference)}"


def _contrasts(result: xr.Dataset) -> Iterator[str]:
    for net in _nets(result):
        for arm, other in _PAIRS:
            parts = []
            for score, name in _SCORES.items():
                difference = _difference(result, net, arm, other, score)
                if difference.is_known:
                    both = (_of(result, net, which, score).formatted(decimals=1) for which in (arm, other))
                    parts.append(f"{name} {' and '.join(both)} % ({_told(difference)})")
            if parts:
                yield f"{net}, {_NAMES[arm]} and {_NAMES[other]}: {'; '.join(parts)}."


def _controls(result: xr.Dataset) -> Iterator[str]:
    for net in _nets(result):
        for arm in _CONTROLS:
            parts = [
                f"{name} {_told(difference)}"
                for score, name in _SCORES.items()
                if (difference := _difference(result, net, arm, "S", score)).is_known
            ]
            if parts:
                yield f"{net}, the control {_NAMES[arm]} less S-Conv: {'; '.join(parts)}."


def _cost(result: xr.Dataset) -> str:
    if "multiplications" not in result or "S" not in result.arm:
        return ""
    counts = result.multiplications.isel(seed=0)
    ratios = [
        f"{_NAMES[str(arm)]} {float(counts.sel(net=net, arm=arm) / counts.sel(net=net, arm='S')):.2g} times"
        for net in _nets(result)
        for arm in result.arm.values
        if str(arm) != "S"
    ]
    return f"Multiplications beside S-Conv's ({joined(_nets(result))}): {'; '.join(ratios)}."


def _accuracy_apart(result: xr.Dataset) -> Iterator[str]:
    """Tell the consistency of images that are classified right, since more accurate networks are more consistent."""
    if "right" not in result["subset"].values:
        return
    for net in _nets(result):
        found = {
            str(arm): estimate(result.subset_consistency.sel(net=net, arm=arm, subset="right").values, _PERCENT)
            for arm in result.arm.values
        }
        parts = [f"{_NAMES[arm]} {value.formatted(decimals=1)} %" for arm, value in found.items() if value.is_known]
        if parts:
            yield (
                f"{net}, consistency of images that are classified right as they stand, since more accurate networks "
                f"are more consistent anyway: {'; '.join(parts)}."
            )


# ---- A given model


def _model(result: xr.Dataset) -> str:
    return str(result.net.values[0])


def _as_it_is(result: xr.Dataset) -> str:
    net = _model(result)
    consistency, accuracy = (_of(result, net, _OWN, score) for score in ("consistency", "diagonal"))
    if not consistency.is_known:
        return ""
    parts = [f"{net} as it is predicts the same of both windows in {consistency.formatted(decimals=1)} % of pairs"]
    never = estimate(result.unchanged.sel(net=net, arm=_OWN).values, _PERCENT)
    if never.is_known:
        parts.append(f"the prediction never changes for {never.formatted(decimals=1)} % of images")
    if accuracy.is_known:
        parts.append(f"accuracy along the diagonal is {accuracy.formatted(decimals=1)} %")
    return f"{'; '.join(parts)}."


def _paired(result: xr.Dataset, arm: str) -> Estimate:
    """Return by how many points a copy is more consistent than the model as it is, paired by image."""
    shares = result.same_share.isel(seed=0, net=0)
    differences = (shares.sel(arm=arm) - shares.sel(arm=_OWN)).values
    known = differences[np.isfinite(differences)]
    if len(known) < 2:
        return Estimate(np.nan, np.nan, 0)
    return interval(float(known.mean()), float(known.std(ddof=1) / len(known) ** 0.5), degrees=len(known) - 1)


def _copies(result: xr.Dataset) -> Iterator[str]:
    copies = [str(arm) for arm in result.arm.values if str(arm) != _OWN]
    found = {arm: _paired(result, arm) for arm in copies}
    found = {arm: difference for arm, difference in found.items() if difference.is_known}
    groups = {
        "more consistent than the model as it is, beyond the error over images": lambda one: (
            one.differs and one.mean > 0
        ),
        "less consistent": lambda one: one.differs and one.mean < 0,
        "not told apart from it": lambda one: not one.differs,
    }
    for words, belongs in groups.items():
        parts = [
            f"{arm} ({difference.formatted(decimals=1, sign=True)} points{_accuracy_of(result, arm)})"
            for arm, difference in found.items()
            if belongs(difference)
        ]
        if parts:
            yield f"Copies with the same weights that are {words}: {'; '.join(parts)}."


def _collapsed(result: xr.Dataset) -> str:
    """Name the copies that predict little of what the model does, since what always says the same is consistent."""
    parts = []
    for arm in map(str, result.arm.values):
        agreement, commonest = (estimate(result[name].sel(arm=arm).values) for name in ("agreement", "commonest"))
        if arm != _OWN and agreement.is_known and agreement.mean < _BROKEN:
            parts.append(f"{arm} {written(agreement.mean, 1)} % (its commonest answer: {written(commonest.mean, 1)} %)")
    return (
        "The consistency of these copies tells little: what always says the same is consistent, and they predict as "
        f"the model as it is for few images: {'; '.join(parts)}."
        if parts
        else ""
    )


def _accuracy_of(result: xr.Dataset, arm: str) -> str:
    accuracy = _of(result, _model(result), arm, "diagonal")
    return f"; accuracy {accuracy.formatted(decimals=1)} %" if accuracy.is_known else ""


def _cause(result: xr.Dataset) -> str:
    if not np.isfinite(result.here_by_seed).any():
        return ""
    return (
        "The weights were trained with the model's own border and sampling, so a copy that is less consistent shows "
        "what these weights expect, not what a network trained so would do."
    )


# ---- Figures


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the scores of all arms, and how they change along the diagonal."""
    section = report.add_section("Scores of each arm")
    section.add_figure(
        _draw_scores(result),
        caption="Mean over networks with its 95 % interval (of two networks both values; of one, over images)."
        + (" Diamonds: as published." if result.published.sel(net=_nets(result)).notnull().any() else ""),
        alt="Points for each arm. " + " ".join(findings(result)[:2]),
    )
    section = report.add_section("Along the diagonal")
    section.add_figure(
        _draw_curves(result),
        caption="Accuracy of the windows at each place along the diagonal, where classes are known, and how often two "
        "windows on it have the same prediction, by their distance. Means over networks.",
        alt="Lines for each arm. " + _ends(result),
    )


def _ends(result: xr.Dataset) -> str:
    parts = []
    for net in _nets(result):
        for arm in result.arm.values:
            curve = result.distance_consistency.sel(net=net, arm=arm).mean("seed").values
            if np.isfinite(curve).all():
                parts.append(f"{net}, {arm}: {curve[0]:.1f} % at 1 pixel, {curve[-1]:.1f} % at {len(curve)}")
    return f"Same prediction: {'; '.join(parts)}." if parts else ""


def _label(arm: str) -> str:
    return _NAMES.get(arm, arm)


def _draw_scores(result: xr.Dataset) -> Figure:
    scores = [str(score) for score in result.here_by_seed.dropna("score", how="all").score.values]
    nets, arms = _nets(result), [str(arm) for arm in result.arm.values]
    figure = Figure(figsize=(3.2 * len(scores) + 1.6, len(nets) * (0.6 + 0.3 * len(arms))), layout="constrained")
    grid = figure.subplots(len(nets), len(scores), sharey=True, sharex="col", squeeze=False)
    places = np.arange(len(arms))
    for row, net in zip(grid, nets, strict=True):
        for panel, score in zip(row, scores, strict=True):
            found = [_of(result, net, arm, score) for arm in arms]
            means = np.array([one.mean for one in found])
            panel.errorbar(
                means, places, xerr=bars(found, _PERCENT), fmt="o", color=RESULT_COLOURS[0], capsize=2, linewidth=1.2
            )
            panel.plot(result.published.sel(net=net, score=score), places, "D", color="black", fillstyle="none")
            panel.set(title=net if len(nets) > 1 else "", xlabel=f"{score} (%)")
            panel.set_yticks(places, [_label(arm) for arm in arms], fontsize=8)
            sns.despine(ax=panel)
        row[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _draw_curves(result: xr.Dataset) -> Figure:
    nets = _nets(result)
    has_accuracy = "diagonal_accuracy" in result and bool(np.isfinite(result.diagonal_accuracy).any())
    kinds = [("distance_consistency", "distance", "pixels between the windows", "same prediction (%)")]
    if has_accuracy:
        kinds.insert(0, ("diagonal_accuracy", "diagonal", "place along the diagonal (pixels)", "accuracy (%)"))
    figure = Figure(figsize=(3.7 * len(kinds), 0.6 + 2.6 * len(nets)), layout="constrained")
    grid = figure.subplots(len(nets), len(kinds), squeeze=False)
    for row, net in zip(grid, nets, strict=True):
        for panel, (name, dim, x_label, y_label) in zip(row, kinds, strict=True):
            for number, arm in enumerate(result.arm.values):
                curve = result[name].sel(net=net, arm=arm).mean("seed")
                panel.plot(
                    curve[dim], curve, color=RESULT_COLOURS[number % len(RESULT_COLOURS)], linewidth=1.2,
                    linestyle="--" if number >= len(RESULT_COLOURS) else "-", label=_label(str(arm)), markersize=3,
                    marker=RESULT_MARKERS[number % len(RESULT_MARKERS)], markevery=max(curve.size // 8, 1),
                )  # fmt: skip
            panel.set(xlabel=x_label, ylabel=y_label, title=net if len(nets) > 1 else "")
            sns.despine(ax=panel)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure
