"""What can be read and what is read, against linear networks of positive weights, whose response shows every path."""

import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.ops.misc import FrozenBatchNorm2d, SqueezeExcitation

from probe.errors import ModelError
from probe.models.capture import reading
from probe.models.survey import survey
from probe.testing import noise_images, padded_net
from probe.windows.receptive_fields import effective_field, reached_cells, readable_pixels

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)


@pytest.fixture(scope="module")
def strided_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2)).eval()


def test_readable_pixels_are_those_that_change_the_cell(strided_net):
    image = torch.randn(1, 3, 20, 20)
    layer = survey(strided_net, image)[-1]
    window = (slice(4, 5), slice(7, 8))
    readable = readable_pixels(strided_net, [layer], {layer.name: window}, image)[layer.name]
    smooth = nn.Sequential(*[module for module in strided_net if not isinstance(module, nn.ReLU)]).double()
    pixels = image.double().requires_grad_()
    gradient = torch.autograd.grad(smooth(pixels)[..., 4, 7].sum(), pixels)[0][0].abs().sum(0)
    assert (readable == (gradient > 0).numpy()).all() and readable.sum() == 11 * 11
    touched = reached_cells(strided_net, [layer], torch.eye(20).roll(3, 1)[None, None].expand(1, 3, 20, 20))
    assert touched[layer.name].shape == (10, 10)


def test_the_effective_field_is_the_mean_square_gradient_of_all_channels():
    model = padded_net("zeros", depth=2, width=3).eval()
    images = noise_images(2, size=9)
    layer = survey(model, images[:1])[2 + 1]
    assert layer.name == "conv2"
    window = {"conv2": (slice(4, 5), slice(4, 5))}
    # Random signs make the cross terms of channels vanish in the mean alone.
    estimates = [effective_field(model, [layer], window, images, seed=seed)["conv2"] for seed in range(300)]
    pixels = images.clone().requires_grad_()
    outputs = model[:3](pixels)[:, :, 4, 4]
    exact = sum(
        torch.autograd.grad(outputs[:, c].sum(), pixels, retain_graph=True)[0].double().square().sum(1).mean(0)
        for c in range(3)
    ).numpy()
    np.testing.assert_allclose(np.mean(estimates, axis=0), exact, atol=0.1 * exact.max())


def named_model(name):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"init_weights": False} if name == "vgg11_bn" else {}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = torchvision.models.get_model(name, weights=None, **options).eval()
    if name == "vgg11_bn":
        model.classifier = nn.Linear(512 * 7 * 7, 4)  # its own three layers are 500 MB without a map
    return model


def positive(model):
    """Make a model linear, with positive weights and without gates, so that its response shows every path."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            kernel, stride, padding = module.kernel_size, module.stride, module.padding
            model.set_submodule(name, nn.AvgPool2d(kernel, stride, padding, module.ceil_mode))
        elif isinstance(module, (*ACTIVATIONS, nn.BatchNorm2d, nn.LayerNorm, SqueezeExcitation)):
            model.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.zeros_like(parameter) if name.endswith("bias") else torch.rand_like(parameter) + 0.5
            parameter.copy_(values / max(values[0].numel(), 1))
    return model.double()


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "vgg11_bn", "densenet121", "inception_v3", "googlenet", "convnext_tiny", "efficientnet_b0"),
        *("mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x0_5"),
    ],
)
def test_torchvision_models_read_what_linear_networks_of_their_kind_read(name, monkeypatch):
    model, linear = named_model(name), positive(named_model(name))
    image, size = torch.zeros(1, 3, 80, 84), (80, 84)
    layers = [layer for layer in survey(model, image) if layer.default and 1 < layer.height < 40]
    layers = layers[:: max(len(layers) // 6, 1)]
    spot = torch.zeros(1, 3, *size)
    spot[..., 50:52, 30] = 1
    window = {layer.name: (slice(layer.height // 2, layer.height // 2 + 1), slice(0, 1)) for layer in layers}
    touched = reached_cells(model, layers, spot)
    readable = readable_pixels(model, layers, window, image)
    monkeypatch.setattr(functional, "max_pool2d", functional.avg_pool2d)
    pixels = torch.ones_like(spot, dtype=torch.float64).requires_grad_()
    responses, sums = {}, {}

    def receive(layer, maps):
        responses[layer.name] = maps.detach()[0].sum(0) > 0  # in the end, of the spot
        sums[layer.name] = maps[..., *window[layer.name]].sum()

    with reading(linear, layers, receive) as run:
        run(pixels)
        gradients = {
            name: torch.autograd.grad(total, pixels, retain_graph=True)[0][0].sum(0) for name, total in sums.items()
        }
        run(spot.double())
    for layer in layers:
        gradient = gradients[layer.name]
        assert (touched[layer.name] == responses[layer.name].numpy()).all(), layer.name
        assert (readable[layer.name] == (gradient > 0).numpy()).all(), layer.name
        assert readable[layer.name].any()
    assert touched[layers[-1].name].any() and not touched[layers[0].name].all()


def frozen(**values):
    norm = FrozenBatchNorm2d(8)
    for name, value in values.items():
        getattr(norm, name).fill_(value)
    return norm


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(8), frozen(bias=-0.3), frozen(running_mean=-2.0, bias=0.5), frozen(weight=0.0)]
)
def test_constants_of_a_norm_are_no_paths(norm):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), norm, nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 1)).eval()
    top = torch.zeros(1, 3, 16, 16)
    top[..., 0, :] = 1
    last = survey(model, top)[4]
    assert last.name == "3"
    assert reached_cells(model, [last], top)["3"].any(axis=1).nonzero()[0].tolist() == [0, 1, 2]


def test_layers_that_read_no_pixel_and_unseen_code_are_refused():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Identity()

        def forward(self, images):
            return images + self.table(images.new_ones(images.shape).float())

    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            with warnings.catch_warnings(action="ignore"):
                self.code = torch.jit.script(doubled)
            self.after = nn.Conv2d(3, 3, 3).double()

        def forward(self, images):
            return self.after(self.code(images))

    image = torch.zeros(1, 3, 8, 8)
    for model, name in ((Table(), "table"), (Scripted(), "after")):
        layer = next(layer for layer in survey(model.double(), image.double()) if layer.name == name)
        with pytest.raises(ModelError, match=f"the output of {name} reads no pixel by functions that torch shows"):
            reached_cells(model, [layer], image)


def doubled(maps: torch.Tensor):
    return maps * 2


class OwnBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps):
        return maps * 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0.5


def test_a_gradient_of_its_own_is_noticed_and_switched_off_gradients_do_no_harm():
    class Model(nn.Module):
        def __init__(self, own):
            super().__init__()
            self.conv, self.own = nn.Conv2d(3, 3, 3, padding=1), own

        def forward(self, images):
            with torch.no_grad():
                maps = self.conv(images).detach()
            return self.conv(OwnBackward.apply(maps) if self.own else maps)

    image, window = torch.zeros(1, 3, 9, 9), {"conv_1": (slice(4, 5), slice(4, 5))}
    layer = survey(Model(own=False), image)[2]
    assert readable_pixels(Model(own=False), [layer], window, image)["conv_1"].sum() == 25
    with pytest.raises(ModelError, match="do not add up to those that arrive"):
        readable_pixels(Model(own=True), [layer], window, image)


def test_fields_of_clips_have_frames():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, (1, 2, 2), 1), nn.ReLU(), nn.Conv3d(4, 4, (5, 3, 1), padding=(2, 1, 0)))
    clips = torch.randn(2, 3, 12, 16, 20)
    layer = survey(model, clips[:1])[-1]
    window = {layer.name: (slice(6, 7), slice(4, 5), slice(5, 6))}
    readable = readable_pixels(model, [layer], window, clips[:1])[layer.name]
    # Seven frames, seven rows (3 cells of stride 2 and the kernel) and three columns, about frame 6, row 8, column 10.
    places = np.nonzero(readable)
    assert [(axis.min(), axis.max()) for axis in places] == [(3, 9), (5, 11), (9, 11)]
    assert readable.sum() == 7 * 7 * 3
    effective = effective_field(model, [layer], window, clips)[layer.name]
    assert effective.shape == (12, 16, 20) and not effective[~readable].any() and effective[readable].all()
    outside = torch.zeros(1, 3, 12, 16, 20)
    outside[:, :, 0] = 1
    touched = reached_cells(model, [layer], outside)[layer.name]
    assert touched.shape == (12, 8, 10) and touched[:4].all() and not touched[4:].any()
