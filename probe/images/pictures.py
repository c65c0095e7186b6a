"""Pictures of every mode become RGB, or grey, of 8 bits; how bright white is must be known of deeper greys."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from probe.errors import ImagesError

__all__ = ["as_grey", "as_rgb", "common_whites", "is_deep", "white_above"]

_WHITES = (1, 255, 1023, 4095, 65535)
"""White of a mask, and of 8, 10, 12 and 16 bits."""


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture's greys have more than 8 bits: 16-bit and 32-bit integers (I), or floats (F)."""
    return image.mode.startswith(("I", "F"))


def _brightest(image: Image.Image) -> float:
    """Return the largest grey of a deep picture.

    Raises
    ------
    ImagesError
        If what is black and what is white cannot be known: values below 0, above 65,535, or not finite.
    """
    low, high = _extremes(image)
    if not (low >= 0 and high <= _WHITES[-1]):
        raise ImagesError(
            f"images: a picture of mode {image.mode} holds greys from {low:.4g} to {high:.4g}; expected 0 to 1, to 255 "
            "or to 65535. Pass a Dataset that scales them to tensors."
        )
    return high


def white_above(brightest: float, mode: str) -> tuple[int, bool]:
    """Return the grey that is white in pictures whose brightest is known, and whether it is a guess.

    White is the least of 1, 255, 1,023, 4,095 and 65,535 that is not exceeded. It is no guess for floats of 0 to 1,
    and for integers that exceed 12 bits.

    Examples
    --------
    >>> white_above(0.8, "F"), white_above(60000, "I;16"), white_above(200, "I;16")
    ((1, False), (65535, False), (255, True))
    """
    white = next(white for white in _WHITES if brightest <= white)
    certain = brightest == 0 or white == (1 if mode == "F" else _WHITES[-1])
    return white, not certain


def as_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """Turn a picture upright (EXIF) and convert it to RGB; transparency is dropped.

    Parameters
    ----------
    image
        Of any mode.
    white
        The grey that is white, where greys are deep; None: as the picture tells.

    Raises
    ------
    ImagesError
        If a deep picture does not tell which grey is white, or exceeds it.
    """
    image = ImageOps.exif_transpose(image)
    if is_deep(image):
        image = _eight_bits(image, _own_white(image) if white is None else white)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def as_grey(image: Image.Image) -> Image.Image:
    """Do as `as_rgb`, and convert to one channel, by luminance; greys stay as they are."""
    return as_rgb(image).convert("L")


def common_whites(images: Iterable[Image.Image]) -> dict[str, tuple[int, bool]]:
    """Return, for each deep mode among pictures, what `white_above` tells of all of them; odd ones are passed over."""
    brightest: dict[str, float] = {}
    for image in images:
        try:
            brightest[image.mode] = max(_brightest(image), brightest.get(image.mode, 0))
        except ImagesError:
            continue
    return {mode: white_above(value, mode) for mode, value in brightest.items()}


def _own_white(image: Image.Image) -> int:
    brightest = _brightest(image)
    white, guessed = white_above(brightest, image.mode)
    if guessed:
        raise ImagesError(
            f"images: a picture of mode {image.mode} reaches {brightest:.4g}, so that white may be {white} or "
            f"{_WHITES[-1]}. Scale the greys to a tensor of 0 to 1 in transform= or in the data set."
        )
    return white


def _eight_bits(image: Image.Image, white: float) -> Image.Image:
    brightest = _brightest(image)
    if brightest > white:
        raise ImagesError(
            f"images: a picture of mode {image.mode} reaches {brightest:.4g}, above {white}, which others suggest is "
            "white. Pass a Dataset that scales them to tensors."
        )
    return Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) * (255 / white)).astype(np.uint8))


def _extremes(image: Image.Image) -> tuple[float, float]:
    values = np.asarray(image)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
