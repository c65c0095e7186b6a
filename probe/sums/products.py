"""Products of columns of samples, on the processor's fastest way."""

import torch
from torch import Tensor

__all__ = ["add_products", "empty_columns"]

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def empty_columns(n_columns: int, n_samples: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return room for columns, shape (column, sample), laid out as `add_products` reads it fastest."""
    if _goes_to_onednn(dtype, device):
        return torch.empty(n_columns, n_samples, dtype=dtype, device=device)
    return torch.empty(n_samples, n_columns, dtype=dtype, device=device).T


def add_products(sums: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add rows @ columns.T to `sums`.

    Where torch is built with oneDNN, which it takes for convolutions, single-precision products on a CPU go there as
    well: MKL, which it takes for matrix products, leaves half of the vector width of AMD's processors unused. Only
    the operator behind compiled linear layers leads there; without it, all goes the common way.

    Parameters
    ----------
    sums
        Shape (row, column).
    rows, columns
        Shape (row, sample) and (column, sample).

    Examples
    --------
    >>> sums = torch.ones(1, 2)
    >>> add_products(sums, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    >>> sums
    tensor([[12., 18.]])
    """
    if _goes_to_onednn(rows.dtype, rows.device):
        sums += torch.ops.mkldnn._linear_pointwise(rows, columns, None, "none", [], "")
    else:
        sums.addmm_(rows, columns.T)


def _goes_to_onednn(dtype: torch.dtype, device: torch.device) -> bool:
    return _HAS_ONEDNN and device.type == "cpu" and dtype == torch.float32
