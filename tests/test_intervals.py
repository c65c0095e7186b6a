"""The jackknife of unequal folds against its formula and in simulation, and Student's t against scipy."""

import numpy as np
import pytest
from scipy import stats

from probe.intervals import CONFIDENCE, half_width, jackknife, mean_over_images, proportion

SIZES = np.array([17, 3, 40, 8, 8, 24])


def folds_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def by_the_formula(estimate, values, folds):
    """Busing, Meijer and van der Leeden 1999, equations 4 and 5, written out for one number."""
    groups, n = np.unique(folds), len(folds)
    whole = estimate(values)
    left_out = {j: estimate(values[folds != j]) for j in groups}
    h = {j: n / (folds == j).sum() for j in groups}
    jackknifed = len(groups) * whole - sum((1 - (folds == j).sum() / n) * left_out[j] for j in groups)
    pseudo = {j: h[j] * whole - (h[j] - 1) * left_out[j] for j in groups}
    return np.sqrt(sum((pseudo[j] - jackknifed) ** 2 / (h[j] - 1) for j in groups) / len(groups))


def delete_fold(estimate, values, folds):
    whole = estimate(values)
    left_out = np.array([estimate(values[folds != fold]) for fold in np.unique(folds)])
    return jackknife(whole, left_out, np.bincount(folds))


ESTIMATES = {
    "mean": np.mean,
    "variance": lambda values: values.var(ddof=1),
    "ratio": lambda values: (values**2).mean() / np.abs(values).mean(),
}


@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
@pytest.mark.parametrize("sizes", [SIZES, [5, 5, 5, 5], [50, 2]], ids=str)
def test_it_is_the_delete_m_j_jackknife(estimate, sizes):
    values, folds = np.random.default_rng(0).gamma(2, size=sum(sizes)), folds_of(sizes)
    expected = by_the_formula(estimate, values, folds)
    assert delete_fold(estimate, values, folds) == pytest.approx(expected, rel=1e-12)


def test_of_equal_folds_it_is_the_delete_one_jackknife():
    values = np.random.default_rng(1).normal(size=60)
    left_out = np.array([ESTIMATES["ratio"](values[folds_of([10] * 6) != fold]) for fold in range(6)])
    whole = ESTIMATES["ratio"](values)
    spread = ((left_out - left_out.mean()) ** 2).sum()
    # About the mean of the pseudo-values, which is the mean of the leave-one-out estimates but for a shift.
    assert jackknife(whole, left_out, np.full(6, 10)) == pytest.approx(np.sqrt(5 / 6 * spread), rel=1e-12)


def test_of_single_values_it_is_the_standard_error_of_the_mean():
    values = np.random.default_rng(2).normal(size=30)
    assert delete_fold(np.mean, values, np.arange(30)) == pytest.approx(stats.sem(values), rel=1e-12)


def test_axes_behind_the_folds_are_taken_one_by_one():
    values, folds = np.random.default_rng(3).normal(size=(100, 2, 3)), folds_of(SIZES)
    left_out = np.stack([values[folds != fold].mean(axis=0) for fold in range(6)])
    found = jackknife(values.mean(axis=0), left_out, SIZES)
    expected = [[by_the_formula(np.mean, values[:, i, j], folds) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_fold_has_no_error_and_two_have_one():
    assert np.isnan(jackknife(np.zeros((2, 3)), np.zeros((1, 2, 3)), np.ones(1))).all()
    assert jackknife(np.zeros((2, 3)), np.zeros((1, 2, 3)), np.ones(1)).shape == (2, 3)
    # The mean of 0 and 2, each in a fold of its own: their standard error is 1.
    assert jackknife(np.array(1.0), np.array([2.0, 0.0]), np.ones(2)) == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [[60, 30, 20, 15, 15, 10, 10, 10, 10, 10, 10], [40, 10, 10, 10, 10]], ids=str)
@pytest.mark.parametrize("estimate", ["mean", "slope"])
def test_intervals_of_unequal_folds_hold_the_truth(sizes, estimate):
    """Values of one fold share nothing but their number; about so many intervals hold the truth as they say."""
    generator, folds, held, errors, found = np.random.default_rng(4), folds_of(sizes), [], [], []
    for _ in range(2000):
        x = generator.normal(size=len(folds))
        y = 0.5 * x + generator.normal(size=len(folds))

        def estimated(chosen, x=x, y=y):
            return y[chosen].mean() if estimate == "mean" else (x[chosen] * y[chosen]).sum() / (x[chosen] ** 2).sum()

        truth, whole = (0.0 if estimate == "mean" else 0.5), estimated(folds >= 0)
        left_out = np.array([estimated(folds != fold) for fold in range(len(sizes))])
        error = jackknife(np.array(whole), left_out, sizes)
        held.append(abs(whole - truth) <= half_width(error, len(sizes) - 1))
        errors.append(error)
        found.append(whole)
    assert np.mean(np.square(errors)) == pytest.approx(np.var(found), rel=0.1)
    assert 0.93 <= np.mean(held) <= 0.98


def test_folds_of_unequal_size_are_not_weighed_alike():
    """What the jackknife of equal folds would give for these sizes is off by far."""
    generator, sizes = np.random.default_rng(5), [120, 10, 10, 10, 10]
    folds, ratio = folds_of(sizes), []
    for _ in range(300):
        values = generator.normal(size=len(folds))
        left_out = np.array([values[folds != fold].mean() for fold in range(5)])
        alike = 4 / 5 * ((left_out - left_out.mean()) ** 2).sum()
        ratio.append([alike * len(values), jackknife(values.mean(), left_out, sizes) ** 2 * len(values)])
    alike, weighed = np.mean(ratio, axis=0)
    assert alike > 2 and weighed == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("degrees", [1, 4, 9, 1000])
def test_half_width_is_that_of_students_t(degrees):
    low, high = stats.t.interval(CONFIDENCE, degrees, loc=3, scale=0.2)
    assert half_width(0.2, degrees) == pytest.approx((high - low) / 2, rel=1e-9)
    np.testing.assert_allclose(half_width(np.array([0.2, np.nan]), degrees), [(high - low) / 2, np.nan])


def test_the_level_is_95_percent():
    assert CONFIDENCE == 0.95
    assert half_width(1.0, 10**7) == pytest.approx(1.959964, abs=1e-5)


class TestMeanOverImages:
    def test_units_are_left_out_whole_and_what_is_unknown_counts_nowhere(self):
        rng = np.random.default_rng(0)
        values, units = rng.normal(size=(30, 2)), np.repeat(np.arange(6), [1, 9, 5, 5, 7, 3])
        values[units == 2, 0] = np.nan
        values[3, 1] = np.nan
        mean, error, n_units = mean_over_images(values, units)
        for column in range(2):
            known = ~np.isnan(values[:, column])
            kept, of = values[known, column], units[known]
            left_out = np.array([kept[of != unit].mean() for unit in np.unique(of)])
            sizes = np.bincount(of)[np.unique(of)]
            assert mean[column] == pytest.approx(kept.mean())
            assert error[column] == pytest.approx(jackknife(kept.mean(), left_out, sizes))
        assert n_units.tolist() == [5, 6]

    def test_one_unit_has_no_error_and_none_no_mean(self):
        mean, error, n_units = mean_over_images(np.array([[1.0, np.nan], [3.0, np.nan]]), np.zeros(2, dtype=int))
        np.testing.assert_array_equal(mean, [2, np.nan])
        assert np.isnan(error).all() and n_units.tolist() == [1, 0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rounding_in_the_error_does_not_widen_the_interval_of_shares_of_0_and_1(share):
    """The jackknife of 20 images that are all alike gives 8e-16."""
    error = jackknife(np.array(share), np.full(20, share), np.ones(20))
    exact = proportion(share, 0.0, 20)
    assert proportion(share, max(error, 1e-15), 20) == exact
