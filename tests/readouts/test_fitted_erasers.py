"""Erasers against the packages and plain loops that do the same with the samples themselves."""

import warnings

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError
from tests.readouts.features import CHANNELS, GRID, feature_maps, positions, readable, samples, statistics_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch.jit, which it uses
    from concept_erasure import LeaceFitter


def oracle(features, concept):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter = LeaceFitter.fit(features, concept, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-10)
        return fitter.eraser(features)


def erased(maps, statistics, **options):
    return samples(probe.fit_eraser(statistics, "layer", stimulus="natural", **options)(maps))


def one_hot(maps):
    n_cells = maps.shape[2] * maps.shape[3]
    return torch.eye(n_cells, dtype=torch.float64).repeat(len(maps), 1)


class TestLeace:
    def test_it_is_that_of_concept_erasure(self):
        maps = feature_maps()
        concept = positions(maps)
        expected = oracle(samples(maps), concept / concept.std(dim=0))
        assert torch.allclose(erased(maps, statistics_of(maps)), expected, atol=1e-8, rtol=0)

    def test_of_every_position(self):
        maps = feature_maps()
        statistics = statistics_of(maps)
        # With all of its directions nothing would be left; concept_erasure is given what the leading ones tell.
        whole = erased(maps, statistics, targets="cells", rank=CHANNELS)
        assert torch.allclose(whole, samples(maps).mean(dim=0).expand_as(whole), atol=1e-8)
        chosen = probe.fit_eraser(statistics, "layer", stimulus="natural", targets="cells", rank=3)
        told = samples(maps) @ chosen.right
        expected = oracle(samples(maps), told)
        assert torch.allclose(samples(chosen(maps)), expected, atol=1e-8)
        # The directions are those of the largest canonical correlations with the cells.
        of_cells = readable(samples(maps), one_hot(maps)).sum() * (1 - 1 / 30)
        left = readable(samples(chosen(maps)), one_hot(maps)).sum() * (1 - 1 / 30)
        features = samples(maps) - samples(maps).mean(dim=0)
        whitened = torch.linalg.svd(features, full_matrices=False).U
        means = whitened.reshape(len(maps), -1, CHANNELS).sum(dim=0) / len(maps) ** 0.5
        canonical = torch.linalg.svdvals(means).square()
        assert torch.allclose(of_cells - left, canonical[:3].sum() * (1 - 1 / 30) * 30 / 29, rtol=1e-6)

    def test_no_linear_readout_is_left_and_erasing_twice_is_erasing_once(self):
        maps = feature_maps()
        eraser = probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")
        once = eraser(maps)
        assert readable(samples(maps), positions(maps)).min() > 0.1
        assert readable(samples(once), positions(maps)).abs().max() < 1e-8
        assert torch.allclose(eraser(once), once, atol=1e-10)

    def test_the_change_is_the_least_of_all_that_leave_nothing(self):
        """Of projections along c, those that read it in another way change more."""
        maps = feature_maps()
        features = samples(maps) - samples(maps).mean(dim=0)
        cross = features.T @ (positions(maps) - positions(maps).mean(dim=0))
        least = (samples(maps) - erased(maps, statistics_of(maps))).square().sum()
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            metric = torch.randn(CHANNELS, CHANNELS, generator=generator, dtype=torch.float64)
            reading = metric @ metric.T @ cross
            other = features @ reading @ torch.linalg.solve(cross.T @ reading, cross.T)
            assert readable(samples(maps) - other, positions(maps)).abs().max() < 1e-8
            assert other.square().sum() > least

    def test_collinear_and_dead_channels(self):
        maps = feature_maps()
        maps = torch.cat([maps, maps[:, :2] - maps[:, 2:4], torch.full_like(maps[:, :1], 7.0)], dim=1)
        after = erased(maps, statistics_of(maps))
        assert readable(after, positions(maps)).abs().max() < 1e-8
        assert torch.equal(after[:, -1], samples(maps)[:, -1])
        concept = positions(maps)
        assert torch.allclose(after, oracle(samples(maps), concept / concept.std(dim=0)), atol=1e-6)

    def test_content_is_left_alone_where_it_does_not_tell_position(self):
        images = torch.rand(20, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(20, 3, 8, 8)
        net = probe.testing.CoordinateNet().double()
        statistics = probe.collect(net, images.double(), layers="identity", progress=False)
        maps = net(images.double())
        after = probe.fit_eraser(statistics, "identity", stimulus="natural")(maps)
        assert torch.allclose(after[:, :3], maps[:, :3], atol=1e-6)
        assert after[:, 3:].abs().max() < 1e-6


class TestOtherMethods:
    def test_iterated_is_a_plain_loop_of_least_squares(self):
        maps = feature_maps()
        features, values = samples(maps), positions(maps)
        centred = features - features.mean(dim=0)
        found = torch.zeros(CHANNELS, 0, dtype=torch.float64)
        for _ in range(3):
            left = centred - centred @ found @ found.T
            weights = torch.linalg.lstsq(left, values - values.mean(dim=0), driver="gelsd").solution
            found = torch.cat([found, torch.linalg.qr(weights).Q], dim=1)
        expected = features - centred @ found @ found.T
        assert torch.allclose(erased(maps, statistics_of(maps), method="iterated", rank=6), expected, atol=1e-7)

    def test_mean_map_takes_out_its_singular_vectors(self):
        maps = feature_maps()
        mean_map = maps.mean(dim=0).flatten(1)
        vectors = torch.linalg.svd(mean_map - mean_map.mean(dim=1, keepdim=True)).U[:, :2]
        features = samples(maps)
        expected = features - (features - features.mean(dim=0)) @ vectors @ vectors.T
        assert torch.allclose(erased(maps, statistics_of(maps), method="mean_map", rank=2), expected, atol=1e-10)

    def test_random_subspaces_follow_their_seed(self):
        statistics = statistics_of(feature_maps())
        first, again, other = (
            probe.fit_eraser(statistics, "layer", method="random", rank=3, seed=seed, stimulus="natural").left
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, again) and not torch.allclose(first, other)
        assert torch.allclose(first.T @ first, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.05)]
)
def test_precisions(dtype, tolerance):
    maps = feature_maps()
    eraser = probe.fit_eraser(statistics_of(feature_maps(dtype=torch.float32)), "layer", stimulus="natural")
    reference = probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")(maps)
    found = eraser(maps.to(dtype))
    assert found.dtype == dtype
    scale = maps.std()
    assert (found.double() - reference).abs().max() < max(tolerance, 1e-4) * scale * 5


def test_rolled_and_natural_are_fitted_apart():
    maps = feature_maps()
    statistics = statistics_of(maps, stimuli=("natural", "rolled"))
    natural, rolled = (probe.fit_eraser(statistics, "layer", stimulus=s) for s in ("natural", "rolled"))
    assert readable(samples(natural(maps)), positions(maps)).abs().max() < 1e-8
    assert readable(samples(rolled(maps)), positions(maps)).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lease"}, "Did you mean 'leace'"),
        ({"targets": "radius"}, "'radius' is not in the statistics, which have row, column"),
        ({"targets": ()}, "no target given"),
        ({"stimulus": "rolled"}, "the statistics have natural"),
        ({"rank": 3}, "'leace' finds at most 2 directions"),
        ({"rank": 0}, "rank=0: expected None or a whole number"),
        ({"rank": True}, "rank=True"),
        ({"seed": "a"}, "seed='a': expected a whole number of at least 0"),
        ({"method": "iterated", "rank": 3}, "Choose a multiple of 2"),
        ({"method": "iterated", "rank": 10}, "at most 8"),
        ({"method": "iterated", "targets": "cells"}, "'iterated' needs named targets"),
        ({"method": "random", "rank": 9}, "at most 8"),
    ],
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(ArgumentError, match=message):
        probe.fit_eraser(statistics_of(feature_maps()), "layer", **{"stimulus": "natural", **options})


def test_sums_that_are_missing_are_named():
    maps = feature_maps()
    statistics = statistics_of(maps)
    with pytest.raises(LayerNotFoundError, match="'laier': not in the statistics, which have layer"):
        probe.fit_eraser(statistics, "laier")
    with pytest.raises(ArgumentError, match=r"expected those of probe\.collect"):
        probe.fit_eraser(maps, "layer")
    statistics.moments.clear()
    with pytest.raises(ArgumentError, match="'mean_map' needs the mean map"):
        probe.fit_eraser(statistics, "layer", method="mean_map", stimulus="natural")
    with pytest.raises(ArgumentError, match="'cells' needs the mean map"):
        probe.fit_eraser(statistics, "layer", targets="cells", stimulus="natural")
    statistics.grams.clear()
    with pytest.raises(ArgumentError, match="no products of pairs of channels"):
        probe.fit_eraser(statistics, "layer", stimulus="natural")


def test_targets_that_do_not_vary_and_activations_that_are_not_finite():
    constant = {"flat": lambda height, width: np.ones((height, width))}
    with pytest.raises(ArgumentError, match="none varies on the grid"):
        probe.fit_eraser(statistics_of(feature_maps(), targets=constant), "layer", targets="flat", stimulus="natural")
    maps = feature_maps()
    maps[3, 2, 1, 1] = torch.nan
    with pytest.raises(ImagesError, match="layer: some activations were not finite"):
        probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")


def test_maps_of_another_grid_are_erased_alike():
    maps = feature_maps()
    eraser = probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")
    part = maps[:, :, 1:4, 2:]
    assert torch.equal(eraser(part), eraser(maps)[:, :, 1:4, 2:])
    assert part.shape[2:] != GRID


def test_a_fold_without_images_is_named():
    with pytest.raises(ImagesError, match="3 images leave 2 of 5 folds without any"):
        probe.fit_eraser(statistics_of(feature_maps(n_images=3)), "layer", stimulus="natural")


def test_fewer_images_than_channels_are_warned_of():
    maps = feature_maps(n_images=CHANNELS - 1)
    with pytest.warns(probe.ProbeWarning, match=f"fitted to {CHANNELS - 1} images, fewer than its {CHANNELS} channels"):
        probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")
    probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural", method="random")
    probe.fit_eraser(statistics_of(feature_maps(n_images=CHANNELS)), "layer", stimulus="natural")
