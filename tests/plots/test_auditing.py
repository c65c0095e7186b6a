from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import nn

import probe
from probe.errors import ArgumentError
from probe.plots.axes import STIMULUS_COLOURS
from probe.testing import padded_net


@pytest.fixture(scope="module")
def audited():
    """Down-sampling five times; an even size of the map leaves padding unread."""
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(5)))
    return probe.audit(model, (3, 64, 64))


def test_padding_that_is_never_read_is_coloured_and_counted(audited):
    ax = probe.plot_audit(audited, Figure().subplots())
    expected = [f"{n} of 1" for row in audited.unread.values for n in row]
    assert [text.get_text() for text in ax.texts] == expected
    assert "1 of 1" in expected
    assert (ax.images[0].get_array() == (audited.unread.values > 0)).all()
    colours = {to_hex(colour) for colour in ax.images[0].get_cmap().colors}
    assert not colours & {STIMULUS_COLOURS["natural"], STIMULUS_COLOURS["rolled"]}
    assert [label.get_text() for label in ax.get_yticklabels()] == list(audited.layer.values)


def test_audits_are_readable_at_the_widths_of_a_page(audited, width, assert_readable):
    ax = probe.plot_audit(audited, width=width)
    assert ax.figure.get_figwidth() == width
    assert_readable(ax.figure)
    axes = probe.plot_foveation(audited, width=width)
    assert axes[0].figure.get_figwidth() == width
    assert_readable(axes[0].figure)


def test_long_names_of_maps_stay_in_their_panels(assert_readable):
    inner = nn.Sequential()
    names = [f"downsampling_of_the_layer_{number}" for number in range(5)]
    for name in names:
        inner.add_module(name, nn.Conv2d(3, 3, 3, stride=2, padding=1))
    axes = probe.plot_foveation(probe.audit(nn.Sequential(inner), (3, 64, 64)), width=3.4)
    assert_readable(axes[0].figure)
    titles = [ax.title.get_window_extent() for ax in axes[:3]]
    assert not any(a.overlaps(b) for a, b in pairwise(titles))


def test_one_map_fits_its_figure(assert_readable):
    axes = probe.plot_foveation(probe.audit(padded_net("zeros"), (3, 32, 32)))
    assert len(axes) == 1
    assert_readable(axes[0].figure)


def test_axes_that_are_given_have_their_own_width(audited):
    with pytest.raises(ArgumentError, match=r"width=7: .* ax= is of a figure that has its own"):
        probe.plot_audit(audited, Figure().subplots(), width=7)
    with pytest.raises(ArgumentError, match=r"width=7: .* axes= is of a figure that has its own"):
        probe.plot_foveation(audited, Figure().subplots(1, 5), width=7)


@pytest.fixture(scope="module")
def clips():
    model = nn.Sequential(*(nn.Conv3d(3, 3, 3, stride=2, padding=1) for _ in range(2)))
    return probe.audit(model, (3, 16, 20, 24))


def test_audits_of_clips_show_six_sides_and_frames_in_a_row(clips, width, assert_readable):
    ax = probe.plot_audit(clips, width=width)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["first", "last", "top", "bottom", "left", "right"]
    assert_readable(ax.figure)
    axes = probe.plot_foveation(clips, width=width)
    assert len(axes) == 2
    assert_readable(axes[0].figure)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == [
        "frame 1",
        *map(str, (3, 5, 7, 10, 12, 14, 16)),
    ]
    image = axes[1].images[0].get_array()
    shown = clips.foveation_1.values[[0, 2, 4, 6, 9, 11, 13, 15]]
    assert image.compressed().tolist() == shown.transpose(1, 0, 2).ravel().tolist()
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim()
