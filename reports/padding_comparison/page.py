"""The padding report: a saved comparison of paddings -> one page. Never loads torch."""

import xarray as xr

from probe.errors import ArgumentError
from probe.reports.padding_comparison.estimates import content_part, focus_layer, padding_estimates, position_r2
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
from probe.reports.padding_comparison.texts import DEFINITIONS, PADDINGS, digit_methods, given_methods, readout_methods
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import Estimate, listed
from probe.reports.page.provenance import add_provenance, json_attribute

__all__ = ["build", "findings"]

ANALYSIS = "padding_comparison"

_MOST_CHANNELS_IN_SVG = 1000


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
    _add_findings(report.add_section("Findings"), result)
    _add_depth(report.add_section("Position by depth"), result)
    _add_content(report.add_section("What content adds"), result)
    _add_maps(report.add_section("Maps"), result)
    _add_channels(report.add_section("Channels"), result)
    if _shares(result):
        _add_shares(report.add_section("Predictions"), result)
    _add_numbers(report.add_section("All numbers"), result)
    report.add_section("What each number means").add_definitions(DEFINITIONS)
    _add_methods(report.add_section("Methods"), result)
    _add_provenance(report.add_section("Provenance"), result)
    return report


def _is_given(result: xr.Dataset) -> bool:
    return result.attrs.get("networks") == "given"


def _title(result: xr.Dataset) -> str:
    if _is_given(result):
        return f"What padding tells {result.attrs.get('model', 'a model')} about position"
    return "Which padding tells a network where things are?"


def _summary(result: xr.Dataset) -> str:
    paddings = f"{result.sizes['padding']} paddings" if result.sizes["padding"] > 1 else "one padding"
    images = f"{result.attrs.get('n_images', '?')} images"
    if _is_given(result):
        return (
            f"One trained model, run with the same weights under {paddings}, on {images}: how well absolute position "
            "can be read from its layers."
        )
    seeds = result.sizes["seed"]
    return (
        f"One architecture, trained under {paddings} from {seeds} {'seeds' if seeds > 1 else 'seed'} each to recognise "
        f"handwritten digits, and probed on {images}: how well absolute position can be read from its layers, and why."
    )


def _add_findings(section: Section, result: xr.Dataset) -> None:
    section.add_list(findings(result))
    if _is_given(result):
        own = result.attrs.get("own_padding") or "unknown"
        section.add_note(
            f"The weights were trained with another padding than most of those compared here (the model's own: {own}), "
            "and are run unchanged under each. This shows what these weights make of each border, not what a network "
            "trained with that padding would have learned."
        )
    for padding, reason in json_attribute(result, "failed").items():
        section.add_note(f"Not measured: {padding} padding. {reason}")


def _add_depth(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    at_layer = position_r2(result).sel(layer=layer, training="trained")
    numbers = "; ".join(
        f"{padding}: natural {natural}, rolled {rolled}"
        for padding, natural, rolled in _both(at_layer.sel(stimulus="natural"), at_layer.sel(stimulus="rolled"))
    )
    twin = " Dotted: the untrained twin." if "untrained" in result.training else ""
    section.add_figure(
        draw_by_depth(result),
        caption="How well position can be read from each layer: natural images (content and architecture) beside "
        f"rolled ones (architecture alone).{twin}{_band(result)}",
        alt=f"Lines of R² by layer, a panel for each padding. R² of position at {layer}: {numbers}.",
        table=depth_table(result),
    )


def _both(first: xr.DataArray, second: xr.DataArray) -> list[tuple[str, Estimate, Estimate]]:
    others = padding_estimates(second)
    return [(padding, value, others[padding]) for padding, value in padding_estimates(first).items()]


def _band(result: xr.Dataset) -> str:
    return " Bands: 95 % t interval over training seeds." if result.sizes["seed"] > 1 else ""


def _add_content(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    added = padding_estimates(content_part(result).sel(layer=layer, training="trained").mean("fold"))
    numbers = "; ".join(f"{padding} {part}" for padding, part in added.items())
    over = "training seeds" if result.sizes["seed"] > 1 else "folds of images, of this one network"
    section.add_figure(
        draw_content(result),
        caption="The part of R² that the content of the images adds: natural − rolled, paired by fold. Bands: 95 % t "
        f"interval over {over}.",
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
        caption=f"Where the readout of {listed(layers)} believes each position to be, given the mean activation there "
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
        caption=f"Mean activation at each position of {listed(layers)}, about its average over the map, of the "
        "channels that depend most on position on rolled images (highest ω²), in the first network of each padding. "
        "All on one scale.",
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
        "a point of a falling curve; the channels of all seeds are pooled.",
        alt="Sorted curves of ω² by layer, a panel for each padding. Median (and highest) ω² of the channels of "
        f"{focus_layer(result)} on rolled images: {numbers.replace('-', '−')}.",
        table=table,
        image_format="png" if result.sizes["channel"] > _MOST_CHANNELS_IN_SVG else "auto",
    )


def _shares(result: xr.Dataset) -> list[str]:
    return [name for name in ("accuracy", "agreement") if name in result]


def _add_shares(section: Section, result: xr.Dataset) -> None:
    meanings = {
        "accuracy": "share of held-out digits recognised at held-out placements",
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
        caption=" ".join(["A point for each network.", *(f"{name.capitalize()}: {meanings[name]}." for name in names)]),
        alt=f"Points for each network by padding. Means: {'; '.join(numbers)}.",
    )


def _add_numbers(section: Section, result: xr.Dataset) -> None:
    layer = focus_layer(result)
    section.add_table(
        overview_table(result, layer),
        caption=f"The paddings at {layer}, the mean over networks (± half of the 95 % t interval over seeds).",
        name="padding-overview",
    )
    section.add_table(
        network_table(result),
        caption="Every score of every network. The readouts of the seeds, targets and stimuli, one by one.",
        name="padding-scores",
        max_rows=100,
        formats={"samples_per_feature": ".0f", "height": ".0f", "width": ".0f", "seed": "d"},
    )


def _add_methods(section: Section, result: xr.Dataset) -> None:
    settings = json_attribute(result, "settings")
    section.add_definitions([(str(padding), PADDINGS.get(str(padding), "")) for padding in result.padding.values])
    paragraphs = given_methods() if _is_given(result) else digit_methods(settings.get("training", {}))
    for paragraph in [*paragraphs, readout_methods(settings.get("probing", {}))]:
        section.add_paragraph(paragraph)


def _add_provenance(section: Section, result: xr.Dataset) -> None:
    add_provenance(section, result, [("Seeds", ", ".join(map(str, result.seed.values)))])
    section.add_json("Digests of the weights (padding, seed, training)", json_attribute(result, "weights_digests"))
