"""A result of the wrong kind, and what is no result, are refused with what they are and what fits."""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import xarray as xr

import probe
from probe.errors import ArgumentError

PLOTS = {
    "plot_layers": (probe.plot_layers, "probe.layerwise"),
    "plot_channels": (probe.plot_channels, "probe.channelwise"),
    "plot_maps": (partial(probe.plot_maps, layer="conv1"), "probe.layerwise or probe.channelwise"),
    "plot_ranking": (probe.plot_ranking, "probe.rank_channels or probe.compare_rankings"),
    "plot_pooled": (probe.plot_pooled, "probe.pooled"),
    "plot_ablation": (probe.plot_ablation, "probe.ablation_curve"),
    "plot_audit": (probe.plot_audit, "probe.audit"),
    "plot_consistency": (probe.plot_consistency, "probe.shift_consistency"),
    "plot_border": (probe.plot_border, "probe.border_profile"),
    "plot_neighbours": (probe.plot_neighbours, "probe.neighbours"),
    "plot_erasure": (
        probe.plot_erasure,
        "probe.erasure_curve or probe.erasure_proof or probe.erasure_matrix or probe.stronger_readouts",
    ),
    "plot_foveation": (probe.plot_foveation, "probe.audit"),
}
SEVERAL = {"plot_layers", "plot_channels", "plot_maps", "plot_ranking"}


@pytest.fixture(params=PLOTS)
def plot(request):
    return request.param


def refusal(plot, result):
    with pytest.raises(ArgumentError) as error:
        PLOTS[plot][0](result)
    assert plt.get_fignums() == []
    return str(error.value)


def test_every_plot_is_tested():
    assert set(PLOTS) == {name for name in probe.__all__ if name.startswith("plot_")}


def test_a_list_of_results(plot):
    said = refusal(plot, [xr.Dataset(), xr.Dataset()])
    assert said.startswith(f"result: expected a result of {PLOTS[plot][1]}, found a list of 2.")
    assert ('a dict, {"zeros": a, "circular": b}' in said) == (plot in SEVERAL)
    assert ("one at a time" in said) == (plot not in SEVERAL)


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (xr.DataArray([1.0], name="r2"), "found a DataArray named 'r2'. Give the whole Dataset."),
        ("result.nc", "found a str, 'result.nc'. Open a file with probe.load."),
        (Path("result.nc"), "'result.nc'. Open a file with probe.load."),
        (None, "found a NoneType."),
        (3, "found an int."),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_result(plot, thing, said):
    assert refusal(plot, thing).endswith(said)


def test_dicts(plot):
    said = refusal(plot, {"zeros": 3, "circular": 4})
    if plot in SEVERAL:
        assert said == f"result['zeros']: expected a result of {PLOTS[plot][1]}, found an int."
        assert refusal(plot, {}) == "result: expected at least one result, found an empty dict."
    else:
        assert said.endswith("found a dict of 2. Give results one at a time.")


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("similarity", "No function of probe draws it."),
        ("study", "Its figures are in its page: `probe report FILE.nc`."),
        ("padding_comparison", "Its figures are in its page: `probe report FILE.nc`."),
        ("channels", "Its figures are in its page: `probe report FILE.nc`."),
    ],
)
def test_results_that_no_plot_draws(plot, kind, cure):
    said = refusal(plot, xr.Dataset(attrs={"kind": kind}))
    assert said == f"result: expected a result of {PLOTS[plot][1]}, found one of kind {kind!r}. {cure}"


@pytest.mark.parametrize(
    ("kind", "drawn_by"),
    [
        ("layerwise", {"plot_layers", "plot_maps"}),
        ("channelwise", {"plot_channels", "plot_maps"}),
        ("ranking", {"plot_ranking"}),
        ("rankings", {"plot_ranking"}),
        ("ablation_curve", {"plot_ablation"}),
        ("pooled", {"plot_pooled"}),
        ("shift_consistency", {"plot_consistency"}),
        ("neighbours", {"plot_neighbours"}),
        ("border_profile", {"plot_border"}),
        ("erasure_curve", {"plot_erasure"}),
        ("erasure_proof", {"plot_erasure"}),
        ("erasure_matrix", {"plot_erasure"}),
        ("stronger_readouts", {"plot_erasure"}),
        ("audit", {"plot_audit", "plot_foveation"}),
    ],
)
def test_results_that_another_plot_draws(plot, kind, drawn_by):
    said = refusal(plot, xr.Dataset(attrs={"kind": kind}))
    if plot in drawn_by:
        assert f"found one of kind {kind!r}" not in said
    else:
        assert f"found one of kind {kind!r}. probe.{min(drawn_by)} draws it." in said


def test_results_without_a_kind_are_told_by_their_variables(layer_result, channel_result):
    said = refusal("plot_layers", channel_result({"conv1": 3}))
    assert "expected r2 on (layer, stimulus, target), as probe.layerwise returns it; found omega2 on" in said
    assert "expected omega2 on (channel, stimulus)" in refusal("plot_channels", layer_result(["conv1"]))
