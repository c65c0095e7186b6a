"""What the first layer of a model tells of its images."""

import pytest
from torch import nn

from probe.models.first_layers import first_inputs, takes_grey


def flattened(n_inputs):
    return nn.Sequential(nn.Flatten(), nn.LayerNorm(n_inputs, elementwise_affine=False), nn.Linear(n_inputs, 4))


@pytest.mark.parametrize(
    ("model", "grey", "square"),
    [
        (nn.Conv2d(1, 4, 3), True, True),
        (nn.Conv2d(3, 4, 3), False, False),
        (nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 3)), False, False),  # greys are made colours inside
        (flattened(28 * 28), True, True),
        (flattened(3 * 32 * 32), False, False),
        (flattened(96 * 96), False, True),  # as many as three channels of 48 by 64 pixels
        (flattened(1000), False, False),
        (nn.Identity(), False, False),
        (nn.Sequential(nn.Embedding(5, 16), nn.Linear(16, 4)), False, False),  # no pixels
    ],
)
def test_which_models_take_greys(model, grey, square):
    assert takes_grey(model) == grey
    assert takes_grey(model, square=True) == square


def test_a_first_linear_layer_tells_how_many_numbers_an_image_has():
    assert first_inputs(flattened(12)) == 12
    assert first_inputs(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4))) == 0  # which may normalise tokens
    assert first_inputs(nn.ReLU()) == 0
