"""Videos as folders of frames: which are for what, and the clips that are taken of them."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from probe.errors import ImagesError
from probe.images.clips import Clips
from probe.images.folders import Unreadable
from probe.reading.memory import check_memory

__all__ = [
    "LENGTH",
    "Videos",
    "clip_places",
    "middle_clip",
    "read_splits",
    "scored_starts",
    "training_clips",
    "whole_starts",
]

LENGTH = 16
"""Frames of a clip."""

_SCALES = (1.0, 0.84, 0.71, 0.59, 0.5)  # of the short side
_CORNERS = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
_MEAN = (114.7748, 107.7354, 99.4750)  # of the frames of ActivityNet, which the published code takes from all
_GROUP = re.compile(r"_g(\d+)_")
_HELD_OUT = 5  # one group in so many is for validation
_MOST_NAMED = 5
_WHERE = (
    "Expected FOLDER/train and FOLDER/test with <class>/<video>/image_00001.jpg, or FOLDER/<class>/<video>/… and one "
    "annotation file of a split, as ucf101_01.json of 3D-ResNets-PyTorch. Get UCF101 from "
    "https://www.crcv.ucf.edu/data/UCF101.php and HMDB51 from https://serre.lab.brown.edu/hmdb51.html, and take the "
    "videos apart to frames of height 240, with ffmpeg for example."
)


@dataclass(frozen=True)
class Videos:
    """Some videos of a folder.

    Attributes
    ----------
    source
        All videos of the folder.
    numbers
        Which ones, by their places in `source`.
    labels
        The class of each.
    kept
        The frames of each, shape (frame, row, column, 3), where they are kept; else they are read anew.
    """

    source: Clips
    numbers: Sequence[int]
    labels: Sequence[int]
    kept: Sequence[np.ndarray] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def length(self, index: int) -> int:
        """Return the number of frames of a video."""
        return self.source.length(self.numbers[index])

    def frames(self, index: int, places: Sequence[int]) -> np.ndarray:
        """Return frames of a video, shape (frame, row, column, 3), from 0 to 255.

        Raises
        ------
        ImagesError
            If one is missing or cannot be read, or they are not of one size.
        """
        if self.kept:
            return self.kept[index][list(places)]
        clip = self.source.taken(self.numbers[index], places)
        if isinstance(clip, Unreadable):
            raise ImagesError(f"images: {clip.path} cannot be read: {clip.reason}. Mend or remove the video.")
        sizes = {frame.size for frame in clip.frames}
        if len(sizes) > 1:
            raise ImagesError(
                f"images: the frames of {self.source.paths[self.numbers[index]]} are of {len(sizes)} sizes; expected "
                "one. Mend or remove the video."
            )
        return np.stack([np.asarray(frame.convert("RGB")) for frame in clip.frames])

    def keep(self, *, short_side: int) -> "Videos":
        """Return the same videos with all frames in memory, brought to a short side of so many pixels.

        Raises
        ------
        TooLargeError
            If they do not fit.
        """
        size = _small_size(self.frames(0, [0]), short_side)
        check_memory(
            3 * size[0] * size[1] * sum(self.length(index) for index in range(len(self))),
            torch.device("cpu"),
            f"images: the frames of {len(self)} videos",
            "Give a folder with fewer videos, or take the preset 'paper', which reads them anew each time.",
        )
        kept = []
        for index in range(len(self)):
            frames = self.frames(index, range(self.length(index)))
            small = _resized(frames, _small_size(frames, short_side))
            kept.append(small.clamp(0, 255).round().byte().permute(1, 2, 3, 0).numpy())
        return Videos(self.source, self.numbers, self.labels, kept)

    def some(self, chosen: Sequence[int]) -> "Videos":
        """Return some of them, by their places among these."""
        return Videos(
            self.source,
            [self.numbers[index] for index in chosen],
            [self.labels[index] for index in chosen],
            [self.kept[index] for index in chosen] if self.kept else (),
        )


def _small_size(frames: np.ndarray, short_side: int) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    scale = short_side / min(height, width)
    return max(short_side, round(height * scale)), max(short_side, round(width * scale))


def _resized(frames: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Bring frames to a size, shape (3, frame, row, column), from 0 to 255."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True).transpose(0, 1)


def read_splits(folder: Path) -> tuple[Videos, Videos, Videos, list[str]]:
    """Find the videos to train on, those of training that are kept for validation, and those to test with.

    Validation takes one group in five: in UCF101 videos of one group, ``_g07_`` in their names, show the same scene.

    Parameters
    ----------
    folder
        Holds ``train`` and ``test``, and in both ``<class>/<video>/<frames>``; or ``<class>/<video>/<frames>`` and one
        JSON file, with ``database[video]["subset"]`` ``training`` or ``validation``.

    Returns
    -------
    training, validation, test : Videos
    classes : list of str

    Raises
    ------
    ImagesError
        If there is no such folder, a video of the annotation is missing, none is to train on or to test with, or there
        are fewer than two classes.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        parts = [Clips(folder / name, frames=LENGTH) for name in ("train", "test")]
        different = set(parts[0].classes) ^ set(parts[1].classes)
        if different:
            raise ImagesError(
                f"images {folder}: the classes of train/ and test/ differ in {', '.join(sorted(different)[:5])}. Both "
                "need a folder for each class."
            )
        training, test = (_labelled(part, range(len(part.paths))) for part in parts)
    else:
        training, test = _annotated(folder)
    classes = training.source.classes
    for part, videos in (("train on", training), ("test with", test)):
        if not len(videos):
            raise ImagesError(f"images {folder}: there is no video to {part}. {_WHERE}")
    if len(set(training.labels)) < 2:
        only = classes[training.labels[0]]
        raise ImagesError(f"images {folder}: there is one class to train on, {only!r}; expected two or more. {_WHERE}")
    groups = [_group(training.source.paths[number]) for number in training.numbers]
    chosen = set()
    for label in range(len(classes)):
        own = sorted({group for group, of in zip(groups, training.labels, strict=True) if of == label})
        chosen |= {(label, group) for group in own[_HELD_OUT - 1 :: _HELD_OUT]}
    held_out = [key in chosen for key in zip(training.labels, groups, strict=True)]
    kept, validation = (
        training.some([index for index, held in enumerate(held_out) if held == wanted]) for wanted in (False, True)
    )
    if not len(validation):
        raise ImagesError(f"images {folder}: no class has {_HELD_OUT} videos to train on, so none is left to validate.")
    return kept, validation, test, classes


def _labelled(source: Clips, numbers: Sequence[int]) -> Videos:
    names = [source.paths[number].parent.name for number in numbers]
    return Videos(source, list(numbers), [source.classes.index(name) for name in names])


def _group(video: Path) -> str:
    found = _GROUP.search(video.name)
    return found.group(1) if found else video.name


def _annotated(folder: Path) -> tuple[Videos, Videos]:
    if not folder.is_dir():
        raise ImagesError(f"images: {str(folder)!r} is no folder. {_WHERE}")
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise ImagesError(f"images: {folder} has no train/ and test/, and {len(files)} annotation files. {_WHERE}")
    try:
        database = json.loads(files[0].read_text(encoding="utf-8"))["database"]
        subsets = {name: str(entry["subset"]) for name, entry in database.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImagesError(f"images: {files[0]} is no annotation of a split: {error!r}. {_WHERE}") from error
    source = Clips(folder, frames=LENGTH)
    places = {path.name: number for number, path in enumerate(source.paths)}
    missing = [name for name in subsets if name not in places]
    if missing:
        raise ImagesError(
            f"images: {len(missing)} of {len(subsets)} videos of {files[0].name} are not in {folder}: "
            f"{', '.join(missing[:_MOST_NAMED])}{' and others' if len(missing) > _MOST_NAMED else ''}."
        )
    training, test = (
        _labelled(source, sorted(places[name] for name, of in subsets.items() if of == subset))
        for subset in ("training", "validation")
    )
    return training, test


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
    clip = _resized(frames[:, top : top + side, left : left + side], (size, size))
    return clip - torch.tensor(_MEAN)[:, None, None, None]
