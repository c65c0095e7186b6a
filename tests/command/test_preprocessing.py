"""Sizes do what they say."""

import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from probe.command.model_libraries import _as_evaluated
from probe.command.named_models import open_model
from probe.errors import ProbeWarning


def picture(height, width):
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    return pixels, Image.fromarray(pixels)


def normalised(pixels):
    return ((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [None, 56])
def test_frames_are_shown_as_the_weights_of_a_video_network_were_evaluated(size):
    choice = torchvision.models.get_model_weights("r3d_18").KINETICS400_V1
    pixels, image = picture(40, 60)
    transform, phrase = _as_evaluated(choice, size, [])
    own = choice.transforms(**({} if size is None else {"crop_size": (56, 56), "resize_size": (64, 86)}))
    clip = torch.from_numpy(np.stack([pixels] * 3)).permute(0, 3, 1, 2)
    with pytest.warns(ProbeWarning, match="images are enlarged"):
        shown = transform(image)
    torch.testing.assert_close(shown, own(clip)[:, 0])
    assert shown.shape == (3, size or 112, size or 112)
    sides = ("128×171", "112") if size is None else ("64×86", "56")
    assert phrase.startswith("resize {} bilinear, crop {}, mean (0.43".format(*sides))


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


GREY = """
from torch import nn
def convolutions(): return nn.Sequential(nn.Conv2d(1, 4, 3))
def flattened(): return nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))
def oblong(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 64, 10))
def colours(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
"""


@pytest.fixture
def grey_nets(workplace, monkeypatch):
    (workplace / "grey_nets.py").write_text(GREY)
    monkeypatch.delitem(sys.modules, "grey_nets", raising=False)


@pytest.mark.parametrize("name", ["convolutions", "flattened"])
@pytest.mark.parametrize("size", [32, "own"])
def test_models_of_one_channel_are_shown_greys_in_the_units_of_one(name, size, grey_nets):
    pixels, image = picture(32, 32)
    source = open_model(f"grey_nets:{name}", size=size)
    luminance = pixels @ [0.299, 0.587, 0.114] / 255
    expected = (luminance - (0.485 + 0.456 + 0.406) / 3) / ((0.229 + 0.224 + 0.225) / 3)
    for shown in (source.transform(image), source.transform(image.convert("L"))):
        assert shown.shape == (1, 32, 32)
        np.testing.assert_allclose(shown[0], expected, atol=0.6 / 255 / 0.226)  # 8 bits
    assert source.preprocessing.endswith("grey, mean 0.449, standard deviation 0.226")
    source.model(shown[None])


@pytest.mark.parametrize(
    ("name", "size", "channels"), [("colours", 32, 3), ("oblong", "own", 3), ("oblong", 16, 1), ("colours", "own", 3)]
)
def test_what_a_first_linear_layer_takes_tells_the_channels_of_square_images(name, size, channels, grey_nets):
    _, image = picture(48, 64)
    assert open_model(f"grey_nets:{name}", size=size).transform(image).shape[0] == channels


@pytest.mark.parametrize(("name", "layers"), [("convolutions", "auto"), ("flattened", "input")])
def test_a_model_of_one_channel_is_measured_as_by_hand(name, layers, grey_nets, photos, pixels, measured):
    import probe

    measured("layerwise", f"grey_nets:{name}", "--images", photos, "-o", "x.nc", "--size", 32, "--layers", layers)
    start = round((pixels.shape[2] - 32) / 2)
    greys = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])[:, None]
    images = torch.from_numpy((greys[..., start : start + 32] / 255 - 0.449) / 0.226).float()
    expected = probe.layerwise(open_model(f"grey_nets:{name}").model, images, layers=layers, progress=False)
    np.testing.assert_allclose(probe.load("x.nc").r2, expected.r2, atol=1e-4)


def test_a_size_that_does_not_fit_a_first_linear_layer_is_told_with_the_one_that_does(grey_nets, photos, run):
    for name, shape in {"flattened": "(1, 32, 32)", "colours": "(3, 32, 32)"}.items():
        outcome = run("layerwise", f"grey_nets:{name}", "--images", photos, "-o", "x.nc", "--size", 24)
        assert outcome.exit_code == 1
        assert f"Show images of shape {shape}: transform=, or --size 32 of the command" in outcome.stderr
    outcome = run("layers", "grey_nets:oblong", "--size", 48)
    assert "found 2304 numbers an image, shape (1, 48, 48), but the model's first weight takes 9216" in outcome.stderr


def test_grey_models_are_audited_with_one_channel(grey_nets, measured):
    assert "images of 224×224" in measured("audit", "grey_nets:convolutions").stdout


@pytest.mark.parametrize(("size", "resize", "crop"), [(None, 232, 224), (112, 116, 112)])
def test_named_weights_bring_their_preprocessing(size, resize, crop, monkeypatch):
    choice = torchvision.models.RegNet_Y_400MF_Weights.IMAGENET1K_V2
    trained = torchvision.models.regnet_y_400mf(weights=None).state_dict()
    monkeypatch.setattr(type(choice), "get_state_dict", lambda *args, **kwargs: trained)
    for name in ("IMAGENET1K_V2", "RegNet_Y_400MF_Weights.IMAGENET1K_V2", "DEFAULT"):
        source = open_model("regnet_y_400mf", name, size=size)
        assert source.weights == "RegNet_Y_400MF_Weights.IMAGENET1K_V2"
        assert source.preprocessing.startswith(f"resize {resize} bilinear, crop {crop}, ImageNet mean")
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
