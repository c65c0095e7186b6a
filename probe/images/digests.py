"""A digest of images that tells whether two measurements read the same ones, in whatever order."""

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["joined_digests", "pixels_digest"]

_MODULUS = 2**64


def pixels_digest(images: Iterable[Tensor], numbers: Iterable[int]) -> str:
    """Return the digest of some images and their numbers, which does not depend on their order.

    Examples
    --------
    >>> images = torch.eye(2)
    >>> joined_digests(pixels_digest(images[1:], [1]), pixels_digest(images[:1], [0])) == pixels_digest(images, [0, 1])
    True
    """
    parts = (zlib.crc32(_bytes_of(image), number & 0xFFFFFFFF) for image, number in zip(images, numbers, strict=True))
    return f"{sum(parts) % _MODULUS:016x}"


def joined_digests(first: str, second: str) -> str:
    """Return the digest of the images of both."""
    return f"{(int(first, 16) + int(second, 16)) % _MODULUS:016x}"


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as bytes."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
