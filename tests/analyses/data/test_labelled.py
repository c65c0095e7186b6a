"""Files beside their classes and their label maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from probe.analyses.data.labelled import ClassFolder, LabelledFolder, LabelTable
from probe.errors import ImagesError
from probe.images.batches import open_images


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
