"""What arrives one after the other, rows or batches, becomes batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from probe.errors import ArgumentError, ImagesError, counted, noting
from probe.images.digests import raw_digest
from probe.images.rows import Transform, as_tensor, axes_of, collate, image_in, label_in, row_tensor
from probe.images.shapes import axes_of_row, check_shape

__all__ = ["Chunk", "End", "Stream", "Wanted", "refuse_transform"]

Wanted = Callable[[int], bool]

_CURES = {
    "collate": "pass the loader's data set as images=; PIL images of its rows become tensors.",
    "stack expects each tensor to be equal size": "the loader's rows are of several sizes. Bring images to one size, "
    "and clips to one number of frames, in its data set, or let the loader make batches of one.",
    "explicit nodesplitter": "the ranks share the rows by themselves; pass WebDataset(..., nodesplitter=None).",
}


@dataclass(frozen=True)
class Chunk:
    """Some images of a stream: their places in it, their pixels and, where they were asked for, their labels.

    `seen` are digests of a few images that were read or gone past since the last one, by their places.
    """

    places: list[int]
    pixels: Tensor
    labels: list[Any]
    seen: dict[int, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class End:
    """Of a stream of so many images; `seen` as in `Chunk`."""

    n_images: int
    seen: dict[int, str] = field(default_factory=dict, compare=False)


class Stream(IterableDataset[Chunk | End]):
    """Batches from an iterable of rows or batches, and its end; what has more axes than a row is a batch.

    Parameters
    ----------
    elements
        The iterable; a DataLoader that makes batches gives nothing else.
    batch_size
        Of rows.
    transform
        Applied to the image of each row.
    input_key
        Where the image is in rows or batches that are mappings.
    max_images
        Rows are not read beyond so many.
    labels
        Whether to return labels, as they are; else there are none.
    grey
        Whether pictures become one channel; else three.
    n_axes
        As in `probe.images.shapes.check_shape`.
    wanted
        Which rows to read, by their places; the others are gone past, but for the first one, which tells what is read.
        Batches are given whole. None for all.
    """

    def __init__(
        self,
        elements: Any,
        batch_size: int,
        transform: Transform | None,
        input_key: str | int | None,
        max_images: int | None,
        labels: bool,
        grey: bool,
        n_axes: int | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        self.elements, self.batch_size, self.transform, self.input_key = elements, batch_size, transform, input_key
        self.max_images, self.labels, self.grey, self.n_axes = max_images, labels, grey, n_axes
        self.wanted = wanted
        self._makes_batches = isinstance(elements, DataLoader) and elements.batch_sampler is not None
        self._has_fields: bool | None = None
        if self._makes_batches:
            refuse_transform(transform, "batches")

    def __iter__(self) -> Iterator[Chunk | End]:
        """Read on, and yield batches with the places of their images, and in the end how many there were.

        Each of n workers goes along the whole stream and makes every n-th batch of it, so that each image
        is read once, at the same place with any number of workers, whether the data set knows of them or not. That
        holds if all see the same images in the same order, which the digests of a few of them tell.
        """
        seen: dict[int, str] = {}
        for found in self._read(seen):
            yield replace(found, seen=dict(seen))
            seen.clear()

    def _read(self, seen: dict[int, str]) -> Iterator[Chunk | End]:
        worker = get_worker_info()
        own, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        source, decode = _undecoded(self.elements, self.input_key)
        rows: list[tuple[int, Any, Any]] = []
        n_read = n_rows = n_batches = 0
        for element in self._elements(source):
            is_own = n_batches % of == own
            _check_clear(element)
            image = image_in(element, self.input_key)
            axes = axes_of(image)
            if self._makes_batches or (axes is not None and axes > axes_of_row(self.n_axes)):
                if n_rows:
                    if is_own:
                        yield _stacked(rows)
                    rows, n_rows, n_batches = [], 0, n_batches + 1
                    is_own = n_batches % of == own
                refuse_transform(self.transform, "batches")
                chunk = self._batch(n_read, image, element)
                seen |= {p: raw_digest(chunk.pixels[p - n_read]) for p in chunk.places if _is_compared(p)}
                if is_own and chunk.places:
                    yield chunk
                n_read, n_batches = n_read + len(chunk.places), n_batches + 1
            else:
                is_wanted = self.wanted is None or self.wanted(n_read)
                is_first_alone = n_read == 0 and not is_wanted
                if _is_compared(n_read):
                    seen[n_read] = raw_digest(image)
                if is_own and (is_wanted or is_first_alone):
                    rows.append(self._row(n_read, element if decode is None else decode(element)))
                n_read, n_rows = n_read + 1, n_rows + is_wanted
                if n_rows == self.batch_size or is_first_alone:
                    if is_own:
                        yield _stacked(rows)
                    rows, n_rows, n_batches = [], 0, n_batches + 1
            if n_read == self.max_images:
                break
        if rows:
            yield _stacked(rows)
        yield End(n_read)

    def _elements(self, source: Any) -> Iterator[Any]:
        if get_worker_info() is not None:
            # A data set that knows its worker would leave out what it holds to be the others'.
            torch.utils.data._utils.worker._worker_info = None
        try:
            yield from source
        except (TypeError, ValueError, RuntimeError) as error:
            for sign, cure in _CURES.items():
                if sign in str(error):
                    error.add_note(f"probe: {cure}")
            raise

    def _row(self, place: int, element: Any) -> tuple[int, Tensor, Any]:
        with noting(f"while image {place} was read and transformed"):
            image = image_in(element, self.input_key)
            pixels = row_tensor(image, self.transform, self.grey, self.n_axes)
            return place, pixels, label_in(element) if self.labels else None

    def _batch(self, start: int, image: Any, element: Any) -> Chunk:
        pixels = self._pixels(image)
        labels = self._labels(label_in(element), len(pixels)) if self.labels else []
        left = None if self.max_images is None else self.max_images - start
        return Chunk(list(range(start, start + len(pixels)))[:left], pixels[:left], labels[:left])

    def _pixels(self, image: Any) -> Tensor:
        """Return a batch as one tensor, which may have been a list of images."""
        if isinstance(image, list | tuple) and axes_of(image) == 1 + axes_of_row(self.n_axes):
            rows: list[tuple[int, Any, Any]] = [
                (place, row_tensor(item, None, self.grey, self.n_axes), None) for place, item in enumerate(image)
            ]
            return _stacked(rows).pixels
        return check_shape(as_tensor(image), self.n_axes, self._makes_batches)

    def _labels(self, labels: Any, n_images: int) -> list[Any]:
        """Return the label of each image of a batch: entries of a list or array, or of each of its fields."""
        if isinstance(labels, Mapping):
            fields = [self._labels(values, n_images) for values in labels.values()]
            return [dict(zip(labels, values, strict=True)) for values in zip(*fields, strict=True)]
        if isinstance(labels, list | tuple):
            is_whole = len(labels) == n_images
            has_fields = len(labels) > 0 and all(_length(values) == n_images for values in labels)
            if is_whole and has_fields and self._has_fields is None:
                raise ImagesError(
                    f"images: the labels of a batch of {n_images} are {n_images} lists of {n_images}; either may be "
                    "the images. Choose another batch_size of the loader, or pass its data set."
                )
            if self._has_fields is None:
                self._has_fields = has_fields
            if has_fields and self._has_fields:
                return list(zip(*labels, strict=True))
        n_labels = _length(labels)
        if n_labels != n_images:
            found = "unknown length" if n_labels is None else counted(n_labels, "label")
            raise ImagesError(
                f"images: a batch of {counted(n_images, 'image')} has a {type(labels).__name__} of {found}. Pass one "
                "for each image."
            )
        return list(labels)


def _is_compared(place: int) -> bool:
    """Tell whether an image is compared: the first 16, and then 8 in each doubling of their number."""
    return place % (1 << max(place.bit_length() - 4, 0)) == 0


def _length(values: Any) -> int | None:
    """Return how many entries an array or list has."""
    if isinstance(values, Tensor | np.ndarray):
        return len(values) if values.ndim else None
    return len(values) if isinstance(values, list | tuple) else None


def _stacked(rows: list[tuple[int, Any, Any]]) -> Chunk:
    places, pixels, labels, _ = collate(rows)
    return Chunk(places, pixels, labels)


def _undecoded(elements: Any, input_key: str | int | None) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return a stream of Hugging Face without decoding its pictures, and what decodes a row; others as they are, None.

    Decoding takes far longer than going past, and most rows are another's.
    """
    features: Any = getattr(elements, "features", None)
    is_formatted = getattr(elements, "_formatting", True) is not None  # as with_format("torch") does; then by itself
    if is_formatted or not hasattr(features, "decode_example") or not hasattr(elements, "decode"):
        return elements, None
    if type(image_in(features, input_key)).__name__ != "Image":
        return elements, None
    return elements.decode(False), features.decode_example


def _check_clear(element: Any) -> None:
    """Refuse images in a list, which may be a batch, or one with its label; a tuple of two is the latter."""
    if not isinstance(element, list | tuple) or len(element) < (2 if isinstance(element, list) else 3):
        return
    shapes = {tuple(item.shape) if hasattr(item, "shape") else getattr(item, "size", None) for item in element}
    if all(axes_of(item) == 3 and not isinstance(item, list | tuple) for item in element) and len(shapes) == 1:
        raise ImagesError(
            f"images: a {type(element).__name__} of {len(element)} images of one size, which may be a batch, or an "
            "image with its label. Stack a batch with torch.stack; give an image and its label as a tuple."
        )


def refuse_transform(transform: Transform | None, what: str) -> None:
    """Refuse a transform of what is no row.

    Raises
    ------
    ArgumentError
        If there is one.
    """
    if transform is not None:
        raise ArgumentError(
            f"transform: images is {what}, which is taken as it is. Transform the images before, or pass a Dataset."
        )
