"""Images to train and to test classifiers on, from folders of classes: all in memory, or read as they are needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probe.analyses.data.digits import CANVAS, load_digits, place_digits
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.photographs import read_classes
from probe.errors import ArgumentError, ImagesError
from probe.images.numbering import evenly_spaced
from probe.reading.memory import check_memory

__all__ = [
    "WHERE",
    "SmallImages",
    "Split",
    "check_folder",
    "open_splits",
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
