import numpy as np
import pytest

from probe.errors import ArgumentError
from probe.readouts.targets import (
    N_CONTROLS,
    TARGETS,
    control_maps,
    pixel_centres,
    resolve_targets,
    target_maps,
    targets_of,
)


def test_pixel_centres_tile_the_range():
    centres = pixel_centres(10)
    assert np.allclose(np.diff(centres), 0.2)
    assert np.isclose(centres[0], -0.9)
    assert np.isclose(centres[-1], 0.9)


def test_targets_equal_their_formulas():
    height, width = 6, 9
    maps = dict(zip(TARGETS, target_maps(TARGETS, height, width), strict=True))
    for i in range(height):
        for j in range(width):
            r, c = (2 * i + 1) / height - 1, (2 * j + 1) / width - 1
            assert np.isclose(maps["row"][i, j], r)
            assert np.isclose(maps["column"][i, j], c)
            assert np.isclose(maps["radius"][i, j], np.sqrt(r * r + c * c))
            assert np.isclose(maps["border"][i, j], min(1 - abs(r), 1 - abs(c)))
            assert np.isclose(maps["gaussian"][i, j], np.exp(-(r * r + c * c) / 2))
            assert np.isclose(maps["stripes_row"][i, j], np.cos(2 * np.pi * 2.5 * (i + 0.5) / height))
            assert np.isclose(maps["stripes_column"][i, j], np.cos(2 * np.pi * 2.5 * (j + 0.5) / width))


def test_controls_are_permutations_less_their_share_of_the_target():
    maps = target_maps(resolve_targets(("row", "radius")), 5, 7)
    controls = control_maps(maps, seed=3)
    assert controls.shape == (N_CONTROLS, 2, 5, 7)
    centred = maps - maps.mean(axis=(1, 2), keepdims=True)
    assert np.allclose((controls * centred).sum(axis=(2, 3)), 0, atol=1e-12)
    for control in controls[:, 0]:
        share = np.linalg.lstsq(np.stack([centred[0].ravel(), np.ones(35)], axis=1), control.ravel(), rcond=None)[0]
        assert np.allclose(share, 0, atol=1e-12)
    # Adding back the share of the target restores the values of the map in another order.
    sizes = (controls**2).sum(axis=(2, 3))
    energy = (centred**2).sum(axis=(1, 2))
    overlap = np.sqrt(energy * (energy - sizes))
    for index in range(N_CONTROLS):
        for sign in (1, -1):
            restored = controls[index, 0] + sign * centred[0] * overlap[index, 0] / energy[0]
            if np.allclose(np.sort(restored.ravel()), np.sort(centred[0].ravel())):
                break
        else:
            pytest.fail("not a permutation of the target")


def test_controls_differ_from_each_other_and_repeat_with_the_seed():
    maps = target_maps(resolve_targets("row"), 6, 6)
    first, again, other = control_maps(maps, 0), control_maps(maps, 0), control_maps(maps, 1)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert len(np.unique(first.reshape(N_CONTROLS, -1), axis=0)) == N_CONTROLS


def test_a_permutation_that_is_the_target_again_is_no_control():
    controls = control_maps(target_maps(resolve_targets("row"), 2, 1), seed=0)
    assert not controls.any()


def test_own_targets():
    resolved = resolve_targets({"mine": lambda height, width: np.ones((height, width))})
    assert np.array_equal(target_maps(resolved, 2, 3), np.ones((1, 2, 3)))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("diagonal", "unknown target 'diagonal'. Choose from row, column"),
        ((), "no target given"),
    ],
)
def test_unknown_targets(targets, message):
    with pytest.raises(ArgumentError, match=message):
        resolve_targets(targets)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda height, width: np.zeros((width, height)), r"'mine' returned a map of shape \(3, 2\)"),
        (lambda height, width: np.full((height, width), np.nan), "'mine' has values that are not finite"),
    ],
)
def test_wrong_target_maps(function, message):
    with pytest.raises(ArgumentError, match=message):
        target_maps({"mine": function}, 2, 3)


class TestFrames:
    def test_targets_on_a_cell_of_a_clip_are_those_of_their_definitions(self):
        size = (3, 4, 5)
        maps = dict(zip(TARGETS, target_maps(TARGETS, *size), strict=True))
        for cell in np.ndindex(*size):
            f, r, c = ((2 * i + 1) / n - 1 for i, n in zip(cell, size, strict=True))
            expected = {
                "frame": f, "row": r, "column": c, "radius": (f**2 + r**2 + c**2) ** 0.5,
                "border": min(1 - abs(f), 1 - abs(r), 1 - abs(c)), "gaussian": np.exp(-(f**2 + r**2 + c**2) / 2),
                "stripes_row": np.cos(2.5 * np.pi * (r + 1)), "stripes_column": np.cos(2.5 * np.pi * (c + 1)),
            }  # fmt: skip
            assert {name: maps[name][cell] for name in expected} == pytest.approx(expected)

    def test_a_map_without_frames_is_one_of_a_single_frame(self):
        with_frame, without = target_maps(TARGETS, 1, 4, 5)[:, 0], target_maps(TARGETS, 4, 5)
        np.testing.assert_allclose(with_frame, without, atol=1e-15)
        assert (without[list(TARGETS).index("frame")] == 0).all()

    def test_controls_are_orthogonal_to_their_target_and_permute_the_whole_clip(self):
        maps = target_maps(resolve_targets(("frame", "row")), 3, 4, 5)
        controls = control_maps(maps, seed=0)
        assert controls.shape == (8, 2, 3, 4, 5)
        centred = maps - maps.mean(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose((controls * centred).sum(axis=(2, 3, 4)), 0, atol=1e-12)
        assert (controls.std(axis=(2, 3, 4)) > 0.5 * maps.std(axis=(1, 2, 3))).all()

    def test_the_coordinates_are_those_that_maps_have(self):
        assert targets_of([(4, 5)]) == ("row", "column")
        assert targets_of([(4, 5), (2, 4, 5)]) == ("row", "column", "frame")

    def test_a_function_of_rows_and_columns_is_none_of_clips(self):
        with pytest.raises(TypeError) as caught:
            target_maps({"mine": lambda height, width: np.ones((height, width))}, 2, 3, 4)
        assert "the target 'mine' was evaluated on a grid of 2×3×4 (frame, row, column)" in caught.value.__notes__[0]
        with pytest.raises(ArgumentError, match=r"shape \(3, 4\) for a grid of 2 frames, 3 rows and 4 columns"):
            target_maps({"mine": lambda *size: np.ones(size[1:])}, 2, 3, 4)
