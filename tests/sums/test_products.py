"""Products of columns, whichever way they go."""

import pytest
import torch

from probe.sums import products
from probe.sums.products import _multiplies, add_products, empty_columns


@pytest.mark.parametrize("has_onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_added(dtype, has_onednn, monkeypatch):
    monkeypatch.setattr(products, "_HAS_ONEDNN", has_onednn and products._HAS_ONEDNN)
    generator = torch.Generator().manual_seed(0)
    columns = empty_columns(7, 50, dtype, torch.device("cpu"))
    columns.copy_(torch.randn(7, 50, generator=generator))
    sums = torch.ones(3, 7, dtype=dtype)
    add_products(sums, columns[:3], columns)
    expected = 1 + columns[:3].double() @ columns.double().T
    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("error", [AttributeError, NotImplementedError, RuntimeError, TypeError])
def test_an_operator_that_is_gone_is_not_taken(error):
    def gone(rows, columns):
        raise error("no such operator")

    assert not _multiplies(gone)


def test_an_operator_that_changed_its_meaning_is_not_taken():
    assert _multiplies(lambda rows, columns: rows @ columns.T)
    assert not _multiplies(lambda rows, columns: rows @ columns.T + 1)
