"""One row of a data set becomes one image tensor, and its label where a score asks for it; files are decoded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from probe.errors import ImagesError, noting

__all__ = ["Folder", "Rows", "Transform", "Unreadable", "as_label", "as_tensor", "collate", "image_in", "label_in"]

Transform = Callable[[Any], Any]

# Those of torchvision's ImageFolder, whose import would take longer than a small folder.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_KEYS = ("pixel_values", "image", "img", "images")
_LABEL_KEYS = ("label", "labels", "target", "mask")


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, or a damaged one."""

    path: str
    reason: str


class Folder:
    """The image files below a folder, in sorted order, turned upright (EXIF) and converted to RGB.

    A file that cannot be decoded gives an `Unreadable` in its place.

    Raises
    ------
    ImagesError
        If there is no such folder, or no image file in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ImagesError(f"images: {str(folder)!r} is no folder. Pass a folder of image files.")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _EXTENSIONS)
        if not self.paths:
            raise ImagesError(f"images: no image file below {str(folder)!r} (looked for {', '.join(_EXTENSIONS)}).")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image | Unreadable:
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                return _as_rgb(image)
        except Exception as error:  # decoders raise many kinds for damaged files
            return Unreadable(str(path), str(error).replace(str(path), path.name))


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
        Where the image is in rows that are mappings.
    labels
        Whether to return labels, too; else they are None.
    """

    def __init__(
        self, rows: Any, indices: list[int], transform: Transform | None, input_key: str | None, labels: bool = False
    ) -> None:
        self.rows, self.indices, self.transform, self.input_key = rows, indices, transform, input_key
        self.labels = labels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Tensor | Unreadable, Tensor | None]:
        index = self.indices[place]
        file = f" ({self.rows.paths[index]})" if isinstance(self.rows, Folder) else ""
        with noting(f"while image {index}{file} was read and transformed"):
            row = self.rows[index]
            if isinstance(row, Unreadable):
                return place, row, None
            image = image_in(row, self.input_key)
            label = as_label(label_in(row)) if self.labels else None
            return place, as_tensor(image if self.transform is None else self.transform(image)), label


def collate(
    rows: list[tuple[int, Tensor | Unreadable, Tensor | None]],
) -> tuple[list[int], Tensor, list[Tensor | None], list[Unreadable]]:
    """Stack `Rows` to a batch: the places of the images, their pixels and labels, and what could not be read."""
    places = [place for place, image, _ in rows if isinstance(image, Tensor)]
    images = [image for _, image, _ in rows if isinstance(image, Tensor)]
    labels = [label for _, image, label in rows if isinstance(image, Tensor)]
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ImagesError(
            f"images: one batch holds images of shape {shapes[0]} and {shapes[1]}. "
            "Pass transform= to bring them to one size, or batch_size=1 if the model accepts several."
        )
    pixels = torch.stack(images) if images else torch.empty(0)
    return places, pixels, labels, [image for _, image, _ in rows if isinstance(image, Unreadable)]


def image_in(row: Any, input_key: str | None) -> Any:
    """Return the image in a row, or the images in a batch of a loader; labels are ignored.

    Raises
    ------
    ImagesError
        If the row is a mapping without a known key.

    Examples
    --------
    >>> image_in(("pixels", 3), input_key=None)
    'pixels'
    >>> image_in({"scan": "pixels", "label": 3}, input_key="scan")
    'pixels'
    """
    if isinstance(row, Mapping):
        keys = _KEYS if input_key is None else (input_key,)
        key = next((key for key in keys if key in row), None)
        if key is None:
            raise ImagesError(
                f"images: a row has the keys {', '.join(map(str, row))}, and none of {', '.join(keys)}. "
                "Name the one that holds the image with input_key=."
            )
        return row[key]
    return row[0] if isinstance(row, list | tuple) else row


def label_in(row: Any) -> Any:
    """Return the label in a row, or the labels in a batch of a loader.

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
        If it holds no whole numbers.

    Examples
    --------
    >>> as_label(3), as_label(Image.new("P", (2, 1), color=7))
    (tensor(3), tensor([[7, 7]]))
    """
    try:
        found = label if isinstance(label, Tensor) else torch.from_numpy(np.array(label))
    except TypeError:
        found = None
    if found is None or found.is_floating_point() or found.is_complex():
        raise ImagesError(
            f"images: a label is a {type(label).__name__}; expected the whole number of a class, or a map."
        )
    return found.long()


def as_tensor(image: Any) -> Tensor:
    """Return a tensor as it is, a copy of an array, and a PIL image as RGB of shape (channel, row, column) in [0, 1].

    Raises
    ------
    ImagesError
        If it is none of these.
    """
    if isinstance(image, Tensor):
        return image
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(_as_rgb(image))).permute(2, 0, 1).float() / 255
    try:
        return torch.tensor(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImagesError(
            f"images: a {type(image).__name__} is no image ({error}). "
            "Pass tensors, arrays or PIL images, or make them such in transform=."
        ) from None


def _as_rgb(image: Image.Image) -> Image.Image:
    """Turn upright and convert to RGB; 16-bit greys keep their full range, transparency is dropped."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
