"""Networks of the studies: their sizes, what they see, and seeds."""

import warnings

import pytest
import torch
import torchvision
from torch.nn import functional

from probe.analyses.nets import (
    AugShift,
    cifar_resnet,
    matched_width,
    multiply_adds,
    residual_net,
    seeded,
    small_net,
    small_segmenter,
)
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.measures.consistency import shift_consistency
from probe.testing import noise_images
from probe.variants.padding import with_padding
from probe.variants.samplers import BlurPool
from probe.variants.sampling import with_sampling

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nets_of_one_seed_are_equal_and_the_random_state_stays():
    before = torch.get_rng_state()
    first, second, other = small_net(seed=3), small_net(seed=3), small_net(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("make", [small_net, lambda **options: small_segmenter(n_classes=10, **options)])
def test_small_nets_have_two_strides_and_as_many_channels_as_asked_for(make):
    net = make(n_channels=3, width=2)
    convolutions = [module for module in net if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (3, 32, 2), (32, 48, 1), (48, 64, 2), (64, 64, 1),
    ]  # fmt: skip


def test_a_segmenter_is_the_small_net_up_to_its_last_layer():
    net, segmenter = small_net(seed=5).eval(), small_segmenter(n_classes=3, seed=5).eval()
    images = noise_images(2, 16)[:, :1]
    assert torch.equal(net[:12](images), segmenter[:12](images))
    assert segmenter(images).shape == (2, 3, 4, 4)
    with torch.no_grad():
        expected = functional.linear(net[:12](images).mean((2, 3)), net.classes.weight, net.classes.bias)
        torch.testing.assert_close(net(images), expected)


def by_hand(net, images):
    """The residual network of He et al. for CIFAR, block by block, with its first normalisations left out."""

    def block(maps, weights, width):
        stride = width // maps.shape[1]
        inner = functional.conv2d(functional.conv2d(maps, weights[0], None, stride, 1).relu(), weights[1], None, 1, 1)
        shortcut = torch.zeros_like(inner)
        added = (width - maps.shape[1]) // 2
        shortcut[:, added : width - added] = maps[:, :, ::stride, ::stride]
        return (inner + shortcut).relu()

    maps = functional.conv2d(images, net.conv1.weight, None, 1, 1).relu()
    for stage, width in ((net.layer1, 16), (net.layer2, 32), (net.layer3, 64)):
        for part in stage:
            maps = block(maps, (part.conv1.weight, part.conv2.weight), width)
    return functional.linear(maps.mean((2, 3)), net.linear.weight, net.linear.bias)


def test_the_network_of_cifar_is_the_published_one():
    torch.manual_seed(0)
    net = cifar_resnet(20, n_classes=7).double().eval()
    images = noise_images(2, 32).double()
    for module in net.modules():  # as at the beginning, but exactly the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0
    with torch.no_grad():
        torch.testing.assert_close(net(images), by_hand(net, images))
    with_weights = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(with_weights) == 20


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_depths_that_the_network_of_cifar_cannot_have(depth):
    with pytest.raises(ArgumentError, match=f"depth={depth}: expected 6n \\+ 2 layers"):
        cifar_resnet(depth)


# ---- S-Conv, F-Conv, BlurPool

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


def placed(offset, size=96):
    canvas = torch.zeros(1, 3, size, size, dtype=torch.float64)
    canvas[:, :, offset : offset + 16, offset : offset + 16] = noise_images(1, 16).double()
    return canvas


@pytest.mark.parametrize(
    ("make", "step", "room"),
    [
        (lambda **given: residual_net(18, n_classes=5, width=8, **given), 32, (8, 40, 72)),
        (lambda **given: residual_net(50, n_classes=5, width=8, **given), 32, (8, 40, 72)),
        (lambda **given: cifar_resnet(14, width=4, **given), 4, (0, 4, 76)),
    ],
)
@pytest.mark.parametrize("blur", [0, 3])
def test_full_borders_see_an_object_alike_wherever_it_stands_and_others_do_not(make, step, room, blur):
    """On a canvas of zeros, before training, at shifts by whole strides, off the last row that pooling drops."""
    full, same = (seeded(lambda b=b: make(border=b, blur=blur), 0).double().eval() for b in ("full", "same"))
    with torch.no_grad():
        scores = {net: torch.cat([net(placed(offset)) for offset in room]) for net in (full, same)}
        between = full(placed(room[0] + step // 2 + 1))
    first = scores[full][:1]
    assert (scores[full] - first).abs().max() < 1e-12 * first.abs().max()
    assert (scores[same] - scores[same][:1]).abs().max() > 1e-3 * scores[same].abs().max()
    assert (between - first).abs().max() > 1e-9 * first.abs().max()


def test_polyphase_and_circular_padding_give_the_same_at_every_circular_shift():
    net = seeded(lambda: cifar_resnet(8, width=4), 0).eval()
    exact = with_padding(with_sampling(net, "polyphase"), "circular")
    images = noise_images(12, 16)
    for model, expected in ((exact, True), (net, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)
            result = shift_consistency(
                model, images, law="circular", reach=7, compare="embedding", progress=False, batch_size=12
            )
        assert (result.same.min().item() > 1 - 1e-6) == expected
    assert shift_consistency(exact, images, law="circular", reach=7, progress=False).consistency.item() == 1


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


# ---- AugShift


@pytest.fixture
def augmented():
    return AugShift(seeded(lambda: cifar_resnet(8, width=4), 0)).eval()


def test_the_loss_of_equal_views_is_the_cross_entropy(augmented):
    images, labels = noise_images(6, 16), torch.arange(6)
    loss = augmented.loss(images, images, labels, weight=3.0)
    expected = functional.cross_entropy(augmented(images), labels)
    assert loss.distance.item() == 0
    torch.testing.assert_close(loss.total, expected)


def test_the_loss_is_that_of_two_views_and_the_distance_of_their_latents(augmented):
    first, second, labels = noise_images(6, 16), noise_images(6, 16).flip(2), torch.arange(6)
    inside = augmented.encoder(first), augmented.encoder(second)
    classes = sum(functional.cross_entropy(augmented.head(latents), labels) for latents in inside) / 2
    distance = (inside[0] - inside[1]).square().sum() / (6 * 16)
    without, with_it = (augmented.loss(first, second, labels, weight=weight) for weight in (0.0, 0.5))
    torch.testing.assert_close(without.total, classes)
    torch.testing.assert_close(with_it.total, classes + 0.5 * distance)
    assert distance > 0 and inside[0].shape == (6, 16)


def test_a_circular_net_has_nothing_to_learn_from_circular_views():
    body = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net = with_padding(torch.nn.Sequential(*body, torch.nn.Linear(4, 3)), "circular").double()
    augmented, images = AugShift(net), noise_images(5, 12).double()
    loss = augmented.loss(images, images.roll((3, -2), dims=(2, 3)), torch.tensor([0, 1, 2, 0, 1]))
    (gradient,) = torch.autograd.grad(loss.distance, augmented.encoder[0].weight)
    assert loss.distance.item() < 1e-28 and gradient.abs().max() < 1e-14


def test_augshift_is_the_classifier_and_leaves_it_as_it_was(left_as_found):
    net = seeded(lambda: cifar_resnet(8, width=4), 0).eval()
    images = noise_images(3, 16)
    with left_as_found(net):
        augmented = AugShift(net)
        torch.testing.assert_close(augmented(images), net(images))
    augmented.head.weight.data.zero_()
    assert net.linear.weight.abs().sum() > 0
    with pytest.raises(ModelError, match="model: Conv2d has no linear layer behind others"):
        AugShift(torch.nn.Conv2d(3, 4, 3))
