"""Image files with what is known of each: its class by folder or table, or the class of every pixel."""

import csv
from pathlib import Path

from PIL import Image
from torch import Tensor

from probe.errors import ImagesError
from probe.images.folders import Folder, Unreadable
from probe.images.rows import as_label

__all__ = ["ClassFolder", "LabelTable", "LabelledFolder"]


class _Classified(Folder):
    """Image files as rows (image, class)."""

    labels: list[int]

    def __getitem__(self, index: int) -> tuple[Image.Image, int] | Unreadable:
        """Return the image and its class."""
        image = self.picture(index)
        return image if isinstance(image, Unreadable) else (image, self.labels[index])


class ClassFolder(_Classified):
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


class LabelTable(_Classified):
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
