"""Models of torchvision and timm: which layers are found, and their values against other ways of reading them."""

from copy import deepcopy

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

import probe
from probe.models.capture import reading
from probe.models.layers import select_layers
from probe.models.modules import module_names
from probe.models.survey import survey
from probe.results import layer_map


def as_is(maps):
    return maps


def last_axis(maps):
    return maps.permute(0, 3, 1, 2)


def tokens_on(*grid, n_prefix=1):
    return lambda tokens: tokens[:, n_prefix:].transpose(1, 2).unflatten(2, grid)


def segmentation():
    return models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)


def vgg11():
    net = models.vgg11(weights=None, init_weights=False)
    net.classifier = nn.Linear(512 * 7 * 7, 10)  # its own three layers are 500 MB without a map
    return net


def vision_transformer():
    return models.VisionTransformer(
        image_size=96, patch_size=16, num_layers=3, num_heads=4, hidden_dim=192, mlp_dim=384
    )


def googlenet():
    return models.googlenet(weights=None, init_weights=False, aux_logits=False)


# Name: how to make it, height and width of the images, number of convolutions and blocks with a map at that size,
# and layers to compare, with how torchvision's output becomes (image, channel, row, column).
TORCHVISION = {
    "resnet18": (
        models.resnet18,
        (64, 96),
        20,
        {"conv1": as_is, "layer2.0.downsample.0": as_is, "layer4.1": as_is},
    ),
    "resnet50": (models.resnet50, (64, 64), 53, {"layer1.0.conv3": as_is, "layer4.2.conv2": as_is}),
    "vgg11": (vgg11, (48, 64), 8, {"features.0": as_is, "features.18": as_is, "avgpool": as_is}),
    "densenet121": (
        models.densenet121,
        (64, 64),
        120,
        {"features.denseblock2.denselayer3.conv2": as_is, "features.transition2": as_is},
    ),
    "mobilenet_v3_small": (models.mobilenet_v3_small, (64, 96), 34, {"features.4.block.1": as_is, "features.8": as_is}),
    "convnext_tiny": (
        models.convnext_tiny,
        (64, 96),
        22,
        {"features.1.0.block.0": as_is, "features.3.1.block.3": last_axis, "features.5": as_is},
    ),
    "googlenet": (googlenet, (64, 64), 57, {"inception3a.branch4.1.conv": as_is, "inception4b.branch2.0.conv": as_is}),
    "vision transformer": (
        vision_transformer,
        (96, 96),
        4,
        {"conv_proj": as_is, "encoder.layers.encoder_layer_0": tokens_on(6, 6), "encoder.ln": tokens_on(6, 6)},
    ),
    "swin_t": (
        models.swin_t,
        (64, 96),
        16,
        {"features.1.1": last_axis, "features.2": last_axis, "features.7.0.mlp": last_axis},
    ),
    "deeplabv3_mobilenet_v3_large": (
        segmentation,
        (64, 96),
        53,
        {"backbone.16": as_is, "classifier.0.convs.2.0": as_is, "classifier": as_is},
    ),
}


def make(create, *args, **settings):
    torch.manual_seed(0)
    return create(*args, **settings).eval()


def images_of(size, count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def read(model, images, layers):
    maps = {}
    with torch.inference_mode():
        chosen, _ = select_layers(layers, survey(model, images[:1]), module_names(model))
        with reading(model, chosen, lambda layer, read: maps.__setitem__(layer.name, read.clone())) as run:
            run(images)
    return maps


@pytest.fixture(scope="module", params=TORCHVISION, ids=str)
def torchvision_case(request):
    create, size, n_layers, layers = TORCHVISION[request.param]
    return make(create), images_of(size), n_layers, layers


def test_torchvision_layers(torchvision_case):
    model, images, n_layers, _ = torchvision_case
    found = survey(model, images[:1])
    auto = [layer for layer in found if layer.default and not layer.is_single_cell]
    assert [layer.name for layer in found if layer.problem] == []
    assert auto[0].name == "input"
    assert len(auto) == 1 + n_layers
    convolutions = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    assert {layer.module for layer in auto if layer.module_type == "Conv2d"} <= convolutions


def extracted(model, images, names):
    """Return what torchvision's feature extractor gives, of a copy that overwrites nothing in place."""
    model = deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    with torch.inference_mode():
        return create_feature_extractor(model, return_nodes=list(names))(images)


def test_torchvision_values_equal_those_of_its_feature_extractor(torchvision_case):
    model, images, _, layers = torchvision_case
    expected, maps = extracted(model, images, layers), read(model, images, list(layers))
    assert set(maps) == set(layers)
    for name, arrange in layers.items():
        assert torch.equal(maps[name], arrange(expected[name])), name


@pytest.mark.filterwarnings("ignore:.*channels? do(es)? not vary")
def test_torchvision_mean_maps_are_of_these_values(torchvision_case):
    model, images, _, layers = torchvision_case
    images = torch.cat([images, images.flip(0) + 0.1])
    expected = read(model, images, list(layers))
    result = probe.channelwise(
        model, images, layers=list(layers), maps=list(layers), stimuli="natural", folds=2, batch_size=3
    )
    for name in layers:
        mean_map = layer_map(result, "mean_map", name)[0]
        assert mean_map.dims == ("channel", "row", "column")
        scale = expected[name].abs().max().item()
        np.testing.assert_allclose(mean_map, expected[name].double().mean(0), atol=1e-4 * scale, err_msg=name)


def test_calls_of_one_relu_have_the_names_and_values_of_torchvision():
    model, images = make(models.resnet18), images_of((64, 64))
    names = ["layer1.0.relu", "layer1.0.relu_1", "layer3.1.relu", "layer3.1.relu_1"]
    expected, maps = extracted(model, images, names), read(model, images, "layer*relu*")
    assert len(maps) == 16
    for name in names:
        assert torch.equal(maps[name], expected[name]), name


def test_the_default_layers_of_vision_transformers():
    names = [layer.name for layer in survey(make(models.swin_t), images_of((64, 64), 1)) if layer.default]
    assert names[:6] == ["input", "features.0.0", "features.1.0", "features.1.1", "features.2", "features.3.0"]
    model = make(models.vit_b_16, image_size=32)
    names = [layer.name for layer in survey(model, images_of((32, 32), 1)) if layer.default]
    assert names == ["input", "conv_proj", *(f"encoder.layers.encoder_layer_{i}" for i in range(12))]


def test_squeeze_and_excitation_is_skipped_as_single_cells():
    model, images = make(models.mobilenet_v3_small), images_of((64, 64), 4)
    with pytest.warns(probe.ProbeWarning, match=r"18 are left out: features\.1\.block\.1\.fc1 \(its map has a single"):
        statistics = probe.collect(model, images, positions=4, folds=2, stimuli="natural")
    assert len(statistics.facts.skipped) == 18
    assert len(statistics.layers) == 35


@torch.no_grad()
def with_normalised_activations(model, images):
    """Set the averages of batch normalisation: without, random weights leave next to nothing at the output."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()(images)
    return model.eval()


def test_a_segmentation_model_is_measured_to_its_output():
    images = images_of((64, 64), 60)
    model = with_normalised_activations(make(segmentation), images[:8])
    result = probe.layerwise(model, images, layers=["classifier", "input"], positions=16, stimuli="natural")
    assert result.n_channels.values.tolist() == [3, 21]
    assert np.isfinite(result.r2).all()


def blocks_of_a_vision_transformer(model, images):
    intermediates = model.forward_intermediates(images, intermediates_only=True)
    return {f"blocks.{index}": maps for index, maps in enumerate(intermediates)}


@pytest.mark.parametrize(
    ("name", "size", "n_prefix"),
    [("vit_small_patch14_reg4_dinov2", (70, 98), 5), ("deit_tiny_distilled_patch16_224", (64, 48), 2)],
)
def test_timm_transformers_with_prefix_tokens(name, size, n_prefix):
    model, images = make(timm.create_model, name, img_size=size), images_of(size)
    assert model.num_prefix_tokens == n_prefix
    with torch.inference_mode():
        expected = blocks_of_a_vision_transformer(model, images)
    maps = read(model, images, "auto")
    assert list(maps) == ["input", "patch_embed.proj", *expected]
    for block, values in expected.items():
        assert torch.equal(maps[block], values), block


@pytest.mark.parametrize("size", [(64, 96), (224, 224)], ids=["64×96", "224×224"])
def test_timm_swin(size):
    narrow = {"embed_dim": 24, "num_heads": (1, 2, 4, 8)}
    model = make(timm.create_model, "swin_tiny_patch4_window7_224", img_size=size, **narrow)
    images = images_of(size, 1)
    with torch.inference_mode():
        stages = model.forward_intermediates(images, intermediates_only=True)
    maps = read(model, images, "auto")
    assert len(maps) == 1 + 1 + 3 + 12
    ends = ["layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.5", "layers.3.blocks.1"]
    for name, stage in zip(ends, stages, strict=True):
        assert torch.equal(maps[name], stage), name


def test_timm_convnext():
    model, images = make(timm.create_model, "convnext_atto"), images_of((64, 96))
    with torch.inference_mode():
        stages = model.forward_intermediates(images, intermediates_only=True)
    maps = read(model, images, [*(f"stages.{index}" for index in range(4)), nn.Conv2d])
    assert len(maps) == 4 + 40
    for index, stage in enumerate(stages):
        assert torch.equal(maps[f"stages.{index}"], stage), index


# Families whose layouts differ: name, height and width of the images, a block and the size of its maps.
FAMILIES = {
    "pvt_v2_b0": ((64, 96), "stages.1.blocks.1", (64, 8, 12)),
    "cait_xxs24_224": ((64, 96), "blocks.3", (192, 4, 6)),
    "xcit_nano_12_p16_224": ((64, 96), "blocks.3", (128, 4, 6)),
    "maxvit_tiny_tf_224": ((64, 96), "stages.1.blocks.0.attn_grid", (128, 8, 12)),
    "efficientformer_l1": ((224, 224), "stages.3.blocks.2", (448, 7, 7)),
    "beit_base_patch16_224": ((64, 96), "blocks.0", (192, 4, 6)),
    "eva02_tiny_patch14_224": ((56, 84), "blocks.2", (192, 4, 6)),
    "levit_128s": ((64, 96), "stages.0.blocks.1", (128, 4, 6)),
    "twins_svt_small": ((64, 96), "blocks.1.0", (128, 8, 12)),
    "crossvit_9_240": ((240, 240), "blocks.0.blocks.1.0", (256, 14, 14)),
    "mvitv2_tiny": ((224, 224), "stages.1.blocks.0", (192, 28, 28)),
    "davit_tiny": ((64, 96), "stages.1.blocks.0.0", (192, 8, 12)),
    "hiera_tiny_224": ((64, 96), "blocks.2", (192, 8, 12)),
    "poolformer_s12": ((64, 96), "stages.1.blocks.0.mlp.fc1", (512, 8, 12)),
}


SIZED_WHEN_MADE = (
    "cait_xxs24_224",
    "maxvit_tiny_tf_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "twins_svt_small",
    "hiera_tiny_224",
    "levit_128s",
)
# Fewer blocks and channels, where a family lets them be chosen: what is looked for is in the first.
SMALLER = {
    "cait_xxs24_224": {"depth": 4},
    "xcit_nano_12_p16_224": {"depth": 4},
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "eva02_tiny_patch14_224": {"depth": 4},
    "efficientformer_l1": {"depths": (1, 1, 1, 2)},
    "twins_svt_small": {"depths": (2, 2, 2, 1)},
    "crossvit_9_240": {"depth": ((1, 1, 0), (1, 1, 0), (1, 1, 0))},
    "davit_tiny": {"depths": (1, 1, 1, 1)},
    "hiera_tiny_224": {"stages": (1, 2, 1, 1)},
}


def change_of(model, layers, images, changed):
    """Return how much the maps of the first image change at each position, by name of layer."""
    maps = read(model, torch.cat([images[:1], changed[:1]]), layers)
    return {name: (after - before).double().norm(dim=0) for name, (before, after) in maps.items()}


HIERA = pytest.param(
    "hiera_tiny_224",
    marks=pytest.mark.xfail(strict=True, reason="Hiera keeps its tokens in the order of its pooling, not row by row"),
)


@pytest.mark.parametrize("name", [*(name for name in FAMILIES if name != "hiera_tiny_224"), HIERA])
def test_families_of_timm_are_laid_out_as_the_image(name):
    """What changes at one place of the image changes most at that place of a block's maps."""
    size, block, shape = FAMILIES[name]
    settings = {"img_size": size} if name in SIZED_WHEN_MADE else {}
    model, images = make(timm.create_model, name, **settings, **SMALLER.get(name, {})), images_of(size, 1)
    found = {layer.name: layer for layer in survey(model, images)}
    assert found[block].default
    assert (found[block].n_channels, found[block].height, found[block].width) == shape
    row, column = size[0] * 3 // 8, size[1] * 7 // 8
    changed = images.clone()
    changed[:, :, row - 6 : row + 6, column - 6 : column + 6] *= -4
    change = change_of(model, block, images, changed)[block]
    place = divmod(change.argmax().item(), shape[2])
    expected = (row * shape[1] / size[0] - 0.5, column * shape[2] / size[1] - 0.5)
    assert np.abs(np.subtract(place, expected)).max() <= 1.01


def test_blocks_on_windows_are_left_out_with_a_warning_and_the_rest_is_measured():
    model, images = make(timm.create_model, "mobilevit_xxs"), images_of((128, 128), 4)
    with pytest.warns(probe.ProbeWarning, match=r"9 are left out: stages\.2\.1\.transformer\.0 \(its output of shape"):
        statistics = probe.collect(model, images, positions=4, folds=2, stimuli="natural")
    assert len(statistics.layers) == 36
