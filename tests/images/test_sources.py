"""A source gives all images, or a part of them, and shows the first beforehand."""

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from probe.images.batches import open_images
from probe.testing import noise_images
from tests.pictures import IMAGES, opened


def test_the_first_image_shown_beforehand_is_a_copy_and_is_read_again():
    batches = [IMAGES[:4].clone()]
    source = opened(batches)
    source.peek().zero_()
    assert torch.equal(next(iter(source)).pixels, IMAGES[:4])


class TestWanted:
    """A part of the images has the numbers and folds that they have in the whole, and knows the first one of all."""

    @pytest.mark.parametrize("form", ["tensor", "rows", "batches"])
    def test_the_images_that_are_wanted_and_a_look_at_the_first_of_all(self, form):
        images = noise_images(11, 4)
        given = {"tensor": images, "rows": TensorDataset(images), "batches": list(images.split(3))}[form]
        source = open_images(
            given, batch_size=2, num_workers=0, transform=None, input_key=None, max_images=None, first_image=100,
            fold_of=lambda number, origin: number % 3, wanted=lambda number: number % 4 == 1,
        )  # fmt: skip
        first = 100 if form == "batches" else 102  # that arrives, or of fold 0
        assert torch.equal(source.peek(), images[[first - 100]])
        batches = list(source)
        numbers = [number for batch in batches for number in batch.numbers]
        assert sorted(numbers) == [101, 105, 109]
        assert [fold for batch in batches for fold in batch.folds] == [number % 3 for number in numbers]
        assert torch.equal(torch.cat([batch.pixels for batch in batches]), images[[n - 100 for n in numbers]])
        assert source.length == 11
        if form != "batches":
            assert source.left == 3
            assert torch.equal(source.image_at(107), images[7])

    def test_a_first_file_that_cannot_be_read_is_passed_over(self, tmp_path):
        (tmp_path / "0.png").write_bytes(b"no image")
        for name, value in (("1", 51), ("2", 102), ("3", 153)):
            Image.new("RGB", (4, 4), (value,) * 3).save(tmp_path / f"{name}.png")
        source = open_images(
            tmp_path, batch_size=2, num_workers=0, transform=None, input_key=None, max_images=None, first_image=0,
            fold_of=lambda number, origin: number % 2, wanted=lambda number: number == 3,
        )  # fmt: skip
        assert source.peek()[0, 0, 0, 0].item() == pytest.approx(0.4)  # of fold 0 the second
        assert [batch.numbers for batch in source] == [[3]]
        assert source.corrupt == {}
