"""Where a model sub-samples, and which of it can be converted."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.variants.borders import CONVERTIBLE
from probe.variants.strides import strided_calls
from probe.variants.tracing import Tracer


def found_in(model, *, leave_pixels=False, from_pixels=None):
    graph = Tracer(CONVERTIBLE).trace(model)
    strided, rest = strided_calls(
        graph, dict(model.named_modules()), leave_pixels=leave_pixels, from_pixels=from_pixels
    )
    return [(call.node.name, call.step, call.is_pointwise) for call in strided], rest


class Code(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def merged(maps):
    """Puts all phases into channels, as Focus and Swin do."""
    return torch.cat([maps[:, :, ::2, ::2], maps[:, :, 1::2, ::2], maps[:, :, ::2, 1::2], maps[:, :, 1::2, 1::2]], 1)


def test_strides_of_layers_and_whole_slices_can_be_converted():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=(2, 1)),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.MaxPool2d(3, 2),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 1),
        Code(lambda maps: maps[:, :, ::2, ::3]),
        nn.AdaptiveAvgPool2d((1, 1)),
    )
    strided, rest = found_in(model)
    assert strided == [
        ("_0", (2, 1), False),
        ("_1", (2, 2), True),
        ("_2", (2, 2), False),
        ("_3", (2, 2), False),
        ("getitem", (2, 3), True),
    ]
    assert rest == {}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (nn.MaxPool2d(2, return_indices=True), "return_indices"),
        (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), "ceil_mode with padding"),
        (nn.AdaptiveMaxPool2d((1, 7)), "adaptive pooling to several cells"),
        (nn.LPPool2d(2, 2), "LPPool2d"),
        (nn.Conv3d(1, 1, 2, stride=2), "Conv3d"),
        (nn.PixelUnshuffle(2), "PixelUnshuffle"),
        (Code(lambda maps: functional.max_pool2d(maps, 2)), "max_pool2d in its code"),
        (Code(lambda maps: functional.avg_pool2d(maps, 3, stride=(1, 2))), "avg_pool2d in its code"),
        (Code(lambda maps: functional.conv2d(maps, maps, None, 2)), "conv2d in its code"),
        (Code(lambda maps: maps[..., ::2, ::2]), "strided slice in its code"),
        (Code(lambda maps: maps[:, :, 1::2, 1::2]), "strided slice in its code"),
        (Code(merged), "strided slice in its code"),
    ],
    ids=str,
)
def test_what_else_sub_samples_is_told(part, reason):
    assert found_in(nn.Sequential(part)) == ([], {"0": reason})


@pytest.mark.parametrize(
    "part",
    [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(3, 1),
        nn.ConvTranspose2d(3, 3, 2, stride=2),
        Code(lambda maps: functional.max_pool2d(maps, 3, 1)),
        Code(lambda maps: functional.conv2d(maps, maps)),
        Code(lambda maps: maps[:, 1:, :, None]),
        Code(lambda maps: maps[0]),
    ],
    ids=str,
)
def test_what_keeps_every_cell_is_not(part):
    assert found_in(nn.Sequential(part)) == ([], {})


@pytest.mark.parametrize(
    ("settings", "converted", "told"),
    [
        ({"leave_pixels": True}, [], {"0": "reads the pixels; from_pixels=True converts it"}),
        ({"leave_pixels": True, "from_pixels": False}, [], {}),
        ({"leave_pixels": True, "from_pixels": True}, ["_0"], {}),
        ({}, [], {"0": "patch embedding; from_pixels=True converts it"}),
        ({"from_pixels": True}, ["_0"], {}),
    ],
)
def test_the_convolution_that_reads_the_pixels_is_a_case_of_its_own(settings, converted, told):
    strided, rest = found_in(nn.Sequential(nn.Conv2d(3, 4, 2, stride=2)), **settings)
    assert ([name for name, *_ in strided], rest) == (converted, told)


def test_several_reasons_of_one_layer_stand_together():
    part = Code(lambda maps: functional.max_pool2d(functional.max_pool2d(maps, 2), 2)[..., ::2])
    assert found_in(part) == ([], {"": "max_pool2d in its code, strided slice in its code"})
