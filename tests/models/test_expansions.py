"""Pointwise expansions are found, tried, and measured as all other layers are."""

import contextlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.models.expansions import Expansion, expansion_of
from probe.sums.expansion_gram import ExpansionGram, gives
from probe.sums.gram import Gram
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")


class Odd(nn.Conv2d):
    """A subclass, which may do anything."""


class Bottleneck(nn.Module):
    """A zero-padded convolution, from which position comes, and expansions of each kind behind it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.expand = nn.Conv2d(4, 16, 1)
        self.stride = nn.Conv2d(4, 12, 1, stride=2, bias=False)
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 16)
        self.tokens = nn.Linear(4, 20)

    def forward(self, images):
        maps = self.conv(images).relu()
        last = self.norm(maps.permute(0, 2, 3, 1))
        return self.expand(maps), self.stride(maps), self.linear(last), self.tokens(last.flatten(1, 2))


EXPANSIONS = ["expand", "stride", "linear", "tokens"]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Bottleneck()


def shaded_images(count):
    return noise_images(count, 10) + torch.linspace(-1, 1, 10)[:, None]


def direct(monkeypatch):
    """Measure expansions as all other layers are."""
    monkeypatch.setattr("probe.models.capture.expansion_of", lambda *_: None)


def measure(net, images, **options):
    options = {"layers": EXPANSIONS, "targets": ("row", "radius"), "progress": False} | options
    return probe.collect(net, images, **options)


def kinds(statistics):
    return {type(gram) for gram in statistics.grams.values()}


def assert_same_scores(first, second, atol=1e-9, **options):
    found, expected = (probe.layerwise(statistics, **options) for statistics in (first, second))
    for name, values in expected.data_vars.items():
        assert np.allclose(found[name], values, atol=atol, equal_nan=True), name


@pytest.mark.parametrize(
    ("module", "n_sources"),
    [
        (nn.Conv2d(2, 6, 1), 2),
        (nn.Conv2d(2, 6, 1, padding="same"), 2),
        (nn.Conv2d(2, 6, 1, stride=(2, 3)), 2),
        (nn.Conv2d(2, 5, 1), None),
        (nn.Conv2d(2, 6, 3), None),
        (nn.Conv2d(2, 6, (1, 3)), None),
        (nn.Conv2d(2, 6, 1, padding=1), None),
        (nn.Conv2d(2, 6, 1, groups=2), None),
        (Odd(2, 6, 1), None),
        (nn.Conv2d(2, 6, 1).bfloat16(), None),
        (nn.ReLU(), None),
    ],
)
def test_what_is_an_expansion(module, n_sources):
    images = torch.randn(3, 2, 7, 8, dtype=next((p.dtype for p in module.parameters()), torch.float32))
    output = module(images)
    expansion = expansion_of(module, (images,), output)
    assert (expansion is not None) == (n_sources is not None)
    if expansion is not None:
        assert expansion.sources.shape == (3, n_sources, *output.shape[2:])
        given = torch.einsum("oc,nchw->nohw", expansion.weight, expansion.sources) + expansion.bias[:, None, None]
        assert torch.allclose(given, output, atol=1e-6)
    assert expansion_of(module, (), output) is None


@pytest.mark.parametrize("positions", [None, 15])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_are_those_of_the_outputs_themselves(net, monkeypatch, positions, dtype):
    net, images = net.to(dtype), shaded_images(60).to(dtype)
    found = measure(net, images, positions=positions)
    assert kinds(found) == {ExpansionGram}
    direct(monkeypatch)
    expected = measure(net, images, positions=positions)
    assert kinds(expected) == {Gram}
    assert_same_scores(found, expected, atol=1e-9 if dtype == torch.float64 else 1e-4)
    assert probe.layerwise(found).r2.max() > 0.1


def test_channels_are_ranked_alike(net, monkeypatch):
    images = noise_images(40, 10)
    found = probe.rank_channels(net.double(), images.double(), "expand", method="readout")
    direct(monkeypatch)
    expected = probe.rank_channels(net, images.double(), "expand", method="readout")
    assert np.allclose(found.score, expected.score, atol=1e-9)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}])
def test_batch_size_plays_no_part(net, options):
    images = noise_images(20, 10).double()
    assert_same_scores(measure(net.double(), images), measure(net, images, **options))


def test_two_kinds_of_sums_are_merged(net, monkeypatch, tmp_path):
    net, images = net.double(), noise_images(40, 10).double()
    options = {"positions": 20}
    whole, first, third = (measure(net, part, **options) for part in (images, images[:10], images[:10]))
    saved = measure(net, images[10:25], first_image=10, **options).save(tmp_path / "second.pt")
    direct(monkeypatch)
    plain = measure(net, images[25:], first_image=25, **options)
    merged = first.merge(probe.Statistics.load(saved))
    assert kinds(merged) == {ExpansionGram}
    assert_same_scores(merged.merge(plain), whole)
    assert_same_scores(plain.merge(third).merge(probe.Statistics.load(saved)), whole)


def test_estimates_count_the_sources(net):
    images = noise_images(10)
    statistics, table = measure(net, images, targets=("row", "column")), probe.list_layers(net, images)
    for name in EXPANSIONS:
        taken = sum(statistics.grams[stimulus, name].nbytes for stimulus in statistics.stimuli)
        assert table.MB[name] == pytest.approx(taken / 1e6, abs=6e-4)


class TestWhatIsNoExpansionAfterAll:
    images = shaded_images(30).double()

    def assert_measured_directly(self, net, monkeypatch, n_sources=0, **options):
        options = {"layers": "expand", "positions": 20, "stimuli": "natural", "batch_size": 8} | options
        found = measure(net, self.images, **options)
        assert kinds(found) == {Gram}
        assert [layer.n_sources for layer in found.layers] == [n_sources]
        direct(monkeypatch)
        assert_same_scores(found, measure(net, self.images, **options))

    @pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
    def test_a_module_with_hooks_which_may_change_later_batches_alone(self, net, monkeypatch, kind):
        def change(module, *given):
            is_last_batch = len(given[0][0]) == len(self.images) % 8
            return given[-1] * 2 if kind == "register_forward_hook" and is_last_batch else None

        getattr(net.double().expand, kind)(change)
        self.assert_measured_directly(net, monkeypatch)

    @pytest.mark.parametrize("kind", ["register_module_forward_hook", "register_module_forward_pre_hook"])
    def test_a_hook_on_all_modules(self, net, monkeypatch, kind):
        handle = getattr(torch.nn.modules.module, kind)(lambda *_: None)
        with contextlib.ExitStack() as stack:
            stack.callback(handle.remove)
            self.assert_measured_directly(net.double(), monkeypatch)

    @pytest.mark.filterwarnings("ignore:2 channels do not vary")
    @pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
    def test_ablated_channels(self, net, monkeypatch, mode):
        with probe.ablate(net.double(), {"expand": [1, 2]}, mode=mode):
            self.assert_measured_directly(net, monkeypatch)

    def test_a_forward_of_its_own(self, net, monkeypatch):
        original = net.double().expand.forward
        net.expand.forward = lambda maps: original(maps).abs()
        self.assert_measured_directly(net, monkeypatch)

    def test_a_class_that_was_changed_is_found_by_a_trial(self, net, monkeypatch):
        original = nn.Conv2d.forward

        def without_the_lower_half(module, maps):
            output = original(module, maps).clone()
            output[:, :, output.shape[2] // 2 :] = 0
            return output

        monkeypatch.setattr(nn.Conv2d, "forward", without_the_lower_half)
        self.assert_measured_directly(net.double(), monkeypatch, n_sources=4, positions=None)

    def test_a_call_that_hides_its_input_from_the_second_batch_on(self, net, monkeypatch):
        class Hiding(nn.Module):
            def __init__(self):
                super().__init__()
                self.expand, self.n_calls = net.double().expand, 0

            def forward(self, images):
                self.n_calls += 1
                maps = torch.cat([images, images[:, :1]], dim=1)
                return self.expand(maps) if self.n_calls < 3 else self.expand(input=maps)

        options = {"layers": "expand", "positions": 20, "stimuli": "natural", "batch_size": 10}
        found = measure(Hiding(), self.images, **options)
        assert kinds(found) == {Gram}
        direct(monkeypatch)
        assert_same_scores(found, measure(Hiding(), self.images, **options))

    def test_weights_that_a_parent_writes_for_each_batch(self, net, monkeypatch):
        class Hypernet(nn.Module):
            def __init__(self):
                super().__init__()
                self.expand = nn.Conv2d(3, 12, 1).double()

            def forward(self, images):
                self.expand.weight.data.copy_(torch.linspace(-1, 1, 36).view(12, 3, 1, 1) + images.mean())
                return self.expand(images)

        self.assert_measured_directly(Hypernet(), monkeypatch, n_sources=3)

    def test_an_expansion_along_another_axis(self, net, monkeypatch):
        class Across(nn.Module):
            def __init__(self):
                super().__init__()
                self.expand = nn.Linear(10, 30).double()

            def forward(self, images):
                return self.expand(images)

        self.assert_measured_directly(Across(), monkeypatch, layout={"expand": "NCHW"})

    @pytest.mark.parametrize("stride", [1, [2], (2,)])
    def test_a_stride_that_was_edited(self, net, monkeypatch, stride):
        net.double().expand.stride = stride
        self.assert_measured_directly(net, monkeypatch)


@pytest.mark.parametrize(
    ("factor", "is_given"), [(1.0, True), (1 + 1e-5, True), (1.01, False), (0.99, False), (torch.nan, False)]
)
def test_a_trial_allows_for_rounding_alone(factor, is_given):
    generator = torch.Generator().manual_seed(0)
    sources, weight = torch.randn(64, 4, generator=generator), torch.randn(12, 4, generator=generator)
    weight[3] = 0
    expansion = Expansion(torch.empty(0), weight, torch.full((12,), 5.0))
    outputs = sources @ weight.T + 5
    outputs[:, 3] = 5 * (1 + torch.finfo(torch.float32).eps)  # a channel that is constant, and rounded
    outputs[:, 7] = (outputs[:, 7] - 5) * factor + 5
    assert gives(expansion, outputs, sources) == is_given


class TestSourcesThatAreAllButEqual:
    """y = x₀ − x₁: products in single precision would not hold it, nor would those of a first image that is black."""

    @pytest.fixture
    def net(self, net):
        with torch.no_grad():
            net.conv.weight[1] = net.conv.weight[0] + 1e-4 * net.conv.weight[2]
            net.conv.bias[1] = net.conv.bias[0]
            net.expand.weight[:, :2, 0, 0] = torch.tensor([1.0, -1.0])
            net.expand.weight[:, 2:] = 0
            net.expand.bias.zero_()
        return net

    @pytest.mark.filterwarnings("ignore:fewer than 5 samples")
    @pytest.mark.parametrize("first", ["black", "quiet", "like the others"])
    @pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 1, "positions": 1}, {"batch_size": 16}])
    def test_single_precision_gives_what_double_gives(self, net, monkeypatch, first, options):
        images = shaded_images(60)
        images[0] *= {"black": 0, "quiet": 1e-3, "like the others": 1}[first]
        options = {"layers": "expand", "stimuli": "natural"} | options
        found = probe.layerwise(measure(net, images, **options))
        direct(monkeypatch)
        expected = probe.layerwise(measure(net.double(), images.double(), **options))
        assert expected.n_dead.item() == found.n_dead.item() == 0
        assert np.allclose(found.r2, expected.r2, atol=1e-4)


def test_a_source_that_varies_in_one_fold_alone(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(expand=nn.Conv2d(3, 12, 1))).double()
    images = shaded_images(40).double()
    groups = [index // 8 for index in range(40)]
    images[:, 0] = torch.where(torch.tensor(groups)[:, None, None] == 2, images[:, 0], 0.5)
    options = {"layers": "expand", "groups": groups, "stimuli": "natural"}
    found = measure(net, images, **options)
    assert kinds(found) == {ExpansionGram}
    direct(monkeypatch)
    assert_same_scores(found, measure(net, images, **options))


def test_a_layer_that_is_not_finite_is_marked(net):
    images = noise_images(30, 10)
    images[17, :, 4, 4] = torch.nan
    with pytest.warns(probe.ProbeWarning, match=r"not finite: .*expand"):
        result = probe.layerwise(net, images, layers=["expand"], positions=None, progress=False)
    assert not result.valid.any()
    with torch.no_grad():
        net.expand.weight[3] = torch.nan
    with pytest.warns(probe.ProbeWarning, match=r"not finite: expand"):
        result = probe.layerwise(net, noise_images(30, 10), layers=["expand"], progress=False)
    assert not result.valid.any()
