"""BagNet-33: what its units see, and the names of the released weights."""

import pytest
import torch

from probe.analyses.quadrants.bagnet import bagnet33

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_last_units_of_bagnet_see_33_by_33_pixels():
    torch.manual_seed(0)
    net, maps = bagnet33().eval(), []
    net.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    net(images)
    (gradient,) = torch.autograd.grad(maps[0][:, :, 1, 2].sum(), images)
    rows, columns = (gradient.abs().sum(dim=(0, 1)) > 0).nonzero(as_tuple=True)
    assert (rows.min(), rows.max()) == (8, 8 + 32)
    assert (columns.min(), columns.max()) == (16, 16 + 32)


def test_bagnet_has_the_names_and_sizes_of_the_released_weights():
    state = bagnet33().state_dict()
    assert sum(parameter.numel() for parameter in bagnet33().parameters()) == 18_310_184
    assert state["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert state["layer3.5.conv2.weight"].shape == (256, 256, 1, 1)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
