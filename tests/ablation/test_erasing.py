"""Erasers in models: for a while, and for good."""

import copy
import io

import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, LayerNotFoundError, LayoutError
from probe.testing import CoordinateNet, noise_images, padded_net

IMAGES = noise_images(60, 12)
LAYER = "conv2"


@pytest.fixture(scope="module")
def net():
    return padded_net("zeros", depth=3).requires_grad_(False)


@pytest.fixture(scope="module")
def eraser(net):
    return probe.fit_eraser(probe.collect(net, IMAGES, layers=LAYER, progress=False), LAYER)


@pytest.fixture(scope="module")
def expected(net, eraser):
    """The layer computed, erased, and the rest of the net run by hand."""
    hidden = IMAGES
    for name, layer in net.named_children():
        hidden = layer(hidden)
        if name == LAYER:
            hidden = eraser(hidden)
    return hidden


def test_both_ways_are_the_net_with_the_eraser_behind_the_layer(net, eraser, expected):
    before = net(IMAGES)
    with probe.ablate(net, {LAYER: eraser}):
        assert torch.equal(net(IMAGES), expected)
    assert torch.equal(probe.with_erasers(net, {LAYER: eraser})(IMAGES), expected)
    assert torch.equal(net(IMAGES), before)
    assert not torch.allclose(expected, before, atol=1e-3)


def test_beside_channels_and_nested(net, eraser):
    with probe.ablate(net, {LAYER: eraser, "conv1": [0, 1]}, mode="mean"):
        together = net(IMAGES)
    with probe.ablate(net, {"conv1": [0, 1]}, mode="mean"), probe.ablate(net, {LAYER: eraser}):
        assert torch.equal(net(IMAGES), together)


def test_what_is_erased_cannot_be_read_there(net, eraser):
    options = {"layers": [LAYER, "conv3"], "stimuli": "rolled", "progress": False}
    unseen = noise_images(60, 12, seed=1)
    intact = probe.layerwise(net, unseen, **options).r2.mean("target").squeeze()
    with probe.ablate(net, {LAYER: eraser}):
        erased = probe.layerwise(net, unseen, **options).r2.mean("target").squeeze()
    assert abs(erased.sel(layer=LAYER)) < 0.01 < 0.05 < intact.sel(layer=LAYER)
    # Zeros are padded again behind the layer.
    assert erased.sel(layer="conv3") > 0.05


@pytest.mark.parametrize(
    "kept",
    [
        copy.deepcopy,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.export.export(model, (IMAGES,)).module(),
        lambda model: saved_and_read(model),
        lambda model: model.to(memory_format=torch.channels_last),
    ],
    ids=["copied", "compiled", "exported", "saved", "channels last"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_copy_to_keep(kept, net, eraser, expected):
    found = kept(probe.with_erasers(net, {LAYER: eraser}))(IMAGES)
    assert torch.allclose(found, expected, atol=1e-5)


def saved_and_read(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_its_state_dict_carries_the_eraser(net, eraser, expected):
    without = probe.with_erasers(net, {LAYER: eraser})
    assert without.state_dict().keys() - net.state_dict().keys() == {
        f"{LAYER}.eraser_{part}" for part in ("mean", "left", "right")
    }
    blank = copy.deepcopy(eraser)
    for part in (blank.mean, blank.left, blank.right):
        part.zero_()
    other = probe.with_erasers(net, {LAYER: blank})
    assert torch.equal(other(IMAGES), net(IMAGES))
    other.load_state_dict(without.state_dict())
    assert torch.equal(other(IMAGES), expected)


def test_layers_that_hold_others(net, eraser):
    whole = nn.Sequential(padded_net("zeros", depth=2, width=6), nn.ReLU())
    statistics = probe.collect(whole, IMAGES, layers="0", progress=False)
    found = probe.fit_eraser(statistics, "0")
    expected = whole[1](found(whole[0](IMAGES)))
    assert torch.equal(probe.with_erasers(whole, {"0": found})(IMAGES), expected)


def test_a_transformer_keeps_its_class_token():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, depth=2).eval()
    images = noise_images(10, 64)
    statistics = probe.collect(model, images, layers="blocks.1", progress=False)
    with pytest.warns(probe.ProbeWarning, match="fewer than its 192 channels"):
        eraser = probe.fit_eraser(statistics, "blocks.1")
    seen = []
    model.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images)
    with probe.ablate(model, {"blocks.1": eraser}):
        model(images)
    probe.with_erasers(model, {"blocks.1": eraser})(images)
    tokens, *_, erased = seen
    assert torch.equal(erased[:, 0], tokens[:, 0])
    assert (erased[:, 1:] - tokens[:, 1:]).abs().max() > 1e-3
    assert torch.equal(seen[-2], erased)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("conv1", {}, "an eraser of 'conv2' .* was given for 'conv1'"),
        (LAYER, {"mode": "mean"}, "only erasers are given"),
    ],
)
def test_what_ablate_refuses(layer, options, message, net, eraser):
    with pytest.raises(ArgumentError, match=message), probe.ablate(net, {layer: eraser}, **options):
        net(IMAGES)


def test_features_that_a_function_read_are_not_put_back(net):
    given = {"conv2": lambda output: output.flip(1)}
    statistics = probe.collect(net, IMAGES, layers=LAYER, layout=given, progress=False)
    with pytest.raises(ArgumentError, match="'conv2' was read through a function"):
        probe.with_erasers(net, {LAYER: probe.fit_eraser(statistics, LAYER)})


def test_an_output_of_another_width_is_an_error(net, eraser):
    other = padded_net("zeros", depth=3, width=6)
    with pytest.raises(LayoutError, match=r"eraser of 'conv2': expected 4 axes with 16 channels"):
        probe.with_erasers(other, {LAYER: eraser})(IMAGES)


def test_what_a_copy_refuses(net, eraser):
    with pytest.raises(ArgumentError, match="none is given"):
        probe.with_erasers(net, {})
    with pytest.raises(ArgumentError, match=r"erasers: expected \{layer: .*found list"):
        probe.with_erasers(net, [eraser])
    with pytest.raises(ArgumentError, match="one of 'conv2' was given for 'conv1'"):
        probe.with_erasers(net, {"conv1": eraser})
    with pytest.raises(ArgumentError, match="found list"):
        probe.with_erasers(net, {LAYER: [1, 2]})
    with pytest.raises(LayerNotFoundError, match="'conv2' is no module"):
        probe.with_erasers(CoordinateNet(), {LAYER: eraser})
    with pytest.raises(ArgumentError, match="has one already"):
        probe.with_erasers(probe.with_erasers(net, {LAYER: eraser}), {LAYER: eraser})
