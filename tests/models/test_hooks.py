"""Hooks end with their block, on the modules they were set on and on all copies of these."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

import probe
from probe.errors import ModelError
from probe.models.hooks import hooking
from probe.testing import noise_images, padded_net

IMAGES = noise_images(20, 16)


def hooks_of(*modules):
    kept_in = [name for name in vars(nn.Module()) if "hooks" in name]
    return sum(len(getattr(part, name)) for module in modules for part in module.modules() for name in kept_in)


class CopyingItself(nn.Module):
    """The target network is copied from the online one in the first forward pass, as in BYOL."""

    def __init__(self, keep=lambda model, target: setattr(model, "target", target)):
        super().__init__()
        self.online, self.keep, self.copies = padded_net("zeros", depth=2, width=4), keep, []
        self.kept = {}

    def forward(self, images):
        if not self.copies:
            self.copies.append(copy.deepcopy(self.online))
            self.keep(self, self.copies[0])
        return self.online(images) + self.copies[0](images)


class Swapping(nn.Module):
    """A part is replaced by a copy of it in each forward pass."""

    def __init__(self):
        super().__init__()
        self.part = padded_net("zeros", depth=2, width=4)

    def forward(self, images):
        result = self.part(images)
        self.part = copy.deepcopy(self.part)
        return result


class Functional(nn.Module):
    """The parts run with other parameters, and as copies made for this run."""

    def __init__(self):
        super().__init__()
        self.part = padded_net("zeros", depth=2, width=4)

    def forward(self, images):
        doubled = {name: 2 * value for name, value in self.part.named_parameters()}
        return torch.func.functional_call(self.part, doubled, images) + copy.deepcopy(self.part)(images)


MODELS = {
    "as a part": CopyingItself,
    "in a list": lambda: CopyingItself(lambda model, target: None),
    "in a mapping": lambda: CopyingItself(lambda model, target: model.kept.update(a=[target])),
    "functional": Functional,
}
CALLS = {
    "layerwise": lambda model, layer: probe.layerwise(model, IMAGES, stimuli="natural", positions=50),
    "channelwise": lambda model, layer: probe.channelwise(model, IMAGES, stimuli="natural"),
    "list_layers": lambda model, layer: probe.list_layers(model, IMAGES),
    "rank_channels": lambda model, layer: probe.rank_channels(model, IMAGES, layer),
    "ablation_curve": lambda model, layer: probe.ablation_curve(
        model, IMAGES, range(4), layer=layer, counts=[1], draws=2, score={"mean": lambda output: output.mean((1, 2, 3))}
    ),
    "audit": lambda model, layer: probe.audit(model, (3, 16, 16)),
}


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_that_copies_its_parts_works_as_before(make, call):
    model = make()
    layer = "part.conv1" if isinstance(model, Functional) else "online.conv1"
    with torch.no_grad():
        expected = make()(IMAGES[:2])
    call(model, layer)
    assert hooks_of(model, *getattr(model, "copies", [])) == 0
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES[:2]), expected)
    assert all(module.training for module in model.modules())


def test_a_model_that_swaps_its_parts_works_as_before():
    model = Swapping()
    expected = model.part(IMAGES[:2])
    probe.list_layers(model, IMAGES)
    assert hooks_of(model) == 0
    torch.testing.assert_close(model(IMAGES[:2]), expected)


def test_what_is_read_is_the_original():
    table = probe.list_layers(CopyingItself(), IMAGES)
    assert [name for name in table.index[table.calls > 0] if "conv1" in name] == ["online.conv1"]
    expected = probe.layerwise(padded_net("zeros", depth=2, width=4), IMAGES, layers="conv2", positions=50)
    found = probe.layerwise(CopyingItself(), IMAGES, layers="online.conv2", positions=50)
    assert (found.r2.values == expected.r2.values).all()


def test_an_ablation_ends_with_its_block_and_leaves_the_copy_alone():
    model = CopyingItself()
    with torch.no_grad():
        net = padded_net("zeros", depth=2, width=4)
        intact = net(IMAGES[:2])
        with probe.ablate(net, {"conv1": [0]}):
            ablated = net(IMAGES[:2])
        with probe.ablate(model, {"online.conv1": [0]}):
            torch.testing.assert_close(model(IMAGES[:2]), ablated + intact)
        torch.testing.assert_close(model(IMAGES[:2]), 2 * intact)
    assert not torch.equal(ablated, intact)
    assert hooks_of(model, *model.copies) == 0


def test_hooks_of_copies_out_of_reach_do_nothing_and_hold_nothing():
    net, seen, held = padded_net("zeros", depth=1), [], nn.Identity()

    def hook(module, args, output, held=held):
        seen.append(module)

    with hooking(net) as hooks:
        hooks.after(net.conv1, hook)
        away = copy.deepcopy(net)
        away(IMAGES)
        assert hooks.met_copies
        net(IMAGES)
    assert seen == [net.conv1]
    away(IMAGES), net(IMAGES)
    assert seen == [net.conv1]
    kept = weakref.ref(held)
    del hook, held
    gc.collect()
    assert kept() is None


def test_the_users_own_hooks_stay_on_the_copy():
    model, calls = CopyingItself(), []
    model.online.conv1.register_forward_hook(lambda *given: calls.append(1))
    probe.list_layers(model, IMAGES)
    assert hooks_of(model.target) == 1


def test_a_model_that_runs_copies_alone_is_an_error_that_says_what_to_pass():
    class Predictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = padded_net("zeros", depth=2)

        def forward(self, images):
            return copy.deepcopy(self.model)(images)

    with pytest.raises(ModelError, match=r"Predictor runs copies of its modules.*model\.model"):
        probe.list_layers(Predictor(), IMAGES)
    assert len(probe.list_layers(Predictor().model, IMAGES)) == 5
