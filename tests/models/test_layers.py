"""Which layers a model has, which are read by default, and how they are chosen."""

import pytest
from torch import nn

import probe
from probe.errors import ArgumentError, LayerNotCalledError, LayerNotFoundError, LayoutError
from probe.models.layers import layer_named, select_layers
from probe.models.modules import module_names
from probe.models.survey import survey
from probe.testing import noise_images, padded_net


@pytest.fixture
def net():
    return padded_net("zeros", depth=3)


def chosen(net, layers):
    selected, skipped = select_layers(layers, survey(net, noise_images(1)), module_names(net))
    assert skipped == {}
    return [layer.name for layer in selected]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("auto", ["input", "conv1", "conv2", "conv3"]),
        ("all", ["input", "conv1", "relu1", "conv2", "relu2", "conv3", "relu3"]),
        ("relu2", ["relu2"]),
        ("input", ["input"]),
        ("*1", ["conv1", "relu1"]),
        ("conv[23]", ["conv2", "conv3"]),
        (nn.ReLU, ["relu1", "relu2", "relu3"]),
        (["relu3", nn.Conv2d, "input"], ["input", "conv1", "conv2", "conv3", "relu3"]),
        (("conv1", "conv*"), ["conv1", "conv2", "conv3"]),
        pytest.param(iter(["relu1"]), ["relu1"], id="iterator"),
    ],
    ids=str,
)
def test_selection(net, layers, expected):
    assert chosen(net, layers) == expected


def test_selection_by_module(net):
    assert chosen(net, net.relu2) == ["relu2"]
    assert chosen(net, [net.conv3, net.conv1]) == ["conv1", "conv3"]


def test_a_module_means_all_its_calls():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    assert chosen(net, relu) == ["1", "1_1"]
    assert chosen(net, "1") == ["1"]
    assert chosen(net, nn.ReLU) == ["1", "1_1"]


def test_a_module_under_two_names_has_the_first():
    net = nn.Module()
    net.first = net.second = nn.Conv2d(3, 4, 3)
    net.forward = lambda images: net.second(images)
    assert chosen(net, "auto") == ["input", "first"]


@pytest.mark.parametrize(("layers", "near"), [("conv4", "'conv3'"), ("Conv1", "'conv1'"), ("zzz", "list_layers")])
def test_an_unknown_layer_is_an_error_that_offers_near_names(net, layers, near):
    with pytest.raises(LayerNotFoundError, match=f"no layer '{layers}'.*{near}"):
        chosen(net, layers)


def test_other_unusable_selections_are_errors(net):
    with pytest.raises(LayerNotFoundError, match="Conv2d is no part of this model"):
        chosen(net, nn.Conv2d(3, 3, 1))
    with pytest.raises(ArgumentError, match="found int"):
        chosen(net, [3])
    with pytest.raises(ArgumentError, match="found float"):
        chosen(net, 3.5)
    for empty in ([], nn.Conv3d):
        with pytest.raises(LayerNotFoundError, match="no layer with a map"):
            chosen(net, empty)


class Uncalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.extra = nn.Sequential(nn.Conv2d(4, 4, 1))

    def forward(self, images):
        return self.conv(images)


@pytest.mark.parametrize("layers", ["extra.0", "extra*", ["conv", "extra.0"]])
def test_a_layer_that_is_never_called_is_an_error_of_its_own(layers):
    with pytest.raises(LayerNotCalledError, match=r"'extra(\.0)?' exists, but the forward pass never calls it"):
        chosen(Uncalled(), layers)


def test_a_module_that_is_never_called_is_an_error_too():
    net = Uncalled()
    with pytest.raises(LayerNotCalledError, match=r"'extra\.0' exists"):
        chosen(net, net.extra[0])


def test_a_part_of_a_called_module_that_is_not_called_itself_names_it():
    net = nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(24 * 24, 2))
    net.forward = lambda images: net[1](*[net[0](images)] * 3)[0]
    with pytest.raises(LayerNotCalledError, match=r"'1\.out_proj'.*Its parent '1' is called"):
        chosen(net, "1.out_proj")


def test_single_cells_are_skipped_with_the_reason():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1), nn.Flatten(), nn.Linear(8, 2))
    selected, skipped = select_layers("all", survey(net, noise_images(1)), module_names(net))
    assert [layer.name for layer in selected] == ["input", "0"]
    assert list(skipped) == ["1", "2", "3", "4"]
    assert all("single cell" in reason for reason in skipped.values())
    with pytest.raises(LayerNotFoundError, match="2: its map has a single cell"):
        chosen(net, "2")


def test_single_cells_are_listed_in_the_result_and_not_scored():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1))
    with pytest.warns(probe.ProbeWarning, match="1 is left out: 2 "):
        result = probe.layerwise(net, noise_images(50), stimuli="natural", positions=100)
    assert result.layer.values.tolist() == ["input", "0"]
    assert result.attrs["skipped"] == '{"2": "its map has a single cell, which leaves no position to read"}'


class Windows(nn.Module):
    """Sixteen windows an image, on the first axis."""

    def forward(self, maps):
        return maps.unfold(2, 6, 6).unfold(3, 6, 6).permute(0, 2, 3, 4, 5, 1).reshape(-1, 36, maps.shape[1])


class InWindows(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.windows = nn.Conv2d(3, 4, 1), Windows()

    def forward(self, images):
        return self.windows(self.conv(images))


def test_windows_are_skipped_among_all_and_an_error_when_named():
    net = InWindows()
    selected, skipped = select_layers("all", survey(net, noise_images(1)), module_names(net))
    assert [layer.name for layer in selected] == ["input", "conv"]
    assert "(32, 36, 4), for 2 images, has no axis for the images" in skipped["windows"]
    with pytest.raises(LayoutError, match=r"windows \(Windows\): its output of shape \(32, 36, 4\)"):
        chosen(net, "windows")


def test_list_layers_shows_every_call_and_what_is_never_called():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)
            self.unused = nn.Identity()

        def forward(self, images):
            return self.head(self.relu(self.relu(self.conv(images))).mean((2, 3)))

    table = probe.list_layers(Net(), noise_images(1))
    assert table.index.tolist() == ["input", "conv", "relu", "relu_1", "head", "unused"]
    assert table["type"].tolist() == ["pixels", "Conv2d", "ReLU", "ReLU", "Linear", "Identity"]
    assert table["shape"].tolist()[:4] == [(3, 24, 24), (4, 22, 22), (4, 22, 22), (4, 22, 22)]
    assert table["call"].tolist()[:5] == [0, 0, 0, 1, 0]
    assert table["calls"].tolist() == [1, 1, 2, 2, 1, 0]
    assert table["auto"].tolist() == [True, True, False, False, False, False]
    assert table["note"].tolist()[4:] == ["a single cell: no position to read", "never called"]
    assert table["MB"].notna().tolist() == [True, True, True, True, False, False]


def test_list_layers_estimates_what_the_statistics_take(net):
    statistics = probe.collect(net, noise_images(10), progress=False)
    table = probe.list_layers(net, noise_images(1))
    for name in ("input", "conv2"):
        taken = sum(statistics.grams[stimulus, name].nbytes for stimulus in statistics.stimuli)
        assert table.MB[name] == pytest.approx(taken / 1e6, abs=6e-4)


@pytest.mark.parametrize("measure", [probe.layerwise, probe.channelwise])
@pytest.mark.parametrize(
    "select", [lambda net: nn.Conv2d, lambda net: [net.conv2, "conv3"], lambda net: iter(["conv*"])]
)
def test_layers_with_maps_are_chosen_as_layers_are(net, measure, select):
    result = measure(net, noise_images(60), layers=["conv2", "conv3"], maps=select(net), stimuli="natural")
    assert {map_.attrs["layer"] for name, map_ in result.items() if name.startswith("mean_map")} == {"conv2", "conv3"}


def test_one_layer_is_found_by_its_name_or_the_right_one_offered():
    model = padded_net(depth=2)
    found, names = survey(model, noise_images(1)), module_names(model)
    assert layer_named("conv2", found, names).n_channels == 16
    with pytest.raises(LayerNotFoundError, match=r"no layer 'conv3' among the 5 of this model\. Did you mean 'conv2'"):
        layer_named("conv3", found, names)
    with pytest.raises(LayerNotFoundError):
        layer_named("conv*", found, names)
