import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError

SIDE = 9


def consistency_result(*parts, stride=4, pairs=40):
    rng = np.random.default_rng(0)

    def estimate(name, dim, size):
        values = rng.uniform(0.6, 0.9, size)
        ends = {"": values, "_low": values - 0.05, "_high": values + 0.03}
        return {f"{name}{end}": (dim, of_end) for end, of_end in ends.items()}

    phases = ("row_phase", "column_phase")
    found = {
        **estimate("consistency", "subset", 1),
        "phase_consistency": (phases, rng.uniform(0.5, 1, (stride, stride))),
        "phase_pairs": (phases, np.full((stride, stride), pairs)),
    }
    if "distance" in parts:
        found |= estimate("distance_consistency", "distance", SIDE - 1)
    if "accuracy" in parts:
        found |= estimate("diagonal_accuracy", "diagonal", SIDE)
    result = xr.Dataset(found, {"subset": ["all"]}, {"compare": "classes"})
    if "distance" in parts:
        distance = np.arange(1, SIDE)
        result = result.assign_coords(distance=distance, phase=("distance", distance % stride))
    return result.assign_coords(diagonal=range(SIDE)) if "accuracy" in parts else result


def test_each_panel_shows_its_numbers(lines_of):
    result = consistency_result("distance", "accuracy")
    panels = probe.plot_consistency(result, Figure().subplots(1, 3))
    lines = lines_of(panels[0])
    np.testing.assert_array_equal(lines["windows on the diagonal"].get_ydata(), result.distance_consistency)
    assert set(lines["pairs drawn at random"].get_ydata()) == {result.consistency.item()}
    multiples = next(one for one in panels[0].collections if one.get_label() == "multiples of the stride")
    assert [segment[0, 0] for segment in multiples.get_segments()] == [4, 8]
    np.testing.assert_array_equal(panels[1].lines[0].get_ydata(), result.diagonal_accuracy)
    np.testing.assert_array_equal(panels[1].lines[0].get_xdata(), result.diagonal)
    for ax, name in ((panels[0], "distance_consistency"), (panels[1], "diagonal_accuracy")):
        heights = ax.collections[0].get_paths()[0].vertices[:, 1]
        low, high = result[f"{name}_low"], result[f"{name}_high"]
        assert heights.min() == pytest.approx(low.min().item()) and heights.max() == pytest.approx(high.max().item())
    np.testing.assert_array_equal(panels[2].images[0].get_array(), result.phase_consistency)
    assert panels[2].images[0].get_clim()[1] == 1


@pytest.mark.parametrize(
    ("result", "labels"),
    [
        (consistency_result("distance", pairs=9), ["pixels apart, along both axes"]),
        (consistency_result("distance", stride=1), ["pixels apart, along both axes"]),
        (consistency_result(), ["column, modulo the stride"]),
        (
            consistency_result("distance", "accuracy", pairs=9),
            ["pixels apart, along both axes", "offset along both axes, pixels"],
        ),
    ],
    ids=["few pairs", "no stride", "no diagonal", "labels"],
)
def test_what_there_is_to_draw_is_drawn(result, labels):
    axes = probe.plot_consistency(result, Figure().subplots(1, len(labels)))
    assert [ax.get_xlabel() for ax in axes] == labels
    with pytest.raises(ArgumentError, match=f"5 were given for {len(labels)} panels"):
        probe.plot_consistency(result, Figure().subplots(1, 5))


def test_embeddings_are_named_so():
    result = consistency_result("distance", pairs=0).assign_attrs(compare="embedding")
    assert probe.plot_consistency(result, Figure().subplots())[0].get_ylabel() == "cosine similarity"


def test_nothing_to_draw_is_said():
    with pytest.raises(ArgumentError, match=r"no diagonal, and too few pairs.*diagonal=True"):
        probe.plot_consistency(consistency_result(pairs=0))


def test_consistency_is_readable_at_the_widths_of_a_page(width, assert_readable, legend_of):
    axes = probe.plot_consistency(consistency_result("distance", "accuracy"), width=width)
    assert axes[0].figure.get_figwidth() == width
    assert "multiples of the stride" in legend_of(axes[0].figure)
    assert_readable(axes[0].figure)
