"""Repeated blocks that no name tells, and that may be no modules, against what the nets themselves keep."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import probe
from probe.errors import ArgumentError, ProbeWarning
from probe.models.capture import reading
from probe.models.survey import survey
from probe.testing import noise_images

IMAGES = noise_images(3, 32)


class Mixing(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens):
        return self.out(functional.scaled_dot_product_attention(*self.qkv(self.norm(tokens)).chunk(3, dim=-1)))


class Perceptron(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Block(nn.Module):
    """Attention as a function; nothing is called attention."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Perceptron(width)

    def forward(self, tokens):
        tokens = tokens + Mixing.forward(self, tokens)
        return tokens + self.mlp(tokens)


class InLoop(nn.Module):
    """Blocks whose residuals the loop adds, as vit-pytorch has them."""

    def __init__(self, make_block, n_blocks=3):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.token = nn.Linear(48, 16), nn.Parameter(torch.randn(1, 1, 16))
        self.layers = nn.ModuleList(make_block() for _ in range(n_blocks))
        self.norm, self.kept = nn.LayerNorm(16), []

    def forward(self, images):
        patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), self.embed(patches)], dim=1)
        self.kept = []
        for block in self.layers:
            if isinstance(block, Block):
                tokens = block(tokens)
            else:
                for part in block.values() if isinstance(block, nn.ModuleDict) else block:
                    tokens = part(tokens) + tokens
            self.kept.append(tokens[:, 1:].transpose(1, 2).unflatten(2, (8, 8)))
        return self.norm(tokens)


BLOCKS = {
    "list": lambda: nn.ModuleList([Mixing(16), Perceptron(16)]),
    "mapping": lambda: nn.ModuleDict({"mix": Mixing(16), "mlp": Perceptron(16)}),
    "module": lambda: Block(16),
}


@pytest.mark.parametrize("make_block", BLOCKS.values(), ids=BLOCKS)
def test_auto_reads_what_each_block_gives_to_the_next(make_block):
    model = InLoop(make_block).eval()
    with torch.no_grad():
        blocks = [layer for layer in survey(model, IMAGES[:1]) if layer.default][1:]
        with reading(model, blocks, lambda layer, maps: maps.clone()) as run:
            read = run(IMAGES)
    assert list(read) == ["layers.0", "layers.1", "layers.2"]
    for name, kept in zip(read, model.kept, strict=True):
        assert torch.equal(read[name], kept), name


def test_a_measurement_reads_them_in_their_order():
    result = probe.layerwise(InLoop(BLOCKS["list"]), noise_images(30, 32), stimuli="natural", positions=20)
    assert result.layer.values.tolist() == ["input", "layers.0", "layers.1", "layers.2"]
    assert result.depth.values.tolist() == sorted(result.depth.values.tolist())
    table = probe.list_layers(InLoop(BLOCKS["list"]), IMAGES)
    assert table.loc["layers.1", ["type", "shape", "auto"]].tolist() == ["ModuleList", (16, 8, 8), True]


def test_they_are_read_and_not_ablated():
    model, images = InLoop(BLOCKS["list"]), noise_images(30, 32)
    assert len(probe.rank_channels(model, images, "layers.0").channel) == 16
    with pytest.raises(ArgumentError, match=r"layers\.0 is no output of a module.*layers\.1\.0 is given it"):
        probe.ablation_curve(model, images, range(16), layer="layers.0", counts=[1], score="agreement")


def test_position_is_read_from_them_behind_an_ablated_part():
    model, images = InLoop(BLOCKS["list"]), noise_images(40, 32)
    curve = probe.ablation_curve(
        model, images, range(16), layer="layers.1.1", counts=[8], draws=2, score="position", controls="random"
    )
    assert curve.score.values.tolist() == ["position:layers.1", "position:layers.2"]


def test_blocks_of_which_nothing_can_be_read_are_named():
    class Transposed(InLoop):
        """Each part is given the tokens of all images in one row."""

        def forward(self, images):
            patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
            tokens = self.embed(patches)[None]
            for first, second in self.layers:
                tokens = second(first(tokens) + tokens) + tokens
            return tokens

    with pytest.warns(ProbeWarning) as warned:
        probe.layerwise(Transposed(BLOCKS["list"]), noise_images(30, 32), stimuli="natural", positions=20)
    assert "3 are left out: layers.0 (it is no module that is called, and none of its parts gives a map)" in str(
        warned[0].message
    )


def test_parts_of_fused_layers_are_read_with_what_they_compute():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), nn.Linear(64, 64), nn.TransformerEncoder(layer, 2))
    model.forward = lambda images: model[3](model[0](images).flatten(2).transpose(1, 2))
    table = probe.list_layers(model, IMAGES)
    assert table.index[table.auto].tolist() == ["input", "0", "3.layers.0", "3.layers.1"]
    result = probe.layerwise(model, noise_images(30, 32), layers=["3.layers.0.linear1", "3.layers.1"], positions=20)
    assert result.layer.values.tolist() == ["3.layers.0.linear1", "3.layers.1"]
    assert torch.backends.mha.get_fastpath_enabled()


def test_heads_and_experts_are_no_blocks():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)) for _ in range(2)
            )

        def forward(self, images):
            pooled = self.conv(images).mean((2, 3))
            return [head(pooled) for head in self.heads]

    table = probe.list_layers(Heads(), IMAGES)
    assert table.index[table.auto].tolist() == ["input", "conv"]
