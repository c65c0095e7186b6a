"""Files of results, and of all else that must not be left half written."""

import io
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import xarray as xr

from probe.errors import ArgumentError, ResultFileError
from probe.results.schema import SCHEMA
from probe.results.showing import Result

__all__ = ["check_writable", "load", "save", "write_atomically"]

_TORCH_FILE = b"PK\x03\x04"  # a zip archive
_OTHER_FORMATS = (".csv", ".html", ".json", ".pdf", ".png", ".pt", ".pth", ".txt", ".xlsx", ".zarr")


def save(result: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a result to a netCDF file, atomically.

    The commonest uses::

        probe.save(result, "result.nc")
        probe.save(result, path, overwrite=True)
        probe.load(probe.save(result, path))

    Parameters
    ----------
    result
        A result of probe.
    path
        File to write.
    overwrite
        Replace an existing file.

    Raises
    ------
    ArgumentError
        If it is no result of probe.
    ResultFileError
        If the file exists and `overwrite` is false, or cannot be written. An old file then stays as it was.

    Examples
    --------
    >>> import tempfile, probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     probe.load(probe.save(result, f"{folder}/result.nc")).identical(result)
    True
    """
    if not isinstance(result, xr.Dataset) or result.attrs.get("schema") != SCHEMA:
        raise ArgumentError(
            f"result: expected a Dataset that probe made, found a {type(result).__name__} without the attribute "
            f"schema={SCHEMA!r}. If arithmetic dropped the attributes, use xarray.set_options(keep_attrs=True)."
        )
    if Path(path).suffix.lower() in _OTHER_FORMATS:
        raise ArgumentError(
            f"path={str(path)!r}: a result is written as netCDF; name the file .nc. For a table, use "
            "result.to_dataframe(), and for a page, `probe report FILE.nc`."
        )
    # Such as the name of a file in another encoding; netCDF holds Unicode alone.
    texts = {name: value for name, value in result.attrs.items() if isinstance(value, str)}
    plain = {name: text.encode(errors="backslashreplace").decode() for name, text in texts.items()}
    result = result.assign_attrs(plain)
    encoding = {
        name: {"zlib": True, "complevel": 4}
        for name, variable in result.variables.items()
        if variable.ndim and variable.dtype.kind in "fiu"
    }
    try:
        content = result.to_netcdf(engine="h5netcdf", encoding=encoding)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ResultFileError(
            f"{path}: cannot be written: netCDF does not hold what is in the result ({error}). "
            "Turn odd attributes into text, for example with json.dumps."
        ) from error
    return write_atomically(Path(path).expanduser(), content, overwrite=overwrite)


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a result that `save` wrote.

    The commonest uses::

        probe.load("result.nc")
        probe.load(path).r2.sel(stimulus="rolled")
        probe.plot_layers(probe.load("result.nc"))

    Raises
    ------
    ArgumentError
        If `path` is none.
    ResultFileError
        If the file is absent, damaged, or no result of probe.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"path: expected that of a result, .nc, found {type(path).__name__}.")
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        result = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except Exception as error:  # netCDF readers raise many kinds for damaged files
        reason = str(error).partition("\n")[0]
        cure = "Name the file of a result, .nc, or make it again."
        if content.startswith(_TORCH_FILE):
            cure = "It may be statistics, which probe.Statistics.load reads, or weights."
        raise ResultFileError(f"{path}: is damaged or no netCDF file ({reason}). {cure}") from error
    if result.attrs.get("schema") != SCHEMA:
        raise ResultFileError(
            f"{path}: is no result of this version of probe: expected the attribute schema={SCHEMA!r}, "
            f"found {result.attrs.get('schema')!r}."
        )
    return Result.of(result)


def write_atomically(path: Path, content: Any, *, overwrite: bool = True, temporary: Path | None = None) -> Path:
    """Write to a temporary file beside `path` and move it there; on any failure an old file stays.

    Parameters
    ----------
    path, overwrite
        As in `save`.
    content
        Bytes, or what writes them to an open file, which saves a copy of many.
    temporary
        The file to write to first, which takes the place of what was left there when a run was killed; by default one
        of a new name.

    Raises
    ------
    ResultFileError
        If the file exists and may not be replaced, or cannot be written.
    """
    check_writable(path, overwrite=overwrite)
    try:
        _replace(path.resolve(), content, temporary)
    except OSError as error:
        room = "room" if callable(content) else f"{len(content) / 1e6:.1f} MB free"
        raise ResultFileError(
            f"{path}: cannot be written: {error.strerror or error}. Choose a place that can be written and has {room}."
        ) from error
    return path


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Find out, if need be before long work, whether a file may be written.

    Raises
    ------
    ResultFileError
        If it is a folder, a device or a pipe, exists and may not be replaced, or is in a folder that is not there or
        cannot be written.
    """
    try:
        if path.is_dir():
            raise ResultFileError(f"{path}: is a folder; name a file in it.")
        if path.exists() and not path.is_file():
            raise ResultFileError(f"{path}: is a device or pipe, which cannot be replaced; name a file.")
        if path.exists() and not overwrite:
            raise ResultFileError(f"{path}: exists already. Pass overwrite=True to replace it.")
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except ResultFileError:
        raise
    except OSError as error:
        cure = f", or make the folder {path.parent} first" if isinstance(error, FileNotFoundError) else ""
        raise ResultFileError(
            f"{path}: cannot be written: {error.strerror or error}. Choose a place that can be written{cure}."
        ) from error


def _replace(path: Path, content: Any, chosen: Path | None) -> None:
    temporary = chosen or path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("wb" if chosen else "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
