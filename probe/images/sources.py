"""A source of numbered images in batches: of all its images, or of a part."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor

from probe.errors import ImagesError
from probe.images.shapes import check_shape
from probe.images.streams import Wanted

__all__ = ["Batch", "ImageSource"]


@dataclass(frozen=True)
class Batch:
    """Some images: `numbers` of shape (image,), `folds` likewise, `pixels` of shape (image, channel, *size).

    Where they were asked for, also `labels`, as the rows hold them.
    """

    numbers: list[int]
    folds: list[int]
    pixels: Tensor
    labels: list[Any] = field(default_factory=list)

    def only(self, wanted: Wanted) -> "Batch":
        """Return the images whose numbers are wanted."""
        places = [place for place, number in enumerate(self.numbers) if wanted(number)]
        if len(places) == len(self.numbers):
            return self
        numbers, folds = ([values[place] for place in places] for values in (self.numbers, self.folds))
        return Batch(numbers, folds, self.pixels[places], [self.labels[place] for place in places if self.labels])


class ImageSource:
    """Numbered batches of images, of all or of those that are wanted.

    Parameters
    ----------
    batches
        Of a data set that has rows, those of the wanted images alone; else of others as well.
    wanted
        Which images of `batches` to give, by their numbers; None for all of them.

    Attributes
    ----------
    length : int or None
        Number of images, those that are not wanted among them, where it is known; of a stream after its end.
    corrupt : dict
        Files that could not be read, with the reason.
    warned : list of str
        The warnings that were given.
    left : int or None
        Number of images that will be read, where it is known beforehand.
    numbers : list of int
        Those of all images, where the data set has rows.
    image_at : callable or None
        Number -> the image as batches hold it, or None if it cannot be read; where the data set has rows.
    seen : dict
        Number -> digest of a few images that were read or gone past so far, before any transform; of a stream.
    """

    def __init__(
        self,
        length: int | None,
        batches: Iterator[Batch],
        corrupt: dict[str, str],
        warned: list[str],
        *,
        wanted: Wanted | None = None,
        left: int | None = None,
        numbers: Sequence[int] = (),
        image_at: Callable[[int], Tensor | None] | None = None,
    ) -> None:
        self.length, self.left = length, length if left is None else left
        self.corrupt = corrupt
        self.warned = warned
        self.numbers, self.image_at = numbers, image_at
        self.batches, self._wanted = batches, wanted
        self.seen: dict[int, str] = {}

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            kept = batch if self._wanted is None else batch.only(self._wanted)
            if kept.numbers:
                yield kept

    def peek(self) -> Tensor:
        """Return a copy of the first image in the order of reading all, which will still be read if it is wanted.

        Of a stream it is the one that arrives first. Its shape is (1, channel, *size).

        Raises
        ------
        ImagesError
            If there is none.
        """
        if self.left != self.length and self.image_at is not None:
            images = (self.image_at(number) for number in self.numbers)
            image = next((image for image in images if image is not None), None)
            if image is not None:
                return check_shape(image[None], None).clone()
        first = next(self.batches, None)
        if first is None:
            raise ImagesError("images: there are none. Pass at least as many images as folds.")
        self.batches = chain([first], self.batches)
        place = 0 if self.image_at is not None else first.numbers.index(min(first.numbers))
        return first.pixels[[place]].clone()
