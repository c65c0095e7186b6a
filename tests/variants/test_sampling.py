"""Sub-sampling in another way: blurred before, or at the phase that the maps choose."""

import copy
import io
import operator
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

import probe
from probe.analyses.nets import cifar_resnet, small_net
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.testing import noise_images, padded_net
from probe.variants.padding import with_padding
from probe.variants.samplers import BlurPool
from probe.variants.sampling import with_sampling
from tests.conftest import state_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_residual_block_is_blurred_where_zhang_does():
    torch.manual_seed(0)
    block = torchvision.models.resnet18(weights=None).layer2[0].eval()
    model = nn.Sequential(nn.Conv2d(3, 64, 1), block).eval()
    images = noise_images(2, 10)
    with torch.no_grad():
        maps = model[0](images)
        blur = BlurPool(2)
        convolved = functional.relu(block.bn1(functional.conv2d(maps, block.conv1.weight, padding=1)))
        residual = block.bn2(block.conv2(blur(convolved)))
        shortcut = block.downsample[1](functional.conv2d(blur(maps), block.downsample[0].weight))
        torch.testing.assert_close(
            with_sampling(model, "blur", from_pixels=False)(images), functional.relu(residual + shortcut)
        )
    assert block.conv1.stride == (2, 2), "the original was changed"


def test_the_convolution_that_reads_the_pixels_is_left_unless_asked_for():
    net, images = small_net().eval(), torch.randn(1, 1, 32, 32)
    strides = {
        from_pixels: [
            module.stride
            for module in with_sampling(net, "blur", from_pixels=from_pixels).modules()
            if isinstance(module, nn.Conv2d)
        ]
        for from_pixels in (False, True)
    }
    assert strides == {False: [(2, 2), *[(1, 1)] * 3], True: [(1, 1)] * 4}
    assert with_sampling(net, "blur", from_pixels=True)(images).shape == net(images).shape


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "densenet121"])
def test_torchvision_models_keep_sizes_names_and_weights(name):
    model = torchvision.models.get_model(name, weights=None).eval()
    blurred, images = quietly(model, "blur"), torch.zeros(2, 3, 96, 96, device="meta")
    assert blurred.to("meta")(images).shape == model.to("meta")(images).shape
    assert blurred.state_dict().keys() == model.state_dict().keys()
    assert sum(isinstance(module, BlurPool) for module in blurred.modules()) >= 2


def test_a_pattern_too_fine_for_the_stride_is_seen_alike_at_both_phases():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, stride=2, bias=False)).requires_grad_(False)
    nn.init.ones_(net[0].weight)
    stripes = (torch.arange(8.0) % 2).expand(1, 1, 8, 8)
    assert (net(stripes).mean(), net(stripes.roll(1, 3)).mean()) == (0, 1)
    blurred = with_sampling(net, "blur", size=3, from_pixels=True)
    torch.testing.assert_close(blurred(stripes), torch.full((1, 1, 4, 4), 0.5))
    torch.testing.assert_close(blurred(stripes.roll(1, 3)), torch.full((1, 1, 4, 4), 0.5))


def test_a_pool_that_is_called_twice_is_blurred_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(2)

        def forward(self, images):
            return self.pool(self.pool(images))

    images = noise_images(1, 12)
    once = functional.max_pool2d(images, 2, stride=1)
    expected = BlurPool(2)(functional.max_pool2d(BlurPool(2)(once), 2, stride=1))
    torch.testing.assert_close(with_sampling(Twice(), "blur")(images), expected)


def trained_looking(model):
    """Give batch normalisation statistics that are not all alike."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model.double().eval()


def plain_net():
    """Strides of each kind: convolution, maximum, mean; windows that overlap and that do not."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 2, stride=2),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def resnet(name="resnet18"):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None)


def largest_change(net, images, shifts):
    """The largest change of the output by any shift, of the spread of the output over images."""
    with torch.no_grad():
        output = net(images)
        changes = [(net(images.roll(shift, (2, 3))) - output).abs().max() for shift in shifts]
    return float(max(changes) / output.std(dim=0).mean())


@pytest.mark.parametrize("order", ["padded first", "sampled first"])
@pytest.mark.parametrize("make", [plain_net, resnet])
def test_polyphase_circular_and_global_pooling_are_exactly_shift_invariant(make, order):
    model = trained_looking(make())
    generator = torch.Generator().manual_seed(0)
    if make is plain_net:
        images, shifts = (16, 16), [(row, column) for row in range(16) for column in range(16)]
    else:
        # Of the 32 × 32 offsets those of each row and column, and a few of both.
        images, shifts = (32, 32), [*((row, 5 * row % 32) for row in range(32)), (0, 1), (0, 31), (31, 0)]
    images = torch.randn(2, 3, *images, dtype=torch.float64, generator=generator)

    def converted(sampling, **settings):
        if order == "padded first":
            return with_sampling(with_padding(model, "circular"), sampling, **settings)
        return with_padding(with_sampling(model, sampling, **settings), "circular")

    assert largest_change(converted("polyphase"), images, shifts) < 1e-10
    few = shifts[1:8]
    with warnings.catch_warnings(action="ignore"):  # pooling of stride 1 before a blur leaves sizes that are not tried
        blurred = converted("blur", from_pixels=True)
    assert largest_change(blurred, images, few) > 1e-3
    assert largest_change(with_padding(model, "circular"), images, few) > 1e-2
    assert largest_change(with_sampling(model, "polyphase"), images, few) > 1e-3, "zeros at the border are seen"


def test_each_image_of_a_batch_has_its_own_phase():
    net = with_sampling(with_padding(trained_looking(plain_net()), "circular"), "polyphase")
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    shifted = torch.cat([images.roll((row, column), (2, 3)) for row in range(4) for column in range(4)])
    with torch.no_grad():
        torch.testing.assert_close(net(shifted), net(images).expand(16, -1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["regnet_x_400mf", "densenet121", "googlenet", "convnext_tiny"])
def test_branches_that_are_joined_keep_one_phase_whatever_their_order(name):
    """RegNet runs its shortcut first; DenseNet pools by means; GoogLeNet rounds sizes up; ConvNeXt has patches."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        settings = {"init_weights": False} if name == "googlenet" else {}
        model = trained_looking(torchvision.models.get_model(name, weights=None, **settings))
    net = with_padding(with_sampling(model, "polyphase", from_pixels=True), "circular")
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert largest_change(net, images, [(0, 1), (3, 0), (13, 22)]) < 1e-6


def test_the_shortcut_follows_the_phase_of_the_main_path():
    """The choice is written down by hand: it is made behind the block's first activation, for both branches."""
    block = trained_looking(resnet()).layer2[0]
    model = nn.Sequential(nn.Conv2d(3, 64, 1), block).double().eval()
    images = noise_images(2, 10).double()
    with torch.no_grad():
        maps = model[0](images)
        convolved = functional.relu(block.bn1(functional.conv2d(maps, block.conv1.weight, padding=1)))
        expected = []
        for image, main in zip(maps, convolved, strict=True):
            row, column = max(
                ((row, column) for row in (0, 1) for column in (0, 1)),
                key=lambda first: main[:, first[0] :: 2, first[1] :: 2].norm().item(),
            )
            kept, beside = (part[None, :, row::2, column::2] for part in (main, image))
            shortcut = block.downsample[1](functional.conv2d(beside, block.downsample[0].weight))
            expected.append(functional.relu(block.bn2(block.conv2(kept)) + shortcut))
        torch.testing.assert_close(with_sampling(model, "polyphase")(images), torch.cat(expected))


@pytest.mark.parametrize("sampling", ["blur", "polyphase"])
def test_shortcuts_that_are_slices_are_sampled_too(sampling):
    model = trained_looking(cifar_resnet(20))
    net = with_sampling(model, sampling)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not [node for node in probe_slices(net) if node]
    if sampling == "polyphase":
        assert largest_change(with_padding(net, "circular"), images, [(0, 1), (1, 0), (7, 9)]) < 1e-10


def probe_slices(net):
    """The strided slices that are left in the code of a model."""
    return [line for line in net.forward.source.splitlines() if "None, 2" in line]


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        *((name, "blur") for name in ("alexnet", "resnet50", "mobilenet_v2")),
        *((name, "polyphase") for name in ("alexnet", "resnet50", "mobilenet_v2", "squeezenet1_1")),
    ],
)
@pytest.mark.parametrize("size", [96, 75])
def test_maps_keep_their_sizes(name, sampling, size):
    model = torchvision.models.get_model(name, weights=None).eval()
    net, images = quietly(model, sampling).to("meta"), torch.zeros(2, 3, size, size, device="meta")
    model.to("meta")
    sizes = {}
    for key, made in (("before", model), ("after", net)):
        found = sizes.setdefault(key, {})
        handles = [
            module.register_forward_hook(lambda *given, name=name, found=found: found.update({name: given[2].shape}))
            for name, module in made.named_modules()
            if isinstance(module, nn.Linear) or name in ("features", "classifier.1")
        ]
        assert made(images).shape == (2, 1000)
        for handle in handles:
            handle.remove()
    assert sizes["after"].items() <= sizes["before"].items()


def quietly(model, sampling, **settings):
    with warnings.catch_warnings(action="ignore"):
        return with_sampling(model, sampling, **settings)


class Rich(nn.Module):
    """With weights that no run touches, a shared layer, hooks, an auxiliary output and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.again = self.pool
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)
        self.mask_token = nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, images, *, gain=1.0):
        maps = self.again(self.pool(self.stem(images)))
        return {"out": self.head(maps.mean((2, 3)) * self.scale) * gain}


@pytest.mark.parametrize("sampling", ["blur", "polyphase"])
def test_a_copy_is_whole_and_can_be_copied_saved_and_moved(sampling):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Rich().eval()
    called = []
    model.stem[0].register_forward_hook(Counting(called))
    before = state_of(model)
    net = with_sampling(model, sampling, from_pixels=True)
    after = state_of(model)
    for part in ("tensors", "modes", "hooks", "attributes"):
        assert after[part] == before[part]
    assert list(net.state_dict()) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor)
        assert net.state_dict()[name].data_ptr() != tensor.data_ptr()
    assert type(net) is Rich
    assert net.again is net.pool
    images = noise_images(3, 16)
    with torch.no_grad():
        expected = net(images)["out"]
        assert not torch.allclose(expected, model(images)["out"])
        written = io.BytesIO()
        torch.save(net, written)
        written.seek(0)
        for other in (copy.deepcopy(net), copy.deepcopy(copy.deepcopy(net)), torch.load(written, weights_only=False)):
            assert list(other.state_dict()) == list(model.state_dict())
            assert torch.equal(other(images)["out"], expected)
            other.unused.weight.zero_()
            other.head.weight.zero_()
            assert not torch.equal(other(images)["out"], expected), "it still runs the weights of the first"
            assert torch.equal(net(images)["out"], expected)
        torch.testing.assert_close(net(images, gain=2.0)["out"], 2 * expected)
        net.double()
        torch.testing.assert_close(net(images.double())["out"].float(), expected)
        net.float().to("meta")
        assert net(images.to("meta"))["out"].is_meta


class Counting:
    """A hook that can be copied and saved."""

    def __init__(self, called):
        self.called = called

    def __call__(self, *given):
        self.called.append(1)


def test_a_copy_can_be_trained():
    net = with_sampling(plain_net(), "polyphase").train()
    net(noise_images(4, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_under_valid_padding_maps_are_still_aligned():
    model = nn.Sequential(nn.Conv2d(3, 64, 1), resnet().layer2[0]).eval()
    images = noise_images(1, 24)
    for net in (
        with_sampling(with_padding(model, "valid"), "polyphase"),
        with_padding(with_sampling(model, "polyphase"), "valid"),
    ):
        assert net(images).shape == with_padding(model, "valid")(images).shape


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, images):
        return functional.dropout(self.pool(images), training=self.training)


def test_a_model_in_training_is_traced_as_it_is_measured():
    model = Dropping().train()
    net = with_sampling(model, "polyphase")
    assert model.training and net.training and net.pool.training
    images = noise_images(1, 8)
    torch.testing.assert_close(net.eval()(images), with_sampling(model.eval(), "polyphase")(images))


class Odd(nn.Module):
    """Sub-samples in ways that are not converted."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.power = nn.LPPool2d(2, 2)
        self.grid = nn.AdaptiveAvgPool2d(4)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)

    def forward(self, images):
        maps = self.stem(images)
        maps = functional.max_pool2d(maps, 2)
        maps = self.power(self.pool(maps))
        maps = maps[:, :, ::2]
        return self.up(self.grid(maps)) + functional.interpolate(images, size=8).mean(1, keepdim=True)


def test_what_is_not_converted_is_listed_in_one_warning():
    with pytest.warns(ProbeWarning) as caught:
        with_sampling(Odd(), "polyphase")
    (warning,) = caught
    assert str(warning.message) == (
        "sampling='polyphase': not converted: the model (max_pool2d in its code, strided slice in its code); "
        "pool (ceil_mode with padding); "
        "power (LPPool2d); grid (adaptive pooling to several cells). "
        "not exact: up (samples up, and does not put phases back); the model (maps of different phases meet)."
    )


def test_the_layer_that_reads_the_pixels_is_listed_unless_it_was_said_what_to_do():
    with pytest.warns(ProbeWarning, match=r"not converted: 0 \(reads the pixels; from_pixels=True converts it\)"):
        with_sampling(plain_net(), "blur")
    patches = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.MaxPool2d(2))
    with pytest.warns(ProbeWarning, match=r"not converted: 0 \(patch embedding; from_pixels=True converts it\)"):
        with_sampling(patches, "polyphase")
    with_sampling(patches, "polyphase", from_pixels=False)
    with_sampling(patches, "polyphase", from_pixels=True)


def test_a_patch_embedding_can_be_sampled_at_the_phase_of_the_image():
    patches = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1)).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shifts = [(row, column) for row in range(4) for column in range(4)]
    assert largest_change(with_sampling(patches, "polyphase", from_pixels=True), images, shifts) < 1e-12
    assert largest_change(patches, images, shifts) > 0.1


@pytest.mark.parametrize("sampling", ["blur", "polyphase"])
def test_a_model_in_which_nothing_is_converted_is_an_error(sampling):
    with pytest.raises(ModelError, match="nothing to convert: looked for were strides"):
        with_sampling(padded_net("zeros"), sampling)
    with pytest.raises(ModelError, match=r"Left as they are: conv_proj \((reads the pixels|patch embedding); from_pix"):
        with_sampling(torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16), sampling)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, images):
        return self.pool(images) if images.sum() > 0 else images


def test_a_model_that_cannot_be_converted_is_an_error_that_says_why():
    with pytest.raises(ModelError, match=r"torch\.fx cannot trace it.*TraceError"):
        with_sampling(Branching(), "blur")
    once = with_sampling(plain_net(), "polyphase")
    with pytest.raises(ModelError, match="converted already"):
        with_sampling(once, "polyphase")
    with pytest.raises(ModelError, match="converted already"):
        with_sampling(with_padding(once, "valid"), "polyphase")
    model = plain_net()
    model.forward = operator.itemgetter(0)
    with pytest.raises(ModelError, match="its method forward was replaced"):
        with_sampling(model, "polyphase")


def test_arguments_that_cannot_be_meant_are_errors():
    with pytest.raises(ArgumentError, match="sampling='blurred' is unknown; expected one of blur, polyphase"):
        with_sampling(plain_net(), "blurred")
    with pytest.raises(ArgumentError, match="size=3: only sampling='blur' has a filter"):
        with_sampling(plain_net(), "polyphase", size=3)


def test_layers_of_both_are_measured_side_by_side():
    """Without a border nothing tells position, in either; the layers are the same, and have the same maps."""
    model = padded_net("circular", depth=2)
    model.conv2.stride = (2, 2)
    images = noise_images(60, 16)
    before, after = (
        probe.layerwise(net, images, stimuli=["rolled"], layers=["conv1", "conv2", "relu2"], progress=False)
        for net in (model, with_sampling(model, "polyphase"))
    )
    assert before.layer.values.tolist() == after.layer.values.tolist()
    for result in (before, after):
        assert (abs(result.r2) < 0.03).all()
    table = probe.list_layers(with_sampling(model, "polyphase"), images[:1])
    assert {"conv2.phase", "conv2.polyphase"} <= set(table.index)


def test_layers_of_timm_that_pad_by_their_stride_are_converted():
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    images = noise_images(1, 64)
    for net in (with_sampling(model, "polyphase"), with_sampling(model, "blur", from_pixels=True)):
        assert net(images).shape == model(images).shape
        assert net.conv_stem.stride == (1, 1)


def test_pooling_that_averages_over_more_than_the_filter_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2), nn.AvgPool2d(8), nn.Flatten()).eval()
    blurred = probe.with_sampling(model, "blur")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # The mean over all that the last pooling reads is about that of the whole map, not that of a corner.
    expected = model[0](images).mean(dim=(2, 3))
    assert torch.allclose(blurred(images), expected, atol=0.02)
    with pytest.raises(ModelError, match="nothing to convert"):
        probe.with_sampling(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(8)), "blur")


@pytest.mark.parametrize("sampling", ["blur", "polyphase"])
def test_strides_of_clips_are_left_and_named(sampling):
    with pytest.raises(ModelError, match=r"over rows and columns, .* Left as they are: 0 \(Conv3d\); 1 \(MaxPool3d\)"):
        with_sampling(nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.MaxPool3d(2)), sampling)
