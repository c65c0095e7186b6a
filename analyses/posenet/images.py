"""Images of the PosENet study: where they are found, how they are shown, and the features that they give."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from probe.analyses.data.photographs import sample_crops
from probe.analyses.posenet.readouts import BlockReader
from probe.errors import ImagesError
from probe.images.batches import open_images
from probe.images.folders import Folder
from probe.images.numbering import evenly_spaced
from probe.images.rows import Transform, as_tensor
from probe.images.stimuli import apply_stimulus

__all__ = ["IMAGES", "Chosen", "FeatureSource", "find_images", "resized", "sources_to_test"]

IMAGES = ("natural", "rolled", "black", "white", "noise")
"""What readouts are tested on."""

_TESTED = 3  # every third image, where no set for testing is given
_SAMPLE_SIZE = 256
_MOST_KEPT = 3e9  # bytes of features
_DUTS = Path("DUTS-TR", "DUTS-TR-Image")
_PASCAL = Path("PASCAL-S")
_WHERE = {
    _DUTS: "DUTS-TR.zip from http://saliencydetection.net/duts/",
    _PASCAL: "datasets.zip from http://cbs.ic.gatech.edu/salobj/ (its folder datasets/imgs/pascal)",
}

Features = dict[str, Tensor]
"""The stacked maps of each encoder, shape (image, channel, row, column)."""


class Chosen(Dataset[Any]):
    """Some rows of a data set, in an order of one's own."""

    def __init__(self, rows: Any, indices: Sequence[int]) -> None:
        self.rows, self.indices = rows, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        return self.rows[self.indices[place]]


def find_images(
    images: Any, *, n_training: int, n_test: int, max_images: int | None, may_be_made: bool
) -> tuple[Chosen, Chosen]:
    """Find the images to fit readouts to, and those to test them on.

    Parameters
    ----------
    images
        A folder that holds ``DUTS-TR/DUTS-TR-Image`` and ``PASCAL-S`` (JPEG files anywhere below it); any other folder
        of images, a tensor or a data set, of which every third is for testing; or None.
    n_training, n_test
        As many are taken at most, evenly spaced.
    max_images
        Of both together; two thirds of them to fit.
    may_be_made
        Whether crops of two photographs stand in where there are no images.

    Raises
    ------
    ImagesError
        If there are none; the message says where to get them, and where to put them.
    """
    if max_images is not None:
        n_test = max(max_images // _TESTED, 1)
        n_training = max(max_images - n_test, 1)
    if images is None:
        if not may_be_made:
            raise ImagesError(
                f"images: none given, and the full protocol needs DUT-S and PASCAL-S. Get {_WHERE[_DUTS]} and "
                f"{_WHERE[_PASCAL]}, put the images into DATA/{_DUTS} and DATA/{_PASCAL}, and pass images=DATA "
                "(--images DATA); or pass any folder of images."
            )
        images = sample_crops(n_training + n_test, size=_SAMPLE_SIZE)
    folder = Path(images) if isinstance(images, str | Path) else None
    if folder is not None and ((folder / _DUTS.parts[0]).exists() or (folder / _PASCAL).exists()):
        training, test = _photographs(folder, _DUTS), _photographs(folder, _PASCAL)
        return _spaced(training, range(len(training)), n_training), _spaced(test, range(len(test)), n_test)
    rows = images if folder is None else Folder(folder)
    test_indices = range(_TESTED - 1, len(rows), _TESTED)
    if not test_indices:
        raise ImagesError(f"images: found {len(rows)}, expected at least {_TESTED}, to fit readouts and to test them.")
    training_indices = [index for index in range(len(rows)) if index not in test_indices]
    return _spaced(rows, training_indices, n_training), _spaced(rows, test_indices, n_test)


def _photographs(folder: Path, part: Path) -> Folder:
    """Return the JPEG files of a data set; the masks beside them are PNG files."""
    if not (folder / part).is_dir():
        raise ImagesError(f"images: {folder / part} is missing. Get {_WHERE[part]}, and put its images there.")
    found = Folder(folder / part)
    found.paths = [path for path in found.paths if path.suffix.lower() in (".jpg", ".jpeg")]
    if not found.paths:
        raise ImagesError(f"images: no JPEG file below {folder / part}. Get {_WHERE[part]}, and put its images there.")
    return found


def _spaced(rows: Any, indices: Sequence[int], count: int) -> Chosen:
    return Chosen(rows, [indices[place] for place in evenly_spaced(len(indices), count)])


def resized(size: int) -> Transform:
    """Return the published preprocessing: resized to a square whatever the shape, in [0, 1], not normalised."""

    def transform(image: Any) -> Tensor:
        if isinstance(image, Image.Image):
            return as_tensor(image.resize((size, size), Image.Resampling.BILINEAR))
        return torch.nn.functional.interpolate(
            as_tensor(image)[None], (size, size), mode="bilinear", antialias=True
        ).squeeze(0)

    return transform


class FeatureSource:
    """The features of images under a stimulus, batch by batch; kept if they are few, else computed anew.

    Parameters
    ----------
    images
        From `find_images`.
    transform
        Applied to each image.
    readers
        The encoders.
    stimulus
        Name in `probe.STIMULI`.
    seed
        Seed of the stimulus.
    batch_size, num_workers
        For reading.
    """

    def __init__(
        self,
        images: Chosen,
        transform: Transform,
        readers: Mapping[str, BlockReader],
        stimulus: str,
        seed: int,
        batch_size: int,
        num_workers: int,
    ) -> None:
        self.images, self.transform, self.readers, self.stimulus = images, transform, readers, stimulus
        self.seed, self.batch_size, self.num_workers = seed, batch_size, num_workers
        self.device = next(iter(readers.values())).device
        self._kept: Features | None = None

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.images) // self.batch_size)

    def batches(self, order: Sequence[int] | None = None) -> Iterator[Features]:
        """Yield the features of all images, in an order of one's own."""
        order = range(len(self.images)) if order is None else order
        if self._kept is None:
            first = next(self._read(order[:1]))
            if len(self.images) * sum(maps.nbytes for maps in first.values()) > _MOST_KEPT:
                yield from self._read(order)
                return
            read = list(self._read(range(len(self.images))))
            self._kept = {name: torch.cat([batch[name] for batch in read]) for name in self.readers}
        for start in range(0, len(order), self.batch_size):
            chosen = torch.as_tensor(order[start : start + self.batch_size])
            yield {name: maps[chosen] for name, maps in self._kept.items()}

    def shown(self, count: int) -> Tensor:
        """Return the first images as the encoders are shown them; of fewer, the last one again."""
        shown = torch.cat(list(self._pixels(range(min(count, len(self.images))))))
        return torch.cat([shown, shown[-1:].expand(count - len(shown), -1, -1, -1)])

    def _read(self, order: Sequence[int]) -> Iterator[Features]:
        for shown in self._pixels(order):
            yield {name: reader(shown) for name, reader in self.readers.items()}

    def _pixels(self, order: Sequence[int]) -> Iterator[Tensor]:
        source = open_images(
            Chosen(self.images, order),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            transform=self.transform,
            input_key=None,
            max_images=None,
            first_image=0,
            fold_of=lambda number, origin: 0,
        )
        for batch in source:
            numbers = [self.images.indices[order[number]] for number in batch.numbers]
            yield apply_stimulus(self.stimulus, batch.pixels, numbers, self.seed)


def sources_to_test(
    images: Chosen,
    transform: Transform,
    readers: Mapping[str, BlockReader],
    seed: int,
    batch_size: int,
    num_workers: int,
) -> dict[str, FeatureSource]:
    """Return the features of `IMAGES`: of all test images, and of one black and one white image."""
    shown = {
        name: FeatureSource(images, transform, readers, name, seed, batch_size, num_workers)
        for name in IMAGES
        if name not in ("black", "white")
    }
    size = (_SAMPLE_SIZE, _SAMPLE_SIZE)
    for colour in ("black", "white"):
        single = Chosen([Image.new("RGB", size, colour)], [0])
        shown[colour] = FeatureSource(single, transform, readers, "natural", seed, 1, 0)
    return {name: shown[name] for name in IMAGES}
