"""Each layer under each padding against loops over windows in double precision."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.variants.borders import convert, extend, is_padded
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


CLIPS = {
    "usual": {"kernel_size": 3, "padding": 1},
    "all axes differ": {"kernel_size": (2, 3, 5), "padding": (1, 0, 2), "stride": (1, 2, 1), "dilation": (2, 1, 1)},
    "same, even kernel": {"kernel_size": (4, 2, 3), "padding": "same"},
    "reflect before": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular before, same": {"kernel_size": (4, 1, 3), "padding": "same", "padding_mode": "circular"},
}
SPACE, TIME = ("row", "column"), ("frame",)


def bordered_by_numpy(maps, settings, padding, axes):
    """Pad a clip (channel, frame, row, column) one axis after the other, and return the mask of what was inside."""
    triple = [value if isinstance(value, tuple) else (value,) * 3 for value in (
        settings["kernel_size"], settings.get("padding", 0), settings.get("dilation", 1)
    )]  # fmt: skip
    masks = []
    for axis, (name, kernel, amount, dilation) in enumerate(zip(("frame", "row", "column"), *triple, strict=True), 1):
        before = border_before(kernel, amount, dilation)
        mode = NUMPY_MODES.get(settings.get("padding_mode", "zeros"), "constant")
        if name in axes:
            mode = NUMPY_MODES.get(padding, "constant")
            before = {"valid": (0, 0), "full": (dilation * (kernel - 1),) * 2}.get(padding, before)
        mask = np.ones(maps.shape[axis])
        weighs = padding == "partial" and name in axes
        masks.append(np.pad(mask, before, constant_values=0 if weighs else 1))
        maps = np.pad(maps, [before if place == axis else (0, 0) for place in range(4)], mode=mode)
    return maps, np.einsum("f,r,c->frc", *masks)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # from torch itself
@pytest.mark.parametrize("axes", [(*TIME, *SPACE), SPACE, TIME, ("row",)])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", CLIPS)
def test_convolution_of_clips_equals_padding_by_numpy_along_the_chosen_axes(name, padding, axes):
    settings = CLIPS[name]
    torch.manual_seed(0)
    layer = nn.Conv3d(2, 4, **settings, dtype=torch.float64)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    steps = {"stride": settings.get("stride", 1), "dilation": settings.get("dilation", 1)}
    clip = np.random.default_rng(0).normal(size=(2, 6, 7, 8))
    padded, mask = bordered_by_numpy(clip, settings, padding, axes)
    expected = functional.conv3d(torch.from_numpy(padded)[None], weight, **steps)[0]
    taps = torch.ones(1, 1, *weight.shape[2:], dtype=torch.float64)
    inside = functional.conv3d(torch.from_numpy(mask)[None, None], taps, **steps)[0]
    expected = expected * taps.sum() / inside + bias[:, None, None, None]
    convert(layer, padding, axes)
    np.testing.assert_allclose(output_of(layer, clip), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", ["convolution", "transposed", "maximum", "average"])
def test_a_layer_of_one_frame_does_what_its_twin_does_to_every_frame(kind, padding):
    torch.manual_seed(0)
    flat, deep = {
        "convolution": (
            nn.Conv2d(2, 3, (3, 4), 2, (1, 2), dilation=(1, 2)),
            nn.Conv3d(2, 3, (1, 3, 4), (1, 2, 2), (0, 1, 2), dilation=(1, 1, 2)),
        ),
        "transposed": (nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.ConvTranspose3d(2, 3, (1, 4, 4), (1, 2, 2), (0, 1, 1))),
        "maximum": (nn.MaxPool2d(3, 2, 1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
        "average": (nn.AvgPool2d(3, 2, 1), nn.AvgPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    }[kind]
    if kind in ("convolution", "transposed"):
        deep.load_state_dict(
            {name: value if name == "bias" else value[:, :, None] for name, value in flat.state_dict().items()}
        )
    clips = torch.randn(2, 2, 5, 8, 9)
    convert(flat, padding)
    convert(deep, padding)
    frames = torch.stack([flat(frame) for frame in clips.unbind(2)], dim=2)
    torch.testing.assert_close(deep(clips), frames, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("extra", [{}, {"count_include_pad": False}, {"divisor_override": 2}])
def test_pooling_along_chosen_axes_leaves_the_others(padding, extra):
    """Pooling is done axis by axis: time first as it was, then space under the padding, in double precision."""
    clip = torch.randn(2, 3, 6, 7, 8, dtype=torch.float64)
    whole = {"kernel_size": (3, 2, 4), "stride": (2, 2, 1), "padding": (1, 1, 2)}
    time = {"kernel_size": (3, 1, 1), "stride": (2, 1, 1), "padding": (1, 0, 0)}
    space = {"kernel_size": (1, 2, 4), "stride": (1, 2, 1), "padding": (0, 1, 2)}
    override = extra.pop("divisor_override", None)
    for kind in (nn.MaxPool3d, nn.AvgPool3d):
        settings = extra if kind is nn.AvgPool3d else {}
        both, first, second = kind(**whole, **settings), kind(**time, **settings), kind(**space, **settings)
        if kind is nn.AvgPool3d and override:
            both.divisor_override, first.divisor_override, second.divisor_override = override, 1, override
        convert(both, padding, SPACE)
        convert(second, padding)
        torch.testing.assert_close(both(clip), second(first(clip)))


TRANSPOSED = {
    "doubling": {"kernel_size": 4, "stride": 2, "padding": 1},
    "doubling, odd": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "not overlapping": {"kernel_size": 2, "stride": 2},
    "gaps": {"kernel_size": 1, "stride": 3, "output_padding": 2},
    "stride 1": {"kernel_size": 3, "padding": 1},
    "nothing cut": {"kernel_size": 5, "stride": 2},
    "dilated": {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "output_padding": 1},
    "far": {"kernel_size": 9, "stride": 2, "padding": 0},
}


def transposed_by_loops(row, kernel, bias, settings, padding):
    """One axis: cell o of the response reads, by tap t, cell (o + cut − dilation·t) / stride of the continued row."""
    stride, cut, dilation = (settings.get(name, default) for name, default in zip(
        ("stride", "padding", "dilation"), (1, 0, 1), strict=True
    ))  # fmt: skip
    reach, size = dilation * (len(kernel) - 1), len(row)
    length = (size - 1) * stride - 2 * cut + reach + settings.get("output_padding", 0) + 1
    cells = range(length)
    if padding == "full" and reach >= stride:
        cells = range(-cut, (size - 1) * stride + reach + 1 - cut)
    wide = 40 if padding in NUMPY_MODES else 0
    continued = np.pad(row, wide, mode=NUMPY_MODES.get(padding, "constant"))
    response = []
    for cell in cells:
        places = [(cell + cut - dilation * tap, kernel[tap]) for tap in range(len(kernel))]
        read = [(place // stride, weight) for place, weight in places if place % stride == 0]
        inside = [(place, weight) for place, weight in read if -wide <= place < size + wide]
        if padding == "valid" and len(inside) < len(read):
            response.append(None)
            continue
        total = sum(continued[place + wide] * weight for place, weight in inside)
        if padding == "partial" and read:
            total = total * len(read) / len(inside) + bias if inside else 0
        else:
            total += bias
        response.append(total)
    if padding == "valid":
        # What is left is what lies between the last incomplete cell before and the first behind.
        bad = [index for index, value in enumerate(response) if value is None]
        middle = len(response) // 2
        first = max((index + 1 for index in bad if index < middle), default=0)
        response = response[first : min((index for index in bad if index > middle), default=len(response))]
    return np.array(response)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution_equals_loops_over_cells(name, padding):
    """The kernel is a product of one row along each axis, so that a clip is worked out axis by axis."""
    generator, settings = np.random.default_rng(1), TRANSPOSED[name]
    for n_axes, kind in ((2, nn.ConvTranspose2d), (3, nn.ConvTranspose3d)):
        kernels = [generator.normal(size=settings["kernel_size"]) for _ in range(n_axes)]
        rows = [generator.normal(size=7 + axis) for axis in range(n_axes)]
        letters = "abc"[:n_axes]
        outer = f"{','.join(letters)}->{letters}"
        layer = kind(1, 1, **settings, bias=False).double()
        layer.weight.data = torch.from_numpy(np.einsum(outer, *kernels))[None, None]
        convert(layer, padding)
        along = [
            transposed_by_loops(row, kernel, 0, settings, padding) for row, kernel in zip(rows, kernels, strict=True)
        ]
        found = output_of(layer, np.einsum(outer, *rows)[None])[0]
        np.testing.assert_allclose(found, np.einsum(outer, *along), atol=1e-11)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_keeps_groups_bias_and_the_size_asked_for(padding, groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 2, 3, (2, 1), (1, 0), groups=groups).double()
    plain = nn.ConvTranspose2d(4, 2, 3, (2, 1), (1, 0), groups=groups).double()
    plain.load_state_dict(layer.state_dict())
    convert(layer, padding)
    maps = torch.randn(2, 4, 9, 12, dtype=torch.float64)
    rows, columns = {"valid": (0, 2), "full": (-1, 0)}.get(padding, (0, 0))  # what is cut off before
    for size in (None, [17, 14], [18, 14]):
        found, expected = layer(maps, size), plain(maps, size)
        torch.testing.assert_close(
            found[..., 3 - rows : 13 - rows, 3 - columns : 11 - columns], expected[..., 3:13, 3:11]
        )
        if padding not in ("valid", "full"):
            assert found.shape == expected.shape
            assert torch.equal(found, expected) == (padding == "zeros")


def test_a_transposed_convolution_that_is_circular_in_space_leaves_time():
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(2, 3, (3, 4, 4), (2, 2, 2), 1).double()
    clips = torch.randn(1, 2, 4, 5, 6, dtype=torch.float64)
    expected = functional.conv_transpose3d(
        functional.pad(clips, (2, 2, 2, 2, 0, 0), mode="circular"), layer.weight, layer.bias, (2, 2, 2), (1, 5, 5)
    )
    convert(layer, "circular", SPACE)
    torch.testing.assert_close(layer(clips), expected)
    assert layer(clips).shape == (1, 3, 7, 10, 12)


def test_layers_are_padded_only_along_axes_on_which_they_pad():
    layer = nn.Conv3d(1, 1, 3, padding=(0, 1, 1))
    assert not is_padded(layer, "circular", TIME) and is_padded(layer, "circular", SPACE)
    assert is_padded(layer, "full", TIME)
    before = dict(vars(layer))
    convert(layer, "circular", TIME)
    assert type(layer) is nn.Conv3d and vars(layer).keys() == before.keys()


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_clips_are_continued_as_numpy_does(mode):
    clip = np.random.default_rng(0).normal(size=(2, 3, 2, 4))
    for sides in [(1, 1, 1, 1, 1, 1), (0, 3, 2, 0, 5, 1), (0, 0, 0, 0, 2, 2)]:
        along = [(0, 0), (sides[4], sides[5]), (sides[2], sides[3]), (sides[0], sides[1])]
        expected = np.pad(clip, along, mode=NUMPY_MODES[mode])
        np.testing.assert_array_equal(extend(torch.from_numpy(clip)[None], sides, mode)[0].numpy(), expected)
