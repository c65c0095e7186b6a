"""Windows of images to train on, drawn anew each time: of images in memory, or of files as they are needed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import Split
from probe.errors import ImagesError
from probe.images.folders import Unreadable
from probe.images.rows import as_tensor

__all__ = ["RandomCrops", "crop_batches", "random_crops"]

_SCALES, _RATIOS, _TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10  # of torchvision's RandomResizedCrop


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
