"""What the page of the study on actions says and shows. Never loads torch."""

from collections.abc import Iterator

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, joined

__all__ = ["add_figures", "findings"]

_S = "S-Conv"
_TRAINED, _SWAPPED, _SHUFFLED = "as trained", "swapped", "frames shuffled"
_CHOSEN, _LAST, _BEST = "clips, chosen epoch", "clips, last epoch", "clips, best epoch"
_VIDEOS = "videos, chosen epoch"
_WITHIN = (0.0, 100.0)
_HALVES = {"place": "half of the frame", "time": "half of the clip"}
_WITHOUT_ORDER = 50.0  # at most, of directions whose opposites look the same without the order of the frames


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [
        *(sentence for task in _HALVES for sentence in _swap(result, task)),
        _directions(result),
        *_videos(result),
        _on_the_test(result),
        _cost(result),
    ]
    return [sentence for sentence in sentences if sentence]


def _accuracy(result: xr.Dataset, data_set: str, net: str, arm: str, score: str) -> Estimate:
    at = {"data_set": data_set, "net": net, "arm": arm, "score": score}
    return estimate(result.here_by_seed.sel(at).values, _WITHIN)


def _beside(result: xr.Dataset, first: dict[str, str], second: dict[str, str]) -> Estimate:
    """Return the first accuracy − the second, over seeds."""
    return estimate((result.here_by_seed.sel(first) - result.here_by_seed.sel(second)).values)


def _percent(accuracy: Estimate) -> str:
    return f"{accuracy.formatted(decimals=1)}\N{NO-BREAK SPACE}%"


def _points(difference: Estimate) -> str:
    return difference.formatted(decimals=1, sign=True)


def _measured(result: xr.Dataset, data_set: str) -> list[tuple[str, str]]:
    """Return the networks and arms of which something is known."""
    if data_set not in result.data_set.values:
        return []
    known = result.here_by_seed.sel(data_set=data_set).notnull().any(["seed", "score"])
    return [
        (str(net), str(arm))
        for net in result.net.values
        for arm in result.arm.values
        if bool(known.sel(net=net, arm=arm))
    ]


def _alone(result: xr.Dataset) -> str:
    return "" if result.sizes["seed"] > 1 else " (of one network each, without an error)"


def _swap(result: xr.Dataset, task: str) -> Iterator[str]:
    """Say what swapping the places or times of the classes costs each arm."""
    parts, lower, same, untold = [], [], [], []
    chance = float(result.chance.sel(data_set=task)) if task in result.data_set.values else np.nan
    for net, arm in _measured(result, task):
        trained, other = (_accuracy(result, task, net, arm, score) for score in (_TRAINED, _SWAPPED))
        if not (trained.is_known and other.is_known):
            continue
        at = {"data_set": task, "net": net, "arm": arm}
        lost = _beside(result, {**at, "score": _TRAINED}, {**at, "score": _SWAPPED})
        parts.append(f"{arm} {_percent(trained)} and {_percent(other)}")
        if not trained.low > chance:
            untold.append(arm)
            continue
        first, second = (result.here_by_seed.sel({**at, "score": score}).values for score in (_TRAINED, _SWAPPED))
        if np.array_equal(first, second, equal_nan=True):
            same.append(arm)
        elif lost.differs and lost.mean > 0:
            lower.append((arm, lost))
    if not parts:
        return
    falls = [f"{arm} (by {lost.formatted(decimals=1)} points)" for arm, lost in lower]
    told = (
        f"Accuracy falls with {joined(falls)}{_alone(result)}: these networks go by {task}."
        if lower
        else f"That it falls is shown for no kind of network{_alone(result)}."
    )
    yield (
        f"Right and left, each in a {_HALVES[task]} of its own in training; there, and with the two swapped: "
        f"{'; '.join(parts)}. {told}"
        f"{f' Not above chance even as trained: {joined(untold)}.' if untold else ''}"
    )
    if same:
        yield (
            f"With {joined(same)} networks, swapping {'the halves of the frame' if task == 'place' else 'the times'} "
            "changes no accuracy at all."
        )


def _directions(result: xr.Dataset) -> str:
    """Say how well directions are told, and whether that takes the order of the frames."""
    parts, in_order = [], []
    for net, arm in _measured(result, "directions"):
        told, mixed = (_accuracy(result, "directions", net, arm, score) for score in (_TRAINED, _SHUFFLED))
        if told.is_known and mixed.is_known:
            parts.append(f"{arm} {_percent(told)}, with shuffled frames {_percent(mixed)}")
            if told.low > _WITHOUT_ORDER:
                in_order.append(arm)
    if not parts:
        return ""
    chance = float(result.chance.sel(data_set="directions"))
    tail = (
        f" Above 50 %, which no network reaches without the order of the frames: {joined(in_order)}."
        if in_order
        else " None is above 50 %, which can be reached without the order of the frames."
    )
    of_chance = f" (chance {chance:.1f} %)" if np.isfinite(chance) else ""
    return f"One of eight directions, wherever the digit moves{of_chance}: {'; '.join(parts)}.{tail}"


def _folders(result: xr.Dataset) -> list[str]:
    return [str(name) for name in result.data_set.values if str(name) not in ("directions", *_HALVES)]


def _videos(result: xr.Dataset) -> Iterator[str]:
    """Say how well the actions of a folder are told, and how the arms differ from S-Conv."""
    for name in _folders(result):
        for net in dict.fromkeys(net for net, _ in _measured(result, name)):
            arms = [arm for of, arm in _measured(result, name) if of == net]
            known = {arm: [_accuracy(result, name, net, arm, score) for score in (_CHOSEN, _VIDEOS)] for arm in arms}
            known = {arm: both for arm, both in known.items() if all(one.is_known for one in both)}
            if not known:
                continue
            chance = float(result.chance.sel(data_set=name))
            of_chance = f" (chance {chance:.1f} %)" if np.isfinite(chance) else ""
            numbers = "; ".join(f"{arm} {_percent(clip)} and {_percent(video)}" for arm, (clip, video) in known.items())
            yield f"{name}, {net} network, accuracy of clips and of videos in the chosen epoch{of_chance}: {numbers}."
            if _S in known:
                yield from _against_s(result, name, net, [arm for arm in known if arm != _S])


def _against_s(result: xr.Dataset, name: str, net: str, arms: list[str]) -> Iterator[str]:
    parts: list[str] = []
    better: list[str] = []
    worse: list[str] = []
    for arm in arms:
        at = {"data_set": name, "net": net, "score": _CHOSEN}
        difference = _beside(result, {**at, "arm": arm}, {**at, "arm": _S})
        parts.append(f"{arm} {_points(difference)}")
        if difference.differs:
            (better if difference.mean > 0 else worse).append(arm)
    if not parts:
        return
    verdicts = [
        f"{joined(found)} {word} than S-Conv" for found, word in ((better, "better"), (worse, "worse")) if found
    ]
    told = "; ".join(verdicts) if verdicts else "none can be told from S-Conv"
    yield f"{name}, {net}: clips, − S-Conv, in points: {'; '.join(parts)}. Beyond error: {told}{_alone(result)}."


def _on_the_test(result: xr.Dataset) -> str:
    """Say what choosing the epoch on the test clips adds, as was published."""
    gain = (result.here.sel(score=_BEST) - result.here.sel(score=_CHOSEN)).stack(case=("data_set", "net", "arm"))
    gain = gain.dropna("case")
    if not gain.sizes["case"] or not float(gain.max()) > 0:
        return ""
    return (
        f"The best epoch on the test clips, as published, adds {float(gain.mean()):.1f} points in the mean to that of "
        f"validation, {float(gain.max()):.1f} at most: it is chosen on the clips that it is reported on."
    )


def _cost(result: xr.Dataset) -> str:
    """Say how many times the products of S-Conv the others take."""
    if _S not in result.measured_arm.values:
        return ""
    parts = []
    for net in result.measured_net.values:
        times = result.products.sel(measured_net=net) / result.products.sel(measured_net=net, measured_arm=_S)
        others = [(str(arm), float(times.sel(measured_arm=arm))) for arm in times.measured_arm.values if arm != _S]
        named = [f"{arm} {value:.1f}" for arm, value in others if np.isfinite(value)]
        if named:
            parts.append(f"{net}: {', '.join(named)}")
    return f"Products for a clip, in those of S-Conv: {'; '.join(parts)}." if parts else ""


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the accuracies on moving digits, or those on videos with their curves."""
    if any(_measured(result, task) for task in ("directions", *_HALVES)):
        report.add_section("Where and when").add_figure(
            _draw_tasks(result),
            caption="Accuracy on digits that were not trained on, a point for each network. Filled: each class where "
            "and when it was in training, or frames in order; open: swapped, or frames shuffled. Dashed: chance.",
            alt=" ".join([*_swap(result, "place"), *_swap(result, "time"), _directions(result)]),
        )
    for name in _folders(result):
        if _measured(result, name):
            report.add_section(f"Videos: {name}").add_figure(
                _draw_videos(result, name),
                caption="Accuracy of clips and of videos in the epoch that validation chooses, mean and 95 % interval "
                "over seeds (of two seeds, both values). Dashed: chance."
                + (
                    " Diamonds: published, clips in the best epoch on the test."
                    if result.published.sel(data_set=name).notnull().any()
                    else ""
                ),
                alt=" ".join(_videos(result)),
            )
    if "by_epoch" in result:
        report.add_section("Learning").add_figure(
            _draw_curves(result),
            caption="Accuracy of the clips of validation (dotted) and test (lines) after each epoch, mean over seeds.",
            alt="Lines by epoch. " + " ".join(_videos(result)),
            table=result.by_epoch.mean("seed").to_series().rename("accuracy (%)").reset_index(),
        )


def _draw_tasks(result: xr.Dataset) -> Figure:
    tasks = [task for task in (*_HALVES, "directions") if _measured(result, task)]
    arms = list(dict.fromkeys(arm for task in tasks for _, arm in _measured(result, task)))
    figure = Figure(figsize=(3.1 * len(tasks) + 1.2, 1.0 + 0.36 * len(arms)), layout="constrained")
    for ax, task in zip(figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
        second = _SHUFFLED if task == "directions" else _SWAPPED
        for net, arm in _measured(result, task):
            place, colour = arms.index(arm), COLOURS[arms.index(arm)]
            for score, face, lift in ((_TRAINED, colour, -0.14), (second, "none", 0.14)):
                values = result.here_by_seed.sel(data_set=task, net=net, arm=arm, score=score).values
                ax.plot(values, np.full(len(values), place + lift), "o", color=colour, markerfacecolor=face)
        ax.axvline(float(result.chance.sel(data_set=task)), color="0.5", linestyle="--", linewidth=1)
        ax.set(xlim=(-3, 103), xlabel="accuracy (%)", title=task)
        ax.set_yticks(range(len(arms)), arms, fontsize="small")
        ax.set_ylim(len(arms) - 0.5, -0.5)
        sns.despine(ax=ax)
    return figure


def _draw_videos(result: xr.Dataset, name: str) -> Figure:
    cases = _measured(result, name)
    figure = Figure(figsize=(7.0, 1.0 + 0.34 * len(cases)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, score, title in zip(panels, (_CHOSEN, _VIDEOS), ("clips", "videos"), strict=True):
        found = [_accuracy(result, name, net, arm, score) for net, arm in cases]
        places = np.arange(len(cases))
        ax.errorbar(
            [one.mean for one in found], places, xerr=bars(found, _WITHIN), fmt="o", color=COLOURS[2], capsize=2
        )
        if score == _CHOSEN:
            published = [
                float(result.published.sel(data_set=name, net=net, arm=arm, score=_BEST)) for net, arm in cases
            ]
            ax.plot(published, places, "D", color="black", fillstyle="none", markersize=7)
        ax.axvline(float(result.chance.sel(data_set=name)), color="0.5", linestyle="--", linewidth=1)
        _label(ax, cases)
        ax.set(xlabel="accuracy (%)", title=title, xlim=(0, None))
    return figure


def _label(ax: Axes, cases: list[tuple[str, str]]) -> None:
    nets = {net for net, _ in cases}
    names = [arm if len(nets) == 1 else f"{net}, {arm}" for net, arm in cases]
    ax.set_yticks(range(len(cases)), names, fontsize="small")
    ax.set_ylim(len(cases) - 0.5, -0.5)
    sns.despine(ax=ax)


def _draw_curves(result: xr.Dataset) -> Figure:
    nets = [str(net) for net in result.measured_net.values]
    figure = Figure(figsize=(4.2 * len(nets) + 1.6, 3.0), layout="constrained")
    axes = figure.subplots(1, len(nets), sharey=True, squeeze=False)[0]
    for ax, net in zip(axes, nets, strict=True):
        for number, arm in enumerate(result.measured_arm.values):
            for part, line in (("test", "-"), ("validation", ":")):
                curve = result.by_epoch.sel(measured_net=net, measured_arm=arm, part=part).mean("seed")
                ax.plot(curve.epoch, curve, line, color=COLOURS[number], label=str(arm) if part == "test" else None)
        ax.set(xlabel="epoch", title=net)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        sns.despine(ax=ax)
    axes[0].set_ylabel("accuracy of clips (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure
