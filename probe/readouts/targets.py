"""What a readout predicts: maps of absolute position on a layer's grid.

All targets live on pixel centres in [-1, 1], so that layers and images of different sizes can be compared.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from probe.errors import ArgumentError

__all__ = ["N_CONTROLS", "TARGETS", "control_maps", "pixel_centres", "resolve_targets", "target_maps", "target_offsets"]

TargetFunction = Callable[[int, int], np.ndarray]

N_CONTROLS = 8
_STRIPE_PERIODS = 2.5
_FAR = 8  # standard deviations of a target from its level


def pixel_centres(size: int) -> np.ndarray:
    """Return the centres of `size` cells that tile [-1, 1].

    Examples
    --------
    >>> pixel_centres(4)
    array([-0.75, -0.25,  0.25,  0.75])
    """
    return (2 * np.arange(size) + 1) / size - 1


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.meshgrid(pixel_centres(height), pixel_centres(width), indexing="ij")
    return row, column


def _row(height: int, width: int) -> np.ndarray:
    return _grid(height, width)[0]


def _column(height: int, width: int) -> np.ndarray:
    return _grid(height, width)[1]


def _radius(height: int, width: int) -> np.ndarray:
    return np.hypot(*_grid(height, width))


def _border(height: int, width: int) -> np.ndarray:
    row, column = _grid(height, width)
    return np.minimum(1 - np.abs(row), 1 - np.abs(column))


def _gaussian(height: int, width: int) -> np.ndarray:
    row, column = _grid(height, width)
    return np.exp(-(row**2 + column**2) / 2)


def _stripes(centres: np.ndarray) -> np.ndarray:
    return np.cos(np.pi * _STRIPE_PERIODS * (centres + 1))


def _stripes_row(height: int, width: int) -> np.ndarray:
    return _stripes(_row(height, width))


def _stripes_column(height: int, width: int) -> np.ndarray:
    return _stripes(_column(height, width))


TARGETS: dict[str, TargetFunction] = {
    "row": _row,
    "column": _column,
    "radius": _radius,
    "border": _border,
    "gaussian": _gaussian,
    "stripes_row": _stripes_row,
    "stripes_column": _stripes_column,
}
"""The named targets, each a function (height, width) -> map of shape (row, column).

``row`` and ``column`` are the coordinates; ``radius`` the distance to the centre; ``border`` the distance to the
nearest border; ``gaussian`` exp(-radius²/2); ``stripes_row`` and ``stripes_column`` cosines of 2.5 periods that
vary along the rows or the columns (after Islam et al. 2020).
"""


def resolve_targets(targets: str | Iterable[str] | Mapping[str, TargetFunction]) -> dict[str, TargetFunction]:
    """Turn the argument `targets` into named functions.

    Parameters
    ----------
    targets
        A name from `TARGETS`, several, or a mapping from a name of your own to a function
        (height, width) -> map of shape (row, column).

    Raises
    ------
    ArgumentError
        If a name is unknown or no target is given.

    Examples
    --------
    >>> list(resolve_targets(("row", "border")))
    ['row', 'border']
    """
    if isinstance(targets, Mapping):
        resolved = dict(targets)
    else:
        names = [targets] if isinstance(targets, str) else list(targets)
        for name in names:
            if name not in TARGETS:
                raise ArgumentError(
                    f"targets: unknown target {name!r}. Choose from {', '.join(TARGETS)}, "
                    "or pass a mapping {name: function (height, width) -> map}."
                )
        resolved = {name: TARGETS[name] for name in names}
    if not resolved:
        raise ArgumentError("targets: no target given. Name at least one, for example targets=('row', 'column').")
    return resolved


def target_maps(targets: Mapping[str, TargetFunction], height: int, width: int) -> np.ndarray:
    """Evaluate targets on a grid.

    Returns
    -------
    numpy.ndarray
        Shape (target, row, column), double precision.

    Raises
    ------
    ArgumentError
        If a function returns another shape, or values that are not finite.

    Examples
    --------
    >>> target_maps(resolve_targets("column"), 1, 2)
    array([[[-0.5,  0.5]]])
    """
    maps = np.empty((len(targets), height, width))
    for index, (name, function) in enumerate(targets.items()):
        values = np.asarray(function(height, width), dtype=float)
        if values.shape != (height, width):
            raise ArgumentError(
                f"targets: {name!r} returned a map of shape {values.shape} for a grid of {height} rows and "
                f"{width} columns. Return one value for each cell, shape {(height, width)}."
            )
        if not np.isfinite(values).all():
            raise ArgumentError(f"targets: {name!r} has values that are not finite on a {height}×{width} grid.")
        maps[index] = values
    return maps


def target_offsets(targets: Mapping[str, TargetFunction], height: int, width: int) -> np.ndarray:
    """Return the level of each target for a layer, shape (target,), about which its sums are taken.

    Far from 0 they would lose digits. It is the mean on a grid of 32 by 32 cells, the same for layers and images of
    all sizes; for targets whose level depends on the grid, as a cell's number does, that on the layer's own grid.

    Parameters
    ----------
    targets
        Names and functions.
    height, width
        The layer's grid.

    Examples
    --------
    >>> target_offsets({"high": lambda height, width: np.full((height, width), 1000.0)}, 4, 4)
    array([1000.])
    """
    common, own = target_maps(targets, 32, 32).mean(axis=(1, 2)), target_maps(targets, height, width)
    is_far = abs(own.mean(axis=(1, 2)) - common) > _FAR * own.std(axis=(1, 2))
    return np.where(is_far & (own.std(axis=(1, 2)) > 0), own.mean(axis=(1, 2)), common)


def control_maps(maps: np.ndarray, seed: int) -> np.ndarray:
    """Permute each target over the grid, and make each permutation orthogonal to its target.

    The permutations are drawn from `seed` and the size of the grid: the same for all images, layers and targets
    of that grid.

    Parameters
    ----------
    maps
        Shape (target, row, column).
    seed
        Seed of the permutations.

    Returns
    -------
    numpy.ndarray
        Shape (control, target, row, column), `N_CONTROLS` controls; zeros where a permutation is the target again.
    """
    n_targets, height, width = maps.shape
    flat = maps.reshape(n_targets, -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    energy = (centred**2).sum(axis=1, keepdims=True)
    generator = np.random.default_rng((seed, height, width))
    controls = np.empty((N_CONTROLS, *flat.shape))
    for index in range(N_CONTROLS):
        shuffled = centred[:, generator.permutation(height * width)]
        overlap = (shuffled * centred).sum(axis=1, keepdims=True)
        share = np.divide(overlap, energy, out=np.zeros_like(energy), where=energy > 0)
        # Where the permutation is the target again, or its mirror image, only rounding would be left.
        controls[index] = np.where(np.isclose(share**2, 1), 0, shuffled - share * centred)
    return controls.reshape(N_CONTROLS, n_targets, height, width)
