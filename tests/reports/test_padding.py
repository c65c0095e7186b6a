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
from probe.reports.padding_comparison.estimates import broken, content_part, focus_layer, position_r2
from probe.reports.padding_comparison.figures import draw_by_depth
from probe.reports.padding_comparison.page import build, findings
from probe.reports.page.document import Report
from probe.reports.page.estimates import estimate
from probe.reports.page.samples import THIN_COLOUR
from probe.results import Facts, finish

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>$\\frac$'
LAYERS = ["input", "conv1", "conv2"]


def comparison(rolled, natural=None, untrained=None, layers=LAYERS, networks="digits", **extra):
    """A result in which the last layer scores as given: {padding: R² of each seed}; earlier layers score −0.02."""
    paddings = list(rolled)
    n_seeds = len(next(iter(rolled.values())))
    natural = {padding: np.add(rolled[padding], 0.2) for padding in paddings} | (natural or {})
    trainings = ["trained"] + (["untrained"] if untrained is not None else [])
    r2 = np.full((len(paddings), n_seeds, len(trainings), len(layers), 2, 2), -0.02)
    for number, padding in enumerate(paddings):
        for target, offset in enumerate((-0.05, 0.05)):
            r2[number, :, 0, -1, 0, target] = np.array(natural[padding]) + offset
            r2[number, :, 0, -1, 1, target] = np.array(rolled[padding]) + offset
            if untrained is not None:
                r2[number, :, 1, -1, 1, target] = np.array(untrained[padding]) + offset
    rng = np.random.default_rng(0)
    fold_offsets = rng.normal(0, 0.01, 5)
    fold_offsets -= fold_offsets.mean()
    dims = ("padding", "seed", "training", "layer", "stimulus", "target")
    omega2 = rng.uniform(0, 0.5, (len(paddings), n_seeds, len(trainings), 2 * len(layers), 2))
    maps = {}
    for number in range(len(paddings)):
        grid = (f"row_{number}", f"column_{number}")
        about = {"padding": paddings[number], "layer": layers[-1]}
        decoded, means = rng.normal(size=(n_seeds, 2, 2, 4, 5)), rng.normal(size=(n_seeds, 2, 2, 4, 5))
        maps[f"decoded_map_{number}"] = (("seed", "stimulus", "target", *grid), decoded, about)
        maps[f"mean_map_{number}"] = (("seed", "stimulus", "strongest", *grid), means, about)
    result = xr.Dataset(
        {
            "r2": (dims, r2),
            "r2_fold": ((*dims, "fold"), r2[..., None] + fold_offsets),
            "r2_se": (dims, np.full(r2.shape, 0.01)),
            "r2_null": (dims, np.full(r2.shape, -0.001)),
            "r2_control": (dims, np.full(r2.shape, 0.002)),
            "bits": (dims, np.full(r2.shape, 0.1)),
            "omega2": (("padding", "seed", "training", "channel", "stimulus"), omega2),
            **maps,
        },
        coords={
            "padding": paddings,
            "seed": np.arange(n_seeds),
            "training": trainings,
            "layer": layers,
            "stimulus": ["natural", "rolled"],
            "target": ["row", "column"],
            "fold": np.arange(5),
            "channel": [f"{layer}:{index}" for layer in layers for index in range(2)],
            "channel_layer": ("channel", np.repeat(layers, 2)),
            "channel_index": ("channel", np.tile([0, 1], len(layers))),
            "height": (("padding", "layer"), np.full((len(paddings), len(layers)), 4)),
            "width": (("padding", "layer"), np.full((len(paddings), len(layers)), 5)),
            "samples_per_feature": (("padding", "layer"), np.full((len(paddings), len(layers)), 500.0)),
        },
    )
    told = {"analysis": "padding_comparison", "networks": networks, "failed": {}, **extra}
    about = {name: told.pop(name) for name in ("warnings", "skipped") if name in told}
    facts = Facts(model="Net", n_images=60, **about)
    result = finish(result, kind="padding_comparison", facts=facts, settings={}, **told)
    for number in range(len(paddings)):
        result[f"strongest_channel_{number}"] = (("seed", "strongest"), np.tile([1, 0], (n_seeds, 1)))
    return result


def plain(page):
    """The text of a page, without its tags."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", body))


def sentences(result):
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in findings(result)]


@pytest.fixture(scope="module")
def tiny(tiny_comparison):
    return tiny_comparison


# ---- Estimates


def test_an_estimate_is_the_t_interval():
    values = np.array([0.12, 0.15, 0.11, 0.19])
    found = estimate(values)
    low, high = scipy.stats.t.interval(0.95, 3, loc=values.mean(), scale=scipy.stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], [low, high])


def test_an_estimate_leaves_out_what_is_not_finite():
    assert estimate(np.array([0.1, np.nan, 0.3])) == estimate(np.array([0.1, 0.3]))
    assert not estimate(np.array([np.nan])).is_known
    assert str(estimate(np.array([0.1]))) == "0.100"


def test_what_content_adds_is_paired_by_fold():
    result = comparison({"zeros": [0.3, 0.4]}, natural={"zeros": [0.45, 0.65]})
    added = content_part(result).sel(padding="zeros", layer="conv2", training="trained")
    np.testing.assert_allclose(added.sel(seed=0), np.full(5, 0.15))  # the offsets of the folds are gone
    np.testing.assert_allclose(added.sel(seed=1), np.full(5, 0.25))


def test_the_findings_speak_of_the_peak_of_the_layers_that_every_padding_has():
    result = comparison({"zeros": [0.3, 0.4], "valid": [0.0, 0.0]})
    assert focus_layer(result) == "conv2"
    result.r2.loc[{"layer": "conv1", "padding": "zeros", "stimulus": "rolled"}] = 0.6
    assert focus_layer(result) == "conv1"
    result.r2.loc[{"layer": "conv1", "padding": "valid"}] = np.nan
    assert focus_layer(result) == "conv2"
    result.r2.loc[{}] = np.nan
    assert focus_layer(result) == "conv2"


def test_the_last_layer_is_told_beside_the_peak():
    result = comparison({"zeros": [0.30, 0.31, 0.32], "valid": [0.1, 0.101, 0.102]})
    result.r2.loc[{"layer": "conv1", "padding": "zeros", "stimulus": "rolled"}] = 0.6
    found = sentences(result)
    assert "R² 0.600 ± 0.000 at conv1, the peak of the layers." in found[0]
    assert "At conv2, the last layer: zeros 0.310 ± 0.025 and valid 0.1010 ± 0.0025." in found


# ---- Findings: the tests read the sentences


def test_a_clear_winner():
    best, *_ = sentences(comparison({"zeros": [0.30, 0.31, 0.32], "full": [0.50, 0.51, 0.52], "valid": [0, 0.001, 0]}))
    assert best == (
        "On rolled images, whose content cannot tell position, position can be read best under full padding: "
        "R² 0.510 ± 0.025 at conv2, the peak of the layers. Next is zeros with 0.310 ± 0.025, lower by 0.200 ± 0.000."
    )


def test_a_tie_is_said_to_be_one():
    best, *_ = sentences(comparison({"zeros": [0.30, 0.34, 0.32], "full": [0.33, 0.31, 0.33], "valid": [0, 0.001, 0]}))
    assert "best under full padding: R² 0.323" in best
    assert best.endswith("A tie: zeros (0.320 ± 0.050) cannot be told apart from it.")
    assert "valid" not in best


def test_paddings_are_compared_within_seeds():
    # The intervals overlap widely, but in every seed one padding is ahead by as much.
    best, *_ = sentences(comparison({"zeros": [0.4, 0.5, 0.6], "full": [0.45, 0.56, 0.66]}))
    assert "Next is zeros with 0.50 ± 0.25, lower by 0.057 ± 0.014." in best


def test_no_position_under_any_padding():
    result = comparison({"circular": [0.001, -0.002, 0.0], "valid": [-0.01, -0.012, -0.011]}, untrained=None)
    found = sentences(result)
    assert found[0] == (
        "On rolled images, whose content cannot tell position, position can be read under no padding: even at "
        "conv2, where it is highest, R² is negligible (circular −0.0003 ± 0.0038)."
    )
    assert not any("best" in sentence or "Next is" in sentence for sentence in found)


def test_wide_errors_are_no_null():
    found = sentences(comparison({"zeros": [0.2, 0.4, 0.6], "full": [-0.01, 0.0, 0.001]}))
    assert (
        "no padding shows position beyond its error, even at conv2, where R² is highest (zeros 0.40 ± 0.50)" in found[0]
    )


def test_a_mean_near_0_with_a_wide_error_is_no_null():
    found = sentences(comparison({"zeros": [0.5, 0.51, 0.49], "circular": [0.3, -0.29, 0.0]}))
    assert found[1] == "Whether there is any cannot be told under circular (R² 0.00 ± 0.73) padding."


def test_nulls_and_what_cannot_be_told():
    found = sentences(
        comparison({"zeros": [0.5, 0.51, 0.49], "circular": [0, 0.002, 0.001], "reflect": [-0.1, 0.1, 0.3]})
    )
    assert found[1] == (
        "No position can be found at conv2 under circular (R² 0.0010 ± 0.0025) padding. "
        "Whether there is any cannot be told under reflect (R² 0.10 ± 0.50) padding."
    )


def test_no_padding_is_blind():
    found = sentences(comparison({"zeros": [0.5, 0.51, 0.49], "full": [0.2, 0.202, 0.201]}))
    assert found[1] == "No padding ranked here is blind to position: on rolled images every R² is above 0."


def test_content_that_deceives():
    found = sentences(comparison({"zeros": [0.5, 0.51, 0.49], "circular": [0, 0.002, 0.001]}))
    assert found[2].startswith(
        "On natural images the same readout finds position even under circular (R² 0.2010 ± 0.0025) padding, "
        "where rolled images give none"
    )


def test_content_that_adds():
    rolled = {"zeros": [0.5, 0.51, 0.49], "full": [0.2, 0.202, 0.201]}
    found = sentences(comparison(rolled, natural={"zeros": [0.6, 0.61, 0.59]}))
    assert found[2] == "Content adds most under full padding: natural − rolled is 0.200 ± 0.000 at conv2."
    found = sentences(comparison(rolled, natural=rolled))
    assert found[2] == (
        "What content adds at conv2 cannot be told from 0 under any padding (natural − rolled: zeros 0 ± 0 and full "
        "0 ± 0)."
    )


def test_one_seed_has_no_error():
    found = sentences(comparison({"zeros": [0.5], "full": [0.2], "valid": [0.0]}))
    assert found[0] == (
        "On rolled images, whose content cannot tell position, position can be read best under zeros padding: R² 0.500 "
        "at conv2, the peak of the layers. Next is full with 0.200, lower by 0.300. There is one network for each "
        "padding, so no error over training seeds can be given."
    )
    assert not any("±" in sentence for sentence in found)


def test_one_padding_is_not_compared():
    found = sentences(comparison({"zeros": [0.5, 0.52, 0.51]}))
    assert found[0].endswith("under zeros padding: R² 0.510 ± 0.025 at conv2, the peak of the layers.")


def test_a_padding_without_scores_is_named():
    nan = [np.nan, np.nan, np.nan]
    result = comparison({"zeros": [0.5, 0.51, 0.49], "full": nan, "valid": [0.0, 0.001, 0.0]})
    result.r2.loc[{"padding": "full"}] = np.nan
    assert "Not scored: full padding." in sentences(result)[1]
    found = sentences(result * np.nan)
    assert "no network could be scored at any layer" in found[0]
    assert not any("nan" in sentence for sentence in found)


def test_what_training_changed():
    rolled = {
        "zeros": [0.5, 0.51, 0.49],
        "full": [0.2, 0.202, 0.201],
        "valid": [0.0, 0.001, 0.0],
        "partial": [0.3, 0.5, 0.4],
    }
    untrained = {
        "zeros": [0.4, 0.41, 0.39],
        "full": [0.3, 0.302, 0.301],
        "valid": [-0.3] * 3,
        "partial": [0.5, 0.2, 0.4],
    }
    found = sentences(comparison(rolled, untrained=untrained))
    assert (
        "With training, R² on rolled images at conv2 rises under zeros (+0.100 ± 0.000), falls under full (−0.100 ± "
        "0.000) and does not change, or not beyond its error, under valid and partial."
    ) in found


def test_accuracy_is_never_rounded_up():
    result = comparison({"zeros": [0.5, 0.5], "full": [0.2, 0.2]})
    result["accuracy"] = (("padding", "seed"), [[0.97, 0.98], [0.9499, 0.99]])
    result["agreement"] = (("padding", "seed"), [[0.99, 0.97], [0.9, 0.91]])
    found = sentences(result)
    assert found[-2] == (
        "Each of the 4 networks recognises at least 94.9 % of held-out digits at held-out placements "
        "(the lowest: full)."
    )
    assert "for 90.5 % (full) to 98.0 % (zeros) of the images" in found[-1]


# ---- The page


@pytest.fixture(scope="module")
def report(tiny):
    return reports.build(tiny)


def test_the_page_of_a_real_result(tiny, report):
    assert isinstance(report, Report)
    titles = [section.title for section in report.sections]
    assert titles == [
        "Findings",
        "Position by depth",
        "What content adds",
        "Maps",
        "Channels",
        "Predictions",
        "All numbers",
        "What each number means",
        "Methods",
        "Provenance",
    ]
    page = report.html()
    assert len(page) < 3e6
    assert page.count("<img ") == 7
    for sentence in findings(tiny):
        assert sentence in plain(page)
    for fact in (tiny.attrs["images_digest"], tiny.attrs["created"], json.loads(tiny.attrs["versions"])["torch"]):
        assert fact in page


@pytest.mark.usefixtures("undrawn")
def test_alternative_texts_hold_the_numbers(tiny):
    blocks = [block for section in build(tiny).sections for block in section.blocks if hasattr(block, "alt")]
    peak = position_r2(tiny).sel(training="trained", layer=focus_layer(tiny), padding="zeros")
    for stimulus in ("natural", "rolled"):
        number = f"{peak.sel(stimulus=stimulus).mean().item():.3f}".replace("-", "−")
        assert f"{stimulus} {number}" in blocks[1].alt
    assert all(any(digit.isdigit() for digit in block.alt) for block in blocks)


@pytest.mark.usefixtures("undrawn")
def test_the_same_result_gives_the_same_texts(tiny, tmp_path):
    path = probe.save(tiny, tmp_path / "result.nc")
    assert build(tiny).html() == build(probe.load(path)).html()


def test_hostile_names_are_inert():
    rolled = {HOSTILE: [0.5, 0.52], "zeros": [0.1, 0.12]}
    extra = {"failed": {HOSTILE: HOSTILE}, "warnings": [HOSTILE], "skipped": {HOSTILE: HOSTILE}, "command": HOSTILE}
    page = build(comparison(rolled, layers=["input", HOSTILE], **extra)).html()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_given_model_comes_with_its_caveat():
    result = comparison({"zeros": [0.5], "circular": [0.0]}, networks="given", own_padding="zeros")
    report = build(result)
    notes = [block.text for block in report.sections[0].blocks if block.kind == "note"]
    assert "The weights belong to the model's own padding (zeros)" in notes[0]
    assert "cannot be told under which paddings it still does its task" in notes[1]
    assert "Predictions" not in [section.title for section in report.sections]


@pytest.mark.usefixtures("undrawn")
def test_where_nothing_was_trained_no_page_speaks_of_training():
    page = plain(build(given({"zeros": 0.5, "circular": 0.0})).html())
    assert not re.search("train|seeds", page[: page.index("Settings")])


def test_the_errors_of_a_given_model_are_those_over_images():
    found = sentences(given({"zeros": 0.5, "circular": 0.1}))
    half = scipy.stats.t.ppf(0.975, 4) * 0.01
    assert f"under zeros (the model's own) padding: R² 0.500 ± {half:.3f} at conv2" in found[0]
    assert "Next is circular with 0.100 ± 0.028, lower by 0.400 ± 0.000." in found[0]


def given(rolled, shares=None, intact=None, chance=None, **extra):
    """A given model with the own padding zeros: R² by padding, and {share: {padding: value}} of a classifier."""
    attributes = {"own_padding": "zeros", "intact": intact or {}, "chance": chance or {}, **extra}
    result = comparison({padding: [r2] for padding, r2 in rolled.items()}, networks="given", **attributes)
    for name, values in (shares or {}).items():
        result[name] = (("padding", "seed"), [[values[padding]] for padding in rolled])
    return result


R2 = {"zeros": 0.5, "circular": 0.1, "reflect": 0.2, "full": 0.9}
OWN = {"zeros": 1.0, "circular": 0.7, "reflect": 0.6, "full": 0.11}
RIGHT = {"zeros": 0.8, "circular": 0.7, "reflect": 0.39, "full": 0.5}
ONE_CLASS = {"zeros": 0.1, "circular": 0.2, "reflect": 0.3, "full": 0.836}


def classifier(**changes):
    shares = {"agreement_with_own": OWN, "commonest_share": ONE_CLASS, **changes.pop("shares", {})}
    intact = {"agreement_with_own": 1.0, **changes.pop("intact", {})}
    chance = {"agreement_with_own": 0.1, **changes.pop("chance", {})}
    return given(R2, shares, intact, chance, **changes)


def test_a_padding_that_breaks_the_model_is_not_ranked():
    result = classifier()
    assert list(broken(result)) == ["full"]
    found = sentences(result)
    assert "best under zeros (the model's own) padding: R² 0.500" in found[0]
    assert (
        "Not ranked, since the model does its task no more, so that its features mean little: full (agreement with own "
        "11 %, less than half of 100 %; 83.6 % of the images get one and the same class)."
    ) in found
    ranking = next(sentence for sentence in found if sentence.startswith("All ranked paddings"))
    assert "full" not in ranking
    assert "reflect 0.200 ± 0.028 (predictions as its own 60.0 %)" in ranking


def test_where_labels_are_known_accuracy_decides():
    result = classifier(shares={"accuracy": RIGHT}, intact={"accuracy": 0.8}, chance={"accuracy": 0.1})
    assert list(broken(result)) == ["reflect"]
    assert "reflect (accuracy 39 %, less than half of 80 %" in sentences(result)[2]


def test_no_better_than_a_constant_answer_is_broken_also_above_half():
    result = classifier(chance={"agreement_with_own": 0.55})
    assert broken(result)["reflect"] == "agreement with own 60 %, not above a constant answer beyond error"


def test_labels_that_the_model_as_it_is_does_not_know_decide_nothing():
    result = classifier(shares={"accuracy": RIGHT}, intact={"accuracy": 0.12}, chance={"accuracy": 0.1})
    assert list(broken(result)) == ["full"]


def test_what_is_not_ranked_is_grey_and_the_own_padding_is_marked():
    titles = {ax.get_title(): ax for ax in draw_by_depth(classifier()).axes}
    assert {"zeros (own)", "full (not ranked)", "circular"} <= set(titles)
    assert titles["full (not ranked)"].title.get_color() == "0.5"
    assert titles["circular"].title.get_color() == "black"


@pytest.mark.usefixtures("undrawn")
def test_few_samples_and_few_images_are_named():
    result = comparison({"zeros": [0.5, 0.52]})
    result.samples_per_feature.loc[{"layer": "conv1"}] = 4.5
    result.attrs["n_images"] = 19
    notes = [block.text for block in build(result).sections[0].blocks if block.kind == "note"]
    assert notes[0].startswith("Few samples: in 1 of 3 layers (conv1) the readout saw fewer than 5 ")
    assert notes[1].startswith("Few images: R² was read from 19.")
    ax = draw_by_depth(result).axes[0]
    (grey,) = [line for line in ax.lines if line.get_color() == THIN_COLOUR and line.get_label().startswith("_")][:1]
    assert grey.get_xdata().tolist() == [1]


@pytest.mark.usefixtures("undrawn")
def test_the_warning_of_a_preset_stands_above_the_findings(tiny):
    blocks = build(tiny).sections[0].blocks
    kinds = [block.kind for block in blocks]
    assert kinds.index("note") < kinds.index("list")
    assert "A trial: the preset “tiny”" in blocks[0].text


@pytest.mark.usefixtures("undrawn")
def test_what_failed_was_skipped_or_warned_of_is_shown():
    extra = {"failed": {"valid": "too small"}, "warnings": ["some channels are dead"], "skipped": {"conv9": "1×1 map"}}
    page = build(comparison({"zeros": [0.5, 0.52]}, **extra)).html()
    for text in ("Not measured: valid padding. too small", "some channels are dead", "1×1 map"):
        assert text in page


@pytest.mark.parametrize("rolled", [{"zeros": [np.nan, np.nan]}, {"zeros": [0.5], "full": [np.nan]}])
def test_a_page_can_be_made_of_missing_numbers(rolled):
    page = build(comparison(rolled)).html()
    shown = re.sub(r"base64,[\w+/=]*|<script.*", "", page, flags=re.DOTALL)
    assert not re.search(r"\bnan\b", shown, re.IGNORECASE)


def test_other_results_are_refused():
    with pytest.raises(ArgumentError, match="kind='other'"):
        reports.build(xr.Dataset(attrs={"analysis": "other"}))
    with pytest.raises(ArgumentError, match="kind=None"):
        reports.build(xr.Dataset())
    with pytest.raises(ArgumentError, match="found None"):
        build(xr.Dataset())


def test_another_process_builds_the_same_bytes_from_a_file_without_torch(tiny, report, tmp_path):
    path = probe.save(tiny, tmp_path / "result.nc")
    code = (
        "import sys, probe, reports\n"
        "reports.build(probe.load(sys.argv[1])).save(sys.argv[2])\n"
        "assert not {'torch', 'analyses'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "page.html"], check=True)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == report.html()
