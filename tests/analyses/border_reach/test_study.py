"""How far the border reaches: networks with known answers, and brute force."""

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.analyses.border_reach import study as border_reach
from probe.errors import ArgumentError, ImagesError, ProbeWarning
from probe.reports.border_reach import add_figures, findings
from probe.reports.page.document import Report
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")


def measure(model, images=None, **options):
    images = noise_images(6, size=40, smooth=2) if images is None else images
    defaults = {"crop": 16, "margin": 12, "seeds": 2, "progress": False}
    return border_reach.run(model, images, **{**defaults, **options})


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate", "circular"])
def test_each_3x3_convolution_carries_the_border_one_cell_further(padding):
    result = measure(padded_net(padding, depth=4))
    assert result.here.sel(threshold="detectable").values.tolist() == [1, 2, 3, 4]
    assert result.theoretical_reach.values.tolist() == [[n] * 4 for n in (1, 2, 3, 4)]
    assert result.receptive_field.values.tolist() == [[n] * 2 for n in (3, 5, 7, 9)]
    assert not result.outer_border.any()


@pytest.mark.parametrize("size", [1, 5, 7])
def test_a_kernel_reaches_as_far_as_it_is_wide(size):
    result = measure(nn.Sequential(nn.Conv2d(3, 8, size, padding=size // 2)))
    assert result.here.sel(threshold="detectable").item() == size // 2
    assert (result.share == 0).all() == (size == 1)


def test_without_padding_there_is_no_border():
    result = measure(padded_net("valid", depth=3))
    assert (result.share < 1e-9).all() and (result.here == 0).all()


def test_a_circular_network_has_no_border_in_circular_context():
    in_circle = measure(padded_net("circular", depth=6), context="circular", crop=12, margin=None)
    assert (in_circle.share < 1e-9).all() and (in_circle.here == 0).all()
    with_zeros = measure(padded_net("zeros", depth=6), context="circular", crop=20, margin=None)
    assert (with_zeros.here.sel(threshold="detectable") == [1, 2, 3, 4, 5, 6]).all()


def test_strided_maps_are_aligned():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1))
    result = measure(model, layers=["0", "1", "2"], crop=32, margin=4)
    assert result["stride"].values.tolist() == [[2, 2], [4, 4], [4, 4]]
    # Only the first row of an even map reads padding: the last window ends with the map.
    assert result.theoretical_reach.values.tolist() == [[2, 0, 2, 0], [4, 0, 4, 0], [8, 4, 8, 4]]
    beyond = result.difference.where(result.distance * 4 >= 8)
    assert np.nanmax(result.difference.sel(layer="0").isel(distance=slice(1, None))) < 1e-9
    assert np.nanmax(beyond.sel(layer="2")) < 1e-9


def test_the_difference_is_that_of_the_features():
    model, images = padded_net("zeros", depth=2), noise_images(3, size=20)
    result = measure(model, images, crop=8, margin=6, seeds=1)
    with torch.no_grad():
        inside = model[:3](images)[..., 6:14, 6:14].double().numpy()
        alone = model[:3](images[..., 6:14, 6:14]).double().numpy()
    signal = inside.var(axis=(0, 2, 3)).mean()
    squares = ((alone - inside) ** 2).mean(axis=1)
    found = result.sel(layer="conv2", seed=0) if "seed" in result.coords else result.isel(seed=0).sel(layer="conv2")
    np.testing.assert_allclose(found.share, squares.mean() / signal, rtol=1e-4)
    np.testing.assert_allclose(found.share_se, squares.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(3) / signal, rtol=1e-4)
    top_second = squares[:, 1, 2:6]  # the second row, in the middle third of the columns
    np.testing.assert_allclose(found.difference.sel(side="top")[1], top_second.mean() / signal, rtol=1e-4)


def test_seeds_share_the_images_out():
    model, images = padded_net("zeros", depth=1), noise_images(6, size=40, smooth=2)
    both = measure(model, images)
    for seed in (0, 1):
        alone = measure(model, images[seed::2], seeds=1)
        np.testing.assert_allclose(both.share.isel(seed=seed), alone.share.isel(seed=0), rtol=1e-6)


def test_images_that_can_be_read_once_are_shared_out_as_well():
    images = noise_images(6, size=40, smooth=2)
    once = measure(padded_net("zeros", depth=1), iter(images.split(4)), seeds=None)
    assert once.sizes["seed"] == border_reach.PRESETS["quick"].seeds
    again = measure(padded_net("zeros", depth=1), images, seeds=None)
    np.testing.assert_allclose(once.share, again.share, rtol=1e-6)


def test_dead_maps_have_no_share():
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1))
    nn.init.zeros_(model[0].weight)
    assert measure(model).share.isnull().all() and measure(model).here.isnull().all()


def test_an_unpadded_middle_has_the_effective_field_of_its_kernel():
    model = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2))
    nn.init.ones_(model[0].weight)
    assert (measure(model).effective_field == 5).all()


def test_images_that_are_too_small_are_refused_and_the_model_is_left(left_as_found):
    model = padded_net("zeros", depth=1)
    with left_as_found(model):
        with pytest.raises(ImagesError, match="of 40 pixels, but a crop of 32 in its natural context needs 56"):
            measure(model, crop=32)
        with pytest.raises(ImagesError, match="too few for 9 seeds"):
            measure(model, seeds=9)
        measure(model)


def test_other_faults_are_explained():
    with pytest.raises(ArgumentError, match="context='black'"):
        measure(padded_net(), context="black")
    with pytest.raises(ArgumentError, match="crop=0"):
        measure(padded_net(), crop=0)
    with pytest.raises(ArgumentError, match="seeds=0"):
        measure(padded_net(), seeds=0)
    with pytest.raises(ImagesError, match="can be read only once"):
        border_reach.run(None, iter([noise_images(2)]))
    strided = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4))
    with pytest.raises(ArgumentError, match=r"margin=6: .*does not divide the margin of 6 pixels"):
        measure(strided, margin=6)
    with pytest.warns(ProbeWarning, match="left out: 1: its total stride"):
        measure(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 4, stride=4)), margin=6)


@pytest.fixture(scope="module")
def tiny(tiny_study):
    return tiny_study("border_reach")


def test_the_study_of_untrained_networks(tiny, tmp_path):
    assert tiny.published.isnull().all() and tiny.sizes["seed"] == 2
    assert (tiny.here.sel(threshold="detectable") <= tiny.theoretical_reach.max("side")).all()
    assert (tiny.effective_field <= tiny.receptive_field.max("axis")).all()
    assert probe.load(probe.save(tiny, tmp_path / "reach.nc")).identical(tiny)


def test_the_page_is_written_from_the_numbers(tiny):
    sentences = findings(tiny)
    assert sentences[0].startswith("CifarResNet: 2 untrained networks, 8 images; crops of 32 pixels")
    assert any("Nowhere does the border reach farther than paths through windows allow" in s for s in sentences)
    beyond = tiny.copy()
    beyond["theoretical_reach"] = tiny.theoretical_reach * 0
    assert any("Beyond what paths through windows allow" in sentence for sentence in findings(beyond))
    report = Report("Border")
    add_figures(report, tiny)
    titles = [section.title for section in report.sections]
    assert titles == ["Reach by layer", "Share of the signal", "By distance to the border"]
    assert "In layer3.0.conv2 the border exceeds 1 % of the signal up to" in report.html()


def test_a_null_is_said_to_be_one():
    result = measure(padded_net("valid", depth=2))
    assert "In no layer does the border make a difference: features are those inside the larger image." in findings(
        result
    )
    dead = measure(padded_net("zeros", depth=1))
    dead["share"] = dead.share * np.nan
    assert "No layer has a signal that varies, so nothing can be said of the border's share." in findings(dead)


def test_a_border_farther_away_is_said_to_be_there():
    result = measure(padded_net("zeros", depth=4), margin=3)
    assert result.outer_border.values.tolist() == [0, 0, 1, 1]
    assert any(
        "In 2 of 4 layers, from conv3 on, the border of the larger image can reach" in s for s in findings(result)
    )
