"""Digits on their canvas, and folders of images beside label maps."""

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from probe.analyses.data import (
    CANVAS,
    ClassFolder,
    LabelledFolder,
    LabelTable,
    digit_batches,
    keep_shown,
    load_digits,
    place_digits,
)
from probe.errors import ImagesError
from probe.images.batches import open_images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_digits_are_split_without_overlap():
    training, held_out = load_digits()
    labels = sklearn.datasets.load_digits().target
    np.testing.assert_array_equal(held_out.labels, labels[::4])
    assert len(training) + len(held_out) == len(labels)
    assert training.strokes.shape[1:] == (16, 16)
    assert training.strokes.min() == 0 and training.strokes.max() <= 1
    assert set(held_out.labels.tolist()) == set(range(10))


def test_placed_digits_differ_from_their_background_where_the_strokes_are():
    _, held_out = load_digits()
    strokes = held_out.strokes[:50]
    images = place_digits(strokes, generator())[:, 0]
    background = place_digits(torch.zeros_like(strokes), generator())[:, 0]
    difference = images - background
    assert difference.min() > -1e-5
    np.testing.assert_allclose(difference.sum((1, 2)), 1.5 * strokes.sum((1, 2)), rtol=1e-4)


def test_photographers_habits():
    training, _ = load_digits()
    strokes = torch.ones_like(training.strokes)
    images = place_digits(strokes, generator())[:, 0]
    background = place_digits(torch.zeros_like(strokes), generator())[:, 0]
    light = background.mean(0)
    assert light[0].mean() > light[CANVAS // 2].mean() > light[-1].mean()
    assert light[:, 0].mean() > light[:, -1].mean()
    covered = (images - background > 1).float().mean(0)
    assert covered[CANVAS // 2, CANVAS // 2] > 0.9
    assert covered[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 0.05


def test_batches_of_one_seed_are_equal():
    training, _ = load_digits()
    first, second = (list(digit_batches(training, steps=2, batch_size=4, seed=1)) for _ in range(2))
    assert len(first) == 2
    for (images, labels), (same_images, same_labels) in zip(first, second, strict=True):
        assert torch.equal(images, same_images) and torch.equal(labels, same_labels)
    (other, _), *_ = digit_batches(training, steps=1, batch_size=4, seed=2)
    assert not torch.equal(first[0][0], other)


@pytest.fixture
def folders(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a/2", "a/1", "b/3"):
        for kind, shape in (("images", (4, 6, 3)), ("labels", (4, 6))):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 12, shape, dtype=np.uint8)).save(path)
    return tmp_path / "images", tmp_path / "labels"


def pixels_of(path):
    return torch.from_numpy(np.array(Image.open(path)))


def test_rows_are_images_and_their_classes_in_sorted_order(folders):
    images, labels = folders
    rows = LabelledFolder(images, labels)
    assert len(rows) == 3
    for index, name in enumerate(("a/1.png", "a/2.png", "b/3.png")):
        image, label = rows[index]
        assert torch.from_numpy(np.array(image)).equal(pixels_of(images / name))
        assert label.equal(pixels_of(labels / name).long())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_labels_stay_with_their_images_through_folds_and_workers(folders, num_workers):
    rows = LabelledFolder(*folders)
    source = open_images(
        rows, batch_size=2, num_workers=num_workers, transform=None, input_key=None, max_images=None, first_image=0,
        fold_of=lambda number, origin: -number, labels=True,
    )  # fmt: skip
    seen = {}
    for batch in source:
        seen |= dict(zip(batch.numbers, batch.labels, strict=True))
    assert list(seen) == [2, 1, 0]
    assert all(label.equal(rows[number][1]) for number, label in seen.items())


def test_an_image_without_a_label_and_one_that_cannot_be_read(folders):
    images, labels = folders
    (images / "b" / "3.png").write_bytes(b"no image")
    rows = LabelledFolder(images, labels)
    assert "3.png" in rows[2].path
    (labels / "a" / "2.png").unlink()
    with pytest.raises(ImagesError, match=r"1 of 3 images have none, .*2\.png"):
        LabelledFolder(images, labels)


def test_classes_are_the_folders_in_sorted_order_empty_ones_and_links_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    for place, name in enumerate(("root/cat/deep/1", "store/1", "root/dog/2")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[place]).save(path)
    (tmp_path / "root" / "cow").mkdir()
    (tmp_path / "root" / "bee").symlink_to(tmp_path / "store", target_is_directory=True)
    rows = ClassFolder(tmp_path / "root")
    assert rows.classes == ["bee", "cat", "cow", "dog"]
    assert [label for _, label in rows] == [0, 1, 3]
    assert all((np.asarray(rows[row][0]) == pixels[place]).all() for row, place in enumerate((1, 0, 2)))
    source = open_images(
        rows, batch_size=2, num_workers=0, transform=None, input_key=None, max_images=None, first_image=0,
        fold_of=lambda number, origin: -number, labels=True,
    )  # fmt: skip
    assert [label for batch in source for label in batch.labels] == [3, 1, 0]


def test_greys_of_sixteen_bits_beside_labels_keep_their_range_or_are_told(tmp_path):
    for name, scale in (("a", 257), ("b", 1)):
        (tmp_path / name / "cat").mkdir(parents=True)
        values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 11 * scale
        Image.fromarray(values).save(tmp_path / name / "cat" / "1.png")
        rows = ClassFolder(tmp_path / name)
        assert (np.asarray(rows[0][0])[:, :, 0] == values // scale).all()
        assert len(rows.guesses()) == (scale == 1)


def test_copies_of_what_was_shown_share_size_and_brightness():
    grey = torch.full((2, 1, 100, 100), 0.4)
    ramp = torch.linspace(0, 1, 10).expand(2, 3, 10, 10)
    kept = keep_shown({"grey": grey, "ramp": ramp})
    assert kept.shape == (2, 2, 64, 64, 3) and kept.dtype == np.uint8
    assert np.unique(kept.sel(shown="grey")).tolist() == [102]
    np.testing.assert_array_equal(np.unique(kept.sel(shown="ramp")), np.round(255 * np.linspace(0, 1, 10)))


def test_each_image_has_a_brightness_of_its_own():
    images = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    kept = keep_shown({"natural": torch.cat([images, 10 * images]), "half": torch.cat([images / 2, 5 * images])})
    assert kept.sel(shown="half").isel(shown_row=0, colour=0).values.tolist() == [[0, 128], [0, 128]]


def test_classes_come_from_a_table_by_path_or_name_with_or_without_a_heading(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    for name in ("a/1.png", "2.png"):
        Image.new("RGB", (2, 3)).save(tmp_path / "images" / name)
    for text in ("file,class\n1.png,4\n2.png, 7\n", "a/1.png,4\n2.png,7\n"):
        (tmp_path / "labels.csv").write_text(text)
        rows = LabelTable(tmp_path / "images", tmp_path / "labels.csv")
        named = {path.name: label for path, label in zip(rows.paths, rows.labels, strict=True)}
        assert named == {"1.png": 4, "2.png": 7}
        image, label = rows[0]
        assert image.size == (2, 3) and label == rows.labels[0]


def test_a_table_without_some_image_or_with_other_words_is_refused_with_the_line(tmp_path):
    Image.new("RGB", (2, 3)).save(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text("2.png,0\n")
    with pytest.raises(ImagesError, match=r"labels: 1 of 1 images are not in .*labels\.csv, .*1\.png for one"):
        LabelTable(tmp_path, tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("file,class\n1.png,cat\n")
    with pytest.raises(ImagesError, match=r"labels: line 2 of .*labels\.csv is '1\.png,cat'"):
        LabelTable(tmp_path, tmp_path / "labels.csv")
    with pytest.raises(ImagesError, match=r"labels: .*none\.csv cannot be read"):
        LabelTable(tmp_path, tmp_path / "none.csv")
