"""An object at every position of a frame, or a clip of one at every position and moment of a longer clip."""

import itertools
import math

import torch
from torch import Tensor

from probe.axes import sized
from probe.errors import ImagesError

__all__ = ["Placements", "references_of"]

_SIDES = (("first", "last"), ("top", "bottom"), ("left", "right"))


def references_of(n_axes: int) -> dict[str, tuple[float, ...]]:
    """Return the reference positions, as shares of the room that the object has along each axis.

    They are the corners and the centre: of images five, of clips nine.

    Examples
    --------
    >>> references_of(2)["centre"], list(references_of(2))
    ((0.5, 0.5), ['top left', 'top right', 'centre', 'bottom left', 'bottom right'])
    """
    corners = {
        " ".join(sides[place] for sides, place in zip(_SIDES[-n_axes:], places, strict=True)): tuple(map(float, places))
        for places in itertools.product((0, 1), repeat=n_axes)
    }
    before, behind = (
        list(corners.items())[part] for part in (slice(len(corners) // 2), slice(len(corners) // 2, None))
    )
    return dict([*before, ("centre", (0.5,) * n_axes), *behind])


class Placements:
    """An object at every position of a frame, cut as windows out of one canvas.

    Parameters
    ----------
    item
        The object, shape (channel, row, column), or with frames before the rows.
    frame
        Rows and columns of the frame, or frames, rows and columns of the longer clip.
    background
        Value of the frame, shape (channel,) or ().

    Attributes
    ----------
    grid : tuple of int
        Number of positions along each axis.

    Examples
    --------
    >>> placements = Placements(torch.ones(1, 1, 1), (2, 3), torch.tensor(0.0))
    >>> len(placements), placements.frames(torch.tensor([4]))
    (6, tensor([[[[0., 0., 0.],
                  [0., 1., 0.]]]]))
    """

    def __init__(self, item: Tensor, frame: tuple[int, ...], background: Tensor) -> None:
        n_channels, *own = item.shape
        room = [whole - part for whole, part in zip(frame, own, strict=True)]
        if min(room) < 0:
            raise ImagesError(
                f"objects: one of {sized(own)} pixels does not fit into a frame of {sized(frame)}. "
                "Pass a larger frame= or smaller objects."
            )
        canvas = background.reshape(-1, *[1] * len(own)).expand(
            n_channels, *(s + r for s, r in zip(frame, room, strict=True))
        )
        canvas = canvas.clone()
        canvas[(slice(None), *(slice(r, r + n) for r, n in zip(room, own, strict=True)))] = item
        # Of shape (*grid, channel, *frame); a view, which takes no memory.
        for axis, length in enumerate(frame, start=1):
            canvas = canvas.unfold(axis, length, 1)
        self._windows = canvas.movedim(0, len(own))
        self.grid = tuple(r + 1 for r in room)

    def __len__(self) -> int:
        return math.prod(self.grid)

    def frames(self, positions: Tensor) -> Tensor:
        """Return the frame with the object at each of some positions.

        Parameters
        ----------
        positions
            Shape (position,): row of the object's upper left pixel times the positions along a row, plus its column;
            of clips, plus the positions of a frame times its first frame.

        Returns
        -------
        torch.Tensor
            Shape (position, channel, *frame).
        """
        places = torch.unravel_index(positions, self.grid)
        return self._windows[tuple(count - 1 - place for count, place in zip(self.grid, places, strict=True))]

    def references(self) -> Tensor:
        """Return the positions of `references_of`, shape (reference,)."""
        places = []
        for shares in references_of(len(self.grid)).values():
            number = 0
            for share, count in zip(shares, self.grid, strict=True):
                number = number * count + int(share * (count - 1))
            places.append(number)
        return torch.tensor(places, device="cpu")
