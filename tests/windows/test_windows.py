"""Which rows windows read, against changing each row of the padded map."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from probe.windows.windows import windows_of

pytestmark = pytest.mark.usefixtures("one_thread")


def changes_output(module, padded, cells):
    """Whether a layer without padding of its own answers otherwise if some cells of the padded map change."""
    bare = {"stride": module.stride, "dilation": module.dilation}
    if isinstance(module, nn.Conv2d):
        run = lambda maps: functional.conv2d(maps, module.weight, **bare)  # noqa: E731
    else:
        run = lambda maps: functional.max_pool2d(maps, module.kernel_size, ceil_mode=module.ceil_mode, **bare)  # noqa: E731
    changed = padded.clone()
    changed[cells] += 100  # larger than any other value, so that a maximum shows it too
    return not torch.equal(run(padded), run(changed))


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    pools=st.booleans(),
)
def test_what_is_unread_is_what_changes_nothing(kernel, stride, dilation, padding, size, pools):
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True)) if pools else padding
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    assume(all(n + 2 * p > r for n, p, r in zip(size, padding, reach, strict=True)))
    if pools:
        module = nn.MaxPool2d(kernel, stride, padding, dilation)
    else:
        module = nn.Conv2d(1, 1, kernel, stride, padding, dilation, bias=False)
        nn.init.ones_(module.weight)
    (top, left), (height, width) = padding, size
    padded = functional.pad(torch.randn(1, 1, *size), (left, left, top, top))
    rows = [changes_output(module, padded, (..., r, slice(None))) for r in range(height + 2 * top)]
    columns = [changes_output(module, padded, (..., c)) for c in range(width + 2 * left)]
    for windows, n, p, read in zip(windows_of(module), size, padding, (rows, columns), strict=True):
        assert (windows.reads(n) > 0).tolist() == read
        assert windows.unread(n) == (read[:p].count(False), read[p + n :].count(False))
        inside = read[p : p + n]
        blind = n if True not in inside else inside.index(True)
        assert windows.unread_inside(n)[0] == blind


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(5, 40))
def test_the_rest_of_the_division_by_the_stride_is_unread(kernel, stride, padding, size):
    assume(kernel >= stride)
    windows = windows_of(nn.Conv2d(1, 1, kernel, stride, padding))[0]
    rest = (size + 2 * padding - kernel) % stride
    assert windows.unread(size) == (0, min(rest, padding))
    assert windows.unread_inside(size) == (0, max(rest - padding, 0))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(1, 20), st.booleans(), st.integers(1, 2))
def test_there_are_as_many_windows_as_cells_in_torch(kernel, stride, padding, size, ceil_mode, dilation):
    padding = min(padding, kernel // 2)
    assume(size + 2 * padding > dilation * (kernel - 1))
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    assert windows_of(pool)[0].count(size) == pool(torch.zeros(1, 1, size, size)).shape[2]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(4, 12)] * 3))
def test_there_are_as_many_windows_of_clips_as_cells_in_torch(kernel, stride, size):
    padding = tuple(taps // 2 for taps in kernel)
    for layer in (nn.Conv3d(1, 1, kernel, stride, padding), nn.MaxPool3d(kernel, stride, padding, ceil_mode=True)):
        found = tuple(windows.count(n) for windows, n in zip(windows_of(layer), size, strict=True))
        assert found == layer(torch.zeros(1, 1, *size)).shape[2:]
