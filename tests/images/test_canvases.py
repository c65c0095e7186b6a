"""Images on canvases: each pixel where it belongs, cells balanced, colours in the units of the images."""

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError
from probe.images.canvases import assign_cells, canvas_colour, place_at, place_on_grid


def test_each_image_fills_its_cell_and_nothing_else():
    images = torch.rand(9, 3, 4, 5) + 1
    canvases = place_on_grid(images, torch.arange(9), 3, colour=-1.0)
    assert canvases.shape == (9, 3, 12, 15)
    for cell in range(9):
        expected = np.full((3, 12, 15), -1.0, dtype=np.float32)
        row, column = divmod(cell, 3)
        expected[:, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5] = images[cell]
        np.testing.assert_array_equal(canvases[cell], expected)


def test_an_image_stands_at_its_corner():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    canvas = place_at(image, torch.tensor([[1, 2]]), (4, 6))
    expected = torch.nn.functional.pad(image, (2, 1, 1, 1))
    torch.testing.assert_close(canvas, expected, rtol=0, atol=0)


@pytest.mark.parametrize("corner", [(-1, 0), (0, 4), (3, 0)])
def test_an_image_that_would_leave_the_canvas_is_refused(corner):
    with pytest.raises(ArgumentError, match=r"corners: .* 2×3 pixels, all inside a canvas of 4×6; found 1"):
        place_at(torch.zeros(1, 1, 2, 3), torch.tensor([corner]), (4, 6))


def test_a_cell_off_the_grid_is_refused():
    with pytest.raises(ArgumentError, match="inside a canvas of 4×4"):
        place_on_grid(torch.zeros(1, 1, 2, 2), torch.tensor([4]), 2)


def test_cells_are_balanced_and_depend_on_seed_and_number_alone():
    cells = assign_cells(range(180), 9, seed=3)
    assert torch.bincount(cells).tolist() == [20] * 9
    for start in range(0, 180, 9):
        assert cells[start : start + 9].sort().values.tolist() == list(range(9))
    shuffled = torch.randperm(180, generator=torch.Generator().manual_seed(0)).tolist()
    assert assign_cells(shuffled, 9, seed=3).tolist() == cells[shuffled].tolist()
    assert assign_cells(range(180), 9, seed=4).tolist() != cells.tolist()


def test_named_colours_are_in_the_units_of_the_images():
    mean, deviation = [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]
    raw = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(deviation).reshape(1, 3, 1, 1)
    images = (raw - torch.tensor(mean).reshape(1, 3, 1, 1)) / scale

    def values(colour):
        return canvas_colour(images, colour, (mean, deviation)).flatten(1)

    torch.testing.assert_close(values("black"), torch.tensor([[-2.0, -2.0, -1.2]]))
    torch.testing.assert_close(values("white"), torch.tensor([[3.0, 2.0, 0.8]]))
    torch.testing.assert_close(values("mean"), images.flatten(2).mean(dim=2))
    assert values("zero").tolist() == [[0.0]]
    assert values([1, 2, 3]).tolist() == [[1.0, 2.0, 3.0]]


def test_without_normalisation_black_and_white_are_0_and_1():
    images = torch.rand(1, 3, 2, 2)
    assert canvas_colour(images, "black").unique().tolist() == [0.0]
    assert canvas_colour(images, "white").unique().tolist() == [1.0]


def test_black_of_normalised_images_needs_their_normalisation():
    with pytest.raises(ArgumentError, match=r"values from -2 to 0\. Pass normalisation="):
        canvas_colour(torch.tensor([-2.0, 0.0]).reshape(1, 1, 1, 2), "black")


@pytest.mark.parametrize(
    ("colour", "message"), [("blue", "colour='blue': expected one of zero, black"), ([1, 2], "colour: 2 values for")]
)
def test_a_colour_that_does_not_fit_is_refused(colour, message):
    with pytest.raises(ArgumentError, match=message):
        canvas_colour(torch.zeros(1, 3, 2, 2), colour)


def test_precision_of_the_images_is_kept():
    for dtype in (torch.float32, torch.float64):
        for colour in ("zero", "mean", "black", 0.5):
            assert place_on_grid(torch.zeros(1, 3, 2, 2, dtype=dtype), torch.tensor([0]), 2, colour).dtype == dtype


@pytest.mark.parametrize("grid", [2, (3, 1, 2)])
def test_clips_stand_in_the_cell_of_their_number(grid):
    clips = torch.randn(12, 2, 2, 3, 4)
    along = (grid,) * 3 if isinstance(grid, int) else grid
    cells = assign_cells(range(12), int(np.prod(along)), seed=0)
    canvases = place_on_grid(clips, cells, grid, colour="mean")
    assert canvases.shape == (12, 2, *(count * size for count, size in zip(along, (2, 3, 4), strict=True)))
    for clip, canvas, cell in zip(clips, canvases, cells, strict=True):
        expected = clip.mean((1, 2, 3), keepdim=True).expand(canvas.shape).clone()
        frame, row, column = np.unravel_index(int(cell), along)
        expected[:, 2 * frame : 2 * frame + 2, 3 * row : 3 * row + 3, 4 * column : 4 * column + 4] = clip
        torch.testing.assert_close(canvas, expected)


def test_a_grid_of_other_axes_is_refused():
    with pytest.raises(ArgumentError, match=r"grid=\(2, 2, 2\): .* along each: row, column"):
        place_on_grid(torch.ones(1, 1, 2, 2), torch.tensor([0]), (2, 2, 2))
