"""Windows of images to train on: where they lie, how large they are, and how often each image is shown."""

import numpy as np
import torch
from PIL import Image

from probe.analyses.data.crops import RandomCrops, crop_batches, random_crops
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import Split
from tests.pictures import save_classes


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
    save_classes(tmp_path, {"cat": 3, "dog": 3}, size=(40, 60))
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
    save_classes(tmp_path, {"cat": 1, "dog": 1}, size=(100, 140))
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
