"""Results as text: in a terminal, as `probe show` prints them; how wide, and what is said of weights and names."""

import pytest
import torch

import probe
from probe.reports.glance.text import write_table
from probe.results import KINDS, Result


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_terminal_it_is_what_probe_show_prints_and_what_the_dataset_holds(kind, made, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = made[kind]
    assert isinstance(result, Result)
    lines = repr(result).splitlines()
    told = write_table(result).splitlines()
    assert lines[:2] == told[:2] and max(map(len, lines)) <= 120
    text = "\n".join(lines)
    if len(told) < 20:
        assert text.startswith("\n".join(told))
    assert f"xarray.Dataset ({next(iter(result.sizes))} " in text


@pytest.mark.parametrize("width", [120, 80])
@pytest.mark.parametrize("kind", KINDS)
def test_is_no_wider_than_asked_for(kind, width, made):
    assert max(map(len, write_table(made[kind], width).splitlines())) <= width


def test_random_weights_are_called_so(made):
    result = made["layerwise"].assign_attrs(weights="random (seed 3)")
    assert write_table(result).startswith("model: Sequential, weights: random (seed 3); digest ")
    assert write_table(made["layerwise"]).startswith(
        "model: Sequential, weights: not named where it was measured, so they may be random"
    )
    assert "weights: random at first and trained here" in write_table(made["padding_comparison"])


def test_long_names_of_layers_keep_both_ends(made):
    result = made["layerwise"]
    name = "backbone.model.encoder.layers.encoder_layer_11.self_attention.out_projection_of_all_heads.convolution_1"
    layers = [name, *result.layer.values[1:]]
    text = write_table(result.assign_coords(layer=layers), 120)
    assert "backbone.model.encoder.l…f_all_heads.convolution_1" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_table_without_rows_is_a_sentence():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    lines = write_table(probe.audit(net, (3, 16, 16))).splitlines()
    assert lines[-1] == "no layer with a stride above 1 pads by its own arguments, so nothing is listed"
    assert "Empty" not in "".join(lines)
