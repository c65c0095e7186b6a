"""The page of any study: what was asked and how, published numbers beside our own, figures, departures."""

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.errors import ArgumentError
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import estimate
from probe.reports.page.opening import PRESET_NOTES, add_findings, add_shown, lead_with_a_picture
from probe.reports.page.provenance import add_provenance, json_attribute
from probe.results import published_table

__all__ = ["build", "comparison_table", "findings", "lead", "page_of"]


_PERCENT = (0.0, 100.0)


def build(result: xr.Dataset) -> Report:
    """Make the page of a study.

    Its figures and findings come from the file of the study's name in `reports`, which has ``findings(result)``, a
    list of sentences, and ``add_figures(report, result)``, which adds sections.

    Parameters
    ----------
    result
        From `probe.analyses.studies.study_result`, or loaded from its file.

    Returns
    -------
    Report
        The same for the same result.

    Raises
    ------
    ArgumentError
        If there is no page of this study.
    """
    study = page_of(result.attrs.get("analysis"))
    report = Report(result.attrs["title"], summary=result.attrs["question"])
    preset = result.attrs["preset"]
    add_findings(report, findings(result), [PRESET_NOTES[preset]] if preset in PRESET_NOTES else [])
    _add_protocol(report.add_section("Protocol"), result)
    _add_numbers(report.add_section("Published and here"), result)
    if _is_measured(result):
        study.add_figures(report, result)
    add_shown(report, result)
    _add_departures(report.add_section("Departures from the original"), result)
    facts = [("Preset", result.attrs["preset"]), ("Seeds", ", ".join(map(str, result["seed"].values)))]
    add_provenance(report.add_section("Provenance"), result, facts)
    lead_with_a_picture(report)
    return report


def findings(result: xr.Dataset) -> list[str]:
    """Return the findings of a study, as its page shows them."""
    study = page_of(result.attrs.get("analysis"))
    if not _is_measured(result):
        quantity = str(result.here_by_seed.attrs["long_name"]).removesuffix(", by seed")
        return [f"Nothing came out: no measured {quantity} is a finite number."]
    return list(study.findings(result))


def lead(result: xr.Dataset) -> Figure:
    """Return the figure that shows such a result where there is room for one: the first of its page.

    Raises
    ------
    ArgumentError
        If nothing was measured, or there is none.
    """
    gallery = _Gallery()
    if _is_measured(result):
        page_of(result.attrs.get("analysis")).add_figures(gallery, result)
    if not gallery.figures:
        raise ArgumentError("result: there is nothing to draw in it.")
    return gallery.figures[0]


class _Gallery:
    """What a page adds figures to, in place of a report: it keeps them, and neither draws them nor keeps texts."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add_section(self, title: str) -> "_Gallery":
        return self

    def add_figure(self, figure: Figure, **described: Any) -> None:
        self.figures.append(figure)

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None


def _is_measured(result: xr.Dataset) -> bool:
    return bool(np.isfinite(result.here_by_seed).any())


def comparison_table(result: xr.Dataset) -> pd.DataFrame:
    """Return the table of a study: the numbers of `probe.results.published_table`, with the interval over seeds.

    The column ``here ± 95 %`` holds our mean over seeds with its 95 % t interval, of two seeds both values; of a single
    network its interval over images, where the study tells it. Columns of published numbers are left out where nothing
    has been published.
    """
    table = published_table(result)
    keys = [str(dim) for dim in result.here.dims]
    within = _PERCENT if result.here_by_seed.attrs["units"] == "%" else None
    rows = {key: xr.DataArray(table[key].to_numpy(), dims="row") for key in keys}
    by_seed = [
        estimate(seeds, within, errors=errors, degrees=result.sizes.get("image", 0) - 1)
        for seeds, errors in zip(
            *(values.sel(rows).transpose("row", "seed").values for values in (result.here_by_seed, _errors(result))),
            strict=True,
        )
    ]
    table.insert(list(table.columns).index("here"), "here ± 95 %", pd.Series(by_seed, dtype=object))
    table = table.drop(columns="here").rename(columns={"here_sd": "sd"})
    return table.drop(columns=[name for name in ("published", "difference") if table[name].isna().all()])


def _errors(result: xr.Dataset) -> xr.DataArray:
    """Return the standard error over images of each network's numbers, NaN where the study does not tell it."""
    has_errors = "image" in result.sizes and "error" in result and result.error.dims == result.here_by_seed.dims
    return result.error if has_errors else xr.full_like(result.here_by_seed, np.nan)


def page_of(name: str | None) -> ModuleType:
    """Return the figures and findings of a study: the file of its name, or the file ``page`` in the folder.

    Raises
    ------
    ArgumentError
        If there is no page of this study.
    """
    found = {module.name: module.ispkg for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    if name not in found:
        raise ArgumentError(f"result: there is no page of the study {name!r}; expected a result of `probe analyse`.")
    page = import_module(f"probe.reports.{name}.page" if found[name] else f"probe.reports.{name}")
    if not hasattr(page, "add_figures"):
        raise ArgumentError(f"result: analysis={name!r} is no study; expected a result of `probe analyse`.")
    return page


def _add_protocol(section: Section, result: xr.Dataset) -> None:
    if result.attrs["source"]:
        section.add_paragraph(f"After {result.attrs['source']}")
    section.add_list(json_attribute(result, "protocol"))


def _add_numbers(section: Section, result: xr.Dataset) -> None:
    table = comparison_table(result)
    about = result.here_by_seed.attrs
    quantity, units = about["long_name"].removesuffix(", by seed"), about["units"]
    digits = 1 if units == "%" else _decimals(table)
    section.add_paragraph(_agreement(table, units, digits))
    spread = "standard deviation over seeds"
    n_seeds = table.seeds.max()
    if (table.seeds[table.seeds > 0] == n_seeds).all():
        spread += f" ({n_seeds} {'seeds' if n_seeds > 1 else 'seed'} each)"
        table = table.drop(columns="seeds")
    single = "; of one, over images" if bool(np.isfinite(_errors(result)).any()) else ""
    section.add_table(
        table,
        caption=f"{quantity.capitalize()}{'' if units == '1' else f' ({units})'}: "
        f"{'as published, and here as ' if 'published' in table else ''}the mean over seeds with its 95 % t interval "
        f"(of two seeds, both values{single}), and the {spread}. A dash: not published, not measured, or of one seed, "
        "which has no spread.",
        name=f"{result.attrs['analysis']}-published-and-here",
        digits=digits,
        formats={str(column): "d" for column in table if pd.api.types.is_integer_dtype(table[column])},
    )


def _decimals(table: pd.DataFrame) -> int:
    """Return decimals that leave two digits of the least, from three to five; none if all numbers are whole."""
    means = table["here ± 95 %"].map(lambda item: item.mean)
    shown = pd.concat([means, *(table[name] for name in ("published", "sd", "difference") if name in table)]).dropna()
    if (shown == shown.round()).all():
        return 0
    sizes = np.fmax(means.abs(), table.sd)
    least = sizes[sizes > 0].min()
    return 3 if pd.isna(least) else int(np.clip(np.ceil(1 - np.log10(least)), 3, 5))


def _agreement(table: pd.DataFrame, units: str, digits: int) -> str:
    both = table.dropna(subset=["difference"]) if "difference" in table else table.iloc[:0]
    if not len(both):
        return "No published numbers are at hand of what was measured here."
    unit = {"1": "", "%": " points"}.get(units, f" {units}")
    distances = both.difference.abs()
    if len(both) == 1:
        return f"One of these numbers has been published. Ours differs from it by {distances.iloc[0]:.{digits}f}{unit}."
    return (
        f"{len(both)} of these numbers have been published. Ours differ from them by "
        f"{distances.mean():.{digits}f}{unit} in the mean, and by {distances.max():.{digits}f}{unit} at most."
    )


def _add_departures(section: Section, result: xr.Dataset) -> None:
    departures = json_attribute(result, "departures")
    if departures:
        section.add_list(departures)
    else:
        section.add_paragraph("There are none.")
