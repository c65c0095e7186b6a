"""A small result that tells of one model, for the tests of its study, its page and its stamp."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from probe.analyses.overview import study
from probe.testing import noise_images, padded_net

IMAGES = noise_images(40, 8)
LABELS = torch.arange(40) % 16
SMALL = replace(study.QUICK, draws=2, ranks=(2,), samples=200)


def classifier(*, seed=0, padding="zeros"):
    """A net of two layers whose classes are its channels."""
    return nn.Sequential(padded_net(padding, depth=2, seed=seed), nn.AdaptiveMaxPool2d(1), nn.Flatten())


def made_overview(**options):
    """Run the study with small settings."""
    given = {
        "model": classifier(), "images": IMAGES, "labelled": TensorDataset(IMAGES, LABELS),
        "untrained": classifier(seed=1), "quick": True, "seed": 3, "progress": False, **options,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "QUICK", SMALL)
        return study.run(given.pop("model"), given.pop("images"), **given)
