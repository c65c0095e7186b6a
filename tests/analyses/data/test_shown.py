"""Small copies of what was shown."""

import numpy as np
import torch

from probe.analyses.data.shown import keep_shown


def test_copies_of_what_was_shown_share_size_and_brightness():
    grey = torch.full((2, 1, 100, 100), 0.4)
    ramp = torch.linspace(0, 1, 10).expand(2, 3, 10, 10)
    kept = keep_shown({"grey": grey, "ramp": ramp})
    assert kept.shape == (2, 2, 64, 64, 3) and kept.dtype == np.uint8
    assert np.unique(kept.sel(shown="grey")).tolist() == [102]
    np.testing.assert_array_equal(np.unique(kept.sel(shown="ramp")), np.round(255 * np.linspace(0, 1, 10)))


def test_each_image_has_a_brightness_of_its_own():
    images = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    kept = keep_shown({"natural": torch.cat([images, 10 * images]), "half": torch.cat([images / 2, 5 * images])})
    assert kept.sel(shown="half").isel(shown_row=0, colour=0).values.tolist() == [[0, 128], [0, 128]]
