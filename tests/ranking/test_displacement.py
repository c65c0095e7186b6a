"""How channels answer mirrored and rolled images, against the plain formulas."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from probe.testing import CoordinateNet, noise_images, padded_net
from tests.ranking.rankings import by_channel, rank, uneven_images

DIMS = {"horizontal": 3, "vertical": 2}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net():
    return padded_net("zeros", depth=3, width=8).double()


@pytest.fixture
def images():
    return uneven_images(23)


def changes(net, images, displaced):
    """Δz of the third convolution, computed plainly, shape (image, channel)."""
    with torch.no_grad():
        return (net[:5](images).mean((2, 3)) - net[:5](displaced).mean((2, 3))).numpy()


@pytest.mark.parametrize("axis", DIMS)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_flip_is_the_plain_formula(net, images, axis, batch_size):
    expected = np.abs(changes(net, images, images.flip(DIMS[axis]))).mean(axis=0)
    ranking = rank(net, images, axis=axis, batch_size=batch_size)
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6)
    assert ranking.index.values.tolist() == np.argsort(-expected).tolist()
    assert ranking["rank"].values.tolist() == list(range(1, 9))


def test_flip_along_both_axes_is_the_mean_of_the_two(net, images):
    along = {axis: by_channel(rank(net, images, axis=axis)) for axis in ("horizontal", "vertical", "both")}
    np.testing.assert_allclose(along["both"], (along["horizontal"] + along["vertical"]) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("region", "axis", "order"),
    [("left", "horizontal", -1), ("right", "horizontal", 1), ("top", "vertical", -1), ("bottom", "vertical", 1)],
)
def test_regional_flip_is_the_signed_mean_ordered_by_region(net, images, region, axis, order):
    expected = changes(net, images, images.flip(DIMS[axis])).mean(axis=0)
    assert expected.min() < 0 < expected.max()
    ranking = rank(net, images, axis=axis, region=region)
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6, atol=1e-15)
    assert ranking.index.values.tolist() == np.argsort(order * expected).tolist()


@pytest.mark.parametrize(("axis", "half"), [("horizontal", 4), ("vertical", 6)])
def test_shift_is_the_same_with_a_roll_by_half_rounded_down(net, images, axis, half):
    displaced = torch.from_numpy(np.roll(images.numpy(), half, axis=DIMS[axis]))
    expected = np.abs(changes(net, images, displaced)).mean(axis=0)
    np.testing.assert_allclose(by_channel(rank(net, images, method="shift", axis=axis)), expected, rtol=1e-6)


def test_single_precision_is_close_to_double(net, images):
    double = by_channel(rank(net, images))
    single = by_channel(rank(net.float(), images.float()))
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_a_circular_net_answers_no_shift_but_answers_flips(images):
    net = padded_net("circular", depth=3, width=8).double()
    np.testing.assert_allclose(by_channel(rank(net, images, method="shift")), 0, atol=1e-12)
    assert (by_channel(rank(net, images, method="flip")) > 1e-6).all()


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_displacements_cannot_see_a_pure_coordinate(method):
    scores = by_channel(rank(CoordinateNet().double(), uneven_images(6, 8, 8), "identity", method=method))
    # Both coordinates have a fixed mean; of the pixels, so has every channel under a mirror or a roll.
    np.testing.assert_allclose(scores, 0, atol=1e-12)


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_a_displacement_takes_two_forward_passes_and_keeps_no_images(net, method):
    seen, alive = [], []
    net.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))

    def stream():
        for seed in range(6):
            batch = uneven_images(5, seed=seed)
            alive.append(weakref.ref(batch))
            assert sum(ref() is not None for ref in alive) <= 3
            yield batch

    streamed = rank(net, stream(), method=method)
    assert sum(seen) <= 2 * 30 + 2  # the survey of the layers runs two copies of the first image
    whole = torch.cat([uneven_images(5, seed=seed) for seed in range(6)])
    np.testing.assert_allclose(streamed.score, rank(net, whole, method=method).score, rtol=1e-12)
    assert streamed.attrs["images_digest"] == rank(net, whole, method=method).attrs["images_digest"]


class FixedSize(nn.Module):
    """Takes images of 8 rows and 12 columns, and nothing else."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.classes = nn.Linear(4 * 8 * 12, 2)

    def forward(self, images):
        return self.classes(self.conv(images).view(len(images), -1))


@pytest.mark.parametrize("method", ["flip", "shift"])
def test_a_model_of_one_oblong_size_takes_mirrored_and_rolled_images(method):
    images = noise_images(6, size=12)[:, :, :8]
    assert np.isfinite(rank(FixedSize(), images, "conv", method=method, axis="both").score).all()


class FirstPixelInPlace(nn.Sequential):
    def forward(self, images):
        images[:, :, 0, 0] = 100
        return super().forward(images)


def test_a_model_that_overwrites_its_input_does_no_harm(net, images):
    before = images.clone()
    overwritten = images.clone()
    overwritten[:, :, 0, 0] = 100
    mirrored = images.flip(3)
    mirrored[:, :, 0, 0] = 100
    expected = np.abs(changes(net, overwritten, mirrored)).mean(axis=0)
    ranking = rank(FirstPixelInPlace(net[:5]), images, "0.conv3")
    np.testing.assert_allclose(by_channel(ranking), expected, rtol=1e-6)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
