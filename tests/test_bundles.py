"""Several results are one file, and come apart as they were."""

import pytest
import xarray as xr

import probe
from probe.bundles import bundle, unbundle
from probe.errors import ArgumentError
from probe.results import SCHEMA
from probe.testing import noise_images, padded_net


def test_there_and_back_through_a_file(tmp_path):
    net, images = padded_net(depth=2), noise_images(40, 8)
    parts = {
        "where": probe.layerwise(net, images, maps="conv2", progress=False).assign_coords(scalar=3),
        "channels": probe.channelwise(net, images, progress=False),
        "audit": probe.audit(net, (3, 8, 8)),
    }
    whole = bundle(parts).assign_attrs(schema=SCHEMA, kind="overview")
    found = unbundle(probe.load(probe.save(whole, tmp_path / "whole.nc")))
    assert list(found) == list(parts)
    for name, part in parts.items():
        assert found[name].identical(part), name
        probe.save(found[name], tmp_path / f"{name}.nc")


def test_layers_of_one_name_in_parts_of_other_lengths_stay_apart():
    one = xr.Dataset({"r2": ("layer", [1.0, 2.0])}, {"layer": ["b", "a"]})
    other = xr.Dataset({"r2": ("layer", [3.0])}, {"layer": ["c"]})
    found = unbundle(bundle({"one": one, "other": other}))
    assert found["one"].identical(one) and found["other"].identical(other)


def test_what_is_no_bundle_and_names_with_dots():
    with pytest.raises(ArgumentError, match="expected several results in one"):
        unbundle(xr.Dataset())
    with pytest.raises(ArgumentError, match=r"the name 'a\.b' has a dot"):
        bundle({"a.b": xr.Dataset()})
    assert unbundle(bundle({})) == {}
