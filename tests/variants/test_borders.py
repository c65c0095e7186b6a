"""Each layer under each padding against loops over windows in double precision."""

import numpy as np
import pytest
import torch
from torch import nn

from probe.variants.borders import convert, extend
from probe.variants.padding import PADDINGS

NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}

CONVOLUTIONS = {
    "usual": {"kernel_size": 3, "padding": 1},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "rows and columns differ": {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
    "padded in columns alone": {"kernel_size": 3, "padding": (0, 2)},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "same, even kernel": {"kernel_size": (2, 4), "padding": "same"},
    "same, dilated": {"kernel_size": 3, "padding": "same", "dilation": (1, 2)},
    "reflect before": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular before, same": {"kernel_size": 4, "padding": "same", "padding_mode": "circular"},
    "padded without need": {"kernel_size": 1, "padding": 1},
    "beyond the map": {"kernel_size": 3, "padding": 12, "dilation": 12},
    "unpadded": {"kernel_size": 3, "padding": "valid"},
    "patches": {"kernel_size": 2, "stride": 2},
    "single taps": {"kernel_size": 1, "stride": 2},
}
STAY_UNDER_FULL = ("patches", "single taps")

POOLINGS = {
    "usual": {"kernel_size": 3, "stride": 2, "padding": 1},
    "rows and columns differ": {"kernel_size": (2, 4), "stride": (2, 1), "padding": (1, 2)},
    "stride 1, ceil_mode": {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True},
    "unpadded": {"kernel_size": 2},
}


def as_pair(value):
    return value if isinstance(value, tuple) else (value, value)


def border_before(kernel, padding, dilation):
    """The amount of padding (before, after) of one axis, written from torch's documentation."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = dilation * (kernel - 1)
        return total // 2, total - total // 2
    return padding, padding


def borders(settings, padding, stays=False):
    """Return ((top, bottom), (left, right)) under the padding asked for."""
    kernel, dilation = as_pair(settings["kernel_size"]), as_pair(settings.get("dilation", 1))
    amounts = settings.get("padding", 0)
    amounts = (amounts, amounts) if isinstance(amounts, str) else as_pair(amounts)
    if padding == "full" and not stays:
        return [(step * (taps - 1), step * (taps - 1)) for taps, step in zip(kernel, dilation, strict=True)]
    if padding == "valid":
        return [(0, 0), (0, 0)]
    return [border_before(*axis) for axis in zip(kernel, amounts, dilation, strict=True)]


def windows(settings, map_, mask):
    """Yield the row, column, values (channel, tap row, tap column) and mask of each window of padded maps."""
    kernel = as_pair(settings["kernel_size"])
    stride = as_pair(settings.get("stride", 1))
    dilation = as_pair(settings.get("dilation", 1))
    spans = [step * (taps - 1) + 1 for taps, step in zip(kernel, dilation, strict=True)]
    for row, top in enumerate(range(0, mask.shape[0] - spans[0] + 1, stride[0])):
        for column, left in enumerate(range(0, mask.shape[1] - spans[1] + 1, stride[1])):
            where = np.s_[top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1]]
            yield row, column, map_[(slice(None), *where)], mask[where]


def padded(map_, amounts, mode, value=0.0):
    options = {"mode": mode} if mode != "constant" else {"constant_values": value}
    mask = np.pad(np.ones(map_.shape[1:]), amounts)
    return np.pad(map_, [(0, 0), *amounts], **options), mask


def looped_convolution(convolution, settings, map_, padding, stays):
    weight = convolution.weight.detach().numpy()
    bias = np.zeros(len(weight)) if convolution.bias is None else convolution.bias.detach().numpy()
    map_, mask = padded(map_, borders(settings, padding, stays), NUMPY_MODES.get(padding, "constant"))
    groups = settings.get("groups", 1)
    responses = {}
    for row, column, values, inside in windows(settings, map_, mask):
        by_group = zip(np.split(weight, groups), np.split(values, groups), strict=True)
        response = np.concatenate([np.tensordot(kernels, part, 3) for kernels, part in by_group])
        if padding == "partial":
            response = response * inside.size / inside.sum() + bias if inside.any() else 0 * bias
        else:
            response = response + bias
        responses[row, column] = response
    return gathered(responses)


def gathered(responses):
    rows, columns = max(responses)
    return np.stack([[responses[r, c] for c in range(columns + 1)] for r in range(rows + 1)]).transpose(2, 0, 1)


def output_of(layer, map_):
    return layer(torch.from_numpy(map_)[None])[0].detach().numpy()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # from torch itself
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_equals_loops_over_windows(name, padding):
    settings = CONVOLUTIONS[name]
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, **settings, dtype=torch.float64)
    map_ = np.random.default_rng(0).normal(size=(2, 7, 6))
    stays = name in STAY_UNDER_FULL
    if name == "beyond the map" and padding == "valid":
        convert(convolution, padding)
        with pytest.raises(RuntimeError, match="can't be greater than actual input size"):
            output_of(convolution, map_)
        return
    expected = looped_convolution(convolution, settings, map_, padding, stays)
    convert(convolution, padding)
    np.testing.assert_allclose(output_of(convolution, map_), expected, atol=1e-12)


def looped_pooling(settings, map_, padding, reduce_window):
    settings = {"stride": settings["kernel_size"], **settings}
    amounts = borders(settings, padding)
    map_, mask = padded(map_, amounts, NUMPY_MODES.get(padding, "constant"))
    return gathered(
        {(row, column): reduce_window(values, inside) for row, column, values, inside in windows(settings, map_, mask)}
    )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", POOLINGS)
def test_max_pooling_equals_loops_over_windows(name, padding):
    extends = padding in NUMPY_MODES

    def maximum(values, inside):
        return values.max(axis=(1, 2)) if extends else np.where(inside, values, -np.inf).max(axis=(1, 2))

    map_ = np.random.default_rng(0).normal(size=(3, 7, 6)) - 5
    pooling = nn.MaxPool2d(**POOLINGS[name])
    convert(pooling, padding)
    np.testing.assert_array_equal(output_of(pooling, map_), looped_pooling(POOLINGS[name], map_, padding, maximum))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("extra", [{}, {"count_include_pad": False}, {"divisor_override": 2}])
def test_average_pooling_equals_loops_over_windows(name, padding, extra):
    def average(values, inside):
        if "divisor_override" in extra:
            return values.sum(axis=(1, 2)) / 2
        only_inside = padding == "full" or (padding in ("zeros", "partial") and "count_include_pad" in extra)
        return values.sum(axis=(1, 2)) / (inside.sum() if only_inside else inside.size)

    map_ = np.random.default_rng(0).normal(size=(3, 7, 6))
    pooling = nn.AvgPool2d(**POOLINGS[name], **extra)
    convert(pooling, padding)
    expected = looped_pooling(POOLINGS[name], map_, padding, average)
    np.testing.assert_allclose(output_of(pooling, map_), expected, atol=1e-12)


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3), (5, 4)])
def test_maps_are_continued_as_numpy_does(mode, size):
    map_ = np.arange(2 * size[0] * size[1], dtype=float).reshape(2, *size)
    for left, right, top, bottom in [(1, 1, 1, 1), (0, 3, 2, 0), (7, 4, 5, 9)]:
        expected = np.pad(map_, [(0, 0), (top, bottom), (left, right)], mode=NUMPY_MODES[mode])
        continued = extend(torch.from_numpy(map_)[None], (left, right, top, bottom), mode)[0]
        np.testing.assert_array_equal(continued.numpy(), expected)


@pytest.mark.parametrize("padding", PADDINGS)
def test_layers_take_single_images_without_an_image_axis(padding):
    convolution, images = nn.Conv2d(3, 4, 3, padding=1), torch.randn(2, 3, 8, 8)
    convert(convolution, padding)
    torch.testing.assert_close(convolution(images[0]), convolution(images)[0])
