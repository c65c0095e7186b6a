"""The image files below a folder, decoded."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from probe.errors import ImagesError
from probe.images.numbering import evenly_spaced
from probe.images.pictures import as_rgb, common_whites, is_deep

__all__ = ["Folder", "Unreadable"]

# Those of torchvision's ImageFolder, whose import would take longer than a small folder.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_LOOKED_AT = 32  # files of a folder, to know which grey is white


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, or a damaged one."""

    path: str
    reason: str


class Folder:
    """The image files below a folder, in sorted order, turned upright (EXIF) and converted to RGB.

    Links are followed, to files and to folders. A file that cannot be decoded, or a link to nothing, gives an
    `Unreadable` in its place. What is white in greys of more than 8 bits is told by 32 files, evenly spaced.

    Attributes
    ----------
    root : pathlib.Path
        The folder.
    paths : list of pathlib.Path
        What each row is read from.

    Raises
    ------
    ImagesError
        If there is no such folder, it cannot be read, or there is no image file in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ImagesError(f"images: {str(folder)!r} is no folder. Pass a folder of image files.")
        self.root = folder
        self.paths = sorted(_image_files(folder))
        if not self.paths:
            raise ImagesError(f"images: no image file below {str(folder)!r} (looked for {', '.join(_EXTENSIONS)}).")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.picture(index)

    @property
    def files(self) -> list[Path]:
        """The image files of all rows."""
        return self.paths

    def picture(self, index: int) -> Any:
        """Return an image as RGB, or an `Unreadable`."""
        return self.opened(self.paths[index])

    def opened(self, path: Path) -> Image.Image | Unreadable:
        """Return an image file as RGB."""
        try:
            with Image.open(path) as image:
                white = self._whites[image.mode][0] if is_deep(image) and image.mode in self._whites else None
                return as_rgb(image, white)
        except Exception as error:  # decoders raise many kinds for damaged files
            return Unreadable(str(path), str(error).replace(str(path), path.name))

    def guesses(self) -> list[str]:
        """Return a warning for each kind of greys of which it is a guess what is white."""
        return [
            f"images: greys of mode {mode} in {str(self.root)!r} are taken to be white at {white}, the least of 1, "
            "255, 1023, 4095 and 65535 that none exceeds. If that is wrong, pass a Dataset that scales them."
            for mode, (white, guessed) in self._whites.items()
            if guessed
        ]

    @cached_property
    def _whites(self) -> dict[str, tuple[int, bool]]:
        return common_whites(self._deep_ones())

    def _deep_ones(self) -> Iterator[Image.Image]:
        for index in evenly_spaced(len(self.files), _LOOKED_AT):
            try:
                with Image.open(self.files[index]) as image:
                    if is_deep(image):
                        image.load()
                        yield image
            except Exception:  # what is damaged is told when it is read
                continue


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder, and links to nothing, which may be folders of images that are missing."""

    def fail(error: OSError) -> NoReturn:
        raise ImagesError(f"images: {error.filename} cannot be read ({error.strerror}). Mend or remove it.")

    # A folder is not entered below itself: links may lead in circles.
    above = {str(folder): {folder.resolve()}}
    for name, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        entered = []
        for below in folders:
            real = (Path(name) / below).resolve()
            if real not in above[name]:
                entered.append(below)
                above[os.path.join(name, below)] = above[name] | {real}  # noqa: PTH118 - as os.walk names it
        folders[:] = entered
        for file in files:
            path = Path(name) / file
            is_lost = path.is_symlink() and not path.exists() and not file.startswith(".")
            if path.suffix.lower() in _EXTENSIONS or is_lost:
                yield path
