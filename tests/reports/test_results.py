"""The page of every kind of plain result."""

import html
import re

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe import reports
from probe.errors import ArgumentError
from probe.reports.results.page import KINDS
from probe.results import KINDS as ALL_KINDS
from probe.testing import noise_images, padded_net
from tests.erasing.made import ERASING

NET = padded_net("zeros")


def rank(method):
    return probe.rank_channels(NET, noise_images(60), "conv4", method=method, progress=False)


MAKERS = {
    "layerwise": lambda: probe.layerwise(NET, noise_images(60), maps="conv4", progress=False),
    "channelwise": lambda: probe.channelwise(NET, noise_images(60), progress=False),
    "ranking": lambda: rank("flip"),
    "rankings": lambda: probe.compare_rankings(rank("flip"), rank("shift"), rank("omega2"), top=[4]),
    "ablation_curve": lambda: probe.ablation_curve(
        NET, noise_images(30, 8), rank("flip"), score="agreement", counts=[2, 4], progress=False
    ),
    "pooled": lambda: probe.pooled(NET, noise_images(100, size=4), grid=2, progress=False),
    "similarity": lambda: probe.shift_similarity(NET, noise_images(1, 4), "conv4", frame=12, progress=False),
    "shift_consistency": lambda: probe.shift_consistency(
        nn.Sequential(NET, nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        TensorDataset(noise_images(30, 12), torch.arange(30) % 16),
        law="zero",
        labels=True,
        progress=False,
    ),
    "neighbours": lambda: probe.neighbours(NET, noise_images(20, 8), ["conv1", "conv4"], progress=False),
    "border_profile": lambda: probe.border_profile(NET, noise_images(60, 12), progress=False),
    **ERASING,
    "audit": lambda: probe.audit(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)), (3, 32, 32)),
}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def result(request):
    return MAKERS[request.param]()


def plain(page):
    return html.unescape(re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", "", page, flags=re.DOTALL))


def test_every_kind_of_result_has_a_page():
    joined = {"study", "channels", "padding_comparison", "overview", "comparison"}
    assert set(KINDS) == set(MAKERS) == set(ALL_KINDS) - joined


def test_the_page_tells_findings_a_figure_numbers_model_weights_and_warnings(result, tmp_path):
    result.attrs.update(weights="random, seed 0", warnings='["Beware."]')
    page = reports.build(result).html()
    assert page == reports.build(probe.load(probe.save(result, tmp_path / "result.nc"))).html()
    text = plain(page)
    for sentence in KINDS[result.attrs["kind"]].findings(result):
        assert sentence in text
    assert "random, seed 0" in text and "Beware." in text
    assert page.index("<img ") < page.index("<table")
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_a_failed_result_has_a_page_that_says_so(result):
    failed = result.copy(deep=True)
    for name, variable in result.data_vars.items():
        if variable.dtype.kind == "f":
            failed[name] = variable.copy(data=np.full(variable.shape, np.nan))
    sentences = KINDS[result.attrs["kind"]].findings(failed)
    assert sentences
    for sentence in sentences:
        assert not re.search(r"\b(nan|inf)\b|best|come first|needs", sentence), sentence


def test_where_position_is_read_best_is_told_with_its_error():
    result = MAKERS["layerwise"]()
    sentences = [each.replace("\N{NO-BREAK SPACE}", " ") for each in KINDS["layerwise"].findings(result)]
    r2 = result.r2.sel(stimulus="rolled").mean("target")
    peak = str(result.layer.values[int(r2.values.argmax())])
    assert f"On rolled images position (mean of row and column) is read best from {peak}: R²" in sentences[1]
    none = result.copy(deep=True)
    none["r2"] = none.r2 * 0
    assert all("no layer tells position" in sentence for sentence in KINDS["layerwise"].findings(none))


def test_layers_whose_r2_few_images_do_not_tell_are_not_the_best():
    result = MAKERS["layerwise"]()
    noisy = result.copy(deep=True)
    noisy["r2"].loc[{"layer": noisy.layer[-1]}] = 1.14
    noisy["r2_se"].loc[{"layer": noisy.layer[-1]}] = 0.16
    said = KINDS["layerwise"].findings(noisy)[1]
    assert f"from {noisy.layer.values[-1]}:" not in said and "1 of which cannot be told from so few images" in said
    noisy["r2_se"][:] = 0.16
    assert "is not known from so few images" in KINDS["layerwise"].findings(noisy)[1]


def test_intervals_of_consistency_end_at_what_it_can_be():
    result = MAKERS["shift_consistency"]()
    for name, value in {"consistency": 1.0, "consistency_low": 0.69, "consistency_high": 1.31}.items():
        result[name] = result[name] * 0 + value
    assert "probability 1.00 (0.69 to 1.00)" in KINDS["shift_consistency"].findings(result)[0]


def test_files_from_before_kinds_tell_their_page_by_their_study():
    with pytest.raises(KeyError):  # it is the page of a study that misses its variables
        reports.build(xr.Dataset(attrs={"analysis": "channels"}))
    with pytest.raises(ArgumentError, match="kind='nothing'"):
        reports.build(xr.Dataset(attrs={"analysis": "nothing"}))


@pytest.mark.parametrize("wrong", [None, [1, 2], {"a": 1}, xr.Dataset(), xr.Dataset(attrs={"kind": "os"})])
def test_what_is_no_result_is_refused_with_what_it_is(wrong):
    with pytest.raises(ArgumentError, match=rf"page of a {type(wrong).__name__} with kind=.*layerwise"):
        reports.build(wrong)


def test_the_page_of_an_audit_of_clips_tells_frames():
    result = probe.audit(nn.Sequential(nn.Conv3d(3, 8, (5, 3, 3), stride=2, padding=1)), (3, 16, 32, 32))
    findings = KINDS["audit"].findings(result)
    assert findings == [
        "1 of the 1 layers that pad and have a stride above 1 leave padding unread: 0.",
        "At 17 × 33 × 33 frames and pixels none would.",
    ]
    figures = list(KINDS["audit"].figures(result))
    assert len(figures) == 2 and "Frames from left to right" in figures[1][1]
    table = KINDS["audit"].table(result)
    assert table[["kernel", "kernel, frames", "stride, frames", "unread, last", "unread, bottom"]].values.tolist() == [
        [3, 5, 2, "1 of 1", "1 of 1"]
    ]


# ---- How far the border reaches


def border_result(reach, window=4.0, change=0.3):
    layers = [f"conv{number + 1}" for number in range(len(reach))]
    dims = ("layer", "stimulus", "distance")
    shape = (len(reach), 1, 3)
    return xr.Dataset(
        {
            "change": (dims, np.broadcast_to([change, change / 10, 0.0], shape) * np.array(reach).reshape(-1, 1, 1)),
            "change_se": (dims, np.full(shape, 0.01)),
            "reach": (("layer", "stimulus"), np.array(reach, dtype=float)[:, None]),
            "window_reach": (("layer", "side"), np.full((len(reach), 4), window)),
        },
        coords={
            "layer": layers, "stimulus": ["rolled"], "axis": ["row", "column"],
            "cell": (("layer", "axis"), np.full((len(reach), 2), 4.0)),
        },
        attrs={"kind": "border_profile", "threshold": 0.01, "middle": 12.0, "folds": 5},
    )  # fmt: skip


def told_of_border(*reach, **given):
    return " ".join(KINDS["border_profile"].findings(border_result(reach, **given))).replace("\N{NO-BREAK SPACE}", " ")


def test_the_reach_of_the_border_is_told_with_that_of_windows():
    said = told_of_border(0, 4, 12, window=12.0)
    assert (
        "by more than 1 % of a channel's variance within 4 pixels of it in conv2 and up to the middle (12 pixels)"
        in said
    )
    assert "It is off most in conv3, 2 pixels from the border: by 3.600 ± 0.028." in said
    assert said.endswith("Windows can read beyond the border up to the middle (12 pixels) in conv2 and conv3.")


def test_a_reach_beyond_all_windows_is_not_put_down_to_padding():
    assert told_of_border(4, 12).endswith("In conv2 it reaches farther than that: padding alone is not why.")
    assert "padding alone" not in told_of_border(4, 4)
    assert "Windows can read beyond the border nowhere in conv1. In conv1 it" in told_of_border(4, window=0.0)


def test_a_reach_of_one_side_or_of_few_images_is_no_reason_to_doubt_padding():
    assert "padding alone" not in told_of_border(4, 12, change=0.001)
    few = border_result((4, 12)).assign_attrs(n_images=10)
    assert KINDS["border_profile"].findings(few)[-1].startswith("Whether it reaches farther than that cannot be told")


def test_what_is_not_known_of_the_border_is_said():
    assert told_of_border(4, window=np.nan).endswith("is not known: windows could not be followed.")
    assert "changes towards the border by more than 1 % of a channel's variance in no layer" in told_of_border(0, 0)
    assert told_of_border(np.nan) == "How far the border reaches is not known: no layer varies on rolled images."


def test_of_clips_the_frame_is_told_beside_rows_and_columns():
    net = padded_net("zeros", depth=3, width=6, n_axes=3)
    result = probe.layerwise(net, noise_images(30, (5, 8, 8)), stimuli="rolled", maps="conv3", progress=False)
    sentences = [each.replace("\N{NO-BREAK SPACE}", " ") for each in KINDS["layerwise"].findings(result)]
    r2 = result.r2.sel(stimulus="rolled")
    layers = {"position (mean of row and column)": ["row", "column"], "the frame": ["frame"]}
    for sentence, (what, targets) in zip(sentences, layers.items(), strict=True):
        best = r2.layer.values[r2.sel(target=targets).mean("target").values.argmax()]
        assert sentence.startswith(f"On rolled images {what} is read best from {best}: R²")
    figures = list(KINDS["layerwise"].figures(result))
    assert len(figures[1][0].axes) == 3 * 5 + 1


def test_where_the_samples_of_a_layer_are_not_known_its_row_has_none():
    result = probe.layerwise(NET, noise_images(30), layers=["conv1", "conv2"], progress=False)
    result["samples_per_feature"] = result.samples_per_feature.where(result.layer != "conv2")
    table = KINDS["layerwise"].table(result).set_index("layer")["samples a channel"]
    assert table["conv2"].isna().all() and table["conv1"].iloc[0] == round(float(result.samples_per_feature[0]))
    assert "&lt;NA&gt;" not in reports.build(result).html()


def test_of_a_model_that_pads_in_its_code_no_more_is_said_than_what_was_looked_at():
    unpadded = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2))
    (sentence,) = KINDS["audit"].findings(probe.audit(unpadded, (3, 16, 16)))
    assert "by its own arguments" in sentence and "Padding in the code of forward" in sentence


@pytest.mark.parametrize(
    ("left", "error", "is_told"), [(0.001, 0.001, True), (-0.8, 0.5, False), (0.2, 0.02, True), (0.1, 0.3, False)]
)
def test_what_an_eraser_leaves_is_told_only_as_far_as_it_is_known(left, error, is_told):
    result = MAKERS["erasure_curve"]()
    result["r2_before"] = 0 * result.r2_before + 0.5
    result["r2_before_se"] = 0 * result.r2_before + 0.01
    result["r2"], result["r2_se"] = 0 * result.r2 + left, 0 * result.r2_se + error
    said = " ".join(KINDS["erasure_curve"].findings(result))
    assert ("takes R² of row and column" in said) == is_told
    assert ("cannot be told from so few images" in said) != is_told
    assert ("as little" in said or "leaves more" in said) == is_told
