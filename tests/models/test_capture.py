"""What hooks hand on, against activations that the nets themselves keep, copied at once."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ImagesError, LayerNotCalledError, LayoutError, ProbeWarning
from probe.models.capture import reading
from probe.models.layers import select_layers
from probe.models.modules import module_names
from probe.models.survey import survey
from probe.results import layer_map
from probe.testing import noise_images, padded_net


def read(net, images, layers="all", layout=None):
    """Return copies of the maps that `reading` hands on, by name of layer, in order."""
    net.eval()
    maps = {}
    with torch.no_grad():
        chosen, _ = select_layers(layers, survey(net, images[:1], layout), module_names(net))
        with reading(net, chosen, lambda layer, read: maps.__setitem__(layer.name, read.clone())) as run:
            run(images)
    return maps


def facts_of(net, images, layout=None):
    return {layer.name: layer for layer in survey(net.eval(), images[:1], layout)}


class Keeping(nn.Module):
    """A net that keeps copies of what it computes, as (image, channel, row, column)."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def keep(self, name, maps):
        self.kept[name] = maps.clone()
        return maps


def assert_read_as_kept(net, images, **options):
    maps = read(net, images, **options)
    assert net.kept
    for name, kept in net.kept.items():
        assert torch.equal(maps[name], kept), name
    return maps


def random_net(kind, *args, **settings):
    torch.manual_seed(0)
    return kind(*args, **settings)


IMAGES = noise_images(4, size=16)


class Residual(Keeping):
    """One ReLU, in place, called three times; a sum in place; and what they overwrite is wanted as it was."""

    def __init__(self, inplace):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.relu, self.inplace = nn.BatchNorm2d(8), nn.ReLU(inplace=inplace), inplace

    def forward(self, images):
        identity = self.keep("relu", self.relu(self.keep("conv1", self.conv1(images))))
        out = self.keep("norm", self.norm(self.keep("conv2", self.conv2(identity))))
        if self.inplace:
            out += identity
        else:
            out = out + identity
        return self.keep("relu_2", self.relu(self.keep("relu_1", self.relu(out)) - 1))


def test_outputs_overwritten_in_place_are_read_as_they_were():
    inplace, apart = random_net(Residual, True), random_net(Residual, False)
    maps = assert_read_as_kept(inplace, IMAGES)
    assert list(maps) == ["input", "conv1", "relu", "conv2", "norm", "relu_1", "relu_2"]
    assert maps["conv1"].min() < 0 < maps["relu_1"].min() + 1
    expected = read(apart, IMAGES)
    assert all(torch.equal(maps[name], expected[name]) for name in maps)


def test_a_measurement_sees_outputs_as_they_were():
    inplace, apart = random_net(Residual, True), random_net(Residual, False)
    scores = [probe.layerwise(net, noise_images(60, size=16), layers="all", positions=40) for net in (inplace, apart)]
    np.testing.assert_array_equal(scores[0].r2, scores[1].r2)
    mean = probe.channelwise(inplace, IMAGES, layers="conv1", maps="conv1", stimuli="natural", folds=2)
    with torch.no_grad():
        apart.eval()(IMAGES)
    np.testing.assert_allclose(layer_map(mean, "mean_map", "conv1")[0], apart.kept["conv1"].mean(0), atol=1e-6)


def test_the_pixels_are_read_as_given():
    assert torch.equal(read(padded_net("zeros"), IMAGES, "input")["input"], IMAGES)


class ModelOutput(OrderedDict):
    """As Hugging Face's: a mapping whose entries are attributes too, and which indexes as a tuple."""

    def __getattr__(self, name):
        return self[name]

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


@dataclass
class DataclassOutput:
    cache: None
    last_hidden_state: torch.Tensor


class Packed(nn.Module):
    """A convolution whose output is packed as asked for."""

    def __init__(self, pack):
        super().__init__()
        self.conv, self.pack = nn.Conv2d(3, 4, 3), pack

    def forward(self, images):
        return self.pack(self.conv(images))


PACKINGS = {
    "tuple": lambda maps: (maps, maps.mean()),
    "None first": lambda maps: (None, maps),
    "list": lambda maps: [maps],
    "dict": lambda maps: {"out": maps, "aux": maps * 0},
    "ModelOutput": lambda maps: ModelOutput(last_hidden_state=maps, hidden_states=(maps * 0,), attentions=None),
    "dataclass": lambda maps: DataclassOutput(None, maps),
    "nested": lambda maps: {"out": (None, [maps])},
}


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_the_first_tensor_of_an_output_is_read(pack):
    net = nn.Sequential(random_net(Packed, pack))
    maps = read(net, IMAGES)
    assert torch.equal(maps["0"], maps["0.conv"])
    assert maps["0"].shape == (4, 4, 14, 14)


def test_an_output_without_a_tensor_is_an_error_when_named():
    net = nn.Sequential(Packed(lambda maps: None))
    assert list(read(net, IMAGES)) == ["input", "0.conv"]
    with pytest.raises(LayoutError, match=r"0 \(Packed\): its output holds no tensor"):
        read(net, IMAGES, "0")


class Encoder(Keeping):
    """A vision transformer in small: patches of 4×4, prefix tokens, blocks, an output as Hugging Face's."""

    def __init__(self, n_prefix=1, embed=nn.Conv2d, width=12, sequence_first=False):
        super().__init__()
        self.is_convolution = embed is nn.Conv2d
        self.embed = nn.Conv2d(3, width, 4, 4) if self.is_convolution else nn.Linear(48, width)
        self.prefix = nn.Parameter(torch.randn(1, n_prefix, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=not sequence_first)
        self.norm, self.sequence_first = nn.LayerNorm(width), sequence_first

    def forward(self, images):
        n_images, _, height, width = images.shape
        if self.is_convolution:
            tokens = self.keep("embed", self.embed(images)).flatten(2).transpose(1, 2)
        else:
            patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
            tokens = self.embed(patches.reshape(n_images, -1, 48))
        tokens = torch.cat([self.prefix.expand(n_images, -1, -1), tokens], dim=1)
        tokens = self.block(tokens.transpose(0, 1)).transpose(0, 1) if self.sequence_first else self.block(tokens)
        self.keep_tokens("block", tokens, (height // 4, width // 4))
        tokens = self.norm(tokens)
        self.keep_tokens("norm", tokens, (height // 4, width // 4))
        return ModelOutput(last_hidden_state=tokens, pooler_output=tokens[:, 0])

    def keep_tokens(self, name, tokens, grid):
        self.keep(name, tokens[:, self.prefix.shape[1] :].transpose(1, 2).unflatten(2, grid))


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (40, 20), (18, 31)], ids=lambda size: "×".join(map(str, size)))
@pytest.mark.parametrize("n_prefix", [0, 1, 5])
@pytest.mark.parametrize("embed", [nn.Conv2d, nn.Linear])
def test_tokens_are_laid_out_and_prefix_tokens_left_aside(size, n_prefix, embed):
    images = torch.randn(3, 3, *size)
    if embed is nn.Linear:
        images = images[..., : size[0] // 4 * 4, : size[1] // 4 * 4]
    maps = assert_read_as_kept(random_net(Encoder, n_prefix, embed), images)
    assert maps["block"].shape == (3, 12, size[0] // 4, size[1] // 4)


def test_sequence_first_tokens_are_laid_out():
    net = random_net(Encoder, sequence_first=True)
    assert_read_as_kept(net, torch.randn(3, 3, 16, 24))
    facts = facts_of(net, torch.randn(1, 3, 16, 24))
    assert (facts["block"].layout, facts["norm"].layout) == ("LNC", "NLC")


def test_the_default_layers_of_an_encoder_are_its_patches_and_blocks():
    assert [name for name, layer in facts_of(random_net(Encoder), IMAGES).items() if layer.default] == [
        "input",
        "embed",
        "block",
    ]


class ChannelsLast(Keeping):
    """Maps as (image, row, column, channel), as in Swin."""

    def __init__(self, width):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, images):
        maps = self.norm(self.embed(images).permute(0, 2, 3, 1))
        self.keep("norm", maps.permute(0, 3, 1, 2))
        self.keep("mlp", self.mlp(maps).permute(0, 3, 1, 2))
        return maps


@pytest.mark.parametrize("width", [10, 8, 6, 3])
def test_maps_with_channels_last_are_turned(width):
    net = random_net(ChannelsLast, width)
    images = torch.randn(3, 3, 32, 24)
    assert_read_as_kept(net, images)
    assert {facts_of(net, images)[name].layout for name in ("norm", "mlp", "mlp.0", "mlp.1")} == {"NHWC"}


class Reshaped(Keeping):
    """Outputs that cannot be understood without being told."""

    def __init__(self):
        super().__init__()
        self.conv, self.turned, self.tokens = nn.Conv2d(3, 5, 3), nn.Identity(), nn.Identity()

    def forward(self, images):
        maps = self.keep("conv", self.conv(images))[:, :, :6, :20]
        self.keep("turned", maps)
        self.turned(maps.permute(0, 2, 3, 1))
        self.tokens(maps.flatten(2).permute(2, 0, 1))
        return images


def test_what_fits_no_layout_is_an_error_that_asks_for_it_and_layout_settles_it():
    net, images = random_net(Reshaped), noise_images(60, 24)
    with pytest.raises(LayoutError, match=r"turned \(Identity\).*\(2, 6, 20, 5\).*pass layout="):
        read(net, images, "turned")
    with pytest.raises(LayoutError, match=r"tokens \(Identity\).*not among its 120 tokens.*layout="):
        read(net, images, "tokens")
    maps = read(net, images, ["conv", "turned"], layout={"turn*": "NHWC"})
    assert torch.equal(maps["turned"], net.kept["turned"])
    assert torch.equal(maps["conv"], net.kept["conv"])
    result = probe.layerwise(net, images, layers="turned", layout={"turned": "NHWC"}, stimuli="natural")
    assert result.layout.item() == "NHWC"


def test_one_layout_is_for_all_outputs_with_its_number_of_axes():
    net = random_net(Encoder, sequence_first=True)
    facts = facts_of(net, IMAGES, layout="LNC")
    assert facts["block"].layout == "LNC"
    assert facts["embed"].layout == "NCHW"
    assert "(2, 17, 12), for 2 images, has no axis for the images" in facts["norm"].problem
    turned = facts_of(padded_net("zeros", width=8), IMAGES, layout="NHWC")["conv1"]
    assert (turned.n_channels, turned.height, turned.width) == (16, 8, 16)


class Names(nn.Module):
    """A module called `input`, one called twice, and one that has the name of its second call."""

    def __init__(self):
        super().__init__()
        self.input, self.relu, self.relu_1 = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Tanh()

    def forward(self, images):
        return self.relu_1(self.relu(self.relu(self.input(images)) - 0.5))


def test_names_of_calls_keep_clear_of_names_of_modules():
    net = random_net(Names).eval()
    maps = read(net, IMAGES)
    assert list(maps) == ["input", "input:module", "relu", "relu:1", "relu_1"]
    assert torch.equal(maps["input"], IMAGES)
    assert torch.equal(maps["input:module"], net.input(IMAGES))
    assert torch.equal(maps["relu:1"], torch.relu(maps["relu"] - 0.5))
    assert torch.equal(maps["relu_1"], torch.tanh(maps["relu:1"]))
    assert list(read(net, IMAGES, net.input)) == ["input:module"]


class Shared(Keeping):
    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        return self.keep("first_1", self.second(self.keep("first", self.first(images))))


def test_a_module_under_two_names_is_read_at_each_call_under_its_first():
    assert list(assert_read_as_kept(random_net(Shared), IMAGES)) == ["input", "first", "first_1"]


class Branching(nn.Module):
    """Dark images take a shorter way; some have a second turn."""

    def __init__(self):
        super().__init__()
        self.conv, self.detour = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, images):
        maps = self.conv(images)
        return self.detour(maps) if images.mean() > 0 else maps


def test_a_layer_that_a_later_batch_does_not_call_is_an_error_that_names_it():
    images = torch.cat([torch.ones(4, 3, 8, 8), -torch.ones(4, 3, 8, 8)])
    with pytest.raises(LayerNotCalledError, match=r"detour was called for the first image, but not for a later batch"):
        probe.layerwise(Branching(), images, batch_size=4, stimuli="natural", folds=2)
    result = probe.channelwise(Branching(), noise_images(8, 8) - 3, layers="conv", stimuli="natural", folds=2)
    assert np.isfinite(result.omega2).all()


class Repeating(nn.Module):
    """Bright images pass the convolution twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, images):
        maps = self.conv(images)
        return self.conv(maps) if images.mean() > 0 else maps


def test_so_is_a_later_call_of_a_layer():
    images = torch.cat([torch.ones(4, 3, 8, 8), -torch.ones(4, 3, 8, 8)])
    with pytest.raises(LayerNotCalledError, match=r"layers: conv_1 was called for the first image, but not for a lat"):
        probe.layerwise(Repeating(), images, batch_size=4, stimuli="natural", folds=2)


class Changing(nn.Module):
    """The number of channels depends on the images."""

    def forward(self, images):
        return images if images.mean() > 0 else images[:, :2]


def test_an_output_that_changes_its_channels_is_an_error_that_names_the_layer():
    images = torch.cat([torch.ones(4, 3, 8, 8), -torch.ones(4, 3, 8, 8)])
    with pytest.raises(LayoutError, match=r"0 \(Changing\): an output of shape \(4, 2, 8, 8\).*3 channels"):
        probe.layerwise(nn.Sequential(Changing()), images, layers="0", batch_size=4, stimuli="natural", folds=2)


class Constant(nn.Module):
    """A map of parameters, one for all images, as position embeddings are."""

    def __init__(self):
        super().__init__()
        self.map = nn.Parameter(torch.randn(1, 4, 16, 16))

    def forward(self, images):
        return self.map


class WithEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.embedding = nn.Conv2d(3, 4, 1), Constant()

    def forward(self, images):
        return self.conv(images) + self.embedding(images)


def test_one_output_for_all_images_is_not_taken_for_maps_of_images():
    assert list(read(random_net(WithEmbedding), IMAGES)) == ["input", "conv"]
    with pytest.raises(LayoutError, match=r"embedding \(Constant\).*\(1, 4, 16, 16\), for 2 images, has no axis"):
        read(random_net(WithEmbedding), IMAGES, "embedding")


def test_images_of_one_channel():
    net = random_net(nn.Sequential, nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
    images = torch.randn(4, 1, 12, 12)
    maps = read(net, images)
    assert [tuple(m.shape) for m in maps.values()] == [(4, 1, 12, 12), (4, 4, 10, 10), (4, 4, 10, 10)]
    result = probe.channelwise(net, images, stimuli="natural", folds=2)
    assert result.layer.values.tolist() == ["input", *["0"] * 4]
    with pytest.raises(ImagesError, match="found 3 channels, but the model's first convolution expects 1"):
        survey(net, noise_images(1))


def mean_map_of(net, images, layer, **options):
    result = probe.channelwise(net, images, layers=layer, maps=layer, stimuli="natural", folds=2, **options)
    return layer_map(result, "mean_map", layer)[0].values


def test_a_rectangular_map_keeps_its_rows_and_columns():
    net = random_net(nn.Sequential, nn.Conv2d(3, 4, 3, stride=2))
    images = torch.randn(4, 3, 17, 33)
    assert mean_map_of(net, images, "0").shape == (4, 8, 16)
    np.testing.assert_allclose(mean_map_of(net, images, "0"), net(images).mean(0).detach(), atol=1e-6)


def test_a_model_in_bfloat16():
    net = random_net(nn.Sequential, nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3)).bfloat16()
    images = noise_images(40, 12)
    expected = net(images.bfloat16()).float().mean(0).detach()
    np.testing.assert_allclose(mean_map_of(net, images, "2"), expected, atol=2e-3)
    result = probe.layerwise(net, images)
    assert result.valid.all()
    assert net[0].weight.dtype == torch.bfloat16


def test_a_model_in_channels_last_stays_so():
    net = random_net(nn.Sequential, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    expected = net(IMAGES).mean(0).detach()
    net = net.to(memory_format=torch.channels_last)
    np.testing.assert_allclose(mean_map_of(net, IMAGES, "2"), expected, atol=1e-6)
    assert net[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert not net[2].weight.is_contiguous()


class Viewing(nn.Module):
    """A view of rows and columns as one axis, which maps in channels-last memory do not have."""

    def __init__(self, fix=lambda maps: maps):
        super().__init__()
        self.conv, self.head, self.fix = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, 2), fix

    def forward(self, images):
        maps = self.fix(self.conv(images))
        return self.head(maps.view(len(maps), -1))


def test_a_model_that_views_its_maps_is_run_on_contiguous_ones():
    net = random_net(Viewing).eval()
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        net(IMAGES.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(mean_map_of(net, IMAGES, "conv"), net.conv(IMAGES).mean(0).detach(), atol=1e-6)


def images_of_two_sizes():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 3, 12 + 4 * (i % 2), 16, generator=generator) for i in range(8)]


def test_images_of_several_sizes_are_scored_together():
    net = padded_net("zeros", depth=2, width=6)
    result = probe.layerwise(net, iter(images_of_two_sizes()), targets=("row", "border"), positions=None)
    assert result.sizes["target"] == 2
    assert np.isfinite(result.r2).all()
    samples = result.samples_per_feature.sel(layer="conv2").item()
    assert samples == pytest.approx((20 * 12 * 16 + 20 * 16 * 16) / 6)


def test_omega2_needs_one_size_and_says_so():
    net = padded_net("zeros", depth=2, width=6)
    with pytest.warns(ProbeWarning, match="omega2 and maps need images of one size; omega2 is NaN in input, conv1, co"):
        result = probe.channelwise(net, iter(images_of_two_sizes()))
    assert np.isfinite(result.r2).all()
    assert np.isnan(result.omega2).all()
    assert np.isnan(result.omega2_se).all()


@pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
def test_maps_need_one_size_and_say_so(measure):
    with pytest.raises(ImagesError, match="maps: conv2 has maps of several sizes"):
        measure(padded_net("zeros", depth=2, width=6), iter(images_of_two_sizes()), maps="conv2")


def test_tokens_of_several_sizes_are_laid_out_each_on_its_grid():
    net = random_net(Encoder, n_prefix=1).eval()
    chosen, _ = select_layers("block", survey(net, torch.randn(1, 3, 16, 16)), module_names(net))
    shapes = []
    with torch.no_grad(), reading(net, chosen, lambda layer, maps: shapes.append(tuple(maps.shape))) as run:
        for size in [(16, 16), (24, 12), (8, 40)]:
            run(torch.randn(2, 3, *size))
    assert shapes == [(2, 12, 4, 4), (2, 12, 6, 3), (2, 12, 2, 10)]


def users_hook(module, inputs, output):
    return None


def failing(images):
    raise RuntimeError("the model fails")


PUBLIC = {
    "layerwise": lambda net, images: probe.layerwise(net, images, positions=50),
    "channelwise": probe.channelwise,
    "collect": lambda net, images: probe.collect(net, images, positions=50),
    "list_layers": probe.list_layers,
}


@pytest.mark.parametrize("measure", PUBLIC.values(), ids=PUBLIC)
@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
def test_hooks_are_removed_and_the_users_own_stay(measure, fails, left_as_found):
    net = padded_net("zeros", depth=2, width=4).train()
    net.conv1.register_forward_hook(users_hook)
    calls = []
    net.conv2.register_forward_pre_hook(lambda module, inputs: calls.append(1) or (failing(inputs) if fails else None))
    with left_as_found(net):
        if fails:
            with pytest.raises(RuntimeError, match="the model fails"):
                measure(net, noise_images(40, 8))
        else:
            measure(net, noise_images(40, 8))
    assert calls


def test_hooks_are_removed_when_a_receiver_fails():
    net = padded_net("zeros", depth=2)
    chosen, _ = select_layers("auto", survey(net, IMAGES[:1]), module_names(net))
    with pytest.raises(ZeroDivisionError), reading(net, chosen, lambda layer, maps: 1 / 0) as run:
        run(IMAGES)
    assert not any(module._forward_hooks for module in net.modules())
