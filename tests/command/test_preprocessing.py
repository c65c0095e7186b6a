"""Sizes do what they say."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from probe.command.named_models import open_model
from probe.errors import ProbeWarning


def picture(height, width):
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    return pixels, Image.fromarray(pixels)


def normalised(pixels):
    return ((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)


def test_images_of_the_size_asked_for_are_shown_as_they_are():
    pixels, image = picture(32, 32)
    source = open_model("resnet18", size=32)
    np.testing.assert_allclose(source.transform(image), normalised(pixels), atol=1e-5)
    assert source.preprocessing == "resize 32, crop 32, ImageNet mean and standard deviation"
    assert source.warned == []


def test_of_longer_images_the_centre_is_cropped_and_nothing_magnified():
    pixels, image = picture(32, 48)
    shown = open_model("resnet18", size=32).transform(image)
    np.testing.assert_allclose(shown, normalised(pixels[:, 8:40]), atol=1e-5)


def test_the_shorter_side_is_brought_to_the_size():
    _, image = picture(64, 96)
    shown = open_model("resnet18", size=32).transform(image)
    smaller = np.asarray(image.resize((48, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(shown, normalised(smaller[:, 8:40]), atol=0.03)


def test_enlarging_warns_once():
    _, image = picture(32, 40)
    source = open_model("resnet18", size=64)
    with pytest.warns(ProbeWarning, match="one of 32×40 pixels to 64 along its shorter side") as warned:
        assert source.transform(image).shape == (3, 64, 64)
        source.transform(image)
    assert len(warned) == 1
    assert source.warned == [str(warned[0].message)]


def test_the_default_size_warns_of_small_images_too():
    _, image = picture(200, 240)
    with pytest.warns(ProbeWarning, match="to 256 along its shorter side"):
        open_model("resnet18").transform(image)


def test_enlarging_is_told_in_the_result(workplace, photos, run):
    import json

    import probe

    outcome = run("layerwise", "cli_nets:small", "--images", photos, "-o", "x.nc", "--size", 48, "--layers", "conv1")
    assert outcome.exit_code == 0, outcome.stderr
    warned = [m for m in json.loads(probe.load("x.nc").attrs["warnings"]) if m.startswith("images are enlarged")]
    assert len(warned) == 1
    assert outcome.stderr.count("warning: images are enlarged") == 1
    assert outcome.stdout.count("warning: images are enlarged") == 1


@pytest.mark.parametrize(("size", "resize", "crop"), [(None, 232, 224), (112, 116, 112)])
def test_named_weights_bring_their_preprocessing(size, resize, crop, monkeypatch):
    choice = torchvision.models.RegNet_Y_400MF_Weights.IMAGENET1K_V2
    trained = torchvision.models.regnet_y_400mf(weights=None).state_dict()
    monkeypatch.setattr(type(choice), "get_state_dict", lambda *args, **kwargs: trained)
    for name in ("IMAGENET1K_V2", "RegNet_Y_400MF_Weights.IMAGENET1K_V2", "DEFAULT"):
        source = open_model("regnet_y_400mf", name, size=size)
        assert source.weights == "RegNet_Y_400MF_Weights.IMAGENET1K_V2"
        assert f"crop_size=[{crop}] resize_size=[{resize}]" in source.preprocessing
    loaded = source.model.state_dict()
    assert all(torch.equal(loaded[key], trained[key]) for key in trained)
    assert ("resized by 232/224 before the crop" in source.preprocessing) == (size is not None)
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8))
    expected = choice.transforms(crop_size=crop, resize_size=resize)(image)
    assert torch.equal(source.transform(image), expected)


def test_images_may_keep_their_own_size():
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8))
    shown = open_model("resnet18", size="own").transform(image)
    pixels = np.asarray(image) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(shown, expected.transpose(2, 0, 1), atol=1e-5)
