import json
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe import reports
from probe.analyses.channels.examples import find_examples
from probe.analyses.channels.study import run
from probe.analyses.nets import small_net
from probe.command.main import main
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError, ProbeWarning
from probe.reports.channels.page import findings
from probe.reports.page.removals import verdicts
from probe.results import layer_map

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [2, 5]


class Halves(nn.Module):
    """Ten channels: what is in the left half of the image, what is in the right half, and eight copies of it all."""

    def forward(self, images):
        left = torch.arange(images.shape[3]) < images.shape[3] // 2
        copies = [images / number for number in range(1, 9)]
        return torch.cat([images * left, images * ~left, *copies], dim=1)


class Sides(nn.Module):
    """Tells which side of an image is brighter: from its halves, or, where `by_position` is false, from nothing."""

    def __init__(self, by_position=True):
        super().__init__()
        self.features, self.pool = Halves(), nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(10, 2, bias=False)
        weights = torch.zeros(2, 10)
        if by_position:
            weights[0, 0] = weights[1, 1] = 1
        self.classes.weight = nn.Parameter(weights)

    def forward(self, images):
        return self.classes(self.pool(self.features(images)).flatten(1))


def lit_images(count, seed=0, size=12):
    """Images that are bright at the left (class 0) or at the right (class 1), and dark at the other side.

    Either half alone tells the class.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    images = 0.1 * torch.randn(count, 1, size, size, generator=generator)
    images[..., : size // 2] += 1.0 - 2 * labels[:, None, None, None]
    images[..., size // 2 :] -= 1.0 - 2 * labels[:, None, None, None]
    return images, labels


IMAGES, SCORED = lit_images(40)[0], TensorDataset(*lit_images(60, seed=1))
OPTIONS = {"layer": "features", "counts": COUNTS, "progress": False}


@pytest.fixture(scope="module")
def result():
    methods = ["flip", "shift", "omega2", "readout", "flip-left", "flip-vertical"]
    return run(Sides(), IMAGES, SCORED, methods=methods, strongest=3, examples=2, command="probe", **OPTIONS)


# ---- Known answers


def test_the_channels_that_know_the_side_are_found_and_needed(result):
    assert list(result.ranking.values) == ["flip", "shift", "omega2", "readout", "flip-left", "flip-vertical"]
    assert set(result.channel_rank.sel(ranking="flip").argsort().values[:2]) == {0, 1}
    accuracy = result.sel(score="accuracy", count=2)
    assert accuracy.intact == 1
    # Without both halves nothing is left to tell the classes by.
    share_of_first_class = (SCORED.tensors[1] == 0).double().mean().item()
    assert accuracy.top.sel(ranking="flip").item() == pytest.approx(share_of_first_class)
    # The other draws lose nothing, but one of them can be the two channels themselves; not with this seed.
    other = run(Sides(), IMAGES, SCORED, methods=["flip"], examples=0, seed=3, **OPTIONS)
    assert (other.random.sel(score="accuracy", count=2) == 1).all()
    assert verdicts(other)["random"]["accuracy", "flip", 2] == "more"
    assert "falls further than without random channels for flip (2)" in findings(other)[1]


def test_the_same_channels_of_a_model_that_does_not_use_them():
    with pytest.warns(ProbeWarning, match="score 'accuracy': 0.467 of the whole model, no better than chance"):
        found = run(Sides(by_position=False), IMAGES, SCORED, methods=["flip"], examples=0, **OPTIONS)
    assert "no better than chance" in found.attrs["warnings"]
    assert verdicts(found)["random"]["accuracy", "flip", 2] == "undecided"
    assert "no evidence that the model needs them more than random ones" in findings(found)[0]


# ---- Every part is what the library gives


@pytest.mark.parametrize("method", ["shift", "readout"])
def test_rankings_and_curves_are_those_of_the_library(result, method):
    ranking = probe.rank_channels(Sides(), IMAGES, "features", method=method, progress=False).sortby("index")
    ours = result.sel(ranking=method)
    np.testing.assert_array_equal(ours.channel_rank, ranking["rank"])
    np.testing.assert_array_equal(ours.channel_score, ranking.score)
    assert ours.stability.item() == ranking.stability.item()
    images, labels = SCORED.tensors
    for count in COUNTS:
        first = np.flatnonzero(ours.channel_rank <= count)
        with probe.ablate(model := Sides(), {"features": first}):
            accuracy = (model(images).argmax(1) == labels).float().mean().item()
        assert ours.top.sel(score="accuracy", count=count).item() == pytest.approx(accuracy)


def test_each_ranking_has_its_own_matched_draws(result):
    assert result.matched.notnull().all()
    for method in ("flip", "shift"):
        ranking = probe.rank_channels(Sides(), IMAGES, "features", method=method, progress=False)
        options = {name: OPTIONS[name] for name in ("counts", "progress")}
        alone = probe.ablation_curve(Sides(), SCORED, ranking, score="accuracy", controls=["matched"], **options)
        np.testing.assert_array_equal(result.matched.sel(ranking=method), alone.matched)
    assert result.random.dims == ("score", "draw", "count")


def test_agreement_is_that_of_the_library(result):
    rankings = [probe.rank_channels(Sides(), IMAGES, "features", method=m, progress=False) for m in ("flip", "omega2")]
    expected = probe.compare_rankings(*rankings, top=COUNTS)
    pair = {"ranking": "flip", "other": "omega2"}
    assert result.correlation.sel(pair).item() == expected.correlation.sel(pair).item()
    np.testing.assert_array_equal(result.overlap.sel(pair), expected.overlap.sel(pair))


def test_mean_maps_are_those_of_the_channels_ranked_first(result):
    measured = probe.channelwise(Sides(), IMAGES, layers="features", maps="features", progress=False)
    order = result.channel_rank.sel(ranking="flip").argsort().values
    np.testing.assert_array_equal(result.strongest, order[:3])
    expected = layer_map(measured, "mean_map", "features").isel(channel=order[:3])
    np.testing.assert_allclose(result.mean_map, expected.transpose("stimulus", "channel", "row", "column"))


def test_examples_are_the_images_whose_mirror_image_changes_a_channel_most(result):
    maps = Halves()(IMAGES).mean(dim=(2, 3)) - Halves()(IMAGES.flip(3)).mean(dim=(2, 3))
    channel = int(result.strongest[0])
    chosen = maps[:, channel].abs().argsort(descending=True)[:2]
    np.testing.assert_allclose(result.example_change[0], maps[chosen, channel], rtol=1e-5)
    for place, number in enumerate(chosen):
        image = IMAGES[number, 0]
        stretched = (255 * (image - image.min()) / (image.max() - image.min())).round()
        shown = result.example_image[0, place].values
        np.testing.assert_array_equal(shown, np.repeat(stretched.numpy()[..., None], 3, axis=2))


def test_position_is_read_before_and_after():
    net, images = small_net(), torch.randn(120, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    scored = images[60:]
    found = run(
        net, images[:60], scored, layer="relu2", methods=["omega2"], counts=[4, 12, 20], score="agreement",
        draws=2, examples=0, progress=False,
    )  # fmt: skip
    assert found.attrs["removed"] == 12
    assert list(found.layer.values) == ["relu2", "conv3", "conv4"]
    first = np.flatnonzero(found.channel_rank.sel(ranking="omega2") <= 12)
    options = {"layers": ["relu2", "conv3", "conv4"], "progress": False}
    before = probe.layerwise(net, scored, **options)
    with probe.ablate(net, {"relu2": first}), warnings.catch_warnings(action="ignore", category=ProbeWarning):
        after = probe.layerwise(net, scored, **options)
    for removed, expected in (("nothing", before), ("ranked", after)):
        np.testing.assert_allclose(found.r2.sel(removed=removed), expected.r2, rtol=1e-6)
    assert found.sizes["readout_draw"] == 3
    assert reports.build(found).html()


def test_frames_of_one_video_share_a_fold_of_every_error():
    scored = torch.randn(60, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    groups = [number // 5 for number in range(60)]
    net = small_net()
    found = run(
        net, scored, scored + 1, layer="relu2", methods=["omega2"], counts=[4], score="agreement", draws=2,
        examples=0, eval_groups=groups, progress=False,
    )  # fmt: skip
    expected = probe.layerwise(net, scored + 1, layers="relu2", groups=groups, progress=False)
    before = found.sel(removed="nothing", layer="relu2")
    np.testing.assert_allclose(before.r2_fold, expected.r2_fold.sel(layer="relu2"), rtol=1e-6)
    assert before.samples_per_feature.item() == expected.samples_per_feature.item()


@pytest.mark.filterwarnings("ignore:10 images")
def test_what_the_position_readouts_warn_of_is_on_record():
    images = torch.randn(10, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    deep = nn.Sequential(nn.Conv2d(1, 64, 3, stride=4), nn.ReLU())
    with pytest.warns(ProbeWarning, match="samples a feature"):
        found = run(
            deep, images, images + 1, layer="0", methods=["omega2"], counts=[4], draws=2, examples=0, progress=False,
            score={"mean": lambda output: output.mean(dim=(1, 2, 3))},
        )  # fmt: skip
    assert any("samples a feature" in message for message in json.loads(found.attrs["warnings"]))


@pytest.mark.filterwarnings("ignore:8 images")
def test_ranking_and_scoring_on_one_folder_is_warned_of(workplace):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with pytest.warns(ProbeWarning, match="eval_images: the folder that channels are ranked on"):
        found = run(
            net, "photos", workplace / "photos", layer="0", methods=["flip"], counts=[2], draws=2, examples=0,
            max_images=5, score={"mean": lambda output: output.mean(dim=(1, 2, 3))}, progress=False,
        )  # fmt: skip
    assert any("eval_images" in message for message in json.loads(found.attrs["warnings"]))


def test_an_image_that_gives_nan_is_no_example():
    images = IMAGES.clone()
    images[7] = torch.nan
    with warnings.catch_warnings(action="ignore", category=ProbeWarning):
        found = find_examples(Sides(), images, "features", np.array([0]), count=2, progress=False)
    assert found.example_change.notnull().all()


# ---- What surrounds them


def test_the_result_tells_where_it_comes_from(result, tmp_path):
    facts = result.attrs
    assert (facts["layer"], facts["removed"], facts["n_images"], facts["eval_n_images"]) == ("features", 5, 40, 60)
    assert facts["images_digest"] != facts["eval_images_digest"]
    assert json.loads(facts["settings"])["counts"] == COUNTS
    assert (
        "on 40 images; then the first are removed, and accuracy measured on 60 others" in reports.build(result).html()
    )
    assert all({"long_name", "units"} <= set(variable.attrs) for variable in result.data_vars.values())
    assert probe.load(probe.save(result, tmp_path / "channels.nc")).identical(result)


def test_the_same_call_gives_the_same_numbers(result, left_as_found):
    model = Sides()
    with left_as_found(model):
        again = run(model, IMAGES, SCORED, methods=["flip", "omega2"], strongest=3, examples=2, **OPTIONS)
    same = result.sel(ranking=["flip", "omega2"], other=["flip", "omega2"])
    assert again.equals(same[list(again.data_vars)])


def test_counts_are_shares_of_the_channels_by_default():
    found = run(Sides(), IMAGES, SCORED, layer="features", methods=["flip"], draws=2, examples=0, progress=False)
    assert found["count"].values.tolist() == [1, 2, 5, 8]
    assert "example_image" not in found


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ["flip", "tilt"]}, "method='tilt'"),
        ({"methods": "flip"}, "expected a list of rankings"),
        ({"methods": []}, "expected a list of rankings"),
        ({"counts": [11]}, "from 1 to 10"),
        ({"counts": []}, "from 1 to 10"),
        ({"score": "f1"}, "score='f1'"),
        ({"eval_groups": [0, 1] * 30}, "eval_groups: 2 distinct labels"),
    ],
)
def test_wrong_arguments_are_refused(changed, message, monkeypatch):
    monkeypatch.setattr("probe.analyses.channels.study.ablation_curve", None)  # refused before any model is scored
    with pytest.raises(ArgumentError, match=message):
        run(Sides(), IMAGES, SCORED, **{**OPTIONS, "methods": ["flip"], **changed})


def test_a_generator_and_an_unknown_layer_are_refused():
    with pytest.raises(ImagesError, match="can be read only once"):
        run(Sides(), iter([IMAGES]), SCORED, **OPTIONS)
    with pytest.raises(LayerNotFoundError, match="halves"):
        run(Sides(), IMAGES, SCORED, **{**OPTIONS, "layer": "halves"})


def test_images_that_cannot_be_scored_on_are_named_as_such(tmp_path):
    with pytest.raises(ImagesError, match=r"^eval_images: no image file"):
        run(Sides(), IMAGES, tmp_path, **{**OPTIONS, "methods": ["flip"]})


# ---- The command

NETS = """
from probe.analyses.nets import small_net
from torch import nn

def classifier():
    return nn.Sequential(nn.Conv2d(3, 1, 1), small_net(n_classes=2))

def segmenter():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "channel_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("photos", "scored/cat", "scored/dog", "streets", "classes"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(8):
            shape = (32, 48) if folder == "classes" else (32, 48, 3)
            values = rng.integers(3 if folder == "classes" else 256, size=shape, dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def command(*words):
    return CliRunner().invoke(main, ["report", "channels", *map(str, words), "--quiet", "--draws", "2"])


SMALL = ("--methods", "flip,omega2", "--counts", "2,4", "--images", "photos")


def test_the_command_scores_classes_by_their_folders(workplace):
    words = ["channel_nets:classifier", "--layer", "1.relu2", *SMALL, "--eval-images", "scored", "--size", "32"]
    outcome = command(*words)
    assert outcome.exit_code == 0, outcome.stderr
    found = probe.load("channels-report.nc")
    assert (found.attrs["eval_n_images"], list(found.score.values)) == (16, ["accuracy"])
    assert found.attrs["command"].startswith("probe report channels channel_nets:classifier --layer 1.relu2")
    page = (workplace / "channels-report.html").read_text(encoding="utf-8")
    assert all(f"- {sentence}" in outcome.stdout for sentence in findings(found)[:3])
    assert found.attrs["preprocessing"] in page
    assert CliRunner().invoke(main, ["report", "channels-report.nc", "-o", "again.html"]).exit_code == 0
    assert (workplace / "again.html").read_text(encoding="utf-8") == page
    assert "exists already" in command(*words).stderr


def test_the_command_refuses_another_number_of_folders_than_outputs(workplace):
    (workplace / "scored" / "sheep").mkdir()
    words = ["channel_nets:classifier", "--layer", "1.relu2", *SMALL, "--eval-images", "scored", "--size", "32"]
    outcome = command(*words)
    assert outcome.exit_code == 1
    assert "the data set has 3 classes, and the model 2 outputs" in outcome.stderr
    assert not (workplace / "channels-report.nc").exists()
    (workplace / "scored" / "sheep").rmdir()
    (workplace / "scored" / "0.png").write_bytes((workplace / "photos" / "0.png").read_bytes())
    assert "1 of 17 are in no folder of a class, scored/0.png for one" in command(*words).stderr


@pytest.mark.usefixtures("undrawn")
def test_the_command_follows_folders_of_classes_that_are_links(workplace):
    (workplace / "linked").mkdir()
    for name in ("cat", "dog"):
        (workplace / "linked" / name).symlink_to(workplace / "scored" / name, target_is_directory=True)
    words = ["channel_nets:classifier", "--layer", "1.relu2", *SMALL, "--size", "32", "--examples", 0]
    for folder in ("scored", "linked"):
        outcome = command(*words, "--eval-images", folder, "-o", f"{folder}.html")
        assert outcome.exit_code == 0, outcome.stderr
    scored, linked = (probe.load(f"{folder}.nc") for folder in ("scored", "linked"))
    assert linked.attrs["eval_images_digest"] == scored.attrs["eval_images_digest"]
    assert linked.intact.equals(scored.intact)


@pytest.mark.usefixtures("undrawn")
def test_the_command_scores_pixels_by_label_files_in_their_own_size(workplace):
    outcome = command(
        "channel_nets:segmenter", "--layer", "1", *SMALL, "--eval-images", "streets", "--labels", "classes",
        "--examples", 0, "-o", "streets.html",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.stderr
    found = probe.load("streets.nc")
    assert list(found.score.values) == ["miou", "miou:left", "miou:centre", "miou:right"]
    assert found.attrs["preprocessing"] == "own size, ImageNet mean and standard deviation"
    assert (found.sizes["row"], found.sizes["column"]) == (32, 48)
    assert "example_image" not in found


@pytest.mark.usefixtures("undrawn")
def test_the_command_keeps_images_of_a_group_in_one_fold(workplace):
    for place, path in enumerate(sorted((workplace / "scored").rglob("*.png"))):
        path.rename(path.with_name(f"video{place % 11:02}_{path.name}"))
    words = ["channel_nets:classifier", "--layer", "1.relu2", *SMALL, "--eval-images", "scored", "--size", "32"]
    outcome = command(*words, "--eval-groups", r"video\d+", "--examples", 0)
    assert outcome.exit_code == 0, outcome.stderr
    alone = command(*words, "--examples", 0, "-o", "alone.html")
    assert alone.exit_code == 0, alone.stderr
    grouped, alone = probe.load("channels-report.nc"), probe.load("alone.nc")
    assert grouped.intact.equals(alone.intact)
    assert not grouped.r2_fold.equals(alone.r2_fold)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval-images", "scored", "--eval-groups", "("], "is no regular expression"),
        (["--eval-images", "scored", "--eval-groups", "video"], "matches nothing in cat/0.png"),
        (["--eval-images", "streets"], "has no folder for each class"),
        (["--eval-images", "scored", "--counts", "few"], "expected whole numbers"),
        (["--eval-images", "scored", "-o", "page.nc"], "name it page.html"),
    ],
)
def test_wrong_usage_is_told_before_the_work(workplace, words, message):
    outcome = command("channel_nets:classifier", "--layer", "1.relu2", "--images", "photos", *words)
    assert outcome.exit_code == 2
    assert message in outcome.stderr
