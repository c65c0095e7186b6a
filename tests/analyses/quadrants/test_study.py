"""How far from the border location can be told, against nets of which the answer is known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import probe
import probe.reports.quadrants as page
from probe.analyses.quadrants import study as quadrants
from probe.analyses.quadrants.corners import (
    Corners,
    build_network,
    fit_readout,
    read_features,
)
from probe.errors import ArgumentError, ImagesError, ModelError
from probe.reports.page.document import Report
from probe.testing import noise_images, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("quadrants")


def accuracies(network, border, n_images=20):
    """The accuracy of a readout on other images, for patches of 8 pixels on canvases of 24."""
    training, test = (
        Corners(patches, canvas=24, border=border, device=CPU)
        for patches in noise_images(2 * n_images, 8, smooth=2).split(n_images)
    )
    readout = fit_readout(*read_features(network, training))
    features, classes = read_features(network, test)
    return (readout(features) == classes).double().mean().item()


def test_own_numbers_stand_beside_the_published_ones(result, tmp_path):
    assert result.here.dims == ("net", "training", "border", "test_set")
    published = result.published.sel(test_set="as published")
    assert published.notnull().all() and result.published.sel(test_set="clean").isnull().all()
    assert published.sel(net="resnet18", training="random, frozen", border=64) == 80.5
    frozen = result.here_by_seed.sel(training="random, frozen")
    assert (frozen.sel(net="bagnet33", border=32) == 50).all()
    assert (frozen.sel(net="resnet18", border=0, test_set="as published") > 50).all()
    assert result.here.sel(border=512).isnull().all()
    assert json.loads(result.attrs["settings"])["n_images"] == 3
    assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)


def test_given_weights_and_a_model_of_ones_own_are_measured_frozen(tmp_path, left_as_found):
    torch.manual_seed(3)
    state = build_network("resnet18", 3).state_dict()
    state["fc.weight"] = torch.zeros(7, 512)
    torch.save(state, tmp_path / "resnet18.pt")
    model = nn.Sequential(pointwise_net(), nn.Flatten())
    with left_as_found(model):
        result = quadrants.run(
            model,
            noise_images(9, 12, smooth=2),
            preset="tiny",
            seeds=1,
            weights={"resnet18": tmp_path / "resnet18.pt"},
            progress=False,
        )
    here = result.here.sel(training="given weights, frozen", border=0)
    assert here.sel(net=["resnet18", "Sequential"]).notnull().all()
    assert (here.sel(net="Sequential") == 50).all() and here.sel(net="resnet18", test_set="as published") > 50
    assert result.here.sel(net="Sequential", training="from scratch").isnull().all()


def test_a_folder_of_images_is_read(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(9):
        pixels = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "0.png")
    result = quadrants.run(images=tmp_path, preset="tiny", seeds=1, progress=False)
    settings = json.loads(result.attrs["settings"])
    assert settings["n_images"] == 3 and settings["images"] == "given" and result.attrs["warnings"] == "[]"
    assert (result.here.sel(net="bagnet33", training="random, frozen", border=32) == 50).all()
    assert result.here.sel(net="resnet18", border=0, training=["random, frozen", "from scratch"]).notnull().all()
    patches = quadrants._read_patches(tmp_path, None, "tiny", [])
    assert patches.shape == (9, 3, 8, 8)
    red = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(patches[0], red[:, None, None].expand(3, 8, 8))


def test_images_of_training_are_in_no_other_set():
    patches = torch.arange(10.0)[:, None, None, None]
    for seed in range(3):
        sets = [set(part.flatten().tolist()) for part in quadrants._split(patches, seed)]
        assert [len(part) for part in sets] == [3, 3, 3] and len(set.union(*sets)) == 9
    assert not torch.equal(quadrants._split(patches, 0)[0], quadrants._split(patches, 1)[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": "huge"}, ArgumentError, "preset='huge'"),
        ({"preset": "paper"}, ImagesError, "ILSVRC 2012 at https://image-net.org.*images="),
        ({"seeds": 0}, ArgumentError, "seeds=0"),
        ({"weights": {"vgg16": {}}}, ArgumentError, "no network 'vgg16'; expected some of bagnet33, resnet18"),
        ({"weights": {"resnet18": "no/such.pth"}}, ArgumentError, "weights 'no/such.pth': there is no such file"),
        ({"weights": {"resnet18": {"other": torch.zeros(1)}}}, ModelError, "weights: do not fit resnet18.*120 missing"),
        ({"images": torch.rand(4, 3, 8, 8)}, ImagesError, "found 4; expected at least 6"),
    ],
)
def test_what_cannot_be_run_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        quadrants.run(**({"preset": "tiny", "progress": False} | arguments))


def test_fewer_images_than_the_preset_asks_for_are_recorded():
    with pytest.warns(probe.ProbeWarning, match="6 are fewer than the 9"):
        result = quadrants.run(images=torch.rand(6, 3, 8, 8), preset="tiny", seeds=1, progress=False)
    assert "6 are fewer" in result.attrs["warnings"]


def made(result, **accuracies):
    """The result with accuracies of random ResNet-18, by border, for each seed, on new images."""
    changed = result.copy(deep=True)
    here = changed.here_by_seed
    here.loc[{"training": "random, frozen", "test_set": "clean"}] = np.nan
    for border, values in accuracies.items():
        place = {"net": "resnet18", "training": "random, frozen", "border": int(border[1:]), "test_set": "clean"}
        here.loc[place] = np.array(values)
    return changed


def sentences(result):
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in page.findings(result)]


def test_findings_say_up_to_which_border_the_corner_is_told(result):
    changed = made(result, b0=(100, 100), b32=(90, 90.2), b64=(50, 58), b128=(50, 50))
    assert sentences(changed)[0] == (
        "ResNet-18, random, frozen: the corner is told up to a border of 32 pixels (90.1 (90.0 and 90.2) %; "
        "published 100 %), and not beyond error behind 64 pixels (54.0 (50.0 and 58.0) %; published 80.5 %)."
    )
    assert "0 pixels (100 (both) %; published 100 %), the widest measured." in sentences(made(result, b0=100))[0]
    untold = sentences(made(result, b0=50))[0]
    assert "not told beyond error at the least border, of 0 pixels (50 (both) %" in untold
    gap = sentences(made(result, b0=(100, 100), b32=(50, 50), b64=(90, 90.2)))[0]
    assert "told up to a border of 0 pixels" in gap and "not beyond error behind 32 pixels" in gap
    assert "but again at 64 pixels (90.1 (90.0 and 90.2) %" in gap


def test_one_network_has_no_error(result):
    changed = made(result.isel(seed=[0]), b0=100, b32=90, b64=50)
    assert sentences(changed)[0] == (
        "ResNet-18, random, frozen (one network, without an error): the corner is told up to a border of 32 pixels "
        "(90.0 %; published 100 %), and not behind 64 pixels (50.0 %; published 80.5 %)."
    )


def test_findings_name_blind_networks_leaks_and_missing_weights(result):
    said = sentences(result)
    assert any("BagNet-33 at 32 pixels" in sentence for sentence in said)
    told = result.copy(deep=True)
    told.here.loc[{"test_set": "as published"}] = told.here.sel(test_set="clean") + 4.25
    (leak,) = [sentence for sentence in sentences(told) if "On the images of the training itself" in sentence]
    assert "accuracy − that on new ones is +4.2 points in the mean, and 4.2 at most" in leak
    told.here.loc[{"test_set": "as published"}] = told.here.sel(test_set="clean") - 4.25
    assert any("accuracy is nowhere higher than on new ones" in sentence for sentence in sentences(told))
    assert said[-1].startswith("No trained weights were given")


def test_the_page_shows_published_numbers_beside_measured_ones(result):
    report = Report("A study")
    page.add_figures(report, result)
    assert "BagNet-33, random, frozen, border 32: 50 %" in report.html()
    figure = page.draw_accuracy(result)
    assert len(figure.axes) == 9
    published = figure.axes[1].get_lines()[1]
    assert published.get_ydata().tolist() == [100, 100, 100, 80.5, 51.5, 50, 50]
