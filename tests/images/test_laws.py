"""Laws by which images are shifted."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from probe.errors import ArgumentError, ImagesError
from probe.images.laws import LAWS, resolve_law
from probe.testing import noise_images

SIZES = {"zhang": (256, 256), "kayhan": (288, 300)}


def law_of(name, reach=None):
    return resolve_law(name, reach, SIZES.get(name, (24, 32)))


def offsets_of(law, numbers=range(2000), **given):
    settings = {"pairs": 1, "from_unshifted": False, "seed": 0} | given
    return np.stack([law.pair_offsets(number, **settings) for number in numbers])


@pytest.mark.parametrize(
    ("name", "low", "high", "diagonal", "window"),
    [
        ("crop", 0, 3, (0, 3), (21, 29)),  # an eighth of 24
        ("circular", -3, 3, (-3, 3), (24, 32)),
        ("zero", -3, 3, (-3, 3), (24, 32)),
        ("zhang", 0, 31, (0, 32), (224, 224)),
        ("kayhan", 0, 63, (0, 64), (224, 236)),
        ("chaman", -3, 2, (-3, 2), (24, 32)),
        ("chaman_zero", -3, 2, (-3, 2), (24, 32)),
    ],
)
def test_offsets_windows_and_the_diagonal_are_those_of_the_law(name, low, high, diagonal, window):
    law = law_of(name)
    drawn = offsets_of(law, range(0, 4000 * law.together, law.together))
    assert set(np.unique(drawn)) == set(range(low, high + 1))
    assert (law.diagonal[0], law.diagonal[-1]) == diagonal
    assert law.n_shifts == (high - low + 1) ** 2
    size = SIZES.get(name, (24, 32))
    assert law.shifted(torch.zeros(1, 1, *size), [(law.unshifted,) * 2]).shape[2:] == window
    assert law.unshifted in law.diagonal


def test_there_are_no_other_laws():
    assert list(LAWS) == ["crop", "circular", "zero", "zhang", "kayhan", "chaman", "chaman_zero"]


@pytest.mark.parametrize("name", ["crop", "circular", "zero"])
@pytest.mark.parametrize("from_unshifted", [False, True])
def test_distinct_offsets_are_drawn_alike_for_each_image(name, from_unshifted):
    law = law_of(name, 1)
    drawn = offsets_of(law, pairs=4, from_unshifted=from_unshifted).reshape(-1, 2, 2)
    assert (drawn[:, 0] != drawn[:, 1]).any(axis=1).all()
    sides = law.last - law.first + 1
    codes = (drawn - law.first) @ (sides, 1)
    if from_unshifted:
        assert (drawn[:, 0] == law.unshifted).all()
        ordered = codes[:, 1]
        n_kinds = law.n_shifts - 1
    else:
        ordered = codes[:, 0] * law.n_shifts + codes[:, 1]
        n_kinds = law.n_shifts * (law.n_shifts - 1)
    counts = np.unique(ordered, return_counts=True)[1]
    assert len(counts) == n_kinds
    # Within six standard errors of the same number each.
    assert np.abs(counts - len(ordered) / n_kinds).max() < 6 * np.sqrt(len(ordered) / n_kinds)


@pytest.mark.parametrize(("name", "together"), [("zhang", 8), ("kayhan", 256), ("chaman", 256), ("chaman_zero", 256)])
def test_published_draws_are_shared_by_a_batch_and_may_coincide(name, together):
    law = law_of(name)
    assert law.together == together
    drawn = offsets_of(law, range(2 * together))
    assert (drawn[:together] == drawn[0]).all() and (drawn[together:] == drawn[together]).all()
    assert (drawn[0] != drawn[together]).any()


def test_coinciding_pairs_are_as_rare_as_there_are_shifts():
    drawn = offsets_of(law_of("chaman"), range(0, 3600 * 256, 256))
    same = (drawn[:, 0, 0] == drawn[:, 0, 1]).all(axis=1).sum()
    assert abs(same - 100) < 5 * np.sqrt(100)  # once in 36


def test_an_image_keeps_its_pairs_however_many_are_drawn_and_others_have_others():
    law = law_of("circular")
    many, few = (law.pair_offsets(7, pairs=pairs, from_unshifted=False, seed=0) for pairs in (6, 2))
    np.testing.assert_array_equal(many[:2], few)
    assert (law.pair_offsets(8, pairs=6, from_unshifted=False, seed=0) != many).any()
    assert (law.pair_offsets(7, pairs=6, from_unshifted=False, seed=1) != many).any()


@pytest.mark.parametrize("offset", [(0, 0), (2, -1), (-3, 3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_move_as_written_down_otherwise(offset, memory_format):
    images = noise_images(2, 8).contiguous(memory_format=memory_format)
    row, column = offset
    circular = law_of("circular").shifted(images, [offset] * 2)
    assert torch.equal(circular, torch.roll(images, offset, (2, 3)))
    padded = functional.pad(images, (4, 4, 4, 4))
    zero = law_of("zero").shifted(images, [offset] * 2)
    assert torch.equal(zero, padded[:, :, 4 - row : 12 - row, 4 - column : 12 - column])
    assert zero.is_contiguous(memory_format=memory_format)


def test_windows_are_cut_at_their_offsets():
    images = noise_images(2, 8)
    law = resolve_law("crop", 3, (8, 8))
    windows = law.shifted(images, [(0, 3), (2, 1)])
    assert torch.equal(windows[0], images[0, :, :5, 3:]) and torch.equal(windows[1], images[1, :, 2:7, 1:6])
    windows.zero_()
    assert (images != 0).any()


@pytest.mark.parametrize(
    ("name", "reach", "size", "error", "message"),
    [
        ("roll", None, (8, 8), ArgumentError, "law='roll': expected one of crop, circular"),
        ("crop", 0, (8, 8), ArgumentError, "reach=0: expected a whole number of pixels"),
        ("crop", 1.5, (8, 8), ArgumentError, "reach=1.5"),
        ("zhang", 32, (256, 256), ArgumentError, "reach=32: law='zhang' has its own.*law='crop'"),
        ("zhang", None, (32, 32), ImagesError, "32×32 pixels, they cannot be shifted by 32"),
        ("crop", 8, (8, 9), ImagesError, "8×9 pixels"),
        ("circular", 4, (8, 8), ArgumentError, "rolls by -4 and 4 are the same. Pass at most 3"),
    ],
)
def test_what_does_not_fit_is_refused(name, reach, size, error, message):
    with pytest.raises(error, match=message):
        resolve_law(name, reach, size)
