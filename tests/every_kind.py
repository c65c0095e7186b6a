"""A small result of each kind, for the tests of what tells of all: the command, and results that show themselves."""

import warnings

from torch import nn

import probe
from probe.analyses import rook
from probe.analyses.channels import study as channels
from probe.analyses.overview.comparison import compare
from probe.analyses.padding_comparison import study as padding_comparison
from probe.errors import ProbeWarning
from probe.testing import noise_images, padded_net
from tests.erasing.made import ERASING
from tests.overviews import made_overview


def rankings():
    net, images = padded_net(depth=2), noise_images(40, 8)
    return [probe.rank_channels(net, images, "relu2", method=method, progress=False) for method in ("flip", "omega2")]


def curve(**settings):
    images = noise_images(20, 8) + 1
    settings = {"score": ["agreement", "position"], "counts": [2, 4], "draws": 2, "progress": False} | settings
    return probe.ablation_curve(padded_net(depth=3), images, settings.pop("ranking"), layer="relu2", **settings)


def classifier():
    """Of eight classes, whose bias decides less than the image."""
    return nn.Sequential(padded_net(depth=2, width=8), nn.AdaptiveMaxPool2d(1), nn.Flatten())


MADE = {
    "layerwise": lambda: probe.layerwise(padded_net(depth=2), noise_images(40, 8), progress=False),
    "channelwise": lambda: probe.channelwise(padded_net(depth=2), noise_images(40, 8), progress=False),
    "ranking": lambda: rankings()[0],
    "rankings": lambda: probe.compare_rankings(*rankings(), top=[4]),
    "ablation_curve": lambda: curve(ranking=dict(zip("ab", rankings(), strict=True))),
    "pooled": lambda: probe.pooled(padded_net(depth=2), noise_images(80, 4), grid=2, progress=False),
    "similarity": lambda: probe.shift_similarity(
        padded_net(depth=2), noise_images(2, 4), ["conv1", "conv2"], frame=12, progress=False
    ),
    "shift_consistency": lambda: probe.shift_consistency(classifier(), noise_images(20, 8), law="zero", progress=False),
    "neighbours": lambda: probe.neighbours(padded_net(), noise_images(20, 8), ["conv1", "conv2"], progress=False),
    "border_profile": lambda: probe.border_profile(padded_net(depth=2), noise_images(40, 8), progress=False),
    **ERASING,
    "audit": lambda: probe.audit(padded_net(depth=2), (3, 16, 16)),
    "padding_comparison": lambda: padding_comparison.run(
        paddings=["zeros", "circular"], seeds=1, preset="tiny", progress=False
    ),
    "channels": lambda: channels.run(
        padded_net(depth=2), noise_images(40, 8), noise_images(20, 8) + 1, layer="relu1", score="agreement",
        methods=["flip", "omega2"], counts=[2], draws=2, examples=1, progress=False,
    ),
    "overview": lambda: made_overview(parts=["audit"]),
    "comparison": lambda: compare(dict.fromkeys(("first", "second"), made_overview(parts=[]))),
    "study": lambda: rook.run(preset="tiny", paddings=["zeros"], seeds=1, progress=False),
}  # fmt: skip


def made_of_every_kind():
    """Make them, without the warnings that so few images give."""
    with warnings.catch_warnings(action="ignore", category=ProbeWarning):
        return {kind: make() for kind, make in MADE.items()}
