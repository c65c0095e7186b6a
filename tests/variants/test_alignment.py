"""Maps of unequal size against cropping and padding written by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.errors import PaddingError
from probe.variants.alignment import Alignment
from probe.variants.padding import with_padding


class Residual(nn.Module):
    """x + conv2(relu(conv1(x))), the way the sum is written being a choice."""

    def __init__(self, sum_of, channels=4):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.sum_of = sum_of

    def forward(self, x):
        return self.sum_of(x, self.conv2(functional.relu(self.conv1(x))))


class Branches(nn.Module):
    """A 1 × 1, a 3 × 3 and a 5 × 5 convolution side by side."""

    def __init__(self, concatenation):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(4, 2, size, padding=size // 2) for size in (1, 3, 5))
        self.concatenation = concatenation

    def forward(self, x):
        return self.concatenation([branch(x) for branch in self.branches])


def in_place(x, y):
    y += x
    return y


def in_place_into_the_skip(x, y):
    x = x.clone()
    x += y
    return x


SUMS = {
    "x + y": lambda x, y: x + y,
    "y + x": lambda x, y: y + x,
    "torch.add": torch.add,
    "x.add": lambda x, y: x.add(y),
    "y += x": in_place,
    "x += y": in_place_into_the_skip,
    "sum": lambda x, y: sum([x, y]),
}
CONCATENATIONS = {
    "cat": lambda maps: torch.cat(maps, 1),
    "cat, dim": lambda maps: torch.cat(maps, dim=1),
    "cat, from the end": lambda maps: torch.cat(tuple(maps), -3),
    "concat": lambda maps: torch.concat(maps, dim=1),
    "concatenate": lambda maps: torch.concatenate(maps, 1),
}


def weights_of(convolution):
    return convolution.weight, convolution.bias


@pytest.mark.parametrize("name", SUMS)
def test_sums_under_valid_crop_and_under_full_pad_by_hand(name):
    net, x = Residual(SUMS[name]), torch.randn(2, 4, 9, 11)
    inner = functional.relu(functional.conv2d(x, *weights_of(net.conv1)))
    expected = x[:, :, 2:-2, 2:-2] + functional.conv2d(inner, *weights_of(net.conv2))
    torch.testing.assert_close(with_padding(net, "valid")(x), expected)
    inner = functional.relu(functional.conv2d(x, *weights_of(net.conv1), padding=2))
    expected = functional.pad(x, (2, 2, 2, 2)) + functional.conv2d(inner, *weights_of(net.conv2), padding=2)
    torch.testing.assert_close(with_padding(net, "full")(x), expected)


@pytest.mark.parametrize("name", CONCATENATIONS)
def test_concatenations_under_valid_crop_and_under_full_pad_by_hand(name):
    net, x = Branches(CONCATENATIONS[name]), torch.randn(2, 4, 9, 11)
    one, three, five = (weights_of(branch) for branch in net.branches)
    expected = [
        functional.conv2d(x, *one)[:, :, 2:-2, 2:-2],
        functional.conv2d(x, *three)[:, :, 1:-1, 1:-1],
        functional.conv2d(x, *five),
    ]
    torch.testing.assert_close(with_padding(net, "valid")(x), torch.cat(expected, 1))
    expected = [
        functional.pad(functional.conv2d(x, *one), (2, 2, 2, 2)),
        functional.pad(functional.conv2d(x, *three, padding=2), (1, 1, 1, 1)),
        functional.conv2d(x, *five, padding=4),
    ]
    torch.testing.assert_close(with_padding(net, "full")(x), torch.cat(expected, 1))


def test_odd_row_or_column_is_at_the_bottom_or_right():
    small, large = torch.full((1, 1, 2, 3), 100.0), torch.arange(20.0).reshape(1, 1, 4, 5)
    with Alignment("valid"):
        torch.testing.assert_close(small + large[:, :, :3, :4], 100 + large[:, :, :2, :3])
        torch.testing.assert_close(small + large, 100 + large[:, :, 1:3, 1:4])
    with Alignment("full"):
        total = small + large[:, :, :3, :4]
    torch.testing.assert_close(total, functional.pad(small, (0, 1, 0, 1)) + large[:, :, :3, :4])


def test_each_axis_is_aligned_by_itself():
    tall, wide = torch.ones(1, 2, 6, 2), torch.ones(1, 2, 2, 6)
    with Alignment("valid"):
        assert (tall + wide).shape == (1, 2, 2, 2)
        assert torch.cat([tall, wide], 1).shape == (1, 4, 2, 2)
    with Alignment("full"):
        assert (tall + wide).shape == (1, 2, 6, 6)
        assert torch.cat([tall, wide], 1).shape == (1, 4, 6, 6)


def test_alpha_of_a_sum_is_kept():
    with Alignment("valid"):
        total = torch.add(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2), alpha=3)
    torch.testing.assert_close(total, torch.full((1, 1, 2, 2), 4.0))


@pytest.mark.parametrize("padding", ["valid", "full"])
def test_broadcasting_and_products_are_left_alone(padding):
    x = torch.randn(2, 3, 5, 5)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.ReLU())
    operands = [
        torch.randn(1, 3, 1, 1),
        torch.randn(2, 3, 1, 5),
        torch.randn(3, 1, 1),
        x.mean((2, 3), keepdim=True),
        2.5,
    ]
    with Alignment(padding):
        for operand in operands:
            torch.testing.assert_close(x + operand, torch.as_tensor(operand).expand_as(x) + x)
        torch.testing.assert_close(x + pooled(x), x.add(pooled(x).expand(2, 3, 5, 5)))
        torch.testing.assert_close(pooled(x) * x, x.mul(pooled(x)))
        with pytest.raises(RuntimeError, match="size of tensor"):
            x * torch.ones(1, 3, 4, 4)
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            torch.cat([x, torch.ones(2, 3, 4, 4)], 0)
        tokens = torch.cat([torch.ones(2, 1, 8), torch.ones(2, 4, 8)], 1)
    assert tokens.shape == (2, 5, 8)


@pytest.mark.parametrize("sum_of", [SUMS["x + y"], SUMS["y += x"]])
def test_a_map_shrunk_to_one_cell_is_a_map_and_not_broadcast(sum_of):
    net = with_padding(nn.Sequential(nn.BatchNorm2d(4), Residual(sum_of)), "valid").eval()
    x = torch.randn(2, 4, 5, 5)
    residual, normalised = net[1], net[0](x)
    branch = residual.conv2(functional.relu(residual.conv1(normalised)))
    torch.testing.assert_close(net(x), normalised[:, :, 2:3, 2:3] + branch)


def test_a_sum_in_place_that_cannot_be_done_in_place_is_an_error_and_not_silently_lost():
    class Discarding(nn.Module):
        def forward(self, x):
            y = functional.avg_pool2d(x, 3, 1)
            x.add_(y)
            return functional.relu(x)

    class Repeating(Discarding):
        def forward(self, x):
            y = functional.avg_pool2d(x, 3, 1)
            former = x
            x += y
            return torch.cat([x, former], 1)

    for net in (Discarding(), Repeating()):
        with pytest.raises(PaddingError, match=r"Write x = x \+ y"):
            with_padding(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), net), "valid")(torch.randn(1, 2, 8, 8))


class Coordinates(nn.Module):
    """A residual block whose kernels have one tap at their centre: its branches carry input coordinates."""

    def __init__(self, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 1, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(1, 1, 1, stride, bias=False)
        for convolution in (self.conv1, self.conv2, self.skip):
            nn.init.dirac_(convolution.weight)

    def forward(self, x):
        return torch.cat([self.conv2(self.conv1(x)), self.skip(x)], 1)


@pytest.mark.parametrize("padding", ["valid", "full"])
@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize(("stride", "offset"), [(1, 0), (2, 1)])
def test_branches_meet_at_stride_1_and_are_one_input_pixel_apart_at_stride_2(padding, size, stride, offset):
    columns = torch.arange(1.0, size + 1).expand(1, 1, size, size)
    main, skip = with_padding(Coordinates(stride), padding)(columns)[0, :, size // 4, 4:-4].unbind()
    assert ((main - skip).abs() == offset).all()


@pytest.mark.parametrize("joined", [Residual(SUMS["x + y"]), Branches(CONCATENATIONS["cat"])])
def test_far_from_the_border_zeros_valid_and_full_agree(joined):
    x = torch.randn(1, 4, 20, 20)
    net = nn.Sequential(joined, nn.ReLU(), nn.Conv2d(joined(x).shape[1], 3, 3, padding=1))
    zeros, valid, full = (with_padding(net, padding)(x) for padding in ("zeros", "valid", "full"))
    assert valid.shape[2:] == (14, 14) and full.shape[2:] == (26, 26)
    torch.testing.assert_close(valid, zeros[:, :, 3:-3, 3:-3])
    torch.testing.assert_close(full[:, :, 6:-6, 6:-6], valid)


def test_error_names_the_layer_where_the_map_vanishes_and_the_smallest_size():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, (3, 5), padding=2)))
    message = (
        r"padding='valid': 1\.1 \(Conv2d\) spans 3 × 5 and gets a map of 18 × 4, so images of 20 × 6 leave no map\. "
        r"The smallest square images that work are 7 × 7"
    )
    with pytest.raises(PaddingError, match=message):
        with_padding(net, "valid")(torch.zeros(1, 1, 20, 6))
    with pytest.raises(PaddingError, match="7 × 7"):
        with_padding(net, "valid")(input=torch.zeros(1, 1, 2, 2))


def test_other_failures_are_passed_on_with_a_note_where_sizes_are_to_blame():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 8 * 8, 5))
    for padding in ("valid", "full"):
        with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
            with_padding(net, padding)(torch.zeros(1, 1, 8, 8))
        assert "other sizes than in the original model" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="to have 1 channels") as caught:
            with_padding(net, padding)(torch.zeros(1, 3, 8, 8))
        assert not hasattr(caught.value, "__notes__")
    with pytest.raises(PaddingError, match=r"0 \(Conv2d\).*No smallest size .* 2 \(Linear\): RuntimeError: "):
        with_padding(net, "valid")(torch.zeros(1, 1, 2, 2))


@pytest.mark.filterwarnings("ignore:padding='valid'. not converted")
def test_an_error_of_the_users_own_code_is_passed_on_as_it_is():
    class Broken(nn.Sequential):
        def forward(self, x):
            if not x.is_meta:
                raise RuntimeError("out of luck")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="out of luck") as caught:
        with_padding(Broken(nn.Conv2d(1, 2, 3, padding=1)), "valid")(torch.zeros(1, 1, 8, 8))
    assert not hasattr(caught.value, "__notes__")


def test_explaining_calls_no_hook_and_changes_no_buffer():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    net = with_padding(net, "valid").train()
    calls = []
    net[1].register_forward_hook(lambda *_: calls.append("hook"))
    net[1].register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    with pytest.raises(PaddingError, match="5 × 5"):
        net(torch.randn(2, 3, 4, 4))
    assert calls == ["pre-hook", "hook"]
    assert net[0].num_batches_tracked == 1
    assert all(parameter.device.type == "cpu" for parameter in net.parameters())


class Volumes(nn.Module):
    """x beside and on top of a convolution of clips."""

    def __init__(self, joined):
        super().__init__()
        self.conv = nn.Conv3d(4, 4, (3, 3, 5), padding=(1, 1, 2))
        self.joined = joined

    def forward(self, x):
        return self.joined(x, self.conv(x))


@pytest.mark.parametrize(
    "joined", [SUMS["x + y"], lambda x, y: torch.cat([x, y], 1), lambda x, y: torch.cat([x, y], -4)]
)
def test_maps_of_three_axes_are_aligned_along_each(joined):
    net, x = Volumes(joined), torch.randn(2, 4, 7, 8, 9)
    inner = functional.conv3d(x, *weights_of(net.conv))
    torch.testing.assert_close(with_padding(net, "valid")(x), joined(x[:, :, 1:-1, 1:-1, 2:-2], inner))
    inner = functional.conv3d(x, *weights_of(net.conv), padding=(2, 2, 4))
    torch.testing.assert_close(with_padding(net, "full")(x), joined(functional.pad(x, (2, 2, 1, 1, 1, 1)), inner))
    inner = functional.conv3d(x, *weights_of(net.conv), padding=(1, 0, 0))
    found = with_padding(net, "valid", axes=("row", "column"))(x)
    torch.testing.assert_close(found, joined(x[:, :, :, 1:-1, 2:-2], inner))


def test_a_clip_too_short_for_a_model_without_padding_is_told_the_smallest():
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, (5, 3, 3), padding=1))
    message = (
        r"padding='valid': 1 \(Conv3d\) spans 5 × 3 × 3 and gets a map of 2 × 6 × 7, so clips of 4 × 8 × 9 leave no "
        r"map\. "
        r"The smallest clips of equal sides that work are 7 × 7 × 7: give larger clips"
    )
    with pytest.raises(PaddingError, match=message):
        with_padding(net, "valid")(torch.zeros(1, 1, 4, 8, 9))


def test_volumes_and_images_are_not_aligned_with_each_other():
    with Alignment("valid"), pytest.raises(RuntimeError, match="size of tensor"):
        torch.ones(1, 2, 5, 5, 5) + torch.ones(1, 2, 3, 3)
