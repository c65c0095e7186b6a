"""The page of one model, and of several side by side."""

import html
import json
import re

import numpy as np
import pytest
import xarray as xr

import probe
from probe import reports
from probe.analyses.overview.comparison import compare
from probe.bundles import bundle, unbundle
from probe.errors import ArgumentError
from probe.intervals import half_width
from probe.reports.overview import comparison, page, regions, tables
from probe.reports.overview.figures import draw_depth
from probe.reports.overview.parts import VARIANTS, Overview

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>$\\frac$'
LAYER = "0.conv2"


def changed(overview, parts=None, without=(), **attributes):
    """The same with other parts in place of some, or without some."""
    found = {**unbundle(overview), **(parts or {})}
    whole = bundle({name: part for name, part in found.items() if name not in without})
    shown = overview[["shown_image"]]
    return whole.merge(shown).assign_attrs({**overview.attrs, **whole.attrs, **attributes})


def with_r2(part, value, layer=LAYER, stimulus="rolled", error=0.002):
    """A part whose R² at a layer is a value in every fold."""
    at = {"layer": layer, "stimulus": stimulus}
    part = part.copy(deep=True)
    part["r2"].loc[at] = value
    part["r2_se"].loc[at] = error
    part["r2_fold"].loc[at] = value
    return part


@pytest.fixture
def parts(overview):
    return unbundle(overview)


def sentences(result, of=page):
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in of.findings(result)]


def plain(text):
    return html.unescape(re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", "", text, flags=re.DOTALL))


def section(report, title):
    (found,) = [one for one in report.sections if one.title == title]
    return found


def texts(one):
    return " ".join(getattr(block, "text", "") for block in one.blocks)


# ---- The page


def test_the_page_is_that_of_its_file_holds_every_part_and_is_small(overview, tmp_path):
    report = reports.build(overview)
    page_text = report.html()
    path = probe.save(overview, tmp_path / "overview.nc")
    assert reports.build(probe.load(path)).html() == page_text
    assert len(page_text) < 3_000_000
    text = plain(page_text)
    assert all(sentence in text for sentence in page.findings(overview))
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    titles = [one.title for one in report.sections]
    assert titles == [
        "Findings", "Where is position read?", "What the network was shown", "Why is it there?",
        "Which channels and directions carry it?", "What happens without it?", "All numbers", "What each number means",
        "Methods", "Provenance",
    ]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_every_number_is_in_a_table_with_its_csv(overview, parts):
    names = [block.name for block in section(reports.build(overview), "All numbers").blocks if block.kind == "table"]
    assert names == ["parts", *(part for part in parts if part not in VARIANTS and part != "untrained")]


@pytest.mark.usefixtures("undrawn")
def test_a_part_that_failed_leaves_its_reason_above_all_and_in_its_section(overview):
    failed = json.dumps({"neighbours": f"RuntimeError: {HOSTILE}"})
    report = reports.build(changed(overview, without=["neighbours"], failed=failed))
    assert report.sections[0].blocks[0].kind == "note"
    assert "Nearest neighbours: this part failed. RuntimeError" in report.sections[0].blocks[0].text
    assert "this part failed. RuntimeError" in texts(section(report, "What happens without it?"))
    assert "<script>alert(1)" not in report.html()
    assert not any("nearest lies" in sentence for sentence in report.sections[0].blocks[-1].items)


@pytest.mark.usefixtures("undrawn")
def test_parts_that_do_not_apply_say_so_in_a_line_for_each_reason(overview):
    why = texts(section(reports.build(overview), "Why is it there?"))
    assert "Reflect padding, replicate padding and no padding: not measured. Left out with --quick." in why
    assert "No position embedding: not measured. Model: nothing in it is a table of positions." in why


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("part", ["untrained", "padding_circular", "audit", "border", "rankings", "erasing"])
def test_the_rest_of_the_page_stands_without_a_part(overview, part):
    absent = json.dumps({part: "not of this model."})
    result = changed(overview, without=[part], absent=absent)
    assert "not measured. Not of this model." in plain(reports.build(result).html())


@pytest.mark.usefixtures("undrawn")
def test_names_become_no_markup(overview):
    report = reports.build(changed(overview, model=HOSTILE, command=HOSTILE, weights=HOSTILE))
    assert "<script>alert(1)" not in report.html() and HOSTILE in plain(report.html())


def test_other_results_are_refused():
    for build, kind in ((page.build, "overview"), (comparison.build, "comparison")):
        with pytest.raises(ArgumentError, match=f"expected kind='{kind}', found 'layerwise'"):
            build(xr.Dataset(attrs={"kind": "layerwise"}))


# ---- Its sentences


def test_where_position_is_read_best_is_the_mean_of_row_and_column_with_its_interval(overview, parts):
    where = parts["where"]
    r2 = where.r2.mean("target").sel(stimulus="rolled", layer=["0.conv1", LAYER])
    layer = str(r2.layer.values[int(r2.values.argmax())])
    half = half_width(float(where.r2_se.sel(layer=layer, stimulus="rolled").mean("target")), 4)
    first = sentences(overview)[0]
    value, error = re.search(rf"best from {layer} of Sequential: R² ([\d.]+) ± ([\d.]+) \(", first).groups()
    assert float(value) == pytest.approx(float(r2.max()), abs=6e-4)
    assert float(error) == pytest.approx(half, abs=6e-4)


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (0.3, 0.01, "is read best from 0.conv2"),
        (0.03, 0.02, "no layer of Sequential tells it beyond its error: the highest R² is"),
        (0.0005, 0.001, "no layer of Sequential tells it: even at 0.conv2, the highest,"),
        (np.nan, np.nan, "could be scored"),
    ],
)
def test_of_no_position_none_is_claimed(overview, parts, value, error, told):
    where = with_r2(parts["where"], np.nan, layer="0.conv1")
    result = changed(overview, {"where": with_r2(where, value, error=error)})
    assert told in sentences(result)[0]


def test_the_noisiest_layer_of_few_images_is_not_the_best(overview, parts):
    where = with_r2(with_r2(parts["where"], 0.93, error=0.16), 0.4, layer="0.conv1")
    first = sentences(changed(overview, {"where": where}))[0]
    assert "read best from 0.conv1 of Sequential: R² 0.400" in first


def test_where_all_errors_are_large_nothing_is_told_of_a_best_layer(overview, parts):
    where = with_r2(with_r2(parts["where"], 1.14, error=0.16), 0.4, layer="0.conv1", error=0.16)
    found = sentences(changed(overview, {"where": where}))
    assert "is not known from so few images" in found[0]
    assert not any("1.14" in sentence or "R² at 0.conv" in sentence for sentence in found)


def told_of_padding(overview, parts, own, changed_r2, *, error=0.002, agreement=0.9):
    circular = with_r2(parts["padding_circular"], changed_r2, error=error).assign(agreement_with_own=agreement)
    where = with_r2(with_r2(parts["where"], -0.1, layer="0.conv1"), own)
    return sentences(changed(overview, {"where": where, "padding_circular": circular}))[1]


@pytest.mark.parametrize(
    ("changed_r2", "error", "told"),
    [
        (0.0, 0.001, "So no linear readout of a cell finds position with circular padding."),
        (0.2, 0.01, "So it is lower, but still read, with circular padding."),
        (0.02, 0.02, "So whether any is left cannot be told with circular padding."),
        (0.5, 0.01, "None of these takes position away beyond the error."),
        (0.4, 0.01, "None of these takes position away beyond the error."),
    ],
)
def test_what_a_swapped_padding_does_is_judged_by_what_is_left(overview, parts, changed_r2, error, told):
    found = told_of_padding(overview, parts, 0.4, changed_r2, error=error)
    assert found.endswith(told)
    assert "predictions as before 90.0 %" in found


def test_a_model_that_lost_its_task_is_named_and_not_ranked(overview, parts):
    found = told_of_padding(overview, parts, 0.4, 0.0, agreement=0.49)
    assert found.startswith("Not ranked, since fewer than half") and "circular padding (49.0 %" in found


@pytest.mark.parametrize(("constant", "ranked"), [(0.9, False), (0.95, False), (0.85, True)])
def test_a_model_that_says_no_more_than_one_answer_to_all_is_not_ranked(overview, parts, constant, ranked):
    shares = {"agreement_with_own": 0.9, "constant_agreement": constant, "commonest_share": 0.97}
    result = changed(overview, {"padding_circular": parts["padding_circular"].assign(**shares)})
    told = [sentence for sentence in sentences(result) if "Not ranked" in sentence]
    assert bool(told) != ranked
    if told:
        assert "circular padding (90.0 %; 97.0 % of the images get one and the same class)" in told[0]


def regional(parts, **scores):
    """A curve whose scores are those of regions: as it is, and what erasing takes from each."""
    curve = parts["erasing"]
    names = ["miou", "miou:left", "miou:centre", "miou:right"]
    many = xr.concat([curve.isel(score=0, drop=True)] * 4, xr.Variable("score", names), data_vars="minimal")
    for name in (
        "intact",
        "intact_se",
        "erased",
        "erased_se",
        "random",
        "erased_minus_random",
        "erased_minus_random_se",
    ):
        values = xr.concat([curve[name].isel(score=0, drop=True)] * 4, xr.Variable("score", names))
        many[name] = values * 0 + xr.DataArray(scores.get(name, [0.01] * 4), coords={"score": names}, dims="score")
    return many.assign_attrs(curve.attrs)


@pytest.mark.usefixtures("undrawn")
def test_scores_of_regions_stand_in_a_figure_with_their_errors_and_beside_random_directions(overview, parts):
    given = {"intact": [0.5, 0.6, 0.7, 0.8], "erased": [0.4, 0.5, 0.6, 0.7], "random": [0.45, 0.55, 0.65, 0.75]}
    curve = regional(parts, **given)
    table = regions.regions_table(curve)
    assert list(table.region) == ["whole image", "left", "centre", "right"]
    for column, name in zip(list(table)[1:], ("intact", "erased", "random"), strict=True):
        assert [one.mean for one in table[column]] == pytest.approx(given[name])
    half = half_width(0.01, int(json.loads(curve.attrs["settings"])["score_folds"]) - 1)
    assert table["as it is"][0].half_width == pytest.approx(half)
    report = reports.build(changed(overview, {"erasing": curve}))
    captions = [getattr(block, "caption", "") or "" for block in section(report, "What happens without it?").blocks]
    assert any("The score of the whole image and of the thirds" in caption for caption in captions)


def test_each_region_is_drawn_at_its_score(parts):
    curve = regional(parts, intact=[0.5, 0.6, 0.7, 0.8], erased=[0.4, 0.5, 0.6, 0.7])
    (ax,) = regions.draw_regions(curve).axes
    own, erased, _ = ax.containers
    assert own[0].get_ydata().tolist() == [0.5, 0.6, 0.7, 0.8]
    assert erased[0].get_ydata().tolist() == [0.4, 0.5, 0.6, 0.7]
    (legend,) = ax.figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["as it is", "LEACE, 2 directions erased"]
    assert ax.get_ylabel() == "mIoU"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["whole image", "left", "centre", "right"]


@pytest.mark.usefixtures("undrawn")
def test_without_regions_a_line_says_why(overview):
    said = texts(section(reports.build(overview), "What happens without it?"))
    assert "Accuracy by region: not measured, since the labels are of whole images, not of pixels." in said
    settings = {**json.loads(overview.attrs["settings"]), "labelled": False}
    unlabelled = overview.assign_attrs(settings=json.dumps(settings))
    said = texts(section(reports.build(unlabelled), "What happens without it?"))
    assert "not measured, since there are no labels of pixels." in said


@pytest.mark.usefixtures("undrawn")
def test_without_classes_a_line_says_that_the_task_is_not_known(overview, parts):
    why = "Why is it there?"
    line = "Whether a changed model still does its task is not known"
    assert line not in texts(section(reports.build(overview), why))
    unknown = parts["padding_circular"].drop_vars(
        ["agreement_with_own", "commonest_share", "accuracy"], errors="ignore"
    )
    assert line in texts(section(reports.build(changed(overview, {"padding_circular": unknown})), why))


def test_the_model_as_it_is_stands_beside_the_changed_ones(overview, parts):
    circular = parts["padding_circular"].assign(accuracy=0.25)
    table = tables.variants_table(Overview.of(changed(overview, {"padding_circular": circular}))).set_index("model")
    assert table.loc["circular padding", "accuracy"] == 0.25
    own = table.loc["as it is"]
    assert own["predictions as before"] == 1
    assert own["one and the same class"] == float(parts["padding_circular"].constant_agreement)
    assert own["accuracy"] == float(parts["ablation"].intact.sel(score="accuracy"))


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_ranked_is_grey_in_the_figure_and_marked_in_the_table(overview, parts, monkeypatch):
    circular = parts["padding_circular"].assign(agreement_with_own=0.1)
    drawn = {}
    monkeypatch.setattr(
        "probe.reports.overview.figures.plot_layers", lambda results, axes, **given: drawn.update(given)
    )
    report = reports.build(changed(overview, {"padding_circular": circular}))
    assert drawn["faint"] == ["circular padding"]
    (table,) = [block for block in section(report, "Why is it there?").blocks if block.kind == "table"]
    ranked = {cells[0].text: cells[-1].text for cells in table.rows}
    assert ranked == {"as it is": "yes", "circular padding": "no"}


def test_changes_are_taken_within_folds(overview, parts):
    whole = Overview.of(overview)
    found = whole.change(parts["padding_circular"], LAYER)
    at = {"layer": LAYER, "stimulus": "rolled"}
    by_fold = (parts["padding_circular"].r2_fold.sel(at) - parts["where"].r2_fold.sel(at)).mean("target").values
    difference = (parts["padding_circular"].r2.sel(at) - parts["where"].r2.sel(at)).mean("target")
    assert found.mean == pytest.approx(float(difference))
    assert found.half_width == pytest.approx(half_width(by_fold.std(ddof=1) / 5**0.5, 4))


@pytest.mark.parametrize(
    ("before", "told"), [(0.1, "training raised it by 0.300"), (0.5, "training lowered it by 0.100")]
)
def test_what_training_changed_is_told_in_its_direction(overview, parts, before, told):
    where = with_r2(with_r2(parts["where"], -0.1, layer="0.conv1"), 0.4)
    result = changed(overview, {"where": where, "untrained": with_r2(parts["untrained"], before)})
    assert any(told in sentence for sentence in sentences(result))


@pytest.mark.parametrize(
    ("weights", "state"),
    [("random (seed 0)", "as it is (random)"), ("ResNet18_Weights.V1", "trained"), ("", "as it is")],
)
def test_a_model_is_called_trained_only_with_weights(overview, weights, state, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "probe.reports.overview.figures.plot_layers", lambda results, axes, **given: drawn.update(results)
    )
    monkeypatch.setattr("probe.reports.overview.figures.move_legend_above", lambda figure, axes: None)
    draw_depth(Overview.of(changed(overview, without=["untrained"], weights=weights)))
    assert list(drawn) == [state]


# ---- Several models


def test_a_model_beside_itself_differs_in_nothing(overview):
    result = compare({"one.a": overview, HOSTILE: overview})
    found = sentences(result, comparison)
    assert found and not any(" is higher than " in sentence or " is lower than " in sentence for sentence in found)
    assert re.search(rf"{re.escape(HOSTILE)} \(0[.0]* ± 0[.0]*\) cannot be told from one\.a", found[0])


@pytest.mark.usefixtures("undrawn")
def test_a_difference_is_told_with_its_error_and_direction(overview, parts, tmp_path):
    where = with_r2(parts["where"], -0.1, layer="0.conv1")
    first, second = (changed(overview, {"where": with_r2(where, value)}) for value in (0.4, 0.25))
    result = compare({"first": first, "second": second})
    assert "second is lower than first by 0.150 ± 0.000." in sentences(result, comparison)[0]
    text = reports.build(result).html()
    assert text == reports.build(probe.load(probe.save(result, tmp_path / "two.nc"))).html()
    assert len(text) < 3_000_000 and not re.search(r"\b(nan|inf)\b", plain(text), re.IGNORECASE)


@pytest.mark.usefixtures("undrawn")
def test_models_that_saw_other_images_are_compared_with_the_errors_of_both_and_a_note(overview, parts):
    other = changed(overview, images_digest="another")
    result = compare({"first": overview, "second": other})
    assert reports.build(result).sections[0].blocks[0].text.startswith("The models were not shown the same images")
    best = page.Overview.of(overview)
    one = best.read(best.where, best.peak).half_width
    differences = comparison._differences(comparison._models(result), result)
    assert differences[comparison._BEST]["second"].half_width == pytest.approx(2**0.5 * one)


@pytest.mark.usefixtures("undrawn")
def test_models_of_unlike_parts_are_compared_in_what_both_have(overview):
    result = compare({"all": overview, "few": changed(overview, without=["erasing", "neighbours", "untrained"])})
    text = plain(reports.build(result).html())
    assert "few: not measured." in text


def test_what_is_no_such_result_is_not_compared(overview, parts):
    with pytest.raises(ArgumentError, match="expected two models or more, found 1"):
        compare({"one": overview})
    with pytest.raises(ArgumentError, match="results: two is of the kind 'layerwise'"):
        compare({"one": overview, "two": parts["where"]})
