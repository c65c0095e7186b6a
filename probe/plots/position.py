"""How well position can be read from layers: of one result, or of several beside one another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from probe.errors import ArgumentError
from probe.intervals import half_width
from probe.plots.axes import (
    RESULT_COLOURS,
    RESULT_MARKERS,
    STIMULUS_COLOURS,
    TWO_COLUMNS,
    check_width,
    finish_panels,
    legend_above,
    name_layers,
    open_axes,
    open_panels,
    points_wide,
    small_text,
)  # fmt: skip
from probe.plots.inputs import check_alike, is_several, results_by_name
from probe.results import FEW_IMAGES, FEW_SAMPLES

__all__ = ["plot_layers"]

_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (6, 2)))
_MARKERS = (1.5, 3.0)  # points
_WIDTH = 1.3  # points
_GREY = "0.72"
_FAINT = "0.8"
_CONTROL = "0.35"
_CONTROLS: dict[str, tuple[str, Any]] = {
    "r2_null": ("positions shuffled", ":"),
    "r2_control": ("any map (control)", "--"),
}
_LOWEST = -0.5  # R² below is not shown, unless most is
_VARIABLES = {"r2": ("layer", "stimulus", "target"), "r2_se": ("layer", "stimulus", "target")}


@overload
def plot_layers(
    result: xr.Dataset,
    ax: Axes | None = None,
    *,
    targets: Sequence[str] | str | None = None,
    controls: bool = False,
    label: str | None = None,
    color: Any = None,
    width: float | None = None,
) -> Axes: ...


@overload
def plot_layers(
    result: Mapping[str, xr.Dataset],
    ax: Any = None,
    *,
    targets: Sequence[str] | str | None = None,
    controls: bool = False,
    relative: bool = False,
    faint: Sequence[str] = (),
    width: float | None = None,
) -> np.ndarray: ...


def plot_layers(
    result: Any,
    ax: Any = None,
    *,
    targets: Sequence[str] | str | None = None,
    controls: bool = False,
    relative: bool = False,
    faint: Sequence[str] = (),
    label: str | None = None,
    color: Any = None,
    width: float | None = None,
) -> Any:
    """Draw how well position can be read from each layer.

    The commonest uses::

        probe.plot_layers(result)
        probe.plot_layers({"zeros": first, "circular": second})
        probe.plot_layers(result, ax, targets=["row"], label="ResNet-50", color="black")

    - ``plot_layers(result)``: natural beside rolled, in blue and orange.
    - ``plot_layers({"zeros": a, "circular": b})``: several results, a panel for each stimulus.
    - ``plot_layers(a, ax, label="zeros", color="black")``: one result into axes of your own, beside others.

    Parameters
    ----------
    result
        From `probe.layerwise`; or several by name, of the same layers.
    ax
        Where to draw: Axes, or for several results an array of them, one for each stimulus. By default a new figure.
    targets
        Which targets to draw; by default all.
    controls
        Draw as well, thin and grey, R² with the positions shuffled anew in every image (``r2_null``, dotted), and how
        well any map can be read (``r2_control``, dashed): means over targets, of several results those of the first.
    relative
        Draw several results against the relative depth of their layers, 0 to 1 in order of execution, so that models
        with unlike layers can be compared.
    faint
        Names of those of several results that are drawn in grey, as of models that do their task no more.
    label
        What the legend calls a single result.
    color
        Of a single result. Stimuli are then told apart by the style of the line.
    width
        Of a new figure in inches: 3.4 for one column of a page, 7 for two, the default.

    Returns
    -------
    matplotlib.axes.Axes or numpy.ndarray
        Of one result, the Axes: a line for each stimulus and target, with its 95 % interval, r2 ± t(folds − 1)·r2_se,
        as a band. Of several, an array of Axes: a colour and marker for each result, a style of line for each target;
        on one scale, but a panel that would be almost empty on it has its own.

    Raises
    ------
    ArgumentError
        If the result is of another kind, has no such targets, or several results differ in layers or stimuli.

    Notes
    -----
    Grey with open markers: R² of fewer than 5 samples a feature, or of fewer than 20 images. It is
    too low, or its error too rough, to be read. The legend says so.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from matplotlib.figure import Figure
    >>> images = noise_images(100)
    >>> zeros, circular = (probe.layerwise(padded_net(p), images, progress=False) for p in ("zeros", "circular"))
    >>> probe.plot_layers(zeros, Figure().subplots()).get_ylabel()
    'R² of the position readout'
    >>> axes = probe.plot_layers({"zeros": zeros, "circular": circular}, Figure().subplots(1, 2))
    >>> [ax.get_title() for ax in axes]
    ['natural images', 'rolled images']
    """
    beside = dict.fromkeys(_CONTROLS, _VARIABLES["r2"]) if controls else {}
    results = results_by_name(result, "layerwise", {**_VARIABLES, **beside})
    chosen = {name: _with_targets(item, targets) for name, item in results.items()}
    inches = check_width(width, ax)
    if relative and controls:
        raise ArgumentError("controls=True: they are those of the first result, and do not go with relative=True.")
    if is_several(result, label=label, color=color):
        return _draw_several(chosen, ax, inches, controls, relative, _faint(faint, chosen))
    if relative:
        raise ArgumentError("relative=True: it is for several results, and there is one.")
    if faint:
        raise ArgumentError(f"faint={faint!r}: it names some of several results, and there is one; give color=.")
    return _draw_one(chosen[""], ax, inches, label, color, controls)


def _draw_one(result: xr.Dataset, ax: Axes | None, width: float, label: str | None, color: Any, controls: bool) -> Axes:
    own = ax is None
    ax = open_axes(ax, width, 1.9 + 0.3 * width)
    stimuli, targets = _labels(result, "stimulus"), _labels(result, "target")
    for number, stimulus in enumerate(stimuli):
        for place, target in enumerate(targets):
            _draw_line(
                ax,
                result.sel(stimulus=stimulus, target=target),
                color=STIMULUS_COLOURS[stimulus] if color is None else color,
                linestyle=_line(place if color is None else number * len(targets) + place),
                marker="o",
                label=", ".join(filter(None, (label, stimulus, target))),
            )
        if controls:
            _draw_controls(ax, result.sel(stimulus=stimulus))
    _finish(ax, [result])
    ax.set_ylabel("R² of the position readout")
    for note in _notes([result]):
        if note.get_label() not in ax.get_legend_handles_labels()[1]:
            ax.add_line(note)
    handles = [*ax.get_legend_handles_labels()[0], *(_control_handles() if controls else ())]
    if own:
        legend_above(ax, handles)
    else:
        ax.legend(handles=handles, frameon=False, fontsize=small_text(ax))
    return ax


def _draw_several(
    results: Mapping[str, xr.Dataset], given: Any, width: float, controls: bool, relative: bool, faint: Sequence[str]
) -> np.ndarray:
    check_alike(results, *(() if relative else ("layer",)), "stimulus", "target")
    first = next(iter(results.values()))
    stimuli, targets = _labels(first, "stimulus"), _labels(first, "target")
    columns = len(stimuli) if width >= TWO_COLUMNS else 1
    axes = open_panels(
        given, len(stimuli), columns=columns, width=width, height=1.4 + 1.6 * -(-len(stimuli) // columns),
        meaning=f"panels, one for each stimulus ({', '.join(stimuli)})", argument="ax",
    )  # fmt: skip
    looks: list[dict[str, Any]] = [
        {
            "color": _FAINT if name in faint else RESULT_COLOURS[number % len(RESULT_COLOURS)],
            "marker": RESULT_MARKERS[number % len(RESULT_MARKERS)],
        }
        for number, name in enumerate(results)
    ]
    for ax, stimulus in zip(axes, stimuli, strict=True):
        for (name, result), look in zip(results.items(), looks, strict=True):
            for place, target in enumerate(targets):
                chosen = result.sel(stimulus=stimulus, target=target)
                label = f"{name}, {target}"
                _draw_line(ax, chosen, **look, linestyle=_line(place), label=label, relative=relative)
        if controls:
            _draw_controls(ax, first.sel(stimulus=stimulus))
        _finish(ax, results.values(), relative=relative)
        ax.set_title(f"{stimulus} images", fontsize=ax.title.get_fontsize())
        ax.set_ylabel("R² of position")
    finish_panels(axes, columns if given is None else None)
    handles = [
        *(
            Line2D([], [], markersize=_MARKERS[1], label=name, **look)
            for name, look in zip(results, looks, strict=True)
        ),
        *(Line2D([], [], color="0.3", linestyle=_line(place), label=target) for place, target in enumerate(targets)),
        *(_control_handles() if controls else ()),
        *_notes(results.values()),
    ]
    if given is None:
        legend_above(axes[0], handles)
    else:
        axes[0].legend(handles=handles, frameon=False, fontsize=small_text(axes[0]))
    return axes


def _draw_line(
    ax: Axes, result: xr.Dataset, *, color: Any, linestyle: Any, marker: str, label: str, relative: bool = False
) -> None:
    """Draw one line with its band, grey where there are too few samples."""
    r2 = result.r2.values
    half = half_width(result.r2_se.values, result.sizes["fold"] - 1)
    few = _too_few(result)
    depth = np.linspace(0, 1, len(r2)) if relative else np.arange(len(r2))
    enough = np.where(few, np.nan, r2)
    line: dict[str, Any] = {"linestyle": linestyle, "linewidth": _WIDTH}
    size: dict[str, Any] = {"marker": marker, "markersize": np.clip(0.5 * points_wide(ax) / len(r2), *_MARKERS)}
    ax.plot(depth, enough, color=color, label=label, **line, **size)
    ax.fill_between(depth, enough - half, enough + half, color=color, alpha=0.2, linewidth=0)
    if few.any():
        # Lines and bands are grey up to the next layer with enough samples.
        near = few | np.append(few[1:], False) | np.append(False, few[:-1])
        grey = np.where(near, r2, np.nan)
        ax.plot(depth, grey, color=_GREY, zorder=1, **line)
        ax.fill_between(depth, grey - half, grey + half, color=_GREY, alpha=0.2, linewidth=0, zorder=0.9)
        edge: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": color, "markeredgewidth": 0.7}
        ax.plot(depth[few], r2[few], linestyle="none", **size, **edge)


def _draw_controls(ax: Axes, result: xr.Dataset) -> None:
    """Draw what is read where there is nothing to read, and of any map: means over targets."""
    for name, (_, linestyle) in _CONTROLS.items():
        values = result[name].mean("target").values
        ax.plot(np.arange(len(values)), values, color=_CONTROL, linewidth=0.8, linestyle=linestyle, zorder=0.8)


def _control_handles() -> list[Line2D]:
    looks: dict[str, Any] = {"color": _CONTROL, "linewidth": 0.8}
    return [Line2D([], [], label=label, linestyle=linestyle, **looks) for label, linestyle in _CONTROLS.values()]


def _faint(names: Sequence[str], results: Mapping[str, xr.Dataset]) -> list[str]:
    chosen = [names] if isinstance(names, str) else [str(name) for name in names]
    if unknown := [name for name in chosen if name not in results]:
        raise ArgumentError(f"faint: {unknown[0]!r} is none of the results, {', '.join(results)}.")
    return chosen


def _finish(ax: Axes, results: Iterable[xr.Dataset], *, relative: bool = False) -> None:
    results = list(results)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    if relative:
        ax.set_xlabel("relative depth: first to last layer")
    else:
        name_layers(ax, _labels(results[0], "layer"))
    if _is_cut(results):
        ax.set_ylim(bottom=max(_LOWEST, ax.get_ylim()[0]))
    sns.despine(ax=ax)


def _is_cut(results: Iterable[xr.Dataset]) -> bool:
    """Return whether so little R² is far below 0 that showing it would flatten the rest."""
    below = np.concatenate([result.r2.values.ravel() < _LOWEST for result in results])
    return bool(0 < below.mean() < 0.5)


def _too_few(result: xr.Dataset) -> np.ndarray:
    """Return at which layers R² is of too few samples or images."""
    few = np.full(result.sizes["layer"], _has_few_images(result))
    return few | (_samples_per_feature(result) < FEW_SAMPLES)


def _samples_per_feature(result: xr.Dataset) -> np.ndarray:
    known = "samples_per_feature" in result.coords
    return np.broadcast_to(result.samples_per_feature.values if known else np.inf, result.sizes["layer"])


def _has_few_images(result: xr.Dataset) -> bool:
    return bool(result.attrs.get("n_images", np.inf) < FEW_IMAGES)


def _notes(results: Iterable[xr.Dataset]) -> list[Line2D]:
    """Return what the legend says of R² that is grey, or so low that it is not shown."""
    results = list(results)
    grey: dict[str, Any] = {"color": _GREY, "marker": "o", "markersize": _MARKERS[1], "markerfacecolor": "white"}
    notes, few = [], []
    if any((_samples_per_feature(result) < FEW_SAMPLES).any() for result in results):
        few.append(f"< {FEW_SAMPLES} samples a feature")
    if any(map(_has_few_images, results)):
        few.append(f"< {FEW_IMAGES} images")
    if few:  # one entry, since both look the same
        notes.append(Line2D([], [], label=" or ".join(few), **grey))
    if _is_cut(results):
        notes.append(Line2D([], [], label=f"R² < {_LOWEST:g}: not shown".replace("-", "−"), linestyle="none"))
    return notes


def _line(number: int) -> Any:
    return _LINES[number % len(_LINES)]


def _labels(result: xr.Dataset, dim: str) -> list[str]:
    return [str(label) for label in result[dim].values]


def _with_targets(result: xr.Dataset, targets: Sequence[str] | str | None) -> xr.Dataset:
    """Return a result of the targets that are to be drawn."""
    if targets is None:
        return result
    wanted = [targets] if isinstance(targets, str) else [str(target) for target in targets]
    unknown = sorted(set(wanted) - set(_labels(result, "target")))
    if unknown or not wanted:
        having = _labels(result, "target")
        raise ArgumentError(f"targets: expected some of {having}, which the result has, found {unknown or 'none'}.")
    return result.sel(target=wanted)
