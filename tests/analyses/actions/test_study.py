"""The study of actions: its cases, its numbers on clips and videos, and what it says of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from probe.analyses.actions import nets, study, training
from probe.analyses.actions.cases import PRESETS, Case, one_task
from probe.analyses.actions.clips import middle_clip, scored_starts, whole_starts
from probe.analyses.actions.digits import task_clips
from probe.analyses.actions.nets import ARMS, small_clip_net
from probe.analyses.actions.study import SCORES, run
from probe.analyses.actions.training import Schedule, Splits, score_clips, score_videos, train_on_videos
from probe.analyses.actions.videos import read_splits
from probe.analyses.data.digits import load_digits
from probe.errors import ArgumentError
from probe.reports.studies import build, findings
from tests.analyses.actions.test_clips import folder, write_videos  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("actions")


def test_each_case_is_there_once(result):
    here = result.here_by_seed.sel(net="small")
    assert here.sel(data_set=["place", "time"], score=["as trained", "swapped"]).notnull().sum() == 2 * 2 * 2 * 4
    assert here.sel(data_set="directions", score=["as trained", "frames shuffled"]).notnull().sum() == 2 * 2 * 4
    assert here.notnull().sum() == 2 * 6 * 4
    assert result.published.notnull().sum() == 13
    ucf = result.published.sel(data_set="UCF101", score="clips, best epoch")
    assert ucf.sel(net="RN34", arm="F-Conv in space") == 46.9
    assert ucf.sel(net="RN18", arm="F-Conv in space and time, stride 2") == 42.2
    np.testing.assert_allclose(result.chance.sel(data_set=["directions", "place", "time"]), [12.5, 50, 50])


def test_circular_networks_answer_alike_in_swapped_clips(result):
    circular = result.here_by_seed.sel(net="small", arm="circular", data_set=["place", "time"])
    assert circular.sel(score="as trained").values.tolist() == circular.sel(score="swapped").values.tolist()


def test_products_are_those_of_the_layers(result):
    """By hand for S-Conv: kernel × channels × cells of each map, and the linear layer."""
    convolutions = 27 * (1 * 16 * 16 * 16**2 + 16 * 32 * 8 * 8**2 + 32 * 64 * 4 * 4**2)
    assert result.products.sel(measured_net="small", measured_arm="S-Conv") == convolutions + 64
    assert result.products.sel(measured_net="small", measured_arm="circular") == convolutions + 64


def test_accuracies_are_those_of_the_trained_network():
    train_digits, held_out = load_digits(enlarged=1)
    test = task_clips("place", held_out, count=24, generator=torch.Generator().manual_seed(1000))
    one = Case(0, "place", "small", "S-Conv")
    net = small_clip_net(ARMS["S-Conv"], n_classes=2)
    found = one_task(net, one, train_digits, test, PRESETS["tiny"], CPU, lambda: None)
    with torch.no_grad():
        expected = 100 * (net(test.frames).argmax(1) == test.labels).double().mean()
        other = 100 * (net(test.frames.roll(16, 3)).argmax(1) == test.labels).double().mean()
    assert found == {"as trained": pytest.approx(expected.item()), "swapped": pytest.approx(other.item())}


class Brightness(nn.Module):
    """Scores two classes by the grey of the middle frame, above or below 20."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, clips):
        grey = clips[:, 0, 8].mean(dim=(1, 2)) + 114.7748 - 20
        return self.scale * torch.stack([-grey, grey], dim=1)


def test_clips_and_videos_are_scored_by_their_definitions(folder):  # noqa: F811
    _, _, test, _ = read_splits(folder)
    _, accuracy = score_clips(Brightness(), test, size=8, device=CPU)
    assert score_clips(Brightness(), test, size=8, device=CPU, workers=2) == score_clips(
        Brightness(), test, size=8, device=CPU
    )
    of_clips, of_videos = [], []
    for index, label in enumerate(test.labels):

        def greys(starts, index=index):
            frames = [middle_clip(test, index, start, size=8)[0, 8].mean() + 114.7748 - 20 for start in starts]
            return torch.stack(frames)

        of_clips += [int(value > 0) == label for value in greys(scored_starts(20))]
        values = greys(whole_starts(20))
        probabilities = torch.stack([-values, values], 1).softmax(1).mean(0)
        of_videos.append(int(probabilities.argmax()) == label)
    assert accuracy == pytest.approx(100 * np.mean(of_clips))
    assert score_videos(Brightness(), test, size=8, device=CPU) == pytest.approx(100 * np.mean(of_videos))


@pytest.mark.parametrize("is_published", [False, True])
def test_the_chosen_epoch_is_the_first_best_of_validation(folder, monkeypatch, is_published):  # noqa: F811
    monkeypatch.setattr(training, "_WORKERS", 0)
    *parts, classes = read_splits(folder)
    splits = Splits(*(part.keep(short_side=10) for part in parts), classes)
    validation, tested, videos = iter([20.0, 60.0, 60.0]), iter([50.0, 40.0, 30.0]), iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(
        training, "score_clips",
        lambda model, part, **_: (1.0, next(validation) if part is splits.validation else next(tested)),
    )  # fmt: skip
    monkeypatch.setattr(training, "score_videos", lambda model, part, **_: next(videos))
    seen = []
    schedule = Schedule(epochs=3, visits=2, batch=8, size=8, is_published=is_published)
    net = small_clip_net(ARMS["S-Conv"], n_classes=2, n_channels=3)
    before = net[1].weight.clone()
    found = train_on_videos(net, splits, schedule, seed=0, device=CPU, done=lambda: seen.append(1))
    assert len(seen) == 3 * schedule.steps(16) == 12
    assert not torch.equal(net[1].weight, before)
    assert found == {
        "clips, chosen epoch": 40.0, "videos, chosen epoch": 2.0, "clips, last epoch": 30.0, "videos, last epoch": 3.0,
        "clips, best epoch": 50.0, "by_epoch": [[20.0, 60.0, 60.0], [50.0, 40.0, 30.0]],
    }  # fmt: skip


def test_the_published_rate_falls_where_the_validation_loss_does_not(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(training, "_WORKERS", 0)
    monkeypatch.setattr(training, "_PATIENCE", 1)
    *parts, classes = read_splits(folder)
    splits = Splits(*(part.keep(short_side=10) for part in parts), classes)
    losses, rates = iter([1.0, 2.0, 2.0, 2.0, 2.0]), []

    def scored(model, part, **_):
        return (next(losses) if part is splits.validation else 0.0), 50.0

    monkeypatch.setattr(training, "score_clips", scored)
    monkeypatch.setattr(training, "score_videos", lambda model, part, **_: 0.0)
    made = []
    sgd = training.SGD
    monkeypatch.setattr(training, "SGD", lambda *given, **named: made.append(sgd(*given, **named)) or made[-1])
    schedule = Schedule(epochs=5, visits=1, batch=16, size=8, is_published=True)
    net = small_clip_net(ARMS["S-Conv"], n_classes=2, n_channels=3)
    train_on_videos(net, splits, schedule, seed=0, device=CPU, done=lambda: rates.append(made[0].param_groups[0]["lr"]))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.01, 0.01])  # worse twice, more than one epoch is waited for
    assert made[0].defaults["dampening"] == made[0].defaults["momentum"] == 0.9


def test_a_folder_is_read_and_told_of(folder):  # noqa: F811
    found = run(images=folder, preset="tiny", arms=["S-Conv", "F-Conv in space"], progress=False)
    here = found.here.sel(data_set="folder", net="small", arm=["S-Conv", "F-Conv in space"])
    assert here.sel(score=list(SCORES[3:])).notnull().all() and here.sel(score="swapped").isnull().all()
    assert found.by_epoch.sizes["epoch"] == 2 and found.by_epoch.notnull().all()
    best = found.by_epoch.sel(part="test", measured_arm="S-Conv", measured_net="small").max("epoch").values
    np.testing.assert_allclose(
        best, found.here_by_seed.sel(data_set="folder", net="small", arm="S-Conv", score="clips, best epoch")
    )
    assert found.chance.sel(data_set="folder") == 50
    assert json.loads(found.attrs["settings"])["videos"] == {"training": 16, "validation": 4, "test": 4}
    assert any("accuracy of clips and of videos" in sentence for sentence in findings(found))
    assert "Diamonds" not in build(found).html()  # nothing of this folder is published


def test_paper_trains_the_published_networks_on_the_set_that_the_folder_names(tmp_path, monkeypatch):
    for part in ("train", "test"):
        write_videos(tmp_path / "HMDB-frames" / part, count=10, frames=2, size=(16, 16))
    small = replace(PRESETS["paper"], seeds=1, epochs=1, size=16)
    monkeypatch.setitem(PRESETS, "paper", small)
    monkeypatch.setattr(nets, "_CHANNELS", (2, 4, 4, 4))
    monkeypatch.setattr(study, "_nets", lambda preset, arms: {"RN18": arms})
    monkeypatch.setattr(training, "_WORKERS", 0)
    found = run(images=tmp_path / "HMDB-frames", preset="paper", arms=["F-Conv in space"], progress=False)
    one = found.sel(data_set="HMDB51", net="RN18", arm="F-Conv in space", score="clips, best epoch")
    assert one.published == 19.3 and 0 <= one.here <= 100
    assert any(sentence.startswith("HMDB51, RN18 network") for sentence in findings(found))


def test_a_folder_bears_the_name_of_a_published_set_or_is_one_of_its_own(tmp_path):
    names = {"UCF-101": "UCF101", "ucf101_frames": "UCF101", "hmdb51_org": "HMDB51", "UCF11": "folder", "my": "folder"}
    assert {name: study._name(tmp_path / name) for name in names} == names


def test_the_full_protocol_is_the_published_one():
    paper = PRESETS["paper"]
    assert (paper.epochs, paper.batch, paper.size, paper.visits, paper.short_side) == (150, 32, 112, 1, 0)
    assert {net: len(arms) for net, arms in study._nets("paper", None).items()} == {"RN18": 4, "RN34": 2, "RN50": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": ["T-Conv"]}, "expected a list of some of S-Conv"),
        ({"seeds": 0}, "seeds=0"),
        ({"preset": "paper"}, r"needs UCF101 or HMDB51\. Get them from"),
    ],
)
def test_wrong_arguments_are_told(given, message):
    with pytest.raises(ArgumentError, match=message):
        run(**given, progress=False)


def test_what_swapping_costs_is_told_as_a_fall(result):
    changed = result.copy(deep=True)
    at = {"data_set": "time", "net": "small", "arm": "S-Conv"}
    for score, accuracies in (("as trained", [95.0, 96.0]), ("swapped", [62.0, 60.0])):
        changed.here_by_seed.loc[{**at, "score": score}] = accuracies
    (told,) = (sentence for sentence in findings(changed) if "half of the clip" in sentence)
    assert "Accuracy falls with S-Conv (by 34.5 (33.0 and 36.0) points)" in told
