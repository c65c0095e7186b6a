"""Every form of data set gives the same numbered images; what is no image is named."""

import itertools
import re
from collections import UserDict

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
from probe.images.folders import Folder
from probe.testing import padded_net
from tests.pictures import BYTES, IMAGES, opened

pytestmark = pytest.mark.usefixtures("one_thread")


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


class Pictures(IterableDataset):
    """Rows as streams of Hugging Face give them."""

    def __iter__(self):
        return ({"image": Image.fromarray(pixels), "label": 0} for pixels in BYTES)


class Batches(IterableDataset):
    def __iter__(self):
        return ((part, torch.zeros(len(part))) for part in IMAGES.split(4))


def apart(rows):
    """Collate as detection does: a tuple of the images, of equal size here."""
    return tuple(zip(*rows, strict=True))


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
        "list of tensors": (list(IMAGES), {}),
        "tuple of tensors": (tuple(IMAGES), {}),
        "list of arrays": (list(IMAGES.numpy()), {}),
        "list of PIL images": ([Image.fromarray(pixels) for pixels in BYTES], {}),
        "list of images and labels": ([(image, 3) for image in IMAGES], {}),
        "list of mappings": ([{"image": Image.fromarray(pixels), "label": 3} for pixels in BYTES], {}),
        "list transformed": ([Image.fromarray(pixels) for pixels in BYTES], {"transform": to_floats}),
        "list of batches, each a list": ([[list(part)] for part in batches], {}),
        "generator of rows": ((image for image in IMAGES), {}),
        "generator of PIL images": ((Image.fromarray(pixels) for pixels in BYTES), {}),
        "generator of rows transformed": ((BYTES[index] for index in range(23)), {"transform": to_floats}),
        "generator of mappings": (({"image": Image.fromarray(pixels), "label": 3} for pixels in BYTES), {}),
        "stream of PIL images": (Pictures(), {}),
        "stream of PIL images, transformed": (Pictures(), {"transform": to_floats}),
        "stream read by a worker": (Pictures(), {"transform": to_floats, "num_workers": 1}),
        "stream of batches": (Batches(), {}),
        "loader of rows": (DataLoader(TensorDataset(IMAGES), batch_size=None), {}),
        "loader of rows transformed": (
            DataLoader(DuckTyped(), batch_size=None, collate_fn=lambda row: row),
            {"transform": to_floats},
        ),
        "loader of tuples of images": (DataLoader(TensorDataset(IMAGES), batch_size=6, collate_fn=apart), {}),
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

    @pytest.mark.filterwarnings("ignore:.* images. cells of one image are alike:probe.errors.ProbeWarning")
    def test_a_generator_is_read_once_and_no_further_than_needed(self):
        reads = []

        def batches():
            for start in range(0, 20, 2):
                reads.append(start)
                yield IMAGES[start : start + 2]

        probe.layerwise(padded_net(depth=1), batches(), max_images=15, positions=None, progress=False)
        assert reads == list(range(0, 16, 2))

    def test_rows_of_a_generator_are_read_no_further_than_needed(self):
        reads = []
        rows = (reads.append(index) or IMAGES[index] for index in range(20))
        pixels, _ = read(rows, max_images=6)
        assert (len(pixels), reads) == (6, list(range(6)))


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


WRONG_AXES = [
    (IMAGES[0], r"\(3, 12, 10\)", ("a single image: images[None]", IMAGES[0][None])),
    (BYTES[0], r"\(12, 10, 3\)", ("images.transpose(2, 0, 1)[None]", BYTES[0].transpose(2, 0, 1)[None])),
    (IMAGES[:, 0], r"\(23, 12, 10\)", ("as for greys: images[:, None]", IMAGES[:, 0][:, None])),
    (IMAGES[None], r"\(1, 23, 3, 12, 10\)", ("Drop one axis: images[0]", IMAGES[None][0])),
    (IMAGES[:, None], r"\(23, 1, 3, 12, 10\)", ("Drop one axis: images[:, 0]", IMAGES[:, None][:, 0])),
    (IMAGES[:20].reshape(5, 4, 3, 12, 10), r"\(5, 4, 3, 12, 10\)", ("images.flatten(0, 1)", IMAGES[:20])),
    (IMAGES.flatten(1), r"\(23, 360\)", ("images.reshape(23, channels, rows, columns)", IMAGES.reshape(23, 3, 12, 10))),
    (IMAGES[:, 0, 0, 0], r"\(23,\)", ("rows are to be images", IMAGES)),
]

WRONG_ROWS = [
    (IMAGES[:1], r"\(1, 3, 12, 10\)", "It has an axis of its own: take image[0] in the data set, or in transform="),
    (IMAGES[:4], r"\(4, 3, 12, 10\)", "DataLoader(images, batch_size=None)"),
    (IMAGES[0, 0], r"\(12, 10\)", "Add the axis of the channel in the data set, or in transform=: image[None]"),
    ((7, IMAGES[0], 1), r"\(\)", "a row is to be an image, or to begin with one, as (image, label)"),
]


class Constant(Dataset):
    """The same row again and again."""

    def __init__(self, row, length=20):
        self.row, self.length = row, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.row


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

    @pytest.mark.parametrize(("images", "found", "mend"), WRONG_AXES)
    def test_a_wrong_number_of_axes_is_told_with_the_cure_that_fits(self, images, found, mend, left_as_found):
        cure, mended = mend
        message = rf"expected shape \(image, channel, row, column\), found {found}\. .*{re.escape(cure)}"
        with pytest.raises(ImagesError, match=message):
            layerwise(images, left_as_found)
        assert torch.equal(torch.stack(list(read(mended)[0].values())), torch.as_tensor(mended))

    @pytest.mark.parametrize(("row", "found", "cure"), WRONG_ROWS)
    @pytest.mark.parametrize("make", [lambda row: Constant(row), lambda row: [row] * 6, lambda row: iter([row] * 6)])
    def test_a_row_with_a_wrong_number_of_axes(self, row, found, cure, make, left_as_found):
        if found.count(",") > 2 and not isinstance(make(row), Constant):
            return  # in a list or iterable it is a batch
        message = rf"an image has the shape {found}; expected \(channel, row, column\)\. .*{re.escape(cure)}"
        with pytest.raises(ImagesError, match=message):
            layerwise(make(row), left_as_found)

    @pytest.mark.parametrize(
        ("row", "cure"),
        [
            (IMAGES[:1], "take image[0] in the loader's data set"),
            (IMAGES[:4], "DataLoader(..., batch_size=None)"),
            (IMAGES[0, 0], "to each row of the loader's data set: image[None]"),
            (3, "are to be images, or to begin with one"),
        ],
    )
    def test_a_loader_of_rows_with_a_wrong_number_of_axes(self, row, cure, left_as_found):
        with pytest.raises(ImagesError, match=rf"found \(4, .*{re.escape(cure)}|found \(4,\).*{re.escape(cure)}"):
            layerwise(DataLoader(Constant(row), batch_size=4), left_as_found)

    def test_rows_that_are_batches_are_read_as_the_error_says(self):
        pixels, _ = read(DataLoader(Constant(IMAGES[:4], length=3), batch_size=None))
        assert torch.equal(torch.stack(list(pixels.values())), IMAGES[:4].repeat(3, 1, 1, 1))

    def test_images_and_labels_in_one_tuple(self, left_as_found):
        for labels in (torch.arange(23), list(range(23)), np.arange(23)):
            with pytest.raises(ImagesError, match=r"of images and their labels\. Pass torch\.utils\.data\.TensorData"):
                layerwise((IMAGES, labels), left_as_found)

    @pytest.mark.parametrize("element", [[IMAGES[0], IMAGES[1]], (IMAGES[0], IMAGES[1], IMAGES[2])])
    def test_a_list_that_may_be_a_batch_or_a_row(self, element, left_as_found):
        with pytest.raises(ImagesError, match=r"which may be a batch, or an image with its label\. Stack a batch"):
            layerwise(iter([element] * 6), left_as_found)

    def test_paths_without_and_with_what_opens_them(self, folder, left_as_found):
        paths = [str(path) for path in Folder(folder).paths]
        with pytest.raises(ImagesError, match=r"a str is no image .*transform=PIL\.Image\.open, which opens each path"):
            layerwise(paths, left_as_found)
        pixels, _ = read(paths, transform=Image.open)
        assert torch.equal(torch.stack(list(pixels.values())), IMAGES)

    def test_a_transform_that_gives_a_mapping_as_those_of_hugging_face(self, left_as_found):
        def processor(image):
            return UserDict(pixel_values=[np.asarray(image)])

        with pytest.raises(ImagesError, match=r"transform= gave a UserDict with pixel_values.*\['pixel_values'\]\[0\]"):
            layerwise(list(IMAGES), left_as_found, transform=processor)
        pixels, _ = read(list(IMAGES), transform=lambda image: processor(image)["pixel_values"][0])
        assert torch.equal(torch.stack(list(pixels.values())), IMAGES)

    @pytest.mark.parametrize("images", [IMAGES, TensorDataset(IMAGES), [IMAGES]])
    def test_a_key_of_rows_that_are_no_mappings(self, images, left_as_found):
        with pytest.raises(ArgumentError, match=r"input_key='scan': no entry of a row.*leave it out"):
            layerwise(images, left_as_found, input_key="scan")

    def test_a_place_in_rows_that_are_tuples(self, left_as_found):
        rows = [(number, image) for number, image in enumerate(IMAGES)]
        pixels, _ = read(rows, input_key=1)
        assert torch.equal(torch.stack(list(pixels.values())), IMAGES)
        with pytest.raises(ArgumentError, match=r"input_key=2: no entry of a row, which is a tuple"):
            layerwise(rows, left_as_found, input_key=2)

    @pytest.mark.parametrize(
        ("images", "cure"),
        [
            ({"train": TensorDataset(IMAGES)}, r"Pass one of its entries, such as images\['train'\]"),
            (Image.fromarray(BYTES[0]), "Pass a list of images"),
            (TensorDataset, "Pass an object of the class"),
        ],
    )
    def test_containers_that_hold_the_data_set(self, images, cure, left_as_found):
        with pytest.raises(ArgumentError, match=f"expected a tensor, Dataset, DataLoader, .*{cure}"):
            layerwise(images, left_as_found)

    def test_a_loader_that_cannot_collate_pictures(self, left_as_found):
        with pytest.raises(TypeError) as raised:
            layerwise(DataLoader(Mappings("image", pil=True)), left_as_found)
        assert raised.value.__notes__ == [
            "probe: pass the loader's data set as images=; PIL images of its rows become tensors."
        ]

    def test_images_without_pixels(self, left_as_found):
        with pytest.raises(ImagesError, match=r"shape \(4, 3, 0, 5\) holds no pixels"):
            layerwise(torch.ones(4, 3, 0, 5), left_as_found)

    @pytest.mark.parametrize(
        ("images", "found", "cure"),
        [
            (IMAGES[:, :1], 1, "images.expand(-1, 3, -1, -1)"),
            (IMAGES.permute(0, 2, 3, 1), 12, "images.permute(0, 3, 1, 2)"),
            (torch.ones(9, 4, 8, 8), 4, "Bring them to 3 channels"),
        ],
    )
    def test_wrong_channels(self, images, found, cure, left_as_found):
        message = (
            rf"found {found} channels, but the model's first convolution expects 3.*\(image, channel, row, column\)\. "
            rf".*{re.escape(cure)}"
        )
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


class TestGreyModels:
    """Models whose first convolution takes one channel."""

    @pytest.fixture
    def model(self):
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1"])
    def test_pictures_and_files_become_one_channel(self, mode, model, tmp_path, left_as_found):
        pictures = [Image.fromarray(pixels).convert(mode) for pixels in BYTES]
        suffix = "tif" if mode == "CMYK" else "png"
        for index, picture in enumerate(pictures):
            picture.save(tmp_path / f"{index:02}.{suffix}")
        expected = np.stack([np.asarray(picture.convert("RGB").convert("L")) for picture in pictures])[:, None] / 255
        expected = layerwise_of(model, torch.from_numpy(expected).float(), left_as_found)
        for images in (pictures, Rows(pictures), iter(pictures), Rows([(p, 1) for p in pictures]), tmp_path):
            found = layerwise_of(model, images, left_as_found)
            assert found.attrs["images_digest"] == expected.attrs["images_digest"]
            np.testing.assert_array_equal(found.r2, expected.r2)

    def test_a_transform_of_files_takes_greys(self, model, folder, left_as_found):
        modes = set()

        def transform(image):
            modes.add(image.mode)
            return torch.from_numpy(np.array(image))[None].float() / 255

        result = layerwise_of(model, folder, left_as_found, transform=transform)
        assert modes == {"L"}
        assert result.attrs["n_images"] == 23

    def test_tensors_are_not_converted_and_the_cure_works(self, model, left_as_found):
        with pytest.raises(ImagesError, match=r"expects 1\..*images\.mean\(1, keepdim=True\), or image\.mean\(0"):
            layerwise_of(model, IMAGES, left_as_found)
        layerwise_of(model, IMAGES.mean(1, keepdim=True), left_as_found)
        layerwise_of(model, list(IMAGES), left_as_found, transform=lambda image: image.mean(0, keepdim=True))

    def test_greys_for_a_model_of_three_channels(self, left_as_found):
        grey = IMAGES[:, :1]
        with pytest.raises(ImagesError, match=r"expects 3\..*images\.expand\(-1, 3, -1, -1\), or image\.expand\(3,"):
            layerwise(grey, left_as_found)
        layerwise(grey.expand(-1, 3, -1, -1), left_as_found)
        layerwise(list(grey), left_as_found, transform=lambda image: image.expand(3, -1, -1))


def layerwise_of(model, images, left_as_found, **options):
    with left_as_found(model):
        return probe.layerwise(model, images, positions=None, progress=False, **options)
