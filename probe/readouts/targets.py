"""What a readout predicts: maps of absolute position on a layer's grid.

All targets live on pixel centres in [-1, 1], so that layers and images of different sizes can be compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

import numpy as np

from probe.axes import axes_of_size, sized
from probe.errors import ArgumentError, noting

__all__ = [
    "N_CONTROLS", "TARGETS", "control_maps", "pixel_centres", "resolve_targets", "target_maps", "target_offsets",
    "targets_of",
]  # fmt: skip

TargetFunction = Callable[..., np.ndarray]

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


def _grid(size: Sequence[int]) -> list[np.ndarray]:
    return list(np.meshgrid(*map(pixel_centres, size), indexing="ij"))


def _coordinate(axis: str) -> TargetFunction:
    def coordinate(*size: int) -> np.ndarray:
        # A map without frames is one of a single frame.
        return _grid(size)[axes_of_size(size).index(axis)] if axis in axes_of_size(size) else np.zeros(size)

    return coordinate


def _radius(*size: int) -> np.ndarray:
    return reduce(np.hypot, _grid(size))


def _border(*size: int) -> np.ndarray:
    return reduce(np.minimum, (1 - np.abs(centres) for centres in _grid(size)))


def _gaussian(*size: int) -> np.ndarray:
    return np.exp(-sum(centres**2 for centres in _grid(size)) / 2)


def _stripes(axis: str) -> TargetFunction:
    coordinate = _coordinate(axis)
    return lambda *size: np.cos(np.pi * _STRIPE_PERIODS * (coordinate(*size) + 1))


TARGETS: dict[str, TargetFunction] = {
    "row": _coordinate("row"),
    "column": _coordinate("column"),
    "radius": _radius,
    "border": _border,
    "gaussian": _gaussian,
    "stripes_row": _stripes("row"),
    "stripes_column": _stripes("column"),
    "frame": _coordinate("frame"),
}
"""The named targets, each a function (*size) -> map of that size: of rows and columns, or frames, rows and columns.

``row``, ``column`` and ``frame`` are the coordinates, in [−1, 1]; ``radius`` the distance to the centre, √(r² + c²), of
three axes √(f² + r² + c²); ``border`` the distance to the nearest border, the least of 1 − |r|, 1 − |c| and 1 − |f|, so
that the first and the last frame are borders too; ``gaussian`` exp(−radius²/2); ``stripes_row`` and ``stripes_column``
cosines of 2.5 periods that vary along the rows or the columns (after Islam et al. 2020). A map without frames is one of
a single frame: ``frame`` is constant there.
"""


def targets_of(sizes: Iterable[Sequence[int]]) -> tuple[str, ...]:
    """Return the coordinates that maps of some sizes have: row and column, and frame where one of them has frames.

    Examples
    --------
    >>> targets_of([(4, 4)]), targets_of([(8, 4, 4), (4, 4)])
    (('row', 'column'), ('row', 'column', 'frame'))
    """
    found = {axis for size in sizes for axis in axes_of_size(size)}
    return tuple(axis for axis in TARGETS if axis in found)


def resolve_targets(targets: str | Iterable[str] | Mapping[str, TargetFunction]) -> dict[str, TargetFunction]:
    """Turn the argument `targets` into named functions.

    Parameters
    ----------
    targets
        A name from `TARGETS`, several, or a mapping from a name of your own to a function (*size) -> map of that size.

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
                    "or pass a mapping {name: function (height, width) -> map}, of clips (frames, height, width)."
                )
        resolved = {name: TARGETS[name] for name in names}
    if not resolved:
        raise ArgumentError("targets: no target given. Name at least one, for example targets=('row', 'column').")
    return resolved


def target_maps(targets: Mapping[str, TargetFunction], *size: int) -> np.ndarray:
    """Evaluate targets on a grid.

    Returns
    -------
    numpy.ndarray
        Shape (target, *size), double precision.

    Raises
    ------
    ArgumentError
        If a function returns another shape, or values that are not finite.

    Examples
    --------
    >>> target_maps(resolve_targets("column"), 1, 2)
    array([[[-0.5,  0.5]]])
    """
    maps = np.empty((len(targets), *size))
    for index, (name, function) in enumerate(targets.items()):
        with noting(
            f"while the target {name!r} was evaluated on a grid of {sized(size)} ({', '.join(axes_of_size(size))})"
        ):
            values = np.asarray(function(*size), dtype=float)
        if values.shape != size:
            lengths = [f"{length} {axis}s" for length, axis in zip(size, axes_of_size(size), strict=True)]
            raise ArgumentError(
                f"targets: {name!r} returned a map of shape {values.shape} for a grid of {', '.join(lengths[:-1])} and "
                f"{lengths[-1]}. Return one value for each cell, shape {size}."
            )
        if not np.isfinite(values).all():
            raise ArgumentError(f"targets: {name!r} has values that are not finite on a {sized(size)} grid.")
        maps[index] = values
    return maps


def target_offsets(targets: Mapping[str, TargetFunction], *size: int) -> np.ndarray:
    """Return the level of each target for a layer, shape (target,), about which its sums are taken.

    Far from 0 they would lose digits. It is the mean on a grid of 32 cells along each axis, the same for layers and
    images of all sizes; for targets whose level depends on the grid, as a cell's number does, that on the layer's own
    grid.

    Parameters
    ----------
    targets
        Names and functions.
    size
        The layer's grid.

    Examples
    --------
    >>> target_offsets({"high": lambda height, width: np.full((height, width), 1000.0)}, 4, 4)
    array([1000.])
    """
    cells = tuple(range(1, 1 + len(size)))
    common, own = target_maps(targets, *[32] * len(size)).mean(axis=cells), target_maps(targets, *size)
    is_far = abs(own.mean(axis=cells) - common) > _FAR * own.std(axis=cells)
    return np.where(is_far & (own.std(axis=cells) > 0), own.mean(axis=cells), common)


def control_maps(maps: np.ndarray, seed: int) -> np.ndarray:
    """Permute each target over the grid, and make each permutation orthogonal to its target.

    The permutations are drawn from `seed` and the size of the grid: the same for all images, layers and targets
    of that grid.

    Parameters
    ----------
    maps
        Shape (target, *size).
    seed
        Seed of the permutations.

    Returns
    -------
    numpy.ndarray
        Shape (control, target, *size), `N_CONTROLS` controls; zeros where a permutation is the target again.
    """
    size = maps.shape[1:]
    flat = maps.reshape(len(maps), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    energy = (centred**2).sum(axis=1, keepdims=True)
    generator = np.random.default_rng((seed, *size))
    controls = np.empty((N_CONTROLS, *flat.shape))
    for index in range(N_CONTROLS):
        shuffled = centred[:, generator.permutation(flat.shape[1])]
        overlap = (shuffled * centred).sum(axis=1, keepdims=True)
        share = np.divide(overlap, energy, out=np.zeros_like(energy), where=energy > 0)
        # Where the permutation is the target again, or its mirror image, only rounding would be left.
        controls[index] = np.where(np.isclose(share**2, 1), 0, shuffled - share * centred)
    return controls.reshape(N_CONTROLS, *maps.shape)
