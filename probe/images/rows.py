"""One row of a data set becomes one image tensor, and its label where a score asks for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from probe.errors import ArgumentError, ImagesError, noting
from probe.images.folders import Folder, Unreadable
from probe.images.pictures import as_grey, as_rgb
from probe.images.shapes import channels_first, check_row

__all__ = [
    "Clip",
    "Rows",
    "Transform",
    "as_label",
    "as_tensor",
    "axes_of",
    "collate",
    "image_in",
    "label_in",
    "row_tensor",
]

Transform = Callable[[Any], Any]

_KEYS = ("pixel_values", "image", "img", "images")
_LABEL_KEYS = ("label", "labels", "target", "mask")
_CURES_OF_SIZES = {
    False: "Pass transform= to bring them to one size,",
    True: "Bring clips to one number of frames and one size, as probe.Clips(folder, frames=16) does,",
}


@dataclass(frozen=True)
class Clip:
    """The pictures of a clip, in order."""

    frames: list[Image.Image]

    def convert(self, mode: str) -> "Clip":
        """Return it with each picture converted, as `PIL.Image.Image.convert` does one."""
        return Clip([frame.convert(mode) for frame in self.frames])


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
