"""The nets with known answers are what they say."""

import pytest
import torch
from torch import nn

from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net

IMAGES = noise_images(2, size=12).double()


@pytest.mark.parametrize("shift", [(1, 0), (0, 5), (7, 3)])
def test_circular_padding_commutes_with_circular_shifts(shift):
    net = padded_net("circular").double()
    torch.testing.assert_close(net(IMAGES.roll(shift, (2, 3))), net(IMAGES).roll(shift, (2, 3)))


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate"])
def test_other_paddings_do_not(padding):
    net = padded_net(padding).double()
    difference = net(IMAGES.roll(1, 2)) - net(IMAGES).roll(1, 2)
    assert difference.abs().max() > 1e-3
    assert difference[:, :, 5:-4, 4:-4].abs().max() < 1e-12


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate", "circular"])
def test_without_padding_the_output_is_the_interior_of_any_padded_net(padding):
    padded, valid = padded_net(padding).double(), padded_net("valid").double()
    torch.testing.assert_close(valid(IMAGES), padded(IMAGES)[:, :, 4:-4, 4:-4])


def test_nets_of_one_seed_have_the_same_weights_and_of_another_have_not():
    first, same, other = padded_net("zeros"), padded_net("valid"), padded_net("zeros", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_making_a_net_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    padded_net("zeros"), pointwise_net(), noise_images(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_padded_net_has_the_depth_and_width_asked_for():
    net = padded_net("zeros", depth=3, width=5)
    assert list(dict(net.named_children())) == ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3"]
    assert net(IMAGES.float()).shape == (2, 5, 12, 12)


def test_pointwise_convolutions_treat_all_positions_alike():
    net = pointwise_net().double()
    order = torch.randperm(144, generator=torch.Generator().manual_seed(0))
    shuffled = IMAGES.flatten(2)[:, :, order].unflatten(2, (12, 12))
    torch.testing.assert_close(net(shuffled).flatten(2), net(IMAGES).flatten(2)[:, :, order])
    assert sum(isinstance(module, nn.Conv2d) for module in net) == 3


def test_coordinates_are_those_of_pixel_centres():
    output = CoordinateNet().double()(torch.zeros(2, 3, 4, 2, dtype=torch.float64))
    assert torch.equal(output[:, :3], torch.zeros(2, 3, 4, 2))
    assert output[1, 3].tolist() == [[-0.75] * 2, [-0.25] * 2, [0.25] * 2, [0.75] * 2]
    assert output[1, 4].tolist() == [[-0.5, 0.5]] * 4


def test_coordinate_net_passes_the_pixels_on():
    assert torch.equal(CoordinateNet().double()(IMAGES)[:, :3], IMAGES)


def test_noise_has_unit_variance_and_follows_its_seed():
    images = noise_images(50)
    assert images.mean().abs() < 0.01
    assert images.std() == pytest.approx(1, abs=0.01)
    assert torch.equal(images, noise_images(50))
    assert not torch.equal(images, noise_images(50, seed=1))


def test_smooth_noise_is_correlated_between_neighbours_and_wraps_around():
    images = noise_images(200, smooth=4)
    assert images.std() == pytest.approx(1, abs=0.03)
    for shift, expected in [(1, 0.75), (3, 0.25), (4, 0.0), (23, 0.75)]:
        assert (images * images.roll(shift, 3)).mean() == pytest.approx(expected, abs=0.04)
