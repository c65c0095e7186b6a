"""How many taps lie inside the map, against convolutions of ones."""

import pytest
import torch
from torch.nn import functional

from probe.variants.taps import taps_over_taps_inside

FLOAT, CPU = torch.float64, torch.device("cpu")


@pytest.mark.parametrize("weighed", [(True, True, True), (True, False, True), (False, False, False)])
def test_windows_against_a_convolution_of_ones(weighed):
    size, kernel, stride, before, dilation = (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 1, 4), (2, 1, 1)
    sides = [amount for axis in (2, 1, 0) for amount in [before[axis]] * 2]
    # Along the axes that are not weighed, cells outside are cells too.
    masks = [
        functional.pad(torch.ones(length, dtype=FLOAT), (amount, amount), value=0.0 if weighs else 1.0)
        for length, amount, weighs in zip(size, before, weighed, strict=True)
    ]
    mask = torch.einsum("f,r,c->frc", *masks)
    assert mask.shape == functional.pad(torch.ones(size), sides).shape
    inside = functional.conv3d(mask[None, None], torch.ones(1, 1, *kernel, dtype=FLOAT), None, stride, 0, dilation)[
        0, 0
    ]
    expected = torch.where(inside > 0, 18 / inside, 0)
    found = taps_over_taps_inside(size, tuple(inside.shape), kernel, stride, before, dilation, weighed, FLOAT, CPU)
    torch.testing.assert_close(found.expand(inside.shape), expected)


@pytest.mark.parametrize(("kernel", "stride", "cut"), [(4, 2, 1), (3, 1, 1), (5, 2, 0), (1, 3, 0)])
def test_transposed_windows_against_a_longer_map_of_ones(kernel, stride, cut):
    ones, taps = torch.ones(1, 1, 6, dtype=FLOAT), torch.ones(1, 1, kernel, dtype=FLOAT)
    inside = functional.conv_transpose1d(ones, taps, stride=stride, padding=cut)[0, 0]
    longer = functional.conv_transpose1d(torch.ones(1, 1, 26, dtype=FLOAT), taps, stride=stride, padding=cut)[0, 0]
    read = longer[10 * stride :][: len(inside)]
    expected = torch.where(read > 0, read / inside, 1)
    found = taps_over_taps_inside(
        (6,), (len(inside),), (kernel,), (stride,), (cut,), (1,), (True,), FLOAT, CPU, is_transposed=True
    )
    torch.testing.assert_close(found, expected)
