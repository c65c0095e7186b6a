"""The one stamp of results: what one is, and how it was made."""

import datetime
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from typing import Any

import xarray as xr

from probe.intervals import CONFIDENCE
from probe.results.schema import KINDS, SCHEMA, VARIABLES
from probe.results.showing import Result

__all__ = ["Facts", "finish", "versions"]

_PACKAGES = (
    "position-probe", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "xarray", "matplotlib", "seaborn",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Facts:
    """How a result was made: of which model, from which images, and what there was to warn of.

    Attributes
    ----------
    model : str
        Class of the model; empty where a study makes its own.
    weights_digest : str
        Digest of its parameters and buffers.
    n_images : int
        Number of images that were read.
    images_digest : str
        Digest of their pixels, as they were read, and of their numbers; empty where none are.
    device : str
        Where the model ran.
    seed : int
        Of all draws.
    duration_s : float
        Seconds that it took.
    skipped : dict
        Layers that were left out, with the reason.
    corrupt : dict
        Files that could not be read, with the reason.
    warnings : tuple of str
        The warnings that were given.
    """

    model: str = ""
    weights_digest: str = ""
    n_images: int = 0
    images_digest: str = ""
    device: str = ""
    seed: int = 0
    duration_s: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    corrupt: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: xr.Dataset) -> "Facts":
        """Return those of a result."""
        found: dict[str, Any] = {f.name: result.attrs[f.name] for f in fields(cls) if f.name in result.attrs}
        found |= {name: json.loads(found[name]) for name in ("skipped", "corrupt", "warnings") if name in found}
        return cls(**found).warned()

    def warned(self, messages: Iterable[str] = ()) -> "Facts":
        """Return them with further warnings, each once."""
        return replace(self, warnings=tuple(dict.fromkeys([*self.warnings, *messages])))


def finish(
    result: xr.Dataset,
    *,
    kind: str,
    facts: Facts,
    settings: Mapping[str, Any],
    command: str = "",
    **named: Any,
) -> xr.Dataset:
    """Stamp a result: what it is, how it was made, and the long name and units of each variable.

    Parameters
    ----------
    result
        Is changed. Variables that have a long name and units keep them.
    kind
        One of `KINDS`.
    facts
        How it was made.
    settings
        The arguments that numbers depend on.
    command
        The command that was given; by default the call that makes this kind.
    **named
        Further attributes of this kind.

    Returns
    -------
    xarray.Dataset
        The result, with flat attributes: text and numbers as they are, all else as JSON.
    """
    for name, variable in result.data_vars.items():
        if {"long_name", "units"} <= variable.attrs.keys():
            continue
        stem = str(name).rstrip("0123456789").rstrip("_")
        long_name, units = VARIABLES.get(str(name)) or VARIABLES[stem]
        variable.attrs.update(long_name=long_name, units=units)
    stamp = {
        "schema": SCHEMA,
        "kind": kind,
        **named,
        **asdict(facts),
        "settings": dict(settings),
        "confidence": CONFIDENCE,
        "command": command or f"{KINDS[kind]}(...)",
        "versions": versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    for name, value in stamp.items():
        flat = isinstance(value, str | int | float) and not isinstance(value, bool)
        result.attrs[name] = value if flat else json.dumps(value)
    return Result.of(result)
