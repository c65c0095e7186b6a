"""Which axes are refused, and which are moved."""

import numpy as np
import pytest
import torch

import probe
from probe.errors import ImagesError
from probe.images.shapes import axes_of_row, channels_first, check_row, check_shape


@pytest.mark.parametrize(("n_axes", "taken"), [(2, {4}), (3, {5}), (None, {4, 5})])
def test_images_and_clips_have_their_axes(n_axes, taken):
    for count in range(1, 7):
        images = np.zeros((2,) * count)
        if count in taken:
            assert check_shape(images, n_axes) is images
        else:
            with pytest.raises(ImagesError, match=r"images: expected shape \(image, channel, .*row, column\), found"):
                check_shape(images, n_axes)


@pytest.mark.parametrize(("n_axes", "taken"), [(2, {3}), (3, {4}), (None, {3, 4})])
def test_rows_have_an_axis_less(n_axes, taken):
    assert axes_of_row(n_axes) == min(taken)
    for count in range(1, 6):
        row = torch.zeros((2,) * count)
        if count in taken:
            assert check_row(row, n_axes, "in the data set") is row
        else:
            with pytest.raises(ImagesError, match=r"expected \(channel, .*row, column\)"):
                check_row(row, n_axes, "in the data set")


def test_spectra_and_sound_are_refused():
    net = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3))
    message = (
        r"expected shape \(image, channel, row, column\), .*found \(9, 2, 100\).*Signals of one axis.*are not read"
    )
    with pytest.raises(ImagesError, match=message):
        probe.layerwise(net, torch.zeros(9, 2, 100), progress=False)


def test_decoded_clips_get_their_channels_first():
    video = torch.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    assert torch.equal(channels_first(video), video.permute(3, 0, 1, 2))
    torch.testing.assert_close(channels_first(video.byte()), video.permute(3, 0, 1, 2) / 255)
    for kept in (video.float(), video[0], video[..., :2], torch.zeros(3, 4, 5, 5, dtype=torch.uint8)):
        assert channels_first(kept) is kept
