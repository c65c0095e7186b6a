"""What is refused while paths are counted, by what name, and how paths are traced."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.errors import ModelError
from probe.windows.paths import PathCounting, paths_from, paths_in

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


REFUSED = {
    "softmax reads by content": lambda x: x.softmax(1),
    "matmul reads by content": lambda x: x @ x.transpose(2, 3),
    "conv2d reads by content": lambda x: functional.conv2d(torch.ones(1, 4, 9, 9).double(), x),
    "ne is not known, and": lambda x: x * (x != 0),
    "__eq__ is not known, and": lambda x: x * (x == 0),
    "__getitem__ reads by content": lambda x: x.flatten()[x.max(1)[1]],
    "argmax is not known, and": lambda x: x.argmax(),
    "gt is not known, and": lambda x: x * (x > 0),
    "item reads by content": lambda x: x / x.max().item(),
    "__bool__ reads by content": lambda x: x if x.sum() else -x,
    "sort is not known, and joins or mixes": lambda x: x.sort(-1)[0],
    "cumsum is not known, and joins or mixes": lambda x: x.cumsum(-1),
    "einsum is not known, and joins or mixes": lambda x: torch.einsum("ncij,nkij->nck", x, x),
    "fft_rfft2 is not known": torch.fft.rfft2,
    "max_unpool2d reads by content": lambda x: functional.max_unpool2d(
        *functional.max_pool2d(x, 2, return_indices=True), 2
    ),
    "rand_like is not known": torch.rand_like,
    "interpolate has negative weights": lambda x: functional.interpolate(x, size=(9, 9), mode="bicubic"),
    "grid_sample reads by content": lambda x: functional.grid_sample(x, x[:, :2].permute(0, 2, 3, 1)),
    "add writes counts": lambda x: torch.add(x, x, out=torch.empty_like(x)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_understood_is_refused_by_the_names_of_function_and_layer(message):
    with pytest.raises(
        ModelError, match=rf"^model: 0 \(Calls\): {re.escape(message)}.*, so paths cannot be counted\.$"
    ):
        counted(REFUSED[message], counts())


def test_the_models_own_tensors_are_not_written_into():
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("bank", torch.ones(3, 4))

        def forward(self, maps):
            self.bank[0] = maps.mean((0, 2, 3))
            return maps

    model = Caches()
    pixels = counts()
    with pytest.raises(ModelError, match="__setitem__ writes into a parameter or buffer"), PathCounting(model, pixels):
        model(pixels)
    assert (model.bank == 1).all()


def test_paths_are_traced_to_their_pixels():
    model = nn.Conv2d(1, 2, 3)
    pixels = torch.ones(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    with PathCounting(model, pixels):
        total = paths_in(model(pixels), "conv").mean(1).sum()
    assert paths_from(pixels, total)[0, 0, :3, :3].tolist() == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]
