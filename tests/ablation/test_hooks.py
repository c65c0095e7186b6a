"""Ablation changes the named channels and nothing else, whatever the model looks like."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from captum.attr import LayerFeatureAblation
from torch import nn

import probe
from probe.errors import ArgumentError, LayerNotCalledError, LayerNotFoundError, LayoutError, ModelError
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise_images(4, 8)


def output_of(model, layer, images=IMAGES):
    """What one module gives, seen from outside."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    handle.remove()
    return seen


@pytest.fixture
def net():
    return padded_net("zeros").eval()


def test_the_named_channels_become_zero_and_all_before_and_beside_them_stays(net):
    before = {name: output_of(net, name)[0] for name in ("relu1", "conv2", "relu2")}
    with probe.ablate(net, {"conv2": [1, 5]}):
        after = {name: output_of(net, name)[0] for name in ("relu1", "conv2", "relu2")}
    kept = [channel for channel in range(16) if channel not in (1, 5)]
    assert after["relu1"].equal(before["relu1"])
    assert after["conv2"][:, kept].equal(before["conv2"][:, kept])
    assert after["conv2"][:, [1, 5]].count_nonzero() == 0
    assert before["conv2"][:, [1, 5]].abs().min() > 0
    assert not after["relu2"].equal(before["relu2"])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.features = padded_net("zeros", depth=3, width=6)
            self.classes = nn.Linear(6, 5)

    def forward(self, images):
        return self.classes(self.features(images).mean(dim=(2, 3)))


def test_zero_is_what_captum_ablates():
    model = Classifier().eval()
    with torch.no_grad():
        intact = model(IMAGES)
        changes = []
        for channel in range(6):
            with probe.ablate(model, {"features.relu2": [channel]}):
                changes.append((intact - model(IMAGES))[:, 3])
        mask = torch.arange(6).reshape(1, 6, 1, 1)
        captums = LayerFeatureAblation(model, model.features.relu2).attribute(IMAGES, target=3, layer_mask=mask)
    assert torch.stack(changes, dim=1).equal(captums[:, :, 0, 0])


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_ablating_nothing_is_bit_identical(net, mode):
    intact = net(IMAGES)
    with probe.ablate(net, {"conv1": [], "relu3": []}, mode=mode):
        assert net(IMAGES).equal(intact)
    with probe.ablate(net, {}):
        assert net(IMAGES).equal(intact)


@pytest.mark.parametrize("nested", [True, False])
def test_ablations_nest_also_on_one_layer(net, nested):
    if nested:
        with (
            probe.ablate(net, {"relu2": [1]}),
            probe.ablate(net, {"relu2": [2]}, mode="mean"),
            probe.ablate(net, {"relu1": [0]}),
        ):
            relu1, relu2 = output_of(net, "relu1")[0], output_of(net, "relu2")[0]
        assert relu2[:, 2].std(dim=(1, 2)).max() < 1e-6 < relu2[:, 2].max()
    else:
        with probe.ablate(net, {"relu2": [1], "relu1": [0]}):
            relu1, relu2 = output_of(net, "relu1")[0], output_of(net, "relu2")[0]
    assert relu1[:, 0].count_nonzero() == relu2[:, 1].count_nonzero() == 0
    assert relu2[:, 3].count_nonzero() > 0


def test_leaving_an_inner_block_leaves_the_outer_one(net):
    with probe.ablate(net, {"relu2": [1]}):
        outer = net(IMAGES)
        with probe.ablate(net, {"relu2": [2]}):
            assert not net(IMAGES).equal(outer)
        assert net(IMAGES).equal(outer)


class LivedInNet(nn.Module):
    """In training, with dropout, running statistics, a hook of the user's, and a frozen part."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout()
        self.conv.weight.requires_grad_(False)
        self.relu.register_forward_hook(lambda module, inputs, output: None)

    def forward(self, images):
        return self.dropout(self.relu(self.norm(self.conv(images))))


def test_everything_is_left_as_found(left_as_found):
    model = LivedInNet()
    with left_as_found(model), probe.ablate(model, {"conv": [0]}):
        pass
    model.eval()
    with left_as_found(model), torch.no_grad(), probe.ablate(model, {"conv": [0]}):
        model(IMAGES)
    with (
        pytest.raises(ZeroDivisionError),
        left_as_found(model),
        torch.no_grad(),
        probe.ablate(model, {"conv": [0], "norm": [1]}),
    ):
        model(IMAGES)
        1 / 0  # noqa: B018


def test_looking_at_the_layers_neither_trains_nor_draws():
    trained = []
    for ablated in (True, False):
        torch.manual_seed(0)
        model = LivedInNet()
        with probe.ablate(model, {"conv": []} if ablated else {}):
            trained.append((model(IMAGES), model.norm.running_mean.clone(), torch.rand(1)))
    assert all(one.equal(other) for one, other in zip(*trained, strict=True))


def test_gradients_pass_by_what_was_removed():
    model = Classifier()
    with probe.ablate(model, {"features.conv3": [2]}):
        model(IMAGES).sum().backward()
    gradient = model.features.conv3.weight.grad.abs().sum(dim=(1, 2, 3))
    assert gradient[2] == 0
    assert gradient[[0, 1, 3, 4, 5]].min() > 0


def test_what_later_changes_in_place_changes_the_ablated_copy(net):
    net.relu2.inplace = net.relu3.inplace = True
    with probe.ablate(net, {"conv2": [1]}):
        ablated = output_of(net, "relu2")[0]
    assert ablated[:, 1].count_nonzero() == 0


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, images):
        return self.relu(self.conv(self.relu(images)))


def test_a_reused_module_is_ablated_at_the_named_call_alone():
    model = Twice()
    first, second = output_of(model, "relu")
    with probe.ablate(model, {"relu_1": [0]}):
        for _ in range(2):
            unchanged, changed = output_of(model, "relu")
            assert unchanged.equal(first)
            assert changed[:, 0].count_nonzero() == 0
            assert changed[:, 1:].equal(second[:, 1:])
    with probe.ablate(model, {"relu": [0]}):
        assert output_of(model, "relu")[0][:, 0].count_nonzero() == 0


def test_an_aborted_pass_does_not_shift_the_calls():
    model = Twice()
    with probe.ablate(model, {"relu_1": [0]}):
        model(IMAGES)
        handle = model.conv.register_forward_hook(lambda module, inputs, output: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(IMAGES)
        handle.remove()
        assert output_of(model, "relu")[1][:, 0].count_nonzero() == 0


def test_threads_count_calls_by_themselves():
    model = Twice().eval()
    with probe.ablate(model, {"relu_1": [0]}), torch.no_grad():
        expected = model(IMAGES)
        with ThreadPoolExecutor(4) as pool:
            outputs = list(pool.map(lambda _: model(IMAGES), range(40)))
    assert all(output.equal(expected) for output in outputs)


def test_a_part_called_by_itself_is_ablated_once_the_model_has_run():
    model = Classifier()
    with probe.ablate(model, {"features.relu2": [0]}):
        with pytest.raises(ModelError, match="relu2 was called before the model"):
            model.features(IMAGES)
        model(IMAGES)
        assert output_of(model.features, "relu2")[0][:, 0].count_nonzero() == 0


def test_wrapped_models(net):
    with probe.ablate(net, {"conv2": [1]}):
        expected = net(IMAGES)
    wrapped = nn.DataParallel(net)
    for given, called in ((wrapped, wrapped), (net, wrapped)):
        with probe.ablate(given, {"conv2": [1]}):
            assert called(IMAGES).equal(expected)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_measurements_inside_the_block_of_a_wrapped_model(net, wrap):
    def measured():
        return probe.layerwise(net, IMAGES.repeat(5, 1, 1, 1), layers="conv2", progress=False).n_dead

    wrapped = wrap(net)
    with pytest.warns(probe.ProbeWarning), probe.ablate(wrapped, {"conv2": [0, 2]}):
        inside = measured()
    assert (inside - measured() == 2).all()


def test_compiled_models_run_eagerly_meanwhile(net):
    with probe.ablate(net, {"conv2": [1]}):
        expected = net(IMAGES)
    intact = net(IMAGES)
    compiled = torch.compile(net, backend="eager")
    assert compiled(IMAGES).equal(intact)
    for given, called in ((compiled, compiled), (net, compiled)):
        with probe.ablate(given, {"conv2": [1]}):
            assert called(IMAGES).equal(expected)
        assert called(IMAGES).equal(intact)


def test_a_compiled_part(net):
    with probe.ablate(net, {"conv2": [1]}):
        expected = net(IMAGES)
    net.conv2 = torch.compile(net.conv2, backend="eager")
    with torch.no_grad():
        net(IMAGES)
    with torch.no_grad(), probe.ablate(net, {"conv2": [1]}):
        assert net(IMAGES).equal(expected)


def test_double_precision_and_half(net):
    for dtype in (torch.float64, torch.bfloat16):
        net.to(dtype)
        with probe.ablate(net, {"relu4": [1]}, mode="mean"):
            output = net(IMAGES.to(dtype))
        assert output.dtype == dtype


def test_inference_mode_and_other_image_sizes(net):
    with torch.inference_mode(), probe.ablate(net, {"relu4": [1]}, mode="mean"):
        for size in (8, 12):
            assert net(noise_images(2, size))[:, 1].std(dim=(1, 2)).max() < 1e-6


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3)
        self.unused = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.pool(self.used(images)).flatten(1)


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ({"usde": [0]}, LayerNotFoundError, "no layer 'usde'.*Did you mean 'used'"),
        ({"used_1": [0]}, LayerNotFoundError, "no layer 'used_1'"),
        ({"unused": [0]}, LayerNotCalledError, "'unused' exists, but the forward pass never calls it"),
        ({"used": [4]}, ArgumentError, "channels of 'used': 4 is out of range; it has channels 0 to 3"),
        ({"used": [-1]}, ArgumentError, "-1 is out of range"),
        ({"used": [1, 1]}, ArgumentError, "1 is given twice"),
        ({"used": [0.5]}, ArgumentError, "expected channel numbers, found 0.5"),
        ({"pool": [0]}, LayerNotFoundError, "pool: its map has a single cell"),
        (None, ArgumentError, "channels: expected {layer name: channel numbers}, found NoneType"),
        ({"input": [0]}, ArgumentError, "'input' is no layer's output"),
        ({"*use*": [0]}, ArgumentError, "means several layers"),
    ],
)
def test_what_cannot_be_ablated_says_why(channels, error, message):
    model = Unused()
    with pytest.raises(error, match=message), probe.ablate(model, channels):
        model(IMAGES)


def test_an_output_that_is_no_map_is_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat = nn.Flatten(0)

        def forward(self, images):
            return self.flat(images)

    model = Model()
    with pytest.raises(LayoutError, match="flat"), probe.ablate(model, {"flat": [0]}):
        model(IMAGES)
