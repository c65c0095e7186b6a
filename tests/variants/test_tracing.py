"""Tracing leaves alone what other threads do meanwhile."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from probe.variants.padding import with_padding
from probe.variants.sampling import anti_aliased
from probe.variants.tracing import traced


class Meanwhile(nn.Module):
    """Two convolutions; before they run, another thread trains a network of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1))
        self.trained = 0

    def forward(self, images: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.train_another).result()
        return self.layers(images)

    def train_another(self) -> None:
        other = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
        other(torch.ones(1, 3, 8, 8)).sum().backward()
        assert other[3].weight.grad is not None
        self.trained += 1


@pytest.mark.parametrize("change", [anti_aliased, lambda model: with_padding(model, "circular")])
def test_a_network_that_another_thread_trains_meanwhile_goes_on(change):
    model = Meanwhile()
    changed = change(model)
    assert changed is not model
    model(torch.ones(1, 3, 16, 16))
    assert model.trained >= 1


def test_the_graph_is_that_of_torch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    expected = torch.fx.symbolic_trace(model)
    assert traced(model).code == expected.code
    images = torch.rand(1, 3, 8, 8)
    for other in (traced(model), copy.deepcopy(traced(model)), pickle.loads(pickle.dumps(traced(model)))):
        assert torch.equal(other(images), model(images))
