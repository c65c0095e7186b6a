"""Photographs brought to one size."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from probe.analyses.data.photographs import read_classes, sample_crops, square_images
from probe.errors import ImagesError


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 32, 32, 3), dtype=np.uint8)
    for name, images in zip(("cat", "dog"), pixels, strict=True):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_classes_are_read_evenly_and_at_one_size(folder):
    images, labels, classes = read_classes(folder, size=16, max_images=6)
    assert images.shape == (6, 3, 16, 16)
    assert classes == ["cat", "dog"] and labels.tolist() == [0, 0, 0, 1, 1, 1]
    first = torch.from_numpy(np.array(Image.open(folder / "cat" / "0.png"))).permute(2, 0, 1).float() / 255
    halved = torch.nn.functional.avg_pool2d(first[None], 2)[0]
    torch.testing.assert_close(images[0], halved, atol=1.01 / 255, rtol=0)
    assert read_classes(folder, size=32)[0].shape == (60, 3, 32, 32)


def test_a_damaged_file_is_named(folder):
    (folder / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ImagesError, match=r"images: .*0\.png cannot be read: .* Mend or remove it"):
        read_classes(folder, size=16)


def test_crops_are_drawn_from_their_seed_and_lie_in_the_photographs():
    crops = sample_crops(4, size=16, seed=3)
    assert crops.shape == (4, 3, 16, 16) and crops.min() >= 0 and crops.max() <= 1
    assert torch.equal(crops, sample_crops(6, size=16, seed=3)[:4])
    assert not torch.equal(crops, sample_crops(4, size=16, seed=4))


def test_files_are_cut_to_their_central_square_and_tensors_resized_whole(tmp_path):
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 40, 3), dtype=np.uint8))
    wide.save(tmp_path / "wide.png")
    middle = ImageOps.fit(wide, (10, 10), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(middle)).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(square_images(tmp_path, size=10), expected)
    ramp = torch.linspace(0, 1, 40).expand(1, 3, 20, 40)
    small = square_images(ramp, size=10)
    assert small.shape == (1, 3, 10, 10)
    torch.testing.assert_close(small[0, 0, 0, 2:-2], torch.linspace(0.05, 0.95, 10)[2:-2], atol=0.01, rtol=0)
