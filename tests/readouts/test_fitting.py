"""Ridges fitted to sums against scikit-learn."""

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError
from probe.readouts.scores import score_readout
from probe.readouts.targets import N_CONTROLS
from probe.sums.gram import Gram, pilot_mean
from tests.activations import FOLDS, Same, activations

pytestmark = pytest.mark.filterwarnings("ignore:images. values reach")


def test_alpha_too_small_for_equal_channels():
    maps = activations()
    gram = Gram(FOLDS, 1 + 1 + N_CONTROLS, pilot_mean(torch.zeros(1, 2, dtype=torch.float64)))
    twice = maps[:, :1].flatten().double()
    features = torch.stack([twice, twice], dim=1)
    design = torch.randn(len(features), 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bounds = np.linspace(0, len(features), FOLDS + 1).astype(int)
    gram.update(design, features, [(f, bounds[f], bounds[f + 1]) for f in range(FOLDS)])
    assert np.isfinite(score_readout(gram, 1, 1e-3).r2).all()
    with pytest.raises(ArgumentError, match="alpha=1e-18 is too small for channels that depend on each other"):
        score_readout(gram, 1, 1e-18)
    with pytest.raises(ArgumentError, match="alpha=0: expected a number above 0"):
        probe.layerwise(Same(), maps, layers="same", alpha=0, progress=False)
