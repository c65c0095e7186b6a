"""Layouts that are given for layers; what a survey finds is read in `test_capture.py` and the tests of all models."""

import pytest

from probe.errors import ArgumentError
from probe.models.survey import survey
from probe.testing import noise_images, padded_net

IMAGES = noise_images(4, size=16)


@pytest.mark.parametrize(("layout", "message"), [("CHWN", "'CHWN'"), ({"conv1": "x"}, "'x' for 'conv1'")])
def test_an_unknown_layout_is_an_error(layout, message):
    with pytest.raises(ArgumentError, match=f"layout: unknown layout {message}.*NCHW, NHWC, NLC, LNC"):
        survey(padded_net("zeros"), IMAGES[:1], layout)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("NLC[1:5]", "NLC is of 3 axes, and no output of the model has as many; they have 4"),
        ({"conv*": "LNC"}, r"LNC is of 3 axes, and no output of 'conv\*' has as many; they have 4"),
    ],
)
def test_a_layout_that_no_output_can_have_is_an_error(layout, message):
    with pytest.raises(ArgumentError, match=f"layout: {message}"):
        survey(padded_net("zeros"), IMAGES[:1], layout)


def test_a_layout_for_a_layer_that_there_is_not_is_an_error():
    with pytest.raises(ArgumentError, match="layout: no layer is called 'conv9'"):
        survey(padded_net("zeros"), IMAGES[:1], {"conv9": "NHWC"})
