"""The padding report: a saved comparison of paddings -> one page. Never loads torch."""

import xarray as xr

from probe.errors import ArgumentError
from probe.reports.padding_comparison.estimates import (
    broken,
    content_estimates,
    focus_layer,
    is_given,
    padding_estimates,
    position_estimates,
)
from probe.reports.padding_comparison.figures import (
    draw_by_depth,
    draw_channels,
    draw_content,
    draw_decoded_maps,
    draw_mean_maps,
    draw_shares,
)
from probe.reports.padding_comparison.findings import findings, percent
from probe.reports.padding_comparison.tables import channel_table, depth_table, network_table, overview_table
from probe.reports.padding_comparison.texts import PADDINGS, definitions, digit_methods, given_methods, readout_methods
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import joined
from probe.reports.page.opening import PRESET_NOTES, add_findings, add_shown, lead_with_a_picture
from probe.reports.page.provenance import add_provenance, json_attribute
from probe.reports.page.samples import sample_notes

__all__ = ["build", "findings", "lead"]

ANALYSIS = "padding_comparison"

_MOST_CHANNELS_IN_SVG = 1000

lead = draw_by_depth
"""The figure that shows such a result where there is room for one."""


def build(result: xr.Dataset) -> Report:
    """Make the page of a comparison of paddings.

    Parameters
    ----------
    result
        From `probe.analyses.padding_comparison.study.run`, or loaded from its file.

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
            "Make one with `probe report padding`."
        )
    report = Report(_title(result), summary=_summary(result))
    add_findings(report, findings(result), _notes(result))
    add_shown(report, result)
    _add_depth(report.add_section("Position by depth"), result)
    _add_content(report.add_section("What content adds"), result)
    _add_maps(report.add_section("Maps"), result)
    _add_channels(report.add_section("Channels"), result)
    if _shares(result):
        _add_shares(report.add_section("Predictions"), result)
    _add_numbers(report.add_section("All numbers"), result)
    report.add_section("What each number means").add_definitions(definitions(result), linked=True)
    _add_methods(report.add_section("Methods"), result)
    _add_provenance(report.add_section("Provenance"), result)
    lead_with_a_picture(report)
    return report


def _title(result: xr.Dataset) -> str:
    if is_given(result):
        return f"What padding tells {result.attrs.get('model', 'a model')} about position"
    return "Which padding tells a network where things are?"


def _summary(result: xr.Dataset) -> str:
    paddings = f"{result.sizes['padding']} paddings" if result.sizes["padding"] > 1 else "one padding"
    images = f"{result.attrs.get('n_images', '?')} images"
    if is_given(result):
        return (
            f"One model, run with the same weights under {paddings}, on {images}: how well absolute position "
            "can be read from its layers."
        )
    seeds = result.sizes["seed"]
    return (
        f"One architecture, trained under {paddings} from {seeds} {'seeds' if seeds > 1 else 'seed'} each to recognise "
        f"handwritten digits, and probed on {images}: how well absolute position can be read from its layers, and why."
    )


def _notes(result: xr.Dataset) -> list[str]:
    """Return what limits the findings."""
    notes = [PRESET_NOTES[preset]] if (preset := result.attrs.get("preset", "")) in PRESET_NOTES else []
    if is_given(result):
        own = result.attrs.get("own_padding") or "unknown"
        notes.append(
            f"The weights belong to the model's own padding ({own}), and are run unchanged under each. This shows what "
            "these weights make of each border, not what a network made for that padding would do."
        )
        if not {"accuracy", "agreement_with_own"} & set(result.data_vars):
            notes.append(
                "The model's output is not one row of logits for each image, so it cannot be told under which "
                "paddings it still does its task."
            )
    notes += sample_notes(result, int(result.attrs.get("n_images", 0)))
    failed = json_attribute(result, "failed").items()
    return notes + [f"Not measured: {padding} padding. {reason}" for padding, reason in failed]


def _add_depth(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    natural, rolled = (
        position_estimates(result, layer=layer, stimulus=stimulus, training="trained")
        for stimulus in ("natural", "rolled")
    )
    numbers = "; ".join(f"{padding}: natural {natural[padding]}, rolled {rolled[padding]}" for padding in natural)
    twin = " Dotted: the untrained twin." if "untrained" in result.training else ""
    section.add_figure(
        draw_by_depth(result),
        caption="How well position can be read from each layer: natural images (content and architecture) beside "
        f"rolled ones (architecture alone).{twin}{_band(result)}{_grey(result)}",
        alt=f"Lines of R² by layer, a panel for each padding. R² of position at {layer}: {numbers}.",
        table=depth_table(result),
    )


def _band(result: xr.Dataset) -> str:
    if is_given(result):
        return " Bands: 95 % interval over images."
    return " Bands: 95 % t interval over training seeds (of two, both values)." if result.sizes["seed"] > 1 else ""


def _grey(result: xr.Dataset) -> str:
    return " Grey panels: the model does its task no more there." if broken(result) else ""


def _add_content(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    numbers = "; ".join(f"{padding} {part}" for padding, part in content_estimates(result, layer).items())
    section.add_figure(
        draw_content(result),
        caption="The part of R² that the content of the images adds: natural − rolled, of the same images."
        f"{_band(result)}{_grey(result)}",
        alt=f"Lines of natural − rolled by layer, a panel for each padding. At {layer}: {numbers}.",
    )


def _add_maps(section: Section, result: xr.Dataset) -> None:
    paddings = [str(padding) for padding in result.padding.values]
    layers = dict.fromkeys(result[f"decoded_map_{index}"].attrs["layer"] for index in range(len(paddings)))
    spans = []
    for index, padding in enumerate(paddings):
        decoded = result[f"decoded_map_{index}"].sel(stimulus="rolled").mean("seed")
        spans.append(f"{padding} {float(decoded.min()):z.2f} to {float(decoded.max()):z.2f}".replace("-", "−"))
    section.add_figure(
        draw_decoded_maps(result),
        caption=f"Where the readout of {joined(layers)} believes each position to be, given the mean activation there "
        "(−1: top or left; 1: bottom or right). All on one scale; a perfect readout shows an even ramp, a blind one "
        "nothing. Maps shrink without padding and grow with full padding.",
        alt=f"Maps of decoded row and column, a column for each padding. Range on rolled images: {'; '.join(spans)}.",
    )
    ranges = []
    for index, padding in enumerate(paddings):
        mean = result[f"mean_map_{index}"].isel(seed=0, strongest=0).sel(stimulus="rolled")
        channel = int(result[f"strongest_channel_{index}"].isel(seed=0, strongest=0))
        ranges.append(f"{padding} {float(mean.max() - mean.min()):.2f} (channel {channel})")
    section.add_figure(
        draw_mean_maps(result),
        caption=f"Mean activation at each position of {joined(layers)}, about its average over the map, of the "
        "channels that depend most on position on rolled images (highest ω²), in the first network of each padding. "
        "Each row has a scale of its own.",
        alt="Maps of mean activation, a column for each padding. Highest minus lowest value of the first channel on "
        f"rolled images: {'; '.join(ranges)}.",
    )


def _add_channels(section: Section, result: xr.Dataset) -> None:
    table = channel_table(result)
    rolled = table[(table.stimulus == "rolled") & (table.layer == focus_layer(result))]
    numbers = "; ".join(f"{row.padding} {row.median:z.3f} ({row.highest:z.3f})" for row in rolled.itertuples())
    section.add_figure(
        draw_channels(result),
        caption="Share of each channel's variance that position explains, ω². In the slot of its layer each channel is "
        "a point of a falling curve." + ("" if is_given(result) else " The channels of all seeds are pooled."),
        alt="Sorted curves of ω² by layer, a panel for each padding. Median (and highest) ω² of the channels of "
        f"{focus_layer(result)} on rolled images: {numbers.replace('-', '−')}.",
        table=table,
        image_format="png" if result.sizes["channel"] > _MOST_CHANNELS_IN_SVG else "auto",
    )


def _shares(result: xr.Dataset) -> list[str]:
    return [name for name in ("accuracy", "agreement_with_own", "agreement") if name in result]


def _add_shares(section: Section, result: xr.Dataset) -> None:
    meanings = {
        "accuracy": "share of images whose predicted class is their label"
        if is_given(result)
        else "share of held-out digits recognised at held-out placements",
        "agreement_with_own": "share of images with the same predicted class as under the model's own padding",
        "agreement": "share of images with the same predicted class at two independent placements",
    }
    names = _shares(result)
    numbers = [
        f"{name}: "
        + ", ".join(
            f"{p} {percent(share.mean)}" for p, share in padding_estimates(result[name]).items() if share.is_known
        )
        for name in names
    ]
    section.add_figure(
        draw_shares(result),
        caption=" ".join(
            [
                "A point for each network.",
                *(f"{name.replace('_', ' ').capitalize()}: {meanings[name]}." for name in names),
            ]
        )
        + (" Grey: not ranked." if broken(result) else ""),
        alt=f"Points for each network by padding. Means: {'; '.join(numbers)}.",
    )


def _add_numbers(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    section.add_table(
        overview_table(result, layer),
        caption=f"The paddings at {layer}, where position is read best, with 95 % intervals"
        + (" over images." if is_given(result) else " over training seeds; of two seeds, both values."),
        name="padding-overview",
    )
    section.add_table(
        network_table(result),
        caption="Every score of every readout, one by one.",
        name="padding-scores",
        max_rows=100,
        formats={"samples_per_feature": ".0f", "height": ".0f", "width": ".0f"},
    )


def _add_methods(section: Section, result: xr.Dataset) -> None:
    settings = json_attribute(result, "settings")
    section.add_definitions([(str(padding), PADDINGS.get(str(padding), "")) for padding in result.padding.values])
    paragraphs = given_methods() if is_given(result) else digit_methods(settings.get("training", {}))
    for paragraph in [*paragraphs, readout_methods(settings.get("probing", {}))]:
        section.add_paragraph(paragraph)


def _add_provenance(section: Section, result: xr.Dataset) -> None:
    if is_given(result):
        facts = [
            ("Own padding", str(result.attrs.get("own_padding"))),
            ("Seed of the stimuli", str(result.seed.item())),
        ]
    else:
        facts = [("Seeds", ", ".join(map(str, result.seed.values)))]
    add_provenance(section, result, facts)
    section.add_json("Digests of the weights (padding, seed, training)", json_attribute(result, "weights_digests"))
