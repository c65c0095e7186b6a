"""Photographs that patches are cut out of: of a folder, those that come with libraries, or made textures."""

from pathlib import Path

import matplotlib
import numpy as np
import sklearn.datasets
from PIL import Image
from scipy import ndimage

from probe.errors import ImagesError
from probe.images.folders import Folder, Unreadable
from probe.images.numbering import evenly_spaced

__all__ = ["read_photographs", "sample_photographs", "texture"]

_LONGEST_SHORT_SIDE = 640  # pixels of a photograph


def read_photographs(folder: Path, count: int) -> list[np.ndarray]:
    """Return so many photographs of a folder, evenly spaced, as grey values in [0, 1].

    Raises
    ------
    ImagesError
        If there are fewer, or one cannot be read.
    """
    files = Folder(folder)
    if len(files) < 2:
        raise ImagesError(f"images: {folder} holds one photograph; half are for training, so expected two or more.")
    if len(files) < count:
        raise ImagesError(
            f"images: {folder} holds {len(files)} photographs, {count} expected. Add photographs, or ask for "
            f"fewer: max_images={len(files)} (--max-images {len(files)})."
        )
    found = []
    for index in evenly_spaced(len(files), count):
        image = files.picture(index)
        if isinstance(image, Unreadable):
            raise ImagesError(f"images: {image.path} cannot be read: {image.reason}. Mend or remove it.")
        found.append(_grey(image))
    return found


def _grey(image: Image.Image) -> np.ndarray:
    scale = min(1.0, _LONGEST_SHORT_SIDE / min(image.size))
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    return np.asarray(image.convert("L"), dtype=float) / 255


def sample_photographs() -> list[np.ndarray]:
    """Return a temple, a portrait and a flower; every second one, the portrait, is trained on."""
    temple, flower = (Image.fromarray(pixels) for pixels in sklearn.datasets.load_sample_images().images)
    portrait = Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    return [_grey(image) for image in (temple, portrait, flower)]


def texture(number: int, size: int = 240) -> np.ndarray:
    """Return a made image of blots of three sizes."""
    noise = np.random.default_rng(number).normal(size=(size, size))
    rough = sum(ndimage.gaussian_filter(noise, scale) * scale for scale in (1.5, 3.0, 6.0))
    return np.clip(0.5 + rough / (4 * rough.std()), 0, 1)
