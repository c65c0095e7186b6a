"""What all studies have in common: how they introduce themselves, and published numbers beside one's own."""

import pkgutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pandas as pd
import xarray as xr

from probe.checks import whole_number
from probe.errors import ArgumentError
from probe.results import Facts, finish
from probe.variants.padding import PADDINGS

__all__ = [
    "PRESETS",
    "Study",
    "beside_published",
    "check_paddings",
    "check_preset",
    "choose_preset",
    "find_studies",
    "on_dims",
    "study_result",
    "with_published_places",
]

PRESETS = ("tiny", "quick", "paper")
"""`tiny` for tests, `quick` for two CPU cores in under ten minutes, `paper` for the full protocol."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Study:
    """What a page tells of a study besides its numbers.

    Attributes
    ----------
    name
        Name of its file in `analyses`.
    title, question
        A heading, and what the study asks, in a sentence.
    source
        Authors, title, venue and year of what it reproduces; empty if it is our own.
    protocol
        How it goes, a sentence each.
    departures
        Where it leaves the original, and why, a sentence each.
    times
        What each preset takes, and on what machine: ``{"tiny": "5 s", "quick": "3 min on 2 CPU cores", ...}``.
    """

    name: str
    title: str
    question: str
    source: str
    protocol: Sequence[str]
    departures: Sequence[str]
    times: Mapping[str, str]


def check_preset(preset: str) -> None:
    """Raise an `ArgumentError` unless there is such a preset."""
    if preset not in PRESETS:
        raise ArgumentError(f"preset={preset!r}: expected one of {', '.join(PRESETS)}.")


def choose_preset(presets: Mapping[str, Settings], preset: str, seeds: int | None) -> Settings:
    """Return the settings of a preset, a dataclass with the field ``seeds``, with `seeds` in its place if given.

    Raises
    ------
    ArgumentError
        If there is no such preset, or `seeds` is below 1.
    """
    check_preset(preset)
    if seeds is None:
        return presets[preset]
    return replace(presets[preset], seeds=whole_number("seeds", seeds, 1))  # type: ignore[type-var]


def check_paddings(paddings: Sequence[str]) -> None:
    """Raise an `ArgumentError` unless these are names of ``probe.PADDINGS``, each once."""
    if isinstance(paddings, str) or not paddings or len(set(paddings) & set(PADDINGS)) < len(paddings):
        raise ArgumentError(f"paddings={paddings!r}: expected a list of some of {', '.join(PADDINGS)}, each once.")


def find_studies() -> dict[str, ModuleType]:
    """Return the modules of `probe.analyses` that have a ``STUDY``, by its name."""
    modules = {name: _module(name) for name in _module_names()}
    return {name: module for name, module in modules.items() if hasattr(module, "STUDY")}


def find_study(name: str) -> ModuleType:
    """Return the module of a study: its file, or the file ``study`` in its folder.

    Raises
    ------
    ArgumentError
        If there is no such study.
    """
    module = _module(name) if name in _module_names() else None
    if module is None or not hasattr(module, "STUDY"):
        raise ArgumentError(f"there is no study {name!r}; expected one of {', '.join(find_studies())}.")
    return module


def _module_names() -> dict[str, str]:
    """Return the module of each file, and that of the file ``study`` in each folder that has one."""
    here = Path(__file__).parent
    found = sorted(pkgutil.iter_modules([str(here)]), key=lambda module: module.name)
    files = {module.name: module.name for module in found if not module.ispkg}
    folders = {module.name: f"{module.name}.study" for module in found if (here / module.name / "study.py").is_file()}
    return dict(sorted((files | folders).items()))


def _module(name: str) -> ModuleType:
    return import_module(f"probe.analyses.{_module_names()[name]}")


def beside_published(published: xr.DataArray, here: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return ``published``, ``here``, ``here_sd`` and ``here_by_seed``, as `study_result` describes them."""
    mean = here.mean("seed")
    if set(published.dims) != set(mean.dims):
        raise ArgumentError(f"published: expected the dims {mean.dims} of our own numbers, found {published.dims}.")
    numbers = {
        "published": published.reindex_like(mean).transpose(*mean.dims),
        "here": mean,
        "here_sd": here.std("seed", ddof=1) if here.sizes["seed"] > 1 else mean * float("nan"),
        "here_by_seed": here.transpose("seed", *mean.dims),
    }
    return {
        name: variable.assign_attrs(
            long_name=f"{here.attrs['long_name']}, {_MEANINGS[name]}", units=here.attrs["units"]
        )
        for name, variable in numbers.items()
    }


def on_dims(cases: Sequence[xr.Dataset], dims: Mapping[str, Sequence[Any]]) -> xr.Dataset:
    """Join what was measured in every combination of some settings.

    Parameters
    ----------
    cases
        One for each combination, the last setting changing first.
    dims
        The settings by their names.

    Examples
    --------
    >>> cases = [xr.Dataset({"score": number}) for number in range(6)]
    >>> on_dims(cases, {"seed": [0, 1], "arm": ["a", "b", "c"]}).score.sel(seed=1, arm="a").item()
    3
    """
    joined = xr.concat(cases, "case", join="outer", combine_attrs="override")
    index = pd.MultiIndex.from_product(list(dims.values()), names=list(dims))
    found = joined.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "case")).unstack("case")
    return found.reindex({name: list(values) for name, values in dims.items()}).transpose(*dims, ...)


def with_published_places(measured: xr.Dataset, places: Mapping[str, Sequence[Any]]) -> xr.Dataset:
    """Give our own numbers the places of published ones behind their own; what was not measured there is NaN.

    Parameters
    ----------
    measured
        What a study has measured.
    places
        Dim -> the labels there of what has been published.

    Examples
    --------
    >>> own = xr.Dataset({"score": ("data_set", [0.9])}, {"data_set": ["digits"]})
    >>> with_published_places(own, {"data_set": ["CIFAR-10"]}).score.to_series().to_dict()
    {'digits': 0.9, 'CIFAR-10': nan}
    """
    labels = {dim: list(dict.fromkeys([*measured[dim].values.tolist(), *more])) for dim, more in places.items()}
    return measured.reindex(labels)


def study_result(
    study: Study,
    published: xr.DataArray,
    here: xr.DataArray,
    *,
    preset: str,
    settings: Mapping[str, Any],
    started: float,
    others: Mapping[str, xr.DataArray] | None = None,
    facts: Facts | None = None,
    warnings: Sequence[str] = (),
    command: str = "",
) -> xr.Dataset:
    """Put published and own numbers side by side.

    Parameters
    ----------
    study
        What was done.
    published
        The numbers of the source; NaN where it has none.
    here
        Our own, on the same dims and on ``seed``.
    preset, settings
        How it was done.
    started
        `time.monotonic` at the start.
    others
        Further variables for the figures, each with the attributes ``long_name`` and ``units``.
    facts
        Of which model and images the numbers are, where it is one model; by default the study makes its own.
    warnings
        What the reader should know of this run.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        ``published``, ``here`` (mean over seeds), ``here_sd`` (standard deviation over seeds, NaN for one seed) and
        ``here_by_seed``, all with the long name and units of `here`, then `others`; the study as attributes.

    Raises
    ------
    ArgumentError
        If the dims of `published` are not those of `here` without ``seed``.
    """
    result = xr.Dataset({**beside_published(published, here), **(others or {})})
    return finish(
        result,
        kind="study",
        facts=replace(facts or Facts(), duration_s=round(time.monotonic() - started, 1)).warned(warnings),
        settings=settings,
        command=command,
        analysis=study.name,
        title=study.title,
        question=study.question,
        source=study.source,
        protocol=list(study.protocol),
        departures=list(study.departures),
        preset=preset,
    )


_MEANINGS = {
    "published": "as published",
    "here": "mean over seeds",
    "here_sd": "standard deviation over seeds",
    "here_by_seed": "by seed",
}
