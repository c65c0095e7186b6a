"""Files and rows become tensors: of every kind of picture and array, below links."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import probe
from probe.errors import ProbeWarning
from probe.images.batches import open_images
from probe.images.rows import Folder
from probe.testing import padded_net

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (23, 12, 10, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255

pytestmark = pytest.mark.usefixtures("one_thread")


def opened(images, **options):
    defaults = {
        "batch_size": 4, "num_workers": 0, "transform": None, "input_key": None, "max_images": None,
        "first_image": 0, "fold_of": lambda number, origin: number % 5,
    }  # fmt: skip
    return open_images(images, **(defaults | options))


def read(images, **options):
    """Return the images in the order of their numbers."""
    pixels = {}
    for batch in opened(images, **options):
        pixels |= dict(zip(batch.numbers, batch.pixels, strict=True))
    return [pixels[number] for number in sorted(pixels)]


def layerwise(images, left_as_found):
    """Measure a tiny net and check that it is as before."""
    model = padded_net(depth=1)
    with left_as_found(model):
        return probe.layerwise(model, images, positions=None, progress=False)


def save_all(pixels, folder, count=20):
    for index in range(count):
        Image.fromarray(pixels[index]).save(folder / f"{index:02}.png")


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class TestFiles:
    """Each kind of file against the pixels that went into it."""

    def read_back(self, image, tmp_path, name="image.png", **options):
        image.save(tmp_path / name, **options)
        (read_image,) = [Folder(tmp_path)[0]]
        assert isinstance(read_image, Image.Image), read_image
        assert read_image.mode == "RGB"
        return np.asarray(read_image)

    def test_grey(self, tmp_path):
        grey = BYTES[0, :, :, 0]
        assert (self.read_back(Image.fromarray(grey), tmp_path) == grey[:, :, None]).all()

    def test_black_and_white(self, tmp_path):
        white = BYTES[0, :, :, 0] > 127
        assert (self.read_back(Image.fromarray(white), tmp_path) == 255 * white[:, :, None]).all()

    @pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255])])
    def test_palette(self, transparency, tmp_path):
        image = Image.fromarray(BYTES[0] // 128 * 255).quantize(8)
        expected = np.asarray(image.convert("RGB"))
        options = {} if transparency is None else {"transparency": transparency}
        assert (self.read_back(image, tmp_path, **options) == expected).all()

    def test_transparency_is_dropped(self, tmp_path):
        alpha = GENERATOR.integers(0, 256, (12, 10, 1), dtype=np.uint8)
        image = Image.fromarray(np.concatenate([BYTES[0], alpha], axis=2))
        assert (self.read_back(image, tmp_path) == BYTES[0]).all()

    @pytest.mark.parametrize("name", ["image.png", "image.tif"])
    def test_sixteen_bit_greys_keep_their_range(self, name, tmp_path):
        deep = BYTES[0, :, :, 0].astype(np.uint16) * 257
        assert (self.read_back(Image.fromarray(deep), tmp_path, name) == BYTES[0, :, :, :1]).all()
        assert Folder(tmp_path).guesses() == []

    @pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "CMYK", "L", "1"])
    def test_pictures_of_rows_are_read_as_those_of_files(self, mode):
        picture = Image.fromarray(BYTES[0] // 128 * 255).convert(mode)
        pixels = read([picture] * 5)
        expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
        assert torch.equal(pixels[0], expected)

    def test_inks(self, tmp_path):
        image = Image.fromarray(BYTES[0]).convert("CMYK")
        assert (self.read_back(image, tmp_path, "image.tif") == BYTES[0]).all()

    def test_pictures_are_turned_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        turned = self.read_back(Image.fromarray(BYTES[0]), tmp_path, exif=exif)
        assert (turned == np.rot90(BYTES[0], k=-1)).all()

    def test_files_are_sorted_and_found_below_any_folder(self, tmp_path):
        for name in ("b", "a/deep", "c"):
            (tmp_path / name).mkdir(parents=True)
            save_all(BYTES, tmp_path / name, count=3)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        paths = [path.relative_to(tmp_path).as_posix() for path in Folder(tmp_path).paths]
        assert paths == [f"{name}/{index:02}.png" for name in ("a/deep", "b", "c") for index in range(3)]


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
        pixels = read(Rows(rows), num_workers=num_workers)
        assert torch.equal(torch.stack(pixels).float(), IMAGES)

    @pytest.mark.parametrize("make", ARRAYS.values(), ids=list(ARRAYS))
    def test_one_array_and_batches_of_any_layout_in_memory(self, make):
        array = make(IMAGES.numpy())
        for images in (array, iter([array[:9], array[9:]])):
            pixels = read(images)
            assert torch.equal(torch.stack(pixels).float(), IMAGES)

    @pytest.mark.parametrize("dtype", ["u2", ">u2", "u4", ">i4", "i8", "f2", "?"])
    def test_numbers_of_any_kind(self, dtype):
        array = BYTES.transpose(0, 3, 1, 2).astype(dtype)
        for images in (array, Rows(array), list(array), iter([array])):
            pixels = read(images)
            assert (torch.stack(pixels).double().numpy() == array.astype(float)).all()


class TestLinks:
    @pytest.fixture
    def elsewhere(self, tmp_path):
        """Two folders of images outside, and a folder that will link to them."""
        for name in ("cats", "dogs"):
            (tmp_path / "store" / name).mkdir(parents=True)
            save_all(BYTES, tmp_path / "store" / name, count=10)
        (tmp_path / "images").mkdir()
        return tmp_path

    def test_linked_folders_and_files_are_read(self, elsewhere):
        root = elsewhere / "images"
        (root / "a").symlink_to(elsewhere / "store" / "cats", target_is_directory=True)
        (root / "b").symlink_to(Path("..", "store", "dogs"), target_is_directory=True)
        (root / "one.png").symlink_to(elsewhere / "store" / "cats" / "03.png")
        pixels = read(root)
        assert len(pixels) == 21
        assert torch.equal(torch.stack(pixels), torch.cat([IMAGES[:10], IMAGES[:10], IMAGES[3:4]]))

    def test_the_folder_itself_may_be_a_link_and_one_folder_may_be_linked_twice(self, elsewhere):
        (elsewhere / "link").symlink_to(elsewhere / "images", target_is_directory=True)
        for name in ("a", "b"):
            (elsewhere / "images" / name).symlink_to(elsewhere / "store" / "cats", target_is_directory=True)
        assert len(Folder(elsewhere / "link").paths) == 20

    def test_links_in_circles_end(self, elsewhere):
        root = elsewhere / "images"
        (root / "up").symlink_to(elsewhere, target_is_directory=True)
        (root / "here").symlink_to(root, target_is_directory=True)
        (elsewhere / "store" / "cats" / "back").symlink_to(elsewhere / "store", target_is_directory=True)
        save_all(BYTES, root, count=3)
        paths = Folder(root).paths
        assert len(paths) == 3 + 20
        assert len({path.resolve() for path in paths}) == 23

    def test_a_link_to_nothing_is_named(self, elsewhere, left_as_found):
        root = elsewhere / "images"
        save_all(BYTES, root)
        (root / "sheep").symlink_to(elsewhere / "store" / "sheep", target_is_directory=True)
        with pytest.warns(ProbeWarning, match=r"images/sheep cannot be read and is left out: .*No such file"):
            result = layerwise(root, left_as_found)
        assert result.attrs["n_images"] == 20
