"""Images of training and test from folders, and what is said of folders that will not do."""

import numpy as np
import psutil
import pytest
from PIL import Image

from probe.analyses.augshift import study as augshift
from probe.analyses.data.crops import RandomCrops
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import check_folder, open_splits, read_splits
from probe.analyses.data_efficiency import study as data_efficiency
from probe.analyses.gapnet import study as gapnet
from probe.analyses.shifts import study as shifts
from probe.errors import ArgumentError, ImagesError, TooLargeError
from tests.pictures import save_classes


@pytest.fixture
def folder(tmp_path):
    save_classes(tmp_path / "train", {"cat": 6, "dog": 6})
    save_classes(tmp_path / "val", {"cat": 2, "dog": 2})
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
    save_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    with pytest.raises(ImagesError, match=r"no folder test/\. Get the images of ILSVRC 2012 .* val/<wnid>/<file>"):
        open_splits(tmp_path, where="ImageNet")


def test_one_class_is_none(folder, tmp_path):
    save_classes(tmp_path / "one" / "train", {"cat": 3})
    (tmp_path / "one" / "train" / "empty").mkdir()
    save_classes(tmp_path / "one" / "test", {"cat": 3})
    with pytest.raises(ImagesError, match=r"one/train: all are of one class, 'cat'\. A classifier needs two"):
        read_splits(tmp_path / "one", size=8, counts=(None, None), where="CIFAR-10")


def test_classes_are_the_same_in_both(folder):
    save_classes(folder / "val", {"cow": 1})
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
