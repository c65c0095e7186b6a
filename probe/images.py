"""Every accepted form of data set becomes numbered batches.

A tensor, a data set and a folder are read fold by fold, so that most batches fall into one cross-validation fold; a
loader or an iterable is read once, in its own order. Results depend on the image numbers alone.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from probe.errors import ArgumentError, ImagesError, ProbeWarning

__all__ = ["Batch", "ImageSource", "open_images"]

_KEYS = ("pixel_values", "image", "img", "images")
_MOST_CORRUPT = 0.05
_BRIGHTEST_NORMALISED = 20.0

Transform = Callable[[Any], Any]
FoldOf = Callable[[int, int], int]


@dataclass(frozen=True)
class Batch:
    """Some images: `numbers` of shape (image,), `folds` likewise, `pixels` of shape (image, channel, row, column)."""

    numbers: list[int]
    folds: list[int]
    pixels: Tensor


class ImageSource:
    """Numbered batches of images.

    Attributes
    ----------
    length : int or None
        Number of images that will be read, where it is known beforehand.
    corrupt : dict
        Files that could not be read, with the reason.
    """

    def __init__(self, length: int | None, batches: Iterator[Batch], corrupt: dict[str, str]) -> None:
        self.length = length
        self.corrupt = corrupt
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches

    def peek(self) -> Tensor:
        """Return the first image, shape (1, channel, row, column), which will still be read.

        Raises
        ------
        ImagesError
            If there is none.
        """
        first = next(self._batches, None)
        if first is None:
            raise ImagesError("images: there are none. Pass at least as many images as folds.")
        rest = self._batches

        def again() -> Iterator[Batch]:
            yield first
            yield from rest

        self._batches = again()
        return first.pixels[:1]


def open_images(
    images: Any,
    *,
    batch_size: int,
    num_workers: int,
    transform: Transform | None,
    input_key: str | None,
    max_images: int | None,
    first_image: int,
    fold_of: FoldOf,
) -> ImageSource:
    """Open any accepted form of data set.

    Parameters
    ----------
    images
        A tensor or array of shape (image, channel, row, column); a Dataset whose rows are images, tuples that begin
        with one, or mappings that hold one; a DataLoader; an iterable of batches; or a folder of image files,
        searched recursively in sorted order. Files are turned upright (EXIF) and converted to RGB.
    batch_size, num_workers
        For tensors, data sets and folders.
    transform
        Applied to each image of a data set or folder.
    input_key
        Where the image is in rows that are mappings.
    max_images
        Read so many: evenly spaced over a tensor, data set or folder, the first of a loader or iterable.
    first_image
        Number of the first image.
    fold_of
        (image number, position in the data set plus `first_image`) -> fold.

    Raises
    ------
    ArgumentError, ImagesError
        If the data set has no accepted form, is empty, or its images do not fit together.
    """
    if isinstance(images, str | Path):
        rows: Any = _Folder(Path(images))
    elif isinstance(images, np.ndarray | Tensor):
        rows = _check_batch(torch.as_tensor(images))
    else:
        rows = images
    corrupt: dict[str, str] = {}
    if _has_rows(rows):
        order = _order(len(rows), max_images, first_image, fold_of)
        if isinstance(rows, Tensor):
            _refuse(transform, "a tensor")
            batches = _tensor_batches(rows, order, batch_size)
        else:
            loader = DataLoader(
                _Rows(rows, [origin for _, origin, _ in order], transform, input_key),
                batch_size=batch_size,
                num_workers=num_workers,
                collate_fn=_collate,
            )
            batches = _row_batches(loader, order, corrupt)
        return ImageSource(len(order), batches, corrupt)
    _refuse(transform, "batches")
    if isinstance(rows, IterableDataset):
        rows = DataLoader(rows, batch_size=batch_size, num_workers=num_workers)
    length = None
    if isinstance(rows, DataLoader):
        if isinstance(rows.sampler, RandomSampler):
            warnings.warn(
                "images: the DataLoader shuffles, so image numbers, and with them folds and stimuli, follow this "
                "run's order of arrival. Pass its data set, or shuffle=False, for repeatable results.",
                ProbeWarning,
                stacklevel=4,
            )
        length = _loader_length(rows)
    if not hasattr(rows, "__iter__"):
        raise ArgumentError(
            f"images: expected a tensor, Dataset, DataLoader, iterable of batches or folder, found "
            f"{type(images).__name__}."
        )
    if length is not None and max_images is not None:
        length = min(length, max_images)
    return ImageSource(length, _arriving_batches(rows, input_key, max_images, first_image, fold_of), corrupt)


def _has_rows(images: Any) -> bool:
    if isinstance(images, IterableDataset | DataLoader | list | tuple | Mapping):
        return False
    return isinstance(images, Dataset) or (hasattr(images, "__getitem__") and hasattr(images, "__len__"))


def _refuse(transform: Transform | None, what: str) -> None:
    if transform is not None:
        raise ArgumentError(f"transform: images is {what}, which is taken as it is. Transform it before, or pass rows.")


def _loader_length(loader: DataLoader[Any]) -> int | None:
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        return None


def _order(length: int, max_images: int | None, first_image: int, fold_of: FoldOf) -> list[tuple[int, int, int]]:
    """Return (number, index, fold) of each image to read, sorted by fold."""
    count = length if max_images is None else min(length, max_images)
    images = [(first_image + rank, rank * length // count) for rank in range(count)]
    chosen = [(number, index, fold_of(number, first_image + index)) for number, index in images]
    return sorted(chosen, key=lambda image: (image[2], image[0]))


def _batch(order: Sequence[tuple[int, int, int]], pixels: Tensor) -> Batch:
    return Batch([number for number, _, _ in order], [fold for _, _, fold in order], _check_batch(pixels))


def _tensor_batches(images: Tensor, order: list[tuple[int, int, int]], batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        yield _batch(part, images[[index for _, index, _ in part]])


def _row_batches(
    loader: DataLoader[Any], order: list[tuple[int, int, int]], corrupt: dict[str, str]
) -> Iterator[Batch]:
    for places, pixels, broken in loader:
        for path, reason in broken:
            corrupt[path] = reason
            warnings.warn(f"images: {path} cannot be read and is left out: {reason}", ProbeWarning, stacklevel=2)
        if len(corrupt) > _MOST_CORRUPT * len(order):
            raise ImagesError(
                f"images: {len(corrupt)} of {len(order)} files cannot be read, more than {_MOST_CORRUPT:.0%}: "
                f"{', '.join(list(corrupt)[:3])}, … Mend or remove them."
            )
        if places:
            yield _batch([order[place] for place in places], pixels)


def _arriving_batches(
    batches: Any, input_key: str | None, max_images: int | None, first_image: int, fold_of: FoldOf
) -> Iterator[Batch]:
    number = first_image
    last = None if max_images is None else first_image + max_images
    for batch in batches:
        pixels = _check_batch(_as_tensor(_image_of(batch, input_key)))
        if last is not None:
            pixels = pixels[: last - number]
        numbers = range(number, number + len(pixels))
        number += len(pixels)
        if len(pixels):
            order = sorted(((n, n - numbers.start, fold_of(n, n)) for n in numbers), key=lambda image: image[2])
            yield _batch(order, pixels[[index for _, index, _ in order]])
        if number == last:
            return


def _check_batch(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise ImagesError(
            f"images: expected shape (image, channel, row, column), found {tuple(images.shape)}. "
            "Add the missing axis, for example images[None] for a single image."
        )
    return images


def _image_of(row: Any, input_key: str | None) -> Any:
    """Return the image of a row, or the images of a batch: labels are ignored."""
    if isinstance(row, Mapping):
        keys = [input_key] if input_key is not None else [key for key in _KEYS if key in row]
        if not keys or keys[0] not in row:
            raise ImagesError(f"images: a row has the keys {sorted(map(str, row))}. Name the image with input_key=.")
        return row[keys[0]]
    return row[0] if isinstance(row, list | tuple) else row


def _as_tensor(image: Any) -> Tensor:
    if isinstance(image, Image.Image):
        array = np.array(_as_rgb(image))
        return torch.from_numpy(array).permute(2, 0, 1).float() / 255
    try:
        return torch.as_tensor(image)
    except (TypeError, ValueError, RuntimeError):
        raise ImagesError(f"images: a {type(image).__name__} is no image. Pass tensors, or transform=.") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    """Turn upright and convert to RGB; 16-bit greys keep their full range."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


@dataclass(frozen=True)
class _Corrupt:
    path: str
    reason: str


class _Folder:
    """The image files below a folder; a file that cannot be read gives a `_Corrupt`."""

    def __init__(self, folder: Path) -> None:
        from torchvision.datasets.folder import IMG_EXTENSIONS

        if not folder.is_dir():
            raise ImagesError(f"images: {str(folder)!r} is no folder. Pass a folder of image files.")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
        if not self.paths:
            raise ImagesError(f"images: no image file below {str(folder)!r} (looked for {', '.join(IMG_EXTENSIONS)}).")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image | _Corrupt:
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                return _as_rgb(image)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            return _Corrupt(str(path), str(error).replace(str(path), path.name))


class _Rows(Dataset[Any]):
    """The chosen rows of a data set, as (place in the order, image tensor or `_Corrupt`)."""

    def __init__(self, rows: Any, indices: list[int], transform: Transform | None, input_key: str | None) -> None:
        self.rows, self.indices, self.transform, self.input_key = rows, indices, transform, input_key

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        row = self.rows[self.indices[place]]
        if isinstance(row, _Corrupt):
            return place, row
        image = _image_of(row, self.input_key)
        if self.transform is not None:
            try:
                image = self.transform(image)
            except Exception as error:
                error.add_note(f"probe: in transform, for image {self.indices[place]}.")
                raise
        return place, _as_tensor(image)


def _collate(rows: list[tuple[int, Any]]) -> tuple[list[int], Tensor, list[tuple[str, str]]]:
    broken = [(image.path, image.reason) for _, image in rows if isinstance(image, _Corrupt)]
    whole = [(place, image) for place, image in rows if not isinstance(image, _Corrupt)]
    shapes = {tuple(image.shape) for _, image in whole}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise ImagesError(
            f"images: one batch holds images of shape {first} and {second}. "
            "Pass transform= to bring them to one size, or batch_size=1 if the model accepts several."
        )
    pixels = torch.stack([image for _, image in whole]) if whole else torch.empty(0, 0, 0, 0)
    return [place for place, _ in whole], pixels, broken


def as_floats(images: Tensor, dtype: torch.dtype) -> tuple[Tensor, str]:
    """Return the images in the model's precision, and a warning if they do not look normalised (else empty)."""
    warning = ""
    if not images.is_floating_point():
        warning = f"images: integers ({images.dtype}) are passed to the model as floats, unscaled."
    elif images.abs().max() > _BRIGHTEST_NORMALISED:
        warning = f"images: values reach {float(images.abs().max()):.3g}, as in images of 0 to 255."
    return images.to(dtype), f"{warning} Normalise them as in training." if warning else ""
