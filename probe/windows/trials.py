"""Finding out what a function does to an image by running it on random numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.models.marks import tensors_in

__all__ = ["Trial"]


class Trial:
    """What a function does with the values of some of its tensors.

    Each is replaced by random numbers of both signs and of magnitudes from 1e-6 to 1e6, and by others of opposite
    signs or zeros, so that a function that is constant over some interval, as an activation, shows that it reads them.

    Parameters
    ----------
    func, args, kwargs
        The call in question; its tensors stay as they are.
    tensors
        Those among its arguments whose values are in question, of floating point.

    Attributes
    ----------
    read : list of torch.Tensor
        Those of `tensors` on whose values the result depends.
    result
        What the function gives for random numbers.

    Examples
    --------
    >>> image = torch.zeros(1, 2, 4, 4)
    >>> trial = Trial(torch.flip, (image, (2,)), {}, [image])
    >>> trial.moves(), trial.is_pointwise()
    (True, False)
    >>> trial = Trial(torch.tanh, (image,), {}, [image])
    >>> trial.moves(), trial.is_pointwise()
    (False, True)
    """

    def __init__(self, func: Callable, args: tuple, kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> None:
        self._call = (func, args, kwargs)
        generator = torch.Generator().manual_seed(0)
        draws = {id(tensor): _draw(tensor, generator) for tensor in tensors}
        self._drawn = {key: first for key, (first, _) in draws.items()}
        self._others = {key: second for key, (_, second) in draws.items()}
        self.result = self._run({})
        self.read = [t for t in tensors if not _are_equal(self.result, self._run({id(t): self._others[id(t)]}))]

    def _run(self, changed: Mapping[int, Tensor]) -> Any:
        func, args, kwargs = self._call
        values = {**self._drawn, **changed}
        with torch.no_grad():
            return func(*_replaced(args, values), **_replaced(kwargs, values))

    def moves(self) -> bool:
        """Tell whether the function puts values of the one tensor that it reads to other places, perhaps with zeros."""
        (read,) = self.read[:1]
        # Numbered from 1, the values tell where they come from, and zeros that they come from nowhere.
        numbers = torch.arange(1, read.numel() + 1, device=read.device, dtype=torch.float64).to(read.dtype)
        if numbers.numel() and int(numbers[-1].double()) != read.numel():
            return False
        numbered = list(tensors_in(self._run({id(read): numbers.view(read.shape)})))
        outputs = list(tensors_in(self.result))
        values = torch.cat([read.new_zeros(1), self._drawn[id(read)].flatten()]).cpu()
        return bool(outputs) and all(map(_come_from, outputs, numbered, [values] * len(outputs)))

    def is_pointwise(self) -> bool:
        """Tell whether each value of the result depends on the value at its own place alone."""
        (read,) = self.read[:1]
        if (
            not isinstance(self.result, Tensor)
            or self.result.shape != read.shape
            or not self.result.is_floating_point()
        ):
            return False
        first, other = self._drawn[id(read)], self._others[id(read)]
        is_changed = torch.rand(read.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        mixed = self._run({id(read): torch.where(is_changed.to(first.device), other, first)})
        after = self._run({id(read): other})
        return _are_equal(mixed, torch.where(is_changed.to(after.device), after, self.result))


def _draw(tensor: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    magnitude, ratio, sign = torch.rand(3, *tensor.shape, generator=generator, dtype=torch.float64)
    first = 10 ** (12 * magnitude - 6) * (sign - 0.5).sign()
    other = torch.where((first > 0) & (ratio < 0.2), 0, -first * (0.5 + ratio))
    return first.to(tensor), other.to(tensor)


def _replaced(value: Any, by_identity: Mapping[int, Tensor]) -> Any:
    """Return a structure with some tensors replaced, each by a copy since the function may write into it."""
    if isinstance(value, Tensor):
        return by_identity[id(value)].clone() if id(value) in by_identity else value
    if isinstance(value, dict):
        return {key: _replaced(part, by_identity) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_replaced(part, by_identity) for part in value)
    return value


def _come_from(output: Tensor, numbered: Tensor, values: Tensor) -> bool:
    if output.dtype != values.dtype or output.shape != numbered.shape:
        return False
    numbered = numbered.cpu()
    places = numbered.long()
    are_places = (places == numbered) & (places >= 0) & (places < len(values))
    return bool(are_places.all()) and torch.equal(values[places], output.cpu())


def _are_equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if first.is_floating_point() or first.is_complex():
            return torch.allclose(first, second, rtol=1e-9, atol=0, equal_nan=True)
        return torch.equal(first, second)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(_are_equal, first, second))
    try:
        return bool(first == second)
    except (RuntimeError, ValueError, TypeError):
        return False
