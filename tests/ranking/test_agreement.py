"""How far rankings agree, against scipy and against chance."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import probe
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")


def ranking(scores, method="flip", axis="horizontal", region="overall", layer="conv", stimulus=None):
    """A ranking as `rank_channels` makes it."""
    scores = np.asarray(scores, dtype=float)
    order = np.argsort(scores if region in ("right", "bottom") else -scores, kind="stable")
    return xr.Dataset(
        {
            "score": ("channel", scores[order]),
            "rank": ("channel", np.arange(1, len(scores) + 1)),
            "stability": ((), 0.5, {"long_name": "stability", "units": "1"}),
        },
        coords={"index": ("channel", order)},
        attrs={
            "method": method, "axis": axis, "region": region, "layer": layer, "model": "Net", "weights_digest": "0",
            "stimulus": stimulus or ("natural" if axis else "rolled"),
        },
    )  # fmt: skip


def test_channels_without_a_score_do_not_count_as_agreement():
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 40))
    expected = spearmanr(first, second).statistic
    dead = np.full(200, np.nan)
    agreement = probe.compare_rankings(
        ranking(np.concatenate([first, dead])), ranking(np.concatenate([second, dead]), "shift")
    )
    assert agreement.correlation.sel(ranking="flip", other="shift") == pytest.approx(expected, abs=1e-12)


def test_correlations_follow_the_ranks_of_regions():
    scores = np.random.default_rng(1).standard_normal(20)
    agreement = probe.compare_rankings(ranking(scores, region="left"), ranking(scores, region="right"), top=[5])
    # The same scores: what is first for the left is last for the right.
    assert agreement.correlation.sel(ranking="flip-left", other="flip-right") == pytest.approx(-1)
    assert agreement.overlap.sel(ranking="flip-left", other="flip-right", top=5) == 0


def test_overlap_is_the_share_in_common():
    first, second = ranking([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), ranking([9, 0, 7, 1, 8, 2, 6, 3, 5, 4], "omega2", "", "")
    agreement = probe.compare_rankings(first, second, top=[3, 5, 100])
    assert agreement.top.values.tolist() == [3, 5, 10] and agreement.attrs["n_channels"] == 10
    # First 3: 0 1 2 and 0 4 2. First 5: 0 1 2 3 4 and 0 4 2 6 8.
    np.testing.assert_allclose(agreement.overlap.sel(ranking="flip", other="omega2"), [2 / 3, 3 / 5, 1])
    np.testing.assert_allclose(agreement.overlap_expected, [0.3, 0.5, 1])
    np.testing.assert_allclose(agreement.overlap.sel(ranking="flip", other="flip"), 1)


def test_unrelated_rankings_share_what_chance_gives():
    generator = np.random.default_rng(2)
    rankings = [ranking(generator.standard_normal(200)) for _ in range(30)]
    agreement = probe.compare_rankings(*rankings, top=[10, 50])
    others = ~np.eye(30, dtype=bool)
    for count in (10, 50):
        shared = agreement.overlap.sel(top=count).values[others].mean()
        assert shared == pytest.approx(agreement.overlap_expected.sel(top=count).item(), abs=0.02)
    assert abs(agreement.correlation.values[others].mean()) < 0.02


def test_rankings_are_called_by_what_they_are_and_numbered():
    rankings = [
        ranking([1, 2, 3]),
        ranking([1, 2, 3], axis="vertical"),
        ranking([1, 2, 3], region="right"),
        ranking([1, 2, 3], "readout", "", ""),
        ranking([1, 2, 3], "omega2", "", "", stimulus="natural"),
        ranking([1, 2, 3], axis="both", stimulus="rolled"),
        ranking([1, 2, 3]),
    ]
    names = ["flip", "flip-vertical", "flip-right", "readout", "omega2-natural", "flip-both-rolled", "flip 2"]
    assert probe.compare_rankings(*rankings).ranking.values.tolist() == names
    assert probe.compare_rankings(*rankings).other.values.tolist() == names


def test_real_rankings_compare_save_and_load(tmp_path):
    net, images = padded_net("zeros", depth=2), noise_images(20, size=10)
    rankings = [
        probe.rank_channels(net, images, "conv2", method=method, progress=False)
        for method in ("flip", "shift", "omega2", "readout", "attribution")
    ]
    agreement = probe.compare_rankings(*rankings)
    assert agreement.stability.values.tolist() == [float(each.stability) for each in rankings]
    np.testing.assert_allclose(agreement.correlation, agreement.correlation.values.T)
    scores = [each.score.values[np.argsort(each.index.values)] for each in rankings]
    np.testing.assert_allclose(agreement.correlation.values, spearmanr(np.stack(scores).T).statistic)
    assert agreement.attrs["layer"] == "conv2"
    assert all({"long_name", "units"} <= variable.attrs.keys() for variable in agreement.data_vars.values())
    assert probe.load(probe.save(agreement, tmp_path / "agreement.nc")).identical(agreement)


def test_channels_without_a_score_are_neither_agreement_nor_chance():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 200))
    first[100:] = second[100:] = np.nan
    agreement = probe.compare_rankings(ranking(first), ranking(second, method="shift"), top=[50, 150])
    assert agreement.top.values.tolist() == [50, 100]
    np.testing.assert_allclose(agreement.overlap_expected, [0.5, 1.0])
    alone = probe.compare_rankings(ranking(first[:100]), ranking(second[:100], method="shift"), top=[50, 100])
    np.testing.assert_array_equal(agreement.overlap, alone.overlap)
    unknown = probe.compare_rankings(ranking(first), ranking(second * np.nan, method="shift"), top=[50, 300])
    assert unknown.top.values.tolist() == [50, 200]
    assert np.isnan([*unknown.overlap.values.ravel(), *unknown.overlap_expected.values]).all()


@pytest.mark.parametrize(
    ("rankings", "options", "message"),
    [
        ([ranking([1, 2])], {}, "found 1, expected two or more"),
        ([ranking([1, 2]), [ranking([1, 2])]], {}, "each as an argument of its own"),
        ([ranking([1, 2]), xr.Dataset()], {}, "results of probe.rank_channels"),
        ([ranking([1, 2]), ranking([1, 2], layer="other")], {}, "2 of conv and 2 of other"),
        ([ranking([1, 2]), ranking([1, 2, 3])], {}, "2 of conv and 3 of conv"),
        ([ranking([1, 2]), ranking([1, 2])], {"top": []}, "expected numbers of channels"),
        ([ranking([1, 2]), ranking([1, 2])], {"top": [0]}, "at least 1"),
    ],
)
def test_what_cannot_be_compared_is_an_error(rankings, options, message):
    with pytest.raises(probe.errors.ArgumentError, match=message):
        probe.compare_rankings(*rankings, **options)
