"""What arrives one after the other, rows or batches, becomes batches; and what a batch has too many axes for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from probe.errors import ArgumentError, ImagesError, noting
from probe.images.rows import Transform, as_tensor, axes_of, collate, image_in, label_in, row_tensor

__all__ = ["Stream", "check_shape", "refuse_transform"]

_CHANNELS = (1, 3, 4)  # that images have most often


class Stream(IterableDataset[tuple[Tensor, list[Any]]]):
    """Batches of (pixels, labels) from an iterable of rows or of batches; what has four axes or more is a batch.

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
    ) -> None:
        self.elements, self.batch_size, self.transform, self.input_key = elements, batch_size, transform, input_key
        self.max_images, self.labels, self.grey = max_images, labels, grey
        self._makes_batches = isinstance(elements, DataLoader) and elements.batch_sampler is not None
        self._has_fields: bool | None = None
        if self._makes_batches:
            refuse_transform(transform, "batches")

    def __iter__(self) -> Iterator[tuple[Tensor, list[Any]]]:
        """Read on."""
        rows: list[tuple[int, Any, Any]] = []
        n_read = 0
        for element in self._elements():
            _check_clear(element)
            image = image_in(element, self.input_key)
            axes = axes_of(image)
            if self._makes_batches or (axes is not None and axes > 3):
                if rows:
                    yield _stacked(rows)
                rows = []
                refuse_transform(self.transform, "batches")
                pixels = self._pixels(image)
                n_read += len(pixels)
                yield pixels, self._labels(label_in(element), len(pixels)) if self.labels else []
                continue
            with noting(f"while image {n_read} was read and transformed"):
                pixels = row_tensor(image, self.transform, self.grey)
                rows.append((n_read, pixels, label_in(element) if self.labels else None))
            n_read += 1
            if len(rows) == self.batch_size or n_read == self.max_images:
                yield _stacked(rows)
                rows = []
        if rows:
            yield _stacked(rows)

    def _elements(self) -> Iterator[Any]:
        try:
            yield from self.elements
        except TypeError as error:
            if "collate" in str(error):
                error.add_note("probe: pass the loader's data set as images=; PIL images of its rows become tensors.")
            raise

    def _pixels(self, image: Any) -> Tensor:
        """Return a batch as one tensor, which may have been a list of images."""
        if isinstance(image, list | tuple) and axes_of(image) == 4:
            rows: list[tuple[int, Any, Any]] = [
                (place, row_tensor(item, None, self.grey), None) for place, item in enumerate(image)
            ]
            return _stacked(rows)[0]
        return check_shape(as_tensor(image), self._makes_batches)

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
        if _length(labels) != n_images:
            raise ImagesError(
                f"images: a batch of {n_images} images has a {type(labels).__name__} of {_length(labels)} labels. Pass "
                "one for each image."
            )
        return list(labels)


def _length(values: Any) -> int | None:
    """Return how many entries an array or list has."""
    if isinstance(values, Tensor | np.ndarray):
        return len(values) if values.ndim else None
    return len(values) if isinstance(values, list | tuple) else None


def _stacked(rows: list[tuple[int, Any, Any]]) -> tuple[Tensor, list[Any]]:
    _, pixels, labels, _ = collate(rows)
    return pixels, labels


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


def check_shape(images: Any, from_loader: bool = False) -> Any:
    """Return a batch or all images, if they have four axes and pixels.

    Parameters
    ----------
    images
        A tensor or array.
    from_loader
        Whether a DataLoader made the batch, so that its data set is to be mended.

    Raises
    ------
    ImagesError
        If they have not.
    """
    shape = tuple(images.shape)
    if len(shape) != 4:
        cure = _cure_of_rows(shape) if from_loader else _cure(shape)
        raise ImagesError(f"images: expected shape (image, channel, row, column), found {shape}. {cure}")
    if 0 in shape[1:]:
        raise ImagesError(f"images: shape {shape} holds no pixels. Pass images of at least 1 by 1.")
    return images


def _cure(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return "These are no images: rows are to be images, or to begin with one, as (image, label)."
    if len(shape) == 2:
        return f"Give each image its axes: images.reshape({shape[0]}, channels, rows, columns)."
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return "Add the missing axis of a single image: images[None]."
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return "Move the channels of a single image to the front, and add its axis: images.transpose(2, 0, 1)[None]."
    if len(shape) == 3:
        return "Add the missing axis of the channel, as for greys: images[:, None]."
    if len(shape) == 5 and 1 in shape[:2]:
        return f"Drop one axis: {'images[0]' if shape[0] == 1 else 'images[:, 0]'}."
    return "Make one axis of the first ones, as for the frames of clips: images.flatten(0, 1)."


def _cure_of_rows(shape: tuple[int, ...]) -> str:
    if len(shape) < 3:
        return "The rows of the loader's data set are to be images, or to begin with one, as (image, label)."
    if len(shape) == 3:
        return "Add the axis of the channel to each row of the loader's data set: image[None]."
    if shape[1] == 1:
        return "Each image has an axis of its own: take image[0] in the loader's data set."
    return "The rows of the loader's data set are batches already: DataLoader(..., batch_size=None)."
