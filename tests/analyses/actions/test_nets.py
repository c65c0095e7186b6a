"""Networks of clips: their sizes and costs as tabulated, and what they can know by their borders."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from probe.analyses.actions.nets import ARMS, ClipResNet, _convolution, clip_resnet, small_clip_net
from probe.errors import ArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")
FULL_TIME = "F-Conv in space and time, stride 2"  # as published


@pytest.mark.parametrize(
    ("depth", "arm", "products", "size", "parameters"),
    [
        (18, "S-Conv", 8.3, (1, 4, 4), 33.3),
        (18, "F-Conv in space", 20.6, (1, 17, 17), 33.3),
        (18, FULL_TIME, 104.9, (14, 17, 17), 33.3),
        (34, "S-Conv", 12.7, (1, 4, 4), 63.6),
        (34, "F-Conv in space", 92.2, (1, 32, 32), 63.6),
        (34, FULL_TIME, 1360.6, (29, 32, 32), 63.6),
        (50, "S-Conv", 10.1, (1, 4, 4), 46.4),
        (50, "F-Conv in space", 29.9, (1, 17, 17), 46.4),
        (50, FULL_TIME, 173.6, (14, 17, 17), 46.4),
    ],
)
def test_residual_networks_have_the_published_sizes(depth, arm, products, size, parameters):
    with torch.device("meta"), torch.no_grad():
        net, clip = ClipResNet(depth, ARMS[arm], 101).eval(), torch.zeros(1, 3, 16, 112, 112)
        with FlopCounterMode(display=False) as counter:
            assert net(clip).shape == (1, 101)
        assert tuple(net.maps(clip).shape[2:]) == size
    assert counter.get_total_flops() / 2e9 == pytest.approx(products, abs=0.05)
    assert sum(weight.numel() for weight in net.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)


def test_there_are_three_depths_and_seeds():
    with pytest.raises(ArgumentError, match="depth=101: expected one of 18, 34, 50"):
        clip_resnet(101, ARMS["S-Conv"], n_classes=2)
    state = torch.get_rng_state()
    first, again, other = (small_clip_net(ARMS["S-Conv"], n_classes=2, seed=seed)[1].weight for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def plain(arm):
    """Two convolutions without bias and stride, and the mean over the map."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = [_convolution(ARMS[arm], 1, 4, 3), nn.ReLU(), _convolution(ARMS[arm], 4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers).double()


def answers(arm, places):
    """The summed maps of a short event in an empty clip, at each place (frame, row, column)."""
    event = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    clips = torch.zeros(len(places), 1, 8, 8, 8, dtype=torch.double)
    for clip, (frame, row, column) in zip(clips, places, strict=True):
        clip[0, frame : frame + 2, row : row + 2, column : column + 2] = event
    with torch.no_grad():
        return plain(arm)(clips).sum(dim=(2, 3, 4))


MIDDLE, AT_THE_EDGE, AT_THE_START = (3, 3, 3), (3, 0, 6), (0, 3, 3)


@pytest.mark.parametrize(
    ("arm", "same_place", "same_time"),
    [
        ("S-Conv", False, False),
        ("F-Conv in space", True, False),
        ("F-Conv in space and time", True, True),
        ("circular", True, True),
    ],
)
def test_full_convolution_sees_an_event_alike_wherever_it_stands(arm, same_place, same_time):
    middle, edge, start = answers(arm, [MIDDLE, AT_THE_EDGE, AT_THE_START])
    assert torch.allclose(middle, edge, rtol=1e-12, atol=0) == same_place
    assert torch.allclose(middle, start, rtol=1e-12, atol=0) == same_time


def test_circular_networks_do_not_see_rolls_by_their_strides():
    clips = torch.rand(2, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    rolled = clips.roll((4, 8, 16), (2, 3, 4))
    for arm, same in (("circular", True), ("S-Conv", False), ("F-Conv in space and time", False)):
        net = small_clip_net(ARMS[arm], n_classes=5).double().eval()
        with torch.no_grad():
            assert torch.allclose(net(clips), net(rolled), rtol=1e-10, atol=1e-12) == same, arm


def test_a_circular_residual_network_does_not_either():
    net = ClipResNet(18, ARMS["circular"], 3).double().eval()
    clips = torch.rand(1, 3, 16, 32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(net(clips.roll((32, 0), (4, 2))), net(clips), rtol=1e-9, atol=1e-9)


def test_small_networks_do_not_see_how_bright_a_clip_is():
    net = small_clip_net(ARMS["S-Conv"], n_classes=3).double().eval()
    clips = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(net(200 * clips + 30), net(clips), rtol=1e-4, atol=1e-5)
        assert net(torch.full((1, 1, 16, 16, 16), 7.0, dtype=torch.double)).isfinite().all()
