"""Multiplications are counted as by hand."""

import pytest
import torch

from probe.analyses.nets import cifar_resnet, matched_width, multiply_adds
from probe.errors import ArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_multiplications_are_counted_and_matched():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Flatten(), torch.nn.Linear(8 * 25, 4))
    assert multiply_adds(net, (3, 11, 11)) == 8 * 25 * 27 + 8 * 25 * 4
    assert net[0].weight.device.type == "cpu"

    def make(width):
        return cifar_resnet(8, width=width, border="full")

    budget = multiply_adds(cifar_resnet(8), (3, 24, 24))
    width = matched_width(make, budget, (3, 24, 24), widest=16)
    assert multiply_adds(make(width), (3, 24, 24)) <= budget < multiply_adds(make(width + 2), (3, 24, 24))
    with pytest.raises(ArgumentError, match="budget=10: the narrowest network"):
        matched_width(make, 10, (3, 24, 24), widest=16)
