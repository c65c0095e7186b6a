"""An object at every position of a frame."""

import torch
from torch import Tensor

from probe.errors import ImagesError

__all__ = ["REFERENCES", "Placements"]

REFERENCES = {
    "top left": (0.0, 0.0),
    "top right": (0.0, 1.0),
    "centre": (0.5, 0.5),
    "bottom left": (1.0, 0.0),
    "bottom right": (1.0, 1.0),
}
"""The reference positions, as shares of the room that the object has along rows and columns."""


class Placements:
    """An object at every position of a frame, cut as windows out of one canvas.

    Parameters
    ----------
    item
        The object, shape (channel, row, column).
    frame
        Rows and columns of the frame.
    background
        Value of the frame, shape (channel,) or ().

    Attributes
    ----------
    grid : tuple of int
        Number of positions along rows and columns.

    Examples
    --------
    >>> placements = Placements(torch.ones(1, 1, 1), (2, 3), torch.tensor(0.0))
    >>> len(placements), placements.frames(torch.tensor([4]))
    (6, tensor([[[[0., 0., 0.],
                  [0., 1., 0.]]]]))
    """

    def __init__(self, item: Tensor, frame: tuple[int, int], background: Tensor) -> None:
        n_channels, height, width = item.shape
        room = (frame[0] - height, frame[1] - width)
        if min(room) < 0:
            raise ImagesError(
                f"objects: one of {height}×{width} pixels does not fit into a frame of {frame[0]}×{frame[1]}. "
                "Pass a larger frame= or smaller objects."
            )
        canvas = background.reshape(-1, 1, 1).expand(n_channels, *(s + r for s, r in zip(frame, room, strict=True)))
        canvas = canvas.clone()
        canvas[:, room[0] : room[0] + height, room[1] : room[1] + width] = item
        # Shape (row, column, channel, row of the frame, column of the frame); a view, which takes no memory.
        self._windows = canvas.unfold(1, frame[0], 1).unfold(2, frame[1], 1).permute(1, 2, 0, 3, 4)
        self.grid = (room[0] + 1, room[1] + 1)

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def frames(self, positions: Tensor) -> Tensor:
        """Return the frame with the object at each of some positions.

        Parameters
        ----------
        positions
            Shape (position,): row of the object's upper left pixel times the positions along a row, plus its column.

        Returns
        -------
        torch.Tensor
            Shape (position, channel, row, column).
        """
        rows, columns = positions // self.grid[1], positions % self.grid[1]
        return self._windows[self.grid[0] - 1 - rows, self.grid[1] - 1 - columns]

    def references(self) -> Tensor:
        """Return the five positions of `REFERENCES`, shape (reference,)."""
        last_row, last_column = self.grid[0] - 1, self.grid[1] - 1
        places = [(int(row * last_row), int(column * last_column)) for row, column in REFERENCES.values()]
        return torch.tensor([row * self.grid[1] + column for row, column in places], device="cpu")
