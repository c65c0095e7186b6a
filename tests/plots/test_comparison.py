import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError


def ranking(scores, *, method="flip", stability=0.5, units="activation", region="overall"):
    """A ranking as probe.rank_channels gives it: sorted, unknown scores last."""
    scores = np.asarray(scores, dtype=float)
    order = np.argsort(scores if region == "right" else -scores, kind="stable")
    return xr.Dataset(
        {
            "score": ("channel", scores[order], {"units": units}),
            "rank": ("channel", np.arange(1, len(scores) + 1)),
            "stability": ((), stability, {"long_name": "agreement of two halves of the images", "units": "1"}),
        },
        coords={"index": ("channel", order)},
        attrs={
            "method": method, "axis": "horizontal", "region": region, "stimulus": "natural", "layer": "conv4",
            "model": "Net", "weights_digest": "0",
        },
    )  # fmt: skip


SCORES = np.random.default_rng(0).exponential(size=40)


def test_scores_stand_at_their_ranks_and_the_strongest_are_named():
    ax = Figure().subplots()
    assert probe.plot_ranking(ranking(SCORES, stability=-0.123), ax) is ax
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 40)
    np.testing.assert_array_equal(curve.get_xdata(), np.arange(1, 41))
    np.testing.assert_array_equal(curve.get_ydata(), np.sort(SCORES)[::-1])
    strongest = np.argsort(-SCORES)[:5]
    assert ax.texts[0].get_text() == "\n".join(f"{n}. channel {c}" for n, c in enumerate(strongest, 1))
    assert ax.get_title() == "flip\nstability −0.12"
    assert ax.get_ylabel() == "score / activation"
    assert ax.get_xlabel() == "rank among channels of conv4"


def test_rankings_from_the_smallest_score_on():
    ax = probe.plot_ranking(ranking(SCORES, region="right"), Figure().subplots(), named=1)
    assert ax.texts[0].get_text() == f"1. channel {SCORES.argmin()}"


def test_channels_without_a_score_are_counted_and_not_drawn():
    ax = probe.plot_ranking(ranking([3, 1, np.nan, 2, np.nan]), Figure().subplots(), named=2)
    assert ax.texts[0].get_text() == "1. channel 0\n2. channel 3\n2 without a score"
    assert [len(line.get_xdata()) for line in ax.lines[1:]] == [3, 2]
    nothing = probe.plot_ranking(ranking([np.nan, np.nan], stability=np.nan), Figure().subplots())
    assert nothing.get_title() == "flip\nstability unknown"
    nothing.figure.canvas.draw()


@pytest.mark.parametrize("scores", [SCORES, np.ones(40), -SCORES, SCORES * 1e-9, SCORES[:1]])
@pytest.mark.parametrize("region", ["overall", "right"])
def test_names_do_not_cover_the_curve(scores, region, width, assert_readable):
    ax = probe.plot_ranking(ranking(scores, region=region), width=width)
    assert_readable(ax.figure)
    curve = next(line for line in ax.lines if len(line.get_xdata()) == len(scores))
    box = ax.texts[0].get_window_extent()
    points = ax.transData.transform(np.column_stack(curve.get_data()))
    assert not box.count_contains(points)


def test_several_rankings_have_panels_on_scales_of_their_own(width, assert_readable):
    rankings = {"flip": ranking(SCORES), "omega2": ranking(SCORES / 1000, method="omega2", units="1")}
    axes = probe.plot_ranking(rankings, width=width)
    assert [ax.get_title() for ax in axes] == ["flip\nstability 0.50", "omega2\nstability 0.50"]
    assert [ax.get_ylabel() for ax in axes] == ["score / activation", "score"]
    assert axes[1].get_ylim()[1] < axes[0].get_ylim()[1] / 100
    assert axes[0].texts[0].get_text().count("channel") == 3
    assert_readable(axes[0].figure)


def test_agreement_is_a_heat_map_with_stability_on_the_diagonal(width, assert_readable):
    others = [ranking(SCORES * weight + SCORES[::-1], stability=0.25 * weight) for weight in (1, 2, 3)]
    agreement = probe.compare_rankings(*others)
    ax = probe.plot_ranking(agreement, width=width)
    drawn = np.array(ax.images[0].get_array())
    np.testing.assert_allclose(np.diag(drawn), [0.25, 0.5, 0.75])
    apart = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(drawn[apart], agreement.correlation.values[apart])
    assert ax.images[0].get_clim() == (-1, 1)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}".replace("-", "−") for value in drawn.ravel()]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["flip", "flip 2", "flip 3"]
    assert_readable(ax.figure)
    assert_readable(probe.plot_ranking(agreement).figure)


def test_arguments_that_would_have_no_effect_are_refused():
    agreement = probe.compare_rankings(ranking(SCORES), ranking(SCORES[::-1]))
    with pytest.raises(ArgumentError, match="named=3: a comparison of rankings names no channels"):
        probe.plot_ranking(agreement, named=3)
    with pytest.raises(ArgumentError, match="named=-1: expected a number of channels"):
        probe.plot_ranking(ranking(SCORES), named=-1)
    with pytest.raises(ArgumentError, match=r"ax: 1 were given for 2 rankings \(a, b\)"):
        probe.plot_ranking({"a": ranking(SCORES), "b": ranking(SCORES)}, Figure().subplots())
    assert plt.get_fignums() == []
