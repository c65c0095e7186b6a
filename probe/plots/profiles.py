"""Profiles of maps: along each axis, averaged over the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns

from probe.axes import axes_of_size
from probe.plots.axes import RESULT_COLOURS, TWO_COLUMNS, check_width, legend_above, open_panels

__all__ = ["Row", "draw_profiles"]

_MOST_MARKED = 16  # cells along an axis whose places are marked


class Row(NamedTuple):
    """Some maps under one stimulus.

    Attributes
    ----------
    label : str
        Names the result and the stimulus.
    maps : numpy.ndarray
        Shape (map, *size).
    titles : list of str
        Of each map.
    meaning : str
        Of the values.
    """

    label: str
    maps: np.ndarray
    titles: list[str]
    meaning: str


def draw_profiles(rows: Sequence[Row], given: Any, width: float | None) -> np.ndarray:
    """Draw the profile of each map over each axis, a row of panels for each stimulus.

    Parameters
    ----------
    rows
        Of maps of one size.
    given
        Array of Axes, or None.
    width
        Of a new figure in inches.

    Returns
    -------
    numpy.ndarray
        Shape (row, axis).
    """
    axes = axes_of_size(rows[0].maps.shape[1:])
    shape = len(rows), len(axes)
    if width is None and given is None:
        width = min(TWO_COLUMNS, 2.4 * len(axes))
    grid = open_panels(
        given, shape[0] * shape[1], columns=shape[1], width=check_width(width, given, argument="axes"),
        height=0.7 + 1.5 * shape[0], meaning=f"profiles; expected the shape {shape}, stimuli × axes",
    ).reshape(shape)  # fmt: skip
    for panels, row in zip(grid, rows, strict=True):
        for place, (ax, axis) in enumerate(zip(panels, axes, strict=True)):
            others = tuple(1 + other for other in range(len(axes)) if other != place)
            n_cells = row.maps.shape[1 + place]
            centres = (2 * np.arange(n_cells) + 1) / n_cells - 1
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            for number, (title, profile) in enumerate(zip(row.titles, row.maps.mean(axis=others), strict=True)):
                colour = RESULT_COLOURS[number % len(RESULT_COLOURS)]
                if title == axis:
                    ax.plot(centres, centres, color=colour, linewidth=3, alpha=0.25, solid_capstyle="butt")
                marker = "o" if n_cells <= _MOST_MARKED else None
                ax.plot(centres, profile, color=colour, marker=marker, markersize=2.5, linewidth=1.2, label=title)
            ax.set_xlim(-1, 1)
            sns.despine(ax=ax)
        limits = [limit for ax in panels for limit in ax.get_ylim()]
        for ax in panels:
            ax.set_ylim(min(limits), max(limits))
        for ax in panels[1:]:
            ax.tick_params(labelleft=False)
        panels[0].set_ylabel(f"{row.label}\n{row.meaning}", parse_math=False)
    for ax, axis in zip(grid[-1], axes, strict=True):
        ax.set_xlabel(f"{axis}, from −1 to 1")
    if given is None:
        legend_above(grid[0, 0], grid[0, 0].get_legend_handles_labels()[0])
    return grid
