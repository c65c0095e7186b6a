"""Clips of moving digits, in which where and when a digit moves is in our hands."""

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.analyses.data.digits import CANVAS, Digits

__all__ = ["DIRECTIONS", "FRAMES", "TASKS", "Clips", "move_digits", "shuffled", "swapped", "task_clips"]

FRAMES = 16
"""Frames of a clip."""

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Rows and columns that a digit moves by from frame to frame; the opposite of each is four places further."""

TASKS = ("directions", "place", "time")
"""What is to be told: one of eight directions; right or left, each in a half of the frames of its own, or in a half
of the time."""

_RIGHT, _LEFT = 0, 4
_NOISE = {"directions": 0.7, "place": 1.0, "time": 0.7}


@dataclass(frozen=True)
class Clips:
    """Clips of shape (clip, 1, frame, row, column), and their labels."""

    frames: Tensor
    labels: Tensor


def move_digits(strokes: Tensor, steps: Tensor, middles: Tensor, shown: Tensor) -> Tensor:
    """Draw digits that move at one pixel a frame; what leaves at one border comes back at the opposite one.

    Parameters
    ----------
    strokes
        Shape (clip, row, column).
    steps
        Shape (clip, 2). Rows and columns from frame to frame.
    middles
        Shape (clip, 2). Row and column of the upper left corner in the frame after the middle of the shown ones.
    shown
        Shape (clip, frame). The frames in which the digit is there, the same number in each.

    Returns
    -------
    torch.Tensor
        Shape (clip, 1, frame, row, column), black but for the digits.

    Examples
    --------
    >>> digit, right = torch.ones(1, 1, 1), torch.tensor([[0, 1]])
    >>> clip = move_digits(digit, right, torch.tensor([[5, 0]]), torch.tensor([[3, 4, 5]]))
    >>> clip.nonzero()[:, 2:].tolist()
    [[3, 5, 31], [4, 5, 0], [5, 5, 1]]
    """
    count, size = strokes.shape[:2]
    elapsed = torch.arange(shown.shape[1]) - shown.shape[1] // 2
    corners = middles[:, None] + steps[:, None] * elapsed[:, None]
    reach = torch.arange(size)
    rows = (corners[..., 0, None] + reach) % CANVAS
    columns = (corners[..., 1, None] + reach) % CANVAS
    frames = torch.zeros(count, FRAMES, CANVAS, CANVAS)
    clip = torch.arange(count)[:, None, None, None]
    frames[clip, shown[:, :, None, None], rows[..., :, None], columns[..., None, :]] = strokes[:, None]
    return frames[:, None]


def task_clips(task: str, digits: Digits, *, count: int, generator: torch.Generator) -> Clips:
    """Draw clips of a task, of its classes in turn.

    Where the middle of the path lies is drawn uniformly, the same for each class: in which place a digit is seen tells
    nothing. In the task ``place`` the digits that move right stay in the upper half of the frames, those that move
    left in the lower one; in the task ``time`` they are there in the first half of the clip, or in the second.

    Parameters
    ----------
    task
        One of `TASKS`.
    digits
        To draw from, with replacement.
    count
        Number of clips.
    generator
        Of all draws.
    """
    strokes = digits.strokes[torch.randint(len(digits), (count,), generator=generator)]
    labels = torch.arange(count) % (len(DIRECTIONS) if task == "directions" else 2)
    steps = torch.tensor(DIRECTIONS)[labels if task == "directions" else torch.tensor([_RIGHT, _LEFT])[labels]]
    middles = torch.randint(CANVAS, (count, 2), generator=generator)
    shown = torch.arange(FRAMES).expand(count, FRAMES)
    if task == "place":
        room = CANVAS // 2 - strokes.shape[1] + 1
        middles[:, 0] = middles[:, 0] % room + labels * (CANVAS // 2)
    if task == "time":
        shown = torch.arange(FRAMES // 2) + labels[:, None] * (FRAMES // 2)
    frames = move_digits(strokes, steps, middles, shown)
    return Clips(frames + _NOISE[task] * torch.randn(frames.shape, generator=generator), labels)


def shuffled(clips: Clips, *, seed: int) -> Clips:
    """Return the same clips, the frames of each in an order of its own."""
    order = torch.rand(clips.frames.shape[0], FRAMES, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    clip = torch.arange(len(order))[:, None]
    return Clips(clips.frames[:, 0][clip, order][:, None], clips.labels)


def swapped(task: str, clips: Clips) -> Clips:
    """Return the same clips, each class where or when the other one was."""
    shift, axis = (CANVAS // 2, 3) if task == "place" else (FRAMES // 2, 2)
    return Clips(clips.frames.roll(shift, axis), clips.labels)
