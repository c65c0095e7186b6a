"""Sums of single channels at each position, from every cell: update, merge, save, load. Torch only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.axes import on_cells
from probe.sums.gram import Part, check_alike

__all__ = ["PositionMoments"]

_SMALLEST = 1e-24  # sum of squares of which all that count keep their digits in single precision


class PositionMoments:
    """Sums of the activation at each position, and of its squares, for each fold: exact, from every cell.

    Once images of a second size arrive, the sums of the first size's maps lose their meaning and are dropped; the
    products with the targets stay.

    Parameters
    ----------
    n_folds
        Number of cross-validation folds.
    n_targets
        Number of targets.
    pilot
        Shape (channel,), double precision. Subtracted from the activations before they are squared.
    grid
        Size of the maps: rows and columns, or frames, rows and columns.
    dtype
        Precision of the squares, single or double; they are always summed in double.

    Attributes
    ----------
    images, cells : torch.Tensor
        Shape (fold,). Number of images, and of their cells.
    maps : torch.Tensor or None
        Shape (fold, channel, *size). Sum over images of activation - pilot; None after a second size.
    squares : torch.Tensor
        Shape (fold, channel). Sum over images and cells of (activation - pilot)².
    image_squares : torch.Tensor
        Shape (fold, channel). Sum over images of (sum over cells of activation - pilot)².
    cross : torch.Tensor
        Shape (fold, 1 + channel, 1 + target). Sums over cells of the products of (1, activation - pilot) with
        (1, target).
    target_squares : torch.Tensor
        Shape (fold, target). Sums over images and cells of target².
    """

    _SUMS = ("images", "cells", "squares", "image_squares", "cross", "target_squares")

    def __init__(
        self,
        n_folds: int,
        n_targets: int,
        pilot: Tensor,
        grid: tuple[int, ...],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(n_folds, *shape, dtype=torch.float64, device=pilot.device)

        n_channels = len(pilot)
        self.pilot, self.dtype = pilot, dtype
        self.images, self.cells = zeros(), zeros()
        self.maps: Tensor | None = zeros(n_channels, *grid)
        self.squares, self.image_squares = zeros(n_channels), zeros(n_channels)
        self.cross, self.target_squares = zeros(1 + n_channels, 1 + n_targets), zeros(n_targets)

    def update(self, targets: Tensor, activations: Tensor, parts: Sequence[Part]) -> None:
        """Add images.

        Parameters
        ----------
        targets
            Shape (target, *size), double precision.
        activations
            Shape (image, channel, *size).
        parts
            The images of each fold: (fold, first image, last image plus one).
        """
        grid = activations.shape[2:]
        centred = activations.to(self.dtype) - self.pilot.to(self.dtype)[on_cells(grid)]
        with_one = torch.cat([torch.ones_like(targets[:1]), targets]).flatten(1)
        for fold, start, stop in parts:
            values = centred[start:stop]
            map_sum = values.sum(dim=0).double()
            self.images[fold] += len(values)
            self.cells[fold] += len(values) * grid.numel()
            self.squares[fold] += _summed_squares(values)
            self.image_squares[fold] += values.sum(dim=_cells(values)).double().square().sum(dim=0)
            self.cross[fold, 0] += len(values) * with_one.sum(dim=1)
            self.cross[fold, 1:] += map_sum.flatten(1) @ with_one.T
            self.target_squares[fold] += len(values) * with_one[1:].square().sum(dim=1)
            if self.maps is not None and self.maps.shape[2:] == grid:
                self.maps[fold] += map_sum
            else:
                self.maps = None

    def of(self, folds: Sequence[int]) -> "PositionMoments":
        """Return the sums of some folds alone."""
        chosen = PositionMoments.from_state(self.state())
        for name in self._SUMS:
            setattr(chosen, name, getattr(self, name)[list(folds)])
        if self.maps is not None:
            chosen.maps = self.maps[list(folds)]
        return chosen

    def about(self, pilot: Tensor) -> "PositionMoments":
        """Return the same sums about another pilot."""
        shift = self.pilot - pilot.to(self.pilot)
        cell_sums, cells = self.cross[:, 1:, 0], self.cells[:, None]
        moved = PositionMoments.from_state(self.state())
        moved.pilot = pilot
        moved.squares = self.squares + 2 * shift * cell_sums + cells * shift**2
        moved.cross = torch.cat([self.cross[:, :1], self.cross[:, 1:] + shift[:, None] * self.cross[:, :1]], dim=1)
        if self.maps is not None:
            n_cells = self.maps[0, 0].numel()
            moved.maps = self.maps + (self.images[:, None] * shift)[on_cells(self.maps.shape[2:])]
            moved.image_squares = self.image_squares + n_cells * (2 * shift * cell_sums + cells * shift**2)
        return moved

    def changed(self, change: Callable[[Tensor], Tensor]) -> "PositionMoments":
        """Return them with each of their sums changed."""
        made = PositionMoments.from_state(self.state())
        for name in self._SUMS:
            setattr(made, name, change(getattr(self, name)))
        if self.maps is not None:
            made.maps = change(self.maps)
        return made

    def merge(self, other: "PositionMoments") -> None:
        """Add the sums of `other`, which is left as it is."""
        check_alike("the shape of their sums", tuple(self.cross.shape), tuple(other.cross.shape))
        moved = other.about(self.pilot)
        if self.maps is None or moved.maps is None or self.maps.shape != moved.maps.shape:
            self.maps = None
        else:
            self.maps = self.maps + moved.maps.to(self.maps)
        for name in self._SUMS:
            setattr(self, name, getattr(self, name) + getattr(moved, name).to(self.squares))

    def state(self) -> dict[str, Any]:
        """Return what `from_state` restores."""
        return vars(self).copy()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "PositionMoments":
        """Restore the statistic from its `state`."""
        moments = cls.__new__(cls)
        vars(moments).update(state)
        return moments


def _cells(values: Tensor) -> tuple[int, ...]:
    """Return the axes of the cells."""
    return tuple(range(2, values.ndim))


def _summed_squares(values: Tensor) -> Tensor:
    """Return the sum of squares of each channel, shape (channel,), also where single squares leave their precision."""
    over = (0, *_cells(values))
    squares = values.square().sum(dim=over).double()
    if values.dtype == torch.float64 or ((squares > _SMALLEST) & squares.isfinite()).all():
        return squares
    return values.double().square().sum(dim=over)
