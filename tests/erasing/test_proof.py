"""What is left after erasing: against plain least squares on the samples, and nets with known answers."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import probe
from probe.erasing.proof import splits
from probe.errors import ArgumentError
from tests.readouts.features import feature_maps, positions, samples, statistics_of

ALPHA = 1e-3


def prove(maps, **options):
    given = {"fit_stimuli": "natural", "ranks": [2], "draws": 2}
    return probe.erasure_proof(statistics_of(maps), "layer", **{**given, **options})


def fold_of(maps, folds):
    return torch.cat([maps[fold::5] for fold in folds])


def crossed(train_a, train_b, test):
    """Residuals of two ridges of scikit-learn, multiplied, and the squares about the mean that is given."""
    residuals = []
    for train in (train_a, train_b):
        features = samples(train).numpy()
        scaler = StandardScaler().fit(features)
        model = Ridge(alpha=len(features) * ALPHA).fit(scaler.transform(features), positions(train).numpy())
        residuals.append(positions(test).numpy() - model.predict(scaler.transform(samples(test).numpy())))
    return (residuals[0] * residuals[1]).sum(axis=0)


def test_it_is_that_of_plain_ridges_on_erased_samples():
    maps = feature_maps()
    proof = prove(maps, methods=["leace", "iterated"])
    for method in ("leace", "iterated"):
        errors = deviations = 0
        for split in splits(5):
            fitted = statistics_of(fold_of(maps, split.fitted))
            eraser = probe.fit_eraser(fitted, "layer", method=method, stimulus="natural")
            parts = [eraser(maps[fold::5]) for fold in split.read]
            for held_out in range(3):
                others = [parts[index] for index in range(3) if index != held_out]
                errors = errors + crossed(*others, parts[held_out])
                deviations = deviations + positions(parts[held_out]).numpy().var(axis=0) * len(samples(parts[held_out]))
        found = proof.r2.isel(eraser=list(proof.method.values).index(method)).sel(stimulus="natural")
        np.testing.assert_allclose(found.sel(target=["row", "column"]), 1 - errors / deviations, atol=1e-6)


def test_of_the_net_that_appends_coordinates_nothing_is_left():
    images = torch.rand(60, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(60, 3, 8, 8)
    options = {"layers": "identity", "targets": ("row", "column", "radius"), "progress": False}
    sums = probe.collect(probe.testing.CoordinateNet(), images, **options)
    proof = probe.erasure_proof(sums, "identity", ranks=[2], draws=20).sel(stimulus="natural")
    row = proof.sel(target="row")
    assert row.r2_before.item() == pytest.approx(1, abs=1e-3)
    assert abs(row.r2.item()) < 0.01
    # Random directions of the same rank leave what is in the other three dimensions of five.
    assert row.r2_random.mean().item() > 0.5
    assert list(proof.target.values) == ["row", "column", "radius", "cells"]


def test_every_position_is_read_and_erased():
    proof = prove(feature_maps(n_images=200), methods=["leace", "cells"], ranks=[2, 3])
    cells = proof.r2.sel(stimulus="natural", target="cells").values
    leace, two, three = (cells[index] for index in range(3))
    assert proof.method.values.tolist() == ["leace", "cells", "cells"]
    before = proof.r2_before.sel(stimulus="natural", target="cells").item()
    # Row, column and their product are mixed in: three directions tell all.
    assert before > leace > abs(three) and two < before / 2
    assert abs(three) < 0.005


def test_without_position_what_is_left_is_zero_in_expectation():
    values = []
    for seed in range(20):
        maps = torch.randn(40, 8, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        proof = prove(maps)
        values.append(proof.r2.sel(target=["row", "column"]).values.ravel())
    values = np.concatenate(values)
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert abs(values.mean()) < 0.003


def test_the_cost_is_the_share_of_variance_that_is_removed():
    maps = feature_maps()
    proof = prove(maps, methods=["leace", "channels"])
    eraser = probe.fit_eraser(statistics_of(maps), "layer", stimulus="natural")
    change = (eraser(maps) - maps).square().mean(dim=(0, 2, 3)).sum()
    expected = change / samples(maps).var(dim=0, correction=0).sum()
    assert proof.cost.values[0, 0] == pytest.approx(float(expected), rel=1e-9) == pytest.approx(eraser.erasure.cost)
    assert ((proof.cost_random > 0) & (proof.cost_random < 1)).all()


def test_channels_are_those_that_correlate_most():
    maps = feature_maps()
    maps[:, 5] += 4 * positions(maps)[:, 0].reshape(len(maps), *maps.shape[2:])
    with_five = prove(maps, methods="channels", ranks=[1]).r2.sel(stimulus="natural", target="row").item()
    without = maps[:, [0, 1, 2, 3, 4, 6, 7]]
    expected = probe.layerwise(statistics_of(without)).r2.sel(target="row", stimulus="natural", layer="layer").item()
    assert with_five == pytest.approx(expected, abs=0.03)


def test_splits_are_disjoint_and_balanced():
    for n_folds in (4, 5, 8, 10):
        found = splits(n_folds)
        assert all(set(s.fitted).isdisjoint(s.read) and len(s.fitted) + len(s.read) == n_folds for s in found)
        assert {sum(fold in s.read for s in found) for fold in range(n_folds)} == {len(found[0].read)}
        assert len(found[0].read) >= 3


def test_the_error_is_about_the_spread_over_sets_of_images():
    found = [prove(_maps_of_the_same_kind(seed), methods="iterated") for seed in range(16)]
    r2 = np.array([proof.r2.sel(target="row", stimulus="natural").item() for proof in found])
    errors = np.array([proof.r2_se.sel(target="row", stimulus="natural").item() for proof in found])
    assert 0.5 < errors.mean() / r2.std(ddof=1) < 2


def _maps_of_the_same_kind(seed):
    """The same mixing of position, other noise."""
    base = feature_maps(0, n_images=1)
    generator = torch.Generator().manual_seed(100 + seed)
    noise = torch.randn(60, *base.shape[1:], generator=generator, dtype=torch.float64)
    return base + noise


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "lease"}, "'lease' is none of .* Did you mean 'leace'"),
        ({"methods": []}, "name at least one of each"),
        ({"ranks": [3]}, "leace has none of these here"),
        ({"ranks": [0]}, "rank=0"),
        ({"targets": "cells"}, "name it as a method"),
        ({"targets": "radius"}, "'radius' is not in the statistics"),
        ({"fit_stimuli": "rolled"}, "the statistics have natural"),
        ({"draws": 1}, "draws=1: expected a whole number of at least 2"),
        ({"alpha": 0}, "alpha=0: expected a number above 0"),
    ],
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(ArgumentError, match=message):
        prove(feature_maps(), **options)


def test_too_few_folds():
    with pytest.raises(ArgumentError, match="folds=3: a proof needs at least 4"):
        probe.erasure_proof(statistics_of(feature_maps(), folds=3), "layer", ranks=[2], fit_stimuli="natural")


def test_maps_of_too_many_cells_are_said():
    maps = torch.randn(20, 2, 33, 32)
    with pytest.warns(probe.ProbeWarning, match="cells: layer has 1056 of them; every position is read up to 1024"):
        proof = probe.erasure_proof(statistics_of(maps), "layer", ranks=[1], fit_stimuli="natural", draws=2)
    assert "cells" not in proof.target.values and "1056" in proof.attrs["warnings"]
