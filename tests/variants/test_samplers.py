"""The layers that take the place of a stride."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn

from probe.variants.samplers import BlurPool, PhaseChoice, PolyphasePool, Wrapped

pytestmark = pytest.mark.usefixtures("one_thread")

BINOMIAL = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}


@pytest.mark.parametrize("size", BINOMIAL)
@pytest.mark.parametrize("shape", [(7, 10), (2, 1)])
@pytest.mark.parametrize(("border", "mode"), [("reflect", "mirror"), ("circular", "grid-wrap"), ("zeros", "constant")])
def test_blur_is_a_binomial_filter_at_every_second_place(size, shape, border, mode):
    maps = torch.randn(2, 3, *shape, dtype=torch.float64)
    row = np.array(BINOMIAL[size]) / np.sum(BINOMIAL[size])
    expected = maps.numpy()
    for axis in (2, 3):
        # scipy centres an even filter on the place behind its middle, BlurPool on the one before.
        expected = scipy.ndimage.correlate1d(expected, row, axis, mode=mode, origin=-1 if size % 2 == 0 else 0)
    np.testing.assert_allclose(BlurPool(2, size, border).double()(maps), expected[:, :, ::2, ::2], atol=1e-7)


@pytest.mark.parametrize("size", BINOMIAL)
def test_a_full_blur_is_the_whole_convolution_at_every_second_place(size):
    maps = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    row = np.array(BINOMIAL[size]) / np.sum(BINOMIAL[size])
    expected = np.apply_along_axis(np.convolve, 3, np.apply_along_axis(np.convolve, 2, maps.numpy(), row), row)
    np.testing.assert_allclose(BlurPool(2, size, "full").double()(maps), expected[:, :, ::2, ::2], atol=1e-7)


def phases_of(image, stride):
    """All maps that keep every s-th cell, each with the number of its phase, by slices of numpy."""
    rows, columns = stride
    return {
        row * columns + column: image[:, row::rows, column::columns] for row in range(rows) for column in range(columns)
    }


@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (1, 2), (4, 4)])
def test_the_phase_of_largest_norm_is_kept_of_each_image(stride):
    maps = torch.randn(5, 3, 12, 8, generator=torch.Generator().manual_seed(1))
    chosen = PhaseChoice(stride)(maps)
    kept = PolyphasePool(stride)(maps, chosen)
    for image, phase, found in zip(maps.numpy(), chosen.tolist(), kept.numpy(), strict=True):
        phases = phases_of(image, stride)
        assert phase == max(phases, key=lambda number: np.linalg.norm(phases[number]))
        np.testing.assert_array_equal(found, phases[phase])
    assert len(set(chosen.tolist())) > 1


def test_a_shifted_map_keeps_the_same_cells():
    maps = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    choice, pool = PhaseChoice((2, 2)), PolyphasePool((2, 2))
    kept = pool(maps, choice(maps))
    for shift in ((0, 1), (1, 0), (1, 1), (3, 2)):
        shifted = maps.roll(shift, (2, 3))
        found = pool(shifted, choice(shifted))
        rolls = [kept.roll((row, column), (2, 3)) for row in range(3) for column in range(3)]
        assert any(torch.equal(found, roll) for roll in rolls), shift


def test_the_last_cells_of_an_odd_map_are_those_of_its_other_side():
    maps = torch.arange(5.0).reshape(1, 1, 1, 5)
    assert PolyphasePool((1, 2))(maps, torch.tensor([1]))[0, 0, 0].tolist() == [1, 3, 0]


def test_gradients_reach_the_cells_that_are_kept():
    maps = torch.randn(1, 1, 4, 4, requires_grad=True)
    phase = PhaseChoice((2, 2))(maps)
    PolyphasePool((2, 2))(maps, phase).sum().backward()
    expected = torch.zeros(4, 4)
    expected[phase.item() // 2 :: 2, phase.item() % 2 :: 2] = 1
    assert torch.equal(maps.grad[0, 0], expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(3),
        nn.AvgPool2d(2, 3),
        nn.MaxPool2d((2, 3), (3, 1)),
        nn.MaxPool2d(2, 4, ceil_mode=True, dilation=2),
        nn.Conv2d(1, 1, 3, stride=2, dilation=2),
    ],
    ids=str,
)
def test_a_wrapped_map_has_as_many_windows_of_each_phase_as_the_strided_layer(layer):
    for height in range(7, 20):
        maps = torch.randn(1, 1, height, 9)
        expected = layer(maps).shape
        wrapped = Wrapped(layer)(maps)
        assert torch.equal(wrapped[:, :, :height, :9], maps)
        rows, columns = (size - reach for size, reach in zip(wrapped.shape[2:], Wrapped(layer).reach, strict=True))
        stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,) * 2
        assert (rows, columns) == (expected[2] * stride[0], expected[3] * stride[1]), height
