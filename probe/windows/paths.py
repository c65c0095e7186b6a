"""Counting the paths by which the windows of a model read its images."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from probe.errors import ModelError
from probe.models.geometry import pair
from probe.windows.windows import Windows

__all__ = ["PathCounting"]

Size = int | tuple[int, ...] | list[int]


class PathCounting(TorchFunctionMode):
    """Within this context a model counts paths instead of computing features.

    Every weight is one, channels are averaged, and what treats all positions alike (biases, normalisation,
    activations) is left out. So on an image of ones each cell holds how many paths lead to it from the pixels, and
    its gradient how many from each pixel. Max pooling reads all cells of its windows. A product reads what its
    factors read; a factor smaller than the other, such as the gate of a channel, is left aside.

    Raises
    ------
    ModelError
        At attention, which reads by content.

    Examples
    --------
    >>> convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    >>> with PathCounting():
    ...     paths = convolution(torch.ones(1, 3, 5, 5))
    >>> paths[0, 0, 0]
    tensor([4., 6., 6., 6., 4.])
    """

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READING_BY_CONTENT:
            raise ModelError(f"model: {getattr(func, '__name__', func)} reads by content; its paths cannot be counted.")
        return _COUNTING.get(func, func)(*args, **(kwargs or {}))


def _convolve(
    input: Tensor,  # noqa: A002 - the names of torch's arguments, here and below
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Sum each window over the mean of its channels; all outputs of a group are the same."""
    means, ones = _group_means(input, groups), input.new_ones(groups, 1, *weight.shape[2:])
    sums = functional.conv2d(means, ones, None, stride, padding, dilation, groups)
    return sums.repeat_interleave(weight.shape[0] // groups, dim=1)


def _convolve_transposed(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    means, ones = _group_means(input, groups), input.new_ones(groups, 1, *weight.shape[2:])
    sums = functional.conv_transpose2d(means, ones, None, stride, padding, output_padding, groups, dilation)
    return sums.repeat_interleave(weight.shape[1], dim=1)


def _group_means(maps: Tensor, groups: int) -> Tensor:
    return maps.reshape(len(maps), groups, -1, *maps.shape[2:]).mean(dim=2)


def _mix_channels(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    return input.mean(dim=-1, keepdim=True).repeat_interleave(weight.shape[0], dim=-1)


def _pool(
    maps: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
) -> Tensor:
    """Sum each window of each channel."""
    kernel, sides, taps = pair(kernel_size), pair(padding), pair(dilation)
    steps = pair(stride) if stride else kernel
    # With ceil_mode the last windows may reach beyond the padding, where there is nothing to read.
    beyond = functional.pad(maps, (0, steps[1] - 1, 0, steps[0] - 1)) if ceil_mode else maps
    ones = maps.new_ones(1, 1, *kernel)
    sums = functional.conv2d(beyond.flatten(0, 1)[:, None], ones, None, steps, sides, taps)
    rows, columns = (
        Windows(kernel[axis], steps[axis], taps[axis], sides[axis], sides[axis], ceil_mode).count(maps.shape[2 + axis])
        for axis in (0, 1)
    )
    return sums[..., :rows, :columns].reshape(*maps.shape[:2], rows, columns)


def _max_pool(
    input: Tensor,  # noqa: A002
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    return _pool(input, kernel_size, stride, padding, dilation, ceil_mode)


def _average_pool(
    input: Tensor,  # noqa: A002
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    return _pool(input, kernel_size, stride, padding, 1, ceil_mode)


def _power_pool(
    input: Tensor,  # noqa: A002
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    return _pool(input, kernel_size, stride, 0, 1, ceil_mode)


def _pass_on(input: Tensor, *settings: Any, **options: Any) -> Tensor:  # noqa: A002
    return input.clone()  # a copy, since the model may go on to add to it in place


def _multiply(input: Any, other: Any) -> Any:  # noqa: A002
    tensors = [factor for factor in (input, other) if isinstance(factor, Tensor)]
    if len(tensors) == 2 and input.numel() == other.numel():
        return input + other
    return max(tensors, key=Tensor.numel).clone()


_ALIKE_EVERYWHERE = (
    *(functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6),
    *(functional.hardtanh, functional.hardtanh_, functional.leaky_relu, functional.leaky_relu_, functional.prelu),
    *(functional.elu, functional.elu_, functional.selu, functional.celu, functional.gelu, functional.silu),
    *(functional.mish, functional.hardswish, functional.hardsigmoid, functional.softplus, functional.softsign),
    *(torch.sigmoid, Tensor.sigmoid, functional.sigmoid, torch.tanh, Tensor.tanh, functional.tanh),
    *(torch.clamp, Tensor.clamp, functional.batch_norm, functional.layer_norm, functional.group_norm),
    *(functional.instance_norm, functional.local_response_norm, functional.normalize),
    *(functional.dropout, functional.dropout2d, functional.alpha_dropout, functional.feature_alpha_dropout),
)

_READING_BY_CONTENT = {
    *(functional.scaled_dot_product_attention, functional.multi_head_attention_forward),
    *(functional.softmax, torch.softmax, Tensor.softmax, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm),
}

_COUNTING: dict[Callable, Callable] = {
    **dict.fromkeys(_ALIKE_EVERYWHERE, _pass_on),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__), _multiply),
    torch.conv2d: _convolve,
    torch.conv_transpose2d: _convolve_transposed,
    functional.linear: _mix_channels,
    functional.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    functional.avg_pool2d: _average_pool,
    functional.lp_pool2d: _power_pool,
}
