"""Matrix products on the processor's fastest way."""

import torch
from torch import Tensor

__all__ = ["product"]

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ columns.T.

    Where torch is built with oneDNN, which it takes for convolutions, single-precision products on a CPU go there as
    well: MKL, which it takes for matrix products, leaves half of the vector width of AMD's processors unused. Only
    the operator behind compiled linear layers leads there; without it, all goes the common way.

    Parameters
    ----------
    rows, columns
        Shape (row, sample) and (column, sample).

    Examples
    --------
    >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    tensor([[11., 17.]])
    """
    if _HAS_ONEDNN and rows.device.type == "cpu" and rows.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(rows, columns, None, "none", [], "")
    return rows @ columns.T
