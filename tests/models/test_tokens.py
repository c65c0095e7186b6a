"""Which tokens are patches, in models that surround, drop and shuffle them."""

import random
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, LayoutError, ProbeWarning
from probe.models.survey import survey
from probe.testing import noise_images, padded_net


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens):
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed, normed, normed)[0]
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    """Position is written by hand into the first two channels of each patch; what else is there holds none."""

    def __init__(self, n_before=1, n_behind=0, order=None, linear=False, grid=(14, 14), patch=16):
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.order = patch, order
        self.embed = nn.Linear(3 * patch**2, 32) if linear else nn.Conv2d(3, 32, patch, patch)
        self.before, self.behind = nn.Parameter(torch.randn(n_before, 32)), nn.Parameter(torch.randn(n_behind, 32))
        rows, columns = torch.meshgrid(*(torch.linspace(-5, 5, size) for size in grid), indexing="ij")
        positions = torch.zeros(grid[0] * grid[1], 32)
        positions[:, 0], positions[:, 1] = rows.flatten(), columns.flatten()
        self.positions = nn.Parameter(positions)
        self.blocks = nn.ModuleList(Block(32) for _ in range(2))
        self.norm = nn.LayerNorm(32)

    def forward(self, images):
        if isinstance(self.embed, nn.Linear):
            patches = images.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
            tokens = self.embed(patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))
        else:
            tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.positions
        if self.order is not None:
            order = self.order(len(images), tokens.shape[1])
            tokens = tokens.gather(1, order[..., None].expand(-1, -1, 32))
        aside = [tokens_.expand(len(images), -1, -1) for tokens_ in (self.before, self.behind)]
        tokens = torch.cat([aside[0], tokens, aside[1]], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def kept_at_random(share):
    return lambda n_images, n_patches: torch.rand(n_images, n_patches).argsort(1)[:, : int(share * n_patches)]


def column_by_column(n_images, n_patches):
    side = round(n_patches**0.5)
    return torch.arange(n_patches).reshape(side, side).T.flatten().expand(n_images, -1)


def found_in(model, image=None, layout=None):
    with torch.no_grad():
        image = noise_images(1, 224) if image is None else image
        return {layer.name: layer for layer in survey(model.eval(), image, layout)}


@pytest.mark.parametrize("linear", [False, True], ids=["convolution", "linear"])
@pytest.mark.parametrize(
    ("n_before", "n_behind"), [(1, 0), (0, 0), (1, 100), (51, 0), (5, 64), (0, 1)],
    ids=["class", "none", "detection", "prompts", "registers and groups", "class behind"],
)  # fmt: skip
def test_tokens_that_are_no_patches_are_set_aside_wherever_they_stand(n_before, n_behind, linear):
    found = found_in(Transformer(n_before, n_behind, linear=linear))
    for name in ("blocks.0.norm1", "blocks.0", "blocks.1.mlp.0", "blocks.1", "norm"):
        layer = found[name]
        assert (layer.n_before, layer.n_behind, layer.height, layer.width) == (n_before, n_behind, 14, 14), name


def test_position_is_read_from_the_patches_among_detection_tokens():
    result = probe.layerwise(
        Transformer(n_behind=100), noise_images(20, 224), layers="blocks.1", stimuli="rolled", positions=None
    )
    assert (result.height.item(), result.width.item()) == (14, 14)
    assert result.r2.min() > 0.9


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (kept_at_random(0.25), "some patches of the image are not among its 50 tokens"),
        (kept_at_random(1), "its 197 tokens are not in the order"),
        (column_by_column, "its 197 tokens are not in the order"),
    ],
    ids=["dropped", "shuffled", "column by column"],
)
def test_dropped_and_shuffled_patches_are_not_understood(order, reason):
    model = Transformer(order=order)
    with pytest.raises(LayoutError, match=rf"blocks\.0 \(Block\): .*{reason}.*by forward=.*layout=") as caught:
        probe.layerwise(model, noise_images(20, 224), layers="blocks.0")
    assert "[1:197]" not in str(caught.value)  # which would be read as if the patches were in order
    with pytest.warns(ProbeWarning, match=f"2 are left out: blocks.0 .*{reason}"):
        result = probe.layerwise(model, noise_images(20, 224), stimuli="natural", positions=20)
    assert result.layer.values.tolist() == ["input", "embed"]


def test_queries_lie_on_no_grid():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.queries = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.randn(100, 32))
            self.attn, self.norm = nn.MultiheadAttention(32, 2, batch_first=True), nn.LayerNorm(32)

        def forward(self, images):
            tokens = self.embed(images).flatten(2).transpose(1, 2)
            return self.norm(self.attn(self.queries.expand(len(images), -1, -1), tokens, tokens)[0])

    found = found_in(Queries(), noise_images(1, 64))
    assert "none of its 100 tokens answers to one patch of the image above all" in found["norm"].problem


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_an_image_without_content_will_do(value):
    found = found_in(Transformer(n_behind=7), torch.full((1, 3, 224, 224), value))
    assert (found["blocks.1"].n_before, found["blocks.1"].n_behind) == (1, 7)


def test_random_states_and_the_image_stay():
    class Drawing(Transformer):
        def forward(self, images):
            torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
            images += 1
            return super().forward(images)

    model, image = Drawing(), noise_images(1, 224)
    before, copy = (torch.get_rng_state(), np.random.get_state()[2], random.getstate()), image.clone()  # noqa: NPY002
    table = probe.list_layers(model, image)
    assert table.loc["blocks.1", "shape"] == (32, 14, 14)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[2], random.getstate()) == before[1:]  # noqa: NPY002
    assert torch.equal(image, copy)


@pytest.mark.parametrize(
    "layout",
    [
        "NLC[1:197]",
        "NLC[1:-100](14, 14)",
        lambda tokens: tokens[:, 1:197].unflatten(1, (14, 14)).permute(0, 3, 1, 2),
    ],
    ids=["slice", "slice and grid", "function"],
)
def test_layout_says_where_the_patches_are(layout, tmp_path):
    model, images = Transformer(n_behind=100), noise_images(20, 224)
    options = {"layers": "blocks.1", "stimuli": "rolled", "positions": None}
    found = probe.layerwise(model, images, **options)
    given = probe.layerwise(model, images, **options, layout={"blocks.*": layout})
    np.testing.assert_array_equal(given.r2, found.r2)
    statistics = probe.collect(model, images, layers="blocks.1", layout={"blocks.*": layout}, positions=20)
    statistics.save(tmp_path / "statistics.pt")
    assert probe.Statistics.load(tmp_path / "statistics.pt").layers[0].height == 14


def test_layout_settles_what_is_not_understood():
    model = Transformer(order=column_by_column)
    turned = {"blocks.1": lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 2, 1)}
    result = probe.layerwise(model, noise_images(20, 224), layers="blocks.1", stimuli="rolled", layout=turned)
    straight = probe.layerwise(Transformer(), noise_images(20, 224), layers="blocks.1", stimuli="rolled")
    np.testing.assert_allclose(result.r2, straight.r2, atol=1e-4)


def test_layouts_that_do_not_fit_are_errors():
    model, image = Transformer(), noise_images(1, 224)
    with pytest.raises(LayoutError, match=r"blocks\.0 \(Block\): the tokens of its output of shape \(2, 197, 32\) fit"):
        probe.layerwise(model, image, layers="blocks.0", layout={"blocks.*": "NLC[3:]"})
    with pytest.raises(LayoutError, match=r"blocks\.0 \(Block\): .*no such tokens as layout= says"):
        probe.layerwise(model, image, layers="blocks.0", layout={"blocks.*": "NLC[3:](14, 14)"})
    with pytest.raises(LayoutError, match=r"layout: the function for 'blocks\.0' made \(2, 197, 32\) of"):
        probe.list_layers(model, image, layout={"blocks.0": lambda tokens: tokens})
    with pytest.raises(ArgumentError, match=r"found function.*layout=\{name: function\}"):
        probe.list_layers(model, image, layout=lambda tokens: tokens)


def test_channels_are_levelled_on_the_patches_alone():
    model, images = Transformer(n_behind=3).eval(), noise_images(2, 224)
    kept = {}
    model.blocks[1].register_forward_pre_hook(lambda module, args: kept.__setitem__("tokens", args[0]))
    with torch.no_grad():
        model(images)
        intact = kept["tokens"]
        with probe.ablate(model, {"blocks.0": [0]}, mode="mean"):
            model(images)
    patches = slice(1, 197)
    mean = intact[:, patches, 0].mean(dim=1, keepdim=True).expand(-1, 196)
    torch.testing.assert_close(kept["tokens"][:, patches, 0], mean)
    assert torch.equal(kept["tokens"][:, 197:], intact[:, 197:])
    assert torch.equal(kept["tokens"][:, 0], intact[:, 0])


def test_what_a_function_lays_out_is_not_ablated():
    layout = {"blocks.0": lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)}
    model = Transformer()
    with (
        pytest.raises(ArgumentError, match=r"layout: blocks\.0 is read through a function"),
        probe.ablate(model, {"blocks.0": [0]}, layout=layout),
    ):
        model(noise_images(1, 224))


class Several(nn.Module):
    """Gives logits first, and maps behind them."""

    def __init__(self, gives):
        super().__init__()
        self.net, self.gives = padded_net(), gives

    def forward(self, images):
        maps = self.net.relu4(self.net.conv1(images))
        return self.gives(maps.mean(dim=(2, 3)), maps)


def test_a_function_chooses_among_the_tensors_of_an_output():
    wrap = Several(lambda logits, maps: {"logits": logits, "features": maps})
    model, images = nn.Sequential(OrderedDict(wrap=wrap)), noise_images(20)
    chosen = {"layers": "wrap", "layout": {"wrap": lambda output: output["features"]}}
    found = probe.layerwise(model, images, **chosen)
    expected = probe.layerwise(model, images, layers="wrap.net.relu4")
    np.testing.assert_array_equal(found.r2, expected.r2)
    with pytest.raises(KeyError, match="maps") as caught:
        probe.layerwise(model, images, layers="wrap", layout={"wrap": lambda output: output["maps"]})
    assert caught.value.__notes__[0] == "probe: while layout= was applied to wrap, a dict."


@pytest.mark.parametrize(
    ("gives", "path"),
    [
        (lambda logits, maps: {"logits": logits, "features": maps}, r"output\['features'\]"),
        (lambda logits, maps: (logits, [maps]), r"output\[1\]\[0\]"),
    ],
    ids=["dictionary", "tuple"],
)
def test_maps_behind_another_tensor_are_not_chosen_silently(gives, path):
    model, images = nn.Sequential(OrderedDict(wrap=Several(gives))), noise_images(2)
    note = probe.list_layers(model, images).loc["wrap", "note"]
    assert re.search(rf"of shape \(2, 16\), is no map.*layout={{'wrap': lambda output: {path}}}$", note)
    with pytest.raises(LayoutError, match=rf"lambda output: {path}"):
        probe.layerwise(model, images, layers="wrap")
