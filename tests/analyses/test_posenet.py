"""The study of maps of position read from features, and its page."""

import re

import numpy as np
import pytest
import scipy.stats
import torch
import torchvision
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

import probe
from probe.analyses.posenet import images as posenet_images
from probe.analyses.posenet import study as posenet
from probe.analyses.posenet.images import FeatureSource, find_images, resized
from probe.analyses.posenet.numbers import PUBLISHED
from probe.analyses.posenet.readouts import (
    POSITION_MAPS,
    BlockReader,
    ClosedForm,
    Descent,
    absolute_errors,
    position_maps,
    rank_correlations,
)
from probe.analyses.posenet.scores import Setting
from probe.errors import ImagesError
from probe.reports.page.document import Report
from probe.reports.posenet import page
from probe.reports.posenet.scores import fitted_twice
from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MAPS = tuple(POSITION_MAPS)


@pytest.fixture(scope="module")
def tiny():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield posenet.run(preset="tiny", progress=False)
    torch.set_num_threads(threads)


def descent(n_channels, targets=MAPS, **options):
    form = {"kernel": 3, "depth": 1, "padding": 0, "size": 16, "n_steps": 60, "seed": 0, "device": CPU}
    return Descent(n_channels, targets=targets, **{**form, **options})


def rolled(images):
    return probe.images.stimuli.apply_stimulus("rolled", images, range(len(images)), seed=1)


# Scores.


def test_rank_correlation_is_spearmans_with_ties_too():
    read = torch.randn(3, 5, 8, 8).mul(2).round()
    expected = [[scipy.stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(i, position_maps(MAPS, 8), strict=True)]
                for i in read]  # fmt: skip
    np.testing.assert_allclose(rank_correlations(read, MAPS), expected, atol=1e-12)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_a_constant_map_tells_no_position(noise):
    read = 3 + noise * torch.randn(1, 1, 8, 8)
    assert rank_correlations(read, ["H"]) == 0


def test_errors_of_constants_are_the_known_chance_levels():
    """The levels of the released maps: 0.25, 0.197 for the best constant under G, 0.637 for stripes from −1 to 1."""
    true = position_maps(MAPS, 224)
    constants = true.flatten(1).median(dim=1).values[:, None, None].expand_as(true)
    np.testing.assert_allclose(absolute_errors(constants[None], MAPS), [[0.25, 0.25, 0.197, 0.637, 0.637]], atol=1e-3)


def test_maps_run_as_published():
    h, v, g, hs, _ = position_maps(MAPS, 64)
    assert (h[0].diff() > 0).all() and (h[:, 0].diff() == 0).all() and torch.equal(v, h.T)
    assert (g[32, 32] > 0.99) and g[0, 0] < 0.02
    assert (hs[0].diff() == 0).all(), "HS varies along rows"
    assert ((hs[:, 0] - 0.5).sign().diff() != 0).sum() == 5, "2.5 periods cross the middle five times"


# Readouts.


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1)])
def test_the_closed_form_is_scikit_learns_ridge(kernel, padding):
    features = torch.randn(6, 4, 7, 7).mul(5).add(3)
    closed = ClosedForm(kernel=kernel, padding=padding, targets=MAPS, size=16)
    for part in features.split(4):
        closed.update(part)
    side = 7 + 2 * padding - kernel + 1
    samples = functional.unfold(features, kernel, padding=padding).transpose(1, 2).flatten(0, 1).numpy()
    true = position_maps(MAPS, side).flatten(1).T.repeat(6, 1).numpy()
    ridge = make_pipeline(StandardScaler(), Ridge(alpha=len(samples) * 1e-3)).fit(samples, true)
    expected = torch.from_numpy(ridge.predict(samples)).reshape(6, side, side, 5).permute(0, 3, 1, 2)
    expected = functional.interpolate(expected, (16, 16), mode="bilinear")
    np.testing.assert_allclose(closed.predict(features), expected, atol=1e-4)
    assert closed.seconds > 0


def test_both_readouts_read_coordinates():
    images = noise_images(16, 16)
    features = BlockReader(CoordinateNet(), {"f1": "identity"}, grid=16, device=CPU)(images)
    closed = ClosedForm(kernel=1, padding=0, targets=MAPS, size=16)
    closed.update(features)
    np.testing.assert_allclose(rank_correlations(closed.predict(features), MAPS)[:, :2], 1, atol=3e-3)
    assert absolute_errors(closed.predict(features), MAPS)[:, :2].max() < 2e-3
    fitted = descent(5, kernel=1, n_steps=200)
    for _ in range(200):
        fitted.update(features)
    assert rank_correlations(fitted.predict(features), MAPS)[:, :2].min() > 0.99


@pytest.mark.parametrize(
    ("net", "layer", "knows"),
    [(padded_net("zeros"), "conv4", True), (padded_net("circular"), "conv4", False), (pointwise_net(), "4", False)],
    ids=["zeros", "circular", "pointwise"],
)
def test_nets_that_cannot_know_position_are_read_at_chance(net, layer, knows):
    images = rolled(noise_images(32, 16))
    features = BlockReader(net, {"f1": layer}, grid=16, device=CPU)(images)
    readouts = [ClosedForm(kernel=1, padding=0, targets=("G",), size=16), descent(16, ("G",), kernel=1, n_steps=600)]
    for readout in readouts:
        for _ in range(1 if isinstance(readout, ClosedForm) else 600):
            readout.update(features[:16])
        correlation = rank_correlations(readout.predict(features[16:]), ["G"]).mean()
        assert correlation > 0.3 if knows else abs(correlation) < 0.1


def test_readouts_of_several_maps_are_fitted_as_if_apart():
    features = torch.randn(8, 3, 8, 8)
    joint, apart = descent(3, ("H", "G")), descent(3, ("G",))
    with torch.no_grad():
        apart.stacks[0][0].weight.copy_(joint.stacks[0][0].weight[1:])
    for _ in range(5):
        joint.update(features)
        apart.update(features)
    torch.testing.assert_close(joint.predict(features)[:, 1:], apart.predict(features))


def test_depth_and_the_learning_rate_follow_the_protocol():
    deep = descent(4, ("H", "V"), depth=3, n_steps=3)
    kinds = [type(module).__name__ for module in deep.stacks[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Conv2d", "BatchNorm2d", "Sigmoid"]
    assert [m.weight.shape[0] for m in deep.stacks[0] if isinstance(m, nn.Conv2d)] == [4, 4, 1]
    rates = []
    for _ in range(3):
        rates.append(deep.optimiser.param_groups[0]["lr"])
        deep.update(torch.randn(2, 4, 9, 9))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01])


def test_blocks_are_resized_to_one_grid_and_stacked(left_as_found):
    net, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)).train(), noise_images(2, 10)
    with left_as_found(net):
        reader = BlockReader(net, {"f1": "0", "f2": "2"}, grid=6, device=CPU)
        stacked = reader(images)
    convolved = net[0](images)
    parts = [convolved, functional.max_pool2d(convolved.relu(), 2)]
    expected = [functional.interpolate(part, (6, 6), mode="bilinear", align_corners=True) for part in parts]
    torch.testing.assert_close(stacked, torch.cat(expected, dim=1))
    assert reader.channels == {"f1": slice(0, 4), "f2": slice(4, 8)}
    with pytest.raises(probe.errors.LayerNotFoundError, match="'9' cannot be read: it is not called"):
        BlockReader(net, {"f1": "9"}, grid=6, device=CPU)(images)


# Images.


def save_images(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30), (10 * number, 0, 0)).save(path)


def found(images, **options):
    return find_images(images, **{"n_training": 4, "n_test": 2, "max_images": None, "may_be_made": False, **options})


def test_the_published_data_sets_are_found_by_their_layout(tmp_path):
    save_images(tmp_path, [f"DUTS-TR/DUTS-TR-Image/{name}.jpg" for name in "abcdefgh"])
    save_images(tmp_path, [f"PASCAL-S/Imgs/{name}.jpg" for name in "uvw"] + ["PASCAL-S/Masks/u.png"])
    training, test = found(tmp_path)
    assert [training.rows.paths[index].name for index in training.indices] == ["a.jpg", "c.jpg", "e.jpg", "g.jpg"]
    assert [test.rows.paths[index].name for index in test.indices] == ["u.jpg", "v.jpg"]
    assert len(found(tmp_path, n_test=850)[1]) == 3, "masks are no images"


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ("PASCAL-S/a.jpg", r"DUTS-TR.DUTS-TR-Image is missing\. Get DUTS-TR\.zip from http://saliencydetection"),
        ("DUTS-TR/DUTS-TR-Image/a.jpg", r"PASCAL-S is missing\. Get .* http://cbs\.ic\.gatech\.edu/salobj"),
    ],
)
def test_half_of_the_published_data_is_refused(tmp_path, present, message):
    save_images(tmp_path, [present])
    with pytest.raises(ImagesError, match=message):
        found(tmp_path)


def test_a_data_set_of_masks_alone_is_refused(tmp_path):
    save_images(tmp_path, ["DUTS-TR/DUTS-TR-Image/a.png", "PASCAL-S/a.jpg"])
    with pytest.raises(ImagesError, match="no JPEG file below"):
        found(tmp_path)


def test_the_full_protocol_says_where_to_get_its_images():
    with pytest.raises(
        ImagesError, match=re.escape("put the images into DATA/DUTS-TR/DUTS-TR-Image and DATA/PASCAL-S")
    ):
        posenet.run(preset="paper", progress=False)


def test_of_any_other_images_every_third_is_for_testing(tmp_path):
    training, test = found(noise_images(9, 8), n_training=99)
    assert training.indices == [0, 1, 3, 4, 6, 7] and test.indices == [2, 5]
    assert [len(part) for part in found(noise_images(30, 8), max_images=6)] == [4, 2]
    save_images(tmp_path, ["a.png", "b.jpg", "c.jpg"])
    assert [len(part) for part in found(tmp_path)] == [2, 1]
    with pytest.raises(ImagesError, match="found 2, expected at least 3"):
        found(noise_images(2, 8))
    assert [len(part) for part in found(None, may_be_made=True)] == [4, 2]


def test_features_are_the_same_kept_or_computed_anew_in_any_order(monkeypatch):
    images = find_images(noise_images(12, 8), n_training=5, n_test=2, max_images=None, may_be_made=False)[0]
    readers = {"image": BlockReader(None, {"image": "input"}, grid=8, device=CPU)}
    pixels = noise_images(12, 8)[images.indices]
    expected = probe.images.stimuli.apply_stimulus("rolled", pixels, images.indices, seed=3)

    def read(order):
        source = FeatureSource(images, resized(8), readers, "rolled", 3, 2, 0)
        assert len(source) == 3
        return torch.cat([batch["image"] for batch in source.batches(order)])

    for limit in (1e9, 0):
        monkeypatch.setattr(posenet_images, "_MOST_KEPT", limit)
        torch.testing.assert_close(read(None), expected)
        torch.testing.assert_close(read([4, 0, 2]), expected[[4, 0, 2]])


def test_files_are_resized_whatever_their_shape():
    picture = Image.new("RGB", (30, 20), "white")
    assert resized(8)(picture).shape == (3, 8, 8) and resized(8)(picture).min() == 1
    assert resized(8)(torch.rand(3, 20, 30)).shape == (3, 8, 8)


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
        (
            {"weights": {"resnet": "no/such.pth"}},
            r"weights: resnet='no/such\.pth': there is no such file\. Pass a file with a state dict of resnet18, or "
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
        f"lower in {count}, where differences below 0.01 do not count; the median difference "
        "of the correlations is −0.3" in sentences
    )
    assert "All are above 0 beyond their error." in sentences
    result.here_by_seed.loc[closed] = result.here_by_seed.sel(closed).where(
        result.here_by_seed.sel(closed).isnull(), 0.9
    )
    result.here_by_seed.loc[fitted] = result.here_by_seed.sel(fitted) - 0.5
    sentences = " ".join(page.findings(result))
    assert (
        f"in {count}, lower in 0, where" in sentences and "Not above 0 beyond its error: image and resnet" in sentences
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
