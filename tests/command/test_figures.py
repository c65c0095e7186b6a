"""Figures of saved results."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from torch import nn

import probe
from probe.command.figures import FIGURES, save_figures
from probe.errors import ArgumentError, ResultFileError
from probe.plots.inputs import _KINDS as DRAWN
from probe.results import KINDS
from probe.testing import noise_images, padded_net
from tests.erasing.made import ERASING


def curve(**settings):
    return probe.ablation_curve(
        padded_net(depth=2), noise_images(20, 8), layer="relu1", counts=[2, 4], draws=2, progress=False, **settings
    )


def strided():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1))


def rankings():
    net, images = padded_net(depth=2), noise_images(40, 8)
    return [probe.rank_channels(net, images, "relu2", method=method, progress=False) for method in ("flip", "omega2")]


MADE = {
    "layerwise": (
        lambda: probe.layerwise(padded_net(depth=2), noise_images(40, 8), maps="conv2", progress=False),
        {"layers", "decoded-maps-2-conv2", "mean-maps-2-conv2"},
    ),
    "channelwise": (
        lambda: probe.channelwise(padded_net(depth=2), noise_images(40, 8), progress=False),
        {"channels"},
    ),
    "ablation_curve": (
        lambda: curve(ranking={"a b": range(16), "b": range(16)}, score=["agreement", {"mean": mean}][:1]),
        {"ablation-a_b-agreement", "ablation-b-agreement"},
    ),
    "ranking": (lambda: rankings()[0], {"ranking"}),
    "rankings": (lambda: probe.compare_rankings(*rankings(), top=[4]), {"agreement"}),
    "pooled": (
        lambda: probe.pooled(padded_net(depth=2), noise_images(80, 4), grid=2, progress=False),
        {"pooled"},
    ),
    "shift_consistency": (
        lambda: probe.shift_consistency(
            nn.Sequential(padded_net(depth=2), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
            noise_images(10, 8),
            law="zero",
            progress=False,
        ),
        {"consistency"},
    ),
    "neighbours": (
        lambda: probe.neighbours(padded_net(depth=2), noise_images(10, 8), ["conv1", "conv2"], progress=False),
        {"neighbours"},
    ),
    "border_profile": (
        lambda: probe.border_profile(padded_net(depth=2), noise_images(40, 8), progress=False),
        {"border"},
    ),
    "erasure_proof": (ERASING["erasure_proof"], {"erasing"}),
    "erasure_curve": (ERASING["erasure_curve"], {"erasing-agreement"}),
    "erasure_matrix": (ERASING["erasure_matrix"], {"erasing"}),
    "stronger_readouts": (ERASING["stronger_readouts"], {"readers"}),
    "audit": (lambda: probe.audit(strided(), (3, 16, 16)), {"audit", "foveation"}),
}


def mean(output):
    return output.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("kind", FIGURES)
def test_each_kind_that_has_figures_is_drawn(kind, tmp_path):
    make, parts = MADE[kind]
    result = make()
    assert result.attrs["kind"] == kind
    paths = save_figures(result, tmp_path / "new", "x")
    assert {path.name for path in paths} == {f"x-{part}.png" for part in parts}
    for path in paths:
        with Image.open(path) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
    assert plt.get_fignums() == []
    with pytest.raises(ResultFileError, match="exists already"):
        save_figures(result, tmp_path / "new", "x")
    assert save_figures(result, tmp_path / "new", "x", overwrite=True) == paths


def test_every_kind_that_a_function_of_probe_draws_has_figures():
    assert set(FIGURES) == set(DRAWN)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(FIGURES)))
def test_others_are_refused_with_the_kinds_that_have_some(kind, tmp_path):
    result = MADE["layerwise"][0]().assign_attrs(kind=kind)
    with pytest.raises(ArgumentError, match=rf"of kind '{kind}' has none; {', '.join(FIGURES)} have\..*probe report"):
        save_figures(result, tmp_path / "new", "x")
    assert not (tmp_path / "new").exists()


def test_an_audit_of_a_model_without_strides_has_its_foveation(tmp_path):
    audited = probe.audit(padded_net(depth=2), (3, 16, 16))
    assert {path.name for path in save_figures(audited, tmp_path, "x")} == {"x-foveation.png"}
    nothing = probe.audit(padded_net(depth=2), (3, 16, 16), maps=[])
    with pytest.raises(ArgumentError, match="nothing to draw"):
        save_figures(nothing, tmp_path, "y")
