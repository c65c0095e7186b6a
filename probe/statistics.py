"""Sums from which every score is computed: update, merge, save, load. Torch only.

Both statistics hold one set of sums a fold, in double precision, about a pilot value of each channel (its mean in
the first batch), which keeps single-precision products accurate under a large common offset. Sums of two halves of
a data set are merged by adding them, after a shift to a common pilot.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probe.errors import ArgumentError

__all__ = ["Gram", "Part", "PositionMoments", "pilot_mean", "summing_dtype"]

Part = tuple[int, int, int]
"""A fold and the first and last-plus-one of its images in a batch; a batch is sorted by fold."""

_BLOCK = 128


def pilot_mean(features: Tensor) -> Tensor:
    """Return the mean of each channel, shape (channel,), double precision; zero where it is not finite.

    Parameters
    ----------
    features
        Shape (sample, channel).
    """
    means = features.to(summing_dtype(features)).mean(dim=0).double()
    return torch.nan_to_num(means, nan=0.0, posinf=0.0, neginf=0.0)


def summing_dtype(activations: Tensor) -> torch.dtype:
    """Return the precision in which activations are multiplied: double for double, single for all others."""
    return torch.float64 if activations.dtype == torch.float64 else torch.float32


def _check_alike(what: str, first: object, second: object) -> None:
    if first != second:
        raise ArgumentError(
            f"merge: the two statistics differ in {what}: {first} and {second}. "
            "Collect both with the same model, layers, folds and targets."
        )


class Gram:
    """Sums of products of all pairs of the columns [1, design, features], for each fold.

    The design columns are the values of the targets and their controls at each sample; the features are the
    channels of a layer. Entry (0, 0) counts the samples, row 0 holds the sums. Only the upper triangle is kept up
    to date, since a Gram is symmetric: this nearly halves its cost.

    Parameters
    ----------
    n_folds
        Number of cross-validation folds.
    n_design
        Number of design columns.
    pilot
        Shape (channel,), double precision. Subtracted from the features before they are multiplied.
    dtype
        Precision of the products, single or double; they are always summed in double.

    Attributes
    ----------
    sums : torch.Tensor
        Shape (fold, column, column), double precision.

    Examples
    --------
    >>> gram = Gram(n_folds=1, n_design=1, pilot=torch.tensor([6.0], dtype=torch.float64))
    >>> gram.update(design=torch.tensor([[1.0], [3.0]]), features=torch.tensor([[5.0], [7.0]]), parts=[(0, 0, 2)])
    >>> gram.fold(0)
    tensor([[ 2.,  4.,  0.],
            [ 4., 10.,  2.],
            [ 0.,  2.,  2.]], dtype=torch.float64)
    """

    def __init__(self, n_folds: int, n_design: int, pilot: Tensor, dtype: torch.dtype = torch.float64) -> None:
        n_columns = 1 + n_design + len(pilot)
        self.pilot, self.dtype = pilot, dtype
        self.sums = torch.zeros(n_folds, n_columns, n_columns, dtype=torch.float64, device=pilot.device)

    def update(self, design: Tensor, features: Tensor, parts: Sequence[Part]) -> None:
        """Add samples.

        Parameters
        ----------
        design
            Shape (sample, design column).
        features
            Shape (sample, channel).
        parts
            The rows of each fold: (fold, first row, last row plus one).
        """
        n_before = 1 + design.shape[1]
        columns = torch.empty(len(features), self.sums.shape[1], dtype=self.dtype, device=features.device)
        columns[:, 0] = 1
        columns[:, 1:n_before] = design
        torch.sub(features, self.pilot.to(self.dtype), out=columns[:, n_before:])
        for fold, start, stop in parts:
            rows = columns[start:stop]
            for first in range(0, rows.shape[1], _BLOCK):
                block = rows[:, first : first + _BLOCK].T @ rows[:, first:]
                self.sums[fold, first : first + _BLOCK, first:] += block

    def merge(self, other: "Gram") -> None:
        """Add the sums of `other`, which is left as it is."""
        _check_alike("the shape of their sums", tuple(self.sums.shape), tuple(other.sums.shape))
        shift = torch.zeros_like(self.sums[0, 0])
        shift[-len(self.pilot) :] = other.pilot.to(shift) - self.pilot
        for fold, sums in enumerate(other.sums.to(self.sums)):
            crossed = torch.outer(shift, sums[0])
            self.sums[fold] += sums + crossed + crossed.T + sums[0, 0] * torch.outer(shift, shift)

    def fold(self, index: int) -> Tensor:
        """Return the whole symmetric matrix of one fold, shape (column, column)."""
        return _mirror(self.sums[index])

    @property
    def is_finite(self) -> bool:
        """Whether all samples, and their squares, were finite."""
        diagonal = self.sums.diagonal(dim1=1, dim2=2)
        return bool(torch.isfinite(self.sums[:, 0]).all() and torch.isfinite(diagonal).all())

    def without(self, fold: int) -> Tensor:
        """Return the sums over all folds but one, shape (column, column), of which the upper triangle holds.

        Adding the others, rather than taking one from the total, keeps the digits of a channel that hardly varies
        in them.
        """
        others = [sums for index, sums in enumerate(self.sums) if index != fold]
        total = others[0].clone()
        for sums in others[1:]:
            total += sums
        return total

    def total(self) -> Tensor:
        """Return the whole symmetric matrix over all folds, shape (column, column)."""
        return _mirror(self.sums.sum(dim=0))

    def state(self) -> dict[str, Any]:
        """Return what `from_state` restores."""
        return vars(self).copy()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Gram":
        """Restore the statistic from its `state`."""
        gram = cls.__new__(cls)
        vars(gram).update(state)
        return gram


def _mirror(upper: Tensor) -> Tensor:
    whole = upper.triu()
    return whole + whole.triu(diagonal=1).T


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
        Height and width of the maps.
    dtype
        Precision of the squares, single or double; they are always summed in double.

    Attributes
    ----------
    images, cells : torch.Tensor
        Shape (fold,). Number of images, and of their cells.
    maps : torch.Tensor or None
        Shape (fold, channel, row, column). Sum over images of activation - pilot; None after a second size.
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
        grid: tuple[int, int],
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
            Shape (target, row, column), double precision.
        activations
            Shape (image, channel, row, column).
        parts
            The images of each fold: (fold, first image, last image plus one).
        """
        height, width = activations.shape[2:]
        centred = activations.to(self.dtype) - self.pilot.to(self.dtype)[:, None, None]
        with_one = torch.cat([torch.ones_like(targets[:1]), targets]).flatten(1)
        for fold, start, stop in parts:
            values = centred[start:stop]
            map_sum = values.sum(dim=0).double()
            self.images[fold] += len(values)
            self.cells[fold] += len(values) * height * width
            self.squares[fold] += values.square().sum(dim=(0, 2, 3)).double()
            self.image_squares[fold] += values.sum(dim=(2, 3)).double().square().sum(dim=0)
            self.cross[fold, 0] += len(values) * with_one.sum(dim=1)
            self.cross[fold, 1:] += map_sum.flatten(1) @ with_one.T
            self.target_squares[fold] += len(values) * with_one[1:].square().sum(dim=1)
            if self.maps is not None and self.maps.shape[2:] == (height, width):
                self.maps[fold] += map_sum
            else:
                self.maps = None

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
            moved.maps = self.maps + self.images[:, None, None, None] * shift[:, None, None]
            moved.image_squares = self.image_squares + n_cells * (2 * shift * cell_sums + cells * shift**2)
        return moved

    def merge(self, other: "PositionMoments") -> None:
        """Add the sums of `other`, which is left as it is."""
        _check_alike("the shape of their sums", tuple(self.cross.shape), tuple(other.cross.shape))
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
