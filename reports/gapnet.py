"""What the page of the study on global pooling says and shows. Never loads torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, estimate, written

__all__ = ["add_figures", "draw_accuracy", "draw_learning", "draw_readouts", "findings"]

_COLOURS = COLOURS
_OTHERS_COLOUR = "0.2"
_SPOKEN_KINDS = {
    "ordered": "in order",
    "permuted_by_image": "permuted\nby image",
    "permuted_by_batch": "permuted\nby batch",
    "sum": "sum\nalone",
    "sorted": "sorted\nvalues",
}


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, as sentences, for the smallest and the largest canvas.

    Errors are 95 % t intervals over training seeds.

    Parameters
    ----------
    result
        From `probe.analyses.gapnet.study.run`.
    """
    grids = sorted({int(result.grid.min()), int(result.grid.max())})
    sentences = [sentence(result, grid) for grid in grids for sentence in (_location, _head, _remains, _image_class)]
    sentences += [_best_epoch(result), _published(result), _errors(result)]
    return [sentence for sentence in sentences if sentence]


def _location(result: xr.Dataset, grid: int) -> str:
    """Say how well the two networks of the paper tell the cell, and what a permutation of their own adds."""
    scores = {net: _last(result, "location", net, grid) for net in result.net.values}
    if not {"GAPNet", "PermuteNet"} <= {net for net, score in scores.items() if score.is_known}:
        return ""
    sentence = (
        f"With {grid}×{grid} cells (chance {_chance(result, 'location', grid)}), GAPNet tells the cell of "
        f"{_percent(scores['GAPNet'])} of the test images, PermuteNet that of {_percent(scores['PermuteNet'])} in the "
        "last epoch."
    )
    if "PermuteNet, by image" in scores:
        sentence += f" With a permutation for each image it is {_percent(scores['PermuteNet, by image'])}."
    return sentence


def _head(result: xr.Dataset, grid: int) -> str:
    """Say how much of the difference is the permutation's, and how much that of the other differences."""
    if not {"GAPNet", "PermuteNet", "unpermuted"} <= set(result.net.values):
        return ""
    by_net = result.here_by_seed.sel(measure="location", grid=grid, epoch="last")
    permutation = estimate((by_net.sel(net="unpermuted") - by_net.sel(net="PermuteNet")).values)
    head = estimate((by_net.sel(net="GAPNet") - by_net.sel(net="unpermuted")).values)
    if not permutation.is_known or not head.is_known:
        return ""
    share = _percent(_last(result, "location", "unpermuted", grid))
    return (
        f"At {grid}×{grid} the same network as PermuteNet without the permutation tells {share}: without it − with it "
        f"is {_points(permutation)}{_undecided(permutation)}; GAPNet, which differs in its head as well, differs from "
        f"it by {_points(head)}{_undecided(head)}."
    )


def _undecided(difference: Estimate) -> str:
    """Say of a difference over seeds that it cannot be told from none."""
    return ", which cannot be told from none" if difference.count > 1 and difference.is_tie else ""


def _remains(result: xr.Dataset, grid: int) -> str:
    """Say what of the cell is left in PermuteNet's channels without their order."""
    if "PermuteNet" not in result.net.values:
        return ""
    read = result.readout.sel(measure="location", net="PermuteNet", grid=grid)
    ordered, total, values = (estimate(read.sel(kind=kind).values) for kind in ("ordered", "sum", "sorted"))
    if not values.is_known:
        return ""
    sentence = (
        f"From the pooled channels of PermuteNet trained for the cell ({grid}×{grid}), a linear readout tells "
        f"{_percent(ordered)} in order, {_percent(total)} from their sum alone, and {_percent(values)} from their "
        f"sorted values, which is all that a permutation leaves (chance {_chance(result, 'location', grid)})."
    )
    chance = float(result.chance.sel(measure="location", grid=grid))
    if total.low > chance or values.low > chance:
        return f"{sentence} So the cell stands in what does not depend on the order of the channels."
    return f"{sentence} That the cell stands in what does not depend on their order is not shown."


def _image_class(result: xr.Dataset, grid: int) -> str:
    scores = {net: _last(result, "image class", net, grid) for net in result.net.values}
    if not {"GAPNet", "PermuteNet"} <= {net for net, score in scores.items() if score.is_known}:
        return ""
    sentence = (
        f"The class of the image ({grid}×{grid}, chance {_chance(result, 'image class', grid)}): GAPNet "
        f"{_percent(scores['GAPNet'])}, PermuteNet {_percent(scores['PermuteNet'])} in the last epoch."
    )
    if "unpermuted" in scores:
        sentence += f" Without the permutation it is {_percent(scores['unpermuted'])}."
    numbers = result.sel(measure="image class", grid=grid, epoch="best")
    lost = {
        name: float(numbers[name].sel(net="GAPNet") - numbers[name].sel(net="PermuteNet"))
        for name in ("published", "here")
    }
    if np.isnan(lost["published"]) or np.isnan(lost["here"]):
        return sentence
    return (
        f"{sentence} In their best epochs GAPNet − PermuteNet is {written(lost['here'], 1, sign=True)} points here, "
        f"and {written(lost['published'], 1, sign=True)} as published."
    )


def _best_epoch(result: xr.Dataset) -> str:
    gain = (result.here.sel(epoch="best") - result.here.sel(epoch="last")).stack(case=("measure", "net", "grid"))
    gain = gain.dropna("case")
    if not gain.sizes["case"] or not float(gain.max()) > 0:
        return ""
    most = gain.isel(case=int(gain.argmax("case")))
    return (
        f"Taking the best epoch on the test images, as published, in place of the last adds {float(gain.mean()):.1f} "
        f"points in the mean, and most for {most.net.item()} ({most.measure.item()}, {most.grid.item()}×"
        f"{most.grid.item()}): {float(most):.1f} points. It is chosen on the images that it is then reported on."
    )


def _published(result: xr.Dataset) -> str:
    difference = (result.here - result.published).sel(epoch="best").stack(case=("measure", "net", "grid"))
    difference = difference.dropna("case")
    if result.attrs["preset"] != "paper":
        return (
            "These networks are smaller than the published ones, and trained on fewer images and for less, so the "
            "published accuracies are no measure of theirs; what can be compared is which network stands above which."
        )
    if not difference.sizes["case"]:
        return ""
    far = difference.isel(case=int(abs(difference).argmax("case")))
    return (
        f"Best epochs differ from the published numbers by {float(abs(difference).mean()):.1f} points in the mean, at "
        f"most by {float(far):+.1f} ({far.net.item()}, {far.measure.item()}, {far.grid.item()}×{far.grid.item()})."
    ).replace("-", "−")


def _errors(result: xr.Dataset) -> str:
    if result.sizes["seed"] > 1:
        return ""
    return "There is one network of each kind, so no error over training seeds can be given."


def _last(result: xr.Dataset, measure: str, net: str, grid: int) -> Estimate:
    return estimate(result.here_by_seed.sel(measure=measure, net=net, grid=grid, epoch="last").values)


def _chance(result: xr.Dataset, measure: str, grid: int) -> str:
    return f"{float(result.chance.sel(measure=measure, grid=grid)):.1f} %"


def _percent(value: Estimate) -> str:
    return f"{value.formatted(decimals=1, within=(0, 100))} %"


def _points(value: Estimate) -> str:
    return f"{value.formatted(decimals=1)} points"


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the figures of the study, each in a section of its own.

    Parameters
    ----------
    report
        The page.
    result
        From `probe.analyses.gapnet.study.run`.
    """
    here = result.here.sel(epoch="last").to_series().rename("accuracy (%)").reset_index()
    said = ", ".join(f"{r.net}, {r.measure}, {r.grid}×{r.grid}: {r[-1]:.1f} %" for r in here.itertuples(index=False))
    report.add_section("Accuracy").add_figure(
        draw_accuracy(result),
        caption="Accuracy on the test images: a point for each network, filled in the last epoch, open in its best. "
        "Diamonds: published, the best epoch. Triangles: a separate run at the published setting, the last epoch. "
        "Dashed: chance.",
        alt=f"Accuracy of each network in its last epoch. {said}.",
        table=here,
    )
    curves = result.by_epoch.mean("seed").to_series().rename("accuracy (%)").reset_index()
    report.add_section("Learning").add_figure(
        draw_learning(result),
        caption="Accuracy on the test images after each epoch, a line for each network. Where a line goes up and down, "
        "its best epoch is a matter of luck. Dashed: chance.",
        alt=f"Accuracy by epoch. In the last one: {said}.",
        table=curves,
    )
    read = result.readout.mean("seed").to_series().rename("cells told (%)").reset_index()
    sums = read[read.kind == "sum"]["cells told (%)"]
    orders = read[read.kind == "ordered"]["cells told (%)"]
    report.add_section("What pooled channels hold").add_figure(
        draw_readouts(result),
        caption="How often a linear readout tells the cell from the pooled channels of each trained network: in their "
        "order, permuted, from their sum alone, and from their sorted values. A linear readout of channels that are "
        "permuted for each image sees only their sum. Dashed: chance.",
        alt=f"Cells told by linear readouts of pooled channels: in order {orders.min():.0f} to {orders.max():.0f} %, "
        f"from the sum alone {sums.min():.0f} to {sums.max():.0f} %.",
        table=read,
    )


def draw_accuracy(result: xr.Dataset) -> Figure:
    """Draw the accuracy of each network in its last and best epoch beside published numbers."""

    def draw(ax: Axes, measure: str, grid: int) -> None:
        chosen = result.sel(measure=measure, grid=grid)
        for place, net in enumerate(result.net.values):
            one, colour = chosen.sel(net=net), _COLOURS[place]
            for epoch, face in (("last", colour), ("best", "none")):
                values = one.here_by_seed.sel(epoch=epoch).values
                ax.plot(values, np.full(len(values), place), "o", color=colour, markerfacecolor=face, markersize=7)
            for name, epoch, marker, offset in (("published", "best", "D", -0.24), ("separate", "last", "^", 0.24)):
                ax.plot(float(one[name].sel(epoch=epoch)), place + offset, marker, color=_OTHERS_COLOUR, markersize=5)
        ax.grid(axis="y", color="0.92", zorder=0)
        ax.axvline(float(chosen.chance), color="0.5", linestyle="--", linewidth=1)
        ax.set(xlim=(-3, 103), ylim=(result.sizes["net"] - 0.5, -0.5), xlabel="accuracy (%)")
        ax.set_yticks(range(result.sizes["net"]), [str(net) for net in result.net.values])

    figure = _panels(result, draw, width=4.4, height=0.9 + 0.46 * result.sizes["net"], legend=0.4)
    signs = [
        Line2D([], [], linestyle="", marker="o", color="0.5", label="here, last epoch"),
        Line2D([], [], linestyle="", marker="o", color="0.5", markerfacecolor="none", label="here, best epoch"),
        Line2D([], [], linestyle="", marker="D", color=_OTHERS_COLOUR, markersize=5, label="published, best epoch"),
        Line2D([], [], linestyle="", marker="^", color=_OTHERS_COLOUR, markersize=5, label="separate run, last epoch"),
    ]
    figure.legend(handles=signs, loc="outside lower center", ncols=len(signs), frameon=False)
    return figure


def draw_learning(result: xr.Dataset) -> Figure:
    """Draw the accuracy after each epoch."""

    def draw(ax: Axes, measure: str, grid: int) -> None:
        for place, net in enumerate(result.net.values):
            # Lines that coincide stay visible: the later ones are narrower.
            line: dict[str, Any] = {"color": _COLOURS[place], "linewidth": 4 - 0.9 * place}
            for number, curve in enumerate(result.by_epoch.sel(measure=measure, grid=grid, net=net)):
                ax.plot(result.trained_epochs, curve, label=None if number else str(net), **line)
        ax.axhline(float(result.chance.sel(measure=measure, grid=grid)), color="0.5", linestyle="--", linewidth=1)
        ax.set(ylim=(-3, 103), xlabel="epoch", ylabel="accuracy (%)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _with_nets(_panels(result, draw, width=4.4, height=2.8, legend=0.4))


def draw_readouts(result: xr.Dataset) -> Figure:
    """Draw how well the cell can be read from the pooled channels of each trained network."""
    kinds = [str(kind) for kind in result.kind.values]

    def draw(ax: Axes, measure: str, grid: int) -> None:
        offsets = np.linspace(-0.24, 0.24, result.sizes["net"]) if result.sizes["net"] > 1 else np.zeros(1)
        for net, colour, offset in zip(result.net.values, _COLOURS, offsets, strict=False):
            read = result.readout.sel(measure=measure, grid=grid, net=net)
            for number, values in enumerate(read):
                ax.plot(
                    np.arange(len(kinds)) + offset, values, "o", color=colour, markersize=6,
                    label=None if number else str(net),
                )  # fmt: skip
        ax.axhline(float(result.chance.sel(measure="location", grid=grid)), color="0.5", linestyle="--", linewidth=1)
        ax.set(ylim=(-3, 103), ylabel="cells told (%)")
        ax.set_xticks(range(len(kinds)), [_SPOKEN_KINDS[kind] for kind in kinds], fontsize="small")

    return _with_nets(_panels(result, draw, width=4.6, height=3.0, legend=0.4))


def _panels(
    result: xr.Dataset, draw: Callable[[Axes, str, int], None], *, width: float, height: float, legend: float
) -> Figure:
    """Draw a panel for each grid (rows) and each task that networks were trained for (columns), sizes in inches."""
    measures, grids = [str(measure) for measure in result.measure.values], [int(grid) for grid in result.grid.values]
    figure = Figure(figsize=(width * len(measures), height * len(grids) + legend), layout="constrained")
    axes = figure.subplots(len(grids), len(measures), squeeze=False, sharey=True)
    for row, grid in enumerate(grids):
        for column, measure in enumerate(measures):
            ax = axes[row, column]
            draw(ax, measure, grid)
            ax.set_title(f"trained for {measure}, {grid}×{grid} cells", fontsize="medium")
            ax.label_outer()
            sns.despine(ax=ax)
    return figure


def _with_nets(figure: Figure) -> Figure:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
