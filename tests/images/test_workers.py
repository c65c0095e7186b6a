"""Processes that read images, in each way that Python starts them."""

import multiprocessing
import sys
from types import ModuleType

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from probe.errors import ArgumentError, ImagesError
from probe.images.batches import open_images
from probe.testing import noise_images

IMAGES = noise_images(9, 4)


class Odd:
    """Which images are wanted."""

    def __call__(self, number):
        return number % 2 == 1


class Arriving(IterableDataset):
    def __iter__(self):
        yield from IMAGES


class Holding(Dataset):
    """Rows that are made by a function."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return self.make(IMAGES[index])


def read(images, **options):
    """Return the images by their numbers."""
    source = open_images(
        images, batch_size=2, input_key=None, max_images=None, first_image=0,
        fold_of=lambda number, origin: 0, **options,
    )  # fmt: skip
    return {number: image for batch in source for number, image in zip(batch.numbers, batch.pixels, strict=True)}


@pytest.fixture
def starting():
    """Choose how processes are started."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_forkserver_preload(["probe.images.batches"])  # both workers then share one import of torch
    yield lambda method: multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize(
    ("method", "images", "num_workers"), [("spawn", TensorDataset(IMAGES), 1), ("forkserver", Arriving(), 2)]
)
def test_images_are_read_however_processes_start(method, images, num_workers, starting):
    starting(method)
    found = read(images, transform=torch.square, wanted=Odd(), num_workers=num_workers)
    found.pop(0, None)  # of a stream the first image is given anyway
    assert list(found) == [1, 3, 5, 7]
    assert torch.equal(torch.stack(list(found.values())), IMAGES[1::2].square())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_cannot_be_sent_is_named(method, starting):
    class Local(IterableDataset):
        def __iter__(self):
            yield from IMAGES

    starting(method)
    cure = rf"Python starts processes by '{method}'.* at the top of a module .*num_workers=0\."
    for images in (TensorDataset(IMAGES), Arriving()):
        with pytest.raises(ArgumentError, match=rf"transform=<function .*<lambda>.* cannot be sent to .*: .*{cure}"):
            read(images, transform=lambda image: image, num_workers=1)
    generator = (image for image in IMAGES)
    for images in (Local(), Holding(lambda image: image), Holding(generator)):
        name = type(images).__name__
        with pytest.raises(ImagesError, match=rf"images: a {name} cannot be sent to workers: .*{cure}") as raised:
            read(images, transform=None, num_workers=1)
        assert raised.value.__cause__ is not None


def test_what_a_notebook_defines_is_named(starting, monkeypatch):
    """It is pickled by its name, and a worker that does not find it dies; here at once, as it finds no module."""
    notebook = ModuleType("__main__")
    notebook.to_square = type("to_square", (), {"__module__": "__main__", "__call__": lambda self, image: image})
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    monkeypatch.setattr(sys, "path", [])
    starting("spawn")
    named = r"transform=.* cannot be sent to workers: to_square is of a notebook or prompt, which they do not see\."
    with pytest.raises(ArgumentError, match=named):
        read(TensorDataset(IMAGES), transform=notebook.to_square(), num_workers=1)


def test_a_worker_that_dies_is_explained(starting, monkeypatch):
    starting("spawn")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RuntimeError, match="exited unexpectedly") as raised:
        read(TensorDataset(IMAGES), transform=None, num_workers=1)
    assert "num_workers=0" in raised.value.__notes__[-1]
