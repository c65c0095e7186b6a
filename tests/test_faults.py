"""Whatever goes wrong, the message says what and how to mend it, and everything is left as it was found."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.errors import (
    ArgumentError,
    ImagesError,
    LayerNotCalledError,
    LayerNotFoundError,
    LayoutError,
    ModelError,
    ProbeWarning,
)
from probe.models.layers import Layer
from probe.reading.collecting import statistics_bytes
from probe.reading.options import Options
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise_images(20, 8)
MEASUREMENTS = [probe.list_layers, probe.collect, probe.layerwise, probe.channelwise]


def run(measure, model, images=IMAGES, **options):
    """Call a public function quietly, on every cell."""
    if measure is not probe.list_layers:
        options.setdefault("progress", False)
        if measure is not probe.channelwise:
            options.setdefault("positions", None)
    return measure(model, images, **options)


def scores(model, images=IMAGES, **options):
    return run(probe.layerwise, model, images, **options).drop_attrs()


class LivedInNet(nn.Module):
    """A net as users have it: half in training, partly frozen, with hooks of their own.

    It can be told to fail, on batches of at least so many images.
    """

    def __init__(self, failure=None, fails_from=0):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU(inplace=True)
            self.dropout = nn.Dropout()
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
            self.unused = nn.Conv2d(4, 4, 1)
        self.norm.eval()
        self.conv1.weight.requires_grad_(False)
        self.conv2.weight.grad = torch.ones_like(self.conv2.weight)
        self.norm.register_forward_hook(lambda module, inputs, output: None)
        self.norm.register_forward_hook(lambda module, inputs, output: output, prepend=True, always_call=True)
        self.conv2.register_forward_pre_hook(lambda module, inputs, kwargs: None, with_kwargs=True)
        self.conv2.register_full_backward_hook(lambda module, inputs, outputs: None)
        self.register_state_dict_post_hook(lambda *arguments: None)
        self.failure, self.fails_from = failure, fails_from

    def forward(self, images):
        maps = self.dropout(self.relu(self.norm(self.conv1(images))))
        if self.failure is not None and len(images) >= self.fails_from:
            raise self.failure
        return self.conv2(maps)


class UsersError(Exception):
    """An exception of the user's own."""


class FailingNet(nn.Module):
    """Fail at one run on a batch of so many images, counted from 0."""

    def __init__(self, size, run):
        super().__init__()
        self.layer = nn.Identity()
        self.size, self.runs_left = size, run

    def forward(self, images):
        if len(images) == self.size:
            self.runs_left -= 1
            if self.runs_left < 0:
                raise UsersError
        return self.layer(images)


@pytest.mark.parametrize("measure", MEASUREMENTS)
class TestLeftAsFound:
    def test_after_success(self, measure, left_as_found):
        model = LivedInNet()
        images = IMAGES.clone()
        with left_as_found(model):
            run(measure, model, images)
        assert torch.equal(images, IMAGES)

    @pytest.mark.parametrize("failure", [UsersError("my own"), RuntimeError("my own"), KeyboardInterrupt("my own")])
    @pytest.mark.parametrize("fails_from", [0, 20])
    def test_after_a_failure_in_forward(self, measure, failure, fails_from, left_as_found):
        model = LivedInNet(failure, 0 if measure is probe.list_layers else fails_from)
        with pytest.raises(type(failure), match="my own") as raised, left_as_found(model):
            run(measure, model, IMAGES)
        if isinstance(failure, Exception):
            assert "probe: while the model ran on" in raised.value.__notes__[0]

    @pytest.mark.parametrize(
        ("options", "error"),
        [({"layers": "conv9"}, LayerNotFoundError), ({"device": "gpu"}, ArgumentError)],
    )
    def test_after_a_wrong_argument(self, measure, options, error, left_as_found):
        model = LivedInNet()
        with pytest.raises(error), left_as_found(model):
            run(measure, model, **options)

    def test_after_a_failure_in_the_images(self, measure, left_as_found):
        def batches():
            torch.rand(1)
            if measure is not probe.list_layers:
                yield IMAGES
            raise UsersError("the camera is off")

        model = LivedInNet()
        with pytest.raises(UsersError, match="the camera is off"), left_as_found(model):
            run(measure, model, batches())


class TestUsersCode:
    @pytest.mark.parametrize(
        ("size", "run_number", "note"),
        [
            (2, 0, "the first image, shape (1, 3, 8, 8)"),
            (4, 0, "images 0 to 15 (natural), shape (4, 3, 8, 8)"),
            (4, 3, "images 1 to 16 (rolled), shape (4, 3, 8, 8)"),
        ],
    )
    def test_the_note_names_the_images_and_the_stimulus(self, size, run_number, note):
        with pytest.raises(UsersError) as raised:
            run(probe.collect, FailingNet(size, run_number), layers="layer", batch_size=4)
        assert raised.value.__notes__ == [f"probe: while the model ran on {note}."]

    def test_hooks_of_the_user_run_first_and_what_they_change_is_measured(self, left_as_found):
        plain, changed = padded_net(depth=2), padded_net(depth=2)
        changed.conv1.register_forward_hook(lambda module, inputs, output: 3 * output)
        with left_as_found(changed):
            result = run(probe.channelwise, changed, maps="conv1")
        expected = run(probe.channelwise, plain, maps="conv1")
        maps = [probe.results.layer_map(r, "mean_map", "conv1") for r in (result, expected)]
        np.testing.assert_allclose(maps[0], 3 * maps[1], rtol=1e-4, atol=1e-5)

    def test_training_mode_changes_neither_results_nor_buffers(self, left_as_found):
        model = LivedInNet().train()
        with left_as_found(model):
            result = scores(model)
        assert result.identical(scores(copy.deepcopy(model).eval()))

    def test_an_input_overwritten_in_place_is_whole_for_the_next_stimulus(self):
        class Overwriting(nn.Conv2d):
            def forward(self, images):
                return super().forward(images.mul_(0).add_(1))

        grey, before = noise_images(20, 8)[:, :1].contiguous(), noise_images(20, 8)[:, :1]
        first = scores(Overwriting(1, 2, 1), grey, layers="input", stimuli=("natural", "rolled"))
        second = scores(Overwriting(1, 2, 1), grey, layers="input", stimuli=("rolled", "natural"))
        assert torch.equal(grey, before)
        assert first.sel(stimulus="rolled").identical(second.sel(stimulus="rolled"))

    def test_draws_of_the_users_code_follow_from_the_seed(self):
        class Drawing(nn.Module):
            def __init__(self):
                super().__init__()
                self.drawn = nn.Identity()

            def forward(self, images):
                return self.drawn(images + torch.randn_like(images))

        model = Drawing()
        first, again, other = (scores(model, layers="drawn", seed=seed) for seed in (1, 1, 2))
        assert first.identical(again)
        assert not first.identical(other)

    def test_inside_inference_mode_statistics_can_be_merged_outside(self):
        model = padded_net(depth=1)
        with torch.inference_mode():
            first = run(probe.collect, model, IMAGES[:10])
        second = run(probe.collect, model, IMAGES[10:], first_image=10)
        assert first.merge(second).images == [(0, 10), (10, 20)]


class TestSeveralAtOnce:
    def test_threads_that_measure_one_model_wait_for_each_other(self, left_as_found):
        model = LivedInNet()
        expected = scores(LivedInNet())
        with left_as_found(model), ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda _: scores(model), range(3)))
        assert all(result.identical(expected) for result in results)

    def test_a_measurement_inside_a_measurement(self, left_as_found):
        model, inner = LivedInNet(), []

        def batches():
            yield IMAGES[:10]
            inner.append(scores(model))
            yield IMAGES[10:]

        with left_as_found(model):
            outer = scores(model, batches())
        expected = scores(LivedInNet())
        assert inner[0].identical(expected)
        np.testing.assert_allclose(outer.r2, expected.r2, atol=1e-5)


class TestModels:
    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.jit.script(padded_net(depth=2)),
            lambda: torch.jit.trace(padded_net(depth=2), IMAGES[:1]),
            lambda: nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(nn.ReLU())),
        ],
        ids=["scripted", "traced", "scripted part"],
    )
    @pytest.mark.parametrize("measure", MEASUREMENTS)
    def test_scripted_and_traced_models_are_refused(self, measure, make):
        model = make()
        with pytest.raises(ModelError, match=r"model: (it|1) is a scripted or traced module.*Pass the eager model"):
            run(measure, model)

    @pytest.mark.parametrize("model", [nn.Conv2d, "resnet18", None, torch.relu])
    def test_what_is_no_module(self, model):
        with pytest.raises(ModelError, match=r"model: expected a torch\.nn\.Module, found"):
            run(probe.layerwise, model)

    @pytest.mark.parametrize("model", [nn.LazyConv2d(4, 3), nn.Conv2d(3, 4, 3, device="meta")])
    def test_parameters_without_values(self, model):
        with pytest.raises(ModelError, match=r"the parameter weight has no values\. Load weights or run one forward"):
            run(probe.layerwise, model)

    def test_compiled_models_are_measured_as_their_originals(self, left_as_found):
        original = padded_net(depth=3)
        expected = scores(original)

        whole = torch.compile(copy.deepcopy(original), backend="eager")
        in_place = copy.deepcopy(original)
        in_place.compile(backend="eager")
        inside = copy.deepcopy(original)
        inside.conv2 = torch.compile(inside.conv2, backend="eager")
        function = FunctionInside(copy.deepcopy(original))
        for model in (whole, in_place, inside, function):
            with torch.no_grad():
                model(IMAGES)  # hooks that are set after the first compiled call would not be called
            with left_as_found(model):
                result = scores(model)
            renamed = result.assign_coords(layer=[name.removeprefix("net.") for name in result.layer.values])
            assert renamed.identical(expected)

    def test_wrappers_of_several_devices_are_taken_off(self, left_as_found):
        model = padded_net(depth=2)
        wrapped = nn.DataParallel(model)
        with left_as_found(wrapped):
            assert scores(wrapped).identical(scores(model))

    def test_distributed_wrapper(self, left_as_found):
        model = padded_net(depth=2)
        expected = scores(model)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            wrapped = nn.parallel.DistributedDataParallel(model)
            with left_as_found(wrapped):
                assert scores(wrapped).identical(expected)
        finally:
            torch.distributed.destroy_process_group()

    @pytest.mark.parametrize("precision", ["bfloat16", torch.float16])
    def test_autocast_stays_near_single_precision(self, precision, left_as_found):
        model = padded_net(depth=2)
        with left_as_found(model):
            result = scores(model, autocast=precision)
        np.testing.assert_allclose(result.r2, scores(model).r2, atol=0.02)


class FunctionInside(nn.Module):
    """A net with a compiled function, no compiled module."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.compiled = torch.compile(self.net.forward, backend="eager")

    def forward(self, images):
        return self.compiled(images)


class TestLayers:
    @pytest.mark.parametrize("measure", MEASUREMENTS)
    def test_near_names_are_offered(self, measure):
        with pytest.raises(LayerNotFoundError, match=r"no layer 'conv_2' among the .* Did you mean .*'conv2'"):
            run(measure, padded_net(depth=2), layers="conv_2")

    def test_without_near_names_the_list_is(self):
        with pytest.raises(LayerNotFoundError, match=r"no layer 'zzzz'.*probe\.list_layers"):
            run(probe.layerwise, padded_net(depth=2), layers="zzzz")

    def test_a_layer_that_is_never_called(self, left_as_found):
        model = LivedInNet()
        with pytest.raises(LayerNotCalledError, match="'unused' exists, but the forward pass never calls it"):
            run(probe.layerwise, model, layers=["conv1", "unused"])
        assert run(probe.list_layers, model).loc["unused", "note"] == "never called"
        with left_as_found(model):
            assert list(run(probe.layerwise, model, layers="*").layer.values)[:2] == ["input", "conv1"]

    def test_a_layer_that_is_not_called_again(self, left_as_found):
        class Moody(LivedInNet):
            def forward(self, images):
                maps = super().forward(images)
                return self.unused(maps) if len(images) < 4 else maps

        model = Moody()
        with (
            pytest.raises(LayerNotCalledError, match="unused was called for the first image, but not for a later"),
            left_as_found(model),
        ):
            run(probe.layerwise, model)

    @pytest.mark.parametrize("output", [None, "text", {}, [1, 2]])
    def test_an_output_without_a_tensor(self, output):
        class Silent(nn.Module):
            def forward(self, images):
                return output

        class Net(LivedInNet):
            def __init__(self):
                super().__init__()
                self.silent = Silent()

            def forward(self, images):
                self.silent(images)
                return super().forward(images)

        with pytest.raises(LayoutError, match=r"layers: silent \(Silent\): its output holds no tensor"):
            run(probe.layerwise, Net(), layers="silent")
        with pytest.warns(ProbeWarning, match=r"1 are left out: silent \(its output holds no tensor\)"):
            result = run(probe.layerwise, Net(), layers="all")
        assert json.loads(result.attrs["skipped"]) == {"silent": "its output holds no tensor"}

    def test_single_cells_are_listed_not_scored(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten())
        with pytest.warns(ProbeWarning, match=r"layers: 1 are left out: 2 \(its map has a single cell"):
            result = run(probe.layerwise, model)
        assert list(result.layer.values) == ["input", "0"]
        assert list(json.loads(result.attrs["skipped"])) == ["2"]
        assert json.loads(result.attrs["warnings"])[0].startswith("layers: 1 are left out")
        with pytest.raises(LayerNotFoundError, match=r"no layer with a map of more than one cell is left"):
            run(probe.layerwise, model, layers=["1", "3"])

    @pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
    def test_maps_are_chosen_as_layers_are(self, measure):
        model = padded_net(depth=2, width=4)
        expected = run(measure, model, maps=["conv1", "conv2"]).drop_attrs()
        for maps in (nn.Conv2d, [model.conv1, model.conv2], "conv*"):
            assert run(measure, model, maps=maps).drop_attrs().identical(expected)

    @pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
    def test_unknown_maps_are_told_before_the_run(self, measure):
        def batches():
            yield IMAGES
            raise AssertionError("read further")

        with pytest.raises(LayerNotFoundError, match="no layer 'conv9'"):
            run(measure, padded_net(depth=2), batches(), maps="conv9")

    def test_a_name_that_looks_like_markup(self, left_as_found, tmp_path):
        name = "<script>alert(1)</script>"
        model = nn.Sequential()
        model.add_module(name, nn.Conv2d(3, 4, 3))
        with left_as_found(model):
            result = run(probe.layerwise, model, maps=name)
        loaded = probe.load(probe.save(result, tmp_path / "result.nc"))
        assert loaded.identical(result)
        assert probe.results.layer_map(loaded, "mean_map", name).sizes["channel"] == 4


class Altering(nn.Module):
    """Set some channels to a value."""

    def __init__(self, channels, value):
        super().__init__()
        self.channels, self.value = channels, value

    def forward(self, maps):
        maps = maps.clone()
        maps[:, self.channels] = self.value
        return maps


def altered_net(channels, value):
    net = padded_net(depth=2, width=4)
    return nn.Sequential(net.conv1, Altering(channels, value), net.conv2)


class TestValues:
    def test_a_channel_of_huge_values_is_measured_like_any_other(self):
        plain, huge = padded_net(depth=1, width=4), padded_net(depth=1, width=4)
        with torch.no_grad():
            huge.conv1.weight[1:3] *= torch.tensor([1e-25, 1e25])[:, None, None, None]
            huge.conv1.bias[1:3] *= torch.tensor([1e-25, 1e25])
        expected, found = (run(probe.layerwise, net, layers="conv1") for net in (plain, huge))
        np.testing.assert_allclose(found.r2, expected.r2, atol=1e-5)
        expected, found = (run(probe.channelwise, net, layers="conv1") for net in (plain, huge))
        np.testing.assert_allclose(found.r2, expected.r2, atol=1e-5)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    def test_a_layer_that_is_not_finite_is_marked_and_the_others_are_scored(self, value, left_as_found):
        model = altered_net([1], value)
        with (
            pytest.warns(ProbeWarning, match=r"not finite: 1, 2 gave NaN or infinity and is not scored"),
            left_as_found(model),
        ):
            result = run(probe.layerwise, model, layers=["0", "1", "2"])
        assert result.valid.sel(layer="0").all()
        assert not result.valid.sel(layer=["1", "2"]).any()
        assert np.isfinite(result.r2.sel(layer="0")).all()
        assert np.isnan(result.r2.sel(layer=["1", "2"])).all()

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_channels_that_are_not_finite_are_marked_and_the_others_are_scored(self, value):
        with pytest.warns(ProbeWarning, match=r"1 channels do not vary or are not finite: NaN, in 1\."):
            result = run(probe.channelwise, altered_net([1], value), layers="1", maps="1")
        assert np.isnan(result.r2.values[1]).all()
        assert np.isfinite(result.r2.values[[0, 2, 3]]).all()
        assert np.isfinite(result.omega2.values[[0, 2, 3]]).all()

    def test_maps_of_a_layer_that_is_not_finite(self):
        with pytest.warns(ProbeWarning, match="not finite"):
            result = run(probe.layerwise, altered_net([1], torch.nan), layers="1", maps="1")
        assert np.isnan(probe.results.layer_map(result, "decoded_map", "1")).all()

    def test_dead_channels_are_counted_and_left_out(self):
        with pytest.warns(ProbeWarning, match=r"4 channels do not vary and are left out, in 1, 2|2 channels"):
            result = run(probe.layerwise, altered_net([1, 2], 7.0), layers=["0", "1"], stimuli="rolled")
        assert result.n_dead.values.tolist() == [[0], [2]]
        alive = nn.Sequential(padded_net(depth=2, width=4).conv1, Chosen([0, 3]))
        expected = run(probe.layerwise, alive, layers="1", stimuli="rolled")
        np.testing.assert_allclose(result.r2.sel(layer="1"), expected.r2.sel(layer="1"), atol=1e-6)
        with pytest.warns(ProbeWarning, match=r"2 channels do not vary or are not finite: NaN, in 1\."):
            channels = run(probe.channelwise, altered_net([1, 2], 7.0), layers="1", stimuli="rolled")
        assert np.isnan(channels.omega2.values[[1, 2]]).all()
        assert np.isfinite(channels.omega2.values[[0, 3]]).all()

    def test_a_layer_without_a_living_channel(self):
        with pytest.warns(ProbeWarning, match=r"4 channels do not vary"):
            result = run(probe.layerwise, altered_net([0, 1, 2, 3], 7.0), layers="1")
        assert result.n_dead.values.tolist() == [[4, 4]]

    def test_a_constant_target(self):
        targets = {
            "row": lambda h, w: np.linspace(-1, 1, h)[:, None].repeat(w, 1),
            "flat": lambda h, w: np.ones((h, w)),
        }
        with pytest.warns(ProbeWarning, match="target 'flat' is constant on the grid of .*: NaN"):
            result = run(probe.layerwise, padded_net(depth=1), targets=targets)
        assert np.isnan(result[["r2", "r2_null", "r2_control", "r2_se"]].sel(target="flat").to_array()).all()
        assert np.isfinite(result.r2.sel(target="row")).all()

    def test_few_samples_a_feature(self):
        with pytest.warns(ProbeWarning, match=r"fewer than 5 samples a feature in conv1.*Pass more images"):
            result = run(probe.layerwise, padded_net(depth=1, width=16), IMAGES[:20], positions=3)
        assert result.samples_per_feature.sel(layer="conv1") == 20 * 3 / 16


class Chosen(nn.Module):
    """Keep some channels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, maps):
        return maps[:, self.channels]


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"folds": 1}, r"folds=1: expected a whole number of at least 2"),
            ({"batch_size": 0}, r"batch_size=0: expected a whole number of at least 1"),
            ({"max_images": 0}, r"max_images=0: expected None \(all\) or a whole number"),
            ({"positions": "all"}, r"positions='all': expected 'auto', None"),
            ({"seed": -1}, r"seed=-1"),
            ({"num_workers": 1.5}, r"num_workers=1\.5"),
            ({"first_image": True}, r"first_image=True"),
            ({"stimuli": "natrual"}, r"stimuli='natrual': choose one or more.*natural, rolled, noise, constant"),
            ({"targets": "rwo"}, r"rwo"),
            ({"autocast": "float8"}, r"autocast='float8': expected None, 'bfloat16' or 'float16'"),
            ({"layers": 3.5}, r"layers"),
            ({"layout": "CHW"}, r"layout: unknown layout 'CHW'"),
            ({"groups": [0, 1, 2] * 10}, r"groups: 3 distinct labels are too few for folds=5"),
            ({"groups": list(range(19))}, r"groups: 19 labels, but image 19 has none\. Pass one label an image"),
            ({"transform": torch.flip}, r"transform: images is a tensor, which is taken as it is"),
        ],
    )
    def test_each_names_itself_and_what_it_takes(self, options, message, left_as_found):
        model = LivedInNet()
        with pytest.raises(ArgumentError, match=message), left_as_found(model):
            run(probe.collect, model, **options)

    def test_no_images_given(self):
        with pytest.raises(ArgumentError, match="images: none given"):
            probe.layerwise(padded_net(depth=1))

    @pytest.mark.parametrize("alpha", [0, -1, torch.nan])
    def test_a_penalty_that_is_none(self, alpha):
        with pytest.raises(ArgumentError, match=r"alpha=.*: expected a number above 0"):
            probe.layerwise(run(probe.collect, padded_net(depth=1)), alpha=alpha)

    def test_numbers_of_numpy_are_numbers(self, tmp_path):
        model = padded_net(depth=1)
        options = {"seed": np.int64(3), "folds": np.int32(4), "first_image": np.int64(0), "max_images": np.int64(20)}
        statistics = run(probe.collect, model, batch_size=np.int64(7), **options)
        loaded = probe.Statistics.load(statistics.save(tmp_path / "statistics.pt"))
        assert probe.layerwise(loaded).drop_attrs().identical(scores(model, seed=3, folds=4, batch_size=7))


class TestGroups:
    def test_images_of_one_label_share_a_fold(self):
        labels = ["a", "b", "c", "d", "e"] * 4
        options = Options(groups=labels)
        assert [options.fold_of(0, index) for index in range(10)] == [0, 1, 2, 3, 4] * 2

    @pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
    def test_any_sequence_of_labels(self, kind):
        labels = [index // 2 for index in range(20)]
        expected = scores(padded_net(depth=1), groups=labels)
        assert scores(padded_net(depth=1), groups=kind(labels)).identical(expected)

    def test_an_index_of_pandas_is_not_looked_at(self):
        import pandas as pd

        labels = pd.Series([index // 2 for index in range(20)], index=range(100, 120))
        assert scores(padded_net(depth=1), groups=labels).identical(
            scores(padded_net(depth=1), groups=labels.to_list())
        )

    def test_labels_that_cannot_be_ordered(self):
        with pytest.raises(ArgumentError, match=r"groups: .* cannot be sorted"):
            run(probe.collect, padded_net(depth=1), groups=[1, None, "a", 2, 3] * 4)


class TestSizes:
    def test_what_would_not_fit_is_refused(self, monkeypatch, left_as_found):
        model = padded_net(depth=2)
        memory = type("Memory", (), {"available": 100_000})
        monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
        with (
            pytest.raises(probe.errors.TooLargeError, match=r"statistics would take .* Choose fewer layers="),
            left_as_found(model),
        ):
            run(probe.collect, model)

    def test_the_estimate_is_what_is_kept(self):
        statistics = run(probe.collect, padded_net(depth=2))
        grams = sum(gram.nbytes for gram in statistics.grams.values())
        maps = sum(m.maps.nbytes for m in statistics.moments.values() if m.maps is not None)
        estimate = statistics_bytes(statistics.layers, Options(), grams=True, moments=statistics.layers)
        assert estimate == grams + maps
        assert all(isinstance(layer, Layer) for layer in statistics.layers)

    @pytest.mark.parametrize("count", [1, 4])
    def test_fewer_images_than_folds(self, count, left_as_found):
        model = LivedInNet()
        for measure in (probe.layerwise, probe.channelwise):
            with (
                pytest.raises(ImagesError, match=rf"{count} images leave {5 - count} of 5 folds without any"),
                left_as_found(model),
            ):
                run(measure, model, IMAGES[:count])


class TestTransforms:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_an_error_keeps_its_type_and_names_the_image(self, num_workers, left_as_found):
        model = LivedInNet()
        with pytest.raises(UsersError) as raised, left_as_found(model):
            run(probe.layerwise, model, TensorDataset(IMAGES), transform=broken_transform, num_workers=num_workers)
        told = str(raised.value) + "".join(getattr(raised.value, "__notes__", []))
        assert "cannot turn this one" in told
        assert "probe: while image 7 was read and transformed." in told


def broken_transform(image):
    if torch.equal(image, IMAGES[7]):
        raise UsersError("cannot turn this one")
    return image
