"""One row of a data set becomes one image tensor, and its label where a score asks for it; files are decoded."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from probe.errors import ArgumentError, ImagesError, noting
from probe.images.pictures import as_grey, as_rgb, common_whites, is_deep
from probe.images.shapes import channels_first, check_row

__all__ = [
    "Clip",
    "Folder",
    "Rows",
    "Transform",
    "Unreadable",
    "as_label",
    "as_tensor",
    "axes_of",
    "collate",
    "evenly_spaced",
    "image_in",
    "label_in",
    "row_tensor",
]

Transform = Callable[[Any], Any]

# Those of torchvision's ImageFolder, whose import would take longer than a small folder.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_KEYS = ("pixel_values", "image", "img", "images")
_LABEL_KEYS = ("label", "labels", "target", "mask")
_CURES_OF_SIZES = {
    False: "Pass transform= to bring them to one size,",
    True: "Bring clips to one number of frames and one size, as probe.Clips(folder, frames=16) does,",
}
_LOOKED_AT = 32  # files of a folder, to know which grey is white


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, or a damaged one."""

    path: str
    reason: str


@dataclass(frozen=True)
class Clip:
    """The pictures of a clip, in order."""

    frames: list[Image.Image]

    def convert(self, mode: str) -> "Clip":
        """Return it with each picture converted, as `PIL.Image.Image.convert` does one."""
        return Clip([frame.convert(mode) for frame in self.frames])


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


class Rows(Dataset[tuple[int, Any, Any]]):
    """Chosen rows of a data set, as (place among the chosen, image tensor or `Unreadable`, label).

    Parameters
    ----------
    rows
        Has ``rows[index]``: an image, a tuple that begins with one, or a mapping that holds one.
    indices
        The chosen rows.
    transform
        Applied to each image.
    input_key
        Where the image is: a key of rows that are mappings, or a place in rows that are tuples.
    labels
        Whether to return labels, as they are; else they are None.
    grey
        Whether pictures become one channel; else three.
    n_axes
        As in `probe.images.shapes.check_shape`.
    """

    def __init__(
        self,
        rows: Any,
        indices: list[int],
        transform: Transform | None,
        input_key: str | int | None,
        labels: bool = False,
        grey: bool = False,
        n_axes: int | None = None,
    ) -> None:
        self.rows, self.indices, self.transform, self.input_key = rows, indices, transform, input_key
        self.labels, self.grey, self.n_axes = labels, grey, n_axes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Tensor | Unreadable, Any]:
        index = self.indices[place]
        is_folder = isinstance(self.rows, Folder)
        file = f" ({self.rows.paths[index]})" if is_folder else ""
        with noting(f"while image {index}{file} was read and transformed"):
            row = self.rows[index]
            if isinstance(row, Unreadable):
                return place, row, None
            image = image_in(row, self.input_key)
            if is_folder and self.grey:
                image = image.convert("L")
            label = label_in(row) if self.labels else None
            return place, row_tensor(image, self.transform, self.grey, self.n_axes), label


def collate(
    rows: list[tuple[int, Tensor | Unreadable, Any]],
) -> tuple[list[int], Tensor, list[Any], list[Unreadable]]:
    """Stack `Rows` to a batch: the places of the images, their pixels and labels, and what could not be read."""
    places = [place for place, image, _ in rows if isinstance(image, Tensor)]
    images = [image for _, image, _ in rows if isinstance(image, Tensor)]
    labels = [label for _, image, label in rows if isinstance(image, Tensor)]
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ImagesError(
            f"images: one batch holds images of shape {shapes[0]} and {shapes[1]}. "
            f"{_CURES_OF_SIZES[len(shapes[0]) == 4]} or batch_size=1 if the model accepts several."
        )
    pixels = torch.stack(images) if images else torch.empty(0, device="cpu")
    return places, pixels, labels, [image for _, image, _ in rows if isinstance(image, Unreadable)]


def evenly_spaced(length: int, most: int | None) -> list[int]:
    """Return the numbers below `length`, or `most` of them, evenly spaced.

    Examples
    --------
    >>> evenly_spaced(7, most=3), evenly_spaced(2, most=None)
    ([0, 2, 4], [0, 1])
    """
    count = length if most is None else min(length, most)
    return [rank * length // count for rank in range(count)]


def axes_of(image: Any) -> int | None:
    """Return how many axes an image has, or several in one, a picture counting as three; None for what is no array.

    Examples
    --------
    >>> axes_of(torch.zeros(2, 3, 4, 4)), axes_of([Image.new("L", (4, 4))]), axes_of("cat.png")
    (4, 4, None)
    """
    if isinstance(image, Image.Image):
        return 3
    if isinstance(image, list | tuple):
        inner = axes_of(image[0]) if image else None
        return None if inner is None else inner + 1
    if isinstance(image, bool | int | float | complex):
        return 0
    return getattr(image, "ndim", None)


def image_in(row: Any, input_key: str | int | None) -> Any:
    """Return the image in a row, or the images in a batch of a loader; labels are ignored.

    Raises
    ------
    ArgumentError
        If the row has no such entry.
    ImagesError
        If the row is a mapping without a known key.

    Examples
    --------
    >>> image_in(("pixels", 3), input_key=None)
    'pixels'
    >>> image_in({"scan": "pixels", "label": 3}, input_key="scan"), image_in((7, "pixels"), input_key=1)
    ('pixels', 'pixels')
    """
    if isinstance(row, Mapping):
        keys = _KEYS if input_key is None else (input_key,)
        key = next((key for key in keys if key in row), None)
        if key is None:
            raise ImagesError(
                f"images: a row has the keys {', '.join(map(str, row))}, and none of {', '.join(map(str, keys))}. "
                "Name the one that holds the image with input_key=."
            )
        return row[key]
    if isinstance(input_key, int) and isinstance(row, list | tuple) and -len(row) <= input_key < len(row):
        return row[input_key]
    if input_key is not None:
        raise ArgumentError(
            f"input_key={input_key!r}: no entry of a row, which is a {type(row).__name__}. Name a key of rows that are "
            "mappings or the place in rows that are tuples, or leave it out for the row or its first entry."
        )
    return row[0] if isinstance(row, list | tuple) and row else row


def label_in(row: Any) -> Any:
    """Return the label in a row, or the labels in a batch of a loader, as they are.

    Raises
    ------
    ImagesError
        If there is none.

    Examples
    --------
    >>> label_in(("pixels", 3)), label_in({"image": "pixels", "mask": 4})
    (3, 4)
    """
    if isinstance(row, Mapping):
        key = next((key for key in _LABEL_KEYS if key in row), None)
        if key is not None:
            return row[key]
    elif isinstance(row, list | tuple) and len(row) > 1:
        return row[1]
    raise ImagesError(
        f"images: the score needs labels, and a row is a {type(row).__name__} without any. Pass a data set of "
        f"(image, label), such as torch.utils.data.TensorDataset, or of mappings with one of {', '.join(_LABEL_KEYS)}."
    )


def as_label(label: Any) -> Tensor:
    """Return the class of an image, shape (), or of each of its pixels, shape (row, column), which may be a PIL image.

    Raises
    ------
    ImagesError
        If it holds no whole numbers, or has other axes.

    Examples
    --------
    >>> as_label(3), as_label(Image.new("P", (2, 1), color=7))
    (tensor(3), tensor([[7, 7]]))
    """
    try:
        found = label if isinstance(label, Tensor) else _from_array(label)
    except (TypeError, ValueError):
        found = None
    if found is None or found.is_floating_point() or found.is_complex():
        raise ImagesError(
            f"images: a label is a {type(label).__name__}; expected the whole number of a class, or a map."
        )
    if found.ndim not in (0, 2):
        raise ImagesError(
            f"images: a label has the shape {tuple(found.shape)}; expected (), the class of the image, or "
            "(row, column), the class of each pixel."
        )
    return found.long()


def as_tensor(image: Any, grey: bool = False) -> Tensor:
    """Return a tensor as it is, a copy of an array, and a PIL image as (channel, row, column) in [0, 1].

    Parameters
    ----------
    image
        One of these.
    grey
        Whether a PIL image becomes one channel; else RGB.

    Raises
    ------
    ImagesError
        If it is none of these.
    """
    if isinstance(image, Tensor):
        return image
    if isinstance(image, Image.Image):
        pixels = np.array(as_grey(image) if grey else as_rgb(image))
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).float() / 255
    try:
        return _from_array(image)
    except (TypeError, ValueError, RuntimeError) as error:
        _refuse_as_image(image, error)


def row_tensor(image: Any, transform: Transform | None, grey: bool, n_axes: int | None = None) -> Tensor:
    """Return one image, transformed, as a tensor of shape (channel, *size); of a clip each frame is transformed.

    Raises
    ------
    ImagesError
        If it is none, or has other axes.
    """
    if isinstance(image, Clip):
        frames: list[tuple[int, Tensor | Unreadable, Any]] = [
            (place, row_tensor(frame, transform, grey, 2), None) for place, frame in enumerate(image.frames)
        ]
        shapes = sorted({tuple(frame.shape) for _, frame, _ in frames if isinstance(frame, Tensor)})
        if len(shapes) > 1:
            raise ImagesError(
                f"images: the frames of one clip have the shapes {shapes[0]} and {shapes[1]}. Pass transform=, which "
                "is applied to each, to bring them to one size."
            )
        return check_row(collate(frames)[1].transpose(0, 1), n_axes, "in the data set")
    shown = image if transform is None else transform(image)
    if transform is not None and isinstance(shown, Mapping):
        raise ImagesError(
            f"images: transform= gave a {type(shown).__name__} with {', '.join(map(str, shown))}; expected an image. "
            "Let it return the one entry, for a processor of Hugging Face "
            "lambda image: processor(image, return_tensors='pt')['pixel_values'][0]."
        )
    where = "in transform=" if transform is not None else "in the data set, or in transform="
    return check_row(channels_first(as_tensor(shown, grey)), n_axes, where)


def _refuse_as_image(image: Any, error: Exception) -> NoReturn:
    cure = "Pass tensors, arrays or PIL images, or make them such in transform=."
    if isinstance(image, str | Path):
        cure = "Pass the folder of the files, or transform=PIL.Image.open, which opens each path."
    raise ImagesError(f"images: a {type(image).__name__} is no image ({error}). {cure}") from None


def _from_array(values: Any) -> Tensor:
    """Copy numbers of any order of bytes and axes to a tensor; torch has no 16-bit and larger unsigned integers."""
    array = np.asarray(values)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "biuf":
        raise TypeError(f"it holds {array.dtype}")
    if kind == "u" and size > 1:
        dtype = np.dtype(np.int32 if size == 2 else np.int64)
    elif kind == "f" and size > 8:
        dtype = np.dtype(np.float64)
    else:
        dtype = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


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
