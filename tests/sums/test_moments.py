"""Sums of single channels against direct sums, whatever the order, the batches and the pilots."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.sums.moments import PositionMoments

FOLDS = 3


def parts_of(folds: np.ndarray) -> list[tuple[int, int, int]]:
    return [(fold, *(np.flatnonzero(folds == fold)[[0, -1]] + [0, 1])) for fold in np.unique(folds)]


def images(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 2


TARGETS = torch.linspace(-1, 1, 40, dtype=torch.float64).view(2, 4, 5)


@settings(deadline=None, max_examples=30)
@given(
    cut=st.integers(0, 30),
    pilots=st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    seed=st.integers(0, 1000),
)
def test_moments_are_the_same_however_they_are_split_and_merged(cut, pilots, seed):
    activations = images(seed, 30)
    folds = np.sort(np.arange(30) % FOLDS)
    parts = [PositionMoments(FOLDS, 2, torch.full((3,), pilot, dtype=torch.float64), (4, 5)) for pilot in pilots]
    for moments, chosen in zip(parts, (slice(0, cut), slice(cut, 30)), strict=True):
        if len(folds[chosen]):
            moments.update(TARGETS, activations[chosen], parts_of(folds[chosen]))
    parts[0].merge(parts[1])
    centred = activations - pilots[0]
    for fold in range(FOLDS):
        values = centred[torch.from_numpy(folds == fold)]
        flat = values.sum(dim=0).flatten(1)
        assert torch.isclose(parts[0].images[fold], torch.tensor(float(len(values)), dtype=torch.float64))
        assert torch.allclose(parts[0].maps[fold], values.sum(dim=0), atol=1e-10)
        assert torch.allclose(parts[0].squares[fold], values.square().sum(dim=(0, 2, 3)), atol=1e-9)
        assert torch.allclose(parts[0].image_squares[fold], values.sum(dim=(2, 3)).square().sum(dim=0), atol=1e-8)
        assert torch.allclose(parts[0].cross[fold, 1:, 1:], flat @ TARGETS.flatten(1).T, atol=1e-10)
        assert torch.allclose(parts[0].cross[fold, 1:, 0], flat.sum(dim=1), atol=1e-10)


def test_a_second_size_drops_the_maps_and_keeps_the_rest():
    first, second = images(0, 6), images(1, 6).repeat(1, 1, 2, 1)
    moments = PositionMoments(1, 2, torch.zeros(3, dtype=torch.float64), (4, 5))
    moments.update(TARGETS, first, [(0, 0, 6)])
    moments.update(TARGETS.repeat(1, 2, 1), second, [(0, 0, 6)])
    assert moments.maps is None
    assert moments.cells.item() == 6 * 20 + 6 * 40
    assert torch.allclose(moments.squares[0], first.square().sum((0, 2, 3)) + second.square().sum((0, 2, 3)))
