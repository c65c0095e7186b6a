"""Kernel, stride and sides of layers, against what torch computes with them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.models.geometry import n_axes_of, pair, reach_of, sides_along, sides_from, sides_of


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


@pytest.mark.parametrize("kernel", [1, 4, (2, 3, 5)])
def test_the_reach_of_a_clip_is_what_it_loses_without_padding(kernel):
    layer = nn.Conv3d(1, 1, kernel, dilation=(1, 2, 3))
    size = layer(torch.zeros(1, 1, 10, 20, 30)).shape[2:]
    assert reach_of(layer) == (10 - size[0], 20 - size[1], 30 - size[2])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", [0, (2, 1, 0), "valid", "same"])
def test_padding_a_clip_by_the_sides_beforehand_gives_what_the_layer_gives(padding):
    layer = nn.Conv3d(1, 1, (2, 3, 4), padding=padding)
    clips = torch.randn(1, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    by_hand = functional.conv3d(functional.pad(clips, sides_of(layer)), layer.weight, layer.bias)
    torch.testing.assert_close(layer(clips), by_hand)
    assert sides_from(sides_along(sides_of(layer)).values()) == sides_of(layer)


@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2, "padding": 1, "output_padding": 1}, {"stride": 3}])
@pytest.mark.parametrize("kernel", [1, 3, 6])
def test_a_transposed_convolution_pads_as_far_as_it_reads_beyond_the_map(kernel, settings):
    """A cell beyond the map is read if it changes what a longer map gives in the place of the map's response."""
    layer = nn.ConvTranspose1d(1, 1, kernel, **settings, bias=False)
    nn.init.ones_(layer.weight)
    step, size, room = settings.get("stride", 1), 7, 10
    length = layer(torch.zeros(1, 1, size)).shape[-1]
    longer = torch.eye(size + 2 * room)[:, None]
    reads = layer(longer)[:, 0, room * step :][:, :length].ne(0).any(1)
    assert (reads[:room].sum(), reads[room + size :].sum()) == sides_of(layer)


def test_a_layer_without_a_window_has_no_axes():
    assert [
        n_axes_of(layer) for layer in (nn.MaxPool1d(2), nn.LPPool2d(2, 2), nn.Conv3d(1, 1, 1), nn.Linear(1, 1))
    ] == [
        1,
        2,
        3,
        0,
    ]
