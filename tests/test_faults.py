"""Whatever goes wrong, the message says what and how to mend it, and everything is left as it was found."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import LayerNotCalledError, LayerNotFoundError, LayoutError, ModelError, ProbeWarning
from probe.testing import padded_net
from tests.lived_in import IMAGES, LivedInNet, run, scores

pytestmark = pytest.mark.usefixtures("one_thread")

MEASUREMENTS = [probe.list_layers, probe.collect, probe.layerwise, probe.channelwise]


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
        with pytest.warns(ProbeWarning, match=r"1 is left out: silent \(its output holds no tensor\)"):
            result = run(probe.layerwise, Net(), layers="all")
        assert json.loads(result.attrs["skipped"]) == {"silent": "its output holds no tensor"}

    def test_single_cells_are_listed_not_scored(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten())
        with pytest.warns(ProbeWarning, match=r"layers: 1 is left out: 2 \(its map has a single cell"):
            result = run(probe.layerwise, model)
        assert list(result.layer.values) == ["input", "0"]
        assert list(json.loads(result.attrs["skipped"])) == ["2"]
        assert json.loads(result.attrs["warnings"])[0].startswith("layers: 1 is left out")
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

        with pytest.raises(LayerNotFoundError, match=r"^maps='conv9': no layer 'conv9'"):
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
