"""Shifts of whole images, by whose law studies differ: how pixels move, by how much, and who shares a draw."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from probe.axes import AXES, sized
from probe.checks import is_whole
from probe.errors import ArgumentError, ImagesError

__all__ = ["LAWS", "Law", "resolve_law"]

_PART = 8  # of the shorter side, by which images are shifted where no reach is given


@dataclass(frozen=True)
class Law:
    """How images are shifted.

    Attributes
    ----------
    move : str
        ``"crop"``: a window of the image, `room` pixels smaller than it, whose upper left pixel is at the offset;
        ``"circular"``: the image rolled by the offset; ``"zero"``: the image moved by the offset, with 0 where it has
        left.
    room : int
        Pixels by which windows are smaller than images, along each axis.
    first, last : int
        Smallest and largest offset that pairs are drawn from, along each axis.
    last_on_diagonal : int
        The diagonal has the offsets (d, d) from `first` to this.
    pairs : int
        Number of pairs for each image.
    together : int
        So many images, of consecutive numbers, share their draws.
    distinct : bool
        Whether the two offsets of a pair always differ.
    axes : tuple of str
        Along which they are shifted; all frames of a clip alike, where that is rows and columns alone.

    Examples
    --------
    >>> law = resolve_law("circular", 2, (8, 8))
    >>> law.n_shifts, law.pair_offsets(0, pairs=1, from_unshifted=False, seed=0).tolist()
    (25, [[[2, -2], [1, -2]]])
    """

    move: str
    room: int = 0
    first: int = 0
    last: int = 0
    last_on_diagonal: int = 0
    pairs: int = 5
    together: int = 1
    distinct: bool = True
    axes: tuple[str, ...] = AXES[-2:]

    @property
    def n_shifts(self) -> int:
        """Number of different offsets that pairs are drawn from."""
        return (self.last - self.first + 1) ** len(self.axes)

    @property
    def unshifted(self) -> int:
        """The offset along each axis at which the image, or its central window, stands where it is."""
        return self.room // 2

    @property
    def diagonal(self) -> range:
        """The offsets along each axis on the diagonal."""
        return range(self.first, self.last_on_diagonal + 1)

    def pair_offsets(self, number: int, *, pairs: int, from_unshifted: bool, seed: int) -> np.ndarray:
        """Draw the pairs of offsets of an image, from (seed, image number).

        Parameters
        ----------
        number
            Of the image.
        pairs
            How many to draw; the first of them do not depend on how many.
        from_unshifted
            Whether the first of each pair is the image as it stands.
        seed
            Of all draws.

        Returns
        -------
        numpy.ndarray
            Shape (pair, view, axis).
        """
        generator = np.random.default_rng((seed, number // self.together))
        side = self.last - self.first + 1
        home = (self.unshifted - self.first) * sum(side**axis for axis in range(len(self.axes)))
        drawn = np.empty((pairs, 2), dtype=np.int64)
        for pair in drawn:
            if from_unshifted:
                # The places behind home move up by one, so that home itself is not drawn.
                place = generator.integers(self.n_shifts - self.distinct)
                pair[:] = home, place + (self.distinct and place >= home)
            elif self.distinct:
                pair[:] = generator.choice(self.n_shifts, 2, replace=False)
            else:
                pair[:] = generator.integers(self.n_shifts, size=2)
        return np.stack(np.unravel_index(drawn, (side,) * len(self.axes)), axis=-1) + self.first

    def shifted(self, images: Tensor, offsets: Sequence[tuple[int, ...]] | np.ndarray) -> Tensor:
        """Return each image at an offset of its own.

        Parameters
        ----------
        images
            Shape (image, channel, row, column), or with frames before the rows.
        offsets
            Shape (image, axis).

        Returns
        -------
        torch.Tensor
            New, in the same memory format: shape (image, channel, *size), smaller by `room` along the law's axes.
        """
        dims = [AXES.index(axis) - len(AXES) for axis in self.axes]
        shape = [length - self.room * (place - images.ndim in dims) for place, length in enumerate(images.shape)]
        last_channels = (
            images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        )
        result = torch.empty(
            shape, dtype=images.dtype, device=images.device,
            memory_format=torch.channels_last if last_channels else torch.contiguous_format,
        )  # fmt: skip
        result.zero_()
        for target, image, offset in zip(result, images, offsets, strict=True):
            steps = [int(step) for step in offset]
            if self.move == "circular":
                target[:] = image.roll(steps, dims=dims)
                continue
            there, here = [slice(None)] * image.ndim, [slice(None)] * image.ndim
            for dim, step in zip(dims, steps, strict=True):
                length = image.shape[dim]
                if self.move == "crop":
                    here[dim] = slice(step, step + length - self.room)
                else:
                    there[dim], here[dim] = slice(max(step, 0), length + step), slice(max(-step, 0), length - step)
            target[tuple(there)] = image[tuple(here)]
        return result


LAWS = {
    "crop": Law("crop"),
    "circular": Law("circular"),
    "zero": Law("zero"),
    "zhang": Law("crop", room=32, last=31, last_on_diagonal=32, together=8, distinct=False),
    "kayhan": Law("crop", room=64, last=63, last_on_diagonal=64, together=256, distinct=False),
    "chaman": Law("circular", first=-3, last=2, last_on_diagonal=2, pairs=1, together=256, distinct=False),
    "chaman_zero": Law("zero", first=-3, last=2, last_on_diagonal=2, pairs=1, together=256, distinct=False),
}
"""The laws by name: three whose reach is chosen, with distinct offsets drawn for each image; and published ones, whose
offsets may coincide and are shared by a batch of the published size, here of so many consecutive image numbers.

``zhang``: Zhang 2019, 224 of 256 pixels, offsets 0 to 31, diagonal 0 to 32, batches of 8. ``kayhan``: Kayhan and van
Gemert 2020, 224 of 288 pixels, offsets 0 to 63, diagonal 0 to 64. ``chaman`` and ``chaman_zero``: Chaman and Dokmanić
2021, circular or filled with 0, offsets −3 to 2, one pair.
"""


def resolve_law(name: str, reach: int | None, size: Sequence[int], axes: tuple[str, ...] = AXES[-2:]) -> Law:
    """Return the law of a name, for images of some size along the axes on which they are shifted.

    Parameters
    ----------
    name
        One of `LAWS`.
    reach
        Largest shift in pixels, or frames; None for an eighth of the shorter side. For crops, by how much windows are
        smaller than images. Published laws have their own.
    size
        Of the images along the axes.
    axes
        Along which to shift them.

    Raises
    ------
    ArgumentError
        If there is no such law, or the reach does not fit it.
    ImagesError
        If the images are too small for it.
    """
    if name not in LAWS:
        raise ArgumentError(f"law={name!r}: expected one of {', '.join(LAWS)}.")
    law = replace(LAWS[name], axes=axes)
    unit = "frames" if axes == ("frame",) else "pixels"
    if law.last == law.first:
        found = max(min(size) // _PART, 1) if reach is None else reach
        if not is_whole(found) or found < 1:
            raise ArgumentError(f"reach={reach!r}: expected a whole number of {unit}, at least 1.")
        found = int(found)
        cropped = law.move == "crop"
        law = replace(law, room=found * cropped, first=-found * (not cropped), last=found, last_on_diagonal=found)
    elif reach is not None:
        raise ArgumentError(f"reach={reach!r}: law={name!r} has its own. Leave it out, or pass law={law.move!r}.")
    if max(law.room, law.last, -law.first) >= min(size):
        raise ImagesError(
            f"images: of {sized(size)} {unit}, they cannot be shifted by {max(law.room, law.last)}. Pass larger "
            "images, or a smaller reach=."
        )
    if law.move == "circular" and law.last - law.first >= min(size):
        raise ArgumentError(
            f"reach={law.last}: of images of {sized(size)} {unit}, rolls by {law.first} and {law.last} are the "
            f"same. Pass at most {(min(size) - 1) // 2}."
        )
    return law
