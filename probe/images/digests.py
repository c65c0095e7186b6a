"""A digest of images that tells whether two measurements read the same ones, in whatever order."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["joined_digests", "pixels_digest", "raw_digest"]

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


def raw_digest(image: Any) -> str:
    """Return the digest of an image as a data set gives it, before any transform; of an unknown kind, that of its name.

    A picture that Hugging Face has not decoded is told by its bytes, or by the name of its file.

    Examples
    --------
    >>> raw_digest(torch.eye(2)) == raw_digest(torch.eye(2).numpy()), raw_digest("a.png") == raw_digest("b.png")
    (True, False)
    """
    return f"{zlib.crc32(_raw_bytes(image)):08x}"


def _raw_bytes(image: Any) -> bytes | memoryview:
    if isinstance(image, Tensor | np.ndarray):
        return _bytes_of(torch.as_tensor(image))
    if isinstance(image, Image.Image):
        return image.tobytes()
    if isinstance(image, list | tuple):
        return b"".join(_raw_bytes(part) for part in image)
    if isinstance(image, Mapping):
        # The folder of a file may have another name on each machine.
        return image.get("bytes") or str(image.get("path")).rpartition("/")[2].encode()
    return image if isinstance(image, bytes) else str(image if isinstance(image, str) else type(image)).encode()


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as bytes."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
