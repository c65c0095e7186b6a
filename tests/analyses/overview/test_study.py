"""All that can be told of one model: each part is the library's own call, and a part that fails spoils no other."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.ablation.performance import Shown
from probe.analyses.overview import parts as measuring
from probe.analyses.overview import study
from probe.analyses.overview.parts import PARTS
from probe.analyses.overview.settings import QUICK
from probe.bundles import unbundle
from probe.errors import IllConditionedError, ImagesError, ProbeError
from tests.overviews import IMAGES, LABELS, classifier, made_overview

pytestmark = pytest.mark.usefixtures("one_thread")

LAYER = "0.conv2"
QUIET = {"progress": False, "seed": 3, "max_images": 200}


@pytest.fixture(scope="module")
def parts(overview):
    return unbundle(overview)


def same(found, made):
    """Whether two results are alike but for when and how long they were made, and by which call."""
    xr.testing.assert_identical(found.drop_attrs(deep=False), made.drop_attrs(deep=False))
    for name in ("kind", "weights_digest", "images_digest", "n_images", "seed"):
        assert found.attrs[name] == made.attrs[name]


def test_what_applies_is_measured_and_what_does_not_says_why(overview, parts):
    assert json.loads(overview.attrs["failed"]) == {}
    absent = json.loads(overview.attrs["absent"])
    assert set(parts) | set(absent) == set(PARTS) and not set(parts) & set(absent)
    assert absent["padding_valid"] == "left out with --quick."
    assert "nothing in it is a table of positions" in absent["embedding_zero"]
    assert "nothing to convert" in absent["sampling_blur"]
    assert overview.attrs["layer"] == LAYER
    assert list(overview.shown.values) == ["natural", "rolled"]


def test_each_part_is_what_the_function_of_its_name_gives(parts):
    net, labelled = classifier(), TensorDataset(IMAGES, LABELS)
    layers = ["0.conv1", LAYER]
    same(parts["where"], probe.layerwise(net, IMAGES, layers=["input", *layers], maps=LAYER, **QUIET))
    same(parts["untrained"], probe.layerwise(classifier(seed=1), IMAGES, layers=layers, **QUIET))
    same(parts["audit"], probe.audit(net, (3, 8, 8)))
    border = probe.border_profile(net, IMAGES, layers=layers, stimuli="rolled", **QUIET)
    same(parts["border"], border)
    same(parts["channels"], probe.channelwise(net, IMAGES, layers=LAYER, **QUIET))
    rankings = [probe.rank_channels(net, IMAGES, LAYER, method=name, **QUIET) for name in ("omega2", "readout", "flip")]
    same(parts["rankings"], probe.compare_rankings(*rankings))
    same(parts["neighbours"], probe.neighbours(net, IMAGES, LAYER, **QUIET))
    same(parts["consistency"], probe.shift_consistency(net, IMAGES, law="circular", diagonal=False, **QUIET))
    same(parts["rereading"], probe.erasure_matrix(net, IMAGES, layers=layers, **QUIET))
    found = probe.stronger_readouts(net, IMAGES, LAYER, ranks=[2], samples=200, **QUIET)
    same(parts["stronger"], found)
    with pytest.warns(probe.ProbeWarning):
        curve = probe.ablation_curve(
            net, labelled, rankings[0], score="accuracy", counts=[1, 2, 4, 8], draws=2, controls=["random"], **QUIET
        )
    same(parts["ablation"], curve)


def test_a_changed_model_is_measured_as_such_with_what_becomes_of_its_predictions(parts):
    changed = probe.with_padding(classifier(), "circular")
    made = probe.layerwise(changed, IMAGES, layers=["0.conv1", LAYER], **QUIET)
    np.testing.assert_array_equal(parts["padding_circular"].r2, made.r2)
    with torch.no_grad():
        own, theirs = classifier()(IMAGES).argmax(1), changed(IMAGES).argmax(1)
    assert float(parts["padding_circular"].agreement_with_own) == np.mean((own == theirs).numpy())
    counts = np.bincount(own.numpy())
    assert float(parts["padding_circular"].constant_agreement) == counts.max() / len(own)


def test_the_border_is_traced_through_the_depth_and_at_the_layer(monkeypatch):
    traced = []
    monkeypatch.setattr(measuring, "border_profile", lambda *args, layers, **given: traced.append(layers) or 1 / 0)
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(9)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.warns(probe.ProbeWarning, match="border failed"):
        study.run(net, IMAGES, parts=["border"], layer="1", quick=True, progress=False)
    assert traced == [["0", "1", "3", "5", "8"]]


def test_a_part_of_too_few_images_is_not_measured_and_no_failure(monkeypatch):
    def dependent(*args, **kwargs):
        raise IllConditionedError("alpha=0.001 is too small. Pass a larger alpha=.")

    monkeypatch.setattr(measuring, "neighbours", dependent)
    result = made_overview(parts=["neighbours"])
    assert json.loads(result.attrs["failed"]) == {}
    assert json.loads(result.attrs["absent"]) == {
        "neighbours": "too few images for channels that depend on each other."
    }
    monkeypatch.setattr(measuring, "layerwise", dependent)
    with pytest.raises(ImagesError, match=r"images: too few .*\. Pass more images\.$"):
        made_overview(parts=[])


def test_a_part_that_fails_leaves_its_reason_and_the_others_stand(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(measuring, "neighbours", broken)
    with pytest.warns(probe.ProbeWarning, match="neighbours failed: RuntimeError: no such luck"):
        result = made_overview(parts=["channels", "neighbours", "audit"])
    assert json.loads(result.attrs["failed"]) == {"neighbours": "RuntimeError: no such luck"}
    assert set(unbundle(result)) == {"where", "channels", "audit"}
    assert any("neighbours failed" in message for message in json.loads(result.attrs["warnings"]))


def test_what_all_builds_on_must_not_fail(monkeypatch):
    monkeypatch.setattr(measuring, "layerwise", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.run(classifier(), IMAGES, parts=["audit"], progress=False)


def test_there_is_one_bar_with_the_name_of_the_part(monkeypatch):
    bars = []

    class Bar(list):
        def __init__(self, parts, **settings):
            super().__init__(parts)
            bars.append((self, []))

        def set_description(self, text):
            bars[-1][1].append(text)

    monkeypatch.setattr(study, "tqdm", Bar)
    made_overview(parts=["channels", "audit"], progress=True)
    ((bar, told),) = bars
    assert bar == ["where", "channels", "audit"]
    assert told == [PARTS[part] for part in bar]


def test_an_interrupt_leaves_the_model_as_it_was(monkeypatch, left_as_found):
    net = classifier()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "erasure_curve", interrupted)
    with left_as_found(net), pytest.raises(KeyboardInterrupt):
        study.run(net, IMAGES, parts=["erasing"], quick=True, progress=False)


def test_folders_that_are_classes_are_scored_by_accuracy(tmp_path):
    for number in range(32):
        folder = tmp_path / "images" / f"{number % 16:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (IMAGES[number].permute(1, 2, 0).clamp(-2, 2) * 63 + 127).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    result = made_overview(images=tmp_path / "images", labelled=None, untrained=None, parts=["ablation"])
    assert json.loads(result.attrs["settings"])["score"] == "accuracy"
    assert list(unbundle(result)["ablation"].score.values) == ["accuracy"]
    (tmp_path / "images" / "00").rename(tmp_path / "images" / "01" / "more")
    other = made_overview(images=tmp_path / "images", labelled=None, untrained=None, parts=[])
    assert json.loads(other.attrs["settings"])["score"] == "agreement"


def test_a_model_without_classes_is_scored_by_its_embedding():
    net = classifier()
    net.num_classes = 0
    parts = ["padding_circular", "erasing", "consistency"]
    result = made_overview(model=net, labelled=None, untrained=None, parts=parts)
    found = unbundle(result)
    assert json.loads(result.attrs["settings"])["score"] == ["cosine"]
    assert "agreement_with_own" not in found["padding_circular"]
    assert found["consistency"].attrs["compare"] == "embedding"
    rolled = probe.shift_consistency(net, IMAGES, law="circular", compare="embedding", diagonal=False, **QUIET)
    assert found["consistency"].consistency.values == rolled.consistency.values
    assert 0 < found["erasing"].intact.item() < 1
    shown = Shown({"natural": torch.eye(3)[:, :2], "rolled": torch.ones(3, 2)}, [], [0, 1, 2], (8, 8), 0)
    amounts = measuring._Cosine().amounts(shown)
    np.testing.assert_allclose(amounts, [[0.5**0.5, 1], [0.5**0.5, 1], [0, 1]])
    assert measuring._Cosine().value(amounts.sum(0).numpy()) == pytest.approx(2**0.5 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": iter([IMAGES])}, "can be read only once, and each part reads them anew"),
        ({"parts": ["wher"]}, "parts: 'wher' is none of where, untrained"),
        ({"score": "acuracy"}, "acuracy"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(options, message):
    given = {"images": IMAGES, **options}
    with pytest.raises(ProbeError, match=message):
        study.run(classifier(), given.pop("images"), progress=False, **given)


def test_of_a_wide_layer_the_neighbourhoods_are_left_out_and_the_rest_is_read():
    wide = nn.Sequential(nn.Conv2d(3, QUICK.widest + 1, 3, padding=1), nn.ReLU())
    result = made_overview(
        model=wide, images=torch.randn(60, 3, 8, 8), labelled=None, untrained=None, parts=["stronger"]
    )
    assert list(unbundle(result)["stronger"].reader.values) == ["cell", "perceptron"]


def test_a_change_that_changes_nothing_does_not_apply():
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    padded = nn.Conv2d(3, 8, 3, padding=1)
    with torch.no_grad():
        padded.weight[:, :, [0, 2]] = padded.weight[:, :, :, [0, 2]] = (
            0  # it reads its padding, and makes nothing of it
        )
    reasons = {}
    for name, layer in {"unpadded": nn.Conv2d(3, 8, 4, stride=4), "padded": padded}.items():
        net = nn.Sequential(layer, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        result = made_overview(model=net, images=images, labelled=None, untrained=None, parts=["padding_circular"])
        reasons[name] = json.loads(result.attrs["absent"])["padding_circular"]
    assert "no layer pads" in reasons["unpadded"] and "every number is as before" in reasons["padded"]


def test_a_network_that_labels_pixels_has_no_consistency_of_predictions():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    found = study.run(net, IMAGES[:20], parts=["consistency"], progress=False)
    assert json.loads(found.attrs["failed"]) == {}
    assert "expected (image, class)" in json.loads(found.attrs["absent"])["consistency"]
