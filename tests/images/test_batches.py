"""Every form of data set gives the same numbered images; what is no image is named."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import probe
from probe.errors import ArgumentError, ImagesError, ProbeWarning
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
    """Return the images by number, and the fold of each."""
    pixels, folds = {}, {}
    for batch in opened(images, **options):
        assert len(batch.numbers) == len(batch.folds) == len(batch.pixels)
        assert batch.folds == sorted(batch.folds)
        pixels |= dict(zip(batch.numbers, batch.pixels, strict=True))
        folds |= dict(zip(batch.numbers, batch.folds, strict=True))
    return dict(sorted(pixels.items())), dict(sorted(folds.items()))


class Mappings(Dataset):
    """Rows as Hugging Face data sets give them."""

    def __init__(self, key, pil=False):
        self.key, self.pil = key, pil

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        if index >= len(IMAGES):
            raise IndexError(index)
        return {"label": 1, self.key: Image.fromarray(BYTES[index]) if self.pil else IMAGES[index]}


class DuckTyped:
    """Rows of a class that knows nothing of torch."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return BYTES[index], "a label"


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, range(len(IMAGES)), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for index, pixels in enumerate(BYTES):
        path = root / f"class{index // 10}" / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    (root / "notes.txt").write_text("no image")
    return root


def forms(folder):
    batches = [IMAGES[start : start + 3] for start in range(0, len(IMAGES), 3)]
    return {
        "tensor": (IMAGES, {}),
        "array": (IMAGES.numpy(), {}),
        "read-only array": (np.broadcast_to(IMAGES.numpy(), IMAGES.shape), {}),
        "rows of tuples": (TensorDataset(IMAGES, torch.arange(23)), {}),
        "rows of mappings": (Mappings("pixel_values"), {}),
        "rows of mappings, key given": (Mappings("scan"), {"input_key": "scan"}),
        "rows of PIL images": (Mappings("image", pil=True), {}),
        "rows of a foreign class": (DuckTyped(), {"transform": to_floats}),
        "loader of tuples": (DataLoader(TensorDataset(IMAGES, torch.arange(23)), batch_size=6), {}),
        "loader of mappings": (DataLoader(Mappings("img"), batch_size=6), {}),
        "loader of mappings, key given": (DataLoader(Mappings("scan"), batch_size=6), {"input_key": "scan"}),
        "loader of whole batches": (DataLoader(batches, batch_size=None), {}),
        "stream": (Stream(), {}),
        "list of batches": (batches, {}),
        "generator": ((batch for batch in batches), {}),
        "generator of arrays and labels": (((batch.numpy(), [0] * len(batch)) for batch in batches), {}),
        "generator with empty batches": (itertools.chain([IMAGES[:0]], batches, [IMAGES[:0]]), {}),
        "folder": (folder, {}),
        "folder as text": (str(folder), {}),
        "folder read by workers": (folder, {"num_workers": 2}),
    }


def to_floats(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


MEASURED = {"positions": 9, "seed": 4, "stimuli": ("natural", "rolled", "noise"), "progress": False}


@pytest.fixture(scope="module")
def expected():
    """The result for the images as one tensor."""
    return probe.layerwise(padded_net(depth=2, width=4).double(), IMAGES, **MEASURED)


class TestForms:
    @pytest.mark.parametrize("form", forms(None))
    def test_the_same_images_with_the_same_numbers(self, form, folder):
        images, options = forms(folder)[form]
        pixels, folds = read(images, **options)
        assert list(pixels) == list(range(23))
        assert torch.equal(torch.stack(list(pixels.values())), IMAGES)
        assert list(folds.values()) == [number % 5 for number in range(23)]

    @pytest.mark.parametrize("form", forms(None))
    def test_the_same_results(self, form, folder, expected, left_as_found):
        model = padded_net(depth=2, width=4).double()
        images, options = forms(folder)[form]
        with left_as_found(model):
            result = probe.layerwise(model, images, **MEASURED, **options)
        np.testing.assert_allclose(result.r2, expected.r2, atol=1e-9)
        assert result.attrs["images_digest"] == expected.attrs["images_digest"]

    @pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
    def test_any_batch_size(self, batch_size, folder):
        for images in (IMAGES, folder, DataLoader(TensorDataset(IMAGES), batch_size=batch_size)):
            pixels, _ = read(images, batch_size=batch_size)
            assert torch.equal(torch.stack(list(pixels.values())), IMAGES)

    def test_a_data_set_is_read_fold_by_fold(self):
        batches = list(opened(IMAGES))
        assert [set(batch.folds) for batch in batches[:2]] == [{0}, {0, 1}]
        assert batches[0].numbers == [0, 5, 10, 15]

    def test_a_generator_is_read_once_and_no_further_than_needed(self):
        reads = []

        def batches():
            for start in range(0, 20, 2):
                reads.append(start)
                yield IMAGES[start : start + 2]

        probe.layerwise(padded_net(depth=1), batches(), max_images=15, positions=None, progress=False)
        assert reads == list(range(0, 16, 2))

    def test_the_first_image_shown_beforehand_is_a_copy_and_is_read_again(self):
        batches = [IMAGES[:4].clone()]
        source = opened(batches)
        source.peek().zero_()
        assert torch.equal(next(iter(source)).pixels, IMAGES[:4])


class TestNumbers:
    def test_max_images_are_spaced_evenly_over_a_data_set(self, folder):
        expected = IMAGES[[0, 3, 7, 11, 15, 19]]
        for images in (IMAGES, TensorDataset(IMAGES), folder):
            pixels, folds = read(images, max_images=6)
            assert list(pixels) == [0, 1, 2, 3, 4, 5]
            assert list(folds.values()) == [0, 1, 2, 3, 4, 0]
            assert torch.equal(torch.stack(list(pixels.values())), expected)
            assert opened(images, max_images=6).length == 6

    def test_max_images_are_the_first_of_an_iterable(self):
        loader = DataLoader(TensorDataset(IMAGES), batch_size=4)
        for images in (loader, iter([IMAGES])):
            pixels, _ = read(images, max_images=6)
            assert torch.equal(torch.stack(list(pixels.values())), IMAGES[:6])
        assert opened(loader, max_images=6).length == 6

    def test_more_than_there_are(self):
        assert len(read(IMAGES, max_images=100)[0]) == 23
        assert opened(IMAGES, max_images=100).length == 23

    def test_numbering_continues_from_the_first_image(self):
        for images in (IMAGES, iter([IMAGES])):
            pixels, folds = read(images, first_image=7)
            assert list(pixels) == list(range(7, 30))
            assert list(folds.values()) == [number % 5 for number in range(7, 30)]

    def test_groups_follow_the_place_in_the_data_set(self):
        places = []

        def fold_of(number, place):
            places.append((number, place))
            return 0

        read(IMAGES, max_images=4, first_image=100, fold_of=fold_of)
        assert places == [(100, 100), (101, 105), (102, 111), (103, 117)]
        places.clear()
        read(iter([IMAGES[:2]]), first_image=100, fold_of=fold_of)
        assert places == [(100, 100), (101, 101)]

    @pytest.mark.parametrize(
        ("loader", "length"),
        [
            (DataLoader(TensorDataset(IMAGES), batch_size=4), 23),
            (DataLoader(TensorDataset(IMAGES), sampler=range(7)), 7),
            (DataLoader(Stream(), batch_size=4), None),
        ],
    )
    def test_the_length_of_a_loader(self, loader, length):
        assert opened(loader).length == length

    @pytest.mark.parametrize(
        "options",
        [
            {"shuffle": True},
            {"sampler": SubsetRandomSampler(range(23))},
            {"batch_sampler": BatchSampler(RandomSampler(range(23)), 4, drop_last=False)},
        ],
    )
    def test_a_shuffling_loader_is_warned_of(self, options, left_as_found):
        loader = DataLoader(TensorDataset(IMAGES), **options)
        message = r"the DataLoader shuffles.*Pass its data set, or shuffle=False"
        with pytest.warns(ProbeWarning, match=message) as caught:
            result = layerwise(loader, left_as_found)
        assert np.isfinite(result.r2).all()
        assert caught[0].filename == __file__
        assert "the DataLoader shuffles" in result.attrs["warnings"]


def layerwise(images, left_as_found, **options):
    """Measure a tiny net and check that it is as before."""
    model = padded_net(depth=1)
    with left_as_found(model):
        return probe.layerwise(model, images, positions=None, progress=False, **options)


def empty_generator():
    yield from ()


class TestWrongImages:
    @pytest.mark.parametrize(
        "images",
        [
            IMAGES[:0],
            TensorDataset(IMAGES[:0]),
            DataLoader(TensorDataset(IMAGES[:0])),
            [],
            empty_generator(),
            [IMAGES[:0]],
            Subset(TensorDataset(IMAGES), []),
        ],
    )
    def test_there_are_none(self, images, left_as_found):
        with pytest.raises(ImagesError, match=r"images: there are none\. Pass at least as many images as folds"):
            layerwise(images, left_as_found)

    @pytest.mark.parametrize("files", [(), ("notes.txt", "numbers.csv")])
    def test_a_folder_without_images(self, files, tmp_path, left_as_found):
        for name in files:
            (tmp_path / name).write_text("no image")
        with pytest.raises(ImagesError, match=r"images: no image file below .*\(looked for .*\.png"):
            layerwise(tmp_path, left_as_found)

    @pytest.mark.parametrize("name", ["missing", "file.png"])
    def test_what_is_no_folder(self, name, tmp_path, left_as_found):
        (tmp_path / "file.png").write_bytes(b"")
        with pytest.raises(ImagesError, match=rf"{name}' is no folder\. Pass a folder of image files"):
            layerwise(tmp_path / name, left_as_found)

    @pytest.mark.parametrize("images", [3, 2.5, object(), {"image": IMAGES}])
    def test_what_is_no_data_set(self, images, left_as_found):
        with pytest.raises(ArgumentError, match="images: expected a tensor, Dataset, DataLoader, iterable of batches"):
            layerwise(images, left_as_found)

    @pytest.mark.parametrize(
        ("images", "found"),
        [
            (IMAGES[0], r"\(3, 12, 10\)"),
            (IMAGES[:, 0], r"\(23, 12, 10\)"),
            (IMAGES[None], r"\(1, 23, 3, 12, 10\)"),
            ([IMAGES[0], IMAGES[1]], r"\(3, 12, 10\)"),
            ((IMAGES[:, 0, 0, 0],), r"\(23,\)"),
        ],
    )
    def test_a_missing_axis(self, images, found, left_as_found):
        message = rf"expected shape \(image, channel, row, column\), found {found}.*images\[None\]"
        with pytest.raises(ImagesError, match=message):
            layerwise(images, left_as_found)

    def test_images_without_pixels(self, left_as_found):
        with pytest.raises(ImagesError, match=r"shape \(4, 3, 0, 5\) holds no pixels"):
            layerwise(torch.ones(4, 3, 0, 5), left_as_found)

    @pytest.mark.parametrize(
        ("images", "found"), [(IMAGES[:, :1], 1), (IMAGES.permute(0, 2, 3, 1), 12), (torch.ones(9, 4, 8, 8), 4)]
    )
    def test_wrong_channels(self, images, found, left_as_found):
        message = rf"found {found} channels, but the model's first convolution expects 3.*\(image, channel, row, col"
        with pytest.raises(ImagesError, match=message):
            layerwise(images, left_as_found)

    def test_unequal_sizes_in_one_batch(self, left_as_found):
        rows = Rows([IMAGES[0], IMAGES[1, :, :9]] * 10)
        message = r"one batch holds images of shape \(3, 9, 10\) and \(3, 12, 10\).*transform=.*batch_size=1"
        with pytest.raises(ImagesError, match=message):
            layerwise(rows, left_as_found)

    def test_unequal_sizes_one_by_one(self, left_as_found):
        result = layerwise(Rows([IMAGES[0], IMAGES[1, :, :9]] * 10), left_as_found, batch_size=1)
        assert np.isfinite(result.r2).all()

    @pytest.mark.parametrize("image", [None, "text", object(), [[1, 2], [3]], np.array([None])])
    def test_rows_that_hold_no_image(self, image, left_as_found):
        with pytest.raises(ImagesError, match=r"images: an? .* is no image .*transform=") as raised:
            layerwise(Rows([(image, 0)] * 6), left_as_found)
        assert raised.value.__notes__ == ["probe: while image 0 was read and transformed."]

    @pytest.mark.parametrize("images", [Mappings("scan"), DataLoader(Mappings("scan"))])
    def test_rows_without_a_known_key(self, images, left_as_found):
        with pytest.raises(ImagesError, match=r"a row has the keys label, scan, and none of pixel_values.*input_key="):
            layerwise(images, left_as_found)

    def test_rows_without_the_given_key(self, left_as_found):
        with pytest.raises(ImagesError, match="a row has the keys label, image, and none of scan"):
            layerwise(Mappings("image"), left_as_found, input_key="scan")

    @pytest.mark.parametrize("images", [IMAGES, [IMAGES], DataLoader(TensorDataset(IMAGES))])
    def test_a_transform_of_what_is_no_row(self, images, left_as_found):
        with pytest.raises(ArgumentError, match=r"transform: images is (a tensor|batches), which is taken as it is"):
            layerwise(images, left_as_found, transform=to_floats)

    def test_an_error_in_the_users_data_set(self, left_as_found):
        class Broken(Rows):
            def __getitem__(self, index):
                raise KeyError("no such sample")

        with pytest.raises(KeyError, match="no such sample") as raised:
            layerwise(Broken(IMAGES), left_as_found)
        assert raised.value.__notes__ == ["probe: while image 0 was read and transformed."]


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class TestUnusualValues:
    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.from_numpy(BYTES).permute(0, 3, 1, 2), r"integers \(torch\.uint8\).*Normalise them as in training"),
            (IMAGES > 0.5, r"integers \(torch\.bool\)"),
            (IMAGES * 255, r"values reach 255, as in images of 0 to 255\. Normalise them"),
        ],
    )
    def test_images_that_are_not_normalised_are_warned_of_once(self, images, message, left_as_found):
        with pytest.warns(ProbeWarning, match=message) as caught:
            result = layerwise(images, left_as_found, batch_size=2)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert np.isfinite(result.r2).all()
        assert "Normalise" in result.attrs["warnings"]

    def test_normalised_images_are_not(self, left_as_found):
        layerwise(3 * torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0)), left_as_found)

    def test_images_that_need_gradients(self, left_as_found):
        images = IMAGES.clone().requires_grad_()
        layerwise(images, left_as_found)
        assert images.grad is None

    def test_images_of_one_model_without_convolutions(self, left_as_found):
        model = nn.Sequential(nn.AvgPool2d(2))
        with left_as_found(model):
            result = probe.layerwise(model, IMAGES[:, :1], layers="0", positions=None, progress=False)
        assert np.isfinite(result.r2).all()


def save_all(pixels, folder, count=20):
    for index in range(count):
        Image.fromarray(pixels[index]).save(folder / f"{index:02}.png")


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
        save_all(BYTES, tmp_path)
        path = tmp_path / "07.png"
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        with pytest.warns(ProbeWarning, match=r"images: .*07\.png cannot be read and is left out: ") as caught:
            result = layerwise(tmp_path, left_as_found, num_workers=num_workers)
        assert [warning.filename for warning in caught] == [__file__]
        assert result.attrs["n_images"] == 19
        assert list(json.loads(result.attrs["corrupt"])) == [str(path)]

        expected = probe.collect(padded_net(depth=1), IMAGES[:7], positions=None, progress=False)
        rest = probe.collect(padded_net(depth=1), IMAGES[8:20], first_image=8, positions=None, progress=False)
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
        deep = (BYTES[0, :, :, 0].astype(np.uint16) * 257) + 3
        assert (self.read_back(Image.fromarray(deep), tmp_path, name) == BYTES[0, :, :, :1]).all()

    def test_inks(self, tmp_path):
        image = Image.fromarray(BYTES[0]).convert("CMYK")
        assert (self.read_back(image, tmp_path, "image.tif") == BYTES[0]).all()

    def test_pictures_are_turned_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        turned = self.read_back(Image.fromarray(BYTES[0]), tmp_path, exif=exif)
        assert (turned == np.rot90(BYTES[0], k=-1)).all()

    def test_files_are_sorted_and_found_below_any_folder(self, folder):
        paths = Folder(folder).paths
        assert len(paths) == 23
        assert paths == sorted(paths)
        assert {path.parent.name for path in paths} == {"class0", "class1", "class2"}
