"""What functions of every kind make of counts, against the same by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.windows.paths import PathCounting

pytestmark = pytest.mark.usefixtures("one_thread")


class Calls(nn.Module):
    """A function as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, maps):
        return self.function(maps)


def counted(function, counts):
    model = nn.Sequential(Calls(function))
    counts = counts.clone()
    with PathCounting(model, counts):
        return model(counts)


def counts(seed=0):
    return torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1


def test_paths_of_branches_add_up():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

        def forward(self, maps):
            out = torch.relu_(self.conv(maps))
            out = out * torch.sigmoid(self.gate(out.mean(dim=(2, 3), keepdim=True))) * 0.5
            out += maps
            return out

    block, pixels = Block(), torch.ones(1, 2, 4, 4)
    with PathCounting(block, pixels):
        paths = block(pixels)
    assert paths[0, 0].tolist() == [[5, 7, 7, 5], [7, 10, 10, 7], [7, 10, 10, 7], [5, 7, 7, 5]]


def written(maps):
    full = torch.full((1, 8, 6, 8), -3.0, dtype=maps.dtype)
    full[:, :4] = maps
    full[:, 4:].copy_(maps)
    full[:, 1] = 7
    return full[:, :4] + full[:, 4:]


def in_place(function):
    def call(maps):
        maps = maps * 1
        function(maps)
        return maps

    return call


one_less = torch.ones(1, 4, 6, 8)
one_less[:, 1] = 0

# The same counts come out, times a number, whatever the values of the constants.
PASSED_ON = {
    "exp": torch.exp,
    "its own log-sigmoid": lambda x: -torch.log1p(torch.exp(-x)),
    "logsigmoid": functional.logsigmoid,
    "erf": torch.erf,
    "power": lambda x: x**2,
    "a power of": lambda x: 2**x,
    "clamp": lambda x: x.clamp(min=2000.0),
    "cast": lambda x: x.float().to(torch.bfloat16),
    "prelu": lambda x: functional.prelu(x, torch.rand(4, dtype=x.dtype)),
    "affine": lambda x: x * torch.rand(4, 1, 1) - torch.rand(4, 1, 1),
    "affine, from the left": lambda x: torch.rand(4, 1, 1) - torch.rand(4, 1, 1) * x,
    "an operator of aten": torch.ops.aten.tanh,
    "added constants": lambda x: torch.ones(1, 4, 6, 8) + x + torch.rand(1),
    "dropout": functional.dropout,
    "channel norm": lambda x: (x - x.mean(1, keepdim=True)) / x.var(1, keepdim=True).sqrt(),
    "layer norm": lambda x: functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
    "position norm": lambda x: (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-6),
    "response norm": lambda x: x * (x.norm(p=2, dim=(2, 3), keepdim=True) / 3),
    "gate of channels": lambda x: x * torch.sigmoid(x.amax((2, 3), keepdim=True)),
    "gate of places": lambda x: x * torch.sigmoid(torch.max(x, dim=1, keepdim=True)[0]),
    "in place": in_place(lambda x: x.sub_(1).div_(3).relu_().clamp_(0, 6).add_(1).mul_(torch.rand(4, 1, 1))),
    "softplus in place": in_place(lambda x: torch.exp_(x)),
    "detached": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", PASSED_ON)
def test_what_treats_all_positions_alike_is_left_out(name):
    np.testing.assert_allclose(counted(PASSED_ON[name], counts()), counts(), rtol=1e-9)


MOVED = {
    "flip": lambda x: x.flip(2),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "slices": lambda x: torch.cat([x[:, :2, ::2], x[:, 2:, 1::2]], dim=1),
    "places": lambda x: x[:, [3, 1]],
    "patches": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4),
    "pixel unshuffle": lambda x: functional.pixel_unshuffle(x, 2),
    "shuffle of channels": lambda x: x.view(1, 2, 2, 6, 8).transpose(1, 2).contiguous().view(1, 4, 6, 8),
    "reflected": lambda x: functional.pad(x, (1, 2, 1, 0), mode="reflect"),
    "chunks": lambda x: x.chunk(2, dim=1)[1],
    "each": lambda x: torch.stack([*x[0]], dim=1),
    "of zeros": lambda x: torch.cat([x, torch.zeros_like(x)], dim=2),
    "lower triangle": lambda x: x.tril(),
    "nearest": lambda x: functional.interpolate(x, scale_factor=2),
    "linear": lambda x: functional.interpolate(x, size=(9, 9), mode="bilinear"),
    "unfold": lambda x: functional.unfold(x, 3, padding=1),
    "total": lambda x: x.sum((2, 3)),
    "mean": lambda x: x.mean(1),
    "sum of two": lambda x: x + x.flip(3),
    "broadcast": lambda x: x[:, :1].expand_as(x),
    "two that gate each other": lambda x: x[:, :2] + x[:, 2:],
}


@pytest.mark.parametrize("name", MOVED)
def test_what_moves_or_adds_values_moves_or_adds_counts(name):
    np.testing.assert_allclose(counted(MOVED[name], counts()), MOVED[name](counts()), rtol=1e-9)


def test_products_differences_and_quotients_of_maps_read_what_both_read():
    first, second = counts()[:, :2], counts()[:, 2:]
    for function in (torch.mul, torch.sub, torch.div, torch.maximum, torch.atan2, torch.max):
        both = counted(lambda x, function=function: function(x[:, :2], x[:, 2:]), counts())
        np.testing.assert_allclose(both, first + second)
    np.testing.assert_allclose(counted(lambda x: torch.lerp(x[:, :2], x[:, 2:], 0.3), counts()), first + second)


def test_constants_bring_no_paths():
    table, mask = torch.full((1, 4, 6, 1), 9.0), torch.arange(8) < 3
    joined = counted(lambda x: torch.cat([x, table, table], dim=3), counts())
    assert (joined[..., :8] == counts()).all() and (joined[..., 8:] == 0).all()
    padded = counted(lambda x: functional.pad(x, (1, 0), value=-torch.inf), counts())
    assert (padded[..., 1:] == counts()).all() and (padded[..., 0] == 0).all()
    for masked in (
        lambda x: x.masked_fill(mask, 5.0),
        lambda x: torch.where(mask, torch.ones(1), x),
        in_place(lambda x: x.masked_fill_(mask, 5.0)),
        in_place(lambda x: x.__setitem__((..., mask), 5.0)),
    ):
        np.testing.assert_allclose(counted(masked, counts()), counts() * ~mask)
    np.testing.assert_allclose(counted(written, counts()), counts() + counts() * one_less)
    zeroed = counted(lambda x: x + in_place(lambda y: y.fill_(3))(x), counts())
    np.testing.assert_allclose(zeroed, counts())


def test_a_convolution_of_any_number_of_axes_reads_its_windows():
    along_rows = nn.Conv1d(4, 2, 3, padding=1)
    rows = counted(lambda x: along_rows(x[:, :, 2]), counts())
    expected = functional.conv1d(counts()[:, :, 2].mean(1, keepdim=True), torch.ones(1, 1, 3).double(), padding=1)
    np.testing.assert_allclose(rows, expected.expand(1, 2, 8))
    volume = nn.Conv3d(1, 2, (3, 1, 1), padding=(1, 0, 0))
    across = counted(lambda x: volume(x[:, None]), counts())
    expected = functional.conv1d(
        counts().flatten(2).transpose(1, 2)[0, :, None], torch.ones(1, 1, 3).double(), padding=1
    )
    np.testing.assert_allclose(across[0, 1].flatten(1), expected[:, 0].T)
    weights = torch.rand(6, 5)
    np.testing.assert_allclose(
        counted(lambda x: x.transpose(2, 3) @ weights, counts()),
        counts().transpose(2, 3).mean(3, keepdim=True).expand(1, 4, 8, 5),
    )
    doubled = counted(nn.ConvTranspose2d(4, 3, 2, 2), counts())
    np.testing.assert_allclose(
        doubled[0, 2], functional.interpolate(counts().mean(1, keepdim=True), scale_factor=2)[0, 0]
    )


def window_matrix(size, count):
    places, index = np.arange(size), np.arange(count)[:, None]
    return ((places >= index * size // count) & (places < -(-(index + 1) * size // count))).astype(float)


@pytest.mark.parametrize("output", [(3, 8), (4, 5), (None, 1), 2])
@pytest.mark.parametrize("kind", ["avg", "max", "max, places"])
def test_adaptive_pooling_reads_each_cell_of_its_uneven_windows(kind, output):
    module = nn.AdaptiveAvgPool2d(output) if kind == "avg" else nn.AdaptiveMaxPool2d(output, return_indices="," in kind)
    found = counted(lambda x: module(x)[0] if "," in kind else module(x), counts())
    rows, columns = output if isinstance(output, tuple) else (output, output)
    rows, columns = window_matrix(6, rows or 6), window_matrix(8, columns)
    np.testing.assert_allclose(found, rows @ counts().numpy() @ columns.T)
