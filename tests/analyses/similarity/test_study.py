"""The study of similarity at shifted positions, and its page."""

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import probe
from probe.analyses.similarity import study as similarity
from probe.reports import similarity as page
from probe.reports.page.document import Report
from probe.testing import noise_images, padded_net
from probe.variants.sampling import with_sampling

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tiny_study):
    return tiny_study("similarity")


def test_numbers_of_each_case_are_those_of_its_own_networks(tiny):
    assert dict(tiny.here.sizes) == {"features": 2, "variant": 2, "size": 2, "measure": 2}
    name = "small net, trained on digits"
    untold = tiny.here.sel(features=name, size="small")
    assert np.isnan(untold).all() and tiny.here.notnull().sum() == 16 - untold.size
    assert tiny.published.isnull().all(), "no number of this study has been published"
    heat_map = next(tiny[key] for key in tiny if tiny[key].attrs.get("net") == "mobilenet_v2")
    by_reference = heat_map.sel(variant="plain").squeeze().mean(heat_map.dims[-2:])
    expected = tiny.here.sel(features="mobilenet_v2", size="large", variant="plain", measure="global similarity")
    assert float(by_reference.mean()) == pytest.approx(float(expected), abs=1e-9)


def test_blurring_smooths_a_trained_and_an_untrained_network(tiny):
    roughness = tiny.here_by_seed.sel(measure="local roughness")
    ratio = roughness.sel(variant="anti-aliased") / roughness.sel(variant="plain")
    assert (ratio.dropna("features", how="all").fillna(0) < 1).all()


def test_a_given_network_that_treats_positions_alike_and_one_that_does_not():
    found = {
        padding: similarity.run(
            preset="tiny", model=padded_net(padding), layers=["conv4"], images=noise_images(2, 12), progress=False
        )
        for padding in ("circular", "zeros")
    }
    circular, zeros = (found[padding].here.sel(variant="plain", measure="global similarity") for padding in found)
    np.testing.assert_allclose(circular, 1, atol=1e-6)
    assert (zeros < 0.99999).all()
    assert found["zeros"].attrs["warnings"] == "[]"
    assert found["zeros"].objects_se.notnull().all()


def test_a_given_network_stands_beside_its_blurred_counterpart():
    net = nn.Sequential(padded_net("zeros", depth=1), nn.MaxPool2d(4))
    result = similarity.run(
        preset="tiny",
        model=net,
        blurred=with_sampling(net, "blur", from_pixels=False),
        layers=["1"],
        images=noise_images(2, 12),
        progress=False,
    )
    assert result.features.values.tolist() == ["Sequential 1"]
    assert list(result.variant.values) == ["plain", "anti-aliased"]


def test_the_frame_of_a_given_network_is_black_in_its_own_units(tmp_path):
    """Black objects on a black frame are the same at every position, even for a network that knows where things are."""
    for number in range(2):
        Image.new("RGB", (12, 12)).save(tmp_path / f"{number}.png")
    options = {"preset": "tiny", "layers": ["conv4"], "images": tmp_path, "progress": False}

    def normalised(image):
        mean = torch.tensor([0.5, 0.4, 0.3])[:, None, None]
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / 0.2

    black = similarity.run(model=padded_net("zeros"), transform=normalised, **options)
    grey = similarity.run(model=padded_net("zeros"), transform=normalised, background=0.0, **options)
    np.testing.assert_allclose(black.here.sel(measure="global similarity"), 1, atol=1e-6)
    assert (grey.here.sel(measure="global similarity", variant="plain") < 0.9999).all()
    assert json.loads(grey.attrs["settings"])["background"] == 0
    of_black = json.loads(black.attrs["settings"])["background"]
    np.testing.assert_allclose(of_black, [-2.5, -2.0, -1.5], rtol=1e-6)


def test_the_frame_is_0_where_a_transform_is_for_no_files():
    images = torch.utils.data.TensorDataset(noise_images(2, 12))
    result = similarity.run(
        preset="tiny", model=padded_net("zeros"), layers=["conv4"], images=images, transform=lambda image: 2 * image,
        progress=False,
    )  # fmt: skip
    assert json.loads(result.attrs["settings"])["background"] == 0


def test_objects_cut_from_two_photographs_are_told(tiny):
    assert "crops of two photographs" in tiny.attrs["warnings"]
    assert "crops of two photographs" not in " ".join(similarity._warnings(None, "a folder"))


class Slow(nn.Module):
    """Takes 20 ms for each batch, and nothing for its content."""

    def forward(self, images):
        time.sleep(0.02)
        return images


def test_speed_is_told_beside_that_of_the_bare_network(tiny):
    assert tiny.relative_speed.dims == tiny.shifts_per_second.dims and tiny.relative_speed.attrs["units"] == "1"
    assert (tiny.relative_speed.notnull() == tiny.shifts_per_second.notnull()).all()
    result = similarity.run(
        preset="tiny", model=nn.Sequential(Slow()), layers=["0"], images=noise_images(2, 12), batch_size=20,
        progress=False,
    )  # fmt: skip
    # 25 positions of large objects: two batches each, one of the references, and a last one to find the layer.
    assert 0 < result.relative_speed.sel(size="large").item() < 50 / (7 * 20) * 1.05
    frames = result.shifts_per_second / result.relative_speed
    assert (frames <= 20 / 0.02).all() and (frames > 0.5 * 20 / 0.02).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset='huge'"),
        ({"seeds": 0}, "seeds=0"),
        ({"model": padded_net("zeros"), "images": noise_images(2, 9)}, "model: pass layers="),
        ({"model": padded_net("zeros"), "layers": ["conv4"]}, "and images= of objects"),
        ({"layers": ["conv1"]}, "belong to a model of your own"),
        ({"background": 1.0}, "belong to a model of your own"),
        (
            {"model": padded_net("zeros"), "layers": ["conv4"], "images": noise_images(2, 9), "seeds": 3},
            "seeds=3: a model of your own has weights already",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, message):
    with pytest.raises(probe.errors.ArgumentError, match=message):
        similarity.run(**{"preset": "tiny", "progress": False, **options})


def test_findings_follow_from_the_numbers(tiny):
    result = tiny.copy(deep=True)
    plain = result.here_by_seed.sel(variant="plain")
    result.here_by_seed.loc[{"variant": "anti-aliased", "measure": "local roughness"}] = (
        plain.sel(measure="local roughness").values * 2
    )
    result.here_by_seed.loc[{"variant": "anti-aliased", "measure": "global similarity"}] = plain.sel(
        measure="global similarity"
    ).values
    rough, overall, *_ = page.findings(result)
    assert "by a factor of 2.00 to 2.00: it falls in 0 of 3 comparisons, rises in 3" in rough
    assert rough.endswith("smoother locally: speaks for it in 0, against it in 3, and decides nothing in 0.")
    assert overall.endswith("over the frame: speaks for it in 0, against it in 0, and decides nothing in 3.")
    assert "cannot be told from unchanged" in overall


def test_one_network_has_no_error_over_seeds(tiny):
    result = similarity.run(
        preset="tiny", model=padded_net("zeros"), layers=["conv4"], images=noise_images(2, 12), progress=False
    )
    sentences = page.findings(result)
    assert any("no error over seeds" in sentence for sentence in sentences)
    assert not any("Anti-aliasing" in sentence for sentence in sentences)


def test_the_page_shows_both_numbers_and_every_heat_map(tiny, tmp_path):
    saved = probe.load(probe.save(tiny, tmp_path / "result.nc"))
    report = Report("title")
    page.add_figures(report, saved)
    figures = [block for section in report.sections for block in section.blocks if block.kind == "figure"]
    assert len(figures) == 1 + sum(str(name).startswith("similarity_") for name in tiny)
    assert page.findings(saved) == page.findings(tiny)
