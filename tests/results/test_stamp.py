"""Every result tells what it is and how it was made."""

import json
from importlib import metadata

import pytest
import xarray as xr
from torch import nn

import probe
from probe.analyses import rook
from probe.analyses.channels import study as channels_study
from probe.analyses.overview.comparison import compare
from probe.analyses.padding_comparison import study as padding_comparison
from probe.results import KINDS, SCHEMA, Facts, finish
from probe.testing import noise_images, padded_net
from tests.erasing.made import ERASING
from tests.overviews import made_overview

pytestmark = pytest.mark.usefixtures("one_thread")


def test_provenance_is_flat_text_and_numbers(result):
    assert all(isinstance(value, str | int | float) for value in result.attrs.values())
    settings = json.loads(result.attrs["settings"])
    assert settings["alpha"] == 1e-3
    assert settings["folds"] == 5
    assert json.loads(result.attrs["versions"])["torch"] == metadata.version("torch")
    assert json.loads(result.attrs["skipped"]) == {}


def test_facts_of_any_kind_become_text():
    named = {"flag": True, "nothing": None, "list": [1], "share": 0.5, "empty": ""}
    stamped = finish(xr.Dataset(), kind="audit", facts=Facts(), settings={}, **named)
    assert {name: stamped.attrs[name] for name in ("schema", *named)} == {
        "schema": SCHEMA, "flag": "true", "nothing": "null", "list": "[1]", "share": 0.5, "empty": "",
    }  # fmt: skip


def test_facts_can_be_taken_from_a_result():
    facts = Facts(model="Net", n_images=3, skipped={"a": "b"}, warnings=("one", "two"))
    assert Facts.of(finish(xr.Dataset(), kind="audit", facts=facts, settings={})) == facts
    assert facts.warned(["two", "three"]).warnings == ("one", "two", "three")


def made_results():
    """A result of every public function that gives one, and how it was made."""
    net, images = padded_net("zeros", depth=2), noise_images(40, 8)
    quietly = {"progress": False, "seed": 3}
    yield "layerwise", lambda: probe.layerwise(net, images, positions=None, **quietly)
    yield "channelwise", lambda: probe.channelwise(net, images, **quietly)
    yield "ranking", lambda: probe.rank_channels(net, images, "conv2", **quietly)
    yield (
        "rankings",
        lambda: probe.compare_rankings(
            *(probe.rank_channels(net, images, "conv2", method=m, **quietly) for m in ("flip", "shift"))
        ),
    )
    yield (
        "ablation_curve",
        lambda: probe.ablation_curve(
            net, images, range(16), layer="conv1", score="agreement", counts=[2], draws=2, **quietly
        ),
    )
    yield "pooled", lambda: probe.pooled(net, images, grid=2, **quietly)
    yield "similarity", lambda: probe.shift_similarity(net, images[:2], "conv2", frame=11, **quietly)
    yield (
        "shift_consistency",
        lambda: probe.shift_consistency(nn.Sequential(net, nn.AdaptiveMaxPool2d(1), nn.Flatten()), images, **quietly),
    )
    yield "neighbours", lambda: probe.neighbours(net, images, "conv2", **quietly)
    yield "border_profile", lambda: probe.border_profile(net, images, **quietly)
    yield from ERASING.items()
    yield "audit", lambda: probe.audit(net, (3, 8, 8))
    yield "study", lambda: rook.run(preset="tiny", progress=False)
    yield "padding_comparison", lambda: padding_comparison.run(net, images, paddings=["zeros"], **quietly)
    yield (
        "channels",
        lambda: channels_study.run(
            net, images, noise_images(60, 8, seed=1), layer="conv1", score="agreement", methods=["flip", "shift"],
            counts=[2], draws=2, **quietly,
        ),
    )  # fmt: skip
    yield "overview", lambda: made_overview(parts=["padding_circular", "audit"])
    yield "comparison", lambda: compare(dict.fromkeys("ab", made_overview(parts=[])))


MADE = dict(made_results())


def test_every_kind_is_made_here():
    assert set(MADE) == set(KINDS)


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("kind", MADE)
def test_every_public_result_tells_what_it_is_and_how_it_was_made(kind, tmp_path):
    result = MADE[kind]()
    assert result.attrs["kind"] == kind and result.attrs["schema"] == SCHEMA
    texts = ("model", "weights_digest", "images_digest", "created", "command", "device")
    assert {name: type(result.attrs[name]) for name in texts} == dict.fromkeys(texts, str)
    packed = {name: json.loads(result.attrs[name]) for name in ("settings", "warnings", "skipped", "versions")}
    assert packed["settings"] and {"torch", "xarray", "position-probe"} <= packed["versions"].keys()
    assert isinstance(packed["warnings"], list) and isinstance(packed["skipped"], dict)
    assert result.attrs["confidence"] == 0.95
    assert result.attrs["command"].startswith("probe.")
    if kind not in ("audit", "study", "comparison"):
        assert result.attrs["images_digest"] and result.attrs["n_images"] in (2, 40)
        assert result.attrs["seed"] == 3
    if kind not in ("study", "padding_comparison", "comparison"):  # several networks, each with weights of its own
        assert len(result.attrs["weights_digest"]) == 16
    for name, variable in result.data_vars.items():
        assert {"long_name", "units"} <= variable.attrs.keys(), name
    assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)


def test_depth_is_the_order_of_a_call_among_all_calls():
    net, images = padded_net("zeros", depth=2), noise_images(40, 8)
    listed = list(probe.list_layers(net, images).index)
    for kind in ("layerwise", "pooled", "neighbours", "audit"):
        result = MADE[kind]()
        names = [str(name) for name in result.layer.values]
        assert result.depth.values.tolist() == [listed.index(name) for name in names], kind
