"""Videos as folders of frames, and which of them are for training, validation and test."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from probe.errors import ImagesError
from probe.images.clips import Clips
from probe.images.folders import Unreadable
from probe.reading.memory import check_memory

__all__ = ["LENGTH", "Videos", "read_splits", "resized"]

LENGTH = 16
"""Frames of a clip."""

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
            small = resized(frames, _small_size(frames, short_side))
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


def resized(frames: np.ndarray, size: tuple[int, int]) -> Tensor:
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
