"""Two photographs of a flat scene and the homography from one to the other: which points find each other."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from probe.analyses.patch_matching.points import PATCH, cut, interest_points, moved
from probe.errors import ImagesError
from probe.images.folders import Folder, Unreadable

__all__ = ["NEAR", "Pair", "found_share", "read_pair"]

NEAR = 3.0
"""Pixels within which a match is right."""

_APART = 8.0  # pixels
_MOST = 500  # points of either photograph
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Pair:
    """The patches around the points of two photographs, and which of them belong together.

    Attributes
    ----------
    first, second
        Shape (point, 1, 32, 32).
    is_right
        Shape (point of the first, point of the second): within `NEAR` pixels of where the homography leads.
    """

    first: Tensor
    second: Tensor
    is_right: np.ndarray

    @property
    def chance(self) -> float:
        """How often a point drawn at random is a right one, of those that have one, in per cent."""
        return 100 * float(self.is_right[self.is_right.any(axis=1)].mean())


def read_pair(folder: Path) -> Pair:
    """Read two photographs, the first and second in the order of their names, and the file ``H*`` beside them.

    Parameters
    ----------
    folder
        The file holds the nine numbers of the homography from the first to the second, as text, or in OpenCV's XML.

    Raises
    ------
    ImagesError
        If there are not two photographs and one such file, or no point of the first has its like in the second.
    """
    files = Folder(folder)
    matrices = sorted(path for path in folder.iterdir() if path.name.startswith("H") and path not in files.paths)
    if len(files) != 2 or len(matrices) != 1:
        raise ImagesError(
            f"pair: {folder} holds {len(files)} photographs and {len(matrices)} files H*; expected two photographs and "
            "one file with the nine numbers of the homography from the first to the second."
        )
    homography = _read_homography(matrices[0])
    greys = [_grey(files, number) for number in (0, 1)]
    points = [interest_points(grey, apart=_APART, margin=PATCH / 2, most=_MOST) for grey in greys]
    target = moved(homography, points[0])
    distance = np.linalg.norm(target[:, None] - points[1][None], axis=2)
    if not (distance < NEAR).any():
        raise ImagesError(f"pair: no corner in {folder} is found again where {matrices[0].name} leads to.")
    patches = [
        cut(torch.from_numpy(grey).float(), np.stack([_to(point) for point in found]))
        for grey, found in zip(greys, points, strict=True)
    ]
    return Pair(patches[0], patches[1], distance < NEAR)


def found_share(first: np.ndarray, second: np.ndarray, is_right: np.ndarray) -> float:
    """Return how many per cent of the points that have their like in the second photograph find it.

    Parameters
    ----------
    first, second
        Descriptors of unit length, shape (point, number).
    is_right
        As in `Pair`.

    Examples
    --------
    >>> found_share(np.eye(2), np.eye(2)[::-1], np.array([[False, True], [True, False]]))
    100.0
    """
    nearest = (first @ second.T).argmax(axis=1)
    has_one = is_right.any(axis=1)
    return 100 * float(is_right[np.arange(len(first)), nearest][has_one].mean())


def _to(point: np.ndarray) -> np.ndarray:
    placed = np.eye(3)
    placed[:2, 2] = point
    return placed


def _grey(files: Folder, number: int) -> np.ndarray:
    image = files.picture(number)
    if isinstance(image, Unreadable):
        raise ImagesError(f"pair: {image.path} cannot be read: {image.reason}.")
    return np.asarray(image.convert("L"), dtype=float) / 255


def _read_homography(path: Path) -> np.ndarray:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImagesError(f"pair: {path} cannot be read: {error}.") from error
    inner = re.search(r"<data>(.*)</data>", text, re.DOTALL)
    numbers = [float(number) for number in re.findall(_NUMBER, inner.group(1) if inner else text)]
    if len(numbers) != 9:
        raise ImagesError(f"pair: {path} holds {len(numbers)} numbers; expected the nine of a homography.")
    return np.array(numbers).reshape(3, 3)
