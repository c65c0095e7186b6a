"""Sums of products of all pairs of channels: update, merge, save, load. Torch only.

They hold one set of sums a fold, in double precision, about a pilot value of each channel (its mean in
the first batch), which keeps single-precision products accurate under a large common offset. Sums of two halves of
a data set are merged by adding them, after a shift to a common pilot.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.errors import ArgumentError
from probe.sums.products import add_products, empty_columns
from probe.sums.rounding import is_rounding, varies

__all__ = ["Gram", "Part", "check_alike", "gram_bytes", "pilot_mean", "summing_dtype", "symmetric"]

Part = tuple[int, int, int]
"""A fold and the first and last-plus-one of its images in a batch; a batch is sorted by fold."""

_MOST_ROWS = 256  # of a block
_MOST_AT_ONCE = 4096  # samples whose products are summed in the precision of the activations
_FAR = 8  # standard deviations of a channel from its pilot
_SMALLEST = 1e-9  # of a column, squares of which keep their digits in single precision


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


def check_alike(what: str, first: object, second: object) -> None:
    """Raise an `ArgumentError` unless two statistics that are to be merged agree in something."""
    if first != second:
        raise ArgumentError(
            f"merge: the two statistics differ in {what}: {first} and {second}. "
            "Collect both with the same model, layers, folds and targets."
        )


class Gram:
    """Sums of products of all pairs of the columns [1, design, features], for each fold.

    The design columns are the values of the targets and their controls at each sample; the features are the
    channels of a layer. Entry (0, 0) counts the samples, row 0 holds the sums. A Gram is symmetric, so only blocks
    of rows from the diagonal on are computed and kept: this nearly halves its time and memory.

    Parameters
    ----------
    n_folds
        Number of cross-validation folds.
    n_design
        Number of design columns.
    pilot
        Shape (channel,), double precision. Subtracted from the features before they are multiplied.
    dtype
        Precision of the products, single or double. The products of some thousand samples are added up in it, since
        what small batches cost is mostly the reading and writing of sums; all else is summed in double.

    Examples
    --------
    >>> gram = Gram(n_folds=1, n_design=1, pilot=torch.tensor([6.0], dtype=torch.float64))
    >>> gram.update(design=torch.tensor([[1.0], [3.0]]), features=torch.tensor([[5.0], [7.0]]), parts=[(0, 0, 2)])
    >>> gram.upper([0]).triu()
    tensor([[ 2.,  4.,  0.],
            [ 0., 10.,  2.],
            [ 0.,  0.,  2.]], dtype=torch.float64)
    """

    def __init__(self, n_folds: int, n_design: int, pilot: Tensor, dtype: torch.dtype = torch.float64) -> None:
        n_columns = 1 + n_design + len(pilot)
        self.pilot, self.dtype = pilot, dtype
        self._blocks = [
            torch.zeros(n_folds, rows, n_columns - start, dtype=torch.float64, device=pilot.device)
            for start, rows in _blocks(n_columns)
        ]
        self._begin()

    def _begin(self) -> None:
        self._latest = [torch.zeros_like(block[0], dtype=self.dtype) for block in self._blocks]
        self._latest_fold, self._n_latest = 0, 0
        self._scale: Tensor | None = None

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
        for fold, start, stop in parts:
            if fold != self._latest_fold or self._n_latest + stop - start > _MOST_AT_ONCE:
                self._settle()
            pilot = self.pilot.to(self.dtype)
            columns = empty_columns(n_before + features.shape[1], stop - start, self.dtype, features.device)
            columns[0] = 1
            columns[1:n_before] = design[start:stop].T
            columns[n_before:] = (features[start:stop].to(self.dtype) - pilot).T
            if self._n_latest == 0:
                self._scale = _power_of_two(columns)
            if self._scale is not None:
                columns *= self._scale[:, None]
            for latest in self._latest:
                behind = columns[-latest.shape[1] :]
                add_products(latest, behind[: latest.shape[0]], behind)
            self._latest_fold, self._n_latest = fold, self._n_latest + stop - start

    def _settle(self) -> None:
        """Add the products of the latest samples, all of one fold, to the sums in double precision."""
        if not self._n_latest:
            return
        fold, self._n_latest = self._latest_fold, 0
        for block, latest in zip(self._blocks, self._latest, strict=True):
            if self._scale is None:
                block[fold] += latest
            else:
                scale = self._scale[-latest.shape[1] :].double()
                block[fold] += latest.double() / scale[: len(latest), None] / scale
            latest.zero_()
        # The first images may be unlike the others: about their mean, products in single precision would lose digits.
        features = slice(-len(self.pilot), None)
        totals, squares = self.totals.sum(dim=0), self.squares.sum(dim=0)[features]
        offset = totals[features] / totals[0]
        is_far = offset.square() > _FAR**2 * (squares / totals[0] - offset.square())
        if is_far.any() and squares.isfinite().all():
            self._move_pilot(torch.where(is_far, offset, 0.0))

    def _move_pilot(self, step: Tensor) -> None:
        """Take the sums about another pilot, that many units higher.

        What a channel that is constant in a fold has left there is the rounding of sums about the pilot before, which
        would pass for a variation about the new one.
        """
        count, features = self.totals[:, :1], slice(-len(step), None)
        squares, totals = self.squares[:, features], self.totals[:, features]
        deviations = squares - totals.square() / count.clamp(min=1)
        is_flat = (step != 0) & is_rounding(deviations, squares, self.dtype) & (count > 0)
        pilot = self.pilot + step
        is_zero = is_flat.any(dim=0) & ~varies(pilot.abs(), self.pilot.abs(), self.dtype)
        pilot = torch.where(is_zero, 0.0, pilot)
        shift = torch.zeros_like(self.totals[0])
        shift[features] = self.pilot - pilot
        shifted = _shifted([block.clone() for block in self._blocks], shift)
        for block, moved in zip(self._blocks, shifted, strict=True):
            block.copy_(moved)
        self.totals[:, features].masked_fill_(is_flat & is_zero, 0.0)
        self._level(is_flat)
        self.pilot = pilot

    def _level(self, is_flat: Tensor) -> None:
        """Take channels for constant in some folds, shape (fold, channel)."""
        for fold in is_flat.any(dim=1).nonzero().flatten().tolist():
            totals = self.totals[fold].clone()
            flat = torch.zeros_like(totals, dtype=torch.bool)
            flat[-is_flat.shape[1] :] = is_flat[fold]
            for block in self._blocks:
                start = len(totals) - block.shape[2]
                rows = slice(start, start + block.shape[1])
                chosen = flat[rows, None] | flat[start:]
                constant = torch.outer(totals[rows], totals[start:]) / totals[0]
                block[fold] = torch.where(chosen, constant, block[fold])

    def move_pilot(self, pilot: Tensor) -> None:
        """Take the sums about another pilot, shape (channel,)."""
        self._settle()
        self._move_pilot(pilot.to(self.pilot) - self.pilot)
        self.pilot = pilot.to(self.pilot)

    @property
    def blocks(self) -> list[Tensor]:
        """The sums, shape (fold, row of the block, column from the first row on), double precision."""
        self._settle()
        return self._blocks

    def merge(self, other: "Gram") -> None:
        """Add the sums of `other`, which is left as it is."""
        check_alike("the shape of their sums", tuple(self.totals.shape), tuple(other.totals.shape))
        shift = torch.zeros_like(self.totals[0])
        shift[-len(self.pilot) :] = other.pilot.to(shift) - self.pilot
        theirs = _shifted([block.to(shift) for block in other.blocks], shift)
        for mine, added in zip(self.blocks, theirs, strict=True):
            mine += added

    @property
    def kept(self) -> "Gram":
        """The Gram whose sums are kept: this one."""
        return self

    def as_gram(self) -> "Gram":
        """Return the Gram of the channels themselves: this one."""
        return self

    @property
    def made_of(self) -> Tensor | None:
        """What the channels are made of: themselves."""
        return None

    def of_channels(self, weights: Tensor, live: Tensor) -> Tensor:
        """Return readouts of the channels that are these readouts of what is kept: the same."""
        return weights

    @property
    def totals(self) -> Tensor:
        """Sums of the columns, shape (fold, column); the first one counts the samples."""
        return self.blocks[0][:, 0]

    @property
    def squares(self) -> Tensor:
        """Sums of the squares of the columns, shape (fold, column)."""
        return torch.cat([block.diagonal(dim1=1, dim2=2) for block in self.blocks], dim=1)

    @property
    def nbytes(self) -> int:
        """Bytes that the sums take."""
        return sum(tensor.nbytes for tensor in (*self._blocks, *self._latest))

    @property
    def is_finite(self) -> bool:
        """Whether all samples, and their squares, were finite."""
        return bool(torch.isfinite(self.totals).all() and torch.isfinite(self.squares).all())

    @property
    def finite_channels(self) -> Tensor:
        """Whether all samples of a channel, and their squares, were finite, shape (channel,)."""
        return torch.isfinite(self.squares[:, -len(self.pilot) :]).all(dim=0)

    def upper(self, folds: Sequence[int], out: Tensor | None = None) -> Tensor:
        """Return the sums over some folds, shape (column, column), of which only the upper triangle means anything.

        Parameters
        ----------
        folds
            To train on all folds but one, their sums are added here, rather than the one taken from the total: this
            keeps the digits of a channel that hardly varies in them.
        out
            Where to write; by default a new tensor.
        """
        n_columns = self.totals.shape[1]
        upper = self.totals.new_empty(n_columns, n_columns) if out is None else out
        for block in self.blocks:
            start = n_columns - block.shape[2]
            part = upper[start : start + block.shape[1], start:]
            part.copy_(block[folds[0]])
            for fold in folds[1:]:
                part += block[fold]
        return upper

    @classmethod
    def of_sums(cls, sums: Sequence[Tensor], n_design: int, pilot: Tensor, dtype: torch.dtype) -> "Gram":
        """Return a Gram that holds these sums of each fold, shape (column, column)."""
        gram = cls(len(sums), n_design, pilot, dtype)
        for block in gram._blocks:
            start = len(sums[0]) - block.shape[2]
            for fold, of_fold in enumerate(sums):
                block[fold] = of_fold[start : start + block.shape[1], start:]
        return gram

    def state(self, *, settled: bool = True) -> dict[str, Any]:
        """Return what `from_state` restores.

        Parameters
        ----------
        settled
            Whether the latest samples are added to the sums before, as for good. A reading that goes on leaves them, so
            that it gives the same bits as one that was not asked.
        """
        if settled:
            return {"pilot": self.pilot, "dtype": self.dtype, "blocks": self.blocks}
        return vars(self).copy()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Gram":
        """Restore the statistic from its `state`."""
        gram = cls.__new__(cls)
        if "blocks" not in state:
            vars(gram).update(state)
            return gram
        gram.pilot, gram.dtype, gram._blocks = state["pilot"], state["dtype"], state["blocks"]
        gram._begin()
        return gram


def symmetric(upper: Tensor) -> Tensor:
    """Return the matrix whose upper triangle this is.

    Examples
    --------
    >>> symmetric(torch.tensor([[1.0, 2.0], [9.0, 3.0]]))
    tensor([[1., 2.],
            [2., 3.]])
    """
    return upper.triu() + upper.triu(1).T


def _shifted(blocks: Sequence[Tensor], shift: Tensor) -> Iterator[Tensor]:
    """Yield the blocks of sums of products of the columns plus a shift, shape (column,), block by block."""
    totals = blocks[0][:, 0].clone()
    count = totals[:, :1, None]
    for block in blocks:
        by_column, moved = totals[:, None, -block.shape[2] :], shift[-block.shape[2] :]
        by_row, moved_row = by_column[:, 0, : block.shape[1], None], moved[: block.shape[1], None]
        yield block + moved_row * by_column + by_row * moved + count * moved_row * moved


def _power_of_two(columns: Tensor) -> Tensor | None:
    """Return by what to multiply columns, shape (column,), whose squares would leave their precision; None for none."""
    size = columns.abs().amax(dim=1).double()
    leaves = ((size < _SMALLEST) | (size > 1 / _SMALLEST)) & (size > 0) & size.isfinite()
    if not leaves.any():
        return None
    return torch.where(leaves, torch.exp2(-size.clamp(min=2.0**-120, max=2.0**120).log2().round()), 1.0).to(columns)


def _blocks(n_columns: int) -> list[tuple[int, int]]:
    """Return the first row of each block, and its number of rows: about as many in each."""
    n_blocks = math.ceil(n_columns / _MOST_ROWS)
    edges = [n_columns * block // n_blocks for block in range(n_blocks + 1)]
    return [(start, stop - start) for start, stop in itertools.pairwise(edges)]


def gram_bytes(n_folds: int, n_design: int, n_channels: int, dtype: torch.dtype = torch.float32) -> int:
    """Return what a `Gram` of products in some precision takes, in bytes.

    Examples
    --------
    >>> gram = Gram(n_folds=5, n_design=20, pilot=torch.zeros(2048), dtype=torch.float32)
    >>> gram_bytes(5, 20, 2048) == gram.nbytes
    True
    """
    n_columns = 1 + n_design + n_channels
    return (8 * n_folds + dtype.itemsize) * sum(rows * (n_columns - start) for start, rows in _blocks(n_columns))
