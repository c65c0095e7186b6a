"""Whether a model says the same of an image at two shifts: nets and stubs with known answers."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import probe
from probe.errors import ArgumentError, ImagesError
from probe.intervals import jackknife
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, SIZE = 40, 12


def coordinates(count=COUNT, size=SIZE):
    """Images whose pixels hold their row, their column and the image number."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    number = torch.arange(count)[:, None, None].expand(count, size, size)
    return torch.stack([row.expand(count, size, size), column.expand(count, size, size), number], dim=1).float() / 20


class Stub(nn.Module):
    """Predicts a function of the row and column that the upper left pixel came from, and of the image number."""

    def __init__(self, classes, told):
        super().__init__()
        self.classes, self.told = classes, told
        self.seen = []

    def forward(self, images):
        corner = (images[:, :, 0, 0] * 20).round().long()
        self.seen.append(corner)
        return functional.one_hot(self.told(*corner.T) % self.classes, self.classes).float()


def consistency(model, images, **options):
    return probe.shift_consistency(model, images, progress=False, **{"law": "crop", "reach": 4} | options)


def pooled_net(padding, *, stride=1, pool=nn.AdaptiveAvgPool2d, bias=True):
    net = padded_net(padding, depth=2, width=12).double()
    net.conv2.stride = (stride, stride)
    if not bias:
        for module in (net.conv1, net.conv2):
            module.bias = None
    return nn.Sequential(net, pool(1), nn.Flatten()).requires_grad_(False)


class TestStubs:
    def test_a_constant_is_consistent(self):
        result = consistency(Stub(3, lambda row, column, number: 0 * row + 1), coordinates())
        assert result.consistency.item() == result.unchanged.item() == 1
        assert (result.distance_consistency == 1).all() and result.consistency_high == 1
        # Of 40 images without an exception, up to 1 − 0.025^(1/40) may be one.
        assert result.consistency_low.item() == pytest.approx(0.025 ** (1 / COUNT))

    def test_the_parity_of_the_row_is_consistent_where_parities_are_equal(self):
        net = Stub(2, lambda row, column, number: row)
        result = consistency(net, coordinates(400), stride=2)
        rows = result.offset.sel(axis="row")
        equal = (rows.isel(view=0) - rows.isel(view=1)) % 2 == 0
        np.testing.assert_array_equal(result.same, equal)
        # Of 25 offsets of 5 rows, 3 of them even: (15 · 14 + 10 · 9) of 25 · 24 pairs.
        assert result.consistency.item() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2000))
        assert result.consistency_low < 0.5 < result.consistency_high
        assert (result.phase_consistency.sel(row_phase=0) == 1).all()
        assert (result.phase_consistency.sel(row_phase=1) == 0).all()
        assert result.phase_pairs.sum() == 2000
        np.testing.assert_array_equal(result.distance_consistency, [0, 1, 0, 1])
        np.testing.assert_array_equal(result.phase, [1, 0, 1, 0])
        assert result.unchanged.item() == 0

    def test_phases_are_those_of_the_second_shift_from_the_first(self):
        result = consistency(Stub(3, lambda row, column, number: row * column + number), coordinates(100), stride=3)
        sums, counts = np.zeros((3, 3)), np.zeros((3, 3))
        for same, pairs in zip(result.same.values, result.offset.values, strict=True):
            for value, (first, second) in zip(same, pairs, strict=True):
                sums[tuple((second - first) % 3)] += value
                counts[tuple((second - first) % 3)] += 1
        np.testing.assert_array_equal(result.phase_pairs, counts)
        np.testing.assert_allclose(result.phase_consistency, sums / counts)

    def test_the_interval_is_as_wide_as_the_error_says_where_pairs_are_independent(self):
        result = consistency(Stub(2, lambda row, column, number: row), coordinates(400), stride=2)
        half = (result.consistency_high - result.consistency_low).item() / 2
        assert half == pytest.approx(1.96 * result.consistency_se.item(), rel=0.1)

    @pytest.mark.parametrize("reference", ["pair", "unshifted"])
    def test_a_stub_that_reads_the_image_sees_exactly_the_offsets_that_are_told(self, reference):
        net = Stub(2, lambda row, column, number: row)
        result = consistency(net, coordinates(), reference=reference, batch_size=COUNT, pairs=3)
        shown = torch.stack(net.seen[-11:])  # the diagonal of 5, and 3 pairs
        order = shown[0, :, 2].argsort()
        views = shown[5:, order, :2].unflatten(0, (3, 2)).permute(2, 0, 1, 3)
        np.testing.assert_array_equal(result.offset, views)
        np.testing.assert_array_equal(shown[:5, :, 0], np.arange(5)[:, None].repeat(COUNT, 1))
        np.testing.assert_array_equal(shown[:5, :, 1], np.arange(5)[:, None].repeat(COUNT, 1))
        assert (result.offset.isel(view=0) != result.offset.isel(view=1)).any("axis").all()
        if reference == "unshifted":
            assert (result.offset.isel(view=0) == 2).all()

    def test_published_pairs_are_shared_and_kayhan_has_65_windows_on_the_diagonal(self):
        net = Stub(2, lambda row, column, number: 0 * row)
        images = coordinates(4, 70)
        result = consistency(net, images, law="kayhan", reach=None, batch_size=4)
        shown = torch.stack(net.seen[-75:])
        assert shown[:65, 0, 0].tolist() == shown[:65, 0, 1].tolist() == list(range(65))
        assert (result.offset == result.offset.isel(image=0)).all()
        assert result.attrs["n_shifts"] == 64**2
        assert result.sizes["distance"] == 64
        assert np.isnan(result.consistency_se) and np.isnan(result.consistency_low)  # one draw alone

    def test_chaman_counts_pairs_that_coincide(self):
        """Of a net that answers to any shift, the published law says once in 36 that it does not."""
        net = Stub(36, lambda row, column, number: row * 6 + column)
        images = coordinates(6, 6)
        results = [consistency(net, images, law="chaman", reach=None, seed=seed, diagonal=False) for seed in range(60)]
        coincide = [bool((r.offset.isel(view=0) == r.offset.isel(view=1)).all()) for r in results]
        assert [r.consistency.item() for r in results] == [float(same) for same in coincide]
        assert 1 <= sum(coincide) <= 7  # 60 / 36 are expected

    def test_accuracy_is_the_mean_of_what_is_right_and_images_are_told_apart_by_it(self):
        net = Stub(4, lambda row, column, number: number + (row >= 3))
        images = coordinates()
        labels = torch.arange(COUNT) % 4
        labels[:10] += 1  # of these it is right once the row is 3 or more
        labels %= 4
        labels[20] = -1  # has none
        result = consistency(net, TensorDataset(images, labels), labels=True)
        right = np.tile(np.arange(COUNT)[:, None] >= 10, (1, 5))
        right[:, 3:] = ~right[:, 3:]
        expected = np.where(np.arange(COUNT)[:, None] == 20, np.nan, right)
        np.testing.assert_array_equal(result.diagonal_correct, expected)
        np.testing.assert_allclose(result.diagonal_accuracy, np.nanmean(expected, axis=0))
        assert result.accuracy.item() == pytest.approx(np.nanmean(expected))
        same = result.same.mean("pair").values
        known = np.arange(COUNT) != 20
        parts = {"all": known | True, "right": right[:, 2] & known, "wrong": ~right[:, 2] & known}
        for name, members in parts.items():
            assert result.consistency.sel(subset=name).item() == pytest.approx(same[members].mean())
        assert np.isclose(result.distance_consistency.sel(distance=1).item(), 3 / 4)
        assert result.attrs["void_labels"] == '{"-1": 0.025}'

    def test_an_image_never_changes_if_no_shift_shown_changes_it(self):
        net = Stub(2, lambda row, column, number: (row == 4) & (column == 0))  # never on the diagonal
        result = consistency(net, coordinates(300))
        met = ((result.offset.sel(axis="row") == 4) & (result.offset.sel(axis="column") == 0)).any(["pair", "view"])
        assert result.unchanged.item() == pytest.approx(1 - met.mean().item())
        assert 0.05 < result.unchanged.item() < 0.95

    def test_the_error_is_that_of_the_mean_over_images(self):
        result = consistency(Stub(2, lambda row, column, number: row + number * column), coordinates(60))
        same = result.same.mean("pair").values
        assert result.consistency_se.item() == pytest.approx(same.std(ddof=1) / np.sqrt(60))
        left_out = (same.sum() - same) / 59
        assert result.consistency_se.item() == pytest.approx(jackknife(same.mean(), left_out, np.ones(60)))


class TestNets:
    def test_circular_nets_of_stride_one_never_change(self):
        result = consistency(pooled_net("circular"), noise_images(30, SIZE).double(), law="circular")
        assert result.consistency.item() == result.unchanged.item() == 1
        embedded = consistency(
            pooled_net("circular"), noise_images(30, SIZE).double(), law="circular", compare="embedding"
        )
        np.testing.assert_allclose(embedded.same, 1, atol=1e-14)
        assert embedded.same_neighbour.item() == 1

    def test_circular_nets_with_a_stride_are_equal_at_multiples_of_it(self):
        net = pooled_net("circular", stride=2)
        result = consistency(net, noise_images(60, SIZE).double(), law="circular", compare="embedding")
        assert result.attrs["stride"] == 2
        phases = result.phase_consistency.values
        assert phases[0, 0] == pytest.approx(1, abs=1e-14)
        assert (np.delete(phases.ravel(), 0) < 1 - 1e-6).all()
        even = result.distance.values % 2 == 0
        np.testing.assert_allclose(result.distance_consistency[even], 1, atol=1e-14)
        assert (result.distance_consistency[~even] < 1 - 1e-6).all()

    @pytest.mark.parametrize("padding", ["zeros", "valid"])
    def test_an_object_clear_of_the_border_on_an_empty_canvas(self, padding):
        """Without biases, what is outside is 0 as on the canvas, and the greatest answer is the same wherever."""
        images = functional.pad(noise_images(20, 4), (8, 8, 8, 8)).double()
        net = pooled_net(padding, pool=nn.AdaptiveMaxPool2d, bias=False)
        for law in ("zero", "crop"):
            result = consistency(net, images, law=law, compare="embedding")
            np.testing.assert_allclose(result.same, 1, atol=1e-14)
        shifted = consistency(pooled_net("zeros"), images[:, :, 6:-6, 6:-6], law="zero", compare="embedding")
        assert shifted.consistency < 0.999  # cut off by the border, and with biases

    def test_cosines_and_nearest_are_those_of_plain_passes(self):
        net, images = pooled_net("zeros", stride=2), noise_images(15, SIZE).double()
        result = consistency(net, images, compare="embedding", pairs=2)
        offsets = result.offset.values
        vectors = np.stack(
            [
                [
                    [net(image[None, :, r : r + 8, c : c + 8])[0].numpy() for r, c in pair]
                    for pair in of_image
                ]
                for image, of_image in zip(images, offsets, strict=True)
            ]
        )  # fmt: skip
        lengths = np.linalg.norm(vectors, axis=-1)
        expected = (vectors[:, :, 0] * vectors[:, :, 1]).sum(-1) / lengths.prod(axis=-1)
        np.testing.assert_allclose(result.same, expected, atol=1e-12)
        ranked = NearestNeighbors(n_neighbors=15, metric="cosine").fit(vectors[:, 0, 0])
        nearest = [
            [next(other for other in row if other != own) for own, row in enumerate(ranked.kneighbors(part)[1])]
            for part in (vectors[:, 0, 0], vectors[:, 0, 1])
        ]
        assert result.same_neighbour.item() == pytest.approx(np.mean(np.equal(*nearest)))
        assert 0 < result.same_neighbour.item() < 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"law": "roll"}, ArgumentError, "law='roll'"),
        ({"pairs": 0}, ArgumentError, "pairs=0: expected None or a whole number"),
        ({"stride": 1.5}, ArgumentError, "stride=1.5"),
        ({"reference": "first"}, ArgumentError, "reference='first': expected one of pair, unshifted"),
        ({"compare": "logits"}, ArgumentError, "compare='logits': expected one of classes, embedding"),
        ({"labels": torch.arange(COUNT)}, ArgumentError, "expected True or False, found a Tensor.*TensorDataset"),
        ({"labels": True, "compare": "embedding"}, ArgumentError, "an embedding has no accuracy"),
        ({"labels": True}, ImagesError, "label"),
        ({"reach": 20}, ImagesError, "12×12 pixels, they cannot be shifted by 20"),
        ({"forward": lambda model, images: images}, ArgumentError, r"the shape \(32, 3, 8, 8\).*forward="),
        ({"forward": lambda model, images: images[:, :1, 0, 0]}, ArgumentError, "expected .image, class."),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        consistency(pooled_net("zeros").float(), noise_images(COUNT, SIZE), **options)


def test_maps_of_classes_as_labels_are_refused():
    maps = TensorDataset(noise_images(6, SIZE), torch.zeros(6, SIZE, SIZE, dtype=torch.long))
    with pytest.raises(ImagesError, match="expected one class for each image, found a map"):
        consistency(pooled_net("zeros").float(), maps, labels=True)
