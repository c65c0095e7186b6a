"""What the page of the study posenet shows."""

from itertools import pairwise

import numpy as np
import pandas as pd
import xarray as xr

from probe.reports.page.document import Report
from probe.reports.page.estimates import NEGLIGIBLE, Estimate, estimate, joined
from probe.reports.page.provenance import json_attribute
from probe.reports.posenet.figures import draw_blocks, draw_images, draw_maps, draw_readouts
from probe.reports.posenet.scores import block_settings, correlation_at, correlations, encoder_settings, fitted_twice

__all__ = ["add_figures", "findings"]

_ONE_SIDE = 0.025  # of intervals of nothing lie above 0, and as many below


def findings(result: xr.Dataset) -> list[str]:
    """Return what came out, the most important first."""
    sentences = [
        _by_encoder(result),
        _content(result),
        _blocks(result),
        _borders(result),
        _closed_form(result),
        _times(result),
    ]
    return [sentence for sentence in sentences if sentence]


def add_figures(report: Report, result: xr.Dataset) -> None:
    """Add correlations by images, by block and by form of the readout, both readouts side by side, and maps."""
    section = report.add_section("By encoder and images")
    section.add_figure(
        draw_images(result),
        caption="Spearman's correlation of the maps read by the published readout, kernel 3 on all blocks: the mean "
        "over test images, a point for each seed. Diamonds: as published. Columns: the maps; rows: what the readout "
        "was fitted to.",
        alt=f"Points by images tested. H, fitted to and tested on rolled images: {_spoken_encoders(result)}.",
    )
    if block_settings(result):
        section = report.add_section("By block")
        section.add_figure(
            draw_blocks(result),
            caption="The published readout, kernel 3, of single blocks, tested on the kind of images that it was "
            "fitted to: mean over seeds with its 95 % interval (of two seeds, both values). Dotted: as published, on "
            "natural images.",
            alt=f"Lines by block. {_blocks(result)}",
        )
    section = report.add_section("Gradient descent and closed form")
    section.add_figure(
        draw_readouts(result),
        caption="Left: each point is a readout of one map, mean over seeds, tested on the kind of images it was fitted "
        "to; below the diagonal the closed form is lower. Right: what fitting took, without the encoder.",
        alt=f"{_closed_form(result)} {_times(result)}",
    )
    table = _readout_table(result)
    section.add_table(
        table,
        caption="Both readouts side by side, tested on the kind of images that they were fitted to: mean over seeds, "
        "and the difference of the correlations, closed form − descent, with its 95 % interval over seeds.",
        name="posenet-readouts",
    )
    section = report.add_section("Maps that were read")
    section.add_figure(
        draw_maps(result),
        caption="Mean over the natural test images of what each readout makes of them, kernel 3 on all blocks (closed "
        "form: where it was fitted), fitted to natural images, first seed. Top: the maps to be read.",
        alt="Maps, a row for each encoder and readout and a column for each map to be read.",
        image_format="png",
    )


def _spoken_encoders(result: xr.Dataset) -> str:
    return ", ".join(
        f"{name} {correlation_at(result, setting, 'rolled')}" for name, setting in encoder_settings(result).items()
    )


def _by_encoder(result: xr.Dataset) -> str:
    scores = {name: correlation_at(result, setting, "rolled") for name, setting in encoder_settings(result).items()}
    scores = {name: score for name, score in scores.items() if score.is_known}
    if not scores:
        return ""
    blind = [name for name, score in scores.items() if not score.low > 0]
    formatted = (
        f"On rolled images, whose content cannot tell position, H is read with a correlation of {_listing(scores)}."
    )
    if not blind:
        return f"{formatted} All are above 0{_beyond(result, 'their error')}."
    return f"{formatted} Not above 0{_beyond(result, 'its error')}: {joined(blind)}."


def _beyond(result: xr.Dataset, error: str) -> str:
    """Say against which error numbers are judged; those of one seed have none."""
    return f" beyond {error}" if result.sizes["seed"] > 1 else " (of one network each, without an error)"


def _listing(scores: dict[str, Estimate]) -> str:
    return joined([f"{score} from {name}" for name, score in scores.items()])


def _content(result: xr.Dataset) -> str:
    """Say what natural content tells a readout of the bare image, which has no way to know position."""
    if "image, 3×3" not in result.setting:
        return ""
    scores = {
        target: correlation_at(result, "image, 3×3", "natural", target) for target in map(str, result.target.values)
    }
    scores = {target: score for target, score in scores.items() if score.is_known}
    if not scores:
        return ""
    formatted = [target for target, score in scores.items() if score.low > 0]
    values = joined([f"{target} {score}" for target, score in scores.items()])
    if not formatted:
        return f"Natural content alone tells no map{_beyond(result, 'its error')}: read from the pixels, {values}."
    return (
        f"Natural content alone tells {joined(formatted)}{_beyond(result, 'its error')}: read from the pixels of "
        f"natural images, the correlations are {values}."
    )


def _blocks(result: xr.Dataset) -> str:
    sentences = []
    for encoder, settings in block_settings(result).items():
        scores = [correlation_at(result, setting, "rolled") for setting in settings.values()]
        if not all(score.is_known for score in scores):
            continue
        rises = all(after.mean > before.mean for before, after in pairwise(scores))
        values = ", ".join(f"{block} {score}" for block, score in zip(settings, scores, strict=True))
        sentences.append(
            f"H by block of {encoder}, on rolled images: {values}; it {'rises' if rises else 'does not rise'} with "
            "every block."
        )
    return " ".join(sentences)


def _borders(result: xr.Dataset) -> str:
    """Say what zeros at the border of the readout, and of the encoder, tell."""
    sentences = []
    padded = {padding: f"image, 3×3{f', padding {padding}' if padding else ''}" for padding in (0, 1, 2)}
    if all(setting in result.setting for setting in padded.values()):
        scores = [correlation_at(result, setting, "rolled") for setting in padded.values()]
        by_seed = correlations(result).sel(training="rolled", images="rolled", readout="descent", target="H")
        gain = estimate((by_seed.sel(setting=padded[2]) - by_seed.sel(setting=padded[0])).values)
        if all(score.is_known for score in scores):
            values = ", ".join(f"{padding}: {score}" for padding, score in zip(padded, scores, strict=True))
            if gain.differs and gain.mean > 0:
                verdict = f"Zeros around the pixels tell position{_beyond(result, 'its error')}"
            elif gain.differs:
                verdict = f"Zeros around the pixels make position harder to read{_beyond(result, 'its error')}"
            else:
                verdict = "That zeros around the pixels tell position is not shown"
            sentences.append(f"{verdict}: H on rolled images, by padding of the readout, {values}.")
    both = ("vgg16 all, 3×3", "vgg16 unpadded all, 3×3")
    if all(setting in result.setting for setting in both):
        lost = correlations(result).sel(training="rolled", images="rolled", readout="descent", target="H")
        difference = estimate((lost.sel(setting=both[0]) - lost.sel(setting=both[1])).values)
        if not difference.is_known:
            return " ".join(sentences)
        verdict = _beyond(result, "its error")
        if difference.is_tie and result.sizes["seed"] > 1:
            verdict = ", which cannot be told from no change"
        sentences.append(
            f"Without padding, the same weights of VGG-16 give {correlation_at(result, both[1], 'rolled')} in place of "
            f"{correlation_at(result, both[0], 'rolled')} on rolled images: with − without is {difference}{verdict}."
        )
    return " ".join(sentences)


def _difference(scores: xr.DataArray, measure: str = "SPC") -> Estimate:
    of_measure = scores.sel(measure=measure)
    return estimate((of_measure.sel(readout="closed form") - of_measure.sel(readout="descent")).values)


def _closed_form(result: xr.Dataset) -> str:
    """Say where the closed form is lower than gradient descent, and where it is higher."""
    scored = {(setting, training, target): scores for setting, training, target, scores in fitted_twice(result)}
    if not scored:
        return ""
    found = {key: _difference(scores) for key, scores in scored.items()}
    lower = {key: item for key, item in found.items() if item.differs and item.mean < 0}
    higher = [item for item in found.values() if item.differs and item.mean > 0]
    median = np.median([item.mean for item in found.values()])
    by_chance = f" (by chance up to {_ONE_SIDE * len(found):.1f} each)" if result.sizes["seed"] > 1 else ""
    sentence = (
        f"In {len(found)} comparisons the closed form is higher than gradient descent"
        f"{_beyond(result, 'its error over seeds')} in {len(higher)}, lower in {len(lower)}{by_chance}, where "
        f"differences below {NEGLIGIBLE} do not count; the median difference of the correlations is {median:+z.3f}. "
        f"{_errors(list(scored.values()))}"
    ).replace("-", "−")
    if not lower:
        return sentence
    worst = sorted(lower, key=lambda key: lower[key].mean)[:4]
    names = [
        f"{setting}, {target}, {training} ({lower[setting, training, target]})" for setting, training, target in worst
    ]
    return f"{sentence} Its correlation is lowest, against that of descent, for {'; '.join(names)}."


def _errors(scored: list[xr.DataArray]) -> str:
    """Say how often the closed form errs less than gradient descent, and how often more."""
    found = [_difference(scores, "MAE") for scores in scored]
    less = sum(item.differs and item.mean < 0 for item in found)
    more = sum(item.differs and item.mean > 0 for item in found)
    median = np.median([item.mean for item in found])
    return f"Its mean absolute error is smaller in {less}, larger in {more}; the median difference is {median:+z.3f}."


def _times(result: xr.Dataset) -> str:
    both = result.seconds.dropna("setting", how="any")
    if not both.sizes["setting"]:
        return ""
    total = both.sum(["setting", "training"])
    descent, closed = (float(total.sel(readout=name)) for name in ("descent", "closed form"))
    settings = json_attribute(result, "settings")
    n_steps = settings["epochs"] * -(-settings["n_training"] // settings["batch_size"])
    return (
        f"Where both were fitted, gradient descent took {descent:.1f} s in all ({n_steps:,} steps; published: 4,950), "
        f"the closed form {closed:.1f} s; computing the features is not counted."
    )


def _readout_table(result: xr.Dataset) -> pd.DataFrame:
    rows = []
    for setting, training, target, scores in fitted_twice(result):
        means, difference = scores.mean("seed"), _difference(scores)
        row: dict[str, object] = {"setting": setting, "fitted to": training, "map": target}
        for measure in ("SPC", "MAE"):
            for readout in ("descent", "closed form"):
                row[f"{measure}, {readout}"] = float(means.sel(measure=measure, readout=readout))
        rows.append(row | {"difference": difference})
    return pd.DataFrame(rows)
