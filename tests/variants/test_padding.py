"""Whole models under every padding: what is kept, what each layer computes, what is said and refused."""

import contextlib
import copy
import pickle
import re
import warnings
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from probe.errors import ArgumentError, ModelError, PaddingError, ProbeWarning
from probe.models.blueprint import blueprint, smallest_input
from probe.variants.padding import PADDINGS, with_padding

SMALLEST_UNDER_VALID = {
    "resnet18": 435,
    "resnet50": 427,
    "vgg11": 150,
    "densenet121": 2071,
    "mobilenet_v3_small": 639,
    "googlenet": 349,
}
SAME_SIZE = PADDINGS[:5]
BUT_VALID = [padding for padding in PADDINGS if padding != "valid"]
# Every padding meets every kind of layer; these three models add depth and joins to what the others are made of.
FEWER = {
    "resnet50": ["circular", "full"],
    "vgg11": ["zeros", "replicate"],
    "densenet121": ["reflect", "partial", "full"],
}

ignore_not_converted = pytest.mark.filterwarnings("ignore:padding='[a-z]*'. not converted")


@pytest.fixture(scope="module", params=SMALLEST_UNDER_VALID)
def named_model(request):
    options = {"init_weights": False, "aux_logits": False} if request.param == "googlenet" else {}
    torch.manual_seed(0)
    model = torchvision.models.get_model(request.param, weights=None, **options).eval()
    if request.param == "vgg11":
        model.classifier = nn.Linear(512 * 7 * 7, 1000)  # its own three layers are 500 MB without a convolution
    return request.param, model, copy.deepcopy(model)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.AvgPool2d(3, 1, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def states_equal(first, second):
    first, second = first.state_dict(), second.state_dict()
    return list(first) == list(second) and all(
        torch.equal(first[key].view(torch.uint8), second[key].view(torch.uint8)) if first[key].ndim else
        first[key] == second[key] for key in first
    )  # fmt: skip


def storages(model):
    return {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}


# What a convolution of a real model must compute, from functional.pad and functional.conv2d alone.
def expected_response(convolution, map_, padding):
    rows, columns = convolution.padding
    sides = (columns, columns, rows, rows)
    mode = padding if padding in ("reflect", "replicate", "circular") else "constant"
    if padding == "full" and any(sides):
        (rows, columns), (row_step, column_step) = convolution.kernel_size, convolution.dilation
        rows, columns = row_step * (rows - 1), column_step * (columns - 1)
        sides = (columns, columns, rows, rows)
    extended = functional.pad(map_, sides, mode=mode) if padding != "valid" else map_
    settings = {"stride": convolution.stride, "dilation": convolution.dilation, "groups": convolution.groups}
    if padding != "partial":
        return functional.conv2d(extended, convolution.weight, convolution.bias, **settings)
    mask = functional.pad(torch.ones_like(map_[:1, :1]), sides)
    kernel = torch.ones(1, 1, *convolution.kernel_size)
    inside = functional.conv2d(mask, kernel, stride=convolution.stride, dilation=convolution.dilation)
    response = functional.conv2d(extended, convolution.weight, **settings) * kernel.sum() / inside
    return response if convolution.bias is None else response + convolution.bias[:, None, None]


def check_every_convolution(original, converted, images, padding):
    """Run the converted model, and compare each convolution in it with its twin in the original."""
    twins = dict(original.named_modules())
    checked = []

    def compare(name):
        def hook(module, args, output):
            expected = expected_response(twins[name], args[0], padding)
            scale = expected.abs().max()  # random weights make deep maps very small
            torch.testing.assert_close(output / scale, expected / scale, rtol=0, atol=1e-5)
            checked.append(name)

        return hook

    convolutions = [name for name, module in converted.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [converted.get_submodule(name).register_forward_hook(compare(name)) for name in convolutions]
    with torch.inference_mode():
        output = converted(images)
    for handle in handles:
        handle.remove()
    assert sorted(checked) == sorted(convolutions)
    return output


@ignore_not_converted
def test_models_keep_their_weights_and_every_convolution_gets_its_border(named_model):
    name, original, before = named_model
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        own = original(images)
    for padding in FEWER.get(name, BUT_VALID):
        converted = with_padding(original, padding)
        assert states_equal(converted, original) and states_equal(original, before)
        assert not storages(converted) & storages(original)
        assert repr(original) == repr(before) and vars(original).keys() == vars(before).keys()
        for (path, module), (twin_path, twin) in zip(original.named_modules(), converted.named_modules(), strict=True):
            assert path == twin_path and isinstance(twin, type(module)) and twin.training == module.training
        output = check_every_convolution(original, converted, images, padding)
        change = (output - own).norm()
        assert change == 0 if padding == "zeros" else change > 0, padding


@ignore_not_converted
def test_models_under_valid_work_from_the_smallest_size_on(named_model):
    name, original, _ = named_model
    converted, size = with_padding(original, "valid"), SMALLEST_UNDER_VALID[name]
    assert smallest_input(converted) == size
    plan = blueprint(converted)
    with pytest.raises(RuntimeError, match=r"can't be greater than actual input size|Output size is too small"):
        plan(torch.empty(1, 3, size - 1, size - 1, device="meta"))
    with pytest.raises(PaddingError, match=rf"images of 90 × 80 leave no map.* {size} × {size}"):
        converted(torch.zeros(1, 3, 90, 80))
    assert plan(torch.empty(1, 3, size, size, device="meta")).shape == (1, 1000)
    if size < 1000:  # the arithmetic of one image of 2,000 pixels is that of eighty usual ones
        with torch.inference_mode():
            output = converted(torch.randn(1, 3, size, size))
        assert output.shape == (1, 1000) and output.isfinite().all()


@pytest.mark.parametrize("padding", SAME_SIZE)
def test_pixels_away_from_the_border_do_not_depend_on_padding(padding):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding="same"))
    images = torch.randn(2, 3, 16, 16)
    expected = net(images)[:, :, 3:-3, 3:-3]
    torch.testing.assert_close(with_padding(net, padding)(images)[:, :, 3:-3, 3:-3], expected)
    torch.testing.assert_close(with_padding(net, "valid")(images), expected)
    torch.testing.assert_close(with_padding(net, "full")(images)[:, :, 6:-6, 6:-6], expected)


def test_under_circular_a_net_of_stride_1_commutes_with_rolling():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 4, 5, padding=2), nn.AvgPool2d(3, 1, 1)
    ).double()
    images = torch.randn(2, 3, 12, 10, dtype=torch.float64)

    def roll(maps):
        return maps.roll((5, -3), (2, 3))

    circular = with_padding(net, "circular")
    torch.testing.assert_close(circular(roll(images)), roll(circular(images)))
    assert not torch.allclose(net(roll(images)), roll(net(images)))


@pytest.mark.parametrize("padding", PADDINGS)
def test_copies_train_pickle_and_copy(padding):
    net, images = small_net().train(), torch.randn(4, 3, 16, 16)
    converted = with_padding(net, padding)
    twins = [copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))]
    before = copy.deepcopy(net.state_dict())
    converted(images).square().sum().backward()
    torch.optim.SGD(converted.parameters(), lr=0.1).step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in converted[0].parameters())
    assert not torch.equal(converted[0].weight, net[0].weight)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in before)
    for twin in twins:
        assert states_equal(twin, net)
        twin.load_state_dict(converted.state_dict())
        torch.testing.assert_close(twin.eval()(images), converted.eval()(images))
        converted.train()


@pytest.mark.filterwarnings("ignore:padding='circular'. not tried")  # an even kernel that is padded adds a row
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_are_right(padding):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2, 1, 1), nn.Conv2d(2, 1, 3, padding=1)).double()
    converted = with_padding(net, padding)
    assert torch.autograd.gradcheck(converted, torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("padding", PADDINGS)
def test_copies_work_in_other_precisions_layouts_and_modes(padding):
    net, images = small_net().eval(), torch.randn(4, 3, 16, 18)
    converted = with_padding(net, padding)
    with torch.inference_mode():
        expected = converted(images)
        torch.testing.assert_close(converted.double()(images.double()).float(), expected)
        assert converted(images.double()).dtype == torch.float64
        half = converted.bfloat16()(images.bfloat16())
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.02)
    last = with_padding(net, padding).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images.to(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(last(images).float(), expected, rtol=0.1, atol=0.02)
    # What was kept in inference mode must serve training.
    with_padding(net, padding)(images).sum().backward()


@pytest.mark.parametrize("padding", PADDINGS)
def test_hooks_see_the_output_of_their_layer(padding):
    net, images, seen = small_net().eval(), torch.randn(2, 3, 16, 16), []
    handle = net[0].register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    converted = with_padding(net, padding)
    handle.remove()
    converted[4].register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    converted(images)
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], expected_response(net[0], images, padding))
    assert not net[0]._forward_hooks and not net[4]._forward_hooks


@pytest.mark.parametrize("padding", PADDINGS)
def test_every_reference_to_a_layer_is_converted(padding):
    class Listed(nn.Module):
        """The same layer under two names and in a plain list, which many models keep beside their layers."""

        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.second = self.first
            self.steps = [self.first, nn.functional.relu, self.second]

        def forward(self, x):
            for step in self.steps:
                x = step(x)
            return x

    net, images = Listed(), torch.randn(2, 3, 9, 9)
    inner = functional.relu(expected_response(net.first, images, padding))
    expected = expected_response(net.first, inner, padding)
    torch.testing.assert_close(with_padding(net, padding)(images), expected)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_model_that_pads_nowhere_is_refused(padding, recwarn):
    transformer = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=4).eval()
    with pytest.raises(ModelError, match=f"padding='{padding}' has nothing to change: no layer pads"):
        with_padding(transformer, padding)
    assert not recwarn


def test_full_leaves_patches_alone():
    net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    converted, images = with_padding(net, "full"), torch.randn(2, 3, 32, 32)
    assert torch.equal(converted[0](images), net[0](images))
    assert converted(images).shape[2:] == (10, 10)


def test_a_vision_transformer_behind_convolutions_is_told_apart_by_its_table():
    stem = [torchvision.models.vision_transformer.ConvStemConfig(8, 3, 2) for _ in range(3)]
    net = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=4, conv_stem_configs=stem).eval()
    with pytest.warns(ProbeWarning, match=r"otherwise than by padding: encoder \(a table of positions\)\.$"):
        with_padding(net, "circular")


@pytest.mark.parametrize("padding", ["circular", "valid"])
def test_the_model_inside_a_wrapper_is_converted(padding):
    net, images = small_net().eval(), torch.randn(2, 3, 16, 16)
    expected = with_padding(net, padding)(images)
    for wrapped in (nn.DataParallel(net), torch.compile(net, backend="eager"), torch.compile(nn.DataParallel(net))):
        converted = with_padding(wrapped, padding)
        assert type(converted) is nn.Sequential and states_equal(converted, net)
        torch.testing.assert_close(converted(images), expected)


def listed_by(model, padding):
    with pytest.warns(ProbeWarning, match=f"padding='{padding}': not converted") as caught:
        with_padding(model, padding)
    assert len(caught) == 1 and caught[0].filename == __file__
    return str(caught[0].message).partition("not converted: ")[2]


class PadsInCode(nn.Module):
    def forward(self, x):
        x = functional.pad(x, (0, 0, 0, 0, 1, 1))  # channels alone
        x = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        x = functional.max_pool2d(functional.avg_pool2d(x, 2), 2)
        return functional.adaptive_avg_pool2d(x, 1)


class PoolsInCode(nn.Module):
    def forward(self, x):
        return functional.max_pool2d(x, 3, 2, 1) if self.training else functional.avg_pool2d(x, 3, ceil_mode=True)


class ConvolvesInCode(nn.Module):
    def forward(self, x):
        return functional.conv2d(x, torch.ones(1, 3, 3, 3), padding=1)


class Untraceable(nn.Module):
    """What it does depends on values, and it takes images of one size that nothing tells."""

    def forward(self, x):
        return functional.relu(x) if x.shape[-1] == 51 and x.sum() > 0 else x.reshape(51)


class OwnConvolution(nn.Conv2d):
    def forward(self, x):
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


ALL_BUT_ZEROS = ("reflect", "partial", "valid", "full")
UNCONVERTED = {
    "ceil_mode": (nn.MaxPool2d(3, 2, ceil_mode=True), r"0 \(ceil_mode\)\.", ("reflect", "valid", "full")),
    "return_indices": (nn.MaxPool2d(3, 2, 1, return_indices=True), r"0 \(return_indices\)\.", ("reflect", "full")),
    "adaptive": (nn.AdaptiveAvgPool2d((7, 1)), r"0 \(adaptive pooling, uneven", ("reflect", "valid", "full")),
    "transposed": (nn.ConvTranspose1d(3, 3, 3), r"0 \(ConvTranspose1d\)\.", ALL_BUT_ZEROS),
    "one axis": (nn.Conv1d(3, 3, 3, padding=1), r"0 \(Conv1d\)\.", ALL_BUT_ZEROS),
    "one axis, unpadded": (nn.Conv1d(3, 3, 3), r"0 \(Conv1d\)\.", ("full",)),
    "padding layer": (nn.ReflectionPad2d(1), r"0 \(ReflectionPad2d\)\.", ("zeros", *ALL_BUT_ZEROS)),
    "zero padding layer": (nn.ZeroPad2d(1), r"0 \(ZeroPad2d\)\.", ALL_BUT_ZEROS),
    "own code": (OwnConvolution(3, 3, 3), r"0 \(OwnConvolution\)\.", ALL_BUT_ZEROS),
    "parametrised": (
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1)),
        r"0 \(ParametrizedConv2d\)\.",
        ALL_BUT_ZEROS,
    ),
    "pad in code": (PadsInCode(), r"0 \(pad in its code\)\.", ALL_BUT_ZEROS),
    "pools in code": (PoolsInCode(), r"0 \(max_pool2d in its code\)\.", ("reflect", "valid", "full")),
    "pools in code, ceil": (PoolsInCode().eval(), r"0 \(avg_pool2d in its code\)\.", ("reflect", "valid", "full")),
    "convolves in code": (ConvolvesInCode(), r"0 \(conv2d in its code\)\.", ALL_BUT_ZEROS),
    "untraceable": (Untraceable(), r"the model \(torch.fx cannot trace it", ALL_BUT_ZEROS),
}


@pytest.mark.parametrize("name", UNCONVERTED)
def test_what_is_not_converted_is_listed_in_one_warning(name, recwarn):
    layer, expected, paddings = UNCONVERTED[name]
    model = nn.Sequential(layer, nn.Conv2d(3, 3, 3, padding=1))
    for padding in ("zeros", *ALL_BUT_ZEROS):
        if padding in paddings:
            assert re.match(expected, listed_by(model, padding))
        else:
            with_padding(model, padding)
    assert not recwarn


@pytest.mark.parametrize("padding", ["reflect", "circular", "full"])
def test_a_model_none_of_whose_layers_can_be_converted_is_refused_with_the_reasons(padding, recwarn):
    body = nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), PadsInCode())
    message = (
        rf"padding='{padding}' changes none of its layers; not converted: 0 \(ceil_mode\); 1 \(pad in its code\)\.$"
    )
    with pytest.raises(ModelError, match=message):
        with_padding(body, padding)
    assert not recwarn


def test_the_warning_names_layers_by_reason():
    body = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.ConvTranspose2d(1, 1, 2, 1), PadsInCode())
    net = nn.Sequential(OrderedDict(stem=nn.MaxPool2d(2, ceil_mode=True), body=body))
    expected = "stem, body.0 (ceil_mode); body.2 (pad in its code)."
    assert listed_by(net, "replicate") == expected


class ShiftsByHand(nn.Module):
    """Moves maps down by a row, in code whose parts are no maps or are not whole: zeros come in at the border."""

    def __init__(self, way):
        super().__init__()
        self.way, self.stem, self.head = way, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        row = x.new_zeros(*x.shape[:2], 1, x.shape[3])
        if self.way == "cat":
            return self.head(torch.cat([row, x, row], 2)[:, :, :-2])
        if self.way == "copy":
            shifted = torch.zeros_like(x)
            shifted[:, :, 1:] = x[:, :, :-1]
            return self.head(shifted)
        # torch.fx cannot trace it, so that no list of functions tells.
        return self.head(nn.functional.pad(x, (0, 0, 1, 0))[:, :, :-1] if len(x) < 1000 else x)


@pytest.mark.parametrize("way", ["cat", "copy", "pad"])
@pytest.mark.parametrize("padding", ["circular", "reflect"])
def test_padding_by_slices_and_copies_is_found_at_the_layer_behind_it(padding, way):
    expected = "head (given maps that do not move with the image, as by padding before it)."
    assert listed_by(ShiftsByHand(way), padding) == expected


def test_a_model_that_begins_with_a_transposed_convolution_is_tried():
    net = nn.Sequential(nn.ConvTranspose2d(5, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_padding(net, "circular")


def test_a_block_that_records_its_settings_is_not_listed():
    class Block(nn.Sequential):
        kernel_size, padding = 3, 1

    for padding in PADDINGS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with_padding(Block(nn.Conv2d(3, 3, 3, padding=1)), padding)
        assert [str(warning.message) for warning in caught] == []


def test_original_padding_modes_are_converted_too():
    net, images = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), torch.randn(2, 3, 8, 8)
    for padding in PADDINGS:
        torch.testing.assert_close(with_padding(net, padding)(images), expected_response(net, images, padding))
    assert net.padding_mode == "circular"


def test_unknown_paddings_are_refused_with_a_near_name():
    with pytest.raises(
        ArgumentError, match=r"'reflekt' is unknown; expected one of zeros, .* Did you mean 'reflect'\?"
    ):
        with_padding(small_net(), "reflekt")
    with pytest.raises(ArgumentError, match=r"padding=None is unknown; expected one of zeros, .*, full\.$"):
        with_padding(small_net(), None)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_models_that_cannot_be_converted_are_refused():
    net = small_net()
    for scripted in (torch.jit.script(net), torch.jit.trace(net.eval(), torch.zeros(1, 3, 16, 16))):
        with pytest.raises(ModelError, match="scripted or traced"):
            with_padding(nn.Sequential(scripted), "circular")
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module, found function"):
        with_padding(lambda x: x, "circular")


@pytest.mark.parametrize("padding", PADDINGS[1:])
def test_a_converted_model_is_not_converted_again(padding):
    converted = with_padding(small_net(), padding)
    for model in (converted, nn.Sequential(converted)):
        with pytest.raises(ModelError, match=r"converted already\. Convert the original model instead"):
            with_padding(model, "zeros")


def test_a_forward_set_by_another_tool_is_kept():
    net = small_net().eval()
    net.forward = negated = pickle.loads(pickle.dumps(Negated()))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(with_padding(net, "valid")(images), negated(images))


class Negated:
    def __call__(self, x):
        return -x


class Three(nn.Conv3d):
    """A class that makes convolutions with settings of its own, as torchvision's video networks do."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__(n_inputs, n_outputs, 3, padding=1)


def clip_net():
    torch.manual_seed(0)
    return nn.Sequential(
        Three(2, 4),
        nn.BatchNorm3d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(3, 1, 1),
        nn.Conv3d(4, 4, 3, padding=1, groups=2),
        nn.ConvTranspose3d(4, 3, 3, padding=1),
        nn.AvgPool3d(3, 1, 1),
    )


CLIP_AXES = {"every axis": None, "space": ("row", "column"), "time": ("frame",)}


@pytest.mark.parametrize("axes", CLIP_AXES.values(), ids=CLIP_AXES)
def test_under_circular_a_net_of_clips_commutes_with_rolling_along_the_chosen_axes_alone(axes, recwarn):
    net = clip_net().double().eval()
    clips = torch.randn(1, 2, 7, 8, 9, dtype=torch.float64)
    circular = with_padding(net, "circular", axes=axes)
    for axis, name in enumerate(("frame", "row", "column"), start=2):
        found, expected = circular(clips.roll(3, axis)), circular(clips).roll(3, axis)
        assert torch.allclose(found, expected, atol=1e-12) == (axes is None or name in axes)
    assert not recwarn


def test_padding_of_space_leaves_time_exactly_as_convolutions_with_zeros_do():
    net, clips = Three(2, 4), torch.randn(2, 2, 6, 7, 8)
    found = with_padding(net, "circular", axes=("row", "column"))(clips)
    extended = functional.pad(clips, (1, 1, 1, 1, 0, 0), mode="circular")
    assert torch.equal(found, functional.conv3d(extended, net.weight, net.bias, padding=(1, 0, 0)))
    # In the other direction: space as it was, time around the other end.
    found = with_padding(net, "circular", axes=("frame",))(clips)
    extended = functional.pad(clips, (0, 0, 0, 0, 1, 1), mode="circular")
    assert torch.equal(found, functional.conv3d(extended, net.weight, net.bias, padding=(0, 1, 1)))


@ignore_not_converted
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_net_of_one_frame_does_what_its_twin_of_images_does_to_every_frame(padding):
    class Flat(nn.Module):
        """A residual network of images or, with kernels of one frame, of clips."""

        def __init__(self, n_axes):
            super().__init__()
            convolution, pool = ((nn.Conv2d, nn.MaxPool2d), (nn.Conv3d, nn.MaxPool3d))[n_axes - 2]

            def one(value, frame):
                return (frame, value, value)[3 - n_axes :]

            self.first = convolution(3, 4, one(3, 1), one(2, 1), one(1, 0))
            self.second = convolution(4, 4, one(3, 1), 1, one(1, 0))
            self.pool = pool(one(3, 1), one(2, 1), one(1, 0))

        def forward(self, maps):
            maps = functional.relu(self.first(maps))
            return self.pool(torch.cat([maps + functional.relu(self.second(maps)), maps], 1))

    torch.manual_seed(0)
    flat, deep = Flat(2).eval(), Flat(3).eval()
    weights = {name: value[:, :, None] if value.ndim == 4 else value for name, value in flat.state_dict().items()}
    deep.load_state_dict(weights)
    clips = torch.randn(2, 3, 5, 22, 26)
    with torch.no_grad():
        expected = torch.stack([with_padding(flat, padding)(frame) for frame in clips.unbind(2)], dim=2)
        torch.testing.assert_close(with_padding(deep, padding)(clips), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", PADDINGS)
def test_copies_of_nets_of_clips_train_pickle_and_copy_and_keep_their_classes(padding):
    net, clips = clip_net().train(), torch.randn(2, 2, 10, 11, 12)
    converted = with_padding(net, padding, axes=("row", "column"))
    assert states_equal(converted, net) and not storages(converted) & storages(net)
    assert [isinstance(twin, type(layer)) for twin, layer in zip(converted, net, strict=True)] == [True] * len(net)
    converted(clips).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in (converted[0].weight, converted[5].weight))
    converted.eval()
    for twin in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert type(twin[0]) is type(converted[0]) and repr(twin) == repr(converted)
        assert torch.equal(twin(clips), converted(clips))
    with pytest.raises(ModelError, match="converted already") if padding != "zeros" else contextlib.nullcontext():
        with_padding(converted, "zeros")


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_video_networks_are_converted_whole(name, recwarn):
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None).eval()
    images = torch.randn(1, 3, 4, 32, 32)
    for axes in (None, ("row", "column")):
        with_padding(net, "circular", axes=axes, images=torch.randn(1, 3, 16, 32, 32))
    assert not recwarn
    with torch.no_grad():
        space = with_padding(net.stem, "circular", axes=("row", "column"), images=images)
        torch.testing.assert_close(space(images.roll((8, 4), (3, 4))), space(images).roll((4, 2), (3, 4)))
        assert not torch.allclose(space(images.roll(2, 2)), space(images).roll(2, 2))


def test_axes_that_no_layer_has_are_refused():
    with pytest.raises(
        ArgumentError, match=r"axes=\('frame',\): no layer .* axis 'frame'; they slide over rows and columns"
    ):
        with_padding(small_net(), "circular", axes=("frame",))
    for axes in ((), ("time",), "depth", ("row", "rows")):
        with pytest.raises(ArgumentError, match="expected some of frame, row, column"):
            with_padding(clip_net(), "circular", axes=axes)
    with pytest.raises(ArgumentError, match="none slides a window"):
        with_padding(nn.Linear(2, 2), "circular", axes=("row",))
    frames = nn.Sequential(nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0)))
    with pytest.raises(ModelError, match=r"no layer pads along axes=\('row', 'column'\)"):
        with_padding(frames, "circular", axes=("row", "column"))


def test_clips_are_asked_for_where_the_model_takes_clips():
    with pytest.raises(
        ArgumentError, match=r"shape \(image, channel, frame, row, column\), found shape \(1, 2, 8, 8\)"
    ):
        with_padding(clip_net(), "circular", images=torch.zeros(1, 2, 8, 8))


def test_one_axis_of_images_can_be_chosen():
    net, images = nn.Conv2d(2, 3, 3, padding=1), torch.randn(1, 2, 5, 6)
    found = with_padding(net, "reflect", axes="column")(images)
    extended = functional.pad(images, (1, 1, 0, 0), mode="reflect")
    assert torch.equal(found, functional.conv2d(extended, net.weight, net.bias, padding=(1, 0)))
