"""Scores of single channels against their textbook formulas, on stored activations."""

import numpy as np
import pytest
import torch
from scipy import stats

import probe
from probe.intervals import jackknife
from probe.readouts.channels import score_channels
from probe.readouts.targets import target_maps
from probe.sums.moments import PositionMoments
from tests.activations import CASES, FOLDS, Same, activations

pytestmark = pytest.mark.filterwarnings("ignore:images. values reach")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["plain", "offset of 1,000 deviations", "a channel a thousand times the others"])
def test_channel_scores_equal_their_formulas(case, dtype):
    maps = activations(**CASES[case]).to(dtype)
    tolerance = 1e-6 if dtype == torch.float64 else 1e-4
    result = probe.channelwise(Same(), maps, layers="same", stimuli="natural", progress=False)
    folds = np.arange(len(maps)) % FOLDS
    for channel, values in enumerate(maps.double().numpy().swapaxes(0, 1)):
        found = result.isel(channel=channel).sel(stimulus="natural")
        for name in ("row", "column"):
            target = np.tile(probe.TARGETS[name](*maps.shape[2:]), (len(maps), 1, 1))

            def correlation(keep, values=values, target=target):
                return stats.pearsonr(values[keep].ravel(), target[keep].ravel()).statistic ** 2

            everything = correlation(folds >= 0)
            left_out = [correlation(folds != fold) for fold in range(FOLDS)]
            assert found.r2.sel(target=name).item() == pytest.approx(everything, abs=tolerance)
            by_hand = np.sqrt((FOLDS - 1) / FOLDS * ((left_out - np.mean(left_out)) ** 2).sum())
            assert found.r2_se.sel(target=name).item() == pytest.approx(by_hand, abs=tolerance)
        assert found.omega2.item() == pytest.approx(textbook_omega2(values.reshape(len(maps), -1)), abs=tolerance)
        left_out = [textbook_omega2(values[folds != fold].reshape((folds != fold).sum(), -1)) for fold in range(FOLDS)]
        by_hand = np.sqrt((FOLDS - 1) / FOLDS * ((left_out - np.mean(left_out)) ** 2).sum())
        assert found.omega2_se.item() == pytest.approx(by_hand, abs=tolerance)


def textbook_omega2(values):
    """ω² of the columns of a table (image, position): two-way analysis of variance without replication."""
    n_images, n_positions = values.shape
    grand = values.mean()
    ss_position = n_images * ((values.mean(axis=0) - grand) ** 2).sum()
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + grand
    ms_error = (residuals**2).sum() / ((n_positions - 1) * (n_images - 1))
    ss_total = ((values - grand) ** 2).sum()
    return (ss_position - (n_positions - 1) * ms_error) / (ss_total + ms_error)


def test_errors_over_folds_of_unequal_size_are_those_of_the_delete_m_j_jackknife():
    maps, groups = activations(), np.repeat(list("abcde"), [3, 11, 8, 6, 2])
    result = probe.channelwise(
        Same(), maps, layers="same", stimuli="natural", targets="column", groups=groups, progress=False
    ).squeeze(["stimulus", "target"])
    column = probe.TARGETS["column"](*maps.shape[2:])

    def correlation(values):
        return stats.pearsonr(values.ravel(), np.tile(column, (len(values), 1, 1)).ravel()).statistic ** 2

    def omega2(values):
        return textbook_omega2(values.reshape(len(values), -1))

    for channel, values in enumerate(maps.numpy().swapaxes(0, 1)):
        for name, score in (("r2", correlation), ("omega2", omega2)):
            left_out = np.array([score(values[groups != label]) for label in "abcde"])
            expected = jackknife(score(values), left_out, [3, 11, 8, 6, 2])
            assert result[f"{name}_se"].values[channel] == pytest.approx(expected, rel=1e-6)


def test_omega_squared_needs_two_images_beside_each_fold():
    result = probe.channelwise(Same(), activations(count=3), layers="same", folds=2, progress=False)
    assert np.isfinite(result.omega2).all()
    assert np.isnan(result.omega2_se).all()


def test_channel_scores_of_merged_moments_equal_those_of_all():
    maps = activations(count=20)
    table = torch.from_numpy(target_maps({"row": probe.TARGETS["row"]}, 6, 7))
    whole = PositionMoments(2, 1, torch.zeros(4, dtype=torch.float64), (6, 7))
    whole.update(table, maps, [(0, 0, 10), (1, 10, 20)])
    first = PositionMoments(2, 1, torch.ones(4, dtype=torch.float64), (6, 7))
    first.update(table, maps[:10], [(0, 0, 10)])
    second = PositionMoments(2, 1, -torch.ones(4, dtype=torch.float64), (6, 7))
    second.update(table, maps[10:], [(1, 0, 10)])
    first.merge(second)
    for name in ("r2", "omega2", "mean_map"):
        assert np.allclose(getattr(score_channels(first), name), getattr(score_channels(whole), name), atol=1e-9)
