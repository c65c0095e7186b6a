"""Rows become tensors: of every kind of picture and array."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from tests.pictures import BYTES, IMAGES, read_in_order

pytestmark = pytest.mark.usefixtures("one_thread")


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "CMYK", "L", "1"])
def test_pictures_of_rows_are_read_as_those_of_files(mode):
    picture = Image.fromarray(BYTES[0] // 128 * 255).convert(mode)
    pixels = read_in_order([picture] * 5)
    expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
    assert torch.equal(pixels[0], expected)


def reversed_channels(array):
    return np.ascontiguousarray(array[..., ::-1, :, :])[..., ::-1, :, :]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


ARRAYS = {
    "negative strides": reversed_channels,
    "read-only": read_only,
    "not contiguous": lambda array: np.moveaxis(np.moveaxis(array, -3, -1).copy(), -1, -3),
    "big-endian": lambda array: array.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "memory of a longer float": lambda array: array.astype(np.longdouble),
}


class TestArrays:
    @pytest.mark.parametrize("make", ARRAYS.values(), ids=list(ARRAYS))
    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_rows_of_any_layout_in_memory(self, make, num_workers):
        rows = [make(image) for image in IMAGES.numpy()]
        pixels = read_in_order(Rows(rows), num_workers=num_workers)
        assert torch.equal(torch.stack(pixels).float(), IMAGES)

    @pytest.mark.parametrize("make", ARRAYS.values(), ids=list(ARRAYS))
    def test_one_array_and_batches_of_any_layout_in_memory(self, make):
        array = make(IMAGES.numpy())
        for images in (array, iter([array[:9], array[9:]])):
            pixels = read_in_order(images)
            assert torch.equal(torch.stack(pixels).float(), IMAGES)

    @pytest.mark.parametrize("dtype", ["u2", ">u2", "u4", ">i4", "i8", "f2", "?"])
    def test_numbers_of_any_kind(self, dtype):
        array = BYTES.transpose(0, 3, 1, 2).astype(dtype)
        for images in (array, Rows(array), list(array), iter([array])):
            pixels = read_in_order(images)
            assert (torch.stack(pixels).double().numpy() == array.astype(float)).all()
