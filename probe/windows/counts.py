"""What the functions of torch do with counts of paths.

Marked tensors hold numbers of paths; all others, such as weights and tables, are constants, whose values play no part.
Functions are known by their names, whether they are methods, operators or work in place.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from probe.models.marks import is_marked, marked_in, tensors_in
from probe.windows.windows import Windows

__all__ = ["COUNTING", "READING_BY_CONTENT", "UncountableError", "count_of"]

Size = int | tuple[int, ...] | list[int]


class UncountableError(Exception):
    """A function of which it is not known what it does with counts; says why."""


def _only(maps: Tensor, *others: Any) -> None:
    """Refuse other inputs than the first that depend on the images."""
    if not is_marked(maps) or marked_in(others):
        raise UncountableError("reads by content")


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
    _only(input, weight, bias)
    means, ones = _group_means(input, weight, groups), input.new_ones(groups, 1, *weight.shape[2:])
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.ndim - 3]
    sums: Tensor = convolve(means, ones, None, stride, padding, dilation, groups)
    return sums.repeat_interleave(weight.shape[0] // groups, dim=-weight.ndim + 1)


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
    _only(input, weight, bias)
    means, ones = _group_means(input, weight, groups), input.new_ones(groups, 1, *weight.shape[2:])
    convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[weight.ndim - 3]
    sums: Tensor = convolve(means, ones, None, stride, padding, output_padding, groups, dilation)
    return sums.repeat_interleave(weight.shape[1], dim=-weight.ndim + 1)


def _group_means(maps: Tensor, weight: Tensor, groups: int) -> Tensor:
    channel = maps.ndim - weight.ndim + 1  # there may be no axis of images
    return maps.unflatten(channel, (groups, -1)).mean(dim=channel + 1)


def _mix_channels(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    _only(input, weight, bias)
    return input.mean(dim=-1, keepdim=True).repeat_interleave(weight.shape[0], dim=-1)


def _multiply_matrices(input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
    """Average along the axis that a matrix of constants mixes."""
    if len(marked_in((input, other))) > 1:
        raise UncountableError("reads by content")
    n_mixed = input.shape[-1]
    first, second = (
        t if is_marked(t) else t.new_full(t.shape, 1 / n_mixed, dtype=torch.float64) for t in (input, other)
    )
    return torch.matmul(first.double(), second.double())


def _pool_over(n_axes: int) -> Callable:
    def pool(
        maps: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> Tensor:
        """Sum each window of each channel."""
        _only(maps)
        kernel, sides, taps = (_along_each(n_axes, size) for size in (kernel_size, padding, dilation))
        steps = _along_each(n_axes, stride) if stride else kernel
        sizes = maps.shape[-n_axes:]
        counts = [
            Windows(width, step, tap, side, side, ceil_mode).count(size)
            for width, step, tap, side, size in zip(kernel, steps, taps, sides, sizes, strict=True)
        ]
        # With ceil_mode the last windows may reach beyond the padding, where there is nothing to read.
        beyond = [side for step in reversed(steps) for side in (0, step - 1)] if ceil_mode else [0, 0] * n_axes
        wider = functional.pad(maps, beyond).reshape(-1, 1, *(s + b for s, b in zip(sizes, beyond[::-2], strict=True)))
        convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[n_axes - 1]
        sums = convolve(wider, maps.new_ones(1, 1, *kernel), None, steps, sides, taps)
        sums = sums[(..., *map(slice, counts))]
        return sums.reshape(*maps.shape[:-n_axes], *counts)

    return pool


def _along_each(n_axes: int, value: Size) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * n_axes
    return tuple(value) if len(value) == n_axes else tuple(value) * n_axes


def _max_pool_over(n_axes: int, *, gives_places: bool = False) -> Callable:
    def max_pool(
        input: Tensor,  # noqa: A002
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        sums = _pool_over(n_axes)(input, kernel_size, stride, padding, dilation, ceil_mode)
        return _with_places(sums) if gives_places or return_indices else sums

    return max_pool


def _average_pool_over(n_axes: int) -> Callable:
    def average_pool(
        input: Tensor,  # noqa: A002
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        return _pool_over(n_axes)(input, kernel_size, stride, padding, 1, ceil_mode)

    return average_pool


def _power_pool_over(n_axes: int) -> Callable:
    def power_pool(
        input: Tensor,  # noqa: A002
        norm_type: float,
        kernel_size: Size,
        stride: Size | None = None,
        ceil_mode: bool = False,
    ) -> Tensor:
        return _pool_over(n_axes)(input, kernel_size, stride, 0, 1, ceil_mode)

    return power_pool


def _adaptive_pool_over(n_axes: int, *, gives_places: bool = False) -> Callable:
    def adaptive_pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:  # noqa: A002
        """Sum each window; windows of maps that are no multiple of the output differ in size and overlap."""
        _only(input)
        wanted = output_size if isinstance(output_size, tuple | list) else [output_size] * n_axes
        sums = input
        for axis, count in enumerate(wanted, start=input.ndim - n_axes):
            size = input.shape[axis]
            places, windows = (
                torch.arange(size, device="cpu"),
                torch.arange(size if count is None else count, device="cpu")[:, None],
            )
            n_windows = len(windows)
            reads = (places >= windows * size // n_windows) & (places < -(-(windows + 1) * size // n_windows))
            sums = (sums.movedim(axis, -1) @ reads.T.to(sums)).movedim(-1, axis)
        return _with_places(sums) if gives_places or return_indices else sums

    return adaptive_pool


def _with_places(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Add places that stand for those of the maxima, which depend on the images: what reads them is refused."""
    return sums, torch.zeros_like(sums, dtype=torch.long)


def _pass_on(input: Tensor, *settings: Any, **options: Any) -> Tensor:  # noqa: A002
    _only(input, settings, options)
    return input.clone()  # a copy, since the model may go on to add to it in place


def _add(*operands: Any, **options: Any) -> Tensor:
    """Add up what the operands read."""
    found = list(tensors_in((operands, options)))
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in found))
    total: Any = sum(tensor.expand(shape) for tensor in found if is_marked(tensor))
    return total


def _multiply(*operands: Any, **options: Any) -> Tensor:
    """Add up what the largest operands read; smaller ones, such as a gate, a mean or a spread, are left aside."""
    found = list(tensors_in((operands, options)))
    largest = max(tensor.numel() for tensor in found if is_marked(tensor))
    return _add(*(tensor for tensor in found if not is_marked(tensor) or tensor.numel() == largest))


def _reduce(func: Callable, place: int) -> Callable:
    def reduced(input: Tensor, *settings: Any, **options: Any) -> Tensor:  # noqa: A002
        """Average the counts of what a maximum, a spread or a norm reads; `place` is where torch takes the axes."""
        _only(input, settings, options)
        axes = options.get("dim", settings[place] if len(settings) > place else None)
        n_axes_left = func(torch.ones_like(input), *settings, **options).ndim
        if axes is None or isinstance(axes, bool) or axes in ((), []):
            axes = tuple(range(input.ndim))
        return input.mean(dim=axes, keepdim=n_axes_left == input.ndim)

    return reduced


def _extreme(input: Tensor, *settings: Any, **options: Any) -> Any:  # noqa: A002
    """Count for the largest or smallest value: of two maps, of all values, or along an axis, with its places."""
    if marked_in((settings, options)):
        return _multiply(input, *settings, **options)
    if not settings and not options:
        return input.mean()
    return torch.return_types.max(_with_places(input.mean(*settings, **options)))


def _linearly(func: Callable) -> Callable:
    def as_it_is(input: Tensor, *settings: Any, **options: Any) -> Tensor:  # noqa: A002
        """Apply a weighted sum to the counts, whose weights are known and none of them negative."""
        _only(input, settings, options)
        if "bicubic" in (*settings, *options.values()):
            raise UncountableError("has negative weights, with which paths cannot be counted")
        return func(input, *settings, **options)

    return as_it_is


def _join(func: Callable) -> Callable:
    def joined(tensors: Any, *settings: Any, **options: Any) -> Tensor:
        return func([count_of(tensor) for tensor in tensors], *settings, **options)

    return joined


def count_of(value: Any) -> Any:
    """Return a number or a tensor of constants as no path at all."""
    if isinstance(value, Tensor):
        return value if is_marked(value) else torch.zeros_like(value, dtype=torch.float64)
    return 0.0


def _choose(condition: Tensor, input: Any, other: Any) -> Tensor:  # noqa: A002
    if is_marked(condition):
        raise UncountableError("reads by content")
    return torch.where(condition, count_of(input), count_of(other)).double()


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:  # noqa: A002
    return functional.pad(input, pad, mode)


def _fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:  # noqa: A002
    _only(input, mask, value)
    return input.masked_fill(mask, 0)


def _copy(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:  # noqa: A002
    return count_of(src).expand(input.shape).clone()


_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm", "normalize")
_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_SUMS = ("add", "radd", "iadd")
_PRODUCTS = (
    *("mul", "rmul", "imul", "multiply", "div", "divide", "truediv", "rtruediv", "itruediv", "rdiv", "true_divide"),
    *("sub", "subtract", "rsub", "isub", "addcmul", "addcdiv", "lerp", "maximum", "minimum", "atan2", "hypot"),
)

READING_BY_CONTENT = {
    *("scaled_dot_product_attention", "multi_head_attention_forward", "softmax", "log_softmax", "softmin"),
    *("baddbmm", "cdist", "_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
}

COUNTING: dict[str, Callable] = {
    **{f"conv{n}d": _convolve for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolve_transposed for n in (1, 2, 3)},
    "linear": _mix_channels,
    **dict.fromkeys(("matmul", "mm", "bmm"), _multiply_matrices),
    **{f"max_pool{n}d": _max_pool_over(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _max_pool_over(n, gives_places=True) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _average_pool_over(n) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": _power_pool_over(n) for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": _adaptive_pool_over(n) for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": _adaptive_pool_over(n, gives_places=True) for n in (1, 2, 3)},
    **dict.fromkeys((*_NORMS, *_DROPOUTS, "detach", "data"), _pass_on),
    **dict.fromkeys(_SUMS, _add),
    **dict.fromkeys(_PRODUCTS, _multiply),
    **{func.__name__: _reduce(func, 0) for func in (torch.amax, torch.amin, torch.var, torch.std, torch.logsumexp)},
    **{"norm": _reduce(torch.norm, 1), "linalg_vector_norm": _reduce(torch.linalg.vector_norm, 1)},
    **dict.fromkeys(("max", "min"), _extreme),
    **{func.__name__: _linearly(func) for func in (torch.sum, torch.mean, functional.interpolate)},
    **{func.__name__: _linearly(func) for func in (functional.upsample, functional.grid_sample, functional.fold)},
    **dict.fromkeys(("cat", "concat", "concatenate"), _join(torch.cat)),
    **{func.__name__: _join(func) for func in (torch.stack, torch.hstack, torch.vstack)},
    "where": _choose,
    "pad": _pad,
    "masked_fill": _fill,
    "copy": _copy,
}
