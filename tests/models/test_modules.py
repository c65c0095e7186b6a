"""The eager model inside its wrappers, and the models that cannot be read."""

import pytest
import torch
import torch.fx
import torchvision
from torch import nn

from probe.errors import ModelError
from probe.models.loan import run_model
from probe.models.modules import module_names, unwrap
from probe.models.survey import survey
from probe.testing import noise_images, padded_net


@pytest.fixture
def net():
    return padded_net("zeros", depth=3)


def test_wrappers_are_taken_off(net):
    assert unwrap(net) is net
    assert unwrap(nn.DataParallel(net)) is net
    assert unwrap(torch.compile(net)) is net
    assert unwrap(nn.DataParallel(torch.compile(net))) is net


def test_parts_that_are_compiled_keep_their_names():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), torch.compile(nn.Sequential(nn.ReLU())))
    assert list(module_names(net).values()) == ["0", "1", "1.0"]


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: torch.jit.script(net), "scripted or traced"),
        (lambda net: torch.jit.trace(net, noise_images(1)), "scripted or traced"),
        (lambda net: nn.Sequential(torch.jit.script(net)), "0 is a scripted or traced"),
        (lambda net: nn.Sequential(nn.LazyConv2d(3, 1)), "no values"),
        (lambda net: net.to("meta"), "parameter conv1.weight has no values"),
        (lambda net: net.forward, "found method"),
    ],
    ids=["scripted", "traced", "scripted part", "lazy", "meta", "no module"],
)
def test_models_that_cannot_be_read_are_errors(net, make, message):
    with pytest.raises(ModelError, match=message):
        unwrap(make(net))


class TestExported:
    def test_it_is_refused_with_the_cure(self):
        program = torch.export.export(padded_net(depth=2).eval(), (noise_images(2),))
        with pytest.raises(ModelError, match=r"model: it is exported.*Pass the model as it was before torch.export"):
            unwrap(program.module())
        with pytest.raises(ModelError, match=r"found ExportedProgram. Pass the model as it was before torch.export"):
            unwrap(program)

    def test_a_part_that_takes_other_batches_says_so(self):
        part = torch.export.export(nn.ReLU(), (noise_images(3),)).module()
        with pytest.raises((AssertionError, RuntimeError)) as caught:
            run_model(nn.Sequential(part), noise_images(2))
        assert "a part of the model was exported for other shapes" in str(caught.value.__notes__)

    def test_a_traced_model_keeps_its_blocks(self):
        vit = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16).eval()
        images = noise_images(1, 16)
        traced = torch.fx.symbolic_trace(vit)
        names = [layer.name for layer in survey(traced, images) if layer.default]
        assert names[:2] == ["input", "conv_proj"]
        assert [name for name in names if "encoder_layer" in name] == [
            "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1",
        ]  # fmt: skip
