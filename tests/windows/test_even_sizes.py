"""Even sizes against auditing every size, each axis by itself, and what is told where there is none."""

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ModelError, ProbeWarning
from probe.windows.even_sizes import nearest_even_sizes
from probe.windows.windows import windows_of

pytestmark = pytest.mark.usefixtures("one_thread")


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def test_even_sizes_are_those_that_audit_even():
    model = net(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 5, 3, 2))
    sizes = [
        size for size in range(10, 120) if not probe.audit(model, (3, size, size), maps=(), sizes=False).unread.any()
    ]
    result = probe.audit(model, (3, 60, 60), maps=())
    smaller, larger = result.even_size.sel(axis="row").values
    assert smaller == max(size for size in sizes if size < 60)
    assert larger == min(size for size in sizes if size > 60)


def test_each_axis_is_searched_while_the_other_stays():
    """Rows can shrink to 4 only; a size that moved columns along would fail on 5 columns first."""
    model = net(nn.Conv2d(1, 1, (3, 5), stride=(4, 1), padding=(1, 0)))
    nearest, refused = nearest_even_sizes(model, torch.zeros(1, 1, 40, 5), {"0": windows_of(model[0])})
    # One row before, three a window, four from one to the next: n + 2 - 3 is a multiple of 4.
    expected_rows = [
        max(n for n in range(1, 40) if (n - 1) % 4 == 0),
        min(n for n in range(41, 60) if (n - 1) % 4 == 0),
    ]
    assert nearest[0].tolist() == expected_rows == [37, 41]
    assert np.isnan(nearest[1, 0]) and nearest[1, 1] == 6
    assert len(refused) == 1 and refused[0].startswith("4 columns: 0 (Conv2d): RuntimeError: Calculated padded input")


def test_a_size_that_is_always_uneven_is_not_called_a_failure():
    model = net(nn.MaxPool2d(2, 300, 1))
    nearest, refused = nearest_even_sizes(model, torch.zeros(1, 1, 140, 140), {"0": windows_of(model[0])})
    assert np.isnan(nearest).all() and refused == []


class Square(nn.Sequential):
    def forward(self, images):
        if images.shape[2] != images.shape[3]:
            raise ValueError("square images alone")
        return super().forward(images)


def test_what_the_model_says_is_told():
    with pytest.warns(ProbeWarning, match=r"the model took no other size: 7 rows: the model \(Square\): ValueError"):
        result = probe.audit(Square(nn.Conv2d(1, 1, 3, 2, 1)), (1, 8, 8), maps=())
    assert result.even_size.isnull().all()


class NeedsValues(nn.Sequential):
    def forward(self, images):
        return super().forward(images) * images.sum().item()


def test_models_that_need_values_are_told_by_what_they_raise():
    model = NeedsValues(nn.Conv2d(1, 1, 3))
    with pytest.raises(ModelError, match=r"device 'meta', by which sizes are tried: the model \(NeedsValues\): Run"):
        nearest_even_sizes(model, torch.zeros(1, 1, 8, 8), {"0": windows_of(model[0])})


def test_frames_are_searched_too():
    model = nn.Sequential(nn.Conv3d(1, 1, 3, stride=(4, 2, 1), padding=1))
    nearest, refused = nearest_even_sizes(model, torch.zeros(1, 1, 8, 8, 8), {"0": windows_of(model[0])})
    # The padding behind is read if the padded size less the kernel is a multiple of the stride, or leaves a map's cell.
    assert nearest[1:].tolist() == [[7, 9], [7, 9]] and refused == []
    for size in nearest[0]:
        assert windows_of(model[0])[0].unread(int(size)) == (0, 0)
    between = range(int(nearest[0, 0]) + 1, int(nearest[0, 1]))
    assert all(windows_of(model[0])[0].unread(size) != (0, 0) for size in between if size != 8)
