"""Statistics do not depend on how the images arrive."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.errors import ArgumentError, LayerNotFoundError
from probe.images.stimuli import apply_stimulus
from probe.reading.cells import draw_cells
from probe.reading.collecting import statistics_bytes
from probe.reading.options import Options
from probe.readouts.targets import control_maps, target_maps
from probe.testing import noise_images, padded_net


def shaded_images(count, size=24):
    """Images that are bright on top, as photographs are: content tells the row."""
    return noise_images(count, size) + torch.linspace(2, -2, size)[:, None]


def collect_in_double(images, **options):
    net = padded_net("zeros", depth=2).double()
    return probe.layerwise(net, images, positions=30, maps="conv2", progress=False, **options)


def assert_same(first, second):
    for name, values in first.data_vars.items():
        assert np.allclose(values, second[name], atol=1e-9), name


class TestInvariance:
    images = shaded_images(23, 12).double()

    @pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"batch_size": 100}])
    def test_batch_size(self, options):
        assert_same(collect_in_double(self.images), collect_in_double(self.images, **options))

    def test_workers(self):
        rows = TensorDataset(self.images)
        assert_same(collect_in_double(self.images), collect_in_double(rows, num_workers=2, batch_size=6))

    def test_order_of_arrival(self):
        loader = DataLoader(TensorDataset(self.images), batch_size=4)
        batches = (self.images[start : start + 3] for start in range(0, 23, 3))
        expected = collect_in_double(self.images)
        assert_same(expected, collect_in_double(loader))
        assert_same(expected, collect_in_double(batches))

    def test_two_runs_merged(self, tmp_path):
        net = padded_net("zeros", depth=2).double()
        options = {"positions": 30, "progress": False}
        first = probe.collect(net, self.images[:9], **options)
        second = probe.collect(net, self.images[9:], first_image=9, **options)
        path = second.save(tmp_path / "second.pt")
        merged = first.merge(probe.Statistics.load(path))
        expected = probe.collect(net, self.images, **options)
        assert_same(probe.layerwise(expected, maps="conv2"), probe.layerwise(merged, maps="conv2"))
        assert_same(probe.channelwise(expected, maps="conv2"), probe.channelwise(merged, maps="conv2"))
        assert merged.facts.images_digest == expected.facts.images_digest
        assert merged.images == [range(23)]

    def test_collected_statistics_give_what_the_model_gives(self):
        net = padded_net("zeros", depth=2).double()
        statistics = probe.collect(net, self.images, progress=False)
        assert_same(probe.layerwise(net, self.images, progress=False), probe.layerwise(statistics))
        assert_same(probe.channelwise(net, self.images, progress=False), probe.channelwise(statistics))

    def test_the_same_bits_twice(self):
        net = padded_net("zeros", depth=2)
        first, second = (probe.layerwise(net, self.images.float(), progress=False) for _ in range(2))
        assert first.drop_attrs().identical(second.drop_attrs())

    def test_a_generator_is_read_once_for_all_stimuli(self):
        reads = []

        def batches():
            for start in range(0, 20, 5):
                reads.append(start)
                yield self.images[start : start + 5]

        result = probe.layerwise(
            padded_net("zeros", depth=2).double(), batches(), stimuli=tuple(probe.STIMULI), progress=False
        )
        assert reads == [0, 5, 10, 15]
        assert result.sizes["stimulus"] == 4
        assert np.isfinite(result.r2.sel(layer="conv2")).all()


def test_the_estimate_of_what_is_kept_is_what_is_kept():
    statistics = probe.collect(padded_net("zeros", depth=2), noise_images(20, 8), progress=False)
    grams = sum(gram.nbytes for gram in statistics.grams.values())
    maps = sum(moments.maps.nbytes for moments in statistics.moments.values())
    assert statistics_bytes(statistics.layers, Options(), grams=True, moments=statistics.layers) == grams + maps


def test_list_layers_shows_what_the_statistics_take():
    net, images = padded_net("zeros", depth=2), noise_images(20)
    gram = probe.collect(net, images, progress=False).grams["natural", "conv2"]
    assert probe.list_layers(net, images).loc["conv2", "MB"] == pytest.approx(2 * gram.nbytes / 1e6, abs=1e-3)


@pytest.mark.parametrize("count", [None, 11])
def test_sums_are_those_of_targets_positions_and_maps_by_hand(count):
    """Columns are 1, the targets, the targets elsewhere in the image, the controls of each, and the channels."""
    images, (height, width), seed = noise_images(13, 6)[:, :, :5].double() + 1, (5, 6), 3
    net = padded_net("circular", depth=1, width=4).double()
    settings = {"layers": "conv1", "positions": count, "seed": seed, "folds": 3, "first_image": 4, "batch_size": 5}
    statistics = probe.collect(net, images, progress=False, **settings)
    numbers = np.arange(4, 17)
    cells, elsewhere = draw_cells(seed, numbers, height * width, count)
    maps = target_maps({name: probe.TARGETS[name] for name in ("row", "column")}, height, width)
    targets, controls = maps.reshape(2, -1), control_maps(maps, seed).reshape(-1, height * width)
    for stimulus in ("natural", "rolled"):
        with torch.no_grad():
            shown = net.conv1(apply_stimulus(stimulus, images, numbers.tolist(), seed)).flatten(2).numpy()
        gram = statistics.grams[stimulus, "conv1"]
        for fold in range(3):
            rows = [
                np.concatenate([[1], targets[:, here], targets[:, there], controls[:, here], shown[image, :, here]])
                for image in np.flatnonzero(numbers % 3 == fold)
                for here, there in zip(cells[image], elsewhere[image], strict=True)
            ]
            columns = np.array(rows)
            columns[:, -4:] -= gram.pilot.numpy()
            np.testing.assert_allclose(gram.upper([fold]).triu(), np.triu(columns.T @ columns), atol=1e-9)
    assert statistics.images == statistics.expected == [range(4, 17)]
    assert statistics.settings["cells_per_image"] == {"conv1": count}


def test_layers_left_out_are_told_with_a_reason():
    net = nn.Sequential(
        nn.Conv2d(3, 2, 1), *(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1)) for _ in "abcde")
    )
    with pytest.warns(
        probe.ProbeWarning, match=r"layers: 5 are left out: 1\.1 \(.*single cell.*\), 2\.1 .* and 2 more\."
    ):
        statistics = probe.collect(net, noise_images(20, 8), progress=False)
    assert list(statistics.facts.skipped) == [f"{place}.1" for place in range(1, 6)]


def test_maps_of_a_layer_that_is_not_measured_are_refused_as_maps():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(LayerNotFoundError, match=r"^maps='1': no layer with a map of more than one cell"):
        probe.layerwise(net, noise_images(6), maps="1", progress=False)
    with pytest.raises(ArgumentError, match=r"^maps=3: expected"):
        probe.layerwise(net, noise_images(6), maps=3, progress=False)
    with pytest.raises(LayerNotFoundError, match=r"^maps='conv2': not among the 1 layer that layers= chooses"):
        probe.layerwise(padded_net("zeros", depth=2), noise_images(6), layers="conv1", maps="conv2", progress=False)
