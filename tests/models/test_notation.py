"""Layouts as they are written."""

import pytest

from probe.models.notation import LAYOUTS, read_layout

SAID = {
    "NLC[5:201]": ("NLC", slice(5, 201), None),
    "LNC[1:]": ("LNC", slice(1, None), None),
    "NLC[:-4]": ("NLC", slice(None, -4), None),
    "NLC[1:](14, 7)": ("NLC", slice(1, None), (14, 7)),
    "NLC[1:](14,7)": ("NLC", slice(1, None), (14, 7)),
}


@pytest.mark.parametrize("axes", LAYOUTS)
def test_axes_alone_say_nothing_of_patches(axes):
    assert read_layout(axes) == (axes, None, None)
    assert len(axes) == LAYOUTS[axes]


@pytest.mark.parametrize("text", SAID)
def test_which_tokens_are_patches_and_on_which_grid(text):
    assert read_layout(text) == SAID[text]


@pytest.mark.parametrize("text", ["", "nchw", "NCWH", "NCHW[1:5]", "NLC[5]", "NLC[1:5:2]", "NLC(14, 7)", "NLC[1:](14)"])
def test_all_else_is_none(text):
    assert read_layout(text) is None
