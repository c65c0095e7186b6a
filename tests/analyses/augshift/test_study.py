"""The study of AugShift: its numbers are the library's, its arms do what they say, and the answers that are known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import probe
from probe.analyses.augshift.arms import ARMS, LARGE_NET, SMALL_NET, Views, make_net, named_weight
from probe.analyses.augshift.study import PRESETS, run
from probe.analyses.data.splits import small_images
from probe.analyses.training import train
from probe.errors import ArgumentError, ImagesError
from probe.reports.studies import build, findings

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = named_weight(1)


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("augshift")


@pytest.fixture(scope="module")
def views():
    return Views.of(small_images(None, (64, 40)), window=24, border=0)


def test_its_numbers_are_those_of_the_library(result, views):
    net = make_net(SMALL_NET, ARMS[OURS], n_classes=10, seed=1, width=4)
    batches = views.batches(ARMS[OURS], steps=5, batch_size=16, seed=1)
    train(net, batches, steps=5, loss=lambda model, *batch: model.loss(*batch, weight=1.0).total)
    rows = TensorDataset(views.test.images, views.test.labels)
    crops = probe.shift_consistency(net, rows, law="crop", reach=8, labels=True, seed=1, progress=False)
    here = result.here_by_seed.sel(seed=1, data_set="digits", arm=OURS)
    assert here.sel(score="consistency").item() == pytest.approx(100 * crops.consistency.sel(subset="all").item())
    middle = views.test.images[:, :, 4:28, 4:28]
    with torch.no_grad():
        accuracy = (net(middle).argmax(1) == views.test.labels).float().mean().item()
        norm = net.encoder(middle).norm(dim=1).mean().item()
    assert here.sel(score="accuracy").item() == pytest.approx(100 * accuracy)
    assert result.latent_norm.sel(seed=1, data_set="digits", arm=OURS).item() == pytest.approx(norm, rel=1e-4)


def test_polyphase_is_exactly_consistent_under_circular_shifts(result):
    circular = result.here_by_seed.sel(data_set="digits", score="consistency, circular")
    assert (circular.sel(arm="polyphase") == 100).all()
    images = torch.randn(4, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = {}
    for name in ("polyphase", "plain"):
        net = make_net(SMALL_NET, ARMS[name], n_classes=10, seed=0, width=4).double().eval()
        with torch.no_grad():
            moved[name] = (net(images.roll((5, -3), dims=(2, 3))) - net(images)).abs().max()
    assert moved["polyphase"] < 1e-12 and moved["plain"] > 1e-3


def test_arms_begin_with_equal_weights_and_differ_as_they_are_named():
    nets = {name: make_net(SMALL_NET, arm, n_classes=10, seed=2, width=4) for name, arm in ARMS.items()}
    plain = nets["plain"].state_dict()
    for net in nets.values():
        assert all(torch.equal(net.state_dict()[name], values) for name, values in plain.items())
    blurs = {name: sum("BlurPool" in type(module).__name__ for module in net.modules()) for name, net in nets.items()}
    assert {name for name, count in blurs.items() if count} == {"BlurPool"}
    assert [ARMS[name].n_views for name in ("plain", "two views, weight 0", OURS)] == [1, 2, 2]
    assert [ARMS[named_weight(weight)].weight for weight in (0.1, 1, 10)] == [0.1, 1, 10]


def test_each_arm_is_shown_what_it_says(views):
    batches = {
        name: list(views.batches(arm, steps=2, batch_size=8, seed=0)) for name, arm in ARMS.items()
    }  # fmt: skip
    assert {name: len(found) for name, found in batches.items() if len(found) != 2} == {"plain, twice the steps": 4}
    (images, labels), _ = batches["plain, no crops"]
    middles = views.training.images[:, :, 4:28, 4:28]
    assert all(any(torch.equal(image, middle) for middle in middles) for image in images)
    assert torch.equal(labels, batches["plain"][0][1]) and torch.equal(labels, batches[OURS][0][2])
    first, second, _ = batches[OURS][0]
    assert first.shape == second.shape == (8, 3, 24, 24) and not torch.equal(first, second)


def test_a_border_is_of_the_mean_colour_and_leaves_room():
    views = Views.of(small_images(None, (20, 10)), window=32, border=4)
    assert (views.window, views.room) == (32, 8)
    assert torch.equal(views.middle.images, views.test.images[:, :, 4:36, 4:36])
    assert views.test.images[:, :, :4].abs().max() == 0
    assert abs(views.middle.images.mean()) < 0.5  # normalised, so that 0 is the mean


def test_the_published_network_begins_with_small_strides():
    net = make_net(LARGE_NET, ARMS["plain"], n_classes=100, seed=0)
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_220_132
    assert net.head.in_features == 512 and net.encoder.conv1.stride == (1, 1)
    with torch.no_grad():
        assert net.encoder.eval().layer4[1].conv2.weight.shape == (512, 512, 3, 3)
    paper = PRESETS["paper"]
    assert (paper.recipe.rate, paper.recipe.momentum, paper.recipe.weight_decay) == (0.1, 0.9, 5e-4)
    assert paper.recipe.drops == (100 / 250, 200 / 250) and set(paper.arms) == set(ARMS)


@pytest.fixture
def hundred(tmp_path):
    """A folder like CIFAR-100."""
    names = ["apple", "aquarium_fish", "worm", *(f"class{number:02}" for number in range(97))]
    generator = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 1)):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def test_cifar_100_is_known_and_published_numbers_stand_beside_it(hundred, monkeypatch):
    small = PRESETS["paper"].__class__(
        SMALL_NET, ("plain", OURS), 1, None, None, 2, 64, window=32, border=4, width=4, recipe=PRESETS["paper"].recipe
    )
    monkeypatch.setitem(PRESETS, "paper", small)
    found = run(images=hundred, preset="paper", progress=False)
    assert found.data_set.values.tolist() == ["CIFAR-100", "CIFAR-10"]
    assert found.here.sel(data_set="CIFAR-10").isnull().all()
    assert found.published.sel(data_set="CIFAR-100", arm=OURS).values[:2].tolist() == [72.6, 85.6]
    assert found.published.sel(arm="plain", score="consistency").values.tolist() == [70.1, 90.8]
    with pytest.raises(ImagesError, match="train: 200 found, 10000 needed"):
        run(images=hundred, progress=False)


def with_scores(result, **by_arm):
    changed = result.copy(deep=True)
    for arm, (accuracy, consistency) in by_arm.items():
        for score, value in (("accuracy", accuracy), ("consistency", consistency)):
            name = {"plain": "plain", "ours": OURS}[arm]
            changed.here_by_seed.loc[{"arm": name, "score": score}] = [[value - 0.01], [value + 0.01]]
    return changed


def test_sentences_follow_the_numbers(result):
    first = findings(with_scores(result, plain=(72.6, 70.1), ours=(72.6, 85.6)))[0]
    assert first.startswith("AugShift (weight 1) less plain training on crops: accuracy")
    assert "within its error" in first and "+15.5" in first and "higher beyond its error" in first
    reverse = findings(with_scores(result, ours=(72.6, 70.1), plain=(80.0, 85.6)))[0]
    assert reverse.count("lower beyond its error") == 2
    assert any("is 100 % consistent under circular shifts, as it must be" in sentence for sentence in findings(result))
    wrong = result.copy(deep=True)
    wrong.here_by_seed.loc[{"arm": "polyphase", "score": "consistency, circular"}] = 99.0
    assert any("something is wrong with these numbers" in sentence for sentence in findings(wrong))


def test_its_page_has_figures_of_scores_and_latents(result):
    titles = [section.title for section in build(result).sections]
    assert "Latents" in titles and "What the network was shown" in titles


def test_what_cannot_be_done_is_told():
    with pytest.raises(ArgumentError, match=r"the preset 'paper' needs CIFAR-10 or CIFAR-100\. Get CIFAR-10 from http"):
        run(preset="paper", progress=False)
    with pytest.raises(ArgumentError, match="seeds=0"):
        run(preset="tiny", seeds=0, progress=False)
