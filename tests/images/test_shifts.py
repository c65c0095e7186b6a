"""An object at every position of a frame, against pasting it there."""

import pytest
import torch

from probe.errors import ImagesError
from probe.images.shifts import Placements, references_of

REFERENCES = references_of(2)

ITEM = torch.arange(1.0, 13.0).reshape(2, 2, 3)
BACKGROUND = torch.tensor([-1.0, -2.0])


def pasted(row, column, frame):
    canvas = BACKGROUND[:, None, None].expand(2, *frame).clone()
    canvas[:, row : row + 2, column : column + 3] = ITEM
    return canvas


def test_every_frame_is_the_object_pasted_at_its_position():
    placements = Placements(ITEM, (5, 7), BACKGROUND)
    assert placements.grid == (4, 5) and len(placements) == 20
    frames = placements.frames(torch.arange(20))
    for position, frame in enumerate(frames):
        assert torch.equal(frame, pasted(*divmod(position, 5), (5, 7)))


def test_the_references_are_the_corners_and_the_centre():
    placements = Placements(ITEM, (6, 7), BACKGROUND)
    places = [divmod(position, placements.grid[1]) for position in placements.references().tolist()]
    assert dict(zip(REFERENCES, places, strict=True)) == {
        "top left": (0, 0), "top right": (0, 4), "centre": (2, 2), "bottom left": (4, 0), "bottom right": (4, 4),
    }  # fmt: skip


def test_an_object_larger_than_the_frame_is_refused():
    with pytest.raises(ImagesError, match=r"one of 2×3 pixels does not fit into a frame of 5×2\. Pass a larger frame"):
        Placements(ITEM, (5, 2), BACKGROUND)
