"""What a table shows is what is in the result."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.command.tables import summarise, write_table
from probe.errors import ProbeWarning
from probe.testing import noise_images, padded_net, pointwise_net


def test_of_a_ranking(made):
    result = made["ranking"]
    rows = summarise(result)
    assert rows["index"].tolist() == result["index"].values.tolist()
    assert rows["score"].tolist() == result.score.values.tolist()
    text = write_table(result)
    first = next(line for line in text.splitlines() if line.startswith("1 "))
    assert first.split() == ["1", str(result["index"].values[0]), f"{result.score.values[0]:.3g}"]
    assert f"between two halves of the images {result.stability.item():.3f}" in text.replace("\n ", "")


def test_of_compared_rankings(made):
    result = made["rankings"]
    rows = summarise(result).set_index(["ranking", "other"])
    pair = result.sel(ranking="flip", other="omega2")
    assert len(rows) == 3
    assert rows.correlation["flip", "omega2"] == pair.correlation
    assert rows.first_4["flip", "omega2"] == pair.overlap.sel(top=4)
    assert rows.chance_4["flip", "omega2"] == 4 / 16
    assert rows.correlation["omega2", "omega2"] == result.stability.sel(ranking="omega2")


@pytest.mark.parametrize("kind", ["ablation_curve", "channels"])
def test_of_curves(kind, made):
    result = made[kind]
    rows = summarise(result)
    assert len(rows) == result.top.size
    for row in rows.to_dict("records"):
        place = {name: row[name] for name in ("ranking", "score", "count")}
        score = {"score": row["score"]}
        assert row["top"] == result.top.sel(place).item()
        assert row["intact"] == result.intact.sel(score).item()
        assert row["random"] == pytest.approx(
            result.random.sel(score | {"count": row["count"]}).mean("draw").item(), nan_ok=True
        )


def test_of_curves_without_random_draws():
    with warnings.catch_warnings(action="ignore", category=ProbeWarning):
        result = probe.ablation_curve(
            padded_net(depth=2), noise_images(20, 8), range(16), layer="relu1", score="agreement", counts=[2, 4],
            draws=2, controls=["matched"], progress=False,
        )  # fmt: skip
    text = write_table(result)
    assert "top − matched" in text and "top − random" not in text
    assert len(summarise(result)) == 2


def test_of_pooled_vectors(made):
    result = made["pooled"]
    row = summarise(result).set_index(["layer", "readout"]).loc[("conv2", "ordered")]
    assert row.accuracy == result.accuracy.sel(layer="conv2", readout="ordered").item()
    assert f"{row.accuracy:.3f} ({row.accuracy_low:.3f}–{row.accuracy_high:.3f})" in write_table(result)


def test_of_objects_that_move(made):
    result = made["similarity"]
    row = summarise(result).set_index(["layer", "reference"]).loc[("conv2", "centre")]
    expected = result.global_similarity.sel(layer="conv2", reference="centre").mean("object").item()
    assert row.global_similarity == pytest.approx(expected, rel=1e-6)


def test_of_shifts(made):
    result = made["shift_consistency"]
    row = summarise(result).set_index(["number", "images"]).loc[("consistency", "all")]
    whole = result.sel(subset="all")
    assert row.value == whole.consistency and row.low == whole.consistency_low and row.se == whole.consistency_se
    text = write_table(result)
    assert f"{row.value:.3f} ({row.low:.3f}–{row.high:.3f})" in text
    assert "law zero, 5 pairs an image of 9 shifts" in text.replace("\n ", "") and "unchanged" in text


def test_of_shifts_with_labels_and_of_embeddings():
    net = nn.Sequential(padded_net(depth=2, width=4), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    data = TensorDataset(noise_images(20, 8), torch.arange(20) % 4)
    options = {"law": "zero", "progress": False}
    labelled = probe.shift_consistency(net, data, labels=True, **options)
    rows = summarise(labelled).set_index(["number", "images"]).value
    assert rows["accuracy", "all"] == labelled.accuracy.item()
    assert rows["consistency", "wrong"] == labelled.consistency.sel(subset="wrong").item()
    assert "wrong" in write_table(labelled)
    embedded = probe.shift_consistency(net, data, compare="embedding", **options)
    rows = summarise(embedded).set_index("number").value
    assert rows["same_neighbour"] == embedded.same_neighbour.item() and "unchanged" not in rows
    assert "mean cosine similarity of the embedding" in write_table(embedded)


def test_of_neighbours(made):
    result = made["neighbours"]
    row = summarise(result).set_index(["layer", "stimulus"]).loc[("conv2", "rolled")]
    at = result.sel(layer="conv2", stimulus="rolled")
    assert (row.same_place, row.chance, row.distance) == (at.same_place, at.chance, at.distance)
    text = write_table(result)
    assert f"{row.same_place:.3f} ({row.same_place_low:.3f}–{row.same_place_high:.3f})" in text
    assert f"{row.chance:.3f}" in text and "18 pairs of images" in text.replace("\n ", "")


def test_an_audit_without_padding_counts_no_layers():
    result = probe.audit(pointwise_net(), (3, 12, 12))
    assert "images of 12×12: no layer pads by its own arguments" in write_table(result)


def test_a_saved_choice_of_folds_has_the_interval_of_all(tmp_path):
    result = probe.layerwise(padded_net("zeros", depth=1), noise_images(60, 8), folds=4, progress=False)
    chosen = probe.load(probe.save(result.isel(fold=[0, 1]), tmp_path / "some.nc"))
    assert write_table(chosen) == write_table(result)
