"""Small networks: their sizes, and that the weights are those of the seed."""

import pytest
import torch
from torch.nn import functional

from probe.analyses.nets import small_net, small_segmenter
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nets_of_one_seed_are_equal_and_the_random_state_stays():
    before = torch.get_rng_state()
    first, second, other = small_net(seed=3), small_net(seed=3), small_net(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("make", [small_net, lambda **options: small_segmenter(n_classes=10, **options)])
def test_small_nets_have_two_strides_and_as_many_channels_as_asked_for(make):
    net = make(n_channels=3, width=2)
    convolutions = [module for module in net if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (3, 32, 2), (32, 48, 1), (48, 64, 2), (64, 64, 1),
    ]  # fmt: skip


def test_a_segmenter_is_the_small_net_up_to_its_last_layer():
    net, segmenter = small_net(seed=5).eval(), small_segmenter(n_classes=3, seed=5).eval()
    images = noise_images(2, 16)[:, :1]
    assert torch.equal(net[:12](images), segmenter[:12](images))
    assert segmenter(images).shape == (2, 3, 4, 4)
    with torch.no_grad():
        expected = functional.linear(net[:12](images).mean((2, 3)), net.classes.weight, net.classes.bias)
        torch.testing.assert_close(net(images), expected)
