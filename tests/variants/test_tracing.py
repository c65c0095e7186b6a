"""Tracing leaves alone what other threads do meanwhile."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling
from probe.variants.tracing import GraphForward, Tracer


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


@pytest.mark.parametrize(
    "change", [lambda model: with_sampling(model, "polyphase"), lambda model: with_padding(model, "circular")]
)
def test_a_network_that_another_thread_trains_meanwhile_goes_on(change):
    model = Meanwhile()
    changed = change(model)
    assert changed is not model
    model(torch.ones(1, 3, 16, 16))
    assert model.trained >= 1


def test_the_graph_is_that_of_torch_and_runs_as_the_model_does():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    images = torch.rand(1, 3, 8, 8)
    graph = Tracer().trace(model)
    assert str(graph) == str(torch.fx.symbolic_trace(model).graph)
    expected = model(images)
    model.forward = GraphForward(model, graph)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images), expected)
        assert other.forward.model is other


def test_classes_whose_code_is_not_traced_are_called_as_one():
    model = nn.Sequential(nn.Sequential(nn.ReLU()), Meanwhile())
    calls = [node.target for node in Tracer((Meanwhile,)).trace(model).nodes if node.op == "call_module"]
    assert calls == ["0.0", "1"]
