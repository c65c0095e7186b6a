"""Photographs brought to one size: of any source, of a folder with a folder a class, or of scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from probe.analyses.data.labelled import ClassFolder
from probe.errors import ArgumentError, ImagesError
from probe.images.batches import open_images
from probe.images.folders import Folder, Unreadable
from probe.images.numbering import evenly_spaced
from probe.images.rows import Transform, as_tensor

__all__ = ["read_classes", "rows_of", "sample_crops", "square_images"]


def rows_of(images: Any) -> Any:
    """Return images as rows that can be read several times: those of a folder, a data set or a tensor.

    Raises
    ------
    ArgumentError
        If there are none, or they can be read once alone.
    """
    if images is None:
        raise ArgumentError("images: none given. A given model needs a folder, Dataset or tensor of images.")
    if isinstance(images, str | Path):
        return Folder(Path(images))
    if not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
        raise ArgumentError(
            f"images: they are read several times, which a {type(images).__name__} does not allow. Pass a folder, "
            "Dataset or tensor."
        )
    return images


def square_images(
    images: Any, *, size: int, max_images: int | None = None, transform: Transform | None = None
) -> Tensor:
    """Read images and bring them to one size.

    Parameters
    ----------
    images
        As in `probe.collect`. Files are cut to their central square.
    size
        Rows and columns, in pixels.
    max_images
        As in `probe.collect`.
    transform
        Applied to each file in place of the cut. Its result is resized as well.

    Returns
    -------
    torch.Tensor
        Shape (image, channel, size, size).

    Examples
    --------
    >>> square_images(torch.zeros(2, 3, 20, 20), size=8).shape
    torch.Size([2, 3, 8, 8])
    """

    def cut(image: Any) -> Any:
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)

    is_folder = isinstance(images, str | Path)
    source = open_images(
        images,
        batch_size=1 if transform else 64,
        num_workers=0,
        transform=transform or (cut if is_folder else None),
        input_key=None,
        max_images=max_images,
        first_image=0,
        fold_of=lambda number, origin: 0,
    )
    return torch.cat([_resized(batch.pixels, size) for batch in source])


def read_classes(folder: str | Path, *, size: int, max_images: int | None = None) -> tuple[Tensor, Tensor, list[str]]:
    """Read the images of a folder that has a folder for each class.

    Parameters
    ----------
    folder
        Holds ``<class>/<image file>``.
    size
        Rows and columns to bring them to, in pixels.
    max_images
        Read so many, evenly spaced over the files in sorted order.

    Returns
    -------
    images : torch.Tensor
        Shape (image, 3, size, size), in [0, 1].
    labels : torch.Tensor
        Shape (image,).
    classes : list of str
        Names of the classes, sorted.

    Raises
    ------
    ImagesError
        If there is no such folder, or a file that cannot be read or is in no class.
    """
    files = ClassFolder(Path(folder))
    indices = evenly_spaced(len(files), max_images)
    images = []
    for index in indices:
        image = files.picture(index)
        if isinstance(image, Unreadable):
            raise ImagesError(f"images: {image.path} cannot be read: {image.reason}. Mend or remove it.")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BOX)
        images.append(as_tensor(image))
    return torch.stack(images), torch.tensor([files.labels[index] for index in indices]), files.classes


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def sample_crops(count: int, *, size: int, seed: int = 0) -> Tensor:
    """Cut squares out of the two photographs that come with scikit-learn, a temple and a flower, in turn.

    Place and scale (from half to all of the height) are drawn, so the crops are many, but of two scenes only.

    Parameters
    ----------
    count
        Number of crops.
    size
        Rows and columns, in pixels.
    seed
        Seed of the draws.

    Returns
    -------
    torch.Tensor
        Shape (image, 3, size, size), in [0, 1].

    Examples
    --------
    >>> sample_crops(2, size=8).shape
    torch.Size([2, 3, 8, 8])
    """
    photographs = [
        torch.tensor(pixels).permute(2, 0, 1).float() / 255 for pixels in sklearn.datasets.load_sample_images().images
    ]
    generator = np.random.default_rng(seed)
    crops = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        height, width = photograph.shape[1:]
        side = generator.integers(height // 2, height + 1)
        row, column = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crops.append(_resized(photograph[None, :, row : row + side, column : column + side], size))
    return torch.cat(crops)
