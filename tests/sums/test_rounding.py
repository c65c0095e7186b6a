"""The bounds of rounding, against what rounding does."""

import numpy as np
import pytest
import torch

from probe.sums.rounding import ROUNDING_ERRORS, is_constant, keeps_digits, varies

DTYPES = [torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean", [-1e3, 1.0, 2e4])
def test_what_rounding_alone_makes_of_a_constant_does_not_vary(dtype, mean):
    """A constant whose values are off by one unit in the last place, as sums in another order may make them."""
    generator = torch.Generator().manual_seed(0)
    constant = torch.tensor(mean, dtype=dtype)
    step = torch.nextafter(constant, torch.tensor(1e6 if dtype != torch.float16 else 6e4, dtype=dtype)) - constant
    values = constant.double() + step.double() * torch.randint(-1, 2, (1000,), generator=generator)
    assert not varies(values.std(), values.mean(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_hundred_units_in_the_last_place_are_a_signal(dtype):
    eps = torch.finfo(dtype).eps
    mean = torch.tensor([1.0, -1.0, 5.0], dtype=torch.float64)
    assert varies(100 * eps * mean.abs(), mean, dtype).all()
    # The bound is of the mean and the deviation together, whichever is larger.
    bound = ROUNDING_ERRORS * eps
    assert varies(torch.tensor([1.05 * bound, 0.95 * bound]), torch.ones(2), dtype).tolist() == [True, False]
    assert varies(torch.tensor([1.0, 0.0]), torch.zeros(2), dtype).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_about_a_far_pilot_keep_digits_only_within_their_precision(dtype):
    eps = torch.finfo(dtype).eps
    summed = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    squares = torch.tensor([1.1e4 * eps, 0.9e4 * eps, 0.0], dtype=torch.float64)
    assert keeps_digits(squares, summed, dtype).tolist() == [True, False, False]


def test_a_target_is_constant_if_nothing_but_rounding_is_left_of_it():
    for kind in (np.array, torch.tensor):
        found = is_constant(kind([0.0, 0.9e-6, 1.1e-6, 1.0]), kind([0.0, 1.0, 1.0, 1.0]))
        assert found.tolist() == [True, True, False, False]
    far = np.full(1000, 1e3) + np.random.default_rng(0).normal(size=1000) * 1e-4
    assert is_constant(((far - far.mean()) ** 2).sum(), (far**2).sum())
