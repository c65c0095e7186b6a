"""What the page of the study on quadrants says and shows. Never loads torch."""

from itertools import takewhile

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, bars, estimate, joined, written

__all__ = ["add_figures", "draw_accuracy", "findings"]

_CHANCE = 50.0
_CLEAN, _LEAKING = "clean", "as published"
_CLEAN_COLOUR, _LEAKING_COLOUR = COLOURS[:2]
_PANEL = (2.9, 2.1)  # inches
_NAMES = {"bagnet33": "BagNet-33", "resnet18": "ResNet-18", "densenet121": "DenseNet-121"}


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences. Errors are 95 % t intervals over seeds.

    Parameters
    ----------
    result
        From `probe.analyses.quadrants.study.run`.
    """
    measured = [
        (str(net), str(training))
        for training in result.training.values
        for net in result.net.values
        if _by_border(result, str(net), str(training), _CLEAN)
    ]
    sentences = [_reach(result, net, training) for net, training in measured]
    sentences += [_blind(result), _leak(result), _without_weights(result)]
    return [sentence for sentence in sentences if sentence]


def _reach(result: xr.Dataset, net: str, training: str) -> str:
    """Say up to which border the corner is told on new images, and what becomes of it behind the next one."""
    accuracies = _by_border(result, net, training, _CLEAN)
    formatted = list(takewhile(lambda border: _is_told(accuracies[border]), accuracies))
    subject = f"{_name(net)}, {training}{'' if result.sizes['seed'] > 1 else ' (one network, without an error)'}:"
    beyond = " beyond error" if result.sizes["seed"] > 1 else ""
    if not formatted:
        least = _phrase(result, net, training, next(iter(accuracies)))
        return f"{subject} the corner is not told{beyond} at the least border, of {least}."
    sentence = f"{subject} the corner is told up to a border of {_phrase(result, net, training, formatted[-1])}"
    wider = [border for border in accuracies if border > formatted[-1]]
    if not wider:
        return f"{sentence}, the widest measured."
    again = [border for border in wider if _is_told(accuracies[border])]
    then = f", but again at {_phrase(result, net, training, again[0])}" if again else ""
    return f"{sentence}, and not{beyond} behind {_phrase(result, net, training, wider[0])}{then}."


def _blind(result: xr.Dataset) -> str:
    """Name the borders at which every network of a kind gives exactly half of the answers right."""
    clean = result.here_by_seed.sel(test_set=_CLEAN)
    exact = ((clean == _CHANCE) | clean.isnull()).all("seed") & clean.notnull().any("seed")
    borders = {
        str(net): sorted({int(b) for b in result.border.values if exact.sel(net=net, border=b).any("training")})
        for net in result.net.values
    }
    parts = [f"{_name(net)} at {joined(map(str, found))} pixels" for net, found in borders.items() if found]
    if not parts:
        return ""
    return (
        f"Exactly 50 % in every seed, the answer to both corners being the same: {joined(parts)}. No border effect "
        "reaches the features there, or training has not found it."
    )


def _leak(result: xr.Dataset) -> str:
    excess = result.here.sel(test_set=_LEAKING) - result.here.sel(test_set=_CLEAN)
    cases = excess.stack(case=("net", "training", "border")).dropna("case")
    if not cases.sizes["case"]:
        return ""
    if not float(cases.max()) > 0:
        return "On the images of the training itself, as published, accuracy is nowhere higher than on new ones."
    most = cases.isel(case=int(cases.values.argmax()))
    where = f"{_name(most.net.item())}, {most.training.item()}, {int(most.border)} pixels"
    return (
        "On the images of the training itself, as published, accuracy − that on new ones is "
        f"{written(float(cases.mean()), 1, sign=True)} points in the mean, and {float(most):.1f} at most ({where})."
    )


def _without_weights(result: xr.Dataset) -> str:
    if result.here.sel(training="given weights, frozen").notnull().any():
        return ""
    return "No trained weights were given, so nothing here speaks of trained networks that stay frozen."


def _by_border(result: xr.Dataset, net: str, training: str, test_set: str) -> dict[int, Estimate]:
    """Return the accuracy at each border that was measured."""
    chosen = result.here_by_seed.sel(net=net, training=training, test_set=test_set)
    accuracies = {int(border): estimate(chosen.sel(border=border).values) for border in result.border.values}
    return {border: accuracy for border, accuracy in accuracies.items() if accuracy.is_known}


def _is_told(accuracy: Estimate) -> bool:
    return accuracy.low > _CHANCE


def _phrase(result: xr.Dataset, net: str, training: str, border: int) -> str:
    accuracy = _by_border(result, net, training, _CLEAN)[border]
    published = float(result.published.sel(net=net, training=training, border=border, test_set=_LEAKING))
    beside = "" if np.isnan(published) else f"; published {published:.4g} %"
    return f"{border} pixels ({accuracy.formatted(decimals=1, within=(0, 100))} %{beside})"


def _name(net: str) -> str:
    return _NAMES.get(net, net)


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add accuracy by border, in a section of its own.

    Parameters
    ----------
    report
        The page.
    result
        From `probe.analyses.quadrants.study.run`.
    """
    numbers = result[["published", "here"]].to_dataframe().reset_index()
    measured = numbers.dropna(subset=["here"])
    said = "; ".join(
        f"{_name(str(row.net))}, {row.training}, border {row.border}: {row.here:.0f} %"
        for row in measured[measured.test_set == _CLEAN].itertuples()
    )
    report.add_section("Accuracy by border").add_figure(
        draw_accuracy(result),
        caption="How often the corner is told behind a black border. Circles: on new images, with the 95 % interval "
        "over seeds. Crosses: on the images of the training, as published. Squares: the published numbers. Dashed: "
        "chance. Borders are evenly spaced.",
        alt=f"Accuracy by the width of the border, a panel for each network and training. On new images: {said}.",
        table=measured.rename(columns={"published": "published (%)", "here": "here (%)"}),
    )


def draw_accuracy(result: xr.Dataset) -> Figure:
    """Draw accuracy by border: a row for each training, a column for each network."""
    nets, trainings = result.net.values, result.training.values
    size = (_PANEL[0] * len(nets), _PANEL[1] * len(trainings) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(trainings), len(nets), sharex=True, sharey=True, squeeze=False)
    for row, training in enumerate(trainings):
        for column, net in enumerate(nets):
            ax = grid[row, column]
            _draw_panel(ax, result, str(net), str(training))
            if row == 0:
                ax.set_title(_name(str(net)), fontsize="medium", parse_math=False)
        grid[row, 0].set_ylabel(str(training).replace(", ", ",\n") + "\naccuracy (%)", fontsize="small")
    for ax in grid[-1]:
        ax.set_xticks(range(result.sizes["border"]), [str(border) for border in result.border.values], fontsize="small")
        ax.set_xlabel("border (pixels)", fontsize="small")
    grid[0, 0].set_ylim(40, 104)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_panel(ax: Axes, result: xr.Dataset, net: str, training: str) -> None:
    ax.axhline(_CHANCE, color="0.6", linestyle="--", linewidth=0.8, zorder=0)
    borders = [int(border) for border in result.border.values]
    published = result.published.sel(net=net, training=training, test_set=_LEAKING)
    ax.plot(range(len(borders)), published, "s", color="0.4", fillstyle="none", markersize=9, label="published")
    clean = _by_border(result, net, training, _CLEAN)
    ax.errorbar(
        [borders.index(border) for border in clean],
        [accuracy.mean for accuracy in clean.values()],
        bars(list(clean.values()), (0, 100)),
        fmt="o-",
        color=_CLEAN_COLOUR,
        markersize=5,
        capsize=2,
        label="here, new images",
    )
    leaking = _by_border(result, net, training, _LEAKING)
    places = [borders.index(border) for border in leaking]
    means = [accuracy.mean for accuracy in leaking.values()]
    ax.plot(places, means, "x:", color=_LEAKING_COLOUR, markersize=6, label="here, images of the training")
    if not clean:
        ax.text(0.5, 0.55, "not measured here", transform=ax.transAxes, ha="center", color="0.4", fontsize="small")
    sns.despine(ax=ax)
