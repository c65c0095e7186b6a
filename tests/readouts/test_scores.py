"""Every score against scikit-learn or its formula, on stored activations."""

import functools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import probe
from probe.images.stimuli import apply_stimulus
from probe.intervals import half_width, jackknife
from probe.reading.cells import draw_cells
from probe.readouts.scores import position_bits, score_readout
from probe.readouts.targets import N_CONTROLS, control_maps, target_maps
from probe.sums.gram import Gram
from tests.activations import CASES, FOLDS, Same, activations, samples_of
from tests.oracles import crossed_products, crossed_r2

ALPHA = 1e-3

pytestmark = pytest.mark.filterwarnings("ignore:images. values reach")


def with_controls(names, size):
    """Targets and their controls at each cell, shape (cell, target, 1 + control)."""
    targets = target_maps({name: probe.TARGETS[name] for name in names}, *size)
    controls = [control_maps(target[None], seed=0)[:, 0] for target in targets]
    return np.stack(
        [np.stack([t, *c]).reshape(1 + N_CONTROLS, -1).T for t, c in zip(targets, controls, strict=True)], 1
    )


@pytest.mark.parametrize(
    ("case", "dtype"),
    # With hardly more samples than features R² falls below −10, where only double precision holds six digits.
    [(case, dtype) for case in CASES for dtype in (torch.float64, torch.float32)][:-1],
)
@pytest.mark.filterwarnings("ignore:fewer than 5 samples", "ignore:10 images")
def test_r2_equals_scikit_learn(case, dtype):
    maps = activations(**CASES[case]).to(dtype)
    tolerance = 1e-6 if dtype == torch.float64 else 1e-4
    names = ("row", "column", "radius", "stripes_row")
    result = probe.layerwise(
        Same(), maps, layers="same", targets=names, stimuli="natural", positions=None, progress=False
    ).sel(layer="same", stimulus="natural")
    features, folds = samples_of(maps)
    design = np.tile(with_controls(names, maps.shape[2:]), (len(maps), 1, 1))
    with threadpool_limits(1):
        products = crossed_products(features, design.reshape(len(design), -1), folds).reshape(design.shape)
    deviations = (design - design.mean(axis=0)) ** 2
    everything = 1 - products.sum(axis=0) / deviations.sum(axis=0)
    np.testing.assert_allclose(result.r2, everything[:, 0], atol=tolerance)
    np.testing.assert_allclose(result.r2_control, everything[:, 1:].mean(axis=1), atol=tolerance)
    parts = [(products[folds == f, :, 0].sum(axis=0), deviations[folds == f, :, 0].sum(axis=0)) for f in range(FOLDS)]
    np.testing.assert_allclose(result.r2_fold.T, [1 - sse / sst for sse, sst in parts], atol=tolerance)
    left_out = [
        1 - products[folds != f, :, 0].sum(axis=0) / deviations[folds != f, :, 0].sum(axis=0) for f in range(FOLDS)
    ]
    by_hand = np.sqrt((FOLDS - 1) / FOLDS * ((left_out - np.mean(left_out, axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(result.r2_se, by_hand, atol=tolerance)


@pytest.mark.filterwarnings("ignore:1 channel does not vary")
def test_the_default_path_equals_scikit_learn():
    """Sampled cells, two stimuli, oblong maps, and a channel that does not vary, in one layer."""
    maps = activations(count=40, n_channels=5, size=(9, 14), seed=3)
    maps[:, 3] = 2.5
    n_cells, drawn, seed = 9 * 14, 21, 4
    result = probe.layerwise(Same(), maps, layers="same", positions=drawn, seed=seed, progress=False)
    numbers = list(range(len(maps)))
    cells, shuffled = draw_cells(seed, numbers, n_cells, drawn)
    flat = target_maps({name: probe.TARGETS[name] for name in ("row", "column")}, 9, 14).reshape(2, -1).T
    assert result.n_channels.item() == 5 and (result.n_dead == 1).all()
    assert result.samples_per_feature.item() == 40 * drawn / 4
    for stimulus in ("natural", "rolled"):
        shown = apply_stimulus(stimulus, maps, numbers, seed).flatten(2).transpose(1, 2).numpy()
        features = np.concatenate([shown[image, cells[image]] for image in numbers])[:, [0, 1, 2, 4]]
        folds = np.repeat(np.arange(len(maps)) % FOLDS, drawn)
        r2 = crossed_r2(features, flat[cells.ravel()], folds)
        found = result.sel(layer="same", stimulus=stimulus)
        np.testing.assert_allclose(found.r2, r2, atol=1e-6)
        np.testing.assert_allclose(found.r2_null, crossed_r2(features, flat[shuffled.ravel()], folds), atol=1e-6)
        np.testing.assert_allclose(found.bits, -0.5 * np.log2(1 - np.maximum(r2, 0)), atol=1e-5)


def test_errors_over_folds_of_unequal_size_are_those_of_the_delete_m_j_jackknife():
    maps, groups = activations(), np.repeat(range(5), [3, 11, 8, 6, 2])
    result = probe.layerwise(
        Same(), maps, layers="same", stimuli="natural", positions=None, groups=groups, progress=False
    ).squeeze(["layer", "stimulus"])
    features, _ = samples_of(maps)
    folds = np.repeat(groups, 42)
    targets = np.tile(target_maps({n: probe.TARGETS[n] for n in ("row", "column")}, 6, 7).reshape(2, -1).T, (30, 1))
    products, deviations = crossed_products(features, targets, folds), (targets - targets.mean(axis=0)) ** 2

    def r2(chosen):
        return 1 - products[chosen].sum(axis=0) / deviations[chosen].sum(axis=0)

    np.testing.assert_allclose(result.r2, r2(folds >= 0), atol=1e-9)
    left_out = np.stack([r2(folds != fold) for fold in range(5)])
    np.testing.assert_allclose(result.r2_se, jackknife(r2(folds >= 0), left_out, [3, 11, 8, 6, 2]), rtol=1e-6)


class TestWithoutPosition:
    """r2 is 0 in expectation, whatever the number of samples, and its interval holds it."""

    REPETITIONS = 150

    @staticmethod
    @functools.cache
    def scores(per_channel, unequal):
        n_channels, n_cells = 40, 4
        n_images = -(-per_channel * n_channels // n_cells)
        found = []
        for repetition in range(TestWithoutPosition.REPETITIONS):
            generator = torch.Generator().manual_seed(repetition)
            draw = {"generator": generator, "dtype": torch.float64}
            sizes = [n_images - 4 * (n_images // 9), *[n_images // 9] * 4] if unequal else [n_images // FOLDS] * FOLDS
            gram = Gram(FOLDS, 2 + N_CONTROLS, torch.zeros(n_channels, dtype=torch.float64))
            for fold, size in enumerate(sizes):
                place = torch.rand(size, n_cells, 1, **draw) * 2 - 1
                # Cells of one image are alike, and vary with place in a way that is drawn anew for each image.
                level, slope = (torch.randn(size, 1, n_channels, **draw) for _ in range(2))
                maps = level + slope * place + torch.randn(size, n_cells, n_channels, **draw)
                design = torch.zeros(size * n_cells, 2 + N_CONTROLS, dtype=torch.float64)
                design[:, 0] = place.ravel()
                gram.update(design, maps.flatten(0, 1), [(fold, 0, size * n_cells)])
            with np.errstate(invalid="ignore"):
                score = score_readout(gram, 1, ALPHA)
            found.append((score.r2[0], score.r2_se[0]))
        return np.array(found).T

    CASES = ((3, False), (10, False), (20, False), (60, False), (20, True))

    @pytest.mark.parametrize("case", CASES)
    def test_it_is_zero_in_expectation(self, case):
        r2, _ = self.scores(*case)
        error = r2.std(ddof=1) / np.sqrt(self.REPETITIONS)
        assert abs(r2.mean()) < max(0.003, 3 * error)

    @pytest.mark.parametrize("case", CASES)
    def test_its_interval_holds_zero(self, case):
        r2, error = self.scores(*case)
        assert (abs(r2) <= half_width(error, FOLDS - 1)).mean() >= 0.93


@pytest.mark.parametrize("per_channel", [4, 10, 60])
def test_known_position_is_read_as_well_from_few_samples(per_channel):
    """One channel of twenty is position + noise of four times its variance: R² is 0.2."""
    found = []
    for repetition in range(60):
        generator = torch.Generator().manual_seed(repetition)
        size = 20 * per_channel // FOLDS
        gram = Gram(FOLDS, 2 + N_CONTROLS, torch.zeros(20, dtype=torch.float64))
        for fold in range(FOLDS):
            features = torch.randn(size, 20, generator=generator, dtype=torch.float64)
            design = torch.zeros(size, 2 + N_CONTROLS, dtype=torch.float64)
            design[:, 0] = torch.randn(size, generator=generator, dtype=torch.float64)
            features[:, 0] = design[:, 0] + 2 * features[:, 0]
            gram.update(design, features, [(fold, 0, size)])
        with np.errstate(invalid="ignore"):
            found.append(score_readout(gram, 1, ALPHA).r2[0])
    assert np.mean(found) == pytest.approx(0.2, abs=3 * np.std(found) / np.sqrt(len(found)))


def test_mean_and_decoded_maps_equal_scikit_learn():
    maps = activations()
    result = probe.layerwise(
        Same(), maps, layers="same", stimuli="natural", positions=None, maps="same", progress=False
    )
    mean_map = probe.results.layer_map(result, "mean_map", "same").sel(stimulus="natural")
    assert mean_map.dims == ("channel", "row", "column")
    assert np.allclose(mean_map, maps.mean(dim=0))
    flat = maps.flatten(2).transpose(1, 2).reshape(-1, 4).numpy()
    target = np.tile(probe.TARGETS["row"](6, 7).ravel(), len(maps))
    readout = make_pipeline(StandardScaler(), Ridge(ALPHA * len(flat))).fit(flat, target)
    decoded = probe.results.layer_map(result, "decoded_map", "same").sel(stimulus="natural", target="row")
    assert np.allclose(decoded.values.ravel(), readout.predict(mean_map.values.reshape(4, -1).T))


def test_null_is_what_scikit_learn_finds_for_shuffled_positions():
    maps = activations(count=200)
    result = probe.layerwise(Same(), maps, layers="same", stimuli="natural", positions=None, progress=False)
    generator = np.random.default_rng(0)
    target = probe.TARGETS["row"](6, 7).ravel()
    scores = []
    features, folds = samples_of(maps)
    for _ in range(20):
        truth = np.concatenate([generator.permutation(target) for _ in range(200)])[:, None]
        scores.append(crossed_r2(features, truth, folds).item())
    found = result.r2_null.sel(layer="same", target="row").item()
    assert abs(found - np.mean(scores)) < 5 * np.std(scores)
    assert found < 0.005


def test_groups_are_held_out_together():
    maps = activations(count=20)
    groups = np.repeat(list("abcdefghij"), 2)
    result = probe.layerwise(
        Same(), maps, layers="same", stimuli="natural", positions=None, groups=groups, progress=False
    )
    # Pairs in order are the folds of the labels a to j, modulo 5: reorder the images so that number % 5 says the same.
    order = np.argsort(np.argsort(np.repeat(np.arange(10) % 5, 2), kind="stable"), kind="stable")
    place = np.array([fold + 5 * (rank % 4) for fold, rank in zip(np.repeat(np.arange(10) % 5, 2), order, strict=True)])
    reordered = torch.empty_like(maps)
    reordered[place] = maps
    expected = probe.layerwise(Same(), reordered, layers="same", stimuli="natural", positions=None, progress=False)
    assert np.allclose(result.r2, expected.r2)
    assert np.allclose(result.r2_fold, expected.r2_fold)


@pytest.mark.filterwarnings("ignore:10 images")
def test_a_channel_that_varies_in_one_fold_alone_is_left_out_of_the_others():
    maps = activations(count=10)
    maps[1:, 2] = 0.0
    maps[0, 2] = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    result = probe.layerwise(Same(), maps, layers="same", stimuli="natural", positions=None, progress=False)
    features, folds = samples_of(maps)
    row = np.tile(probe.TARGETS["row"](6, 7).ravel(), 10)[:, None]
    assert result.r2.sel(target="row").item() == pytest.approx(crossed_r2(features, row, folds).item(), abs=1e-6)


def test_bits():
    assert np.allclose(position_bits(np.array([-3.0, 0.0, 0.75, 0.9375]), 100), [0, 0, 1, 2])
    assert position_bits(np.array([1.0]), 8) == 3.0
    assert np.isnan(position_bits(np.array([np.nan]), 8)).all()


@pytest.mark.parametrize("offset", [0, 100, 10_000])
def test_a_target_far_from_zero_is_read_as_well(offset):
    maps = activations().float()
    options = {"layers": "same", "stimuli": "natural", "positions": None, "maps": "same", "progress": False}
    plain = probe.layerwise(Same(), maps, targets="row", **options)
    moved = probe.layerwise(
        Same(), maps, targets={"moved": lambda h, w: probe.TARGETS["row"](h, w) + offset}, **options
    )
    assert np.allclose(moved.r2, plain.r2, atol=1e-6)
    decoded = (probe.results.layer_map(result, "decoded_map", "same").values for result in (plain, moved))
    assert np.allclose(next(decoded) + offset, next(decoded), atol=1e-4)
