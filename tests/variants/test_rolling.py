"""What does not roll along with an image, against networks whose answer is known, and what with_padding says of it."""

import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import probe
from probe.axes import AXES
from probe.errors import ArgumentError, ProbeWarning
from probe.testing import padded_net
from probe.variants.rolling import bare_twin, roll_images

pytestmark = pytest.mark.usefixtures("one_thread")


class Code(nn.Module):
    """A convolution of 1 × 1 behind some code."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.row = nn.Parameter(torch.randn(8, 8, 3))
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.conv(self.function(self, x))


def along_rows(model, x):
    n, c, h, w = x.shape
    rows = functional.conv1d(x.permute(0, 2, 1, 3).reshape(-1, c, w), model.row, padding=1)
    return rows.reshape(n, h, c, w).permute(0, 2, 1, 3)


def shifted(x, by):
    """The map one row further down, zeros above, without a word of padding."""
    moved = torch.zeros_like(x)
    moved[:, :, by:] = x[:, :, :-by]
    return x + moved


PADS = {
    "conv2d": lambda m, x: functional.conv2d(x, m.kernel, padding=1),
    "unfold": lambda m, x: functional.unfold(x, 3, padding=1).reshape(len(x), 8, 9, *x.shape[2:]).amax(2),
    "conv1d": along_rows,
    "indices": lambda m, x: functional.max_pool2d(x, 3, 1, 1, return_indices=True)[0],
    "torch's own": lambda m, x: torch.max_pool2d(x, 3, 1, 1),
    "convolution": lambda m, x: torch.convolution(x, m.kernel, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
    "an operator of aten": lambda m, x: torch.ops.aten.convolution(
        x, m.kernel, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1
    ),
    "cat of zeros": lambda m, x: functional.conv2d(
        torch.cat([torch.zeros_like(x[:, :, :1]), x, x[:, :, :1] * 0], 2), m.kernel[..., :1]
    ),
    "written": lambda m, x: shifted(x, 1),
    "bilinear": lambda m, x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "mirrored places": lambda m, x: functional.avg_pool2d(
        x.index_select(3, torch.arange(-1, x.shape[3]).abs()), (1, 2), 1
    ),
}


@pytest.mark.parametrize("padding", ["circular", "reflect", "valid", "full"])
@pytest.mark.parametrize("name", PADS)
def test_padding_in_code_that_no_list_knows_is_listed(name, padding, left_as_found):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Code(PADS[name]), nn.ReLU()).train()
    with (
        left_as_found(model),
        pytest.warns(ProbeWarning, match=r"not converted: 1 \([\w.]+ in its code\)\.$") as caught,
    ):
        probe.with_padding(model, padding)
    assert len(caught) == 1 and caught[0].filename == __file__


MOVES = {
    "nothing": lambda m, x: x,
    "circular by hand": lambda m, x: functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), m.kernel),
    "circular by cat": lambda m, x: functional.conv2d(torch.cat([x[..., -1:], x, x[..., :1]], 3), m.kernel[:, :, :1]),
    "a mean": lambda m, x: x - x.mean((2, 3), keepdim=True),
    "a gate": lambda m, x: x * functional.adaptive_avg_pool2d(x, 1).sigmoid(),
    "group norm": lambda m, x: functional.group_norm(x, 2),
    "attention without positions": lambda m, x: (
        functional.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3).transpose(1, 2).reshape(x.shape)
    ),
    "patches": lambda m, x: functional.pixel_shuffle(functional.pixel_unshuffle(x, 2), 2),
    "nearest": lambda m, x: functional.interpolate(x, scale_factor=2),
    "a roll": lambda m, x: x.roll((3, 1), (2, 3)),
    "last axis": lambda m, x: functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2),
    "its own weights": lambda m, x: functional.conv2d(x, functional.normalize(m.kernel, dim=1)[..., 1:2, 1:2]),
}


@pytest.mark.parametrize("name", MOVES)
def test_code_that_moves_with_its_images_is_not_listed(name, recwarn):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, padding=1), Code(MOVES[name]), nn.ReLU())
    found = roll_images(bare_twin(nn.Sequential(nn.Conv2d(3, 8, 1), model[1])))
    assert (found.padding, found.otherwise, found.not_tried) == ({}, {}, "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.with_padding(model, "circular")
    assert not [str(warning.message) for warning in caught if "pad in its code" not in str(warning.message)]


def named_model(name):
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "convnext_tiny", "efficientnet_b0", "mobilenet_v3_small", "regnet_x_400mf"],
)
def test_torchvision_models_move_as_they_are_converted(name, recwarn):
    model = named_model(name)
    probe.with_padding(model, "circular")
    assert not recwarn
    assert roll_images(bare_twin(model)).padding  # with zeros they do not


class Flat(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, 2, 1, padding_mode="circular"), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)
        )


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 4, 4), nn.Parameter(torch.randn(1, 4, 8, 8))

    def forward(self, images):
        return functional.interpolate(self.conv(images), (8, 8)) + self.table


def coordinates(model, x):
    rows = torch.linspace(-1, 1, x.shape[2])[None, None, :, None].expand(len(x), 1, -1, x.shape[3])
    return torch.cat([x[:, :7], rows], dim=1)


OTHERWISE = {
    "flattened": (Flat, {"3": "weights of their own for each place of a map"}),
    "table": (Table, {"": "a table of positions"}),
    "coordinates": (lambda: Code(coordinates), {"": "a table of positions"}),
    "vision transformer": (
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32),
        {"encoder": "a table of positions"},
    ),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_tells_positions_without_padding_is_called_what_it_is(name):
    make, expected = OTHERWISE[name]
    torch.manual_seed(0)
    found = roll_images(make())
    assert (found.padding, found.otherwise, found.not_tried) == ({}, expected, "")


def test_attention_in_windows_is_called_attention():
    found = roll_images(named_model("swin_t"))
    assert found.padding == {} and set(found.otherwise.values()) == {"attention that tells places apart"}
    assert len(found.otherwise) == 12


def test_padding_behind_other_causes_is_found_as_well():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.late = Table(), Code(PADS["torch's own"])
            self.widen = nn.Conv2d(4, 8, 1)

        def forward(self, images):
            return self.late(self.widen(self.table(images)))

    found = roll_images(Both())
    assert found.otherwise == {"table": "a table of positions"} and found.padding == {"late": "max_pool2d"}


def test_what_cannot_be_tried_is_said_with_its_reason_and_images_help():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images):
            if images.shape[-1] != 40:
                raise ValueError("forty columns alone")
            return torch.max_pool2d(self.conv(images), 3, 1, 1)

    with pytest.warns(ProbeWarning, match=r"not tried .* \(Own\): ValueError: forty columns alone.*pass images="):
        probe.with_padding(Own(), "circular")
    with pytest.warns(ProbeWarning, match=r"not converted: the model \(max_pool2d in its code\)\.$"):
        probe.with_padding(Own(), "circular", images=torch.randn(3, 3, 20, 40))
    for wrong, found in ((torch.zeros(3, 4, 4), r"shape \(3, 4, 4\)"), ([1], "list")):
        with pytest.raises(ArgumentError, match=f"images: expected a tensor .*, found {found}"):
            probe.with_padding(Own(), "circular", images=wrong)
    with pytest.raises(ArgumentError, match="images: padding='zeros' is not tried"):
        probe.with_padding(Own(), "zeros", images=torch.zeros(1, 3, 4, 40))


def test_a_model_of_one_size_and_of_other_channels_is_tried_at_its_size(recwarn):
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 2))
    probe.with_padding(model, "circular")
    assert not recwarn and roll_images(bare_twin(model)).padding == {"0": "conv2d"}


def test_trying_calls_no_hook_draws_no_number_and_writes_no_buffer(left_as_found):
    model = padded_net("zeros", depth=2)
    model.append(nn.BatchNorm2d(16)).append(nn.Dropout())
    model[0].register_forward_hook(lambda *_: pytest.fail("called"))
    with left_as_found(model.train()):
        probe.with_padding(model, "circular")


class Volume(nn.Module):
    """A convolution of clips behind some code."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3, 3))
        self.conv = nn.Conv3d(4, 4, 1)

    def forward(self, x):
        return self.conv(self.function(self, x))


IN_CLIPS = {
    "pads space": (lambda m, x: functional.conv3d(x, m.kernel[:, :, 1:2], padding=(0, 1, 1)), True, False),
    "pads time": (lambda m, x: functional.conv3d(x, m.kernel[..., 1:2, 1:2], padding=(1, 0, 0)), False, True),
    "mixes time": (lambda m, x: x.cumsum(2), False, True),
    "a mean of frames": (lambda m, x: x - x.mean(2, keepdim=True), False, False),
    "moves": (lambda m, x: functional.max_pool3d(functional.pad(x, (1,) * 6, mode="circular"), 3, 1), False, False),
    "last axis": (lambda m, x: functional.layer_norm(x.movedim(1, -1), (4,)).movedim(-1, 1), False, False),
}


@pytest.mark.parametrize("name", IN_CLIPS)
def test_code_of_clips_is_judged_along_the_axes_that_are_rolled(name):
    function, in_space, in_time = IN_CLIPS[name]
    model = nn.Sequential(nn.Conv3d(3, 4, 1), Volume(function))
    for axes, pads in ((("row", "column"), in_space), (("frame",), in_time), (AXES, in_space or in_time)):
        found = roll_images(model, axes=axes)
        assert (list(found.padding), found.otherwise, found.not_tried) == (["1"] if pads else [], {}, "")


def test_a_model_of_clips_that_no_size_suits_says_so():
    class Seven(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(x).reshape(len(x), 4, 7, 7, 7)

    with pytest.warns(
        ProbeWarning, match=r"no size of clips of 16, 32, 64 frames fits of 16, 28, .* at 512, the model"
    ):
        probe.with_padding(Seven(), "circular")
