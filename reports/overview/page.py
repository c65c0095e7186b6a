"""The page of one model: where it knows position, why, and what happens without. Never loads torch."""

from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from probe.reports.overview.figures import draw_decoded, draw_depth, draw_variants
from probe.reports.overview.findings import findings
from probe.reports.overview.parts import NAMES, VARIANTS, Overview
from probe.reports.overview.regions import draw_regions, regions_of, regions_table
from probe.reports.overview.tables import (
    depth_table,
    parts_table,
    variant_layers_table,
    variants_table,
)
from probe.reports.overview.texts import DEFINITIONS, methods
from probe.reports.page.document import Report, Section
from probe.reports.page.erasures import erasing_findings
from probe.reports.page.estimates import joined
from probe.reports.page.opening import add_findings, add_shown, lead_with_a_picture
from probe.reports.page.provenance import add_provenance, json_attribute
from probe.reports.page.samples import sample_notes
from probe.reports.results.erasing import proof_figures
from probe.reports.results.meanings import meanings_of
from probe.reports.results.page import KINDS, formats_of

__all__ = ["build", "findings", "lead"]

_WHICH = ("channels", "rankings")
_WITHOUT = ("erasing", "stronger", "rereading", "ablation", "neighbours", "consistency")
_MOST_CHANNELS_IN_SVG = 300


def build(result: xr.Dataset) -> Report:
    """Make the page of one model.

    Parameters
    ----------
    result
        From `probe.analyses.overview.study.run`, or loaded from its file.

    Returns
    -------
    Report
        The same for the same result.

    Raises
    ------
    ArgumentError
        If the result is of another kind.
    """
    whole = Overview.of(result)
    sentences = findings(result)
    report = Report(f"Where {whole.model} knows position, why, and what happens without", summary=_summary(result))
    add_findings(report, sentences, _notes(whole, result))
    _add_where(report.add_section("Where is position read?"), whole, result)
    add_shown(report, result)
    _add_why(report.add_section("Why is it there?"), whole)
    _add_which(report.add_section("Which channels and directions carry it?"), whole)
    without = report.add_section("What happens without it?")
    _add_scores(without, whole, result)
    _add_parts(without, whole, _WITHOUT)
    tables = {part: KINDS[str(one.attrs["kind"])].table(one) for part, one in whole.parts.items()}
    _add_numbers(report.add_section("All numbers"), whole, tables)
    said = " ".join([*sentences, *DEFINITIONS.values(), *_terms(whole, tables)])
    report.add_section("What each number means").add_definitions(
        [*meanings_of(said), *DEFINITIONS.items()], linked=True
    )
    described = report.add_section("Methods")
    for paragraph in methods(whole, json_attribute(result, "settings")):
        described.add_paragraph(paragraph)
    add_provenance(report.add_section("Provenance"), result)
    lead_with_a_picture(report)
    return report


def lead(result: xr.Dataset) -> Figure:
    """Return the figure that shows such a result where there is room for one."""
    return draw_depth(Overview.of(result))


def _summary(result: xr.Dataset) -> str:
    weights = result.attrs.get("weights") or "as the model came, from where is not recorded"
    return (
        f"{result.attrs.get('model', 'A model')}; weights: {weights}; {int(result.attrs.get('n_images', 0)):,} images."
    )


def _notes(whole: Overview, result: xr.Dataset) -> list[str]:
    """Return what limits the findings."""
    notes = [f"{NAMES.get(part, part)}: this part failed. {reason}" for part, reason in whole.failed.items()]
    if json_attribute(result, "settings").get("quick"):
        notes.append("Quick: at most 200 images, and fewer draws, ranks and changes of the model than in full.")
    return notes + sample_notes(whole.where, int(result.attrs.get("n_images", 0)))


def _add_where(section: Section, whole: Overview, result: xr.Dataset) -> None:
    natural, rolled = (whole.read(whole.where, whole.peak, stimulus) for stimulus in ("natural", "rolled"))
    twin = ", beside its untrained twin" if "untrained" in whole.parts else ""
    section.add_figure(
        draw_depth(whole),
        caption=f"How well position can be read from each layer{twin}: natural images (content and architecture) and "
        "rolled ones (architecture alone). Grey lines: with positions shuffled, and of any map. Bands: 95 % interval "
        "over images.",
        alt=f"Lines of R² by layer, a panel for each stimulus. At {whole.peak}: natural {natural}, rolled {rolled}.",
        table=depth_table(whole),
    )
    _say_what_is_missing(section, whole, ["untrained"])
    has_maps = any(
        str(name).startswith("decoded_map_") and variable.attrs.get("layer") == whole.layer
        for name, variable in whole.where.data_vars.items()
    )
    if "shown_image" in result and has_maps:
        shown = result.shown_image.sel(shown="natural").transpose("shown_number", ..., "colour").values
        section.add_figure(
            draw_decoded(whole, shown),
            caption=f"The decoded position of each cell of {whole.layer}, drawn over {len(shown)} of the images: an "
            "arrow leads from the cell to where the readouts place its mean activation over all images; the images "
            "are the ground only.",
            alt=f"Arrows over {len(shown)} photographs, natural above rolled; the error stands above each.",
        )


def _add_why(section: Section, whole: Overview) -> None:
    if whole.variants:
        numbers = "; ".join(f"{name} {whole.read(one, whole.peak)}" for name, one in whole.variants.items())
        section.add_figure(
            draw_variants(whole),
            caption="How well position can be read on rolled images, of the model as it is and with one thing changed, "
            "the weights as they are. Grey: not ranked, since the model does its task no more. Bands: 95 % interval "
            "over images.",
            alt=f"Lines of R² by layer, a colour for each change. At {whole.peak}: as it is "
            f"{whole.read(whole.where, whole.peak)}; {numbers}.",
            table=variant_layers_table(whole),
        )
        section.add_table(
            variants_table(whole),
            caption=f"The model as it is and with each thing changed, at {whole.peak} on rolled images.",
            name="changes",
        )
        if not any(np.isfinite(whole.agreement(name)) for name in whole.variants):
            section.add_paragraph(
                "Whether a changed model still does its task is not known: the model gives no class to an image, so "
                "that none is left out of the comparison for it."
            )
    _say_what_is_missing(section, whole, VARIANTS)
    _add_parts(section, whole, ["audit", "border"])


def _add_which(section: Section, whole: Overview) -> None:
    _add_parts(section, whole, _WHICH)
    if "erasing" in whole.parts:
        curve = whole.parts["erasing"]
        # A curve of scores holds all that a proof does.
        for figure, caption in proof_figures(curve.assign_attrs(kind="erasure_proof")):
            section.add_figure(figure, caption=caption, alt=f"{caption} {erasing_findings(curve)[0]}")


def _add_parts(section: Section, whole: Overview, names: Iterable[str]) -> None:
    """Add the figures of parts, each with what it found."""
    for part in names:
        if part not in whole.parts:
            continue
        result = whole.parts[part]
        kind = KINDS[result.attrs["kind"]]
        sentences = kind.findings(result)
        # Those of directions stand where directions are spoken of.
        count = result.sizes["score"] if part == "erasing" else None
        for figure, caption in islice(kind.figures(result), count):
            many = result.sizes.get("channel", 0) > _MOST_CHANNELS_IN_SVG
            section.add_figure(
                figure,
                caption=caption,
                alt=f"{caption} {' '.join(sentences)}",
                image_format="png" if many else "auto",
            )
        section.add_list(sentences)
    _say_what_is_missing(section, whole, names)


def _say_what_is_missing(section: Section, whole: Overview, names: Iterable[str]) -> None:
    """Say which parts failed, and which do not apply, those for one reason together."""
    together: dict[str, list[str]] = {}
    for part in names:
        if part in whole.failed:
            section.add_note(f"{NAMES[part]}: this part failed. {whole.failed[part]}")
        elif part in whole.absent:
            together.setdefault(whole.absent[part], []).append(NAMES[part])
    for reason, parts in together.items():
        first, *others = parts
        named = joined([first, *(f"{part[0].lower()}{part[1:]}" for part in others)])
        section.add_paragraph(f"{named}: not measured. {reason[0].upper()}{reason[1:]}")


def _add_scores(section: Section, whole: Overview, result: xr.Dataset) -> None:
    """Add the score of each region of the images, or say why there is none."""
    part = next((whole.parts[name] for name in ("erasing", "ablation") if name in whole.parts), None)
    regions = [] if part is None else regions_of(part)
    if part is None or not regions:
        labelled = bool(json_attribute(result, "settings").get("labelled"))
        reason = "the labels are of whole images, not of pixels" if labelled else "there are no labels of pixels"
        section.add_paragraph(f"Accuracy by region: not measured, since {reason}.")
        return
    table = regions_table(part)
    rows = "; ".join(f"{row['region']} {row['as it is']}" for _, row in table.iterrows())
    section.add_figure(
        draw_regions(part),
        caption="The score of the whole image and of the thirds of its columns, of the model as it is and with "
        "position erased, beside random directions, with 95 % intervals over images (of random directions: from the "
        "least to the most of all draws).",
        alt=f"Points with bars for each region. As it is: {rows}.",
        table=table,
    )


def _add_numbers(section: Section, whole: Overview, tables: Mapping[str, pd.DataFrame]) -> None:
    section.add_table(
        parts_table(whole), caption="What was measured, by which call of probe, and how long it took.", name="parts"
    )
    for part, result in whole.parts.items():
        if part in VARIANTS or part == "untrained":
            continue
        table = tables[part]
        section.add_table(
            table,
            caption=f"{NAMES[part]}: every number.",
            name=part,
            max_rows=60,
            formats=formats_of(str(result.attrs["kind"]), table),
        )


def _terms(whole: Overview, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    named = [str(name) for one in whole.parts.values() for name in [*one.data_vars, *one.attrs.values()]]
    return [*named, *(str(column) for table in tables.values() for column in table)]
