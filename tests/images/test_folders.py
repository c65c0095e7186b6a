"""The image files below a folder: of every kind, below links, and damaged ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.errors import ImagesError, ProbeWarning
from probe.images.folders import Folder
from probe.testing import padded_net
from tests.pictures import BYTES, GENERATOR, IMAGES, read_in_order, save_all

pytestmark = pytest.mark.usefixtures("one_thread")


def layerwise(images, left_as_found, **options):
    """Measure a tiny net and check that it is as before."""
    model = padded_net(depth=1)
    with left_as_found(model):
        return probe.layerwise(model, images, positions=None, progress=False, **options)


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
        pixels = read_in_order(root)
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


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "foreign": lambda content: b"<html>404 not found</html>",
    "scrambled": lambda content: content[:60] + bytes(40) + content[100:],
}


class TestCorruptFiles:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_one_is_named_skipped_and_counted(self, damage, num_workers, tmp_path, left_as_found):
        save_all(BYTES, tmp_path, count=21)
        path = tmp_path / "07.png"
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        with pytest.warns(ProbeWarning, match=r"images: .*07\.png cannot be read and is left out: ") as caught:
            result = layerwise(tmp_path, left_as_found, num_workers=num_workers)
        assert [warning.filename for warning in caught if warning.category is ProbeWarning] == [__file__]
        assert result.attrs["n_images"] == 20
        assert list(json.loads(result.attrs["corrupt"])) == [str(path)]

        expected = probe.collect(padded_net(depth=1), IMAGES[:7], positions=None, progress=False)
        rest = probe.collect(padded_net(depth=1), IMAGES[8:21], first_image=8, positions=None, progress=False)
        np.testing.assert_allclose(result.r2, probe.layerwise(expected.merge(rest)).r2, atol=1e-5)

    def test_past_five_per_cent_is_an_error(self, tmp_path, left_as_found):
        save_all(BYTES, tmp_path)
        for name in ("03.png", "11.png"):
            (tmp_path / name).write_bytes(b"")
        message = r"2 of 20 files cannot be read, more than 5%\. Mend or remove .*03\.png, .*11\.png\.$"
        with pytest.warns(ProbeWarning, match="left out"), pytest.raises(ImagesError, match=message):
            layerwise(tmp_path, left_as_found)

    def test_not_one_is_whole(self, tmp_path, left_as_found):
        for index in range(30):
            (tmp_path / f"{index:02}.jpg").write_bytes(b"")
        with pytest.warns(ProbeWarning), pytest.raises(ImagesError, match=r"30 of 30 files.*00\.jpg.*, …$"):
            layerwise(tmp_path, left_as_found)
