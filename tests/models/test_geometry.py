"""Kernel, stride and sides of layers, against what torch computes with them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.models.geometry import pair, reach_of, sides_of


@pytest.mark.parametrize(("value", "expected"), [(3, (3, 3)), ((1, 2), (1, 2)), ([4, 5], (4, 5))])
def test_one_number_stands_for_rows_and_columns(value, expected):
    assert pair(value) == expected


@pytest.mark.parametrize("kernel", [1, 4, (3, 5)])
@pytest.mark.parametrize("dilation", [1, 2, (2, 3)])
def test_the_reach_is_what_a_map_loses_without_padding(kernel, dilation):
    layer = nn.Conv2d(1, 1, kernel, dilation=dilation)
    size = layer(torch.zeros(1, 1, 30, 40)).shape[2:]
    assert reach_of(layer) == (30 - size[0], 40 - size[1])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", [0, 2, (1, 2), "valid", "same"])
@pytest.mark.parametrize("kernel", [4, (3, 5)])
def test_padding_by_the_sides_beforehand_gives_what_the_layer_gives(kernel, padding):
    layer = nn.Conv2d(1, 1, kernel, padding=padding)
    images = torch.randn(1, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    by_hand = functional.conv2d(functional.pad(images, sides_of(layer)), layer.weight, layer.bias)
    torch.testing.assert_close(layer(images), by_hand)
