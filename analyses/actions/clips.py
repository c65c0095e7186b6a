"""Clips of videos: which frames they are of, what is cut out of them, and in which order they are shown."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from probe.analyses.actions.videos import LENGTH, Videos, resized

__all__ = ["clip_places", "middle_clip", "middle_clips", "scored_starts", "training_clips", "whole_starts"]

_SCALES = (1.0, 0.84, 0.71, 0.59, 0.5)  # of the short side
_CORNERS = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
_MEAN = (114.7748, 107.7354, 99.4750)  # of the frames of ActivityNet, which the published code takes from all


def clip_places(start: int, length: int) -> list[int]:
    """Return the frames of the clip that begins at `start`; a clip that runs out of frames begins anew.

    Examples
    --------
    >>> clip_places(3, 8)
    [3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 3]
    """
    found = range(start, min(start + LENGTH, length))
    return [found[place % len(found)] for place in range(LENGTH)]


def scored_starts(length: int) -> range:
    """Return where the clips begin whose accuracy is published: about three, of short videos more.

    Examples
    --------
    >>> [len(scored_starts(length)) for length in (480, 48, 40, 29, 20, 17)]
    [3, 3, 4, 5, 10, 16]
    """
    step = max(1, -(-(length - 1 - LENGTH) // 2))
    return range(0, max(length - 1, 1), step)


def whole_starts(length: int) -> range:
    """Return where the clips begin that together make the scores of a video, without overlap."""
    return range(0, max(length - 1, 1), LENGTH)


def middle_clip(videos: Videos, index: int, start: int, *, size: int) -> Tensor:
    """Return the central square of a clip, shape (3, frame, size, size)."""
    frames = videos.frames(index, clip_places(start, videos.length(index)))
    return _cut(frames, _CORNERS[0], 1.0, size)


class _MiddleClips(Dataset[Tensor]):
    """Central squares of clips, by (video, first frame)."""

    def __init__(self, videos: Videos, places: Sequence[tuple[int, int]], size: int) -> None:
        self.videos, self.places, self.size = videos, places, size

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Tensor:
        return middle_clip(self.videos, *self.places[number], size=self.size)


def middle_clips(
    videos: Videos, places: Sequence[tuple[int, int]], *, batch: int, size: int, workers: int = 0
) -> Iterator[Tensor]:
    """Yield batches of the central squares of clips, in order.

    Parameters
    ----------
    videos
        What to cut from.
    places
        (video, first frame) of each clip.
    batch, size, workers
        As in `training_clips`.
    """
    clips = _MiddleClips(videos, places, size)
    yield from DataLoader(clips, batch, num_workers=workers, generator=torch.Generator())


class _TrainingClips(Dataset[tuple[Tensor, int]]):
    """Clips drawn anew from (seed, visit, video), by (visit, video)."""

    def __init__(self, videos: Videos, size: int, seed: int) -> None:
        self.videos, self.size, self.seed = videos, size, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        visit, index = key
        random = np.random.default_rng((self.seed, visit, index))
        length = self.videos.length(index)
        start = int(random.integers(max(length - LENGTH, 0) + 1))
        frames = self.videos.frames(index, clip_places(start, length))
        corner, scale = _CORNERS[random.integers(len(_CORNERS))], _SCALES[random.integers(len(_SCALES))]
        clip = _cut(frames, corner, scale, self.size)
        return clip.flip(3) if random.random() < 0.5 else clip, self.videos.labels[index]


def training_clips(
    videos: Videos, *, visits: Sequence[int], batch: int, size: int, seed: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of clips, one of each video in every visit, in a random order.

    Each is a run of frames that is drawn, cut to a square at a corner or in the middle, of one of five scales, and
    mirrored or not.

    Parameters
    ----------
    videos
        To train on.
    visits
        Numbers of the visits; what is drawn depends on `seed`, visit and video alone.
    batch, size
        Clips of a batch, and their rows and columns.
    seed
        Of the draws.
    workers
        Processes that read.
    """
    orders = [
        [(visit, int(index)) for index in np.random.default_rng((seed, visit)).permutation(len(videos))]
        for visit in visits
    ]
    batches = [order[start : start + batch] for order in orders for start in range(0, len(order), batch)]
    yield from DataLoader(
        _TrainingClips(videos, size, seed),
        batch_sampler=batches,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
    )


def _cut(frames: np.ndarray, corner: tuple[float, float], scale: float, size: int) -> Tensor:
    """Cut a square, with `corner` from (0, 0), upper left, to (1, 1), and its side in short sides of the frames."""
    height, width = frames.shape[1:3]
    side = int(min(height, width) * scale)
    top, left = round(corner[0] * (height - side)), round(corner[1] * (width - side))
    clip = resized(frames[:, top : top + side, left : left + side], (size, size))
    return clip - torch.tensor(_MEAN)[:, None, None, None]
