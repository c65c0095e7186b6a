"""What can be told from rounding: the only home of its bounds."""

import torch
from torch import Tensor

__all__ = ["ROUNDING_ERRORS", "keeps_digits", "varies"]

ROUNDING_ERRORS = 32
"""So many rounding errors of its magnitude carry no signal."""

_ERRORS_OF_SQUARES = 1e4


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
