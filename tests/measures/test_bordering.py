"""How far maps change towards their border: nets whose padding, windows and embeddings are known."""

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, ImagesError, ProbeWarning
from probe.testing import CoordinateNet, noise_images, padded_net


def measured(net, count=60, size=12, **options):
    given = {"stimuli": "rolled", "progress": False, **options}
    return probe.border_profile(net, noise_images(count, size), **given)


@pytest.mark.parametrize("depth", [2, 3])
def test_zero_padding_reaches_no_farther_than_windows_read(depth):
    found = measured(padded_net("zeros", depth=depth), 200)
    last = found.sel(layer=f"conv{depth}", stimulus="rolled")
    assert last.window_reach.values.tolist() == [depth] * 4
    assert 1 <= last.reach <= depth
    assert last.change[0] - 3 * last.change_se[0] > 0.02
    beyond = last.isel(distance=slice(depth, None)).dropna("distance")
    assert beyond.sizes["distance"] and (np.abs(beyond.change) < 4 * beyond.change_se + 1e-3).all()


def test_circular_padding_changes_nothing_although_windows_read_as_far():
    found = measured(padded_net("circular", depth=2), 200)
    assert (found.reach == 0).all()
    assert found.window_reach.sel(layer="conv2").values.tolist() == [2] * 4
    assert (np.abs(found.change) < 4 * found.change_se + 1e-3).all()


def test_coordinates_reach_the_middle_where_no_window_reads_the_border():
    found = measured(CoordinateNet()).sel(layer="identity", stimulus="rolled")
    assert found.reach >= 5 and found.attrs["middle"] == 6 and (found.window_reach == 0).all()
    assert np.all(np.diff(found.change) < 0)


def test_pixels_are_counted_at_every_stride():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    found = measured(net, size=24, layers=["0", "2"])
    assert found.cell.values.tolist() == [[2, 2], [2, 2]]
    assert found.window_reach.values.tolist() == [[2, 0, 2, 0], [4, 2, 4, 2]]
    assert found.sizes["distance"] == 6


def test_natural_images_tell_of_their_content():
    images = noise_images(60, 12)
    images[:, :, :4] += 2  # sky on top
    given = {"layers": "input", "progress": False}
    found = probe.border_profile(padded_net(depth=1), images, **given).squeeze("layer")
    assert found.reach.sel(stimulus="natural") >= 4 and found.reach.sel(stimulus="rolled") == 0
    top, bottom = (found.side_change.sel(stimulus="natural", side=side)[0] for side in ("top", "bottom"))
    assert top > 0.5 and abs(bottom) < 0.1


def test_the_threshold_settles_the_reach():
    net = padded_net("zeros", depth=3)
    low, high = (measured(net, threshold=value).reach.sel(layer="conv3").item() for value in (0.001, 10.0))
    assert low >= 1 and high == 0


class Fixed(nn.Module):
    """Takes images of one size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        if images.shape[-1] != 12:
            raise ValueError("only 12 pixels")
        return self.conv(images)


def test_a_model_of_one_size_is_measured_and_its_windows_are_not_known():
    with pytest.warns(ProbeWarning, match="takes no image of 140×140 pixels: ValueError: only 12 pixels"):
        found = measured(Fixed(), layers="conv")
    assert found.window_reach.isnull().all() and found.change.notnull().any()


def test_attention_is_measured_and_its_windows_are_not_known():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax(dim=2), nn.Conv2d(4, 4, 1))
    with pytest.warns(ProbeWarning, match="window_reach: paths cannot be counted"):
        found = measured(net, layers=["0", "2"])
    assert found.window_reach.isnull().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 2}, r"folds=2: expected 3 or more"),
        ({"threshold": 0}, r"threshold=0: expected a number above 0"),
        ({"threshold": float("nan")}, r"threshold=nan"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ArgumentError, match=message):
        measured(padded_net(depth=1), **options)


def test_images_that_do_not_fit():
    net = padded_net(depth=1)
    with pytest.raises(ImagesError, match="can be read only once, and windows"):
        probe.border_profile(net, iter([torch.ones(2, 3, 8, 8)]), progress=False)
    with pytest.raises(ImagesError, match="leave 1 of 5 folds without any"):
        measured(net, 4)
    sizes = [noise_images(10, 8), noise_images(10, 10)]
    with pytest.raises(ImagesError, match="of several sizes"):
        probe.border_profile(net, sizes, progress=False)


def test_batches_change_nothing():
    net = padded_net(depth=2).double()
    one, other = (
        probe.border_profile(net, noise_images(30, 8).double(), batch_size=size, progress=False) for size in (30, 7)
    )
    np.testing.assert_allclose(one.change, other.change, atol=1e-9)
    np.testing.assert_allclose(one.change_se, other.change_se, atol=1e-9)


def test_clips_are_refused():
    with pytest.raises(ArgumentError, match="it takes clips, whose maps have frames"):
        probe.border_profile(padded_net(depth=1, n_axes=3), noise_images(10, (4, 8, 8)), progress=False)
    patches = nn.Sequential(nn.AvgPool3d(2), nn.Conv3d(3, 2, 1))
    with pytest.raises(ArgumentError, match="it takes clips"):
        probe.border_profile(patches, noise_images(10, (4, 8, 8)), progress=False)


def test_few_images_are_warned_of():
    with pytest.warns(ProbeWarning, match="10 images: cells of one image are alike"):
        probe.border_profile(padded_net("zeros", depth=1), noise_images(10, 12), progress=False)
