"""Where in another image features find their nearest: nets with known answers, and plain loops."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError, ProbeWarning, TooLargeError
from probe.images.stimuli import apply_stimulus
from probe.intervals import jackknife
from probe.measures import matching
from probe.measures.matching import chance_of_same_place
from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")


def neighbours(model, images, layer, **options):
    return probe.neighbours(model, images, layer, progress=False, **options)


def loop(features, other, size, reach):
    """The share of cells whose nearest is within reach, and the mean distance: maps of shape (channel, row, column)."""
    one, candidates = (maps.flatten(1).T.numpy() for maps in (features, other))
    places = np.stack(np.divmod(np.arange(size**2), size), axis=1)
    found = places[NearestNeighbors(n_neighbors=1, metric="cosine").fit(candidates).kneighbors(one)[1][:, 0]]
    apart = np.abs(found - places)
    return (apart <= reach).all(axis=1).mean(), np.hypot(*apart.T).mean()


class TestKnownAnswers:
    @pytest.mark.parametrize("reach", [0, 1])
    def test_coordinates_are_found_at_the_same_place(self, reach):
        result = neighbours(CoordinateNet(), 1 + noise_images(12, 8) / 1000, "identity", reach=reach)
        assert (result.same_place == 1).all()
        assert (result.distance == 0).all()

    @pytest.mark.parametrize("padding", ["circular", "zeros"])
    def test_a_circular_net_on_rolled_images_is_at_chance(self, padding):
        result = neighbours(padded_net(padding), noise_images(200, 12, smooth=3), ["conv1", "conv4"])
        rolled = result.sel(stimulus="rolled")
        at_chance = (rolled.same_place_low <= result.chance) & (result.chance <= rolled.same_place_high)
        if padding == "circular":
            assert at_chance.all()
            # The places of two independent cells are as far apart as those of any two.
            np.testing.assert_allclose(rolled.distance, result.distance_chance, rtol=0.05)
        else:
            assert rolled.same_place.sel(layer="conv4") > 2 * result.chance.sel(layer="conv4")

    def test_content_at_the_same_place_is_found_there_unless_one_image_is_rolled(self):
        """All images have one picture in common: that tells nothing of the net, which knows no position."""
        images = noise_images(1, 12) + noise_images(100, 12, seed=1) / 20
        result = neighbours(pointwise_net(), images, "4", reach=2)
        assert result.same_place.sel(stimulus="natural") > 0.6
        rolled = result.sel(stimulus="rolled")
        assert rolled.same_place_low <= result.chance <= rolled.same_place_high

    def test_noise_without_position_is_at_chance_on_both(self):
        result = neighbours(pointwise_net(), noise_images(150, 10), "4")
        assert (result.same_place_low <= result.chance).all() and (result.chance <= result.same_place_high).all()
        assert (result.same_place_high - result.same_place_low < 0.02).all()

    def test_cells_that_are_equally_near_count_in_equal_parts(self):
        result = neighbours(pointwise_net(), torch.ones(8, 3, 6, 7), "4", positions=None)
        np.testing.assert_allclose(result.same_place, result.chance.item(), atol=1e-12)
        np.testing.assert_allclose(result.distance, result.distance_chance.item(), atol=1e-5)


@pytest.mark.parametrize(("height", "width", "reach"), [(5, 7, 0), (5, 7, 1), (4, 4, 2), (3, 9, 20)])
def test_chance_is_counted(height, width, reach):
    places = np.stack(np.divmod(np.arange(height * width), width), axis=1)
    apart = np.abs(places[:, None] - places[None])
    expected = (apart <= reach).all(axis=2).mean()
    assert chance_of_same_place(height, width, reach) == pytest.approx(expected, abs=1e-15)
    assert matching._chance_distance(height, width) == pytest.approx(np.hypot(*apart.transpose(2, 0, 1)).mean())


class TestAgainstPlainPasses:
    def test_two_pairs_of_images_by_hand(self):
        """Of four images, 2 can only be compared with 0, and 3 with 1."""
        net, images = padded_net("zeros", depth=2).double(), noise_images(4, 7).double()
        result = neighbours(net, images, ["conv1", "relu2"], reach=1, positions=None, seed=5)
        assert result.image.values.tolist() == [2, 3]
        for layer, part in (("conv1", net[:1]), ("relu2", net)):
            for stimulus in ("natural", "rolled"):
                other = apply_stimulus(stimulus, images, range(4), 5)
                with torch.no_grad():
                    maps, others = part(images), part(other)
                pairs = [loop(maps[i], others[i - 2], 7, reach=1) for i in (2, 3)]
                at = {"layer": layer, "stimulus": stimulus}
                np.testing.assert_allclose(result.same_place_image.sel(at), [share for share, _ in pairs], atol=1e-12)
                assert result.distance.sel(at).item() == pytest.approx(np.mean([far for _, far in pairs]))

    def test_mean_error_and_interval_leave_out_each_other_image_with_all_that_met_it(self):
        result = neighbours(padded_net("zeros"), noise_images(40, 8), "conv4")
        shares, others = result.same_place_image.values, result.other_image.values
        assert result.n_pairs == len(shares) == 38
        np.testing.assert_allclose(result.same_place, shares.mean(axis=0))
        met, sizes = np.unique(others, return_counts=True)
        assert sizes.max() > 1
        left_out = np.stack([shares[others != other].mean(axis=0) for other in met])
        np.testing.assert_allclose(result.same_place_se, jackknife(shares.mean(axis=0), left_out, sizes))
        half = stats.t.ppf(0.975, len(met) - 1) * result.same_place_se
        np.testing.assert_allclose(result.same_place_high - result.same_place, half)

    def test_the_interval_holds_chance_about_as_often_as_it_says(self, monkeypatch):
        """Also where one roll decides for all cells of the images that meet it: of images that are all alike.

        Were images taken for independent that are compared with the same one, it would in 64 of 100.
        """
        monkeypatch.setattr(matching, "_KEPT", 4)
        images = noise_images(1, 9) + noise_images(60, 9, seed=1) / 50
        hit = []
        for seed in range(40):
            result = neighbours(pointwise_net(depth=1), images, "0", reach=2, stimuli="rolled", seed=seed)
            hit.append(bool((result.same_place_low <= result.chance) & (result.chance <= result.same_place_high)))
        assert np.mean(hit) >= 0.85

    def test_drawn_cells_stand_for_all(self):
        net, images = padded_net("zeros"), noise_images(60, 12)
        every, some = (neighbours(net, images, "conv4", positions=positions) for positions in (None, 40))
        assert not np.allclose(every.same_place, some.same_place, atol=1e-9)
        np.testing.assert_allclose(some.same_place, every.same_place, atol=0.02)

    def test_layers_read_together_are_as_alone(self):
        net, images = padded_net("zeros"), noise_images(20, 8)
        both = neighbours(net, images, ["conv1", "conv4"])
        for layer in ("conv1", "conv4"):
            np.testing.assert_array_equal(both.same_place.sel(layer=[layer]), neighbours(net, images, layer).same_place)
        alone = neighbours(net, images, "conv4", stimuli="rolled")
        np.testing.assert_array_equal(alone.same_place, both.same_place.sel(layer=["conv4"], stimulus=["rolled"]))

    def test_tokens_are_compared_without_those_that_are_no_patches(self):
        timm = pytest.importorskip("timm")
        torch.manual_seed(0)
        net = timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=48, patch_size=8, depth=2
        ).eval()
        images = noise_images(4, 48)
        result = neighbours(net, images, "blocks.1", positions=None, stimuli="natural")
        assert result.n_cells.item() == 36
        with torch.no_grad():
            tokens = net.forward_intermediates(images, indices=[1], norm=False, intermediates_only=True)[0]
        expected = [loop(tokens[i], tokens[i - 2], 6, reach=1)[0] for i in (2, 3)]
        np.testing.assert_allclose(result.same_place_image.squeeze(), expected, atol=1e-6)


class TestReading:
    def test_nothing_depends_on_batches_or_on_the_form_of_the_images(self, monkeypatch):
        monkeypatch.setattr(matching, "_KEPT", 4)
        net, images = padded_net("zeros").double(), noise_images(41, 8).double()
        first = neighbours(net, images, "conv4").drop_attrs()
        data = TensorDataset(images)
        for other in (
            neighbours(net, images, "conv4", batch_size=7),
            neighbours(net, data, "conv4", batch_size=5, num_workers=1),
            neighbours(net, DataLoader(data, batch_size=6), "conv4"),
            neighbours(net, iter(images.split(9)), "conv4"),
        ):
            for name, variable in first.data_vars.items():
                np.testing.assert_allclose(other[name], variable, atol=1e-12, err_msg=name)
        assert not np.allclose(neighbours(net, images, "conv4", seed=1).same_place, first.same_place, atol=1e-9)

    def test_the_other_image_is_any_before_it_of_its_fold_with_the_same_chance(self, monkeypatch):
        """The number of each image is written into its features, and read from what is compared."""
        monkeypatch.setattr(matching, "_KEPT", 3)
        met = np.zeros((40, 40), dtype=int)
        compare = matching._compare

        def noted(one, other, view, number, options, reach, positions):
            met[number, round(other["natural"][view.layer.name][0, 0].item() * 40)] += 1
            return compare(one, other, view, number, options, reach, positions)

        monkeypatch.setattr(matching, "_compare", noted)
        images = (torch.arange(40) / 40)[:, None, None, None].expand(40, 3, 4, 4).clone()
        for seed in range(40):
            neighbours(nn.Conv2d(3, 3, 1), images, "input", stimuli="natural", seed=seed)
        n_before = np.arange(40) // 2
        for number in range(2, 40):
            assert met[number, number % 2 : number : 2].sum() == met[number].sum() == 40
        # The first of all and the one just before are met as often as each of those before.
        expected = 40 * (1 / n_before[2:]).sum()
        latest = sum(met[number, number - 2] for number in range(2, 40))
        first = sum(met[number, number % 2] for number in range(2, 40))
        for found in (latest, first):
            assert abs(found - expected) <= 5 * np.sqrt(expected)

    def test_no_more_is_kept_than_is_said(self, monkeypatch):
        asked = []
        monkeypatch.setattr(matching, "check_memory", lambda needed, *rest: asked.append((needed, *rest)))
        neighbours(padded_net(), noise_images(200, 8), ["conv1", "conv4"], batch_size=10)
        ((needed, _, what, cure),) = asked
        assert needed == (64 + 10) * 2 * 2 * 16 * 64 * 4
        assert what == "the features of 74 images in 2 layers" and "fewer layers" in cure

    def test_too_large_features_are_refused_beforehand(self, monkeypatch):
        monkeypatch.setattr("probe.reading.memory.psutil.virtual_memory", lambda: type("", (), {"available": 1000}))
        with pytest.raises(TooLargeError, match=r"the features of .* images in 1 layer would take"):
            neighbours(padded_net(), noise_images(10, 8), "conv4")

    def test_within_an_ablation_the_changed_features_are_compared(self):
        net, images = CoordinateNet(), 1 + noise_images(60, 8) / 1000
        before = neighbours(net, images, "identity").same_place
        with probe.ablate(net, {"identity": [3, 4]}):
            without = neighbours(net, images, "identity")
        assert (before == 1).all()
        assert (without.same_place_low <= without.chance).all() and (without.chance <= without.same_place_high).all()
        assert (neighbours(net, images, "identity").same_place == 1).all()

    def test_cells_without_features_are_left_out(self):
        net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
        net[0].weight.data = torch.eye(3)[:, :, None, None]
        images = 1 + noise_images(12, 6) / 1000
        images[:, :, :3] = 0
        result = neighbours(net, images, "0", stimuli="natural", reach=2, positions=None)
        assert np.isfinite(result.same_place).all()
        # Upper cells have no direction, so that the nearest lies in the lower three rows, all within reach of each.
        columns = sum(min(c + 2, 5) - max(c - 2, 0) + 1 for c in range(6)) / 36
        assert result.same_place.item() == pytest.approx(columns, abs=0.06)
        with pytest.warns(ProbeWarning, match="not scored: 0 gave NaN, infinity or only 0"):
            silent = neighbours(net, torch.zeros(6, 3, 6, 6), "0")
        assert np.isnan(silent.same_place).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reach": -1}, ArgumentError, "reach=-1: expected a whole number of at least 0"),
        ({"reach": 0.5}, ArgumentError, "reach=0.5"),
        ({"positions": 0}, ArgumentError, "positions=0: expected None .every cell. or a whole number"),
        ({"positions": "auto"}, ArgumentError, "positions='auto'"),
        ({"stimuli": "noise"}, ArgumentError, "stimuli: noise has no content to compare; expected natural or rolled"),
        ({"layer": "conv9"}, LayerNotFoundError, "conv9"),
        ({"max_images": 3}, ImagesError, "they give 1 pair of images. Pass at least 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        neighbours(padded_net(), noise_images(10, 8), **{"layer": "conv4"} | options)
