"""Images to train and to probe small networks on: read from folders, or made from what comes with scikit-learn."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torch
import xarray as xr
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from probe.errors import ImagesError
from probe.images.batches import Transform, evenly_spaced, open_images
from probe.images.rows import Folder, Unreadable, as_label, as_tensor
from probe.images.stimuli import apply_stimulus
from probe.reading.options import Options

__all__ = [
    "CANVAS",
    "ClassFolder",
    "Digits",
    "LabelTable",
    "LabelledFolder",
    "digit_batches",
    "keep_shown",
    "load_digits",
    "place_digits",
    "read_classes",
    "sample_crops",
    "shown_images",
    "small_copies",
    "square_images",
]

CANVAS = 32
"""Rows and columns of the images, in pixels."""

_CONTRAST = 1.5
_HABIT = 4.0  # pixels from the middle, standard deviation on each axis
_LIGHT = (0.6, 0.35)  # direction of the light, from above towards the left, mean and standard deviation in radians
_STRONGEST_SHADING = 0.5
_EXPOSURE = 0.15
_NOISE = 0.05
_HELD_OUT = 4  # every fourth digit
_SHOWN = ("natural", "rolled")
_LONGEST_SIDE = 64  # pixels of a small copy


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: `strokes` of shape (digit, row, column) in [0, 1], and their `labels`."""

    strokes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class ClassFolder(Folder):
    """Image files in a folder for each class, as rows (image, label).

    Parameters
    ----------
    folder
        Holds ``<class>/**/<image file>``; classes are numbered in sorted order, empty ones too.

    Attributes
    ----------
    classes : list of str
        Names of the classes.

    Raises
    ------
    ImagesError
        If there is no image, or one is in no class.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...     Image.new("RGB", (2, 2)).save(Path(folder) / "dog" / "1.png")
    ...     rows = ClassFolder(Path(folder))
    ...     rows.classes, rows.labels
    (['cat', 'dog'], [1])
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        names = [path.relative_to(folder).parts for path in self.paths]
        outside = [path for path, parts in zip(self.paths, names, strict=True) if len(parts) < 2]
        if outside:
            raise ImagesError(
                f"images: {len(outside)} of {len(self.paths)} are in no folder of a class, {outside[0]} for one. Move "
                "or remove them."
            )
        self.labels = [self.classes.index(parts[0]) for parts in names]

    def __getitem__(self, index: int) -> tuple[Image.Image, int] | Unreadable:
        """Return the image and its class."""
        image = self.picture(index)
        return image if isinstance(image, Unreadable) else (image, self.labels[index])


class LabelTable(Folder):
    """Image files with the class of each from a table, as rows (image, label).

    Parameters
    ----------
    images
        Folder of image files, searched recursively, in sorted order.
    table
        CSV file: the path of an image below the folder, or its file name, and the number of its class, from 0. A first
        line that is no such pair is the heading.

    Attributes
    ----------
    labels : list of int
        Class of each image.

    Raises
    ------
    ImagesError
        If there is no image, one has no label, or the table cannot be read.
    """

    def __init__(self, images: Path, table: Path) -> None:
        super().__init__(images)
        known = _read_labels(table)
        found = [known.get(path.relative_to(images).as_posix(), known.get(path.name)) for path in self.paths]
        missing = [path for path, label in zip(self.paths, found, strict=True) if label is None]
        if missing:
            raise ImagesError(
                f"labels: {len(missing)} of {len(found)} images are not in {table}, {missing[0]} for one. Expected a "
                "line with the name of each image and the number of its class."
            )
        self.labels = [label for label in found if label is not None]

    def __getitem__(self, index: int) -> tuple[Image.Image, int] | Unreadable:
        """Return the image and its class."""
        image = self.picture(index)
        return image if isinstance(image, Unreadable) else (image, self.labels[index])


def _read_labels(table: Path) -> dict[str, int]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"labels: {table} cannot be read: {error}.") from error
    found = {}
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        if len(cells) == 2 and cells[1].isdecimal():
            found[cells[0]] = int(cells[1])
        elif number:
            raise ImagesError(
                f"labels: line {number + 1} of {table} is {','.join(row)!r}; expected the name of an image, a comma, "
                "and the number of its class, from 0."
            )
    return found


class LabelledFolder(Folder):
    """Image files beside label maps of the same name, as rows (image, label), for example CamVid.

    Parameters
    ----------
    images
        Folder of image files, searched recursively, in sorted order.
    labels
        Folder of PNG files whose pixels are classes, each below the same path as its image.

    Raises
    ------
    ImagesError
        If there is no image, or one has no label.
    """

    def __init__(self, images: Path, labels: Path) -> None:
        super().__init__(images)
        self.labels = [labels / path.relative_to(images).with_suffix(".png") for path in self.paths]
        missing = [path for path in self.labels if not path.is_file()]
        if missing:
            raise ImagesError(
                f"labels: {len(missing)} of {len(self.labels)} images have none, {missing[0]} for one. "
                "Expected a PNG file of the same name for each image."
            )

    def __getitem__(self, index: int) -> tuple[Image.Image, Tensor] | Unreadable:
        """Return the image and its classes, shape (row, column)."""
        image = self.picture(index)
        if isinstance(image, Unreadable):
            return image
        with Image.open(self.labels[index]) as label:
            return image, as_label(label)


def load_digits(*, enlarged: int = 2) -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits of 8×8 pixels.

    Parameters
    ----------
    enlarged
        How many times as many rows and columns to bring them to.

    Returns
    -------
    tuple of Digits
        Those to train on, and every fourth one, held out.

    References
    ----------
    Alpaydin, Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998.

    Examples
    --------
    >>> training, held_out = load_digits()
    >>> len(training), len(held_out)
    (1347, 450)
    """
    bunch = sklearn.datasets.load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] / bunch.images.max()
    strokes = functional.interpolate(small, scale_factor=enlarged, mode="bilinear")[:, 0]
    labels = torch.from_numpy(bunch.target).long()
    held_out = torch.arange(len(labels)) % _HELD_OUT == 0
    return Digits(strokes[~held_out], labels[~held_out]), Digits(strokes[held_out], labels[held_out])


def place_digits(strokes: Tensor, generator: torch.Generator) -> Tensor:
    """Place each digit on a canvas of its own, with the habits of photographs.

    Digits stand near the middle more often than at the border (a Gaussian of 4 pixels around the middle on each
    axis), and light falls on the background from above and somewhat from the left, in every image from a direction
    and of a strength of its own. So position can be told from content alone. Exposure and noise vary as well.

    Parameters
    ----------
    strokes
        Shape (digit, row, column).
    generator
        Of all draws.

    Returns
    -------
    torch.Tensor
        Shape (image, 1, 32, 32).

    Examples
    --------
    >>> training, _ = load_digits()
    >>> place_digits(training.strokes[:5], torch.Generator().manual_seed(0)).shape
    torch.Size([5, 1, 32, 32])
    """
    count, size = strokes.shape[:2]
    images = _shading(count, generator)
    room = CANVAS - size
    corner = (room / 2 + _HABIT * torch.randn(count, 2, generator=generator)).round().clamp(0, room).long()
    rows = corner[:, 0, None] + torch.arange(size)
    columns = corner[:, 1, None] + torch.arange(size)
    images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]] += _CONTRAST * strokes
    images += _NOISE * torch.randn(images.shape, generator=generator)
    return images[:, None]


def _shading(count: int, generator: torch.Generator) -> Tensor:
    """Draw backgrounds that are brightest where the light comes from, shape (image, row, column)."""
    mean, deviation = _LIGHT
    angle = mean + deviation * torch.randn(count, 1, 1, generator=generator)
    strength = _STRONGEST_SHADING * torch.rand(count, 1, 1, generator=generator)
    exposure = _EXPOSURE * torch.randn(count, 1, 1, generator=generator)
    centre = torch.linspace(-1, 1, CANVAS)
    return exposure - strength * (angle.cos() * centre[:, None] + angle.sin() * centre)


def digit_batches(digits: Digits, *, steps: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of digits placed anew, (images, labels); the same for the same seed.

    Parameters
    ----------
    digits
        What to draw from, with replacement.
    steps
        Number of batches.
    batch_size
        Images in each.
    seed
        Seed of digits and placements.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(digits), (batch_size,), generator=generator)
        yield place_digits(digits.strokes[chosen], generator), digits.labels[chosen]


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


def shown_images(images: Any, options: Options, *, count: int = 3) -> xr.Dataset:
    """Keep small copies of a few images, natural and rolled, as the network was shown them.

    Parameters
    ----------
    images, options
        As in `probe.collect`; they are read once more.
    count
        Evenly spaced over the images.

    Returns
    -------
    xarray.Dataset
        ``shown_image``, on (shown_number, shown, shown_row, shown_column, colour), with what each was shown as in
        ``shown``.

    Examples
    --------
    >>> found = shown_images(torch.rand(10, 3, 8, 8), Options())
    >>> dict(found.shown_image.sizes)
    {'shown_number': 3, 'shown': 2, 'shown_row': 8, 'shown_column': 8, 'colour': 3}
    """
    source = open_images(
        images,
        batch_size=1,
        num_workers=0,
        transform=options.transform,
        input_key=options.input_key,
        max_images=min(count, options.max_images or count),
        first_image=0,
        fold_of=lambda number, origin: 0,
    )
    batches = list(source)
    return keep_shown(
        {
            name: torch.cat([apply_stimulus(name, batch.pixels, batch.numbers, options.seed) for batch in batches])
            for name in _SHOWN
        }
    ).to_dataset()


def keep_shown(shown: Mapping[str, Tensor]) -> xr.DataArray:
    """Keep small copies of a few images, each as a network was shown it.

    Parameters
    ----------
    shown
        By what an image was shown as, such as ``natural`` or ``in the upper left``: images of shape (image, channel,
        row, column), as many of each, the same ones in the same order. Their sizes and channels may differ.

    Returns
    -------
    xarray.DataArray
        ``shown_image``, on (shown_number, shown, shown_row, shown_column, colour), from 0 to 255. All copies have the
        size of the largest; what one image was shown as shares one scale of brightness.

    Examples
    --------
    >>> kept = keep_shown({"black": torch.zeros(1, 1, 2, 2), "white": torch.ones(1, 1, 4, 4)})
    >>> kept.shape, kept.sel(shown="white").values.min()
    ((1, 2, 4, 4, 3), np.uint8(255))
    """
    copies = [_small(images) for images in shown.values()]
    size = tuple(max(copy.shape[axis] for copy in copies) for axis in (2, 3))
    stacked = torch.stack([functional.interpolate(copy, size, mode="nearest-exact") for copy in copies], dim=1)
    return xr.DataArray(
        _stretched(stacked).permute(0, 1, 3, 4, 2).numpy(),
        dims=("shown_number", "shown", "shown_row", "shown_column", "colour"),
        coords={"shown": list(shown)},
        name="shown_image",
        attrs={"long_name": "image that the network was shown, contrast stretched", "units": "1"},
    )


def small_copies(images: Tensor) -> Tensor:
    """Return copies of at most 64 pixels a side, in three colours from 0 to 255."""
    return _stretched(_small(images))


def _small(images: Tensor) -> Tensor:
    """Return copies of at most 64 pixels a side, in three colours."""
    height, width = images.shape[2:]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    small = functional.interpolate(images.detach().cpu().float(), size, mode="bilinear", antialias=True)
    return small if small.shape[1] == 3 else small.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def _stretched(images: Tensor) -> Tensor:
    """Bring the values of each row to 0 … 255."""
    every = tuple(range(1, images.ndim))
    low, high = images.amin(dim=every, keepdim=True), images.amax(dim=every, keepdim=True)
    return (255 * (images - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)
