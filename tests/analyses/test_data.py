"""Tests of what the studies share: nets, data and training."""

import threading
import time

import numpy as np
import pytest
import sklearn.datasets
import torch
from torch import nn

from probe.analyses.data import CANVAS, digit_batches, load_digits, place_digits
from probe.analyses.nets import small_net
from probe.analyses.training import predict, rolled_agreement, side_by_side, train
from probe.reading.options import Options
from probe.testing import noise_images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nets_of_one_seed_are_equal_and_the_random_state_stays():
    before = torch.get_rng_state()
    first, second, other = small_net(seed=3), small_net(seed=3), small_net(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


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


def test_training_learns_and_leaves_evaluation_mode():
    training, held_out = load_digits()
    model = small_net()
    with torch.no_grad():  # as a caller may have it
        train(model, digit_batches(training, steps=60, batch_size=32, seed=0), steps=60)
    assert not any(module.training for module in model.modules())
    images = place_digits(held_out.strokes[:200], generator(9))
    assert (predict(model, images) == held_out.labels[:200]).float().mean() > 0.3  # by chance: 0.1


def test_training_side_by_side_is_training_one_by_one():
    training, _ = load_digits()
    models = [small_net(seed=seed) for seed in range(3)]
    n_threads = torch.get_num_threads()
    with side_by_side() as pool:
        batches = [digit_batches(training, steps=5, batch_size=16, seed=seed) for seed in range(3)]
        done = [pool.submit(train, model, part, steps=5) for model, part in zip(models, batches, strict=True)]
        assert [future.result() for future in done] == [None] * 3
    assert torch.get_num_threads() == n_threads
    for seed, model in enumerate(models):
        alone = small_net(seed=seed)
        train(alone, digit_batches(training, steps=5, batch_size=16, seed=seed), steps=5)
        for name, weights in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("device", "n_at_a_time"), [("cpu", 2), (torch.device("cuda", 0), 1)])
def test_on_a_gpu_one_network_is_trained_at_a_time(device, n_at_a_time):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with side_by_side(device) as pool:
            jobs = [pool.submit(lambda: time.sleep(0.05) or threading.get_ident()) for _ in range(4)]
            assert len({job.result() for job in jobs}) == n_at_a_time
    finally:
        torch.set_num_threads(n_threads)


def test_an_error_beside_training_restores_the_threads():
    n_threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), side_by_side() as pool:
        started = [pool.submit(time.sleep, 0.05) for _ in range(100)]
        raise KeyboardInterrupt
    assert torch.get_num_threads() == n_threads
    assert any(future.cancelled() for future in started)


class Mean(nn.Module):
    def forward(self, images):
        return torch.cat([images.mean((2, 3)), -images.mean((2, 3))], dim=1)


class Corner(nn.Module):
    """Predicts the sign of one pixel, which a shift moves."""

    def forward(self, images):
        return torch.stack([images[:, 0, 0, 0], -images[:, 0, 0, 0]], dim=1)


def test_agreement_at_two_rolls():
    images = noise_images(400, size=8)[:, :1]
    options = Options(batch_size=64)
    assert rolled_agreement(Mean(), images, options) == 1
    assert rolled_agreement(Corner(), images, options) == pytest.approx(0.5, abs=0.08)


def test_agreement_needs_logits():
    images = noise_images(10, size=8)
    assert np.isnan(rolled_agreement(nn.Conv2d(3, 4, 3), images, Options()))
