"""Which images are read, and features that are the same kept or computed anew."""

import re

import pytest
import torch
from PIL import Image

import probe
from probe.analyses.posenet import images as posenet_images
from probe.analyses.posenet import study as posenet
from probe.analyses.posenet.images import FeatureSource, find_images, resized
from probe.analyses.posenet.readouts import (
    BlockReader,
)
from probe.errors import ImagesError
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def rolled(images):
    return probe.images.stimuli.apply_stimulus("rolled", images, range(len(images)), seed=1)


def save_images(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30), (10 * number, 0, 0)).save(path)


def found(images, **options):
    return find_images(images, **{"n_training": 4, "n_test": 2, "max_images": None, "may_be_made": False, **options})


def test_the_published_data_sets_are_found_by_their_layout(tmp_path):
    save_images(tmp_path, [f"DUTS-TR/DUTS-TR-Image/{name}.jpg" for name in "abcdefgh"])
    save_images(tmp_path, [f"PASCAL-S/Imgs/{name}.jpg" for name in "uvw"] + ["PASCAL-S/Masks/u.png"])
    training, test = found(tmp_path)
    assert [training.rows.paths[index].name for index in training.indices] == ["a.jpg", "c.jpg", "e.jpg", "g.jpg"]
    assert [test.rows.paths[index].name for index in test.indices] == ["u.jpg", "v.jpg"]
    assert len(found(tmp_path, n_test=850)[1]) == 3, "masks are no images"


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ("PASCAL-S/a.jpg", r"DUTS-TR.DUTS-TR-Image is missing\. Get DUTS-TR\.zip from http://saliencydetection"),
        ("DUTS-TR/DUTS-TR-Image/a.jpg", r"PASCAL-S is missing\. Get .* http://cbs\.ic\.gatech\.edu/salobj"),
    ],
)
def test_half_of_the_published_data_is_refused(tmp_path, present, message):
    save_images(tmp_path, [present])
    with pytest.raises(ImagesError, match=message):
        found(tmp_path)


def test_a_data_set_of_masks_alone_is_refused(tmp_path):
    save_images(tmp_path, ["DUTS-TR/DUTS-TR-Image/a.png", "PASCAL-S/a.jpg"])
    with pytest.raises(ImagesError, match="no JPEG file below"):
        found(tmp_path)


def test_the_full_protocol_says_where_to_get_its_images():
    with pytest.raises(
        ImagesError, match=re.escape("put the images into DATA/DUTS-TR/DUTS-TR-Image and DATA/PASCAL-S")
    ):
        posenet.run(preset="paper", progress=False)


def test_of_any_other_images_every_third_is_for_testing(tmp_path):
    training, test = found(noise_images(9, 8), n_training=99)
    assert training.indices == [0, 1, 3, 4, 6, 7] and test.indices == [2, 5]
    assert [len(part) for part in found(noise_images(30, 8), max_images=6)] == [4, 2]
    save_images(tmp_path, ["a.png", "b.jpg", "c.jpg"])
    assert [len(part) for part in found(tmp_path)] == [2, 1]
    with pytest.raises(ImagesError, match="found 2, expected at least 3"):
        found(noise_images(2, 8))
    assert [len(part) for part in found(None, may_be_made=True)] == [4, 2]


def test_features_are_the_same_kept_or_computed_anew_in_any_order(monkeypatch):
    images = find_images(noise_images(12, 8), n_training=5, n_test=2, max_images=None, may_be_made=False)[0]
    readers = {"image": BlockReader(None, {"image": "input"}, grid=8, device=CPU)}
    pixels = noise_images(12, 8)[images.indices]
    expected = probe.images.stimuli.apply_stimulus("rolled", pixels, images.indices, seed=3)

    def read(order):
        source = FeatureSource(images, resized(8), readers, "rolled", 3, 2, 0)
        assert len(source) == 3
        return torch.cat([batch["image"] for batch in source.batches(order)])

    for limit in (1e9, 0):
        monkeypatch.setattr(posenet_images, "_MOST_KEPT", limit)
        torch.testing.assert_close(read(None), expected)
        torch.testing.assert_close(read([4, 0, 2]), expected[[4, 0, 2]])


def test_files_are_resized_whatever_their_shape():
    picture = Image.new("RGB", (30, 20), "white")
    assert resized(8)(picture).shape == (3, 8, 8) and resized(8)(picture).min() == 1
    assert resized(8)(torch.rand(3, 20, 30)).shape == (3, 8, 8)
