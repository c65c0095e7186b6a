"""Digits on their canvas."""

import numpy as np
import sklearn.datasets
import torch

from probe.analyses.data.digits import CANVAS, digit_batches, load_digits, place_digits


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
