"""The loss of AugShift, and that its model stays as it was."""

import pytest
import torch
from torch.nn import functional

from probe.analyses.nets import AugShift, cifar_resnet, seeded
from probe.errors import ModelError
from probe.testing import noise_images
from probe.variants.padding import with_padding

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def augmented():
    return AugShift(seeded(lambda: cifar_resnet(8, width=4), 0)).eval()


def test_the_loss_of_equal_views_is_the_cross_entropy(augmented):
    images, labels = noise_images(6, 16), torch.arange(6)
    loss = augmented.loss(images, images, labels, weight=3.0)
    expected = functional.cross_entropy(augmented(images), labels)
    assert loss.distance.item() == 0
    torch.testing.assert_close(loss.total, expected)


def test_the_loss_is_that_of_two_views_and_the_distance_of_their_latents(augmented):
    first, second, labels = noise_images(6, 16), noise_images(6, 16).flip(2), torch.arange(6)
    inside = augmented.encoder(first), augmented.encoder(second)
    classes = sum(functional.cross_entropy(augmented.head(latents), labels) for latents in inside) / 2
    distance = (inside[0] - inside[1]).square().sum() / (6 * 16)
    without, with_it = (augmented.loss(first, second, labels, weight=weight) for weight in (0.0, 0.5))
    torch.testing.assert_close(without.total, classes)
    torch.testing.assert_close(with_it.total, classes + 0.5 * distance)
    assert distance > 0 and inside[0].shape == (6, 16)


def test_a_circular_net_has_nothing_to_learn_from_circular_views():
    body = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net = with_padding(torch.nn.Sequential(*body, torch.nn.Linear(4, 3)), "circular").double()
    augmented, images = AugShift(net), noise_images(5, 12).double()
    loss = augmented.loss(images, images.roll((3, -2), dims=(2, 3)), torch.tensor([0, 1, 2, 0, 1]))
    (gradient,) = torch.autograd.grad(loss.distance, augmented.encoder[0].weight)
    assert loss.distance.item() < 1e-28 and gradient.abs().max() < 1e-14


def test_augshift_is_the_classifier_and_leaves_it_as_it_was(left_as_found):
    net = seeded(lambda: cifar_resnet(8, width=4), 0).eval()
    images = noise_images(3, 16)
    with left_as_found(net):
        augmented = AugShift(net)
        torch.testing.assert_close(augmented(images), net(images))
    augmented.head.weight.data.zero_()
    assert net.linear.weight.abs().sum() > 0
    with pytest.raises(ModelError, match="model: Conv2d has no linear layer behind others"):
        AugShift(torch.nn.Conv2d(3, 4, 3))
