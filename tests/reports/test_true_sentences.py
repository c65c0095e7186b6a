"""Every page is fed null, reversed, failed and partly failed results, and its sentences are read."""

import html
import re

import numpy as np
import pytest

from probe.reports.overview import page as overview_page
from probe.reports.page.opening import PRESET_NOTES
from probe.reports.studies import build, findings

# What each study's numbers are where there is no effect, and what no page may then say.
NULL = {
    "actions": (50.0, r"these networks go by|changes no accuracy|reaches without the order|(better|worse) than S|adds"),
    "audit": (0.0, r"leave padding unread|read unequally"),
    "augshift": (50.0, r"beyond its error|as it must be"),
    "border_reach": (0.0, r"the first that it reaches|Beyond what paths"),
    "data_efficiency": (50.0, r"(ahead|behind) beyond"),
    "erasing": (0.0, r"changes the score \(|changed most by (?!.*within its error)|zeroing channels takes"),
    "gapnet": ("chance", r"So the cell stands"),
    "location_dependent": ("chance", r"padding.* is told beyond chance|is highest|lower there|higher there"),
    "patch_matching": (95.0, r"is (better|worse) (with|than)|(better|worse) than|Part of what few|nearly the same"),
    "posenet": (0.0, r"above 0 beyond their error\.|content alone tells [HVG]|Zeros around the pixels tell|rises with"),
    "quadrants": (50.0, r"is told up to|again at|accuracy − that on new ones"),
    "red_green": (50.0, r"go by place|as good in the other half|networks are (worse|better)|recognised less often"),
    "rook": (50.0, r"so many tell|Others did|here they are not"),
    "shifts": (50.0, r"beyond its error|that are (more|less) consistent"),
    "similarity": (0.5, r"speaks for it in [1-9]|against it in [1-9]|tells positions apart most"),
}


@pytest.fixture(scope="module", params=sorted(NULL))
def study(request, tiny_study):
    return tiny_study(request.param)


def with_numbers(result, change):
    """The same result with other numbers in every variable that is not text or a count."""
    changed = result.copy(deep=True)
    for name, variable in result.data_vars.items():
        if variable.dtype.kind == "f" and name != "published":
            changed[name] = variable.copy(data=np.asarray(change(name, variable), dtype=float))
    return changed


def null(result):
    value, _ = NULL[result.attrs["analysis"]]

    def flat(name, variable):
        if name == "chance":
            return variable.values
        if value == "chance":
            if set(result.chance.dims) <= set(variable.dims):
                return result.chance.broadcast_like(variable).transpose(*variable.dims).values
            return np.where(variable.isnull(), np.nan, float(result.chance.min()))
        filled = 1.0 if result.attrs["analysis"] == "rook" and name == "response" else value
        return np.where(variable.isnull(), np.nan, filled)

    return with_numbers(result, flat)


def reversed_numbers(result):
    return with_numbers(result, lambda name, variable: variable.max().item() + variable.min().item() - variable.values)


def failed(result):
    return with_numbers(result, lambda name, variable: np.full(variable.shape, np.nan))


def partly_failed(result):
    """The first of each variable's cases (its first dim that is not the seed) is not finite."""

    def without_the_first(name, variable):
        values = variable.values.copy()
        axes = [axis for axis, dim in enumerate(variable.dims) if dim != "seed" and variable.sizes[dim] > 1]
        if axes:
            values[(slice(None),) * axes[0] + (0,)] = np.nan
        return values

    return with_numbers(result, without_the_first)


@pytest.mark.parametrize("state", [null, reversed_numbers, failed, partly_failed])
@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:Mean of empty slice", "ignore:Degrees of freedom")
def test_no_sentence_holds_what_is_no_number(study, state, request):
    # Figures of usual numbers are drawn in the tests of each study.
    request.getfixturevalue("undrawn" if state is reversed_numbers else "drawn_on_nothing")
    result = state(study)
    sentences = findings(result)
    assert sentences and all(sentence.strip() and sentence[-1] in ".:" for sentence in sentences)
    for sentence in sentences:
        assert not re.search(r"\b(nan|inf)\b|not known (%|points|pixels)|: \.", sentence), sentence
    text = html.unescape(re.sub(r"<[^>]+>", "", build(result).html()))
    assert all(sentence in text for sentence in sentences)


def test_of_nothing_nothing_is_claimed(study):
    _, claims = NULL[study.attrs["analysis"]]
    for sentence in findings(null(study)):
        assert not re.search(claims, sentence), sentence


def test_a_failed_result_says_so_and_no_more(study):
    (sentence,) = findings(failed(study))
    assert sentence.startswith("Nothing came out: no measured")


def test_shares_stay_within_0_and_100_percent_and_two_seeds_are_shown_as_they_are(study):
    for state in (null, reversed_numbers):
        for sentence in findings(state(study)):
            for low, high in re.findall(r"\(([−\d.]+) to ([−\d.]+)\) %", sentence):
                assert float(low.replace("−", "-")) >= 0 and float(high) <= 100, sentence
            assert not re.search(r"\d ± \d+(\.\d+)? %", sentence.replace("\N{NO-BREAK SPACE}", " ")), sentence


@pytest.mark.usefixtures("undrawn")
def test_the_warning_of_the_preset_stands_above_the_findings(study):
    first, *others = build(study).sections[0].blocks
    assert (first.kind, first.text) == ("note", PRESET_NOTES["tiny"])
    assert any(block.kind == "figure" for block in others)


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_what_the_networks_were_shown(study):
    section = {section.title: section for section in build(study).sections}.get("What the network was shown")
    if study.attrs["analysis"] in ("audit", "red_green"):  # no images; a figure of its own
        assert section is None
        return
    (strip,) = section.blocks
    assert all(f"“{name}”" in strip.caption for name in study.shown.values)
    images = study.shown_image.transpose("shown_number", "shown", ...).values
    assert len({image.tobytes() for image in images.reshape(-1, *images.shape[2:])}) > 1


# What the page of one model may not say of numbers that are all 0, or none.
OF_NOTHING = (
    r"is read best|training (raised|lowered)|of natural images adds|So no linear readout|still read|"
    r"Position is still there|position is read again|more harm than|same prediction with probability 0\.[1-9]"
)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("state", ["null", "reversed", "failed", "partly failed"])
@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:Mean of empty slice", "ignore:Degrees of freedom")
def test_the_page_of_one_model_says_nothing_false(overview, state):
    changes = {
        "null": lambda result: with_numbers(result, lambda name, variable: np.zeros(variable.shape)),
        "reversed": reversed_numbers,
        "failed": failed,
        "partly failed": partly_failed,
    }
    result = changes[state](overview)
    sentences = overview_page.findings(result)
    text = html.unescape(re.sub(r"<[^>]+>", "", overview_page.build(result).html()))
    for sentence in sentences:
        assert sentence in text and sentence[-1] == "."
        assert not re.search(r"\b(nan|inf)\b|: \.", sentence), sentence
        if state in ("null", "failed"):
            assert not re.search(OF_NOTHING, sentence), sentence
        if state == "failed":
            assert not re.search(r"R² [−\d]", sentence), sentence
