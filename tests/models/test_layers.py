"""Which layers a model has, which are read by default, and how they are chosen."""

import pytest
import torch
import torch.fx
import torchvision
from torch import nn

import probe
from probe.errors import ArgumentError, LayerNotCalledError, LayerNotFoundError, LayoutError, ModelError
from probe.models.capture import reading
from probe.models.layers import (
    first_convolution,
    first_inputs,
    is_convolution,
    is_default_layer,
    layer_named,
    module_names,
    select_layers,
    takes_grey,
    unwrap,
)
from probe.models.loan import run_model
from probe.models.survey import survey
from probe.models.weights import weights_digest
from probe.testing import noise_images, padded_net


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_drop = nn.Dropout()
        self.proj = nn.Linear(width, width)


class SelfOutput(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, width)


class WrappedAttention(nn.Module):
    """As in Hugging Face's vision transformers: attention, and its projection beside it."""

    def __init__(self, width):
        super().__init__()
        self.attention = Attention(width)
        self.output = SelfOutput(width)


def perceptron(width):
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """As in timm."""

    def __init__(self, attention):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(8), attention
        self.norm2, self.mlp = nn.LayerNorm(8), perceptron(8)


class SplitBlock(nn.Module):
    """As in Hugging Face: the two layers of the perceptron stand apart."""

    def __init__(self):
        super().__init__()
        self.attention, self.intermediate, self.output = WrappedAttention(8), nn.Linear(8, 32), nn.Linear(32, 8)


class PatchMerging(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, maps):
        return self.parts(maps)


class Backbone(nn.Module):
    """Blocks, and a head beside them that is a perceptron."""

    def __init__(self):
        super().__init__()
        self.blocks, self.head = nn.Sequential(Block(Attention(8)), Block(Attention(8))), perceptron(8)
        self.attn_pool = Attention(8)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(3, 8, 3), True),
        (nn.ConvTranspose2d(3, 8, 3), True),
        (Block(Attention(8)), True),
        (Block(nn.MultiheadAttention(8, 2)), True),
        (SplitBlock(), True),
        (nn.TransformerEncoderLayer(8, 2, 16), True),
        (PatchMerging(nn.LayerNorm(32), nn.Linear(32, 16)), True),
        (PatchMerging(nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)), False),
        (Attention(8), False),
        (WrappedAttention(8), False),
        (nn.MultiheadAttention(8, 2), False),
        (perceptron(8), False),
        (nn.Sequential(Block(Attention(8)), Block(Attention(8))), False),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False), False),
        (nn.Linear(8, 8), False),
        (nn.BatchNorm2d(8), False),
    ],
    ids=lambda value: None if isinstance(value, bool) else type(value).__name__,
)
def test_convolutions_patch_embeddings_and_blocks_are_read_by_default(module, expected):
    assert is_default_layer(module) is expected


def test_a_pooling_head_with_attention_does_not_make_a_backbone_a_block():
    backbone = Backbone()
    del backbone.head
    assert not is_default_layer(backbone)


def test_a_part_with_a_convolution_is_read_there_and_not_again_around_it():
    model = nn.Sequential(PatchMerging(nn.Conv2d(3, 8, 4, 4)), nn.ReLU())
    assert [layer.name for layer in survey(model, torch.zeros(1, 3, 16, 16)) if layer.default] == ["input", "0.parts.0"]


@pytest.fixture
def net():
    return padded_net("zeros", depth=3)


def chosen(net, layers):
    selected, skipped = select_layers(layers, survey(net, noise_images(1)), module_names(net))
    assert skipped == {}
    return [layer.name for layer in selected]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("auto", ["input", "conv1", "conv2", "conv3"]),
        ("all", ["input", "conv1", "relu1", "conv2", "relu2", "conv3", "relu3"]),
        ("relu2", ["relu2"]),
        ("input", ["input"]),
        ("*1", ["conv1", "relu1"]),
        ("conv[23]", ["conv2", "conv3"]),
        (nn.ReLU, ["relu1", "relu2", "relu3"]),
        (["relu3", nn.Conv2d, "input"], ["input", "conv1", "conv2", "conv3", "relu3"]),
        (("conv1", "conv*"), ["conv1", "conv2", "conv3"]),
        pytest.param(iter(["relu1"]), ["relu1"], id="iterator"),
    ],
    ids=str,
)
def test_selection(net, layers, expected):
    assert chosen(net, layers) == expected


def test_selection_by_module(net):
    assert chosen(net, net.relu2) == ["relu2"]
    assert chosen(net, [net.conv3, net.conv1]) == ["conv1", "conv3"]


def test_a_module_means_all_its_calls():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    assert chosen(net, relu) == ["1", "1_1"]
    assert chosen(net, "1") == ["1"]
    assert chosen(net, nn.ReLU) == ["1", "1_1"]


def test_a_module_under_two_names_has_the_first():
    net = nn.Module()
    net.first = net.second = nn.Conv2d(3, 4, 3)
    net.forward = lambda images: net.second(images)
    assert chosen(net, "auto") == ["input", "first"]


@pytest.mark.parametrize(("layers", "near"), [("conv4", "'conv3'"), ("Conv1", "'conv1'"), ("zzz", "list_layers")])
def test_an_unknown_layer_is_an_error_that_offers_near_names(net, layers, near):
    with pytest.raises(LayerNotFoundError, match=f"no layer '{layers}'.*{near}"):
        chosen(net, layers)


def test_other_unusable_selections_are_errors(net):
    with pytest.raises(LayerNotFoundError, match="Conv2d is no part of this model"):
        chosen(net, nn.Conv2d(3, 3, 1))
    with pytest.raises(ArgumentError, match="found int"):
        chosen(net, [3])
    with pytest.raises(ArgumentError, match="found float"):
        chosen(net, 3.5)
    for empty in ([], nn.Conv3d):
        with pytest.raises(LayerNotFoundError, match="no layer with a map"):
            chosen(net, empty)


class Uncalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.extra = nn.Sequential(nn.Conv2d(4, 4, 1))

    def forward(self, images):
        return self.conv(images)


@pytest.mark.parametrize("layers", ["extra.0", "extra*", ["conv", "extra.0"]])
def test_a_layer_that_is_never_called_is_an_error_of_its_own(layers):
    with pytest.raises(LayerNotCalledError, match=r"'extra(\.0)?' exists, but the forward pass never calls it"):
        chosen(Uncalled(), layers)


def test_a_module_that_is_never_called_is_an_error_too():
    net = Uncalled()
    with pytest.raises(LayerNotCalledError, match=r"'extra\.0' exists"):
        chosen(net, net.extra[0])


def test_a_part_of_a_called_module_that_is_not_called_itself_names_it():
    net = nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(24 * 24, 2))
    net.forward = lambda images: net[1](*[net[0](images)] * 3)[0]
    with pytest.raises(LayerNotCalledError, match=r"'1\.out_proj'.*Its parent '1' is called"):
        chosen(net, "1.out_proj")


def test_single_cells_are_skipped_with_the_reason():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1), nn.Flatten(), nn.Linear(8, 2))
    selected, skipped = select_layers("all", survey(net, noise_images(1)), module_names(net))
    assert [layer.name for layer in selected] == ["input", "0"]
    assert list(skipped) == ["1", "2", "3", "4"]
    assert all("single cell" in reason for reason in skipped.values())
    with pytest.raises(LayerNotFoundError, match="2: its map has a single cell"):
        chosen(net, "2")


def test_single_cells_are_listed_in_the_result_and_not_scored():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1))
    with pytest.warns(probe.ProbeWarning, match="1 is left out: 2 "):
        result = probe.layerwise(net, noise_images(50), stimuli="natural", positions=100)
    assert result.layer.values.tolist() == ["input", "0"]
    assert result.attrs["skipped"] == '{"2": "its map has a single cell, which leaves no position to read"}'


class Windows(nn.Module):
    """Sixteen windows an image, on the first axis."""

    def forward(self, maps):
        return maps.unfold(2, 6, 6).unfold(3, 6, 6).permute(0, 2, 3, 4, 5, 1).reshape(-1, 36, maps.shape[1])


class InWindows(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.windows = nn.Conv2d(3, 4, 1), Windows()

    def forward(self, images):
        return self.windows(self.conv(images))


def test_windows_are_skipped_among_all_and_an_error_when_named():
    net = InWindows()
    selected, skipped = select_layers("all", survey(net, noise_images(1)), module_names(net))
    assert [layer.name for layer in selected] == ["input", "conv"]
    assert "(32, 36, 4), for 2 images, has no axis for the images" in skipped["windows"]
    with pytest.raises(LayoutError, match=r"windows \(Windows\): its output of shape \(32, 36, 4\)"):
        chosen(net, "windows")


def test_wrappers_are_taken_off(net):
    assert unwrap(net) is net
    assert unwrap(nn.DataParallel(net)) is net
    assert unwrap(torch.compile(net)) is net
    assert unwrap(nn.DataParallel(torch.compile(net))) is net


def test_parts_that_are_compiled_keep_their_names():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), torch.compile(nn.Sequential(nn.ReLU())))
    assert list(module_names(net).values()) == ["0", "1", "1.0"]


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: torch.jit.script(net), "scripted or traced"),
        (lambda net: torch.jit.trace(net, noise_images(1)), "scripted or traced"),
        (lambda net: nn.Sequential(torch.jit.script(net)), "0 is a scripted or traced"),
        (lambda net: nn.Sequential(nn.LazyConv2d(3, 1)), "no values"),
        (lambda net: net.to("meta"), "parameter conv1.weight has no values"),
        (lambda net: net.forward, "found method"),
    ],
    ids=["scripted", "traced", "scripted part", "lazy", "meta", "no module"],
)
def test_models_that_cannot_be_read_are_errors(net, make, message):
    with pytest.raises(ModelError, match=message):
        unwrap(make(net))


def test_list_layers_shows_every_call_and_what_is_never_called():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)
            self.unused = nn.Identity()

        def forward(self, images):
            return self.head(self.relu(self.relu(self.conv(images))).mean((2, 3)))

    table = probe.list_layers(Net(), noise_images(1))
    assert table.index.tolist() == ["input", "conv", "relu", "relu_1", "head", "unused"]
    assert table["type"].tolist() == ["pixels", "Conv2d", "ReLU", "ReLU", "Linear", "Identity"]
    assert table["shape"].tolist()[:4] == [(3, 24, 24), (4, 22, 22), (4, 22, 22), (4, 22, 22)]
    assert table["call"].tolist()[:5] == [0, 0, 0, 1, 0]
    assert table["calls"].tolist() == [1, 1, 2, 2, 1, 0]
    assert table["auto"].tolist() == [True, True, False, False, False, False]
    assert table["note"].tolist()[4:] == ["a single cell: no position to read", "never called"]
    assert table["MB"].notna().tolist() == [True, True, True, True, False, False]


def test_list_layers_estimates_what_the_statistics_take(net):
    statistics = probe.collect(net, noise_images(10), progress=False)
    table = probe.list_layers(net, noise_images(1))
    for name in ("input", "conv2"):
        taken = sum(statistics.grams[stimulus, name].nbytes for stimulus in statistics.stimuli)
        assert table.MB[name] == pytest.approx(taken / 1e6, abs=6e-4)


@pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
@pytest.mark.parametrize(
    "select", [lambda net: nn.Conv2d, lambda net: [net.conv2, "conv3"], lambda net: iter(["conv*"])]
)
def test_layers_with_maps_are_chosen_as_layers_are(net, measure, select):
    result = measure(net, noise_images(60), layers=["conv2", "conv3"], maps=select(net), stimuli="natural")
    assert {map_.attrs["layer"] for name, map_ in result.items() if name.startswith("mean_map")} == {"conv2", "conv3"}


def flattened(n_inputs):
    return nn.Sequential(nn.Flatten(), nn.LayerNorm(n_inputs, elementwise_affine=False), nn.Linear(n_inputs, 4))


@pytest.mark.parametrize(
    ("model", "grey", "square"),
    [
        (nn.Conv2d(1, 4, 3), True, True),
        (nn.Conv2d(3, 4, 3), False, False),
        (nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 3)), False, False),  # greys are made colours inside
        (flattened(28 * 28), True, True),
        (flattened(3 * 32 * 32), False, False),
        (flattened(96 * 96), False, True),  # as many as three channels of 48 by 64 pixels
        (flattened(1000), False, False),
        (nn.Identity(), False, False),
        (nn.Sequential(nn.Embedding(5, 16), nn.Linear(16, 4)), False, False),  # no pixels
    ],
)
def test_which_models_take_greys(model, grey, square):
    assert takes_grey(model) == grey
    assert takes_grey(model, square=True) == square


def test_a_first_linear_layer_tells_how_many_numbers_an_image_has():
    assert first_inputs(flattened(12)) == 12
    assert first_inputs(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4))) == 0  # which may normalise tokens
    assert first_inputs(nn.ReLU()) == 0


def test_one_layer_is_found_by_its_name_or_the_right_one_offered():
    model = padded_net(depth=2)
    found, names = survey(model, noise_images(1)), module_names(model)
    assert layer_named("conv2", found, names).n_channels == 16
    with pytest.raises(LayerNotFoundError, match=r"no layer 'conv3' among the 5 of this model\. Did you mean 'conv2'"):
        layer_named("conv3", found, names)
    with pytest.raises(LayerNotFoundError):
        layer_named("conv*", found, names)


class TestQuantised:
    """Dynamically and statically, as torch has long done it; torch warns of the ways that it will drop."""

    pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor creation")

    @pytest.fixture
    def blocks(self):
        torch.manual_seed(0)
        return nn.Sequential(*(Block(Attention(8)) for _ in range(2)))

    def test_dynamically_quantised_blocks_are_read_by_default(self, blocks):
        quantised = torch.ao.quantization.quantize_dynamic(blocks, {nn.Linear}, dtype=torch.qint8)
        assert not any(type(module) is nn.Linear for module in quantised.modules())
        assert [is_default_layer(block) for block in quantised] == [True, True]

    def test_weights_that_are_no_plain_tensors_are_told_apart(self, blocks):
        quantised = [
            torch.ao.quantization.quantize_dynamic(blocks if seed == 0 else blocks.apply(halved), {nn.Linear})
            for seed in (0, 0, 1)
        ]
        digests = [weights_digest(model) for model in quantised]
        assert digests[0] == digests[1] != digests[2]

    def test_a_quantised_convolution_is_read_as_the_plain_one_is(self):
        net = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 3), torch.ao.quantization.DeQuantStub())
        net.eval().qconfig = torch.ao.quantization.default_qconfig
        images = noise_images(20, 8)
        prepared = torch.ao.quantization.prepare(net)
        prepared(images)
        quantised = torch.ao.quantization.convert(prepared)
        assert [layer.name for layer in survey(quantised, images[:1]) if layer.default] == ["input", "1"]
        maps = {}
        with torch.no_grad(), reading(quantised, survey(quantised, images[:1])[2:3], lambda _, maps: maps) as run:
            maps = run(images)["1"]
        # Of steps of 1/128 of the largest weight, and of the largest activation, 27 products are summed.
        torch.testing.assert_close(maps, net[1](images), atol=0.1, rtol=0)
        assert first_convolution(quantised).in_channels == 3 and not takes_grey(quantised)
        message = r"^1 \(Conv2d\): its output is quantised.*as it was before it was quantised"
        with probe.ablate(quantised, {"1": [0]}), pytest.raises(ModelError, match=message):
            quantised(images)

    def test_what_only_resembles_a_convolution_is_none(self, blocks):
        class Wrapper(nn.Module):
            def __init__(self, inner, kernel_size):
                super().__init__()
                self.in_channels, self.out_channels, self.kernel_size, self.inner = 3, 4, kernel_size, inner

        class Own(Wrapper):
            @property
            def stride(self):
                raise RuntimeError("not yet known")

        quantised = torch.ao.nn.quantized.Conv2d(3, 4, 3)
        assert is_convolution(quantised) and is_convolution(Own(nn.ReLU(), (3, 3)))
        assert not is_convolution(Wrapper(quantised, (3, 3)))
        assert not is_convolution(Wrapper(nn.Conv1d(3, 4, 3), (3,)))
        assert not is_convolution(torch.ao.nn.quantized.Conv1d(3, 4, 3))


def halved(module):
    if isinstance(module, nn.Linear):
        module.weight.data /= 2


class TestExported:
    def test_it_is_refused_with_the_cure(self):
        program = torch.export.export(padded_net(depth=2).eval(), (noise_images(2),))
        with pytest.raises(ModelError, match=r"model: it is exported.*Pass the model as it was before torch.export"):
            unwrap(program.module())
        with pytest.raises(ModelError, match=r"found ExportedProgram. Pass the model as it was before torch.export"):
            unwrap(program)

    def test_a_part_that_takes_other_batches_says_so(self):
        part = torch.export.export(nn.ReLU(), (noise_images(3),)).module()
        with pytest.raises((AssertionError, RuntimeError)) as caught:
            run_model(nn.Sequential(part), noise_images(2))
        assert "a part of the model was exported for other shapes" in str(caught.value.__notes__)

    def test_a_traced_model_keeps_its_blocks(self):
        vit = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16).eval()
        images = noise_images(1, 16)
        traced = torch.fx.symbolic_trace(vit)
        names = [layer.name for layer in survey(traced, images) if layer.default]
        assert names[:2] == ["input", "conv_proj"]
        assert [name for name in names if "encoder_layer" in name] == [
            "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1",
        ]  # fmt: skip
