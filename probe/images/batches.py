"""Every accepted form of data set becomes numbered batches, of all its images or of a part.

A tensor, a data set, a list of images and a folder are read fold by fold, so that most batches fall into one
cross-validation fold; a loader or an iterable is read once, in its own order. Results depend on the image numbers
alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from probe.errors import ArgumentError, ImagesError, warn
from probe.images.folders import Folder
from probe.images.numbering import evenly_spaced
from probe.images.rows import Rows, Transform, as_tensor, axes_of, collate, image_in, label_in
from probe.images.shapes import axes_of_row, check_shape
from probe.images.sources import Batch, ImageSource
from probe.images.streams import Chunk, End, Stream, Wanted, refuse_transform
from probe.images.workers import read_by_workers

__all__ = ["as_floats", "check_reread", "open_images"]

_MOST_UNREADABLE = 0.05
_BRIGHTEST_NORMALISED = 20.0
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)

FoldOf = Callable[[int, int], int]


@dataclass(frozen=True)
class _Places:
    """Which images are wanted, by their places in a stream rather than by their numbers."""

    wanted: Wanted
    first_image: int

    def __call__(self, place: int) -> bool:
        return self.wanted(self.first_image + place)


@dataclass(frozen=True)
class _Place:
    """An image that will be read: its number, its index in the data set, its fold."""

    number: int
    index: int
    fold: int


def open_images(
    images: Any,
    *,
    batch_size: int,
    num_workers: int,
    transform: Transform | None,
    input_key: str | int | None,
    max_images: int | None,
    first_image: int,
    fold_of: FoldOf,
    labels: bool = False,
    grey: bool = False,
    n_axes: int | None = None,
    wanted: Wanted | None = None,
) -> ImageSource:
    """Open any accepted form of data set.

    Parameters
    ----------
    images
        A tensor or array of shape (image, channel, row, column); a Dataset or list whose rows are images, tuples that
        begin with one, or mappings that hold one; a DataLoader; an iterable of such rows, or of batches; or a folder of
        image files, searched recursively, links followed, in sorted order. An image of a row is a tensor or array of
        shape (channel, row, column), or a PIL image. Clips and volumes have frames before the rows. PIL images and
        files are turned upright (EXIF) and become RGB in [0, 1], or grey; of greys of more than 8 bits see
        `probe.images.pictures.white_above`.
    batch_size, num_workers
        For tensors, and rows of any origin. Each of several workers goes along the whole of a stream, which must give
        the same images in the same order each time: one that shuffles, or draws anything at random, without a fixed
        seed is an error with two workers or more. It is found by the digests of the first 16 images and of 8 in each
        doubling of their number.
    transform
        Applied to the image of each row; those of a folder are RGB, or grey, before it.
    input_key
        Where the image is: a key of rows that are mappings, or a place in rows that are tuples.
    max_images
        Read so many: evenly spaced over a tensor, data set, list of images or folder, the first of a loader or
        iterable.
    first_image
        Number of the first image.
    fold_of
        (image number, position in the data set plus `first_image`) -> fold.
    labels
        Whether rows hold labels that are wanted; see `probe.images.rows.label_in`.
    grey
        Whether PIL images and files become one channel; else three.
    n_axes
        Number of axes of the maps that the model takes: 2, rows and columns, or 3, with frames; None for either, and
        what has four axes in a list or an iterable is then a batch of images.
    wanted
        Which images to read, by their numbers: a share, or what an earlier run has not read; None for all.

    Raises
    ------
    ArgumentError, ImagesError
        If the data set has no accepted form, is empty, or its images do not fit together.
    """
    corrupt: dict[str, str] = {}
    warned: list[str] = []
    rows = Folder(Path(images)) if isinstance(images, str | Path) else images
    if isinstance(rows, np.ndarray | Tensor):
        refuse_transform(transform, "a tensor")
        image_in(rows, input_key)
        if labels:
            label_in(rows)
        order = _reading_order(len(check_shape(rows, n_axes)), max_images, first_image, fold_of)
        index_of = {place.number: place.index for place in order}
        chosen = [place for place in order if wanted is None or wanted(place.number)]
        return ImageSource(
            len(order), _tensor_batches(rows, chosen, batch_size), corrupt, warned,
            left=len(chosen), numbers=list(index_of), image_at=lambda number: as_tensor(rows[[index_of[number]]])[0],
        )  # fmt: skip
    if _has_rows(rows, input_key, n_axes):
        if isinstance(rows, Folder):
            for guess in rows.guesses():
                warn(guess, warned)
        order = _reading_order(len(rows), max_images, first_image, fold_of)
        place_of = {image.number: place for place, image in enumerate(order)}
        sampler = [place for number, place in place_of.items() if wanted is None or wanted(number)]
        every = Rows(rows, [image.index for image in order], transform, input_key, labels, grey, n_axes)
        loader = DataLoader(every, batch_size=batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate)
        read = read_by_workers(loader, rows, transform)

        def image_at(number: int) -> Tensor | None:
            image = every[place_of[number]][1]
            return image if isinstance(image, Tensor) else None

        return ImageSource(
            len(order), _row_batches(read, order, corrupt, warned, labels), corrupt, warned,
            left=len(sampler), numbers=list(place_of), image_at=image_at,
        )  # fmt: skip
    _check_iterable(rows)
    of_places = None if wanted is None else _Places(wanted, first_image)
    stream = Stream(rows, batch_size, transform, input_key, max_images, labels, grey, n_axes, of_places)
    length = _known_length(rows)
    if length is not None and max_images is not None:
        length = min(length, max_images)
    if _shuffles(rows):
        warn(
            "images: the DataLoader shuffles, so image numbers, and with them folds and stimuli, follow this run's "
            "order of arrival. Pass its data set, or shuffle=False, for results that do not depend on it.",
            warned,
        )
    chunks: Any = stream
    if isinstance(rows, IterableDataset) and num_workers:
        chunks = read_by_workers(DataLoader(stream, batch_size=None, num_workers=num_workers), rows, transform)
    source = ImageSource(length, iter(()), corrupt, warned, wanted=wanted)
    source.batches = _arriving_batches(chunks, source, first_image, fold_of)
    return source


def _has_rows(images: Any, input_key: str | int | None, n_axes: int | None) -> bool:
    if isinstance(images, list | tuple):
        return len(images) > 0 and not _holds_batches(images, input_key, n_axes)
    if isinstance(images, IterableDataset | DataLoader | Mapping | type):
        return False
    return hasattr(images, "__getitem__") and hasattr(images, "__len__")


def _holds_batches(images: Sequence[Any], input_key: str | int | None, n_axes: int | None) -> bool:
    """Return whether a list is one of batches; its first entry decides."""
    first = axes_of(image_in(images[0], input_key))
    if first in (4, 5) and len(images) == 2 and axes_of(images[1]) in (1, 3) and len(images[0]) == len(images[1]) > 1:
        raise ImagesError(
            f"images: a {type(images).__name__} of images and their labels. Pass "
            "torch.utils.data.TensorDataset(images, labels)."
        )
    return first is not None and first > axes_of_row(n_axes)


def _check_iterable(images: Any) -> None:
    if hasattr(images, "__iter__") and not isinstance(images, Mapping | Image.Image | type):
        return
    cure = ""
    if isinstance(images, Mapping) and images:
        cure = f" Pass one of its entries, such as images[{next(iter(images))!r}]."
    elif isinstance(images, Image.Image):
        cure = " Pass a list of images."
    elif isinstance(images, type):
        cure = " Pass an object of the class."
    raise ArgumentError(
        "images: expected a tensor, Dataset, DataLoader, iterable of batches or of images, or folder, found "
        f"{type(images).__name__}.{cure}"
    )


def _known_length(batches: Any) -> int | None:
    if not isinstance(batches, DataLoader) or batches.batch_sampler is None:
        return None
    try:
        return len(batches.sampler)  # type: ignore[arg-type]
    except TypeError:
        return None


def _shuffles(batches: Any) -> bool:
    if not isinstance(batches, DataLoader):
        return False
    samplers = (batches.sampler, getattr(batches.batch_sampler, "sampler", None))
    return any(isinstance(sampler, _SHUFFLING) or getattr(sampler, "shuffle", False) for sampler in samplers)


def _reading_order(length: int, max_images: int | None, first_image: int, fold_of: FoldOf) -> list[_Place]:
    """Return the images to read, evenly spaced over the data set, sorted by fold.

    They are numbered anew: evenly spaced indices could all fall into one fold.
    """
    places = [
        _Place(number, index, fold_of(number, first_image + index))
        for number, index in enumerate(evenly_spaced(length, max_images), start=first_image)
    ]
    return sorted(places, key=lambda image: (image.fold, image.number))


def _batch(places: Sequence[_Place], pixels: Tensor, labels: Sequence[Any] = ()) -> Batch:
    return Batch(
        [image.number for image in places], [image.fold for image in places], check_shape(pixels, None), list(labels)
    )


def _tensor_batches(images: Any, order: list[_Place], batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        yield _batch(part, as_tensor(images[[image.index for image in part]]))


def _row_batches(
    read: Iterable[Any], order: list[_Place], corrupt: dict[str, str], warned: list[str], wants_labels: bool
) -> Iterator[Batch]:
    for places, pixels, labels, unreadable in read:
        for file in unreadable:
            corrupt[file.path] = file.reason
            warn(f"images: {file.path} cannot be read and is left out: {file.reason}", warned)
        if len(corrupt) > _MOST_UNREADABLE * len(order):
            raise ImagesError(
                f"images: {len(corrupt)} of {len(order)} files cannot be read, more than {_MOST_UNREADABLE:.0%}. "
                f"Mend or remove {', '.join(sorted(corrupt)[:3])}{', …' if len(corrupt) > 3 else '.'}"
            )
        if places:
            yield _batch([order[place] for place in places], pixels, labels if wants_labels else ())


def _arriving_batches(
    chunks: Iterable[Chunk | End], source: ImageSource, first_image: int, fold_of: FoldOf
) -> Iterator[Batch]:
    """Return what arrives with its numbers, and tell the source what was seen and, in the end, how many there were."""
    ended = None
    for chunk in chunks:
        for place, digest in chunk.seen.items():
            if source.seen.setdefault(first_image + place, digest) != digest:
                raise _not_the_same(f"image {first_image + place} differs between workers")
        if isinstance(chunk, End):
            if ended not in (None, chunk.n_images):
                raise _not_the_same(f"there are {ended} in one worker and {chunk.n_images} in another")
            source.length = ended = chunk.n_images
            continue
        numbers = [first_image + place for place in chunk.places]
        places = [_Place(n, index, fold_of(n, n)) for index, n in enumerate(numbers)]
        places.sort(key=lambda image: image.fold)
        order = [image.index for image in places]
        yield _batch(places, chunk.pixels[order], [chunk.labels[index] for index in order] if chunk.labels else ())


def _not_the_same(what: str) -> ImagesError:
    return ImagesError(
        f"images: {what}. Each worker goes along the whole stream and reads its own batches, so it must give the same "
        "images in the same order every time, and no random ones. Pass num_workers=0, do not shuffle, or shuffle with "
        "a fixed seed."
    )


def as_floats(images: Tensor, dtype: torch.dtype) -> tuple[Tensor, str]:
    """Return the images in the model's precision, and a warning if they do not look normalised (else empty).

    Examples
    --------
    >>> as_floats(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), torch.float32)[1]
    'images: integers (torch.uint8) are passed to the model as floats, unscaled. Normalise them as in training.'
    """
    warning = ""
    if not images.is_floating_point():
        warning = f"images: integers ({images.dtype}) are passed to the model as floats, unscaled."
    elif images.abs().max() > _BRIGHTEST_NORMALISED:
        warning = f"images: values reach {float(images.abs().max()):.3g}, as in images of 0 to 255."
    return images.to(dtype), f"{warning} Normalise them as in training." if warning else ""


def check_reread(images: Any, reader: str) -> None:
    """Raise an `ImagesError` if images that are to be read again can be read once alone.

    Parameters
    ----------
    images
        As in `open_images`.
    reader
        Who reads them again and what for, such as ``each ranking reads them anew``.
    """
    if hasattr(images, "__next__"):
        raise ImagesError(
            f"images: a {type(images).__name__} can be read only once, and {reader}. Pass a tensor, Dataset, "
            "DataLoader or folder."
        )
