"""What can be told from rounding: the only home of its bounds."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["ROUNDING_ERRORS", "is_constant", "is_rounding", "keeps_digits", "varies"]

ROUNDING_ERRORS = 32
"""So many rounding errors of its magnitude carry no signal."""

_ERRORS_OF_SQUARES = 1e4
_ERRORS_OF_CONSTANT = 256  # of a sum of some thousand equal squares; up to 70 were found
_SHARE_OF_CONSTANT = 1e-6


def varies(deviation: Tensor, mean: Tensor, dtype: torch.dtype) -> Tensor:
    """Tell which channels vary by more than the rounding of their values in this precision.

    Examples
    --------
    >>> varies(torch.tensor([1.0, 1e-6]), torch.tensor([100.0, 100.0]), torch.float32)
    tensor([ True, False])
    """
    return deviation > ROUNDING_ERRORS * torch.finfo(dtype).eps * (mean.abs() + deviation)


def keeps_digits(squares: Tensor, summed: Tensor, dtype: torch.dtype) -> Tensor:
    """Tell which sums of squares are more than the rounding of what was summed for them in this precision.

    Examples
    --------
    >>> keeps_digits(torch.tensor([1.0, 1e-4]), torch.tensor([1.0, 1.0]), torch.float32)
    tensor([ True, False])
    """
    return squares > _ERRORS_OF_SQUARES * torch.finfo(dtype).eps * summed


def is_rounding(squares: Tensor, summed: Tensor, dtype: torch.dtype) -> Tensor:
    """Tell which sums of squares are no more than what rounding leaves of the sum of equal ones in this precision.

    Examples
    --------
    >>> is_rounding(torch.tensor([1e-2, 1e-6]), torch.tensor([1.0, 1.0]), torch.float32)
    tensor([False,  True])
    """
    return squares <= _ERRORS_OF_CONSTANT * torch.finfo(dtype).eps * summed


def is_constant(deviations: Any, squares: Any) -> Any:
    """Tell which targets do not vary: sums of squares about the mean that are nothing beside those about the offset.

    Works on arrays and tensors. Targets are no measurements: a target that varies at all does so by far more.

    Examples
    --------
    >>> is_constant(torch.tensor([1.0, 1e-9]), torch.tensor([2.0, 2.0]))
    tensor([False,  True])
    """
    return deviations <= _SHARE_OF_CONSTANT * squares
