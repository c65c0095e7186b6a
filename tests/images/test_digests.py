"""Digests of images: the same for the same pixels and numbers, in whatever order and parts."""

import torch

from probe.images.digests import joined_digests, pixels_digest
from probe.testing import noise_images

IMAGES = noise_images(6, 4)


def test_the_order_and_the_parts_do_not_matter():
    whole = pixels_digest(IMAGES, range(6))
    assert pixels_digest(IMAGES.flip(0), range(5, -1, -1)) == whole
    assert joined_digests(pixels_digest(IMAGES[4:], [4, 5]), pixels_digest(IMAGES[:4], range(4))) == whole
    assert pixels_digest(IMAGES.contiguous(memory_format=torch.channels_last), range(6)) == whole


def test_pixels_and_numbers_matter():
    whole = pixels_digest(IMAGES, range(6))
    changed = IMAGES.clone()
    changed[3, 1, 2, 2] += 1e-6
    assert pixels_digest(changed, range(6)) != whole
    assert pixels_digest(IMAGES, range(1, 7)) != whole
    assert pixels_digest(IMAGES[:5], range(5)) != whole


def test_no_images_add_nothing():
    whole = pixels_digest(IMAGES, range(6))
    assert joined_digests(whole, pixels_digest([], [])) == whole
