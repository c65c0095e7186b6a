"""What figures share: their sizes, colours and panels, the names of layers, legends."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from probe.errors import ArgumentError

__all__ = [
    "DIVERGING", "RANKED_COLOURS", "RESULT_COLOURS", "RESULT_MARKERS", "STIMULUS_COLOURS", "TWO_COLUMNS",
    "check_width", "finish_panels", "legend_above", "name_layers", "open_axes", "open_panels", "points_wide",
    "short_names", "small_text",
]  # fmt: skip

TWO_COLUMNS = 7.0
"""Width of a new figure in inches, the two columns of a journal's page; one column is 3.4."""

STIMULUS_COLOURS = dict(
    zip(
        ("natural", "rolled", "noise", "constant", "rolled_space", "rolled_time"),
        sns.color_palette("colorblind").as_hex(),
        strict=False,
    )
)
"""One colour for each stimulus in every figure, told apart by colour-blind readers too."""

RESULT_COLOURS = ("#117733", "#aa4499", "#000000", "#999933", "#44aa99", "#882255")
"""Colours of several results or readouts. None is blue or orange, which mean natural and rolled."""

RANKED_COLOURS = {"first": "#882255", "last": "#117733", "matched": "#aa4499"}
"""Colours of channels that are ranked first, that are ranked last, and of random ones as active as the first."""

RESULT_MARKERS = ("o", "s", "^", "D", "v", "P")

DIVERGING = "PRGn_r"
"""Colours about 0, without blue and orange."""

_NARROWEST = 2.0  # inches
_SMALLEST_TEXT = 6.0  # points
_LABEL, _TICK = 0.8, 0.7  # text of new figures, of the user's font.size
_LONGEST_NAME = 18
_LETTER = 0.6  # width of a letter, of its size
_LINE = 1.85  # what a line of text slanted by _SLANT takes along the axis, of its size
_SLANT = 40  # degrees
_KEPT = 0.9  # of an axis's width, when the layout makes room for what stands beside it
_EMPTY = 0.2  # a panel that uses less of a common scale gets its own
_ORDINALS = (
    "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
)  # fmt: skip


def check_width(width: float | None, given: Any, *, argument: str = "ax") -> float:
    """Return the width of the new figure in inches.

    Raises
    ------
    ArgumentError
        If it is no width, or there are axes, whose figure has its own.
    """
    if width is None:
        return TWO_COLUMNS
    if given is not None:
        raise ArgumentError(
            f"width={width!r}: it is that of a new figure, and {argument}= is of a figure that has its own. "
            "Give the one or the other."
        )
    if not isinstance(width, int | float) or not _NARROWEST <= width < np.inf:
        raise ArgumentError(
            f"width={width!r}: expected inches, at least {_NARROWEST:g}: 3.4 for one column of a page, 7 for two."
        )
    return float(width)


def open_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the Axes that were given, else those of a new figure.

    Raises
    ------
    ArgumentError
        If it is anything but Axes.
    """
    if ax is None:
        return _new_axes(1, 1, width, height)[0, 0]
    if not isinstance(ax, Axes):
        raise ArgumentError(f"ax: expected Axes of matplotlib, found a {type(ax).__name__}.")
    return ax


def open_panels(
    given: Any,
    n_panels: int,
    *,
    columns: int,
    width: float,
    height: float,
    meaning: str,
    argument: str = "axes",
    layout: Literal["constrained", "compressed"] = "constrained",
) -> np.ndarray:
    """Return as many Axes as there are panels: those that were given, else of a new figure, row by row.

    Parameters
    ----------
    given
        Axes or an array of them, or None.
    n_panels, columns
        Number of panels, and of those in a row.
    width, height
        Of a new figure, in inches.
    meaning
        What the panels are, for the error.
    argument
        Name of the argument that `given` came by.
    layout
        Of a new figure; ``"compressed"`` for images, which keep their shape.

    Raises
    ------
    ArgumentError
        If what was given is no Axes, or not as many.
    """
    if given is None:
        axes = _new_axes(-(-n_panels // columns), columns, width, height, layout).ravel()
        for ax in axes[n_panels:]:
            ax.set_axis_off()
        return axes[:n_panels]
    axes = np.asarray(given, dtype=object).ravel()
    if foreign := [type(ax).__name__ for ax in axes if not isinstance(ax, Axes)]:
        raise ArgumentError(f"{argument}: expected Axes of matplotlib, found a {foreign[0]}.")
    if len(axes) != n_panels:
        raise ArgumentError(f"{argument}: {len(axes)} were given for {n_panels} {meaning}.")
    return axes


def _new_axes(
    rows: int, columns: int, width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> np.ndarray:
    axes = plt.subplots(rows, columns, figsize=(width, height), layout=layout, squeeze=False)[1]
    label, tick = (max(share * mpl.rcParams["font.size"], _SMALLEST_TEXT) for share in (_LABEL, _TICK))
    for ax in axes.flat:
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set_fontsize(label)
        ax.tick_params(labelsize=tick)
    return axes


def small_text(ax: Axes) -> float:
    """Return the size of ticks and legends in points, somewhat below that of the Axes' labels."""
    return max(float(ax.yaxis.label.get_fontsize()) * _TICK / _LABEL, _SMALLEST_TEXT)


def points_wide(ax: Axes) -> float:
    """Return about how many points wide the Axes will be; a layout makes room for labels only when it is drawn."""
    return _KEPT * 72 * ax.bbox.width / ax.figure.dpi


def finish_panels(axes: np.ndarray, columns: int | None = None) -> None:
    """Give panels one vertical scale, but those that would be almost empty on it their own, and say so.

    Of panels in `columns`, which show the same layers, the lowest alone name them, and the leftmost the vertical axis.
    """
    limits = np.array([ax.get_ylim() for ax in axes])
    low, high = limits[:, 0].min(), limits[:, 1].max()
    for place, (ax, (own_low, own_high)) in enumerate(zip(axes, limits, strict=True)):
        if own_high - own_low >= _EMPTY * (high - low):
            ax.set_ylim(low, high)
        else:
            ax.set_title(f"{ax.get_title()} (own scale)", fontsize=ax.title.get_fontsize(), parse_math=False)
        if columns is not None and place + columns < len(axes):
            ax.tick_params(axis="x", labelbottom=False)
            ax.set_xlabel("")
        if columns is not None and place % columns:
            ax.set_ylabel("")


def legend_above(ax: Axes, handles: Sequence[Any], *, title: str | None = None) -> None:
    """Put the legend of a new figure above all its panels, in as many columns as there is room for."""
    figure, size = ax.figure, small_text(ax)
    labels = [handle.get_label() for handle in handles]
    longest = max(map(len, labels), default=1) + 6  # letters, and the line before them
    columns = int(72 * figure.bbox.width / figure.dpi // (_LETTER * size * longest)) or 1
    columns = min(columns, len(handles))
    columns = -(-len(handles) // -(-len(handles) // columns))  # rows alike
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=size, title=title,
        columnspacing=1.2, handlelength=2.8, alignment="left", title_fontsize=size,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def name_layers(ax: Axes, names: Sequence[str], *, most: int | None = None) -> None:
    """Write the names of layers below the axis at 0, 1, 2, …: all, or the first, the last and evenly spaced ones.

    Long names are shortened, see `short_names`. Layers without a name have a smaller tick.

    Parameters
    ----------
    ax
        The axes, of their final size.
    names
        Of all layers.
    most
        Greatest number of names, 2 or more; by default as many as there is room for.
    """
    size, wide = small_text(ax), points_wide(ax)
    labels = short_names(names)
    slanted = _LETTER * size * sum(len(label) + 2 for label in labels) > wide
    room = max(int(wide / (_LINE * size)), 2) if slanted else len(labels)
    places, step = _named_places(len(labels), room if most is None else min(room, most))
    # Dollar signs in a name are no formula.
    ax.set_xticks(
        places, [labels[place] for place in places], rotation=_SLANT if slanted else 0,
        ha="right" if slanted else "center", parse_math=False,
    )  # fmt: skip
    ax.set_xticks(sorted(set(range(len(labels))) - set(places)), minor=True)
    ax.tick_params(axis="x", labelsize=size)
    if slanted:
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")
    text = "layer, in order of execution" + _naming(step)
    fits = _LETTER * float(ax.xaxis.label.get_fontsize()) * len(text) <= wide
    ax.set_xlabel(text if fits else text.replace(", every", ",\nevery").replace(", one", ",\none"))


def _named_places(n_layers: int, most: int) -> tuple[list[int], int]:
    """Return places at even steps, and the last, which no other is nearer to than a step; and the step."""
    if n_layers <= most:
        return list(range(n_layers)), 1
    last = n_layers - 1
    step = -(-last // (most - 1))
    return [*(place for place in range(0, last, step) if last - place >= step), last], step


def _naming(step: int) -> str:
    if step == 1:
        return ""
    return f", every {_ORDINALS[step - 2]} named" if step - 2 < len(_ORDINALS) else f", one in {step} named"


def short_names(names: Sequence[str], *, most: int = _LONGEST_NAME) -> list[str]:
    """Return names by their last parts, or else without their middle, where they are longer than `most`.

    All stay apart; where they would not, they are longer.

    Examples
    --------
    >>> short_names(["conv_proj", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"])
    ['conv_proj', '…encoder_layer_0', '…encoder_layer_1']
    >>> short_names(["layer1.0.downsample.0", "layer2.0.downsample.0"])
    ['layer1.0…sample.0', 'layer2.0…sample.0']
    """
    for limit in range(most, max(map(len, names), default=0)):
        ends = [_last_parts(name, limit) for name in names]
        half = limit // 2
        shortened = [
            end if ends.count(end) == 1 else f"{name[:half].rstrip('.')}…{name[1 - half :].lstrip('.')}"
            for name, end in zip(names, ends, strict=True)
        ]
        if len(set(shortened)) == len(set(names)):
            return shortened
    return list(names)


def _last_parts(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    tail = name[1 - most :]
    return "…" + (tail if "." not in tail or name[-most] == "." else tail.partition(".")[2])
