"""Images to train and to test classifiers on, from folders of classes: all in memory, or read as they are needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from probe.analyses.data.digits import CANVAS, load_digits, place_digits
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.photographs import read_classes
from probe.errors import ArgumentError, ImagesError
from probe.images.folders import Unreadable
from probe.images.numbering import evenly_spaced
from probe.images.rows import as_tensor
from probe.reading.memory import check_memory

__all__ = [
    "WHERE",
    "RandomCrops",
    "SmallImages",
    "Split",
    "check_folder",
    "crop_batches",
    "open_splits",
    "random_crops",
    "read_splits",
    "small_images",
]

WHERE = {
    "CIFAR-10": "Get CIFAR-10 from https://www.cs.toronto.edu/~kriz/cifar.html, and write its images as files "
    "train/<class>/<number>.png and test/<class>/<number>.png into a folder",
    "CIFAR-100": "Get CIFAR-100 from https://www.cs.toronto.edu/~kriz/cifar.html, and write its images as files "
    "train/<class>/<number>.png and test/<class>/<number>.png into a folder",
    "ImageNet": "Get the images of ILSVRC 2012 from https://image-net.org/download.php, and put those of the classes "
    "you want as train/<wnid>/<file> and val/<wnid>/<file> into a folder",
}
"""Where data sets come from, and how their files are to lie."""

_TESTED = ("test", "val")
_SCALES, _RATIOS, _TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10  # of torchvision's RandomResizedCrop


@dataclass(frozen=True)
class Split:
    """Images of shape (image, channel, row, column), and the class of each."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> "Split":
        return Split(self.images[chosen], self.labels[chosen])


def check_folder(images: Any, preset: str, *, needed: str, where: str) -> None:
    """Check that a preset takes a folder where there is one, and has one where it needs it.

    Parameters
    ----------
    images
        The folder; None for none.
    preset
        ``"tiny"`` takes digits alone, and ``"paper"`` needs a folder.
    needed
        Of which data set, for the message.
    where
        One of the keys of `WHERE`.

    Raises
    ------
    ArgumentError
        If not.
    """
    if preset == "tiny" and images is not None:
        raise ArgumentError(
            f"images={str(images)!r}: the preset 'tiny' takes digits, so a folder would have no effect. Leave it out, "
            "or choose the preset 'quick'."
        )
    if preset == "paper" and images is None:
        raise ArgumentError(
            f"images: none given, and the preset 'paper' needs {needed}. {WHERE[where]}; then pass that folder."
        )


def open_splits(folder: str | Path, *, where: str) -> tuple[ClassFolder, ClassFolder]:
    """Find the image files of training and test.

    Parameters
    ----------
    folder
        Holds ``train/<class>/<image file>`` and ``test/<class>/<image file>``, or ``val`` in place of ``test``.
    where
        One of the keys of `WHERE`, for the message where they are missing.

    Raises
    ------
    ImagesError
        If a part is missing, has one class, or other classes than the other.
    """
    root = Path(folder)
    tested = next((name for name in _TESTED if (root / name).is_dir()), _TESTED[0])
    parts = []
    for part in ("train", tested):
        if not (root / part).is_dir():
            raise ImagesError(f"images {root}: it has no folder {part}/. {WHERE[where]}; then pass that folder.")
        files = ClassFolder(root / part)
        if len(set(files.labels)) < 2:
            only = files.classes[files.labels[0]]
            raise ImagesError(
                f"images {root / part}: all are of one class, {only!r}. A classifier needs two at least: one "
                "folder for each."
            )
        parts.append(files)
    different = sorted(set(parts[0].classes) ^ set(parts[1].classes))
    if different:
        raise ImagesError(
            f"images {root}: the classes of train/ and {tested}/ differ in {', '.join(different[:5])}. Both need one "
            "folder for each class."
        )
    return parts[0], parts[1]


def read_splits(
    folder: str | Path, *, size: int, counts: tuple[int | None, int | None], where: str
) -> tuple[Split, Split, list[str]]:
    """Read images of training and test into memory.

    Parameters
    ----------
    folder, where
        As in `open_splits`.
    size
        Rows and columns to bring them to, in pixels.
    counts
        How many of training and of test to read, evenly spaced over the files in sorted order; None for all.

    Returns
    -------
    training, test : Split
        Images in [0, 1].
    classes : list of str
        Names of the classes, sorted.

    Raises
    ------
    ImagesError
        As in `open_splits`; if there are fewer images than asked for, or a file cannot be read.
    TooLargeError
        If they do not fit into memory.
    """
    files = open_splits(folder, where=where)
    for part, count in zip(files, counts, strict=True):
        if count is not None and len(part) < count:
            raise ImagesError(
                f"images {part.root}: {len(part)} found, {count} needed. Add images, or choose a smaller preset."
            )
    n_images = sum(len(part) if count is None else count for part, count in zip(files, counts, strict=True))
    check_memory(
        n_images * 3 * size**2 * 4,
        torch.device("cpu"),
        f"images: {n_images:,} of {size}×{size} pixels",
        "Choose a smaller preset, or a folder of fewer images.",
    )
    training, test = (
        Split(*read_classes(part.root, size=size, max_images=count)[:2])
        for part, count in zip(files, counts, strict=True)
    )
    return training, test, files[0].classes


@dataclass(frozen=True)
class SmallImages:
    """Images of 32×32 pixels in memory, normalised with mean and deviation of those of training.

    Attributes
    ----------
    training, test
        Images in three channels.
    classes
        Names of the classes.
    source
        ``"digits"``, or ``"folder"``.
    """

    training: Split
    test: Split
    classes: list[str]
    source: str

    @property
    def flipped(self) -> bool:
        """Whether mirrored images are of the same class, as those of things are and digits are not."""
        return self.source != "digits"


def small_images(
    images: str | Path | None, counts: tuple[int | None, int | None], *, where: str = "CIFAR-10"
) -> SmallImages:
    """Read images to train small networks on: a folder such as CIFAR-10, or scikit-learn's digits on canvases.

    Parameters
    ----------
    images
        As in `open_splits`; None for digits.
    counts, where
        As in `read_splits`.

    Examples
    --------
    >>> found = small_images(None, (100, 20))
    >>> found.training.images.shape, len(found.test)
    (torch.Size([100, 3, 32, 32]), 20)
    """
    if images is None:
        training, test = _digits(counts)
        classes, source = [str(digit) for digit in range(10)], "digits"
    else:
        training, test, classes = read_splits(images, size=CANVAS, counts=counts, where=where)
        source = "folder"
    deviation, mean = torch.std_mean(training.images, dim=(0, 2, 3), keepdim=True)
    training, test = (Split((part.images - mean) / deviation, part.labels) for part in (training, test))
    return SmallImages(training, test, classes, source)


def _digits(counts: tuple[int | None, int | None]) -> tuple[Split, Split]:
    generator = torch.Generator().manual_seed(0)
    parts = []
    for digits, count in zip(load_digits(), counts, strict=True):
        chosen = evenly_spaced(len(digits), count)
        placed = place_digits(digits.strokes[chosen], generator)
        parts.append(Split(placed.expand(-1, 3, -1, -1), digits.labels[chosen]))
    return parts[0], parts[1]


def random_crops(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a window of each image, at a place of its own, every place being as likely.

    Parameters
    ----------
    images
        Shape (image, channel, row, column).
    size
        Rows and columns of the windows.
    generator
        Of the draws.

    Examples
    --------
    >>> random_crops(torch.zeros(2, 3, 8, 8), 6, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 6, 6])
    """
    n_images, _, height, width = images.shape
    window = torch.arange(size)
    rows, columns = (
        torch.randint(side - size + 1, (n_images, 1), generator=generator) + window for side in (height, width)
    )
    image = torch.arange(n_images)[:, None, None]
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop_batches(
    split: Split, size: int, *, steps: int, batch_size: int, seed: int, flipped: bool, views: int = 1
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of windows, in a new order each time that all images have been shown.

    Parameters
    ----------
    split
        What to draw from.
    size
        Rows and columns of the windows.
    steps, batch_size
        Number of batches, and images in each.
    seed
        Of order, windows and flips.
    flipped
        Whether every second image is mirrored, at random.
    views
        Windows of each image; all are mirrored alike.

    Yields
    ------
    tuple of torch.Tensor
        A batch of windows for each view, and the labels.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(split), generator=generator)])
        chosen, order = order[:batch_size], order[batch_size:]
        images = split.images[chosen]
        if flipped:
            mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        yield *(random_crops(images, size, generator) for _ in range(views)), split.labels[chosen]


class RandomCrops(Dataset[Any]):
    """Files of classes as rows (window, class): windows of any size and place, every second one mirrored.

    Area, shape and place are drawn as torchvision's ``RandomResizedCrop`` does, from (seed, epoch, file number), so
    that they do not depend on the number of workers.

    Parameters
    ----------
    files
        What to read.
    size
        Rows and columns that windows are brought to.
    seed
        Of all draws.
    chosen
        Numbers of the files; by default all.
    anew
        Whether windows are drawn; else they are the largest squares in the middle, and only mirrored at random.
    """

    def __init__(
        self, files: ClassFolder, size: int, *, seed: int, chosen: Sequence[int] | None = None, anew: bool = True
    ) -> None:
        self.files, self.size, self.seed, self.anew, self.epoch = files, size, seed, anew, 0
        self.chosen = range(len(files)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Unreadable:
        """Return a window of an image, in [0, 1], and its class."""
        number = self.chosen[index]
        image = self.files.picture(number)
        if isinstance(image, Unreadable):
            return image
        generator = np.random.default_rng((self.seed, self.epoch, number))
        box = _drawn_box(image.width, image.height, generator) if self.anew else _middle_box(image.width, image.height)
        pixels = as_tensor(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))
        return (pixels.flip(2) if generator.random() < 0.5 else pixels), self.files.labels[number]

    def batches(self, *, steps: int, batch_size: int, num_workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (windows, labels), in a new order each epoch.

        Raises
        ------
        ImagesError
            If a file cannot be read.
        """
        left, self.epoch = steps, 0
        while left:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self)).tolist()
            order = (order * -(-batch_size // len(order)))[: max(len(order) // batch_size, 1) * batch_size]
            loader: DataLoader[Any] = DataLoader(
                self, batch_size, sampler=order[: left * batch_size], num_workers=num_workers, collate_fn=list,
                generator=torch.Generator(),
            )  # fmt: skip
            for rows in loader:
                lost = next((row for row in rows if isinstance(row, Unreadable)), None)
                if lost is not None:
                    raise ImagesError(f"images: {lost.path} cannot be read: {lost.reason}. Mend or remove it.")
                yield torch.stack([pixels for pixels, _ in rows]), torch.tensor([label for _, label in rows])
                left -= 1
            self.epoch += 1


def _drawn_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw (left, upper, right, lower); the whole of the middle if no window fits in ten trials."""
    for _ in range(_TRIALS):
        area = width * height * generator.uniform(*_SCALES)
        ratio = np.exp(generator.uniform(*np.log(_RATIOS)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
            return left, upper, left + w, upper + h
    return _middle_box(width, height)


def _middle_box(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side
