"""Readouts of globally pooled vectors: known answers, an oracle on stored vectors, faults."""

import re

import numpy as np
import psutil
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import probe
from probe.errors import ArgumentError, ImagesError, ProbeWarning, TooLargeError
from probe.images.canvases import assign_cells, place_on_grid
from probe.intervals import jackknife
from probe.testing import noise_images, padded_net, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, GRID = 4, 3
IMAGES = noise_images(900, SIZE)
CHANCE = 1 / GRID**2
NOISE = 4 * np.sqrt(CHANCE * (1 - CHANCE) / len(IMAGES))


def pooled(model, images=IMAGES, **options):
    return probe.pooled(model, images, **{"grid": GRID, "batch_size": 300, "progress": False, **options})


@pytest.fixture(scope="module")
def with_zeros(one_thread):
    return pooled(padded_net("zeros"))


@pytest.mark.parametrize("net", [padded_net("circular"), pointwise_net()])
@pytest.mark.parametrize("colour", ["zero", "mean", [1.0, 0.0, -1.0]])
def test_a_net_that_cannot_know_position_is_at_chance(net, colour):
    result = pooled(net, colour=colour)
    assert result.chance.item() == CHANCE
    assert (abs(result.accuracy - CHANCE) < NOISE).all()


def test_chance_is_the_share_of_the_most_common_cell():
    counts = np.bincount(assign_cells(range(94), GRID**2, seed=0).numpy())
    assert counts.max() > counts.min()
    assert pooled(pointwise_net(depth=1), IMAGES[:94]).chance.item() == counts.max() / 94


def test_zero_padding_tells_the_cell(with_zeros):
    accuracy = with_zeros.accuracy.sel(readout="ordered")
    assert accuracy.sel(layer="conv4").item() > 5 * CHANCE
    assert accuracy.sel(layer="input").item() == pytest.approx(CHANCE, abs=NOISE)


def test_permuted_channels_tell_no_more_than_their_sum():
    images = noise_images(4500, SIZE) + 3
    accuracy = pooled(padded_net("zeros"), images, layers=["conv1", "conv4"], alpha=1e-6).accuracy
    for readout in ("permuted_by_image", "permuted_by_batch"):
        assert (abs(accuracy.sel(readout=readout) - accuracy.sel(readout="sum")) < 0.03).all(), readout
    assert (accuracy.sel(readout="sum") > 3 * CHANCE).all()
    assert (accuracy.sel(readout="sum") < accuracy.sel(readout="ordered") - 0.2).all()


def test_sorted_values_tell_more_than_the_sum_where_the_order_is_lost(with_zeros):
    accuracy = with_zeros.accuracy.sel(layer="conv4")
    assert accuracy.sel(readout="sorted") > accuracy.sel(readout="sum") + 0.1


def test_the_readout_of_a_layer_is_that_of_its_stored_averages(with_zeros):
    net, numbers = padded_net("zeros"), range(len(IMAGES))
    cells = assign_cells(numbers, GRID**2, seed=0)
    with torch.no_grad():
        vectors = net[:7](place_on_grid(IMAGES, cells, GRID)).mean(dim=(2, 3)).double().numpy()
    folds, cells = np.arange(len(IMAGES)) % 5, cells.numpy()
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    correct = []
    for fold in range(5):
        training = folds != fold
        fitted = LogisticRegression(C=100, max_iter=2000).fit(vectors[training], cells[training])
        correct.append((fitted.predict(vectors[~training]) == cells[~training]).mean())
    found = with_zeros.sel(layer="conv4", readout="ordered")
    assert found.accuracy.item() == pytest.approx(np.mean(correct), abs=0.04)


def test_errors_come_from_folds_of_images(with_zeros):
    by_fold = with_zeros.accuracy_fold
    assert by_fold.sizes["fold"] == 5
    np.testing.assert_allclose(by_fold.mean("fold"), with_zeros.accuracy, atol=1e-12)
    left_out = np.stack([by_fold.drop_sel(fold=fold).mean("fold") for fold in range(5)])
    np.testing.assert_allclose(
        with_zeros.accuracy_se, jackknife(with_zeros.accuracy.values, left_out, np.ones(5)), atol=1e-12
    )


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"images": IMAGES.split(100)}, {"num_workers": 1}])
def test_batches_and_forms_of_images_do_not_matter(with_zeros, options):
    layers = ["conv1", "conv4"]
    images = options.pop("images", torch.utils.data.TensorDataset(IMAGES))
    again = pooled(padded_net("zeros"), images, layers=layers, **options)
    expected = with_zeros.sel(layer=layers)
    for readout in ("ordered", "sum", "sorted"):
        np.testing.assert_allclose(
            again.accuracy.sel(readout=readout), expected.accuracy.sel(readout=readout), atol=2 / len(IMAGES)
        )


def test_only_what_is_asked_for_is_permuted():
    few = IMAGES[:90]
    net = pointwise_net(depth=1)
    assert pooled(net, few, permute=()).readout.values.tolist() == ["ordered", "sum", "sorted"]
    assert pooled(net, few, permute="batch").readout.values.tolist() == [
        "ordered",
        "permuted_by_batch",
        "sum",
        "sorted",
    ]


class MultisetNet(nn.Module):
    """Two channels that always hold the mean colour and its negative: their sum knows nothing, their order all."""

    def __init__(self):
        super().__init__()
        self.identity = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.dirac_(self.identity.weight)

    def forward(self, images):
        rows = torch.linspace(-1, 1, images.shape[2])[:, None] * (images != 0).any(dim=1, keepdim=True)
        return self.identity(torch.cat([rows, -rows], dim=1))


def test_what_permutation_leaves_is_what_the_sorted_values_tell():
    images = torch.rand(400, 3, 2, 2) + 1
    accuracy = pooled(MultisetNet(), images, grid=2, layers="identity").accuracy.sel(layer="identity")
    rows_alone = 0.5
    assert accuracy.sel(readout="ordered").item() == pytest.approx(rows_alone, abs=0.05)
    for blind in ("sum", "permuted_by_image", "permuted_by_batch", "sorted"):
        assert accuracy.sel(readout=blind).item() < 0.35, blind


def test_the_result_can_be_saved_and_says_how_it_was_made(with_zeros, tmp_path):
    again = probe.load(probe.save(with_zeros, tmp_path / "result.nc"))
    assert again.identical(with_zeros)
    assert '"grid": 3' in again.settings and again.attrs["n_images"] == 900
    assert all({"long_name", "units"} <= variable.attrs.keys() for variable in again.data_vars.values())


def test_the_model_is_left_as_it_was(left_as_found):
    net = padded_net("zeros").train()
    with left_as_found(net):
        pooled(net, IMAGES[:90], layers="conv1")


def test_vectors_that_would_not_fit_are_refused_beforehand(monkeypatch):
    memory = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(
        TooLargeError, match=r"averages of 900 images in 5 layers .*Choose fewer layers= or max_images="
    ):
        pooled(padded_net("zeros"))


def test_too_few_images_for_the_cells_are_refused():
    with pytest.raises(ImagesError, match=r"10 are too few for 9 cells: .* Pass at least 90 images"):
        pooled(padded_net("zeros"), IMAGES[:10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 1}, "grid=1: expected a whole number of at least 2"),
        ({"grid": 2.5}, "grid=2.5: expected a whole number"),
        ({"alpha": 0}, "alpha=0: expected a number above 0"),
        ({"permute": "channels"}, "permute='channels': expected some of image, batch"),
        ({"colour": "red"}, "colour='red': expected one of zero"),
        ({"colour": "black"}, "black and white are not known"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        pooled(padded_net("zeros"), IMAGES[:90], **options)


class BrokenNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.conv(images / torch.zeros(1))


def test_activations_that_are_not_finite_are_said_to_be_so():
    with pytest.warns(ProbeWarning, match="not finite: conv gave NaN or infinity and is not scored"):
        result = pooled(BrokenNet(), IMAGES[:90])
    assert result.valid.sel(layer=["input", "conv"]).values.tolist() == [True, False]
    assert result.accuracy.sel(layer="conv").isnull().all()


def test_a_model_of_fixed_size_says_where_it_failed():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * SIZE**2, 2))
    with pytest.raises(RuntimeError) as raised:
        pooled(net, IMAGES[:90])
    assert "while the model ran on the first image" in raised.value.__notes__[0]
