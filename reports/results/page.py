"""The page of a plain result: findings, figures, the main table, the meaning of its terms, provenance."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.reports.page.document import Report
from probe.reports.page.opening import add_findings, lead_with_a_picture
from probe.reports.page.provenance import add_provenance
from probe.reports.page.samples import R2_MEANING, sample_notes
from probe.reports.results import channels, geometry, layers, shifts

__all__ = ["KINDS", "build"]


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
    "audit": _Kind(
        "How {model} reads its borders", geometry.audit_findings, geometry.audit_figures, geometry.audit_table
    ),
}

_MEANINGS = {
    "R²": R2_MEANING,
    "R² shuffled": "The same readout where the positions of every image are shuffled: 0 up to noise.",
    "R² other maps": "The same readout of other maps, mean over fixed permutations of the grid that are orthogonal to "
    "the target: how well any map can be read.",
    "bits": "Information that the readout gives on a row or column: −½ log₂(1 − R²); 0 where R² is not above 0.",
    "samples a channel": "How many samples, cells of images, the readout saw for each channel.",
    "ω²": "Share of a channel's variance that position explains. 0 in expectation where it plays no part.",
    "natural": "The images as they are: content tells position, for example by light from above.",
    "rolled": "Each image shifted circularly by a random offset, so that content cannot tell position; what can still "
    "be read comes from the architecture.",
    "±": "Half of the 95 % interval of this one network, over images.",
    "stability": "Spearman's correlation of the scores from two halves of the images.",
    "Holm": "Correction for the number of comparisons (Holm 1979): the chance of a single false verdict is at most "
    "5 %.",
    "chance": "What is expected without knowledge of position: of images in cells of a canvas, the share in the most "
    "common one, which a constant answer would get; of nearest cells, the number within reach over all cells.",
    "consistency": "How often the prediction of a model is the same at two shifts of an image; of embeddings, their "
    "mean cosine similarity. 1: shifts change nothing.",
    "same place": "Of a cell's features, the nearest (cosine) among the cells of another image lies at the same place. "
    "1: features tell place alone; at chance: they do not tell it.",
    "local roughness": "How far the similarity at a position is, on average, from the mean of its two neighbours; 0 "
    "where it changes evenly.",
    "global similarity": "Mean cosine similarity of the features at all positions of an object to those at a "
    "reference; 1: the layer does not tell position.",
    "padding that is never read": "Rows or columns of padding that no window reaches, because sizes and strides do not "
    "match. They make opposite borders unlike.",
}


_FORMATS = {"similarity": {"global similarity": ".4f", "local roughness": "#.2g"}, "ranking": {"score": "#.3g"}}


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
        formats=_FORMATS.get(str(result.attrs["kind"])),
        caption=f"The numbers of this result ({result.attrs['kind']}).",
        name=result.attrs["kind"],
    )
    stimuli = result.coords.get("stimulus", xr.DataArray([])).values
    said = " ".join(map(str, [*sentences, *result.data_vars, *table, *stimuli]))
    pairs = [(term, meaning) for term, meaning in _MEANINGS.items() if term in said]
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
