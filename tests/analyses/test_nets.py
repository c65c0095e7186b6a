"""Networks of the studies: their sizes, what they see, and seeds."""

import pytest
import torch
from torch.nn import functional

from probe.analyses.nets import cifar_resnet, small_net, small_segmenter
from probe.errors import ArgumentError
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


def by_hand(net, images):
    """The residual network of He et al. for CIFAR, block by block, with its first normalisations left out."""

    def block(maps, weights, width):
        stride = width // maps.shape[1]
        inner = functional.conv2d(functional.conv2d(maps, weights[0], None, stride, 1).relu(), weights[1], None, 1, 1)
        shortcut = torch.zeros_like(inner)
        added = (width - maps.shape[1]) // 2
        shortcut[:, added : width - added] = maps[:, :, ::stride, ::stride]
        return (inner + shortcut).relu()

    maps = functional.conv2d(images, net.conv1.weight, None, 1, 1).relu()
    for stage, width in ((net.layer1, 16), (net.layer2, 32), (net.layer3, 64)):
        for part in stage:
            maps = block(maps, (part.conv1.weight, part.conv2.weight), width)
    return functional.linear(maps.mean((2, 3)), net.linear.weight, net.linear.bias)


def test_the_network_of_cifar_is_the_published_one():
    torch.manual_seed(0)
    net = cifar_resnet(20, n_classes=7).double().eval()
    images = noise_images(2, 32).double()
    for module in net.modules():  # as at the beginning, but exactly the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0
    with torch.no_grad():
        torch.testing.assert_close(net(images), by_hand(net, images))
    with_weights = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(with_weights) == 20


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_depths_that_the_network_of_cifar_cannot_have(depth):
    with pytest.raises(ArgumentError, match=f"depth={depth}: expected 6n \\+ 2 layers"):
        cifar_resnet(depth)
