"""Results of erasing: figures of what is left and what it costs."""

from collections.abc import Iterator

import xarray as xr
from matplotlib.figure import Figure

from probe.plots.erasing import erased_targets, plot_erasure
from probe.reports.page.erasures import score_name

__all__ = ["curve_figures", "matrix_figures", "proof_figures", "reader_figures"]

_WIDTH = 7.0


def _panels(result: xr.Dataset, height: float) -> tuple[Figure, int]:
    n_panels = len(dict.fromkeys(map(str, result.fitted_to.values)))
    return Figure(figsize=(_WIDTH, height), layout="constrained"), n_panels


def proof_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw what each number of directions leaves, of what is erased and of every position."""
    for target in (None, "cells") if "cells" in result.target.values else (None,):
        figure, n_panels = _panels(result, 3.6)
        plot_erasure(result, figure.subplots(1, n_panels, squeeze=False)[0], target=target)
        what = "every position" if target else " and ".join(erased_targets(result))
        yield figure, f"R² of {what} that a linear readout of a cell finds after erasing, with 95 % intervals."


def curve_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw each score against what is left of position."""
    for score in map(str, result.score.values):
        figure, n_panels = _panels(result, 3.8)
        plot_erasure(result, figure.subplots(1, n_panels, squeeze=False)[0], score=score)
        yield (
            figure,
            f"{score_name(score, first=True)} against what is left of position. Numbers, where there is room: "
            "directions or channels erased.",
        )
    yield from proof_figures(result.assign_attrs(kind="erasure_proof"))


def matrix_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw R² of each layer that is read for each that is erased."""
    figure = Figure(figsize=(_WIDTH, 1.6 + 0.34 * result.sizes["erased"]), layout="constrained")
    plot_erasure(result, figure.subplots())
    yield figure, "R² of position read at each layer (columns), erased at another (rows)."


def reader_figures(result: xr.Dataset) -> Iterator[tuple[Figure, str]]:
    """Draw what each reader finds before and after."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    plot_erasure(result, figure.subplots(1, result.sizes["stimulus"], squeeze=False)[0])
    yield figure, "R² of position that each reader finds, before and after erasing."
