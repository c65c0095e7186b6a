"""Products of columns of samples, on the processor's fastest way, and what a device is not to be waited for."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["add_products", "can_look", "empty_columns"]


def _onednn_product(rows: Tensor, columns: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, columns, None, "none", [], "")


def _multiplies(product: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Try a product that has no public name, and may go or change with any version of torch."""
    rows, columns = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    try:
        return torch.equal(product(rows, columns), rows @ columns.T)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


_HAS_ONEDNN = torch.backends.mkldnn.is_available() and _multiplies(_onednn_product)


def empty_columns(n_columns: int, n_samples: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return room for columns, shape (column, sample), laid out as `add_products` reads it fastest."""
    if _goes_to_onednn(dtype, device):
        return torch.empty(n_columns, n_samples, dtype=dtype, device=device)
    return torch.empty(n_samples, n_columns, dtype=dtype, device=device).T


def add_products(sums: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add rows @ columns.T to `sums`.

    Where torch is built with oneDNN, which it takes for convolutions, single-precision products on a CPU go there as
    well: MKL, which it takes for matrix products, leaves half of the vector width of AMD's processors unused. Only
    the operator behind compiled linear layers leads there, which is tried once; where it fails, all goes the common
    way.

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
        sums += _onednn_product(rows, columns)
    else:
        sums.addmm_(rows, columns.T)


def can_look(values: Tensor) -> bool:
    """Tell whether to decide by values in the midst of a forward pass.

    On a GPU all work before them would have to end first, and it would then wait for the next: there what may be needed
    is always done, and what is costly is decided between the batches.
    """
    return values.device.type == "cpu"


def _goes_to_onednn(dtype: torch.dtype, device: torch.device) -> bool:
    return _HAS_ONEDNN and device.type == "cpu" and dtype == torch.float32
