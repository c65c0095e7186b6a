"""Folders of frames: each folder that holds image files is a video, of which a clip of some frames is read."""

import math
import os
import re
from collections.abc import Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

from PIL import Image

from probe.checks import whole_number
from probe.errors import ArgumentError, ImagesError
from probe.images.folders import Folder, Unreadable
from probe.images.numbering import evenly_spaced
from probe.images.rows import Clip

__all__ = ["Clips"]

_NUMBER = re.compile(r"\d+(?=\D*$)")  # the last one of a name
_MOST_NAMED = 5


class Clips(Folder):
    """Clips of videos that were taken apart to frames, such as ``<class>/<video>/image_00001.jpg``, as a data set.

    The commonest uses::

        probe.layerwise(model, probe.Clips("videos/"), transform=transform)
        probe.layerwise(model, probe.Clips("videos/", frames=32, sampling="even"), transform=transform)
        probe.list_layers(model, probe.Clips("videos/", frames=8), transform=transform)

    Every folder below `folder` in which image files lie is a video, its frames in the order of the numbers that end
    their names, or of their names where none has a number. Numbers may go in equal steps, as 10, 20, 30: these are
    frames in a row, and one is missing where a step is longer than the others allow. ``transform=`` of a measurement is
    applied to each frame, a picture in RGB, or grey where the model takes one channel. A video with missing frames,
    with files that are none or share a number, or of which a frame is damaged, is left out with a warning that names
    them, as damaged files of a folder are.

    Parameters
    ----------
    folder
        Searched recursively, links followed, in sorted order. UCF101 and HMDB51 as 3-D networks are trained on them
        look so.
    frames
        Number of frames of a clip.
    sampling
        ``"middle"``: that many in a row from the middle of the video; ``"even"``: as many, evenly spaced from the first
        one on. A video that is shorter begins anew until there are enough.

    Attributes
    ----------
    classes : list of str
        The folders that the videos lie in, in sorted order; a clip's label, where a score asks for one, is its place
        among them.

    Raises
    ------
    ArgumentError
        If `frames` is no number of at least 1, or `sampling` is another.
    ImagesError
        If there is no such folder, it cannot be read, or no image file is below it; or if it is itself a folder of
        image files that are not numbered one after the other, such as one of photographs.

    Examples
    --------
    >>> import probe, tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     video = Path(folder, "waving", "first")
    ...     video.mkdir(parents=True)
    ...     for number in range(1, 6):
    ...         Image.new("RGB", (4, 3), (number, 0, 0)).save(video / f"image_{number:05}.png")
    ...     clip, label = probe.Clips(folder, frames=3)[0]
    >>> [frame.getpixel((0, 0))[0] for frame in clip.frames], label
    ([2, 3, 4], 0)
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, frames: int = 16, sampling: Literal["middle", "even"] = "middle"
    ) -> None:
        if sampling not in ("middle", "even"):
            raise ArgumentError(f"sampling={sampling!r}: expected 'middle' or 'even'.")
        super().__init__(Path(folder))
        self.frames, self.sampling = whole_number("frames", frames, 1), sampling
        videos: dict[Path, list[Path]] = {}
        for file in self.paths:
            videos.setdefault(file.parent, []).append(file)
        for above in (above for video in videos for above in video.parents if above in videos):
            raise ImagesError(
                f"images: {str(above)!r} holds image files beside folders of frames, such as "
                f"{videos[above][0].name!r}. Pass a folder that holds videos alone, each a folder of frames."
            )
        self._videos = [sorted(files, key=_place) for files in videos.values()]
        if self.root in videos and (problem := _problem_of(self._videos[0], numbered=True)):
            raise ImagesError(
                f"images: the files in {str(folder)!r} are not the frames of a video: {problem}. Pass a folder that "
                "holds one of frames for each video, numbered one after the other, such as "
                "CLASS/VIDEO/image_00001.jpg; photographs make no clips."
            )
        self.paths = list(videos)
        self.classes = sorted({path.parent.name for path in self.paths})

    def __getitem__(self, index: int) -> tuple[Clip, int] | Unreadable:
        """Return a clip and the place of its class."""
        clip = self.picture(index)
        return clip if isinstance(clip, Unreadable) else (clip, self.classes.index(self.paths[index].parent.name))

    @property
    def files(self) -> list[Path]:
        """The frames of all videos."""
        return [file for files in self._videos for file in files]

    def picture(self, index: int) -> Clip | Unreadable:
        """Return a clip, or why there is none."""
        return self.taken(index, self._chosen(self.length(index)))

    def length(self, index: int) -> int:
        """Return the number of frames of a video."""
        return len(self._videos[index])

    def taken(self, index: int, places: Sequence[int]) -> Clip | Unreadable:
        """Return the frames of a video at given places, from 0, or why there are none."""
        files = self._videos[index]
        if problem := _problem_of(files):
            return Unreadable(str(self.paths[index]), problem)
        frames: list[Image.Image] = []
        for place in places:
            frame = self.opened(files[place])
            if isinstance(frame, Unreadable):
                return frame
            frames.append(frame)
        return Clip(frames)

    def _chosen(self, length: int) -> Sequence[int]:
        if length < self.frames:
            return [place % length for place in range(self.frames)]
        if self.sampling == "even":
            return evenly_spaced(length, self.frames)
        start = (length - self.frames) // 2
        return range(start, start + self.frames)


def _number(file: Path) -> int | None:
    found = _NUMBER.search(file.stem)
    return None if found is None else int(found.group())


def _place(file: Path) -> tuple[int, str]:
    return _number(file) or 0, file.name


def _problem_of(files: Sequence[Path], *, numbered: bool = False) -> str:
    """Return why sorted files are not the frames of a video, one after the other; empty where they are.

    Files without any number are in order by their names, unless they are to be numbered.
    """
    numbers = [_number(file) for file in files]
    known = {number for number in numbers if number is not None}
    if not known and not numbered:
        return ""
    if None in numbers:
        return f"{files[numbers.index(None)].name} has no number at the end of its name, as its frames have"
    for number, file, behind in zip(numbers, files, files[1:], strict=False):
        if number == _number(behind):
            return f"{file.name} and {behind.name} have the same number; each frame needs one of its own, the last"
    in_order = sorted(known)
    step = math.gcd(*(behind - number for number, behind in pairwise(in_order)))
    n_missing = (in_order[-1] - in_order[0]) // step + 1 - len(in_order) if step else 0
    gaps = (range(number + step, behind, step) for number, behind in pairwise(in_order) if behind > number + step)
    named = ", ".join(map(str, islice(chain.from_iterable(gaps), _MOST_NAMED)))
    more = f" and {n_missing - _MOST_NAMED} more" if n_missing > _MOST_NAMED else ""
    steps = f", numbered in steps of {step}" if step > 1 else ""
    return f"of its frames{steps}, {named}{more} are missing" if n_missing else ""
