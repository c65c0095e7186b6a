"""Rows and batches that arrive one after the other."""

import multiprocessing
import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from probe.errors import ArgumentError, ImagesError
from probe.images.batches import open_images
from probe.images.shapes import check_shape
from probe.images.streams import End, Stream, refuse_transform
from probe.testing import noise_images

IMAGES = noise_images(5, 4)


def batches_of(elements, *, batch_size=2, max_images=None, labels=False, wanted=None):
    *chunks, end = Stream(elements, batch_size, None, None, max_images, labels, False, wanted=wanted)
    assert isinstance(end, End)
    return chunks


def test_rows_are_put_into_batches():
    batches = batches_of(iter(IMAGES))
    assert [batch.places for batch in batches] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), IMAGES)


def test_batches_stay_as_they_are():
    assert [batch.places for batch in batches_of(IMAGES.split(3))] == [[0, 1, 2], [3, 4]]


def test_labels_come_with_their_rows():
    found = batches_of(zip(IMAGES, range(5), strict=True), labels=True)
    assert [label for batch in found for label in batch.labels] == list(range(5))


def test_no_more_rows_are_read_than_asked_for():
    source = iter(IMAGES)
    stream = iter(Stream(source, 2, None, None, 3, False, False))
    assert [next(stream).places for _ in range(2)] == [[0, 1], [2]]
    assert next(stream) == End(3)
    assert len(list(source)) == 2


@pytest.mark.parametrize(
    ("places", "expected"),
    [({0, 2, 4}, [[0, 2], [4]]), ({1, 2, 3}, [[0], [1, 2], [3]]), (set(), [[0]])],
)  # fmt: skip
def test_batches_of_wanted_rows_are_full_and_the_first_row_is_given_anyway(places, expected):
    batches = batches_of(iter(IMAGES), wanted=places.__contains__)
    assert [batch.places for batch in batches] == expected
    for batch in batches:
        assert torch.equal(batch.pixels, IMAGES[batch.places])


@pytest.mark.parametrize("shape", [(16, 16), (5, 16, 16), (5, 3, 4, 16, 16)])
def test_other_numbers_of_axes_are_refused_with_what_was_found(shape):
    with pytest.raises(ImagesError, match=r"expected shape \(image, channel, row, column\), found"):
        check_shape(np.zeros(shape))


def test_a_transform_of_what_is_taken_as_it_is_is_refused():
    refuse_transform(None, "a tensor")
    with pytest.raises(ArgumentError, match="transform: images is a tensor"):
        refuse_transform(str, "a tensor")


GREYS = [Image.new("RGB", (4, 4), (10 * index,) * 3) for index in range(11)]


class Telling(IterableDataset):
    """Every worker gives all."""

    def __iter__(self):
        yield from GREYS


class Sharing(IterableDataset):
    """Each worker gives a share."""

    def __iter__(self):
        worker = get_worker_info()
        yield from GREYS if worker is None else GREYS[worker.id :: worker.num_workers]


class Batching(IterableDataset):
    """Rows, with a batch among them."""

    def __iter__(self):
        yield from GREYS[:3]
        yield torch.tensor([30.0, 40.0])[:, None, None, None].expand(2, 3, 4, 4) / 255
        yield from GREYS[5:]


def from_hugging_face(folder):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": GREYS, "label": list(range(11))}, features=features)


def from_webdataset(folder):
    webdataset = pytest.importorskip("webdataset")
    for shard, part in enumerate((GREYS[:6], GREYS[6:])):
        with webdataset.TarWriter(f"{folder}/{shard}.tar") as tar:
            for index, image in enumerate(part):
                tar.write({"__key__": f"{shard}{index}", "png": image, "cls": index})
    urls = [f"{folder}/{shard}.tar" for shard in (0, 1)]
    return webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "cls")


SOURCES = {
    "a stream that knows no workers": lambda folder: Telling(),
    "a stream that knows its workers": lambda folder: Sharing(),
    "a stream of rows and batches": lambda folder: Batching(),
    "datasets": from_hugging_face,
    "datasets, streaming": lambda folder: from_hugging_face(folder).to_iterable_dataset(num_shards=3),
    "webdataset": from_webdataset,
}


def numbers_read(images, first_image=100, **options):
    """Return what was read, and number -> grey."""
    batches = open_images(
        images, batch_size=2, input_key=None, first_image=first_image,
        fold_of=lambda number, origin: number % 3, **options,
    )  # fmt: skip
    found = {}
    for batch in batches:
        for number, fold, pixels in zip(batch.numbers, batch.folds, batch.pixels, strict=True):
            assert number not in found
            assert fold == number % 3
            found[number] = round(255 * (pixels.mean().item() - (options["transform"] is not None)))
    return batches, found


class Shuffled(IterableDataset):
    """A new order each time, from its own draws or, with a seed, the same one."""

    def __init__(self, seed=None):
        self.seed = seed

    def __iter__(self):
        draws = random.Random(self.seed)
        yield from draws.sample(GREYS, len(GREYS))


class Uneven(IterableDataset):
    """Fewer images in each process that reads them."""

    def __init__(self):
        self.started = multiprocessing.Value("i")

    def __iter__(self):
        with self.started.get_lock():
            self.started.value += 1
            number = self.started.value
        yield from GREYS[: 11 - number]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_workers_that_see_another_order_are_refused(tmp_path):
    """Each would read batches of its own order, so that images were read twice or not at all."""
    options = {"transform": grey_of, "max_images": None}
    with pytest.raises(ImagesError, match=r"images: image 10\d differs between workers\. .*Pass num_workers=0, do not"):
        numbers_read(Shuffled(), num_workers=2, **options)
    for images, num_workers in ((Shuffled(), 0), (Shuffled(), 1), (Shuffled(seed=1), 2)):
        assert sorted(numbers_read(images, num_workers=num_workers, **options)[1].values()) == list(range(0, 110, 10))
    with pytest.raises(ImagesError, match=r"images: there are \d+ in one worker and \d+ in another\. Each worker"):
        numbers_read(Uneven(), num_workers=2, **options)
    webdataset = pytest.importorskip("webdataset")
    from_webdataset(tmp_path)
    images = webdataset.WebDataset([f"{tmp_path}/0.tar"], shardshuffle=False).shuffle(20).decode("pil").to_tuple("png")
    with pytest.raises(ImagesError, match="differs between workers"):
        numbers_read(images, num_workers=2, **options)


def grey_of(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("source", SOURCES)
def test_each_image_is_read_once_and_has_its_number_with_any_number_of_workers(source, num_workers, tmp_path):
    """Single pictures, which are transformed in the worker."""
    transform = None if "batches" in source else grey_of
    batches, found = numbers_read(
        SOURCES[source](tmp_path), num_workers=num_workers, transform=transform, max_images=10
    )  # fmt: skip
    spaced = [index * 11 // 10 for index in range(10)] if source == "datasets" else range(10)
    assert found == {100 + place: 10 * index for place, index in enumerate(spaced)}
    assert batches.length == 10


def is_share_of_three(place, number):
    return number % 3 == place


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("source", SOURCES)
def test_shares_hold_each_image_once_under_its_number(source, num_workers, tmp_path):
    transform = None if "batches" in source else grey_of
    images, found = SOURCES[source](tmp_path), {}
    for place in (2, 0, 1):
        batches, part = numbers_read(
            images, num_workers=num_workers, transform=transform, max_images=None,
            wanted=partial(is_share_of_three, place),
        )  # fmt: skip
        assert all(number % 3 == place for number in part)
        assert batches.length == 11
        found |= part
    assert found == {100 + place: 10 * place for place in range(11)}


def test_pictures_of_hugging_face_that_are_anothers_are_not_decoded(tmp_path):
    images = from_hugging_face(tmp_path).to_iterable_dataset()
    damaged = images.decode(False).map(lambda row, place: {"image": row["image"] | ({} if place in (0, 4) else {
        "bytes": b"no image"})}, with_indices=True, features=images.decode(False).features).decode()  # fmt: skip
    options = {"num_workers": 0, "transform": grey_of, "max_images": None, "first_image": 0}
    assert numbers_read(damaged, wanted=lambda number: number == 4, **options)[1] == {4: 40}
    with pytest.raises(OSError, match="cannot identify image"):
        numbers_read(damaged, wanted=lambda number: number == 5, **options)
