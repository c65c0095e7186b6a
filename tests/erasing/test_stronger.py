"""Readouts that see more than a linear one of a cell."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

import probe
from probe.errors import ArgumentError, ImagesError
from tests.readouts.features import Given

GIVEN = {
    "stimuli": "natural",
    "fit_stimulus": "natural",
    "methods": "leace",
    "ranks": [2],
    "seeds": 2,
    "progress": False,
}


def maps_of(kind, n_images=80):
    """Maps (image, channel, row, column) in which the row is told in another way."""
    noise = torch.randn(n_images, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    row = torch.linspace(-1, 1, 8)[:, None].expand(8, 8)
    if kind == "variance":
        noise[:, 0] *= (0.1 + row + 1) ** 2
    elif kind == "value":
        noise[:, 0] = row + noise[:, 0] / 2
    return noise


def measured(kind, **options):
    return probe.stronger_readouts(Given(), maps_of(kind), "layer", **{**GIVEN, **options}).sel(stimulus="natural")


def test_a_variance_that_tells_the_row_is_read_by_the_perceptron_alone():
    row = measured("variance", samples=5000).r2.sel(target="row", eraser=1)
    assert abs(row.sel(reader="cell")) < 0.02 and abs(row.sel(reader="neighbourhood")) < 0.05
    assert row.sel(reader="perceptron") > 0.04


def test_erasing_leaves_nothing_where_the_row_is_a_value():
    found = measured("value", samples=5000)
    row = found.r2.sel(target="row")
    for reader in ("cell", "neighbourhood", "perceptron"):
        assert row.sel(reader=reader, eraser=0) > 0.4, reader
        assert row.sel(reader=reader, eraser=1) < 0.05, reader
    assert (found.r2_null < 0.05).all()
    assert (found.r2_se >= 0).all()


def test_where_nothing_tells_position_no_reader_finds_it():
    found = measured("nothing", samples=5000)
    linear = found.r2.sel(reader=["cell", "neighbourhood"])
    assert abs(linear).max() < 4 * found.r2_se.sel(reader=["cell", "neighbourhood"]).max()
    assert found.r2.sel(reader="perceptron").max() < 0.02


def test_the_readout_of_neighbourhoods_is_that_of_plain_ridges():
    maps = maps_of("value")
    found = measured("value", samples=200).r2.sel(reader="neighbourhood", eraser=0)
    folds = [maps[fold::5] for fold in (2, 3, 4)]
    row = np.repeat((2 * np.arange(8) + 1)[1:-1] / 8 - 1, 6)

    def parts(fold):
        features = functional.unfold(fold, 3).transpose(1, 2).flatten(0, 1).numpy()
        return features, np.tile(row, len(fold))

    errors = deviations = 0
    for held_out in range(3):
        residuals = []
        for trained in set(range(3)) - {held_out}:
            features, values = parts(folds[trained])
            scaler = StandardScaler().fit(features)
            model = Ridge(alpha=1e-3 * len(features)).fit(scaler.transform(features), values)
            residuals.append(parts(folds[held_out])[1] - model.predict(scaler.transform(parts(folds[held_out])[0])))
        errors += (residuals[0] * residuals[1]).sum()
        deviations += (parts(folds[held_out])[1] ** 2).sum()
    assert found.sel(target="row").item() == pytest.approx(1 - errors / deviations, abs=1e-4)


def test_what_cannot_be_is_said():
    with pytest.raises(ArgumentError, match="seeds=1"):
        measured("value", seeds=1)
    with pytest.raises(ArgumentError, match="samples=5"):
        measured("value", samples=5)
    with pytest.raises(ImagesError, match="can be read only once"):
        probe.stronger_readouts(Given(), iter([maps_of("value")]), "layer", **GIVEN)
    with pytest.raises(ArgumentError, match=r"a map of 3×8 cells has too few"):
        probe.stronger_readouts(Given(), maps_of("value")[:, :, :3], "layer", **GIVEN)


def test_fewer_samples_than_features_tell_nothing():
    maps = maps_of("value")[:10, :, :5, :5]
    with pytest.warns(probe.ProbeWarning, match="36 features, on natural images, are more than the 18 samples"):
        found = probe.stronger_readouts(Given(), maps, "layer", **GIVEN)
    assert found.r2.sel(reader="neighbourhood").isnull().all() and found.r2.sel(reader="cell").notnull().all()


def test_of_rounding_the_perceptron_reads_nothing():
    found = probe.stronger_readouts(Given(), maps_of("value")[:, :2], "layer", **GIVEN).sel(stimulus="natural")
    assert (found.r2.sel(eraser=1, target="row", reader=["cell", "perceptron"]) < 0.01).all()


def test_readers_that_are_not_asked_for_are_not_run(monkeypatch):
    monkeypatch.setattr("probe.erasing.stronger._neighbourhood_statistics", lambda *given: 1 / 0)
    monkeypatch.setattr("probe.erasing.stronger._perceptrons", lambda *given: 1 / 0)
    found = measured("value", readers="cell")
    assert list(found.reader.values) == ["cell"] and found.r2_null.isnull().all()
    with pytest.raises(ArgumentError, match=r"readers=\['net'\]: expected some of cell, neighbourhood, perceptron"):
        measured("value", readers="net")
