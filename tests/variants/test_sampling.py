"""Blurring before sub-sampling."""

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision
from torch import nn
from torch.nn import functional

from probe.analyses.nets import small_net
from probe.errors import ArgumentError
from probe.testing import noise_images, padded_net
from probe.variants.sampling import BlurPool, anti_aliased

pytestmark = pytest.mark.usefixtures("one_thread")

BINOMIAL = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}


@pytest.mark.parametrize("size", BINOMIAL)
@pytest.mark.parametrize("shape", [(7, 10), (2, 1)])
def test_blur_is_a_mirrored_binomial_filter_at_every_second_place(size, shape):
    maps = torch.randn(2, 3, *shape, dtype=torch.float64)
    row = np.array(BINOMIAL[size]) / np.sum(BINOMIAL[size])
    expected = maps.numpy()
    for axis in (2, 3):
        # scipy centres an even filter on the place behind its middle, BlurPool on the one before.
        expected = scipy.ndimage.correlate1d(expected, row, axis, mode="mirror", origin=-1 if size % 2 == 0 else 0)
    np.testing.assert_allclose(BlurPool(2, size).double()(maps), expected[:, :, ::2, ::2], atol=1e-7)


def test_a_residual_block_is_blurred_where_zhang_does():
    torch.manual_seed(0)
    block = torchvision.models.resnet18(weights=None).layer2[0].eval()
    model = nn.Sequential(nn.Conv2d(3, 64, 1), block).eval()
    images = noise_images(2, 10)
    with torch.no_grad():
        maps = model[0](images)
        blur = BlurPool(2)
        convolved = functional.relu(block.bn1(functional.conv2d(maps, block.conv1.weight, padding=1)))
        residual = block.bn2(block.conv2(blur(convolved)))
        shortcut = block.downsample[1](functional.conv2d(blur(maps), block.downsample[0].weight))
        torch.testing.assert_close(anti_aliased(model)(images), functional.relu(residual + shortcut))
    assert block.conv1.stride == (2, 2), "the original was changed"


def test_the_convolution_that_reads_the_pixels_is_left_unless_asked_for():
    net, images = small_net().eval(), torch.randn(1, 1, 32, 32)
    strides = {
        from_pixels: [
            module.stride
            for module in anti_aliased(net, from_pixels=from_pixels).modules()
            if isinstance(module, nn.Conv2d)
        ]
        for from_pixels in (False, True)
    }
    assert strides == {False: [(2, 2), *[(1, 1)] * 3], True: [(1, 1)] * 4}
    assert anti_aliased(net, from_pixels=True)(images).shape == net(images).shape


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "densenet121"])
def test_torchvision_models_keep_sizes_names_and_weights(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
        blurred, images = anti_aliased(model), torch.zeros(2, 3, 96, 96)
        assert blurred(images).shape == model(images).shape
    assert blurred.state_dict().keys() == model.state_dict().keys()
    assert sum(isinstance(module, BlurPool) for module in blurred.modules()) >= 2


def test_a_pattern_too_fine_for_the_stride_is_seen_alike_at_both_phases():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, stride=2, bias=False)).requires_grad_(False)
    nn.init.ones_(net[0].weight)
    stripes = (torch.arange(8.0) % 2).expand(1, 1, 8, 8)
    assert (net(stripes).mean(), net(stripes.roll(1, 3)).mean()) == (0, 1)
    blurred = anti_aliased(net, size=3, from_pixels=True)
    torch.testing.assert_close(blurred(stripes), torch.full((1, 1, 4, 4), 0.5))
    torch.testing.assert_close(blurred(stripes.roll(1, 3)), torch.full((1, 1, 4, 4), 0.5))


def test_a_pool_that_is_called_twice_is_blurred_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(2)

        def forward(self, images):
            return self.pool(self.pool(images))

    images = noise_images(1, 12)
    once = functional.max_pool2d(images, 2, stride=1)
    expected = BlurPool(2)(functional.max_pool2d(BlurPool(2)(once), 2, stride=1))
    torch.testing.assert_close(anti_aliased(Twice())(images), expected)


def test_a_net_without_strides_has_nothing_to_blur():
    with pytest.raises(ArgumentError, match="nothing to blur"):
        anti_aliased(padded_net("zeros"))
