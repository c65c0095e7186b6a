"""The weights of a seed."""

import torch

from probe.analyses.nets import seeded


def test_weights_are_those_that_torch_draws_after_the_seed_and_the_random_state_stays():
    before = torch.get_rng_state()
    net = seeded(lambda: torch.nn.Linear(3, 2), 5)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        assert torch.equal(net.weight, torch.nn.Linear(3, 2).weight)
    assert not torch.equal(net.weight, seeded(lambda: torch.nn.Linear(3, 2), 6).weight)
