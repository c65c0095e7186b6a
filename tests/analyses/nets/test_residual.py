"""S-Conv, F-Conv and BlurPool: sizes as tabulated, weights of torchvision's nets."""

import pytest
import torch
import torchvision

from probe.analyses.nets import cifar_resnet, multiply_adds, residual_net
from probe.errors import ArgumentError
from probe.testing import noise_images
from probe.variants.samplers import BlurPool

pytestmark = pytest.mark.usefixtures("one_thread")


ARMS = {"S": {}, "F": {"border": "full"}, "S+B": {"blur": 3}, "F+B": {"border": "full", "blur": 3}}

# By depth and arm: billions of multiplications at 224×224, and the rows of the maps after pooling and each stage.
TABULATED = {
    (18, "S"): (1.81, (56, 56, 28, 14, 7)),
    (18, "F"): (5.56, (57, 65, 40, 27, 21)),
    (18, "S+B"): (2.33, (56, 56, 28, 14, 7)),
    (18, "F+B"): (7.92, (58, 66, 41, 29, 23)),
    (34, "S"): (3.66, (56, 56, 28, 14, 7)),
    (34, "F"): (25.3, (57, 69, 50, 48, 35)),
    (34, "S+B"): (4.18, (56, 56, 28, 14, 7)),
    (34, "F+B"): (31.3, (58, 70, 51, 50, 37)),
    (50, "S"): (4.09, (56, 56, 28, 14, 7)),
    (50, "F"): (12.8, (57, 63, 39, 31, 21)),
    (50, "S+B"): (5.13, (56, 56, 28, 14, 7)),
    (50, "F+B"): (17.1, (58, 64, 40, 32, 22)),
    (101, "S"): (7.80, (56, 56, 28, 14, 7)),
    (101, "F"): (74.2, (57, 63, 39, 65, 38)),
    (101, "S+B"): (8.84, (56, 56, 28, 14, 7)),
    (101, "F+B"): (86.9, (58, 64, 40, 66, 39)),
}


@pytest.mark.parametrize(("depth", "arm"), TABULATED)
def test_maps_parameters_and_arithmetic_are_as_tabulated(depth, arm):
    with torch.device("meta"):
        net = residual_net(depth, **ARMS[arm]).eval()
        maps = net.maxpool(net.bn1(net.conv1(torch.zeros(1, 3, 224, 224))))
    rows, blurs = [maps.shape[2]], []
    for module in net.modules():
        if isinstance(module, BlurPool):
            module.register_forward_hook(lambda module, inputs, output: blurs.append(9 * output[0].numel()))
    net.maxpool(torch.zeros(1, 64, *(2 * [115 if "F" in arm else 112]), device="meta"))
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        maps = stage(maps)
        rows.append(maps.shape[2])
    expected, sizes = TABULATED[depth, arm]
    assert tuple(rows) == sizes
    digits = 1 if expected > 10 else 2
    # The table leaves out the filters themselves, and was cut off or rounded in its last digit.
    found = (multiply_adds(net, (3, 224, 224)) - sum(blurs)) / 1e9
    assert abs(found - expected) < 10.0**-digits
    assert sum(p.numel() for p in net.parameters()) == {
        18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160,
    }[depth]  # fmt: skip


@pytest.mark.parametrize("depth", [18, 50])
def test_s_conv_is_the_net_of_torchvision_and_all_arms_take_its_weights(depth):
    torch.manual_seed(0)
    published = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=7).eval()
    images = noise_images(1, 32)
    for given in ARMS.values():
        net = residual_net(depth, n_classes=7, **given).eval()
        net.load_state_dict(published.state_dict())
        with torch.no_grad():
            same = torch.allclose(net(images), published(images), rtol=1e-4, atol=1e-5)
        assert same == (given == {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: residual_net(20), "depth=20: expected one of 18, 34, 50, 101"),
        (lambda: residual_net(18, border="none"), "border='none': expected one of same, full"),
        (lambda: residual_net(18, blur=1), "blur=1: expected the length of a filter"),
        (lambda: residual_net(18, blur=3, pool="same"), "pool='same': expected one of same, full, or None, as with"),
        (lambda: residual_net(18, pool="max"), "pool='max'"),
        (lambda: cifar_resnet(8, width=3), "width=3: expected an even number"),
        (lambda: cifar_resnet(8, border="none"), "border='none'"),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_f_conv_can_keep_the_pooling_of_s_conv():
    with torch.device("meta"):
        net = residual_net(18, border="full", pool="same")
        assert net.maxpool(torch.zeros(1, 64, 115, 115)).shape[2] == 58
