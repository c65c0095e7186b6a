"""Several results in one, so that they are one file, and their taking apart. Never loads torch."""

import json
from collections.abc import Mapping

import xarray as xr

from probe.errors import ArgumentError

__all__ = ["bundle", "unbundle"]

_PARTS = "parts"


def bundle(parts: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return several results as one, in which every name begins with that of its part and a dot.

    Parameters
    ----------
    parts
        Name, without a dot, -> result of probe.

    Examples
    --------
    >>> one = xr.Dataset({"r2": ("layer", [0.5])}, {"layer": ["conv1"]}, {"kind": "layerwise"})
    >>> sorted(bundle({"where": one}).variables)
    ['where.layer', 'where.r2']
    >>> unbundle(bundle({"where": one}))["where"].identical(one)
    True
    """
    renamed = []
    for part, result in parts.items():
        if "." in part:
            raise ArgumentError(f"parts: the name {part!r} has a dot, which is what ends the names of parts.")
        names = [*result.variables, *(dim for dim in result.dims if dim not in result.variables)]
        renamed.append(result.drop_attrs(deep=False).rename({name: f"{part}.{name}" for name in names}))
    whole = xr.merge(renamed) if renamed else xr.Dataset()
    whole.attrs[_PARTS] = json.dumps({part: dict(result.attrs) for part, result in parts.items()}, default=_plain)
    return whole


def unbundle(whole: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the results that `bundle` made one, each with its attributes.

    Raises
    ------
    ArgumentError
        If it is no such result.
    """
    if _PARTS not in whole.attrs:
        raise ArgumentError(f"result: expected several results in one, with the attribute {_PARTS!r}; found one.")
    found = {}
    for part, attrs in json.loads(whole.attrs[_PARTS]).items():
        prefix = f"{part}."
        own = whole[[name for name in whole.data_vars if str(name).startswith(prefix)]]
        coords = {name: whole.variables[name] for name in whole.coords if str(name).startswith(prefix)}
        own = own.drop_vars([name for name in own.coords if not str(name).startswith(prefix)]).assign_coords(coords)
        names = [*own.variables, *(dim for dim in own.dims if dim not in own.variables)]
        renamed = own.drop_attrs(deep=False).rename({name: str(name).removeprefix(prefix) for name in names})
        found[part] = renamed.assign_attrs(attrs)
    return found


def _plain(value: object) -> object:
    """Return numbers of NumPy, which attributes may be, as those of Python."""
    return value.item() if hasattr(value, "item") else str(value)
