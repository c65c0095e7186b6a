"""The page of a plain result: findings, figures, the main table, the meaning of its terms, provenance."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.errors import ArgumentError
from probe.reports.page import erasures
from probe.reports.page.document import Report
from probe.reports.page.opening import add_findings, lead_with_a_picture
from probe.reports.page.provenance import add_provenance
from probe.reports.page.samples import sample_notes
from probe.reports.results import channels, erasing, geometry, layers, shifts
from probe.reports.results.meanings import meanings_of

__all__ = ["KINDS", "build", "findings", "formats_of", "lead"]


class _Kind(NamedTuple):
    title: str
    findings: Callable[[xr.Dataset], list[str]]
    figures: Callable[[xr.Dataset], Iterator[tuple[Figure, str]]]
    table: Callable[[xr.Dataset], pd.DataFrame]


KINDS = {
    "layerwise": _Kind(
        "Where {model} knows position", layers.position_findings, layers.position_figures, layers.position_table
    ),
    "channelwise": _Kind(
        "Which channels of {model} depend on position",
        channels.omega2_findings,
        channels.omega2_figures,
        channels.omega2_table,
    ),
    "ranking": _Kind(
        "The channels of {model}, ranked", channels.ranking_findings, channels.ranking_figures, channels.ranking_table
    ),
    "rankings": _Kind(
        "Rankings of the channels of {model}, compared",
        channels.agreement_findings,
        channels.agreement_figures,
        channels.agreement_table,
    ),
    "ablation_curve": _Kind(
        "{model} without some of its channels",
        channels.ablation_findings,
        channels.ablation_figures,
        channels.ablation_table,
    ),
    "pooled": _Kind(
        "What the averages of {model} tell of position",
        layers.pooled_findings,
        layers.pooled_figures,
        layers.pooled_table,
    ),
    "similarity": _Kind(
        "How alike the features of {model} are wherever an object stands",
        geometry.similarity_findings,
        geometry.similarity_figures,
        geometry.similarity_table,
    ),
    "shift_consistency": _Kind(
        "Whether {model} says the same of a shifted image",
        shifts.consistency_findings,
        shifts.consistency_figures,
        shifts.consistency_table,
    ),
    "neighbours": _Kind(
        "Whether the features of {model} match by place",
        shifts.neighbours_findings,
        shifts.neighbours_figures,
        shifts.neighbours_table,
    ),
    "erasure_proof": _Kind(
        "What erasing leaves of position in {model}",
        erasures.erasing_findings,
        erasing.proof_figures,
        erasures.erasing_table,
    ),
    "erasure_curve": _Kind(
        "{model} without position in one layer",
        erasures.erasing_findings,
        erasing.curve_figures,
        erasures.erasing_table,
    ),
    "erasure_matrix": _Kind(
        "Where {model} reads position anew", erasures.matrix_findings, erasing.matrix_figures, erasures.matrix_table
    ),
    "stronger_readouts": _Kind(
        "What stronger readouts find in {model}",
        erasures.reader_findings,
        erasing.reader_figures,
        erasures.reader_table,
    ),
    "border_profile": _Kind(
        "How far the border of {model} reaches",
        geometry.border_findings,
        geometry.border_figures,
        geometry.border_table,
    ),
    "audit": _Kind(
        "How {model} reads its borders", geometry.audit_findings, geometry.audit_figures, geometry.audit_table
    ),
}

_FORMATS = {
    "similarity": {"global similarity": ".4f", "local roughness": "#.2g"},
    "ranking": {"score": "#.3g"},
    "border_profile": dict.fromkeys(
        [
            "windows read beyond, pixels",
            *(f"reach of the border, {stimulus}, pixels" for stimulus in ("natural", "rolled")),
        ],
        ".3g",
    ),
}


def formats_of(kind: str, table: pd.DataFrame) -> dict[str, str]:
    """Return how the numbers of some columns of the table of a kind of result are written."""
    return {column: spec for column, spec in _FORMATS.get(kind, {}).items() if column in table}


def findings(result: xr.Dataset) -> list[str]:
    """Return what a plain result says, as its page shows it."""
    return KINDS[result.attrs["kind"]].findings(result)


def lead(result: xr.Dataset) -> Figure:
    """Return the figure that shows a plain result where there is room for one: the first of its page.

    Raises
    ------
    ArgumentError
        If there is nothing to draw.
    """
    for figure, _ in KINDS[result.attrs["kind"]].figures(result):
        return figure
    raise ArgumentError("result: there is nothing to draw in it.")


def build(result: xr.Dataset) -> Report:
    """Make the page of a plain result.

    Parameters
    ----------
    result
        Of one of `KINDS`, by its attribute ``kind``.

    Returns
    -------
    Report
        The same for the same result.
    """
    kind = KINDS[result.attrs["kind"]]
    sentences = kind.findings(result)
    report = Report(kind.title.format(model=result.attrs.get("model", "a model")), summary=_summary(result))
    notes = (
        sample_notes(result, int(result.attrs.get("n_images", 0))) if "r2" in result and "layer" in result.dims else []
    )
    add_findings(report, sentences, notes)
    section = report.add_section("Figures")
    for figure, caption in kind.figures(result):
        section.add_figure(figure, caption=caption, alt=f"{caption} {' '.join(sentences)}")
    if not section.blocks:
        report.sections.remove(section)
    table = kind.table(result)
    report.add_section("Numbers").add_table(
        table,
        formats=formats_of(str(result.attrs["kind"]), table),
        caption=f"The numbers of this result ({result.attrs['kind']}).",
        name=result.attrs["kind"],
    )
    stimuli = result.coords.get("stimulus", xr.DataArray([])).values
    pairs = meanings_of(" ".join(map(str, [*sentences, *result.data_vars, *table, *stimuli])))
    if pairs:
        report.add_section("What each number means").add_definitions(pairs, linked=True)
    add_provenance(report.add_section("Provenance"), result)
    lead_with_a_picture(report)
    return report


def _summary(result: xr.Dataset) -> str:
    about = [str(result.attrs.get("model", "A model of unknown name"))]
    about.append(f"weights: {result.attrs.get('weights') or 'as the model came, from where is not recorded'}")
    if result.attrs.get("n_images"):
        about.append(f"{int(result.attrs['n_images']):,} images")
    return "; ".join(about) + "."
