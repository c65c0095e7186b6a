"""What the page of the study red_green shows."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.reports.page.colours import COLOURS
from probe.reports.page.document import Report
from probe.reports.page.estimates import Estimate, estimate, joined

__all__ = ["add_figures", "findings"]

_CHANCE = 50.0
_NEGLIGIBLE = 1.0  # points of accuracy
_CLEARLY = 10.0  # points from chance
_NEAR, _FAR = slice(5, 12), slice(21, 27)  # columns from box to box
_RECEPTIVE_FIELD = 17  # columns that one cell of the last map sees
_SIMILAR, _DISSIMILAR = COLOURS[:2]
_COLUMNS = 4
_PANEL = (2.6, 2.2)  # inches


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [
        _by_place(result),
        _anywhere(result),
        _unlearned(result),
        _unpublished(result),
        _unseen(result),
        _apart(result),
    ]
    return [sentence for sentence in sentences if sentence]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add the images, the accuracies of all networks, and the accuracy by the distance of the boxes."""
    section = report.add_section("Images")
    section.add_figure(
        _draw_examples(result),
        caption="An image of each class where it stands in training, and where it never stands there.",
        alt="A red and a green box on black. In training red left of green stands in the upper half, green left of "
        "red in the lower half; in the dissimilar test each stands in the other half.",
    )
    section = report.add_section("Accuracy by padding")
    section.add_figure(
        _draw_accuracies(result),
        caption="A point for each network; diamonds: as published. Left, the tests as published, of images that were "
        "trained on; right, of unseen images. Dotted: chance.",
        alt=f"Points by padding. Means, similar and dissimilar: {_pairs(result, '')}; of unseen images: "
        f"{_pairs(result, ', unseen')}.",
    )
    section = report.add_section("How far apart the boxes may be")
    section.add_figure(
        _draw_distances(result),
        caption="Accuracy on unseen images by the columns from the beginning of the left box to that of the right "
        f"one, all networks of a padding together. A cell of the last map sees {_RECEPTIVE_FIELD} columns. Dotted: "
        "chance.",
        alt=f"Lines by distance, a panel for each padding. Similar test, boxes {_NEAR.start} to {_NEAR.stop} and "
        f"{_FAR.start} to {_FAR.stop} columns apart: {_near_and_far(result)}.",
        table=result.by_distance.mean("seed").rename("accuracy").to_dataframe().reset_index(),
    )


def _by_place(result: xr.Dataset) -> str:
    paddings = [p for p in _paddings(result) if _goes_by_place(result, p)]
    if not paddings:
        return ""
    numbers = [f"{padding} {_both(result, padding)}" for padding in paddings]
    return (
        f"Networks with {joined(paddings)} padding go by place: where each class stands in the half in which the other "
        f"was trained, they answer wrongly{_beyond(result)}. Accuracy in the trained and in the other half: "
        f"{'; '.join(numbers)}."
    )


def _beyond(result: xr.Dataset) -> str:
    return ", beyond error" if result.sizes["seed"] > 1 else " (of one network each, without an error)"


def _goes_by_place(result: xr.Dataset, padding: str) -> bool:
    return _learned(result, padding) and _accuracy(result, padding, "dissimilar").high < _CHANCE - _CLEARLY


def _learned(result: xr.Dataset, padding: str) -> bool:
    """Whether the classes are told where they were trained, beyond chance and error."""
    return _accuracy(result, padding, "similar").low > _CHANCE


def _accuracy(result: xr.Dataset, padding: str, test: str) -> Estimate:
    return estimate(result.here_by_seed.sel(padding=padding, test=test).values)


def _anywhere(result: xr.Dataset) -> str:
    """Say where the other half costs accuracy, and where networks are exactly as good in it."""
    learned = [p for p in _paddings(result) if _learned(result, p) and not _goes_by_place(result, p)]
    halves = {p: [result.here_by_seed.sel(padding=p, test=test) for test in ("similar", "dissimilar")] for p in learned}
    same = [p for p, (trained, other) in halves.items() if np.array_equal(trained, other)]
    sentences = []
    if same:
        numbers = [f"{padding} {_both(result, padding)}" for padding in same]
        sentences.append(
            f"With {joined(same)} padding each network is exactly as good in the other half as in the trained one: "
            f"{'; '.join(numbers)}. The move of 16 rows is a multiple of the total stride of 8, so this test cannot "
            "see what strides do."
        )
    unlike = {p: estimate((trained - other).values) for p, (trained, other) in halves.items() if p not in same}
    worse = [p for p, loss in unlike.items() if loss.differs and loss.mean > _NEGLIGIBLE]
    better = [p for p, loss in unlike.items() if loss.differs and loss.mean < -_NEGLIGIBLE]
    undecided = [p for p, loss in unlike.items() if loss.is_known and p not in worse and p not in better]
    for paddings, word in ((worse, "worse"), (better, "better")):
        if paddings:
            numbers = [f"{p} {_both(result, p)}" for p in paddings]
            sentences.append(f"In the other half networks are {word} with {'; '.join(numbers)}{_beyond(result)}.")
    if undecided:
        numbers = [f"{p} {_both(result, p)}" for p in undecided]
        sentences.append(f"Whether the other half makes a difference cannot be told with {'; '.join(numbers)}.")
    return " ".join(sentences)


def _unlearned(result: xr.Dataset) -> str:
    """Name the paddings whose networks do not tell the classes even where they were trained."""
    failed = [p for p in _paddings(result) if _accuracy(result, p, "similar").is_known and not _learned(result, p)]
    if not failed:
        return ""
    numbers = [f"{padding} {_phrase(result, padding, 'similar')}" for padding in failed]
    return (
        "Not above chance even in the trained half, so that nothing can be said of the other one: "
        f"{'; '.join(numbers)}."
    )


def _unpublished(result: xr.Dataset) -> str:
    paddings = [
        p
        for p in _paddings(result)
        if np.isnan(_published(result, p, "similar")) and _accuracy(result, p, "similar").is_known
    ]
    return f"Not published before: {joined(paddings)}." if paddings else ""


def _unseen(result: xr.Dataset) -> str:
    seen, unseen = (result.here_by_seed.sel(test=test) for test in ("similar", "similar, unseen"))
    known = (seen - unseen).dropna("padding", how="all")
    if not known.sizes["padding"]:
        return ""
    losses = _losses(known)
    formatted = "The published “similar” images were trained on"
    if not losses:
        beyond = " beyond its error" if result.sizes["seed"] > 1 else ""
        return f"{formatted}; that accuracy is lost on unseen ones of the same places is not shown{beyond}."
    values = joined(f"{padding} ({loss.formatted(decimals=1)} points)" for padding, loss in losses.items())
    return f"{formatted}. On unseen ones of the same places the accuracy is lower under {values}."


def _apart(result: xr.Dataset) -> str:
    near, far = _by_reach(result, _NEAR), _by_reach(result, _FAR)
    losses = _losses(near - far)
    if not losses:
        return ""
    padding, loss = next(iter(losses.items()))
    sentence = (
        f"Boxes far apart are recognised less often: a cell of the last map sees {_RECEPTIVE_FIELD} columns. "
        f"With {padding} padding {float(near.sel(padding=padding).mean()):.1f} % of unseen images are recognised with "
        f"boxes {_NEAR.start} to {_NEAR.stop} columns apart, and {float(far.sel(padding=padding).mean()):.1f} % at "
        f"{_FAR.start} to {_FAR.stop}: lower by {loss.formatted(decimals=1)} points."
    )
    if padding == "circular":
        sentence += (
            " Around the other side the boxes are 32 columns less their distance apart, in the opposite order, so "
            "that boxes far apart look like the other class."
        )
    return sentence


def _losses(differences: xr.DataArray) -> dict[str, Estimate]:
    """Return, by padding, what is lost beyond its error over seeds, the most first."""
    found = {str(padding): estimate(differences.sel(padding=padding).values) for padding in differences.padding.values}
    lost = {padding: loss for padding, loss in found.items() if loss.differs and loss.mean > 0}
    return dict(sorted(lost.items(), key=lambda item: -item[1].mean))


def _by_reach(result: xr.Dataset, distances: slice) -> xr.DataArray:
    """Return the accuracy on unseen images whose boxes are so far apart, by seed and padding."""
    chosen = result.sel(test="similar, unseen", distance=distances)
    return chosen.by_distance.weighted(chosen.images.fillna(0)).mean("distance")


def _near_and_far(result: xr.Dataset) -> str:
    near, far = _by_reach(result, _NEAR), _by_reach(result, _FAR)
    return "; ".join(
        f"{p} {float(near.sel(padding=p).mean()):.0f} % and {float(far.sel(padding=p).mean()):.0f} %"
        for p in _paddings(result)
    )


def _paddings(result: xr.Dataset) -> list[str]:
    return [str(padding) for padding in result.padding.values]


def _mean(result: xr.Dataset, padding: str, test: str) -> float:
    return float(result.here.sel(padding=padding, test=test))


def _published(result: xr.Dataset, padding: str, test: str) -> float:
    return float(result.published.sel(padding=padding, test=test))


def _both(result: xr.Dataset, padding: str) -> str:
    """Tell the accuracies of a padding in both halves with their intervals, and the published ones."""
    here = " and ".join(_phrase(result, padding, test) for test in ("similar", "dissimilar"))
    published = [_published(result, padding, test) for test in ("similar", "dissimilar")]
    return here if np.isnan(published).any() else f"{here} (published: {published[0]:.1f} and {published[1]:.1f} %)"


def _phrase(result: xr.Dataset, padding: str, test: str) -> str:
    found = estimate(result.here_by_seed.sel(padding=padding, test=test).values)
    return f"{found.formatted(decimals=1, within=(0, 100))}\N{NO-BREAK SPACE}%"


def _pairs(result: xr.Dataset, suffix: str) -> str:
    tests = [f"{name}{suffix}" for name in ("similar", "dissimilar")]
    return "; ".join(
        f"{padding} {' and '.join(f'{_mean(result, padding, test):.1f} %' for test in tests)}"
        for padding in _paddings(result)
    )


def _draw_examples(result: xr.Dataset) -> Figure:
    tests = ["similar", "dissimilar"]
    figure = Figure(figsize=(3.6, 3.6), layout="constrained")
    grid = figure.subplots(2, 2)
    for row, label in enumerate(result.label.values):
        for column, test in enumerate(tests):
            ax = grid[row, column]
            ax.imshow(result.example.sel(label=label, test=test).values, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title("as in training" if test == "similar" else "moved by 16 rows", fontsize="medium")
        grid[row, 0].set_ylabel(str(label), fontsize="small", parse_math=False)
    return figure


def _draw_accuracies(result: xr.Dataset) -> Figure:
    paddings = _paddings(result)
    figure = Figure(figsize=(9.2, 1.2 + 0.36 * len(paddings)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, suffix, title in zip(panels, ("", ", unseen"), ("as published", "unseen images"), strict=True):
        for name, colour, lift in (("similar", _SIMILAR, -0.15), ("dissimilar", _DISSIMILAR, 0.15)):
            chosen = result.sel(test=f"{name}{suffix}")
            for place, padding in enumerate(paddings):
                accuracies = chosen.here_by_seed.sel(padding=padding).values
                label = name if place == 0 else None
                ax.plot(
                    accuracies,
                    np.full(len(accuracies), place + lift),
                    "o",
                    color=colour,
                    alpha=0.6,
                    markersize=5,
                    label=label,
                )
                ax.plot(
                    chosen.published.sel(padding=padding),
                    place + lift,
                    "D",
                    color="black",
                    fillstyle="none",
                    markersize=8,
                )
        ax.axvline(_CHANCE, color="0.6", linestyle=":", zorder=0)
        ax.set(xlabel="accuracy (%)", title=title, yticks=range(len(paddings)), xlim=(-3, 103))
        ax.set_yticklabels(paddings, parse_math=False)
        ax.set_ylim(len(paddings) - 0.5, -0.5)
        sns.despine(ax=ax)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _draw_distances(result: xr.Dataset) -> Figure:
    paddings = _paddings(result)
    n_rows, n_columns = -(-(len(paddings) + 1) // _COLUMNS), min(_COLUMNS, len(paddings) + 1)
    figure = Figure(figsize=(_PANEL[0] * n_columns, _PANEL[1] * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for padding, ax in zip(paddings, grid.flat, strict=False):
        for name, colour, line in (("similar", _SIMILAR, "-"), ("dissimilar", _DISSIMILAR, "--")):
            accuracy = result.by_distance.sel(padding=padding, test=f"{name}, unseen").mean("seed")
            ax.plot(accuracy.distance, accuracy, line, color=colour, label=name)
        ax.axhline(_CHANCE, color="0.6", linestyle=":", zorder=0)
        ax.set_title(padding, fontsize="medium", parse_math=False)
        ax.tick_params(labelbottom=True)
        sns.despine(ax=ax)
    _finish(figure, grid, len(paddings))
    return figure


def _finish(figure: Figure, grid: np.ndarray, count: int) -> None:
    """Label the outer panels; the first cell behind the last panel is for the legend."""
    for ax in grid.flat[count:]:
        ax.set_axis_off()
    first: Axes = grid.flat[0]
    grid.flat[count].legend(*first.get_legend_handles_labels(), loc="center", frameon=False)
    figure.supxlabel("columns from box to box", fontsize="medium")
    figure.supylabel("accuracy (%)", fontsize="medium")
