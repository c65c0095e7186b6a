"""Which layers keep their border along which axes."""

import pytest
from torch import nn
from torch.nn import functional

from probe.variants.obstacles import axes_in, obstacle, padding_in_code
from probe.variants.samplers import BlurPool

SPACE, TIME = ("row", "column"), ("frame",)


def test_the_axes_of_a_model_are_those_of_its_layers_with_the_most():
    assert axes_in(nn.ReLU()) == () == axes_in(nn.Conv1d(1, 1, 3))
    assert axes_in(nn.Sequential(nn.Conv1d(1, 1, 3), nn.MaxPool2d(2))) == SPACE
    assert axes_in(nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool3d(2))) == (*TIME, *SPACE)


class Sub(nn.Conv3d):
    """A class of its own, without code of its own."""


class Own(nn.Conv3d):
    def forward(self, x):
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


# A layer, and why it keeps its border under circular padding in space and in time.
LAYERS = {
    "convolution": (nn.Conv3d(1, 1, 3, padding=1), "", ""),
    "transposed": (nn.ConvTranspose3d(1, 1, 3, padding=1), "", ""),
    "a class that makes them": (Sub(1, 1, 3, padding=1), "", ""),
    "code of its own": (Own(1, 1, (3, 3, 1)), "Own", "Own"),
    "code of its own, of one frame": (Own(1, 1, (1, 3, 3)), "Own", ""),
    "padding of time": (nn.ReplicationPad3d((0, 0, 0, 0, 2, 0)), "", "ReplicationPad3d"),
    "padding of space": (nn.ConstantPad3d((1, 1, 0, 0, 0, 0), 0.0), "ConstantPad3d", ""),
    "adaptive in space": (nn.AdaptiveAvgPool3d((1, 7, 7)), "adaptive pooling, uneven", ""),
    "adaptive in time": (nn.AdaptiveMaxPool3d((7, 1, 1)), "", "adaptive pooling, uneven"),
    "ceil_mode": (nn.MaxPool3d(3, 2, ceil_mode=True), "ceil_mode", "ceil_mode"),
    "places": (nn.MaxPool3d((1, 3, 3), 2, (0, 1, 1), return_indices=True), "return_indices", ""),
    "lazy": (nn.LazyConv3d(1, 3, padding=1), "LazyConv3d", "LazyConv3d"),
    "blur": (BlurPool(2), "", ""),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_pads_along_other_axes_alone_has_no_obstacle(name):
    layer, in_space, in_time = LAYERS[name]
    assert obstacle(layer, "circular", SPACE).startswith(in_space)
    assert obstacle(layer, "circular", TIME).startswith(in_time)
    assert bool(obstacle(layer, "circular", SPACE)) == bool(in_space)
    assert bool(obstacle(layer, "circular", TIME)) == bool(in_time)
    assert bool(obstacle(layer, "circular")) == bool(in_space or in_time)


def test_a_layer_with_parametrisations_or_a_forward_of_its_own_is_listed():
    assert obstacle(nn.utils.parametrizations.weight_norm(nn.Conv3d(1, 1, 3, padding=1)), "valid")
    layer = nn.Conv3d(1, 1, 3, padding=1)
    layer.forward = lambda x: x
    assert obstacle(layer, "valid") == "Conv3d"
    assert obstacle(nn.Conv2d(1, 1, 3, padding=1), "valid") == ""


def test_a_blur_has_one_border_for_both_axes():
    assert "BlurPool" in obstacle(BlurPool(2), "circular", ("row",))


class Code(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(self, x)


CODE = {
    "pads time": (lambda m, x: functional.pad(x, (0, 0, 0, 0, 2, 0)), (), ("pad",)),
    "pads space": (lambda m, x: functional.pad(x, (1, 1, 1, 1)), ("pad",), ()),
    "pads channels": (lambda m, x: functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), (), ()),
    "convolves": (lambda m, x: functional.conv3d(x, m.kernel, padding=(0, 1, 1)), ("conv3d",), ()),
    "pools": (lambda m, x: functional.max_pool3d(x, 3, 1, (1, 0, 0)), (), ("max_pool3d",)),
    "rounds up": (lambda m, x: functional.avg_pool3d(x, 3, ceil_mode=True), ("avg_pool3d",), ("avg_pool3d",)),
    "adapts": (lambda m, x: functional.adaptive_avg_pool3d(x, (1, 2, 2)), ("adaptive_avg_pool3d",), ()),
    "transposes": (
        lambda m, x: functional.conv_transpose3d(x, m.kernel),
        ("conv_transpose3d",),
        ("conv_transpose3d",),
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_listed_if_it_pads_along_the_axes(name):
    function, in_space, in_time = CODE[name]
    code = Code(function)
    code.kernel = nn.Parameter(nn.Conv3d(2, 2, 3).weight.detach())
    model = nn.Sequential(nn.Conv3d(1, 2, 3), code)
    for axes, expected in ((SPACE, in_space), (TIME, in_time)):
        assert padding_in_code(model, "circular", axes) == [("1", f"{found} in its code") for found in expected]
    assert padding_in_code(model, "zeros", SPACE) == []


def test_the_code_of_a_class_that_is_converted_is_its_own():
    assert padding_in_code(nn.Sequential(Sub(1, 1, 3, padding=1)), "circular", SPACE) == []
    assert padding_in_code(nn.Sequential(Own(1, 1, 3)), "circular", SPACE)


class Cut(nn.Module):
    def forward(self, x):
        return functional.pad(x, (-1, -1, -2, 0))


@pytest.mark.parametrize("cut", [nn.ZeroPad2d(-1), Cut()])
def test_padding_below_0_cuts_and_pads_nothing(cut):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), cut)
    assert obstacle(cut, "circular") == ""
    assert padding_in_code(net, "circular", SPACE) == []
    assert padding_in_code(nn.Sequential(net, nn.ZeroPad2d((1, -1, 0, 0))), "circular", ["row"]) == []
    assert obstacle(nn.ZeroPad2d((1, -1, 0, 0)), "circular") == "ZeroPad2d"
