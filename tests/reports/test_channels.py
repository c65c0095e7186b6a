import html
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import probe
from probe import reports
from probe.errors import ArgumentError
from probe.reports.channels.page import build, findings
from probe.reports.channels.tables import agreement_table, ranking_table
from probe.reports.page.removals import chance_of, headline, holm, removal, removal_table, verdicts
from probe.results import Facts, finish

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>$\\frac$'
N_CHANNELS = 16
COUNTS = [2, 4, 8, 12]
DRAWS = np.linspace(-0.02, 0.02, 21)  # 5th to 95th percentile: -0.018 to 0.018


def channel_study(
    ranked,
    *,
    random=(0.78, 0.75, 0.70, 0.50),
    matched=None,
    intact=0.8,
    error=0.005,
    r2=(0.5, 0.4),
    r2_random=(0.42, 0.44),
    correlation=0.5,
    stability=None,
    layers=("layer2", "layer3"),
    scores=("accuracy",),
    examples=2,
    **attributes,
):
    """A result whose scores are as given: {ranking: score at each count}, or {ranking: {score: ...}}."""
    rankings = list(ranked)
    rng = np.random.default_rng(0)
    shape = (len(rankings), len(scores), len(COUNTS))
    first = np.zeros(shape)
    for number, curves in enumerate(ranked.values()):
        for place, score in enumerate(scores):
            first[number, place] = curves[score] if isinstance(curves, dict) else curves
    random = np.broadcast_to(np.array(random, float), (len(scores), len(COUNTS)))
    draws = random[:, None] + DRAWS[:, None]
    matched = np.full((*shape[:2], len(DRAWS), len(COUNTS)), np.nan) if matched is None else matched
    if np.ndim(matched) == 1:
        matched = np.broadcast_to(np.array(matched) + DRAWS[:, None], (*shape[:2], len(DRAWS), len(COUNTS)))
    curve, of_layer = ("ranking", "score", "count"), ("removed", "layer", "stimulus", "target")
    r2_values = np.broadcast_to(np.array(r2)[:, None, None, None], (2, len(layers), 2, 2))
    offsets = 0.01 * np.array([-1, 1, -1, 1, 0.0])
    order = np.array([rng.permutation(N_CHANNELS) for _ in rankings]).reshape(len(rankings), N_CHANNELS)
    agreement = np.full((len(rankings), len(rankings)), float(correlation))
    np.fill_diagonal(agreement, 1)
    variables = {
        "channel_score": (("ranking", "channel"), -order.astype(float)),
        "channel_rank": (("ranking", "channel"), order + 1),
        "stability": ("ranking", np.full(len(rankings), 0.9) if stability is None else stability),
        "correlation": (("ranking", "other"), agreement),
        "overlap": (("ranking", "other", "n_first"), np.full((len(rankings), len(rankings), len(COUNTS)), 0.3)),
        "overlap_expected": ("n_first", np.array(COUNTS) / N_CHANNELS),
        "intact": ("score", np.full(len(scores), intact)),
        "intact_se": ("score", np.full(len(scores), error)),
        "top": (curve, first),
        "top_se": (curve, np.full(shape, error)),
        "bottom": (curve, np.full(shape, intact)),
        "bottom_se": (curve, np.full(shape, error)),
        "random": (("score", "draw", "count"), draws),
        "matched": (("ranking", "score", "draw", "count"), matched),
        "top_minus_random": (curve, first - draws.mean(1)),
        "top_minus_random_se": (curve, np.full(shape, error)),
        "top_minus_matched": (curve, first - matched.mean(2)),
        "top_minus_matched_se": (curve, np.full(shape, error)),
        "mean_map": (("stimulus", "strongest", "row", "column"), rng.normal(size=(2, 3, 4, 5))),
        "r2": (of_layer, r2_values),
        "r2_se": (of_layer, np.full(r2_values.shape, 0.01)),
        "r2_fold": ((*of_layer, "fold"), r2_values[..., None] + offsets),
        "r2_random": (
            ("readout_draw", "layer", "stimulus", "target"),
            np.broadcast_to(np.array(r2_random)[:, None, None, None], (len(r2_random), len(layers), 2, 2)),
        ),
    }
    if examples:
        variables |= {
            "example_image": (
                ("strongest", "example", "pixel_row", "pixel_column", "colour"),
                rng.integers(256, size=(3, examples, 8, 10, 3), dtype=np.uint8),
            ),
            "example_change": (("strongest", "example"), rng.normal(size=(3, examples))),
        }
    result = xr.Dataset(
        {name: (*variable, {"long_name": name, "units": "1"}) for name, variable in variables.items()},
        coords={
            "ranking": rankings,
            "other": rankings,
            "score": list(scores),
            "count": COUNTS,
            "n_first": COUNTS,
            "channel": np.arange(N_CHANNELS),
            "strongest": [5, 3, 11],
            "stimulus": ["natural", "rolled"],
            "target": ["row", "column"],
            "layer": list(layers),
            "removed": ["nothing", "ranked"],
        },
    )
    told = {
        "analysis": "channels",
        "layer": layers[0],
        "removed": 8,
        "folds": 10**9,  # so many that Student's t is normal
        "eval_n_images": 40,
        **attributes,
    }
    facts = Facts(**{"model": "Net", "n_images": 60, **{n: told.pop(n) for n in ("model", "warnings") if n in told}})
    settings = {"mode": "zero", "draws": 21, "seed": 0}
    return finish(result, kind="channels", facts=facts, settings=settings, **told)


def plain(page):
    """The text of a page, without its tags."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", body))


def sentences(result):
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in findings(result)]


def sentence_with(text, result):
    (found,) = [sentence for sentence in sentences(result) if text in sentence]
    return found


HARMFUL, HARMLESS = (0.70, 0.60, 0.40, 0.20), (0.80, 0.80, 0.79, 0.78)
LIKE_RANDOM = (0.78, 0.75, 0.70, 0.50)


# ---- Numbers


def test_errors_follow_students_t_for_the_folds():
    found = removal(channel_study({"flip": HARMFUL}, folds=10), "flip", "accuracy", 8)
    half_width = scipy.stats.t.ppf(0.975, 9) * 0.005
    np.testing.assert_allclose([found.ranked.half_width, found.difference.half_width], half_width)


def test_a_removal_is_compared_with_the_percentiles_of_the_draws():
    found = removal(channel_study({"flip": HARMFUL}), "flip", "accuracy", 8)
    np.testing.assert_allclose([found.low, found.high], np.percentile(0.70 + DRAWS, [5, 95]))
    np.testing.assert_allclose([found.ranked.mean, found.random, found.n_draws], [0.40, 0.70, 21])
    half_width = scipy.stats.norm.ppf(0.975) * 0.005
    np.testing.assert_allclose([found.ranked.half_width, found.difference.half_width], half_width)


def verdict_at(result, count=8, against="random", ranking="flip"):
    return verdicts(result)[against]["accuracy", ranking, count]


@pytest.mark.parametrize(
    ("score", "error", "verdict"),
    [
        (0.60, 0.005, "more"),
        (0.60, 0.2, "undecided"),
        (0.70, 0.005, "undecided"),
        (0.675, 0.001, "undecided"),  # outside the draws, but no farther than one more draw may be
        (0.80, 0.005, "less"),
        (np.nan, 0.1, "unknown"),
    ],
)
def test_harm_is_called_so_beyond_the_draws_and_beyond_the_error(score, error, verdict):
    result = channel_study({"flip": (0.7, 0.7, score, 0.7)}, error=error)
    assert verdict_at(result) == verdict


def test_one_more_random_draw_is_seldom_called_more():
    rng, hits = np.random.default_rng(0), 0
    result = channel_study({"flip": 0.7}, random=(0.7,) * 4, error=1e-6)
    for _ in range(300):
        result["top"] = result.top.copy(data=0.7 + rng.normal(0, 0.02, result.top.shape))
        result["random"] = result.random.copy(data=0.7 + rng.normal(0, 0.02, result.random.shape))
        result["top_minus_random"] = result.top - result.random.mean("draw")
        hits += any(verdict in ("more", "less") for verdict in verdicts(result)["random"].values())
    assert hits / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_value_among_the_draws_is_never_called_more_however_they_are_spread():
    result = channel_study({"flip": (0.7, 0.7, 0.2, 0.7)}, error=1e-9)
    draws = np.full(21, 0.7)
    draws[0] = 0.2
    result.random.loc[{"count": 8}] = draws
    result["top_minus_random"] = result.top - result.random.mean("draw")
    assert removal(result, "flip", "accuracy", 8).p >= 2 / 22


def test_holm_is_that_of_statsmodels_and_r():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.005, 0.9), "holm")
    found = holm(dict(enumerate([0.01, 0.02, 0.03, 0.005, 0.9, np.nan])))
    np.testing.assert_allclose([found[key] for key in range(5)], [0.04, 0.06, 0.06, 0.025, 0.9])
    assert np.isnan(found[5])


def test_p_values_follow_students_t():
    assert chance_of(0.3, 0.1, 7) == pytest.approx(2 * scipy.stats.t.sf(3, 7))


def test_the_same_harm_counts_less_among_more_comparisons():
    def p_of_eight(n_rankings):
        curves = {"flip": (0.7, 0.7, 0.65, 0.7)} | {f"shift-{n}": (0.7,) * 4 for n in range(n_rankings - 1)}
        return verdict_at(channel_study(curves, random=(0.7,) * 4))

    assert (p_of_eight(1), p_of_eight(30)) == ("more", "undecided")


# ---- Findings: the tests read the sentences


def test_the_headline_is_the_most_harm_for_each_channel_of_any_ranking_and_count():
    first, second, *_ = sentences(channel_study({"shift": LIKE_RANDOM, "omega2": HARMFUL}, matched=LIKE_RANDOM))
    assert first == (
        "Without the 2 of 16 channels of layer2 that omega2 ranks first, accuracy is 0.7000 ± 0.0098 instead of 0.8000 "
        "± 0.0098; without 2 random ones it is 0.780 (5th to 95th percentile of 21 draws: 0.762 to 0.798), without 2 "
        "random ones that are as active 0.780 (5th to 95th percentile of 21 draws: 0.762 to 0.798). The model needs "
        "them more than random ones (difference −0.0800 ± 0.0098), and more than others as active (−0.0800 ± 0.0098)."
    )
    assert second == (
        "Over 2 rankings, 4 counts (2, 4, 8 and 12 channels) and one score, each beside random and as active channels: "
        "16 comparisons, corrected together after Holm. Beyond chance: accuracy falls further than without random "
        "channels for omega2 (2, 4, 8 and 12); further than without as active ones for omega2 (2, 4, 8 and 12). All "
        "else is undecided."
    )


def test_harm_beyond_matched_draws_is_the_headline_also_where_some_random_draws_fall_as_low():
    result = channel_study({"flip": (0.7, 0.75, 0.7, 0.5)}, matched=LIKE_RANDOM)
    result.random.loc[{"count": 2, "draw": [0, 1]}] = 0.69
    result["top_minus_random"] = result.top - result.random.mean("draw")
    assert headline(result, verdicts(result)) == ("accuracy", "flip", 2)
    first, second, *_ = sentences(result)
    assert "The model needs them more than others as active: the difference is −0.0800 ± 0.0098." in first
    assert "some draws of these fall as low, so that this is undecided." in first
    assert "than without random channels for none; further than without as active ones for flip (2)." in second


def test_harm_beyond_matched_draws_goes_before_harm_beyond_random_ones():
    matched = np.broadcast_to(np.array([0.70, 0.60, 0.60, 0.20]) + DRAWS[:, None], (1, 1, 21, 4))
    result = channel_study({"flip": HARMFUL}, matched=matched)
    assert headline(result, verdicts(result)) == ("accuracy", "flip", 8)


def test_no_evidence_is_called_that_and_not_a_lack_of_need():
    first, second, *others = sentences(channel_study({"flip": LIKE_RANDOM}))
    assert first.endswith(
        "That is no evidence that the model needs them more than random ones, and none that it does not: the "
        "difference is 0.0000 ± 0.0098."
    )
    assert second.startswith("Over one ranking, 4 counts")
    assert second.endswith(
        "None tells the channels ranked first from random ones by accuracy. That is absence of evidence, not evidence "
        "that the model does without them."
    )
    assert not any("needs them" in sentence or "no more than" in sentence for sentence in others)


def test_channels_that_are_needed_less_than_others():
    first, second, *_ = sentences(channel_study({"readout": HARMLESS}))
    assert first.endswith("The model needs them less than random ones: the difference is 0.0900 ± 0.0098.")
    assert "Beyond chance: accuracy falls less than without random channels for readout (4, 8 and 12)." in second


def test_more_and_less_in_one_sentence():
    second = sentences(channel_study({"flip": HARMFUL, "omega2": HARMLESS}))[1]
    assert "falls further than without random channels for flip (2, 4, 8 and 12);" in second
    assert "accuracy falls less than without random channels for omega2 (4, 8 and 12)." in second


def test_activity_may_explain_the_harm():
    first = sentences(channel_study({"flip": HARMFUL}, matched=HARMFUL))[0]
    assert first.endswith(
        "The model needs them more than random ones: the difference is −0.0800 ± 0.0098. Whether it needs them more "
        "than others as active cannot be told: that difference is 0.0000 ± 0.0098, so their activity may explain the "
        "harm."
    )
    first = sentences(channel_study({"flip": HARMFUL}))[0]
    assert first.endswith("Whether it needs them more than others as active is not known.")


@pytest.mark.parametrize("ranked", [HARMFUL, HARMLESS, LIKE_RANDOM])
@pytest.mark.parametrize("error", [0.005, 0.05])
def test_no_two_findings_contradict_each_other(ranked, error):
    result = channel_study({"flip": ranked, "shift": LIKE_RANDOM}, matched=LIKE_RANDOM, error=error)
    needed = sentences(result)[0]
    found = sentences(result)[1]
    assert ("needs them more" in needed and "no evidence" not in needed) == ("falls further" in found)
    assert ("needs them less" in needed) <= ("falls less" in found)
    assert ("absence of evidence" in found) <= ("no evidence" in needed)


def test_other_scores_are_told_apart_from_random_ones():
    curves = {"flip": {"miou": HARMFUL, "miou:left": HARMFUL, "miou:right": LIKE_RANDOM}}
    result = channel_study(curves, scores=("miou", "miou:left", "miou:right"))
    assert sentence_with("the same 2 channels", result) == (
        "Without the same 2 channels, the other scores go: miou:left from 0.800 to 0.7000 ± 0.0098, further than "
        "without random ones (0.780); miou:right from 0.800 to 0.7800 ± 0.0098, which cannot be told from what happens "
        "without random ones (0.780)."
    )


SIDES = ("miou", "miou:left", "miou:right")


def test_a_ranking_aimed_at_a_side():
    curves = {
        "flip": {"miou": HARMFUL, "miou:left": HARMFUL, "miou:right": HARMFUL},
        "flip-left": {"miou": HARMFUL, "miou:left": HARMFUL, "miou:right": LIKE_RANDOM},
        "flip-right": {"miou": HARMFUL, "miou:left": HARMFUL, "miou:right": HARMFUL},
    }
    result = channel_study(curves, scores=SIDES)
    assert sentence_with("that flip-left ranks", result) == (
        "Compared with random channels, the 8 that flip-left ranks first change miou:left by −0.3000 ± 0.0098 "
        "and miou:right by 0.0000 ± 0.0098. They are aimed at the left: the harm there is larger by 0.300 ± 0.014."
    )
    assert sentence_with("that flip-right ranks", result).endswith(
        "That they are aimed at a side is not shown (difference 0.000 ± 0.014)."
    )


def test_a_ranking_that_harms_the_other_side():
    curves = {"flip-left": {"miou": HARMFUL, "miou:left": LIKE_RANDOM, "miou:right": HARMFUL}}
    assert sentence_with("flip-left ranks first change", channel_study(curves, scores=SIDES)).endswith(
        "They harm the right more, by 0.300 ± 0.014."
    )


@pytest.mark.parametrize(
    ("r2", "r2_random", "end"),
    [
        ((0.5, -0.05), (0.4, 0.45), "Removing them removes position."),
        ((0.5, 0.01), (0.4, 0.45), "Whether any of it is left cannot be told."),
        ((0.5, 0.2), (0.4, 0.45), "more than any random draw (by chance 1 time in 3), but position stays readable."),
        ((0.5, 0.42), (0.4, 0.45), "Some of it goes, but no more than with random channels."),
        ((0.5, 0.499), (0.4, 0.45), "it is carried by the other channels as well."),
        ((0.3, 0.4), (0.35, 0.45), "Removing them does not remove position: it can even be read better."),
        ((0.001, 0.0), (0.0, 0.0), "even before anything is removed (R² 0.001 ± 0.028)."),
        ((np.nan, np.nan), (np.nan, np.nan), "is not known: the readout has no score there."),
    ],
)
def test_what_becomes_of_position(r2, r2_random, end):
    result = channel_study({"flip": HARMFUL}, r2=r2, r2_random=r2_random)
    assert [sentence for sentence in sentences(result) if sentence.endswith(end)]


@pytest.mark.usefixtures("undrawn")
def test_without_later_layers_position_is_read_from_what_is_left():
    result = channel_study({"flip": HARMFUL}, layers=("layer2",))
    assert "from the channels of layer2 that are left with R² 0.400" in sentence_with("position can be read", result)
    assert "No layer behind layer2 has a map" in build(result).html()


def test_agreement_and_stability():
    result = channel_study({"flip": HARMFUL, "shift": HARMFUL, "omega2": HARMFUL}, stability=[0.99, 0.9, 0.4])
    result.correlation.loc[{"ranking": "flip", "other": "shift"}] = 0.8
    result.correlation.loc[{"ranking": "shift", "other": "omega2"}] = -0.2
    assert sentence_with("rank correlations", result) == (
        "Of the rank correlations of two rankings that of flip and shift is the highest, 0.800, and that of shift "
        "and omega2 the lowest, −0.200; of their first 8 channels, two rankings share 30 % on average, where chance "
        "gives 50 %."
    )
    assert sentence_with("Split-half", result).endswith(
        "Below 0.8, for omega2, the order depends much on which images are taken."
    )


def test_opposite_sides_are_not_said_to_disagree():
    result = channel_study({"flip-left": HARMFUL, "flip-right": HARMFUL, "shift": HARMFUL})
    result.correlation.loc[{"ranking": "flip-left", "other": "flip-right"}] = -1
    assert "−1" not in sentence_with("rank correlations", result)
    assert not any("agree" in sentence for sentence in sentences(result.sel(ranking=["flip-left", "flip-right"])))


@pytest.mark.usefixtures("undrawn")
def test_one_ranking_agrees_with_nothing():
    result = channel_study({"flip": HARMFUL})
    assert not any("agree" in sentence or "share" in sentence for sentence in sentences(result))
    assert "Do the rankings agree?" not in build(result).html()


def test_missing_numbers_are_said_to_be_missing():
    nan = (np.nan,) * 4
    result = channel_study({"flip": nan}, random=nan, r2=(np.nan, np.nan), stability=[np.nan])
    first, *_ = sentences(result)
    assert first.endswith("accuracy is not known: it is not a finite number.")
    shown = re.sub(r"base64,[\w+/=]*|<script.*", "", build(result).html(), flags=re.DOTALL)
    assert not re.search(r"\bnan\b", shown, re.IGNORECASE)


# ---- Tables


def test_tables_hold_the_numbers_of_the_result():
    result = channel_study({"flip": HARMFUL, "shift": LIKE_RANDOM})
    channels = ranking_table(result)
    assert channels["flip rank"].tolist() == list(range(1, N_CHANNELS + 1))
    assert channels["channel"].tolist() == np.argsort(result.channel_rank.sel(ranking="flip").values).tolist()
    curves = removal_table(result).set_index(["ranking", "removed"])
    row = curves.loc[("flip", 8)]
    assert [row["ranked first"].mean, row["random"], row["needed"]] == [0.4, 0.7, "more than random"]
    assert curves.loc[("shift", 8), "needed"] == "undecided"
    assert agreement_table(result)[["rank correlation", "common to the first 8"]].values.tolist() == [[0.5, 0.3]]


# ---- The page

TITLES = [
    "Findings",
    "Score by score",
    "Position afterwards",
    "The channels",
    "Do the rankings agree?",
    "All numbers",
    "What each number means",
    "Methods",
    "Provenance",
]


@pytest.fixture(scope="module")
def result():
    curves = {"flip": HARMFUL, "shift": LIKE_RANDOM, "readout": HARMLESS}
    return channel_study(curves, matched=(0.75, 0.70, 0.60, 0.40))


@pytest.fixture(scope="module")
def report(result):
    return reports.build(result)


def test_the_page_holds_every_section_figure_and_finding(result, report):
    assert [section.title for section in report.sections] == TITLES
    page = report.html()
    assert len(page) < 3e6
    assert page.count("<img ") == 5
    for sentence in findings(result):
        assert sentence in plain(page)


@pytest.mark.usefixtures("undrawn")
def test_alternative_texts_hold_the_numbers(result):
    blocks = [block for section in build(result).sections for block in section.blocks if hasattr(block, "alt")]
    assert "8: 0.400" in blocks[0].alt
    assert "accuracy −0.400 (random −0.118 to −0.082)" in blocks[1].alt
    assert all(any(digit.isdigit() for digit in block.alt) for block in blocks)


@pytest.mark.usefixtures("undrawn")
def test_images_may_be_left_out(result):
    without = channel_study({"flip": HARMFUL}, examples=0)
    assert "mirror image changes the channel most" in build(result).html()
    assert "mirror image changes the channel most" not in build(without).html()


@pytest.mark.usefixtures("undrawn")
def test_the_same_result_gives_the_same_texts(result, tmp_path):
    path = probe.save(result, tmp_path / "result.nc")
    assert build(result).html() == build(probe.load(path)).html()


def test_hostile_names_are_inert():
    told = {"model": HOSTILE, "command": HOSTILE, "warnings": [HOSTILE]}
    result = channel_study({HOSTILE: HARMFUL, "flip": HARMFUL}, scores=(HOSTILE,), layers=(HOSTILE, "last"), **told)
    page = build(result).html()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 1


@pytest.mark.usefixtures("undrawn")
def test_warnings_are_shown():
    page = build(channel_study({"flip": HARMFUL}, warnings=["two sets overlap"])).html()
    assert "two sets overlap" in page


def test_other_results_are_refused():
    with pytest.raises(ArgumentError, match="found None"):
        build(xr.Dataset())


def test_another_process_builds_the_same_bytes_from_a_file_without_torch(result, report, tmp_path):
    path = probe.save(result, tmp_path / "result.nc")
    code = (
        "import sys, probe, reports\n"
        "reports.build(probe.load(sys.argv[1])).save(sys.argv[2])\n"
        "assert not {'torch', 'analyses'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "page.html"], check=True)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == report.html()


@pytest.mark.usefixtures("undrawn")
def test_settings_are_in_the_page(result):
    page = build(result).html()
    assert json.loads(result.attrs["settings"])["mode"] == "zero"
    assert "Removed channels are set to 0. 21 random draws for each count, from seed 0." in page


def test_a_difference_that_only_the_correction_takes_away_is_named():
    result = channel_study({"flip": (0.78, 0.75, 0.68, 0.50)}, error=0.009)
    assert sentences(result)[1].endswith(
        "The largest difference, −0.020 ± 0.018 for flip (8), does not outlast the correction."
    )
