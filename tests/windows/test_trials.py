"""What a trial finds out of functions whose behaviour is known."""

import pytest
import torch
from torch.nn import functional

from probe.windows.trials import Trial


def trial_of(func, *settings, shape=(2, 3, 4, 5)):
    tensor = torch.zeros(shape)
    return Trial(func, (tensor, *settings), {}, [tensor])


@pytest.mark.parametrize("func", [torch.relu, functional.hardshrink, torch.log, torch.exp, torch.abs, torch.relu_])
def test_functions_of_single_values_are_pointwise(func):
    trial = trial_of(func)
    assert len(trial.read) == 1 and trial.is_pointwise() and not trial.moves()


@pytest.mark.parametrize("settings", [(torch.flip, (1,)), (torch.chunk, 2), (torch.tril,), (torch.Tensor.view, 6, 20)])
def test_functions_that_move_values_move(settings):
    assert trial_of(*settings).moves()


@pytest.mark.parametrize("settings", [(torch.cumsum, 1), (torch.softmax, 1), (torch.rand_like,), (torch.max,)])
def test_functions_that_mix_values_do_neither(settings):
    trial = trial_of(*settings)
    assert trial.read and not trial.is_pointwise() and not trial.moves()


def test_shapes_and_constants_read_nothing():
    for settings in ((torch.zeros_like,), (torch.Tensor.size,), (torch.fill, 3.0), (torch.Tensor.dim,)):
        assert trial_of(*settings).read == []


def test_of_several_tensors_those_are_found_that_are_read():
    first, second = torch.zeros(3, 4), torch.zeros(3, 4)
    assert Trial(torch.Tensor.type_as, (first, second), {}, [first, second]).read[0] is first
    assert len(Trial(torch.mul, (first, second), {}, [first, second]).read) == 2


def test_nothing_is_written_and_no_random_number_is_used_up():
    before, tensor = torch.get_rng_state(), torch.zeros(2, 2)
    Trial(torch.Tensor.exp_, (tensor,), {}, [tensor]).is_pointwise()
    assert (tensor == 0).all() and torch.equal(before, torch.get_rng_state())
