from itertools import pairwise

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

import probe
from probe.plots.axes import name_layers, short_names


def named(n_layers, *, width=12.0, most=None):
    figure = Figure(figsize=(width, 4), layout="constrained")
    ax = figure.subplots()
    ax.set_xlim(0, max(n_layers - 1, 1))
    names = [f"layer1.{i}.conv1" for i in range(n_layers)]
    name_layers(ax, names, most=most)
    figure.canvas.draw()
    return ax, names


@pytest.mark.parametrize("width", [3.4, 7.0, 12.0])
@pytest.mark.parametrize("n_layers", [1, 2, 5, 14, 15, 53, 120])
def test_names_of_layers_do_not_overlap_and_the_last_is_there(n_layers, width, assert_readable):
    ax, names = named(n_layers, width=width)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == [names[int(place)] for place in ax.get_xticks()]
    assert labels[0] == names[0]
    assert labels[-1] == names[-1]
    assert_readable(ax.figure)


@pytest.mark.parametrize("n_layers", [14, 15, 16, 27, 53, 120])
@pytest.mark.parametrize("most", [2, 6, 14])
def test_at_most_so_many_layers_are_named_and_the_others_have_a_tick(n_layers, most):
    ax, _ = named(n_layers, most=most)
    places = list(ax.get_xticks())
    assert len(places) <= most
    assert places[-1] == n_layers - 1
    assert sorted([*places, *ax.get_xticks(minor=True)]) == list(range(n_layers))
    gaps = [after - before for before, after in pairwise(places)]
    assert all(gap == gaps[0] for gap in gaps[:-1])
    assert not gaps or gaps[-1] >= gaps[0]


@pytest.mark.parametrize(
    ("n_layers", "most", "said"),
    [(14, 14, ""), (27, 14, ", every second named"), (28, 10, ", every third named"), (120, 5, ", one in 30 named")],
)
def test_the_axis_says_which_layers_are_named(n_layers, most, said):
    ax, _ = named(n_layers, most=most)
    assert ax.get_xlabel() == f"layer, in order of execution{said}"


def test_a_dollar_sign_in_a_name_is_no_formula():
    ax = Figure().subplots()
    name_layers(ax, ["a$\\frac$", "<b>"])
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a$\\frac$", "<b>"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["conv1", "layer4.2.conv3"], ["conv1", "layer4.2.conv3"]),
        (["backbone.body.layer1.0.conv1", "fc"], ["…layer1.0.conv1", "fc"]),
        (["layer1.0.downsaample.0", "layer2.0.downsaample.0"], ["layer1.0…ample.0", "layer2.0…ample.0"]),
        (["a" * 40], ["…" + "a" * 15]),
        (["x.y", "x.y"], ["x.y", "x.y"]),
    ],
)
def test_long_names_are_shortened(names, short):
    assert short_names(names) == short


def test_shortened_names_stay_apart():
    names = [f"left.{i}.attention.output.dense.layer" for i in range(30)] + [
        f"right.{i}.attention.output.dense.layer" for i in range(30)
    ]
    assert len(set(short_names(names))) == 60


@pytest.mark.parametrize("size", [4.0, 10.0, 16.0])
def test_text_follows_the_users_size_and_is_never_below_6_points(layer_result, assert_readable, size):
    with mpl.rc_context({"font.size": size}):
        ax = probe.plot_layers(layer_result(["conv1", "conv2"]), width=7)
        assert ax.yaxis.label.get_fontsize() == max(0.8 * size, 6)
        assert_readable(ax.figure)
