"""Files of tensors: written atomically, and read without running anything that stands in them."""

import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from probe.errors import ResultFileError
from probe.results import write_atomically

__all__ = ["read_saved", "write_saved"]


def write_saved(
    content: dict[str, Any],
    path: str | os.PathLike[str],
    *,
    form: str,
    overwrite: bool,
    temporary: Path | None = None,
) -> Path:
    """Write tensors and plain values to a file, atomically.

    Parameters
    ----------
    content
        What to write.
    path
        File to write.
    form
        Name of the format, which `read_saved` asks for.
    overwrite
        Replace an existing file.
    temporary
        See `probe.results.write_atomically`.

    Raises
    ------
    ResultFileError
        If the file exists and `overwrite` is false, or cannot be written. An old file then stays as it was.
    """

    def write(file: BinaryIO) -> None:
        found = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(True)  # by which `read_saved` knows a damaged file
        try:
            torch.save({"format": form, **content}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # which torch hides behind one of its own
                raise error.__context__ from None
            raise
        finally:
            torch.serialization.set_crc32_options(found)

    return write_atomically(Path(path).expanduser(), write, overwrite=overwrite, temporary=temporary)


def read_saved(
    path: str | os.PathLike[str], *, form: str, what: str, cure: str, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Read a file that `write_saved` wrote. Nothing in it is executed.

    Parameters
    ----------
    path, form
        As in `write_saved`.
    what
        What the file should hold, for errors.
    cure
        How to get it anew.
    device
        Where the tensors come to lie.

    Raises
    ------
    ResultFileError
        If the file is absent, damaged, or holds something else.
    """
    damaged = None
    try:
        with Path(path).expanduser().open("rb") as file:
            content = torch.load(file, weights_only=True, map_location=device)
            if isinstance(content, dict) and content.get("format") == form:
                damaged = zipfile.ZipFile(file).testzip()  # torch does not compare the checksums
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnpicklingError as error:
        if _is_netcdf(Path(path).expanduser()):
            raise ResultFileError(
                f"{path}: is a result, and no {what}. Results are read by probe.load, and cannot be merged."
            ) from error
        raise ResultFileError(
            f"{path}: holds no {what}, but something else that could run code, and was not read."
        ) from error
    except Exception as error:  # torch raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise ResultFileError(f"{path}: cannot be read as {what} ({reason}). {cure}") from error
    if not isinstance(content, dict) or content.get("format") != form:
        raise ResultFileError(f"{path}: holds no {what} of this version of probe ({form}).")
    if damaged is not None:
        raise ResultFileError(f"{path}: is damaged: the checksum of {damaged}, a part of it, is wrong. {cure}")
    return content


def _is_netcdf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((b"CDF", b"\x89HDF"))
