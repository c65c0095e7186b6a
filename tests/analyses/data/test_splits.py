"""Images of training and test from folders: windows, and what is said of folders that will not do."""

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from probe.analyses.augshift import study as augshift
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import (
    RandomCrops,
    Split,
    check_folder,
    crop_batches,
    open_splits,
    random_crops,
    read_splits,
)
from probe.analyses.data_efficiency import study as data_efficiency
from probe.analyses.gapnet import study as gapnet
from probe.analyses.shifts import study as shifts
from probe.errors import ArgumentError, ImagesError, TooLargeError


def write(folder, counts, size=(8, 8)):
    """Folders of classes with so many images of noise each."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train", {"cat": 6, "dog": 6})
    write(tmp_path / "val", {"cat": 2, "dog": 2})
    return tmp_path


def test_images_are_read_with_their_classes(folder):
    training, test, classes = read_splits(folder, size=8, counts=(6, None), where="CIFAR-10")
    assert classes == ["cat", "dog"] and training.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert training.images.shape == (6, 3, 8, 8) and test.labels.tolist() == [0, 0, 1, 1]
    pixels = np.asarray(Image.open(folder / "val" / "dog" / "1.png")) / 255
    np.testing.assert_allclose(test.images[3].permute(1, 2, 0), pixels, atol=1e-6)


def test_what_is_missing_is_told_with_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(ImagesError, match=r"it has no folder train/\. Get CIFAR-10 from https://.* train/<class>/<n"):
        open_splits(tmp_path / "nowhere", where="CIFAR-10")
    write(tmp_path / "train", {"cat": 1, "dog": 1})
    with pytest.raises(ImagesError, match=r"no folder test/\. Get the images of ILSVRC 2012 .* val/<wnid>/<file>"):
        open_splits(tmp_path, where="ImageNet")


def test_one_class_is_none(folder, tmp_path):
    write(tmp_path / "one" / "train", {"cat": 3})
    (tmp_path / "one" / "train" / "empty").mkdir()
    write(tmp_path / "one" / "test", {"cat": 3})
    with pytest.raises(ImagesError, match=r"one/train: all are of one class, 'cat'\. A classifier needs two"):
        read_splits(tmp_path / "one", size=8, counts=(None, None), where="CIFAR-10")


def test_classes_are_the_same_in_both(folder):
    write(folder / "val", {"cow": 1})
    with pytest.raises(ImagesError, match=r"the classes of train/ and val/ differ in cow\."):
        open_splits(folder, where="CIFAR-10")


def test_fewer_images_than_asked_for_are_told(folder):
    with pytest.raises(ImagesError, match=r"train: 12 found, 100 needed\. Add images, or choose a smaller preset"):
        read_splits(folder, size=8, counts=(100, 4), where="CIFAR-10")
    with pytest.raises(ImagesError, match=r"val: 4 found, 5 needed\."):
        read_splits(folder, size=8, counts=(12, 5), where="CIFAR-10")


def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ImagesError, match=r"cat/0\.png cannot be read: .*\. Mend or remove it\."):
        read_splits(folder, size=8, counts=(None, None), where="CIFAR-10")
    crops = RandomCrops(ClassFolder(folder / "train"), 8, seed=0)
    with pytest.raises(ImagesError, match=r"cat/0\.png cannot be read"):
        list(crops.batches(steps=2, batch_size=6, num_workers=0))


def test_what_does_not_fit_into_memory_is_told_before_it_is_read(folder, monkeypatch):
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(TooLargeError, match=r"images: 16 of 8×8 pixels would take .* Choose a smaller preset"):
        read_splits(folder, size=8, counts=(None, None), where="CIFAR-10")


def coordinates(count, size):
    """Images whose channels hold their number, row and column."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([torch.stack([torch.full_like(row, number), row, column]) for number in range(count)]).float()


def test_windows_lie_anywhere_alike_and_hold_their_own_image():
    crops = random_crops(coordinates(900, 8), 6, torch.Generator().manual_seed(0))
    corner = crops[:, :, 0, 0]
    assert torch.equal(corner[:, 0], torch.arange(900.0))
    assert torch.equal(crops - corner[:, :, None, None], coordinates(1, 6).expand(900, -1, -1, -1))
    counts = torch.bincount((3 * corner[:, 1] + corner[:, 2]).long(), minlength=9)
    assert len(counts) == 9 and ((counts - 100).abs() < 40).all()  # four standard deviations


def test_batches_show_each_image_once_before_any_is_shown_again():
    split = Split(coordinates(10, 8), torch.arange(10))
    batches = list(crop_batches(split, 6, steps=5, batch_size=4, seed=1, flipped=False, views=2))
    again = list(crop_batches(split, 6, steps=5, batch_size=4, seed=1, flipped=False, views=2))
    labels = torch.cat([batch[2] for batch in batches])
    assert sorted(labels[:10].tolist()) == sorted(labels[10:].tolist()) == list(range(10))
    assert all(
        torch.equal(a, b) for one, two in zip(batches, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    first, second = (torch.cat([batch[view] for batch in batches]) for view in (0, 1))
    assert torch.equal(first[:, 0, 0, 0], labels.float()) and not torch.equal(first, second)
    assert torch.equal(first[:, 0], second[:, 0])


def test_half_of_the_images_are_mirrored_in_both_views_alike():
    split = Split(coordinates(10, 8), torch.arange(10))
    ((first, second, _),) = crop_batches(split, 6, steps=1, batch_size=400, seed=0, flipped=True, views=2)
    mirrored = [(view[:, 2, 0, 1] - view[:, 2, 0, 0]) == -1 for view in (first, second)]
    assert torch.equal(*mirrored) and 150 < mirrored[0].sum() < 250


def test_large_images_give_windows_of_any_size_that_workers_do_not_change(tmp_path):
    write(tmp_path, {"cat": 3, "dog": 3}, size=(40, 60))
    crops = RandomCrops(ClassFolder(tmp_path), 16, seed=0)
    alone, beside, other = (
        list(RandomCrops(crops.files, 16, seed=seed).batches(steps=5, batch_size=2, num_workers=workers))
        for workers, seed in ((0, 0), (2, 0), (0, 1))
    )
    assert len(alone) == 5
    for (images, labels), (same, same_labels) in zip(alone, beside, strict=True):
        assert images.shape == (2, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
        assert torch.equal(images, same) and torch.equal(labels, same_labels)
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(alone, other, strict=True))
    # Three batches are an epoch; the next shows the same images otherwise.
    assert sorted(torch.cat([labels for _, labels in alone[:3]]).tolist()) == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(alone[0][0], alone[3][0])


def test_windows_have_the_areas_and_shapes_of_random_resized_crops(tmp_path, monkeypatch):
    write(tmp_path, {"cat": 1, "dog": 1}, size=(100, 140))
    boxes = []
    resize = Image.Image.resize

    def noting(self, *args, **given):
        boxes.append(given["box"])
        return resize(self, *args, **given)

    monkeypatch.setattr(Image.Image, "resize", noting)
    crops = RandomCrops(ClassFolder(tmp_path), 4, seed=0)
    for crops.epoch in range(600):
        crops[0]
    left, upper, right, lower = np.array(boxes).T
    width, height = right - left, lower - upper
    share, ratio = width * height / 14_000, width / height
    assert left.min() >= 0 and upper.min() >= 0 and right.max() <= 140 and lower.max() <= 100
    assert 0.075 < share.min() < 0.12 and share.max() > 0.85
    assert 0.7 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.45


@pytest.mark.parametrize("study", [augshift, data_efficiency, gapnet, shifts])
def test_a_folder_that_tiny_would_not_read_is_refused(study, tmp_path):
    message = r"images='.*': the preset 'tiny' takes digits, so a folder would have no effect\. Leave it out, or choose"
    with pytest.raises(ArgumentError, match=message):
        study.run(images=tmp_path, preset="tiny", seeds=1, progress=False)


def test_folders_are_taken_by_quick_and_needed_by_paper():
    check_folder(None, "tiny", needed="CIFAR-10", where="CIFAR-10")
    check_folder("photos", "quick", needed="CIFAR-10", where="CIFAR-10")
    with pytest.raises(
        ArgumentError, match=r"images: none given, and the preset 'paper' needs CIFAR-10\. Get CIFAR-10"
    ):
        check_folder(None, "paper", needed="CIFAR-10", where="CIFAR-10")
