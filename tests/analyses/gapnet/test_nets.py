"""The networks of the study: the published body, and pooling."""

import pytest
import torch
from torch import nn

from probe.analyses.gapnet.nets import PooledNet, resnet18_body

pytestmark = pytest.mark.usefixtures("one_thread")


def vectors_of(net, images):
    with torch.no_grad():
        return net.body(images).mean(dim=(2, 3))


def test_the_body_is_the_published_resnet18():
    body = resnet18_body()
    stem = body.conv1
    assert (stem.kernel_size, stem.stride, stem.padding) == ((7, 7), (2, 2), (3, 3))
    assert not any(isinstance(module, nn.MaxPool2d) for module in body.modules())
    assert [module.out_channels for module in body.modules() if isinstance(module, nn.Conv2d)][-1] == 512
    # torchvision's ResNet-18 without its last layer has as many.
    assert sum(parameter.numel() for parameter in body.parameters()) == 11_689_512 - 513_000


def test_gapnet_averages_the_scores_of_a_convolution():
    net, images = PooledNet("GAPNet", n_classes=9, width=2).eval(), torch.randn(3, 3, 48, 48)
    assert (net.head.kernel_size, net.head.padding, net.head.out_channels) == ((3, 3), (1, 1), 9)
    with torch.no_grad():
        torch.testing.assert_close(net(images), net.head(net.body(images)).mean(dim=(2, 3)))


def test_the_unpermuted_network_is_a_linear_layer_on_pooled_channels():
    net, images = PooledNet("unpermuted", n_classes=9, width=2).eval(), torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(net(images), net.head(vectors_of(net, images)))


@pytest.mark.parametrize(("name", "is_shared"), [("PermuteNet", True), ("PermuteNet, by image", False)])
def test_permutations_are_shared_by_a_batch_or_not(name, is_shared):
    net = PooledNet(name, n_classes=16, width=2).eval()
    net.head = nn.Identity()
    net.body = nn.Identity()
    vectors = torch.arange(16.0).repeat(5, 1)
    shown = [net(vectors[:, :, None, None]) for _ in range(2)]
    assert all((each.sort(dim=1).values == vectors).all() for each in shown)
    assert not (shown[0] == shown[1]).all(), "another permutation for each batch"
    assert (shown[0] == shown[0][:1]).all().item() is is_shared


def test_weights_and_permutations_come_from_the_seed_and_the_random_state_stays():
    before = torch.get_rng_state()
    first, same, other = (PooledNet("PermuteNet", n_classes=9, width=2, seed=seed) for seed in (1, 1, 2))
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.eval()(images), same.eval()(images))
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(torch.get_rng_state(), before)
