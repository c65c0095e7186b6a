"""The network of CIFAR is the published one."""

import pytest
import torch
from torch.nn import functional

from probe.analyses.nets import cifar_resnet
from probe.errors import ArgumentError
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")


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
