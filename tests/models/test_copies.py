"""Copies of models that copy.deepcopy refuses: the same outputs, no weight shared, the original untouched."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import probe
from probe.errors import ModelError
from probe.models.blueprint import blueprint
from probe.models.copies import copied

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))


def pruned():
    model = net()
    prune.ln_structured(model[0], "weight", 0.5, n=2, dim=0)
    model(IMAGES)
    return model


def normed():
    model = net()
    with pytest.warns(FutureWarning):
        model[0] = nn.utils.weight_norm(model[0])
    return model


def spectral():
    model = net()
    model[0] = nn.utils.spectral_norm(model[0])
    model(IMAGES)
    return model.eval()


class Holding(nn.Module):
    """A model that keeps what it computed, also in a list, and what `held` says."""

    def __init__(self, held=None):
        super().__init__()
        self.body, self.held, self.seen = net(), held, []

    def forward(self, images):
        self.features = self.body(images)
        self.seen = [self.features.mean()]
        return self.features


def caching():
    model = Holding()
    model(IMAGES)
    return model


class Logger:
    def __init__(self):
        self.lock, self.values = threading.Lock(), [1, 2]


MODELS = {
    "pruned": pruned,
    "weight-normed": normed,
    "spectral": spectral,
    "caching": caching,
    "lock": lambda: Holding(threading.Lock()),
    "lock in a dict": lambda: Holding({"locks": [threading.RLock(), 3]}),
    "generator": lambda: Holding(number for number in range(3)),
    "random generator": lambda: Holding(torch.Generator().manual_seed(3)),
    "logger": lambda: Holding(Logger()),
    "file": lambda: Holding(open(__file__)),  # noqa: PTH123, SIM115
}


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_computes_the_same_and_shares_no_weight(name):
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    twin = copied(model)
    with torch.no_grad():
        assert torch.equal(twin(IMAGES), model(IMAGES))
        for parameter in twin.parameters():
            parameter.add_(1)
        assert not torch.equal(twin(IMAGES), model(IMAGES))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    storages = [{t.untyped_storage().data_ptr() for t in m.state_dict().values()} for m in (model, twin)]
    assert not storages[0] & storages[1]
    if name == "file":
        assert twin.held is model.held and not model.held.closed
        model.held.close()


@pytest.mark.parametrize("name", MODELS)
def test_what_needs_a_copy_of_the_model_works(name):
    model = MODELS[name]()
    circular = probe.with_padding(model, "circular")
    with torch.no_grad():
        rolled = circular(IMAGES.roll((3, 2), (2, 3))).roll((-3, -2), (2, 3))
        torch.testing.assert_close(rolled, circular(IMAGES), rtol=1e-4, atol=1e-5)
    result = probe.audit(model, (3, 8, 8), maps=())
    assert result.even_size.sel(axis="row").values.tolist() == [7, 9]
    plan = blueprint(model)
    assert plan(torch.empty(1, 3, 8, 8, device="meta")).is_meta
    if name == "file":
        model.held.close()


def test_handles_are_shared_what_is_around_them_is_copied_and_a_random_state_is_kept():
    model = Holding(Logger())
    model.draws = torch.Generator().manual_seed(3)
    state = model.draws.get_state()
    twin = copied(model)
    assert twin.held.lock is model.held.lock and twin.held is not model.held
    assert twin.held.values == [1, 2] and twin.held.values is not model.held.values
    torch.rand(3, generator=twin.draws)
    assert torch.equal(model.draws.get_state(), state)


def test_tensors_that_were_kept_stay_one_tensor_and_the_originals_keep_their_history():
    model = caching()
    model.again = {"last": model.features}
    twin = copied(model)
    assert twin.again["last"] is twin.features and twin.features.grad_fn is None
    assert model.features.grad_fn is not None
    assert torch.equal(twin.seen[0], model.seen[0])


class Refuses:
    def __init__(self, layer):
        self.layer = layer

    def __deepcopy__(self, memo):
        raise ValueError("one of a kind")


class RefusingLayer(nn.Conv2d):
    def __deepcopy__(self, memo):
        raise ValueError("one of a kind")


def test_what_cannot_be_copied_is_named(left_as_found):
    model = Holding(Refuses(nn.Linear(2, 2)))
    with left_as_found(model), pytest.raises(ModelError, match=r"attribute 'held' of 1 \(Holding\) holds a Refuses"):
        copied(nn.Sequential(nn.ReLU(), model))
    with pytest.raises(ModelError, match=r"model: 1 \(RefusingLayer\) cannot be copied: ValueError: one of a kind"):
        copied(nn.Sequential(nn.ReLU(), RefusingLayer(3, 3, 3)))
    with pytest.raises(ModelError, match="holds a Refuses"):
        probe.with_padding(model, "circular")
    with pytest.warns(probe.errors.ProbeWarning, match="even_size: not searched: model: cannot be copied"):
        probe.audit(model, (3, 8, 8), maps=())
