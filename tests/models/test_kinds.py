"""Which kinds of modules are told apart, also where they are quantised."""

import pytest
import torch
from torch import nn

import probe
from probe.errors import ModelError
from probe.models.capture import reading
from probe.models.first_layers import first_convolution, takes_grey
from probe.models.kinds import is_convolution, is_default_layer
from probe.models.survey import survey
from probe.models.weights import weights_digest
from probe.testing import noise_images


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
