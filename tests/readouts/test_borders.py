"""The change towards the border, against plain means over images, and its expectation without a change."""

import numpy as np
import pytest
import torch

from probe.readouts.borders import score_border
from probe.sums.moments import PositionMoments
from probe.windows.crops import by_distance, middle_third

FOLDS = 4


def moments_of(maps):
    """The sums of maps of shape (image, channel, row, column), the fold of an image being its number modulo 4."""
    maps = torch.as_tensor(maps, dtype=torch.float64)
    moments = PositionMoments(FOLDS, 1, maps.mean(dim=(0, 2, 3)) + 0.3, tuple(maps.shape[2:]))
    for fold in range(FOLDS):
        chosen = maps[fold::FOLDS]
        moments.update(torch.zeros(1, *maps.shape[2:], dtype=torch.float64), chosen, [(fold, 0, len(chosen))])
    return moments


def score(maps):
    size = maps.shape[2:]
    return score_border(moments_of(maps), by_distance(*size), middle_third(*size))


def drawn(count, *, seed=0, size=(7, 6)):
    return np.random.default_rng(seed).normal(size=(count, 3, *size)) * [[[2.0]], [[1.0]], [[0.1]]] + 5


def test_it_is_the_products_of_the_means_of_different_folds():
    maps = drawn(10)
    maps[:, :, 0] += [[[2.0], [0.5], [0.0]]]
    found = score(maps)
    cells, middle = by_distance(7, 6), middle_third(7, 6)
    means = np.stack([maps[fold::FOLDS].mean(axis=0) for fold in range(FOLDS)])
    about = (means - means[..., middle].mean(axis=-1)[..., None, None]) / maps.std(axis=(0, 2, 3))[:, None, None]
    sizes = np.array([len(maps[fold::FOLDS]) for fold in range(FOLDS)])

    def plain(folds):
        pairs = [(f, g) for f in folds for g in folds if f != g]
        weights = np.array([sizes[f] * sizes[g] for f, g in pairs])
        squares = np.array([(about[f] * about[g]).mean(axis=0) for f, g in pairs])
        whole = (weights[:, None, None] * squares).sum(axis=0) / weights.sum()
        return np.array([[whole[mask].mean() for mask in of_side] for of_side in cells])

    np.testing.assert_allclose(found.by_side, plain(range(FOLDS)), atol=1e-12)
    np.testing.assert_allclose(found.change, plain(range(FOLDS)).mean(axis=0), atol=1e-12)


def test_a_change_of_known_size_is_found_at_its_place_and_side():
    maps = drawn(400)
    maps[:, :, 0] += [[[2.0], [1.0], [0.1]]]  # one deviation of each channel, before it is added
    variances = maps.var(axis=(0, 2, 3))
    expected = np.mean(np.array([4, 1, 0.01]) / variances)
    found = score(maps)
    assert found.by_side[0, 0] == pytest.approx(expected, abs=3 * found.by_side_se[0, 0])
    assert abs(found.by_side[1, 0]) < 0.02 and np.abs(found.by_side[:, 1:2]).max() < 0.02
    assert found.change[0] == pytest.approx(found.by_side[:, 0].mean())


def many(shift):
    found = [score(drawn(12, seed=seed) + shift) for seed in range(150)]
    return (np.array([getattr(one, name)[0] for one in found]) for name in ("change", "change_se"))


def test_without_a_change_it_is_0_in_expectation_and_its_error_is_too_large():
    values, errors = many(0)
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert (values < 0).mean() > 0.3
    # Products of the errors of folds alone, of which the jackknife's variance is 2 (folds − 1) / (folds − 2) times.
    assert np.sqrt((errors**2).mean()) / values.std() == pytest.approx(3**0.5, rel=0.25)


def test_the_error_is_that_of_the_draws_where_there_is_a_change():
    shift = np.zeros((3, 7, 6))
    shift[:, [0, -1]] = shift[:, :, [0, -1]] = np.array([4.0, 2.0, 0.2])[:, None, None][:, :, :1]
    values, errors = many(shift)
    assert values.mean() > 0.5
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.25)


def test_channels_that_do_not_vary_are_left_out():
    maps = drawn(12)
    with_dead = np.concatenate([maps, np.ones_like(maps[:, :1])], axis=1)
    np.testing.assert_allclose(score(with_dead).change, score(maps).change)
    assert np.isnan(score(np.ones_like(maps)).change).all()
