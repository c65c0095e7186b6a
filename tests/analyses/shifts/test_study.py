"""The study of shifted images: its numbers are the library's, its arms are what they say, and what it refuses."""

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from scipy import stats
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.analyses.nets import multiply_adds
from probe.analyses.shifts.arms import ARMS, MATCHED, SMALL_NET, large_task, make_arm, small_task
from probe.analyses.shifts.study import OWN, PUBLISHED_LAW, _published, run
from probe.analyses.training import train
from probe.errors import ArgumentError, ImagesError, ProbeWarning
from probe.reports.studies import build, comparison_table, findings
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("shifts")


def test_its_numbers_are_those_of_the_library(result):
    task = small_task(None, 64, 40)
    net = make_arm(SMALL_NET, "F+B", n_classes=10, window=24, seed=1, width=4)
    train(net, task.batches(steps=5, batch_size=16, seed=1, num_workers=0), steps=5)
    expected = probe.shift_consistency(
        net, task.test, law="crop", reach=8, labels=True, pairs=2, seed=1, progress=False
    )
    found = result.here_by_seed.sel(seed=1, net=SMALL_NET, arm="F+B")
    assert found.sel(score="consistency").item() == pytest.approx(100 * expected.consistency.sel(subset="all").item())
    correct = expected.diagonal_correct
    assert correct.shape == (40, 9)
    assert found.sel(score="diagonal").item() == pytest.approx(100 * correct.mean().item())
    curve = result.diagonal_accuracy.sel(seed=1, net=SMALL_NET, arm="F+B")
    np.testing.assert_allclose(curve, 100 * correct.mean("image"))


def test_all_arms_are_there_with_their_cost(result):
    assert result.arm.values.tolist() == [arm for arm in ARMS if arm != "F, S's pool"]
    counts = result.multiplications.isel(seed=0, net=0)
    parameters = result.parameters.isel(seed=0, net=0)
    assert counts.sel(arm="F") > counts.sel(arm="S") >= counts.sel(arm=MATCHED)
    assert len(set(parameters.sel(arm=["S", "F", "S+B", "F+B"]).values)) == 1
    assert result.published.sel(net="ResNet-8").isnull().all()
    place = {"net": "ResNet-50", "arm": "F"}
    assert result.published.sel({**place, "score": "diagonal"}) == 87.92 and result.here.sel(place).isnull().all()
    assert result.published.sel({**place, "score": "consistency, published law"}) == 91.36


def test_published_arms_have_equal_heads_and_begin_with_equal_weights():
    arms = {arm: make_arm("ResNet-18", arm, n_classes=200, window=224, seed=3, width=8) for arm in ARMS}
    states = {arm: model.state_dict() for arm, model in arms.items()}
    assert all(state["fc.weight"].shape[0] == 200 for state in states.values())
    for arm in set(ARMS) - {MATCHED}:
        assert states[arm].keys() == states["S"].keys()
        assert all(torch.equal(states[arm][name], values) for name, values in states["S"].items())
    size = (3, 224, 224)
    assert multiply_adds(arms[MATCHED], size) <= multiply_adds(arms["S"], size) < multiply_adds(arms["F"], size)
    assert [type(arms[arm].maxpool) for arm in ("S", "F", "F, S's pool")] == [nn.MaxPool2d] * 3
    assert [arms[arm].maxpool.kernel_size for arm in ("S", "F", "F, S's pool")] == [3, 2, 3]


def test_a_small_net_has_no_pooling_to_choose():
    with pytest.raises(ArgumentError, match=r"arm=\"F, S's pool\": ResNet-8 has none"):
        make_arm(SMALL_NET, "F, S's pool", n_classes=2, window=24, seed=0)


def write(folder, size, count=2, classes=("cat", "dog")):
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_large_images_are_shown_as_published(tmp_path):
    write(tmp_path / "train", (60, 90))
    write(tmp_path / "val", (300, 350))
    task = large_task(tmp_path)
    ((images, labels),) = task.batches(steps=1, batch_size=4, seed=0, num_workers=0)
    assert images.shape == (4, 3, 224, 224) and sorted(labels.tolist()) == [0, 0, 1, 1]
    image, label = task.test[3]
    shown = task.transform(image)
    assert shown.shape == (3, 288, 288) and label == 1
    assert (task.window, task.room, task.n_classes) == (224, 64, 2)
    grey = task.transform(Image.new("RGB", (288, 288), (124, 116, 104)))
    assert grey.abs().max() < 0.01  # the mean colour of ImageNet
    result = probe.shift_consistency(
        Corner(), task.test, law="kayhan", labels=True, transform=task.transform, progress=False, batch_size=4
    )
    assert result.sizes["diagonal"] == 65 and int(result.offset.max()) <= 63


class Corner(nn.Module):
    """Two classes by the sign of the pixel in the upper left corner."""

    def __init__(self):
        super().__init__()
        self.classes = nn.Linear(1, 2, bias=False)
        self.classes.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, images):
        return self.classes(images[:, :1, 0, 0])


def test_small_folders_are_used_as_they_are_named(tmp_path):
    write(tmp_path / "train", (32, 32), 6)
    write(tmp_path / "test", (32, 32))
    task = small_task(tmp_path, 8, 4)
    assert task.flipped and task.source == "folder" and task.n_classes == 2 and len(task.training) == 8
    torch.testing.assert_close(task.training.images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    with pytest.raises(ImagesError, match=r"train: 12 found, 10000 needed"):
        run(images=tmp_path, progress=False)


def small_classifier(padding="zeros"):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


@pytest.fixture(scope="module")
def given():
    images, labels = noise_images(24, 20), [number % 5 for number in range(24)]
    model = small_classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        found = run(model, images, labels=labels, preset="tiny", progress=False)
    return model, images, labels, found


def test_a_given_model_is_compared_with_its_copies(given):
    model, images, labels, found = given
    assert found.arm.values.tolist() == [OWN, "circular", "reflect", "full", "blur", "polyphase", "circular, polyphase"]
    rows = TensorDataset(images, torch.tensor(labels))
    settings = {"law": "crop", "reach": 4, "pairs": 2, "labels": True, "max_images": 20, "progress": False}
    for arm, copy in ((OWN, model), ("full", probe.with_padding(model, "full"))):
        expected = probe.shift_consistency(copy, rows, **settings)
        here = found.here.sel(net="Sequential", arm=arm)
        assert here.sel(score="consistency").item() == pytest.approx(
            100 * expected.consistency.sel(subset="all").item()
        )
        assert here.sel(score="diagonal").item() == pytest.approx(100 * expected.accuracy.item())
        np.testing.assert_allclose(found.same_share.sel(arm=arm).squeeze(), 100 * expected.same.mean("pair"), atol=1e-9)
    with torch.no_grad():
        shown = images[np.arange(20) * 24 // 20, :, 2:18, 2:18]  # as many as asked for, evenly spaced
        predicted = {
            arm: copy(shown).argmax(1) for arm, copy in ((OWN, model), ("full", probe.with_padding(model, "full")))
        }
    same = (predicted["full"] == predicted[OWN]).float().mean().item()
    assert found.agreement.sel(arm="full").item() == pytest.approx(100 * same)
    assert found.agreement.sel(arm=OWN).item() == 100
    commonest = predicted["full"].bincount().max().item() / 20
    assert found.commonest.sel(arm="full").item() == pytest.approx(100 * commonest)
    assert found.attrs["model"] == "Sequential" and found.attrs["n_images"] == 20
    assert found.published.isnull().all()


def test_the_page_of_a_given_model_tells_what_its_copies_change(given, undrawn):
    *_, found = given
    sentences = findings(found)
    assert sentences[0].startswith("Sequential as it is predicts the same of both windows in ")
    assert any("Copies with the same weights" in sentence for sentence in sentences)
    changed = found.copy(deep=True)
    changed.same_share.loc[{"arm": "blur"}] = np.where(np.arange(20) % 4, 100.0, 50.0)
    changed.same_share.loc[{"arm": OWN}] = 50.0
    changed.same_share.loc[{"arm": "full"}] = np.where(np.arange(20) % 4, 0.0, 50.0)
    changed.agreement.loc[{"arm": "full"}] = 3.0
    changed.commonest.loc[{"arm": "full"}] = 97.0
    changed.agreement.loc[{"arm": "blur"}] = 80.0
    (little,) = (sentence for sentence in findings(changed) if "tells little" in sentence)
    assert "full 3.0 % (its commonest answer: 97.0 %)" in little and "blur" not in little
    more, less = (next(s for s in findings(changed) if f"{word} consistent" in s) for word in ("more", "less"))
    assert "blur (+37.5" in more.replace("\N{NO-BREAK SPACE}", " ") or "blur (+38" in more
    assert "full (−3" in less and "blur" not in less
    page = build(found).html()
    assert "No published numbers are at hand" in page
    assert "The model is not trained" in page and "epoch" not in page and "as published" not in page


def test_the_table_of_a_given_model_has_its_errors_over_images(given):
    *_, found = given
    table = comparison_table(found).set_index(["arm", "score"])["here ± 95 %"]
    for arm, score in ((OWN, "consistency"), ("reflect", "diagonal")):
        error = found.error.sel(arm=arm, score=score).item()
        assert table[arm, score].half_width == pytest.approx(stats.t.ppf(0.975, 19) * error) and error > 0


def test_without_labels_only_consistency_is_told():
    model, images = small_classifier(), noise_images(20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        found = run(model, images, paddings=["circular"], preset="tiny", progress=False)
    assert found.score.values.tolist() == ["consistency"]
    assert "diagonal_accuracy" not in found
    assert found.distance_consistency.sizes["distance"] == 4


def test_folders_named_by_classes_tell_the_accuracy_of_a_given_model(tmp_path):
    write(tmp_path, (20, 20), 4, ("ant", "bee", "cat", "dog", "elk"))
    model = small_classifier()
    with torch.no_grad():  # always the third class
        model[-1].weight.zero_()
        model[-1].bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        found = run(model, tmp_path, paddings=["circular"], preset="tiny", progress=False)
    assert found.here.sel(arm=OWN, score="diagonal").item() == pytest.approx(20)
    assert found.here.sel(arm=OWN, score="consistency").item() == 100


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.classes = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)

    def forward(self, images):
        if images.sum() > 1e9:
            images = images * 2
        return self.classes(self.conv(images).relu().mean((2, 3)))


def test_copies_that_cannot_be_made_are_left_out_and_told():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run(Untraceable().eval(), noise_images(20, 20), paddings=["circular"], preset="tiny", progress=False)
    assert found.arm.values.tolist() == [OWN, "circular"]
    told = [str(warning.message) for warning in caught]
    assert any("blur: there is no such copy. model: torch.fx cannot trace it" in message for message in told)
    assert any("polyphase: there is no such copy" in warned for warned in json.loads(found.attrs["warnings"]))


# As published, by net and arm; a page of these numbers must tell what the paper tells.
def as_published(result):
    numbers = {
        "S": (79.43, 86.43), "F": (82.74, 88.38), "S+B": (81.96, 88.32), "F+B": (83.95, 90.03), MATCHED: (78.0, 86.0),
    }  # fmt: skip
    changed = result.copy(deep=True)
    for arm, (diagonal, consistency) in numbers.items():
        for score, value in (("diagonal", diagonal), ("consistency", consistency)):
            changed.here_by_seed.loc[{"arm": arm, "score": score}] = [[value - 0.01], [value + 0.01]]
    return changed


def test_sentences_follow_the_numbers(result):
    told = findings(as_published(result))
    assert told[0].startswith("ResNet-8, F-Conv and S-Conv: accuracy along the diagonal 82.740 (82.73 and 82.75)") or (
        "82.7" in told[0] and "79.4" in told[0]
    )
    assert told[0].count("higher beyond its error") == 2
    assert any("F-Conv with S-Conv's arithmetic less S-Conv" in s and s.count("lower beyond") == 2 for s in told)
    assert any(s.startswith("Multiplications beside S-Conv's") and "F-Conv 2" in s for s in told)
    turned = as_published(result).assign_coords(arm=["F", "S", "F+B", "S+B", MATCHED])
    assert findings(turned.sel(arm=list(result.arm.values)))[0].count("lower beyond its error") == 2


def test_its_page_has_its_table_and_figures(result):
    report = build(result)
    table = comparison_table(result)
    assert len(table.dropna(subset="sd")) == 10 and len(table.dropna(subset="published")) == 32
    assert [section.title for section in report.sections].count("Along the diagonal") == 1
    assert "F-Conv with BlurPool" in report.html()
    assert "Diamonds" not in report.html()  # nothing of these networks is published
    published = result.assign(published=0 * result.published.fillna(0) + 50)
    assert "Diamonds: as published" in build(published).html()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"preset": "paper"},
            ArgumentError,
            r"the preset 'paper' needs ImageNet, .*\. Get the im",
        ),
        ({"images": noise_images(2, 8)}, ArgumentError, "images: without a model, expected a folder, found a Tensor"),
        ({"labels": [1]}, ArgumentError, "labels: given without a model, it would have no effect"),
        ({"paddings": ["full"]}, ArgumentError, "paddings: given without a model"),
        ({"max_images": 3}, ArgumentError, "max_images: given without a model"),
        ({"model": Corner()}, ArgumentError, "images: none given. A given model needs"),
        (
            {"model": Corner(), "images": noise_images(2, 48), "seeds": 3},
            ArgumentError,
            "seeds=3: a given model is not",
        ),
        ({"model": Corner(), "images": noise_images(2, 48), "max_images": 0}, ArgumentError, "max_images=0"),
        ({"model": Corner(), "images": iter([])}, ArgumentError, "images: they are read several times, which a l"),
        ({"model": Corner(), "images": noise_images(2, 48), "labels": [0]}, ArgumentError, "labels: 1 found, 2 exp"),
    ],
)
def test_what_cannot_be_done_is_told(given, error, message):
    with pytest.raises(error, match=message):
        run(**given, progress=False)


def test_published_numbers_stand_beside_the_published_law():
    ours = xr.DataArray(
        np.zeros((1, 2, 3, 3)),
        coords={
            "seed": [0], "net": ["ResNet-18", "ResNet-101"], "arm": ["S", "F+B", MATCHED],
            "score": ["diagonal", "consistency", PUBLISHED_LAW],
        },
        dims=("seed", "net", "arm", "score"),
    )  # fmt: skip
    published = _published(ours)
    assert published.sel(net="ResNet-101", arm="F+B", score="diagonal") == 88.73
    assert published.sel(net="ResNet-18", arm="S", score=PUBLISHED_LAW) == 86.43
    assert published.sel(score="consistency").isnull().all() and published.sel(arm=MATCHED).isnull().all()
