"""What all studies have in common."""

import json
import time

import numpy as np
import pytest
import xarray as xr

import probe
from probe.analyses.studies import Study, check_preset, study_result

STUDY = Study("rook", "A title", "A question?", "Authors 2020", ["One.", "Two."], ["None."], {"tiny": "1 s"})
ABOUT = {"long_name": "accuracy", "units": "1"}


def make(here, published):
    return study_result(STUDY, published, here, preset="tiny", settings={"a": 1}, started=time.monotonic())


def test_numbers_of_all_seeds_stand_beside_the_published_ones(tmp_path):
    values = np.array([[0.25, 0.5], [0.75, 1.0]])
    here = xr.DataArray(values, dims=("seed", "padding"), coords={"padding": ["zeros", "valid"]}, attrs=ABOUT)
    published = xr.DataArray([1.0], dims="padding", coords={"padding": ["valid"]})
    result = make(here, published)
    assert result.here.values.tolist() == [0.5, 0.75]
    np.testing.assert_allclose(result.here_sd, values.std(axis=0, ddof=1))
    assert result.published.sel(padding="valid") == 1 and np.isnan(result.published.sel(padding="zeros"))
    assert result.here_by_seed.dims == ("seed", "padding")
    assert result.published.attrs == {"long_name": "accuracy, as published", "units": "1"}
    assert json.loads(result.attrs["protocol"]) == ["One.", "Two."]
    assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)


def test_one_seed_has_no_spread():
    here = xr.DataArray([[0.5]], dims=("seed", "padding"), attrs=ABOUT)
    assert np.isnan(make(here, here.isel(seed=0)).here_sd).all()


def test_published_numbers_of_other_dims_are_refused():
    here = xr.DataArray([[0.5]], dims=("seed", "padding"), attrs=ABOUT)
    with pytest.raises(probe.errors.ArgumentError, match=r"published: expected the dims .*padding.*found .*layer"):
        make(here, xr.DataArray([0.5], dims="layer"))


def test_an_unknown_preset_is_refused():
    check_preset("tiny")
    with pytest.raises(probe.errors.ArgumentError, match="preset='huge': expected one of tiny, quick, paper"):
        check_preset("huge")
