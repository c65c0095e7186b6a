"""Which tensors depend on the images, told by a mark that whoever runs the model passes on."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["is_marked", "mark", "marked_in", "name_of", "tensors_in"]

_MARK = "_depends_on_images"


def mark(*tensors: Tensor) -> None:
    """Note that tensors depend on the images."""
    for tensor in tensors:
        setattr(tensor, _MARK, True)


def is_marked(tensor: Tensor) -> bool:
    """Tell whether a tensor, or the one that it is a view of, depends on the images."""
    return hasattr(tensor, _MARK) or (tensor._base is not None and hasattr(tensor._base, _MARK))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts.

    Examples
    --------
    >>> import torch
    >>> [tensor.ndim for tensor in tensors_in([torch.ones(2), {"more": (torch.ones(1, 1), 3)}])]
    [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def marked_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts that depend on the images, each once."""
    return list({id(tensor): tensor for tensor in tensors_in(value) if is_marked(tensor)}.values())


def name_of(func: Callable) -> str:
    """Return the name of a function that torch hands to a `TorchFunctionMode`, or of the attribute that it gets.

    Examples
    --------
    >>> import torch
    >>> name_of(torch.Tensor.add_), name_of(torch.Tensor.shape.__get__), name_of(torch.ops.aten.tanh)
    ('add_', 'shape', 'aten.tanh')
    """
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return func.__self__.__name__  # type: ignore[attr-defined]
    return str(func) if "OpOverload" in type(func).__name__ else name
