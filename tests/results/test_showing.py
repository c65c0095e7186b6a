"""Results that hold what was measured show themselves; others are shown by xarray."""

import copy
import pickle

import numpy as np
import pytest
import xarray as xr

import probe
from probe.results import Result
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")


def in_place(change):
    """Return what a change makes of a copy."""

    def changed(result, other):
        own = result.copy(deep=True)
        change(own)
        return own

    return changed


def plus_one(own):
    own += 1


AS_MEASURED = {
    "sel": lambda r, o: r.sel(layer=["conv2"], stimulus="rolled"),
    "isel": lambda r, o: r.isel(layer=[0]),
    "loc": lambda r, o: r.loc[{"layer": ["conv2"]}],
    "head": lambda r, o: r.head(layer=1),
    "squeeze": lambda r, o: r.squeeze(),
    "sortby": lambda r, o: r.sortby("layer"),
    "transpose": lambda r, o: r.transpose(),
    "drop_vars": lambda r, o: r.drop_vars("r2_null"),
    "names": lambda r, o: r[[*r.data_vars]],
    "del": in_place(lambda own: own.__delitem__("r2_null")),
    "assign": lambda r, o: r.assign(more=1.0),
    "setitem": in_place(lambda own: own.__setitem__("more", 1.0)),
    "same numbers": lambda r, o: r.assign(r2=r.r2),
    "assign_attrs": lambda r, o: r.assign_attrs(more=1.0),
    "assign_coords": lambda r, o: r.assign_coords(layer=[f"body.{name}" for name in r.layer.values]),
    "copy": lambda r, o: r.copy(),
    "copy.copy": lambda r, o: copy.copy(r),
    "deepcopy": lambda r, o: copy.deepcopy(r),
    "pickle": lambda r, o: pickle.loads(pickle.dumps(r)),
    "load": lambda r, o: r.load(),
    "compute": lambda r, o: r.compute(),
    "pipe": lambda r, o: r.pipe(lambda same: same),
}
OF_OTHER_NUMBERS = {
    "some folds": lambda r, o: r.isel(fold=[0, 1]),
    "a fold": lambda r, o: r.sel(fold=[3]),
    "concat of networks": lambda r, o: xr.concat([r, o], "padding"),
    "concat of layers": lambda r, o: xr.concat([r, o], "layer"),
    "combine_nested": lambda r, o: xr.combine_nested([r, o], "seed"),
    "mean of networks": lambda r, o: xr.concat([r, o], "seed").mean("seed"),
    "mean": lambda r, o: r.mean("target"),
    "max": lambda r, o: r.max("layer"),
    "cumsum": lambda r, o: r.cumsum("layer"),
    "times": lambda r, o: r * 2,
    "plus": lambda r, o: r + o,
    "in place": in_place(plus_one),
    "abs": lambda r, o: abs(r),
    "ufunc": lambda r, o: np.exp(r),
    "apply_ufunc": lambda r, o: xr.apply_ufunc(np.exp, r, keep_attrs=True),
    "map": lambda r, o: r.map(lambda variable: variable * 2, keep_attrs=True),
    "groupby": lambda r, o: r.groupby("layer").map(lambda part: part * 2),
    "rolling": lambda r, o: r.rolling(layer=2).mean(),
    "merge": lambda r, o: r.merge(o, compat="override"),
    "xr.merge": lambda r, o: xr.merge([r, o], compat="override"),
    "combine_first": lambda r, o: o.combine_first(r),
    "where": lambda r, o: r.where(r.r2 > 0),
    "xr.where": lambda r, o: xr.where(r > 0, r, 0),
    "fillna": lambda r, o: r.fillna(0),
    "clip": lambda r, o: r.clip(0, 1, keep_attrs=True),
    "astype": lambda r, o: r.astype(int),
    "full_like": lambda r, o: xr.full_like(r, 0),
    "roll": lambda r, o: r.roll(layer=1),
    "shift": lambda r, o: r.shift(layer=1),
    "reindex": lambda r, o: r.reindex(layer=["conv2", "other"]),
    "expand_dims": lambda r, o: r.expand_dims("padding"),
    "assign": lambda r, o: r.assign(r2=r.r2 * 2),
    "update": in_place(lambda own: own.update({"r2": own.r2 * 2})),
    "setitem": in_place(lambda own: own.__setitem__("r2", own.r2 * 2)),
    "a part in place": in_place(lambda own: own.__setitem__({"layer": 0}, 0)),
    "copy of other data": lambda r, o: r.copy(False, {name: 2 * v.values for name, v in r.data_vars.items()}),
}


@pytest.fixture(scope="module")
def pair():
    """The results of two networks, of numbers alone."""
    nets, images = [padded_net(depth=2, seed=seed) for seed in (0, 1)], noise_images(40, 8)
    return [probe.layerwise(net, images, positions=None, progress=False).drop_vars("valid") for net in nets]


@pytest.mark.parametrize("operation", AS_MEASURED)
def test_numbers_as_measured_show_themselves(operation, pair):
    made = AS_MEASURED[operation](*pair)
    assert type(made) is Result and repr(made).startswith("model: ")


@pytest.mark.parametrize("operation", OF_OTHER_NUMBERS)
def test_other_numbers_are_shown_by_xarray(operation, pair):
    with xr.set_options(keep_attrs=True):
        made = OF_OTHER_NUMBERS[operation](*pair)
    assert type(made) is xr.Dataset and repr(made).startswith("<xarray.Dataset>")
    assert all(type(one) is Result for one in pair)
