import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from PIL import Image

import probe
from probe.errors import ArgumentError
from probe.testing import noise_images, padded_net

TARGETS = ["row", "column"]
IMAGE = np.linspace(0, 1, 8 * 12 * 3).reshape(8, 12, 3)


@pytest.fixture(scope="module")
def measured():
    return probe.layerwise(padded_net("zeros"), noise_images(60), maps=["conv1", "conv4"], progress=False)


def decoding(measured, row, column):
    """The result with these decoded maps in place of its own; a number scales the true position."""
    result = measured.copy(deep=True)
    n_rows, n_columns = result.decoded_map_4.shape[2:]
    rows, columns = (2 * np.arange(n_rows) + 1) / n_rows - 1, (2 * np.arange(n_columns) + 1) / n_columns - 1
    result.decoded_map_4[:, 0] = row * rows[:, None]
    result.decoded_map_4[:, 1] = column * columns[None, :]
    return result


def test_decoded_maps_share_a_symmetric_scale(measured):
    axes = Figure().subplots(2, 2)
    assert (probe.plot_maps(measured, "conv4", axes) == axes).all()
    images = [ax.images[0] for ax in axes.flat]
    limit = np.abs(measured.decoded_map_4).max().item()
    assert {image.get_clim() for image in images} == {(-limit, limit)}
    np.testing.assert_array_equal(images[3].get_array(), measured.decoded_map_4.sel(stimulus="rolled", target="column"))
    assert [ax.get_title() for ax in axes[0]] == TARGETS
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["natural", "rolled"]


def test_mean_maps_show_the_channels_that_vary_most(measured):
    axes = probe.plot_maps(measured, "conv4", Figure().subplots(2, 3), kind="mean", count=3)
    maps = measured.mean_map_4.values
    spread = maps.std(axis=(2, 3)).max(axis=0)
    strongest = sorted(range(16), key=lambda channel: -spread[channel])[:3]
    assert [ax.get_title() for ax in axes[0]] == [f"channel {channel}" for channel in strongest]
    expected = maps[1, strongest[0]] - maps[1, strongest[0]].mean()
    np.testing.assert_allclose(axes[1, 0].images[0].get_array(), expected, atol=1e-12)


def test_maps_of_channels_are_mean_maps():
    result = probe.channelwise(padded_net("zeros"), noise_images(10), maps="conv1", progress=False)
    assert probe.plot_maps(result, "conv1").shape == (2, 4)


def test_rows_that_one_scale_would_empty_have_their_own(measured):
    weak = measured.copy(deep=True)
    weak["decoded_map_4"] = (0.01 * measured.decoded_map_4).assign_attrs(measured.decoded_map_4.attrs)
    axes = probe.plot_maps({"zeros": measured, "circular": weak}, "conv4")
    assert [ax.get_ylabel() for ax in axes[:, 0]] == [
        f"{name}\n{stimulus}" for name in ("zeros", "circular") for stimulus in ("natural", "rolled")
    ]
    limits = [ax.images[0].get_clim()[1] for ax in axes[:, 0]]
    expected = [float(np.abs(measured.decoded_map_4).max())] * 2
    expected += [float(np.abs(weak.decoded_map_4[place]).max()) for place in range(2)]
    np.testing.assert_allclose(limits, expected)
    bars = [ax.get_ylabel() for ax in axes[0, 0].figure.axes if ax.get_label() == "<colorbar>"]
    assert sorted(bars) == ["decoded target", "own scale", "own scale"]


def test_maps_are_readable_at_the_widths_of_a_page(measured, width, assert_readable):
    for options in ({}, {"kind": "mean"}, {"image": IMAGE}):
        for result in (measured, {"zeros": measured, "circular": measured}):
            axes = probe.plot_maps(result, "conv4", width=width, **options)
            assert axes[0, 0].figure.get_figwidth() == width
            assert_readable(axes[0, 0].figure)


def test_the_error_is_the_mean_distance_in_per_cent_of_the_sides(measured):
    perfect, halved = decoding(measured, 1, 1), decoding(measured, 1, 0.5)
    axes = probe.plot_maps({"perfect": perfect, "halved": halved}, "conv4", image=IMAGE)
    n_rows, n_columns = measured.decoded_map_4.shape[2:]
    columns, rows = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in (n_columns, n_rows)))
    assert [ax.get_title() for ax in axes[0]] == ["natural: error 0 %", "rolled: error 0 %"]
    error = 100 * np.abs(columns / 4).mean()
    assert axes[1, 0].get_title() == f"natural: error {error:.2g} %"
    middle = 100 * np.hypot(rows / 2, columns / 2).mean()
    assert axes[0, 0].get_xlabel() == f"all in the middle: {middle:.2g} %"
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["perfect", "halved"]


def test_arrows_lead_from_cells_to_where_they_are_decoded(measured):
    result = decoding(measured, 1, 0.5)
    ax = probe.plot_maps(result, "conv4", image=IMAGE)[0, 0]
    (arrows,) = [artist for artist in ax.collections if isinstance(artist, Quiver)]
    assert len(arrows.U) == 64
    np.testing.assert_allclose(arrows.U, -0.5 * arrows.X, atol=1e-12)
    np.testing.assert_allclose(arrows.V, 0, atol=1e-12)
    n_columns = result.decoded_map_4.shape[3]
    np.testing.assert_allclose(arrows.X.min(), 1 / n_columns - 1)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 1), (1, -1))  # rows go down, as of images


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        np.moveaxis(IMAGE, 2, 0),
        torch.from_numpy(IMAGE).permute(2, 0, 1)[None].requires_grad_(),
        Image.fromarray((255 * IMAGE).round().astype(np.uint8)),
        4 * np.moveaxis(IMAGE, 2, 0) - 2,
    ],
    ids=["array", "channels first", "tensor", "PIL", "normalised"],
)
def test_images_of_every_form_are_drawn_alike(measured, image):
    ax = probe.plot_maps(measured, "conv4", image=image)[0, 0]
    np.testing.assert_allclose(ax.images[0].get_array(), IMAGE, atol=0.003)


def test_a_grey_image(measured):
    grey = IMAGE[:, :, 0]
    for image in (grey, grey[None], grey[:, :, None]):
        np.testing.assert_allclose(probe.plot_maps(measured, "conv4", image=image)[0, 0].images[0].get_array(), grey)


def test_position_that_is_not_known_has_no_error(measured):
    result = decoding(measured, np.nan, np.nan)
    assert probe.plot_maps(result, "conv4", image=IMAGE)[0, 0].get_title() == "natural: not scored"


def test_what_cannot_be_drawn_over_an_image(measured):
    with pytest.raises(ArgumentError, match=r"image: expected one image, .* found a ndarray of shape \(5, 8, 8\)"):
        probe.plot_maps(measured, "conv4", image=np.zeros((5, 8, 8)))
    with pytest.raises(ArgumentError, match=r"image: the decoded position needs row and column; .* has no column"):
        probe.plot_maps(measured.sel(target=["row"]), "conv4", image=IMAGE)
    with pytest.raises(ArgumentError, match="goes with neither kind='mean' nor count="):
        probe.plot_maps(measured, "conv4", image=IMAGE, count=3)
    assert plt.get_fignums() == []


def test_maps_that_are_not_there(measured):
    with pytest.raises(ArgumentError, match=r"layer='conv2': .* no decoded or mean map of it, only of conv1, conv4"):
        probe.plot_maps(measured, "conv2")
    with pytest.raises(ArgumentError, match="kind='median'"):
        probe.plot_maps(measured, "conv4", kind="median")
    with pytest.raises(ArgumentError, match="count=3: it is a number of channels, of kind='mean'"):
        probe.plot_maps(measured, "conv4", count=3)
    with pytest.raises(ArgumentError, match=r"axes: 3 were given for 4 maps; expected the shape \(2, 2\)"):
        probe.plot_maps(measured, "conv4", Figure().subplots(1, 3))
    assert plt.get_fignums() == []
