"""Profiles of maps along each axis, and maps with frames."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probe
from probe.errors import ArgumentError
from probe.plots.axes import RESULT_COLOURS
from probe.testing import noise_images, padded_net

SIZE = (3, 5, 6)


def measure(size=SIZE, **options):
    net = padded_net("zeros", depth=2, width=6, n_axes=len(size)).double()
    return probe.layerwise(net, noise_images(40, size).double(), positions=None, progress=False, **options)


@pytest.fixture(scope="module")
def measured():
    return measure(maps="conv2")


def test_a_profile_is_the_mean_over_the_other_axes(measured):
    axes = probe.plot_maps(measured, "conv2", profiles=True)
    maps = measured.decoded_map_2.values
    assert axes.shape == (2, 3)
    for stimulus, panels in enumerate(axes):
        for place, (ax, length) in enumerate(zip(panels, SIZE, strict=True)):
            lines = {line.get_label(): line for line in ax.lines}
            others = tuple({0, 1, 2} - {place})
            for number, target in enumerate(("row", "column", "frame")):
                np.testing.assert_allclose(lines[target].get_ydata(), maps[stimulus, number].mean(axis=others))
                np.testing.assert_allclose(lines[target].get_xdata(), (2 * np.arange(length) + 1) / length - 1)
                assert to_hex(lines[target].get_color()) == RESULT_COLOURS[number]
    assert [ax.get_xlabel() for ax in axes[1]] == [f"{axis}, from −1 to 1" for axis in ("frame", "row", "column")]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["natural\ndecoded target", "rolled\ndecoded target"]
    assert [text.get_text() for text in axes[0, 0].figure.legends[0].get_texts()] == ["row", "column", "frame"]


def test_the_true_target_lies_behind_its_own_profile(measured):
    for ax, number in zip(probe.plot_maps(measured, "conv2", profiles=True)[0], (2, 0, 1), strict=True):
        (true,) = (line for line in ax.lines if line.get_alpha() is not None)
        np.testing.assert_array_equal(true.get_ydata(), true.get_xdata())
        assert to_hex(true.get_color()) == RESULT_COLOURS[number]


def test_profiles_of_maps_without_frames_are_over_rows_and_columns():
    result = measure((5, 6), maps="conv2")
    axes = probe.plot_maps(result, "conv2", Figure().subplots(2, 2), profiles=True, kind="mean", count=2)
    about_mean = result.mean_map_2 - result.mean_map_2.mean(["row_2", "column_2"])
    (profile,) = (line for line in axes[1, 0].lines if line.get_label() == axes[0, 0].lines[1].get_label())
    channel = int(profile.get_label().removeprefix("channel "))
    np.testing.assert_allclose(profile.get_ydata(), about_mean[1, channel].mean("column_2"), atol=1e-12)


def test_maps_with_frames_are_a_row_of_frames_on_one_scale(measured):
    axes = probe.plot_maps(measured, "conv2")
    assert axes.shape == (6, 3)
    assert [ax.get_title() for ax in axes[0]] == ["frame 1", "frame 2", "frame 3"]
    assert [ax.get_ylabel() for ax in axes[:, 0]][:3] == ["natural\nrow", "natural\ncolumn", "natural\nframe"]
    maps = measured.decoded_map_2.values
    for row in range(6):
        assert len({ax.images[0].get_clim() for ax in axes[row]}) == 1
        for frame, ax in enumerate(axes[row]):
            np.testing.assert_array_equal(ax.images[0].get_array(), maps[row // 3, row % 3, frame])


def test_of_many_frames_eight_are_drawn():
    result = measure((11, 3, 4), maps="conv1", stimuli="natural")
    axes = probe.plot_maps(result, "conv1", kind="mean", count=1)
    expected = [f"frame {1 + round(10 * number / 7)}" for number in range(8)]
    assert [ax.get_title() for ax in axes[0]] == expected


def test_what_does_not_go_with_frames_or_profiles(measured):
    image = np.zeros((5, 6))
    with pytest.raises(ArgumentError, match="image: the maps of 'conv2' have frames, and arrows are drawn over images"):
        probe.plot_maps(measured, "conv2", image=image)
    with pytest.raises(ArgumentError, match="image: it goes with no profiles=True"):
        probe.plot_maps(measured, "conv2", image=image, profiles=True)
    with pytest.raises(ArgumentError, match=r"3 were given for 6 profiles; expected the shape \(2, 3\)"):
        probe.plot_maps(measured, "conv2", Figure().subplots(1, 3), profiles=True)
    with pytest.raises(
        ArgumentError, match="different maps, 3 of decoded target, 3×5×6 and 3 of decoded target, 4×5×6"
    ):
        probe.plot_maps({"short": measured, "long": measure((4, 5, 6), maps="conv2")}, "conv2")


@pytest.mark.parametrize("width", [None, 3.4])
def test_lines_by_layer_have_one_for_frames(measured, width):
    ax = probe.plot_layers(measured, width=width)
    assert {f"{stimulus}, frame" for stimulus in ("natural", "rolled")} <= {line.get_label() for line in ax.lines} | {
        text.get_text() for text in ax.figure.legends[0].get_texts()
    }
