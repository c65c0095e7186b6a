"""Rank correlations against scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from probe.ranking.strengths import rank_correlation

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_values", [4, 1000])
def test_rank_correlation_is_scipys(seed, n_values):
    first, second = np.random.default_rng(seed).integers(n_values, size=(2, 30)).astype(float)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


@pytest.mark.parametrize(
    "second", [[np.nan, np.nan, 1.0], [2.0, 2.0, 2.0]], ids=["one channel known to both", "all equal"]
)
def test_a_correlation_that_is_not_defined_is_nan(second):
    assert np.isnan(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array(second)))
