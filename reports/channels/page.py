"""The channel report: a saved study of position channels -> one page. Never loads torch."""

import numpy as np
import xarray as xr

from probe.errors import ArgumentError
from probe.reports.channels.estimates import later_layers, main_ranking, position
from probe.reports.channels.figures import draw_agreement, draw_changes, draw_curves, draw_position, draw_strongest
from probe.reports.channels.findings import findings, reading_layer
from probe.reports.channels.tables import agreement_table, position_table, ranking_table
from probe.reports.channels.texts import DEFINITIONS, methods, ranking_meanings
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import joined, written
from probe.reports.page.opening import add_findings, add_shown, lead_with_a_picture
from probe.reports.page.provenance import add_provenance, json_attribute
from probe.reports.page.removals import main_score, removal, removal_table
from probe.reports.page.samples import sample_notes

__all__ = ["build", "findings", "lead"]

ANALYSIS = "channels"

_READOUT_IMAGES = 500  # at most

lead = draw_curves
"""The figure that shows such a result where there is room for one."""


def build(result: xr.Dataset) -> Report:
    """Make the page of a study of position channels.

    Parameters
    ----------
    result
        From `probe.analyses.channels.study.run`, or loaded from its file.

    Returns
    -------
    Report
        The same for the same result.

    Raises
    ------
    ArgumentError
        If the result is of another kind.
    """
    if result.attrs.get("analysis") != ANALYSIS:
        raise ArgumentError(
            f"result: expected analysis={ANALYSIS!r}, found {result.attrs.get('analysis')!r}. "
            "Make one with `probe report channels`."
        )
    report = Report(_title(result), summary=_summary(result))
    images = min(int(result.attrs.get("eval_n_images", 0)), _READOUT_IMAGES)
    add_findings(report, findings(result), sample_notes(result, images) if "r2" in result else ())
    add_shown(report, result)
    _add_curves(report.add_section("What removing them does"), result)
    _add_changes(report.add_section("Score by score"), result)
    if "r2" in result:
        _add_position(report.add_section("Position afterwards"), result)
    _add_strongest(report.add_section("The channels"), result)
    if result.sizes["ranking"] > 1:
        _add_agreement(report.add_section("Do the rankings agree?"), result)
    _add_numbers(report.add_section("All numbers"), result)
    _add_meanings(report.add_section("What each number means"), result)
    _add_methods(report.add_section("Methods"), result)
    add_provenance(report.add_section("Provenance"), result, _images(result))
    lead_with_a_picture(report)
    return report


def _title(result: xr.Dataset) -> str:
    return f"Does {result.attrs.get('model', 'the model')} need its position channels?"


def _summary(result: xr.Dataset) -> str:
    count = result.sizes["ranking"]
    rankings = f"in {count} ways" if count > 1 else "in one way"
    return (
        f"The {result.sizes['channel']} channels of {result.attrs['layer']} are ranked {rankings} by how much they "
        f"depend on position, on {result.attrs.get('n_images', '?')} images; then the first are removed, and "
        f"{joined(map(str, result.score.values))} measured on {result.attrs.get('eval_n_images', '?')} others, beside "
        "random channels."
    )


def _add_curves(section: Section, result: xr.Dataset) -> None:
    ranking, score = main_ranking(result), main_score(result)
    points = []
    for count in map(int, result["count"].values):
        found = removal(result, ranking, score, count)
        points.append(f"{count}: {found.ranked} (random {written(found.low)} to {written(found.high)})")
    section.add_figure(
        draw_curves(result),
        caption=f"Score ({score}) against the number of channels removed, the first of each ranking or the last. "
        f"Grey: {result.sizes['draw']} random draws, mean and 5th to 95th percentile; pink: as many draws matched for "
        "mean |activation|. Bars: 95 % interval over images.",
        alt=f"Curves of {score} by number of channels removed, a panel for each ranking. For {ranking}: "
        f"{'; '.join(points)}.",
        table=removal_table(result, score),
    )


def _add_changes(section: Section, result: xr.Dataset) -> None:
    count, ranking = int(result.attrs["removed"]), main_ranking(result)
    parts = []
    for score in map(str, result.score.values):
        found = removal(result, ranking, score, count)
        parts.append(
            f"{score} {written(found.ranked.mean - found.intact.mean)} (random "
            f"{written(found.low - found.intact.mean)} to {written(found.high - found.intact.mean)})"
        )
    section.add_figure(
        draw_changes(result),
        caption=f"Change of each score without the first {count} channels of each ranking. Grey: mean and 5th to 95th "
        "percentile of random draws. Bars: 95 % interval, over images, of the difference to random channels. Dotted: "
        "no change.",
        alt=f"Points by ranking, a panel for each score, beside a band of random draws. For {ranking}: "
        f"{'; '.join(parts)}.",
    )


def _add_position(section: Section, result: xr.Dataset) -> None:
    layer = reading_layer(result)
    numbers = "; ".join(
        f"{stimulus}: {position(result, layer, stimulus, removed='nothing')} before, "
        f"{position(result, layer, stimulus, removed='ranked')} after"
        for stimulus in map(str, result.stimulus.values)
    )
    if not later_layers(result):
        section.add_paragraph(
            f"No layer behind {result.attrs['layer']} has a map, so position is read from its own channels that are "
            "left."
        )
    section.add_figure(
        draw_position(result),
        caption=f"R² of position from {result.attrs['layer']} on, before and after the first "
        f"{result.attrs['removed']} channels of {main_ranking(result)} are removed. Grey: as many random channels, a "
        "line for each draw. Bands: 95 % interval over images.",
        alt=f"Lines of R² by layer, a panel for each stimulus. R² at {layer}: {numbers}.",
        table=position_table(result),
    )


def _add_strongest(section: Section, result: xr.Dataset) -> None:
    channels = [int(channel) for channel in result.strongest.values]
    rolled = result.mean_map.sel(stimulus=str(result.stimulus.values[-1]))
    ranges = (rolled.max(["row", "column"]) - rolled.min(["row", "column"])).values
    numbers = "; ".join(f"{channel} {span:.3g}" for channel, span in zip(channels, ranges, strict=True))
    below = ""
    if "example_image" in result:
        below = " Below each map, the images whose mirror image changes the channel most, with the change."
    section.add_figure(
        draw_strongest(result),
        caption=f"Mean activation at each position of the {len(channels)} channels that {main_ranking(result)} ranks "
        f"first, about the average over the map; maps on one scale.{below}",
        alt=f"Maps of mean activation, a column for each channel. Channel, and highest minus lowest value on "
        f"{result.stimulus.values[-1]} images: {numbers}.",
    )


def _add_agreement(section: Section, result: xr.Dataset) -> None:
    count = int(result.n_first.values[np.abs(result.n_first.values - result.attrs["removed"]).argmin()])
    expected = float(result.overlap_expected.sel(n_first=count))
    stability = zip(result.ranking.values, result.stability.values.tolist(), strict=True)
    numbers = ", ".join(f"{name} {written(value)}" for name, value in stability)
    section.add_figure(
        draw_agreement(result, count),
        caption="Left: Spearman correlation of the rankings; on the diagonal, of a ranking with itself on other "
        f"images. Right: share of their first {count} channels that two rankings have in common; chance gives "
        f"{expected:.2f}.",
        alt=f"Two matrices, ranking by ranking. Split-half stability: {numbers}.",
        table=agreement_table(result),
    )


def _add_numbers(section: Section, result: xr.Dataset) -> None:
    section.add_table(
        ranking_table(result),
        caption="Every channel: its rank and score by each ranking. Scores of different rankings have different units.",
        name="channels",
        formats={f"{ranking} score": "#.3g" for ranking in map(str, result.ranking.values)},
        max_rows=100,
    )
    section.add_table(
        removal_table(result),
        caption="Every score without the channels ranked first, and without random ones and ones as active: "
        "their mean, and the difference to it.",
        name="ablation-curves",
    )


def _add_meanings(section: Section, result: xr.Dataset) -> None:
    section.add_definitions([*ranking_meanings(map(str, result.ranking.values)), *DEFINITIONS], linked=True)


def _add_methods(section: Section, result: xr.Dataset) -> None:
    for paragraph in methods(json_attribute(result, "settings")):
        section.add_paragraph(paragraph)


def _images(result: xr.Dataset) -> list[tuple[str, str]]:
    facts = {"eval_n_images": "Images scored", "eval_images_digest": "Digest of the images scored"}
    return [(label, str(result.attrs[name])) for name, label in facts.items() if name in result.attrs]
