"""What takes the place of channels, in any layout and in any structure."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import probe
from probe.errors import ArgumentError, ImagesError, LayoutError
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise_images(4, 8)


def output_of(model, layer, images=IMAGES):
    """What one module gives, seen from outside."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    handle.remove()
    return seen


@pytest.fixture
def net():
    return padded_net("zeros").eval()


def test_mean_levels_each_image_by_itself(net):
    before = output_of(net, "relu2")[0]
    with probe.ablate(net, {"relu2": [3]}, mode="mean"):
        after = output_of(net, "relu2")[0]
    torch.testing.assert_close(after[:, 3], before[:, 3].mean(dim=(1, 2))[:, None, None].expand(4, 8, 8))
    assert len(after[:, 3, 0, 0].unique()) == 4


def test_mean_of_a_reference_is_that_of_all_its_natural_images(net):
    others = noise_images(30, 8, seed=1)
    reference = probe.channelwise(net, others, layers="relu2", maps="relu2", progress=False)
    with probe.ablate(net, {"relu2": [3, 4]}, mode="mean", reference=reference):
        after = output_of(net, "relu2")[0]
    expected = output_of(net, "relu2", others)[0].mean(dim=(0, 2, 3))[[3, 4]]
    torch.testing.assert_close(after[:, [3, 4]], expected[:, None, None].expand(4, 2, 8, 8), rtol=1e-5, atol=1e-6)


def test_resample_takes_the_next_image_and_the_last_takes_the_first(net):
    before = output_of(net, "relu2")[0]
    with probe.ablate(net, {"relu2": [3]}, mode="resample"):
        after = output_of(net, "relu2")[0]
    assert after[:, 3].equal(before[[1, 2, 3, 0], 3])


class Pair(NamedTuple):
    maps: Tensor
    rest: str


@dataclass
class Record:
    rest: str
    maps: Tensor


STRUCTURES = {
    "tuple": (lambda maps: (maps, 7), lambda output: output[0]),
    "list": (lambda maps: [None, maps], lambda output: output[1]),
    "dict": (lambda maps: OrderedDict(size=3, out=maps), lambda output: output["out"]),
    "nested": (lambda maps: ({"out": [maps]},), lambda output: output[0]["out"][0]),
    "named tuple": (lambda maps: Pair(maps, "rest"), lambda output: output.maps),
    "dataclass": (lambda maps: Record("rest", maps), lambda output: output.maps),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_first_tensor_of_any_structure_is_replaced(name):
    wrap, unwrap = STRUCTURES[name]

    class Part(nn.Module):
        def forward(self, images):
            return wrap(images * 1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Part()

        def forward(self, images):
            return self.part(images)

    model = Model()
    with probe.ablate(model, {"part": [1]}):
        ablated = model(IMAGES)
    intact = model(IMAGES)
    assert type(ablated) is type(intact)
    assert unwrap(ablated)[:, 1].count_nonzero() == 0
    assert unwrap(ablated)[:, [0, 2]].equal(IMAGES[:, [0, 2]])
    assert unwrap(intact).equal(IMAGES)


class ChannelsLast(nn.Module):
    """Works on (image, row, column, channel), as ConvNeXt and Swin do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(5)

    def forward(self, images):
        return self.norm(self.embed(images.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_channels_on_the_last_axis(mode):
    model = ChannelsLast().eval()
    before = output_of(model, "norm")[0]
    with probe.ablate(model, {"norm": [2]}, mode=mode):
        after = output_of(model, "norm")[0]
    kept = [0, 1, 3, 4]
    expected = {"zero": 0 * before, "mean": before.mean(dim=(1, 2), keepdim=True), "resample": before.roll(-1, 0)}
    assert after[..., kept].equal(before[..., kept])
    torch.testing.assert_close(after[..., 2], expected[mode].expand_as(before)[..., 2])


class Tokens(nn.Module):
    """A patch embedding with a class token; `first` says which axis comes first, images or tokens."""

    def __init__(self, first):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 5, 2, stride=2)
        self.norm = nn.LayerNorm(5)
        self.first = first

    def forward(self, images):
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.ones_like(patches[:, :1]).cumsum(dim=2), patches], dim=1)
        return self.norm(tokens if self.first == "images" else tokens.transpose(0, 1))


@pytest.mark.parametrize("first", ["images", "tokens"])
@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_tokens_are_a_map_and_the_class_token_is_none(first, mode):
    model = Tokens(first).eval()

    def tokens():
        output = model(IMAGES)
        return output if first == "images" else output.transpose(0, 1)

    before = tokens()
    with probe.ablate(model, {"norm": [2]}, mode=mode):
        after = tokens()
    expected = before.clone()
    if mode == "zero":
        expected[:, :, 2] = 0
    elif mode == "mean":
        expected[:, 1:, 2] = before[:, 1:, 2].mean(dim=1, keepdim=True)
    else:
        expected[:, :, 2] = before[[1, 2, 3, 0], :, 2]
    torch.testing.assert_close(after, expected)


def test_faults_of_modes_references_and_images(net):
    with pytest.raises(ArgumentError, match="mode='shuffle': expected one of zero, mean, resample"):
        probe.ablate(net, {}, mode="shuffle").__enter__()
    with pytest.raises(ImagesError, match="holds one image"), probe.ablate(net, {"conv1": [0]}, mode="resample"):
        net(IMAGES[:1])
    result = probe.channelwise(net, noise_images(10, 8), layers="conv1", progress=False)
    with (
        pytest.raises(ArgumentError, match="maps='conv1'"),
        probe.ablate(net, {"conv1": [0]}, mode="mean", reference=result),
    ):
        net(IMAGES)
    with pytest.raises(ArgumentError, match="the mode is 'zero'"), probe.ablate(net, {"conv1": [0]}, reference=result):
        net(IMAGES)
    with pytest.raises(ImagesError, match="expected images of shape"), probe.ablate(net, {"conv1": [0]}):
        net(IMAGES[0])
    narrow = padded_net("zeros", width=8)
    reference = probe.channelwise(narrow, noise_images(10, 8), layers="conv1", maps="conv1", progress=False)
    with (
        pytest.raises(ArgumentError, match="8 channels of 'conv1', and the model 16"),
        probe.ablate(net, {"conv1": [0]}, mode="mean", reference=reference),
    ):
        net(IMAGES)


def test_a_map_that_changes_its_layout_is_refused():
    class Moody(nn.Module):
        def forward(self, images):
            return images if images.shape[2] == 8 else images.flatten(2)

    model = nn.Sequential(OrderedDict(moody=Moody()))
    with probe.ablate(model, {"moody": [0]}):
        model(IMAGES)
        with pytest.raises(LayoutError, match="no map of 3 channels in layout NCHW"):
            model(noise_images(2, 9))
