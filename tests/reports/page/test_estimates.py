"""Means with their intervals, and what is said of them."""

import numpy as np
import pytest
import scipy.stats

from probe.reports.page.estimates import Estimate, bars, estimate, interval


def test_the_interval_is_that_of_scipy():
    values = np.array([0.1, 0.4, 0.25, 0.3])
    found = estimate(np.append(values, np.nan))
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high))


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([-0.25, -0.25, -0.25], {"decimals": 1}, "−0.2\u00a0±\u00a00.0"),
        ([90.0, 90.2, 90.1], {}, "90.10\u00a0±\u00a00.25"),
        ([0.1, 0.5, 0.9], {}, "0.50\u00a0±\u00a00.99"),
        ([100.0, 500.0, 900.0], {}, "500\u00a0±\u00a0994"),
        ([90.0, 99.0, 99.0], {"within": (0, 100)}, "96 (83 to 100)"),
        ([0.3, 0.5], {}, "0.40 (0.30 and 0.50)"),
        ([0.97152, 0.97342], {"decimals": 5}, "0.9725 (0.9715 and 0.9734)"),
        ([75.0, 25.0], {"decimals": 1}, "50 (75 and 25)"),
        ([50.0, 50.0], {"decimals": 1}, "50 (both)"),
        ([0.5, 0.5], {}, "0.500 (both)"),
        ([4.0, 4.0, 4.0], {}, "4\u00a0±\u00a00"),
        ([-0.5], {}, "−0.500"),
        ([0.5], {"decimals": 2, "sign": True}, "+0.50"),
        ([np.nan], {}, "not known"),
    ],
)
def test_it_is_told_with_two_significant_digits_of_its_interval(values, options, told):
    assert estimate(np.array(values)).formatted(**options) == told


@pytest.mark.parametrize(
    ("mean", "error", "differs"),
    [(-0.2, 0.01, True), (0.2, 0.01, True), (-0.2, 0.2, False), (0.005, 1e-4, False), (-0.005, 1e-4, False)],
)
def test_a_difference_is_one_on_either_side_beyond_its_error(mean, error, differs):
    assert interval(mean, error, degrees=4).differs is differs


def test_a_single_value_differs_unless_it_is_negligible():
    assert estimate(np.array([-0.02])).differs and not estimate(np.array([0.009])).differs
    assert not estimate(np.array([np.nan])).differs


def test_a_single_value_has_the_interval_of_its_own_error():
    one = estimate(np.array([np.nan, 80.0]), (0, 100), errors=np.array([np.nan, 2.0]), degrees=99)
    assert one.half_width == pytest.approx(2 * scipy.stats.t.ppf(0.975, 99)) and one.count == 1
    assert np.isnan(estimate(np.array([100.0]), errors=np.array([0.0]), degrees=99).half_width)
    several = np.array([79.0, 80.0, 81.0])
    assert estimate(several, errors=np.ones(3), degrees=99) == estimate(several)


def test_a_share_keeps_its_interval_within_what_it_can_be():
    assert str(estimate(np.array([90.0, 99.0, 99.0]), (0, 100))) == "96 (83 to 100)"
    assert str(estimate(np.array([50.0, 51.0, 52.0]), (0, 100))) == "51.0\u00a0±\u00a02.5"


def test_error_bars_end_at_the_interval_or_at_both_values():
    three = np.array([0.1, 0.2, 0.6])
    low, high = scipy.stats.t.interval(0.95, 2, loc=three.mean(), scale=scipy.stats.sem(three))
    drawn = bars([estimate(three), estimate(np.array([0.4, 0.8])), estimate(np.array([0.3]))])
    np.testing.assert_allclose(drawn, [[0.3 - low, 0.2, 0], [high - 0.3, 0.2, 0]], atol=1e-12)
    np.testing.assert_allclose(bars([Estimate(0.9, 0.3, 3)], (0, 1)), [[0.3], [0.1]])
