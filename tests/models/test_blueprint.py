"""Models without values; smallest inputs against trying every size, and what is told where there is none."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from probe.errors import PaddingError
from probe.models.blueprint import blueprint, failure_of, smallest_input
from probe.variants.padding import with_padding


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, x):
        return x + self.conv(x)


NETS = {
    "strides and pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 7, 2, padding=3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, (3, 5), padding=(1, 2))
    ),
    "a pool with ceil_mode": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "a sum": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Residual(), nn.AvgPool2d(3, 2, 1)),
    "dilation": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 3, dilation=3), nn.AdaptiveAvgPool2d(1)),
}


@pytest.mark.filterwarnings("ignore:padding='valid'. not converted")
@pytest.mark.parametrize("name", NETS)
def test_smallest_input_equals_trying_every_size(name):
    net = with_padding(NETS[name](), "valid")
    working = []
    for size in range(1, 80):
        try:
            net(torch.zeros(1, 3, size, size))
            working.append(size)
        except PaddingError:
            pass
    assert working == list(range(working[0], 80))
    assert smallest_input(net) == working[0]


def test_what_the_model_raised_is_told_and_no_cause_is_guessed():
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    with pytest.raises(
        PaddingError, match=r"At 16384 × 16384, 2 \(Linear\): RuntimeError: .* must have same reduction dim"
    ):
        smallest_input(fixed)

    class Own(nn.Module):
        def forward(self, images):
            raise KeyError("a name of mine")

    with pytest.raises(PaddingError, match=r"At 16384 × 16384, 0 \(Own\): KeyError: 'a name of mine'"):
        smallest_input(nn.Sequential(Own()))
    with pytest.raises(PaddingError, match=r"0 \(Conv2d\): RuntimeError: Invalid channel"):
        smallest_input(nn.Sequential(nn.Conv2d(3, 4, 3)), channels=5)


def test_a_tensor_that_is_no_buffer_is_without_values_too():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.ones(3, 1, 1)

        def forward(self, images):
            return images + self.table

    model = Table()
    assert failure_of(blueprint(model), (1, 3, 4, 4)) == "" and not model.table.is_meta


def test_a_blueprint_has_shapes_and_ties_but_no_values_and_no_hooks():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    net[0].register_forward_hook(lambda *_: pytest.fail("called"))
    plan = blueprint(net)
    assert all(tensor.is_meta for tensor in [*plan.parameters(), *plan.buffers()])
    assert plan[2].weight is plan[0].weight
    assert plan(torch.empty(5, 3, device="meta")).shape == (5, 3)
    assert not net[0].weight.is_meta


KEEPING = [
    nn.BatchNorm1d(3),
    nn.BatchNorm2d(3),
    nn.BatchNorm2d(3).eval(),
    nn.BatchNorm2d(3, affine=False, track_running_stats=False),
    nn.SyncBatchNorm(3).eval(),
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.Hardswish(inplace=True),
    nn.Hardsigmoid(),
    nn.GELU(),
]


@pytest.mark.parametrize("layer", KEEPING, ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 3), (1, 3), (2, 3, 4), (2, 3, 4, 5), (1, 3, 1, 1), (2, 4, 4, 5), (3,), (2, 3, 0, 5)]
)
def test_layers_that_keep_the_shape_give_and_refuse_what_they_do_with_values(layer, shape):
    plan = blueprint(layer)
    given = torch.randn(shape)
    try:
        expected, fault = layer(given.clone()), ""
    except (RuntimeError, ValueError) as error:
        expected, fault = None, str(error).partition("\n")[0]
    blank = given.to("meta")
    if fault:
        with pytest.raises((RuntimeError, ValueError)) as caught:
            plan(blank)
        assert str(caught.value).partition("\n")[0] == fault
    else:
        output = plan(blank)
        assert output.is_meta and (output.shape, output.stride()) == (expected.shape, expected.stride())
        assert (output is blank) == getattr(layer, "inplace", False)


def test_a_layer_of_ones_own_runs_its_own_code():
    class Squeezed(nn.ReLU):
        def forward(self, maps):
            return super().forward(maps).mean((2, 3))

    assert blueprint(Squeezed())(torch.empty(1, 3, 4, 4, device="meta")).shape == (1, 3)


def test_tensors_with_values_get_their_values():
    assert torch.equal(blueprint(nn.ReLU())(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))


def test_a_plan_can_be_traced_and_copied():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    graph = torch.fx.symbolic_trace(blueprint(net))
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1", "2"]
    assert blueprint(blueprint(net))(torch.empty(1, 3, 9, 9, device="meta")).shape == (1, 4, 7, 7)


class Recorded(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_what_keeps_the_shape_is_not_composed():
    """Composed on the meta device, batch normalisation takes twenty times as long as the convolution before it."""
    plan = blueprint(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Hardswish(), nn.ReLU(inplace=True)))
    blank = torch.empty(1, 3, 9, 9, device="meta")
    with torch.no_grad(), Recorded() as recorded:
        plan(blank)
    assert recorded.names == {"convolution", "empty_like"}


def test_the_smallest_cube_of_a_model_of_clips():
    net = nn.Sequential(nn.Conv3d(1, 2, (3, 5, 3)), nn.MaxPool3d((2, 3, 2)))
    assert smallest_input(net, 1) == 7
    with pytest.raises(PaddingError, match="none of the clips of equal sides of 1, 2, 4"):
        smallest_input(net, 2)
