"""The study of maps of position read from features, and its page."""

import numpy as np
import pytest
import torch
import torchvision

import probe
from probe.analyses.posenet import study as posenet
from probe.analyses.posenet.numbers import PUBLISHED
from probe.analyses.posenet.readouts import (
    POSITION_MAPS,
    BlockReader,
    Descent,
)
from probe.analyses.posenet.scores import Setting
from probe.reports.page.document import Report
from probe.reports.posenet import page
from probe.reports.posenet.scores import fitted_twice
from probe.testing import CoordinateNet, noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MAPS = tuple(POSITION_MAPS)


@pytest.fixture(scope="module")
def tiny(tiny_study):
    return tiny_study("posenet")


def descent(n_channels, targets=MAPS, **options):
    form = {"kernel": 3, "depth": 1, "padding": 0, "size": 16, "n_steps": 60, "seed": 0, "device": CPU}
    return Descent(n_channels, targets=targets, **{**form, **options})


def rolled(images):
    return probe.images.stimuli.apply_stimulus("rolled", images, range(len(images)), seed=1)


# Scores.


# Readouts.


# Images.


# The study.


def test_every_published_number_has_its_setting():
    plan = posenet.PRESETS["paper"]
    readers = {name: BlockReader(None, blocks, grid=4, device=CPU) for name, blocks in {
        "image": {"image": "input"}, "vgg16": posenet._VGG_BLOCKS, "vgg16 unpadded": posenet._VGG_BLOCKS,
        "resnet": posenet._RESNET_BLOCKS,
    }.items()}  # fmt: skip
    names = [setting.name for setting in posenet._settings(plan, readers)]
    assert len(names) == len(set(names))
    assert {setting for setting, _, _ in PUBLISHED} <= set(names)
    assert Setting("vgg16", "f5", 3, 2, 1).name == "vgg16 f5, 3×3, depth 2, padding 1"


def test_published_numbers_stand_beside_those_of_descent_on_natural_images(tiny):
    assert tiny.published.sel(readout="closed form").isnull().all()
    assert tiny.published.sel(training="rolled").isnull().all()
    at = {"training": "natural", "readout": "descent", "target": "H"}
    assert tiny.published.sel({**at, "setting": "image, 3×3", "images": "natural"}).values.tolist() == [0.012, 0.251]
    assert tiny.here.sel({**at, "setting": "resnet all, 3×3"}).notnull().all()


def test_the_bare_image_tells_nothing_where_it_is_black_or_white(tiny):
    spc = tiny.here_by_seed.sel(setting="image, 3×3", images=["black", "white"], measure="SPC", readout="descent")
    np.testing.assert_array_equal(spc, 0)
    padded = tiny.here_by_seed.sel(
        setting="image, 3×3, padding 1", images="white", measure="SPC", readout="closed form"
    )
    assert (padded.sel(target="G", training="rolled") > 0.3).all(), "zeros around a white map are seen"


def test_the_closed_form_stands_where_it_is_fitted(tiny):
    fitted = tiny.here.sel(measure="SPC", readout="closed form", target="H", training="natural", images="natural")
    present = set(fitted.setting.values[fitted.notnull().values])
    assert {"image, 1×1", "image, 3×3", "image, 3×3, padding 2", "resnet f1, 3×3"} <= present
    assert not {"image, 3×3, depth 2", "resnet all, 1×1", "resnet all, 3×3"} & present
    assert (tiny.seconds.sel(readout="closed form").notnull().any("training") == fitted.notnull()).all()
    assert "random weights" in tiny.attrs["warnings"]


def test_a_model_of_ones_own_is_read_in_place_of_the_published():
    result = posenet.run(
        preset="tiny", seeds=1, model=CoordinateNet(), layers=["identity"], images=noise_images(12, 16), progress=False
    )
    scores = result.here.sel(setting="CoordinateNet all, 1×1", readout="closed form", measure="SPC")
    np.testing.assert_allclose(scores.sel(target=["H", "V"]), 1, atol=5e-3)
    assert not [name for name in result.setting.values if "resnet" in name or "vgg" in name]
    assert result.mean_map.sel(encoder="CoordinateNet", readout="descent").notnull().all()


def test_weights_are_read_from_a_file(tmp_path):
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    first, second = (posenet._build("squeezenet1_1", seed, str(tmp_path / "weights.pt")) for seed in (0, 1))
    torch.testing.assert_close(first.state_dict(), second.state_dict())
    assert not torch.equal(posenet._build("squeezenet1_1", 0, None).features[0].weight, first.features[0].weight)
    with pytest.raises(probe.errors.ModelError, match="do not fit resnet18: 122 missing"):
        posenet._build("resnet18", 0, str(tmp_path / "weights.pt"))


def test_a_part_of_a_file_is_named_behind_a_colon(tmp_path):
    parts = {name: torchvision.models.resnet18(weights=None).state_dict() for name in ("student", "teacher")}
    torch.save(parts, tmp_path / "both.pt")
    weights = {"resnet": f"{tmp_path / 'both.pt'}:teacher"}
    posenet._check_weights(weights, "tiny")
    with pytest.warns(probe.errors.ProbeWarning, match="under 'teacher'"):
        _, (resnet, _) = posenet._published(posenet.PRESETS["tiny"], 0, weights).values()
    torch.testing.assert_close(dict(resnet.state_dict()), dict(parts["teacher"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"preset": "huge"}, "preset='huge'"),
        ({"model": padded_net("zeros")}, "together with the layers"),
        ({"layers": ["conv1"]}, "together with the layers"),
        ({"model": padded_net("zeros"), "layers": ["conv1"], "weights": {"vgg16": "x"}}, "weights: these are for VGG"),
        ({"weights": {"vgg16": "x"}}, "weights: the preset 'tiny' reads no network 'vgg16'; expected some of resnet"),
        (
            {"weights": {"alexnet": "x"}},
            "weights: the preset 'tiny' reads no network 'alexnet'; expected some of resnet",
        ),
        ({"weights": {"resnet": "no/such.pth"}}, r"weights 'no/such\.pth': there is no such file"),
        (
            {"weights": {"resnet": "IMAGENET1K_V9"}},
            r"weights: resnet='IMAGENET1K_V9': there is no such file\. Pass a file with a state dict of resnet18, or "
            "the name of weights that torchvision downloads: IMAGENET1K_V1",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, message):
    with pytest.raises(probe.errors.ArgumentError, match=message):
        posenet.run(**{"preset": "tiny", "progress": False, **options})


def test_departures_name_what_the_closed_form_leaves_out():
    (departure,) = (text for text in posenet.STUDY.departures if text.startswith("The closed form is fitted up to"))
    assert "every single block with kernel 3 (but for tiny)" in departure
    assert "for all blocks together (paper: of ResNet-152 alone)" in departure
    assert all(f"{plan.most_features:,} ({name})" in departure for name, plan in posenet.PRESETS.items())
    vgg16, resnet18, resnet152 = (64, 128, 256, 512, 512), (64, 128, 256, 512), (256, 512, 1024, 2048)
    quick, paper = (posenet.PRESETS[preset].most_features for preset in ("quick", "paper"))
    assert 9 * max(vgg16 + resnet18) <= quick < 9 * sum(resnet18)
    assert 9 * max(resnet152) <= paper < 9 * sum(resnet152)
    assert 9 * sum(vgg16) <= paper < 49 * sum(vgg16)


# The page.


def test_findings_follow_from_the_numbers(tiny):
    result = tiny.copy(deep=True)
    closed, fitted = ({"readout": readout, "measure": "SPC"} for readout in ("closed form", "descent"))
    result.here_by_seed.loc[fitted] = (
        result.here_by_seed.sel(fitted).notnull() * 0.5 + np.array([0, 1e-3])[(slice(None),) + (None,) * 4]
    )
    result.here_by_seed.loc[closed] = result.here_by_seed.sel(closed).where(
        result.here_by_seed.sel(closed).isnull(), 0.2
    )
    sentences = " ".join(page.findings(result))
    count = len(list(fitted_twice(result)))
    assert (
        f"In {count} comparisons the closed form is higher than gradient descent beyond its error over seeds in 0, "
        f"lower in {count} (by chance up to {0.025 * count:.1f} each), where differences below 0.01 do not count; the "
        "median difference of the correlations is −0.3" in sentences
    )
    assert "All are above 0 beyond their error." in sentences
    result.here_by_seed.loc[closed] = result.here_by_seed.sel(closed).where(
        result.here_by_seed.sel(closed).isnull(), 0.9
    )
    result.here_by_seed.loc[fitted] = result.here_by_seed.sel(fitted) - 0.5
    sentences = " ".join(page.findings(result))
    assert (
        f"in {count}, lower in 0 (by chance" in sentences
        and "Not above 0 beyond its error: image and resnet" in sentences
    )


@pytest.mark.parametrize(
    ("difference", "counts"),
    [(-0.2, "smaller in {}, larger in 0"), (0.2, "smaller in 0, larger in {}"), (0.001, "smaller in 0, larger in 0")],
)
def test_findings_compare_the_errors_of_both_readouts(tiny, difference, counts):
    result = tiny.copy(deep=True)
    closed, fitted = ({"readout": readout, "measure": "MAE"} for readout in ("closed form", "descent"))
    result.here_by_seed.loc[closed] = result.here_by_seed.sel(fitted) + difference
    told = f"Its mean absolute error is {counts.format(len(list(fitted_twice(result))))}"
    assert any(told in sentence for sentence in page.findings(result))


def test_one_seed_is_said_to_have_no_error(tiny):
    single = tiny.isel(seed=[0])
    sentences = page.findings(single)
    assert not any("beyond" in sentence for sentence in sentences)
    marked = [sentence for sentence in sentences if "(of one network each, without an error)" in sentence]
    assert marked[0].startswith("On rolled images") and marked[1].startswith("Natural content alone")
    assert marked[2].startswith("Zeros around the pixels tell position (of one network each, without an error)")
    assert marked[3].startswith("In ") and "closed form is higher than gradient descent (of one" in marked[3]
    unpadded = {"image, 3×3": "vgg16 all, 3×3", "resnet all, 3×3": "vgg16 unpadded all, 3×3"}
    renamed = single.assign_coords(setting=[unpadded.get(name, name) for name in single.setting.values])
    renamed.here_by_seed.loc[{"setting": "vgg16 all, 3×3"}] = 0.9
    renamed.here_by_seed.loc[{"setting": "vgg16 unpadded all, 3×3"}] = 0.1
    assert page._borders(renamed).endswith("with − without is 0.800 (of one network each, without an error).")
    assert "beyond its error over seeds" in " ".join(page.findings(tiny))


def test_the_page_has_its_figures(tiny, tmp_path):
    saved = probe.load(probe.save(tiny, tmp_path / "result.nc"))
    report = Report("title")
    page.add_figures(report, saved)
    kinds = [block.kind for section in report.sections for block in section.blocks]
    assert kinds.count("figure") == 4 and kinds.count("table") == 1
    assert page.findings(saved) == page.findings(tiny)
