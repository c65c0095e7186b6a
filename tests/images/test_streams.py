"""Rows and batches that arrive one after the other."""

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError, ImagesError
from probe.images.shapes import check_shape
from probe.images.streams import Stream, refuse_transform
from probe.testing import noise_images

IMAGES = noise_images(5, 4)


def batches_of(elements, *, batch_size=2, max_images=None, labels=False):
    return list(Stream(elements, batch_size, None, None, max_images, labels, False))


def test_rows_are_put_into_batches():
    sizes = [len(pixels) for pixels, _ in batches_of(iter(IMAGES))]
    assert sizes == [2, 2, 1]
    assert torch.equal(torch.cat([pixels for pixels, _ in batches_of(iter(IMAGES))]), IMAGES)


def test_batches_stay_as_they_are():
    assert [len(pixels) for pixels, _ in batches_of(IMAGES.split(3))] == [3, 2]


def test_labels_come_with_their_rows():
    found = batches_of(zip(IMAGES, range(5), strict=True), labels=True)
    assert [label for _, labels in found for label in labels] == list(range(5))


def test_no_more_rows_are_read_than_asked_for():
    source = iter(IMAGES)
    stream = iter(Stream(source, 2, None, None, 3, False, False))
    assert [len(next(stream)[0]) for _ in range(2)] == [2, 1]
    assert len(list(source)) == 2


@pytest.mark.parametrize("shape", [(16, 16), (5, 16, 16), (5, 3, 4, 16, 16)])
def test_other_numbers_of_axes_are_refused_with_what_was_found(shape):
    with pytest.raises(ImagesError, match=r"expected shape \(image, channel, row, column\), found"):
        check_shape(np.zeros(shape))


def test_a_transform_of_what_is_taken_as_it_is_is_refused():
    refuse_transform(None, "a tensor")
    with pytest.raises(ArgumentError, match="transform: images is a tensor"):
        refuse_transform(str, "a tensor")
