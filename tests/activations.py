"""Activations that a test keeps itself, some of which know position."""

import numpy as np
import torch
from torch import nn

import probe
from probe.readouts.targets import target_maps

FOLDS = 5

CASES = {
    "plain": {},
    "offset of 1,000 deviations": {"offset": 1000.0},
    "a channel a thousand times the others": {"loud": 1000.0},
    "more channels than a block": {"n_channels": 140},
    "1.2 samples a feature": {"count": 10, "n_channels": 100, "size": (3, 4)},
}


class Same(nn.Module):
    """Gives its images, which are the activations of the layer `same`."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def forward(self, images):
        return self.same(images)


def activations(count=30, n_channels=4, size=(6, 7), seed=0, *, offset=0.0, loud=1.0):
    """Correlated channels, some of which know position, of shape (image, channel, row, column)."""
    generator = np.random.default_rng(seed)
    maps = generator.standard_normal((count, n_channels, *size))
    maps = np.einsum("ij,njhw->nihw", generator.standard_normal((n_channels, n_channels)), maps)
    row, column = target_maps({n: probe.TARGETS[n] for n in ("row", "column")}, *size)
    maps[:, 0] += 2 * row
    maps[:, 1] += row * column + column
    maps[:, -1] *= loud
    return torch.from_numpy(maps + offset * maps.std(axis=(0, 2, 3), keepdims=True))


def samples_of(maps):
    """Features of every cell, shape (sample, channel), and the fold of each."""
    features = maps.double().flatten(2).transpose(1, 2).numpy()
    return features.reshape(-1, features.shape[2]), np.repeat(np.arange(len(maps)) % FOLDS, features.shape[1])
