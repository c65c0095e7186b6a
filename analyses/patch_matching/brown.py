"""The patches of Brown et al., as torchvision's PhotoTour lays them out in folders."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torchvision.datasets.phototour import read_info_file, read_matches_files

from probe.analyses.patch_matching.patches import Patches, TestPairs
from probe.errors import ImagesError
from probe.reading.memory import check_memory

__all__ = ["NAMES", "find_sets", "read_patches", "read_test"]

NAMES = ("liberty", "notredame", "yosemite")
"""The three sets; with ``_harris`` behind them, those of Harris's corners."""

_SIDE = 64
_INFO, _MATCHES = "info.txt", "m50_100000_100000_0.txt"
_WHERE = (
    "Get the sets with torchvision.datasets.PhotoTour(folder, name, download=True), name one of liberty, notredame, "
    "yosemite, or those of Harris's corners from http://matthewalunbrown.com/patchdata/patchdata.html, and pass the "
    "folder that holds them: FOLDER/<name>/*.bmp, info.txt and m50_100000_100000_0.txt."
)


def find_sets(folder: Path | None) -> Mapping[str, Path]:
    """Return where each of the three sets is.

    Raises
    ------
    ImagesError
        If one is missing.
    """
    if folder is None:
        raise ImagesError(f"images: none given, and the preset 'paper' needs the patches of Brown et al. {_WHERE}")
    found = {}
    for name in NAMES:
        places = [folder / f"{name}{ending}" for ending in ("", "_harris")]
        held = [place for place in places if (place / _INFO).is_file() and (place / _MATCHES).is_file()]
        if not held:
            raise ImagesError(f"images: {folder} has no {name}/ with {_INFO} and {_MATCHES}. {_WHERE}")
        found[name] = held[0]
    return found


def read_patches(folder: Path) -> Patches:
    """Read all patches of a set, and bring them to 32×32 pixels.

    Raises
    ------
    ImagesError
        If its images hold fewer patches than its list, or one cannot be read.
    """
    points = read_info_file(str(folder), _INFO).numpy()
    check_memory(
        len(points) * (_SIDE // 2) ** 2,
        torch.device("cpu"),
        f"images: the {len(points):,} patches of {folder.name}",
        "Take a machine with more of it.",
    )
    pixels = torch.empty(len(points), 1, _SIDE // 2, _SIDE // 2, dtype=torch.uint8)
    count = 0
    for path in sorted(folder.glob("*.bmp")):
        tiles = _tiles(path)[: len(points) - count]
        pixels[count : count + len(tiles)] = functional.avg_pool2d(tiles, 2).round().to(torch.uint8)
        count += len(tiles)
    if count < len(points):
        raise ImagesError(f"images: {folder} holds {count} patches, and {_INFO} lists {len(points)}. Get it anew.")
    return Patches(pixels, points, np.zeros(len(points), dtype=int))


def read_test(folder: Path) -> tuple[Patches, TestPairs]:
    """Read the pairs that a set is tested with, and of its patches those that are in one of them."""
    listed = read_matches_files(str(folder), _MATCHES).numpy()
    patches = read_patches(folder)
    used, places = np.unique(listed[:, :2], return_inverse=True)
    pairs = places.reshape(-1, 2)
    is_match = listed[:, 2] == 1
    kept = Patches(patches.pixels[torch.from_numpy(used)], patches.points[used], patches.sources[used])
    return kept, TestPairs(pairs[is_match], {folder.name: pairs[~is_match]})


def _tiles(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except OSError as error:
        raise ImagesError(f"images: {path} cannot be read: {error}. Get the set anew.") from error
    rows, columns = grey.shape[0] // _SIDE, grey.shape[1] // _SIDE
    squares = grey[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE).swapaxes(1, 2)
    return torch.from_numpy(squares.reshape(-1, 1, _SIDE, _SIDE).astype(np.float32))
