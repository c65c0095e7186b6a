"""Files of tensors are written whole or not at all, and read without running what stands in them."""

import pytest
import torch

import probe
from probe.errors import ResultFileError
from probe.sums.saved import read_saved, write_saved
from probe.testing import padded_net

ASKED = {"form": "form 1", "what": "sums", "cure": "Sum again."}


def test_there_and_back(tmp_path):
    path = write_saved({"a": torch.ones(2), "b": [1, "x"]}, tmp_path / "sums.pt", form="form 1", overwrite=False)
    found = read_saved(path, **ASKED)
    assert torch.equal(found["a"], torch.ones(2)) and found["b"] == [1, "x"]


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "sums.pt"
    path.write_text("old")
    with pytest.raises(ResultFileError, match="exists"):
        write_saved({}, path, form="form 1", overwrite=False)
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, r"cannot be read: No such file"),
        (lambda path: path.write_bytes(b"\x00\x01"), r"cannot be read as sums|holds no sums"),
        (lambda path: torch.save({"format": "form 2"}, path), r"holds no sums of this version of probe \(form 1\)"),
        (lambda path: torch.save([1], path), "holds no sums of this version"),
        (lambda path: torch.save(torch.nn.ReLU(), path), "could run code, and was not read"),
    ],
)
def test_what_is_no_such_file(make, message, tmp_path):
    make(tmp_path / "sums.pt")
    with pytest.raises(ResultFileError, match=message):
        read_saved(tmp_path / "sums.pt", **ASKED)


def test_a_result_is_said_to_be_one(tmp_path):
    path = probe.save(probe.audit(padded_net(), (3, 24, 24)), tmp_path / "result.nc")
    with pytest.raises(ResultFileError, match=r"result\.nc: is a result, and no .*probe\.load"):
        probe.Statistics.load(path)
