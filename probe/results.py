"""The schema of results, what accompanies them, and their files. Never loads torch."""

import datetime
import io
import json
import os
import platform
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

import pandas as pd
import xarray as xr

from probe.errors import ArgumentError, ResultFileError
from probe.intervals import CONFIDENCE

__all__ = [
    "FEW_IMAGES",
    "FEW_SAMPLES",
    "KINDS",
    "VARIABLES",
    "Facts",
    "Result",
    "check_writable",
    "finish",
    "layer_map",
    "load",
    "published_table",
    "save",
    "versions",
    "write_atomically",
]

SCHEMA = "position-probe result 1"

_OTHER_FORMATS = (".csv", ".html", ".json", ".pdf", ".png", ".pt", ".pth", ".txt", ".xlsx", ".zarr")

VARIABLES = {
    "r2": ("R² of the position readout", "1"),
    "r2_fold": ("R² within each fold", "1"),
    "r2_se": ("standard error of R² (jackknife over folds of images)", "1"),
    "r2_null": ("R² with positions shuffled in every image", "1"),
    "r2_control": ("mean R² of fixed random permutations of the target", "1"),
    "bits": ("position as a Gaussian-equivalent scale", "bit"),
    "omega2": ("share of a channel's variance explained by position, ω²", "1"),
    "omega2_se": ("standard error of ω² (jackknife over folds of images)", "1"),
    "valid": ("whether all activations were finite", "1"),
    "n_dead": ("channels that do not vary", "1"),
    "mean_map": ("mean activation over images", "activation"),
    "decoded_map": ("readout applied to the mean activation", "target"),
    "similarity": ("cosine similarity to the features at a reference, mean over objects", "1"),
    "global_similarity": ("mean cosine similarity over all positions", "1"),
    "local_roughness": ("mean distance of the similarity from that at its two neighbours", "1"),
}
"""Long name and units of each variable of a result."""

FEW_SAMPLES = 5
"""A readout that saw fewer samples for each channel underestimates what can be read: each half of them is fitted."""

FEW_IMAGES = 20
"""Errors and intervals from fewer images are rough, since the cells of one image are alike."""

KINDS = {
    "layerwise": "probe.layerwise",
    "channelwise": "probe.channelwise",
    "ranking": "probe.rank_channels",
    "rankings": "probe.compare_rankings",
    "ablation_curve": "probe.ablation_curve",
    "erasure_proof": "probe.erasure_proof",
    "erasure_curve": "probe.erasure_curve",
    "erasure_matrix": "probe.erasure_matrix",
    "stronger_readouts": "probe.stronger_readouts",
    "pooled": "probe.pooled",
    "similarity": "probe.shift_similarity",
    "shift_consistency": "probe.shift_consistency",
    "neighbours": "probe.neighbours",
    "border_profile": "probe.border_profile",
    "audit": "probe.audit",
    "padding_comparison": "probe.analyses.padding_comparison.study.run",
    "channels": "probe.analyses.channels.study.run",
    "overview": "probe.analyses.overview.study.run",
    "comparison": "probe.analyses.overview.comparison.compare",
    "study": "probe.analyses.NAME.run",
}
"""Every kind of result, and the call that makes it."""

_PACKAGES = (
    "position-probe", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "xarray", "matplotlib", "seaborn",
)  # fmt: skip


class Result(xr.Dataset):
    """An `xarray.Dataset` that shows what it says: in a terminal as a table, in a notebook with a figure.

    It is one in all else, and adds nothing to its names. Of the ways to let a result show itself, a class of its own
    is the one that touches nothing but results: an accessor would have to be asked for, and a hook of IPython, or
    xarray's methods changed, would reach every Dataset of the user and every part of the process.

    No sentence is said of numbers that were not measured so: what is made of a result is a plain Dataset, but for
    copies, pickles, files and parts, and for a result that is given further variables or other labels
    (``sel``, ``isel``, ``drop_vars``, ``transpose``, ``assign``, a list of names). A result of which a variable is
    replaced or written to becomes a plain Dataset itself; only what is written to the array of a variable
    (``result.r2.values[0] = 1``) is not noticed. A part of a result of which the main numbers are gone shows itself as
    xarray does, and so does every result where ``xarray.set_options(display_style="text")`` asks for no HTML.

    How a kind of result is told is known to the pages above, in `probe.reports.glance`, which is loaded when a result
    is shown.
    """

    __slots__ = ()

    # By these two ways xarray makes what it returns of the class of what it was given.

    def __new__(cls, *given: Any, **named: Any) -> xr.Dataset:  # type: ignore[misc]
        """Return a plain Dataset: results are made by `of` alone."""
        return xr.Dataset(*given, **named)

    @classmethod
    def _construct_direct(cls, *given: Any, **named: Any) -> Any:
        return xr.Dataset._construct_direct(*given, **named)

    @classmethod
    def of(cls, dataset: xr.Dataset) -> "Result":
        """Return a Dataset as a result; its variables are shared."""
        result = xr.Dataset.copy(dataset)
        result.__class__ = cls
        return cast("Result", result)

    def __repr__(self) -> str:
        return _shown("text", self) or repr(xr.Dataset.copy(self))

    def _repr_html_(self) -> str:
        plain = xr.Dataset.copy(self)
        asked = xr.get_options()["display_style"] == "html"
        shown = _shown("notebook", self, repr(plain)) if asked else None
        return shown or plain._repr_html_()

    def __reduce__(self) -> tuple[Any, ...]:
        return Result.of, (xr.Dataset.copy(self),)

    def copy(self, deep: bool = False, data: Any = None) -> Any:
        """Return a copy, which is a plain Dataset if it is given other numbers."""
        made = super().copy(deep, data)
        return Result.of(made) if data is None else made

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if isinstance(key, Mapping):  # writes to a part of every variable
            self.__class__ = xr.Dataset  # type: ignore[assignment]

    def _replace(self, *given: Any, **named: Any) -> Any:
        before = dict(self.data_vars) if named.get("inplace") else {}
        made = super()._replace(*given, **named)
        if any(name in self and not self.variables[name].equals(old.variable) for name, old in before.items()):
            self.__class__ = xr.Dataset  # type: ignore[assignment]
        return made


def _leaves_numbers(name: str) -> Callable[..., Any]:
    method = getattr(xr.Dataset, name)

    @wraps(method)
    def of_result(self: Result, *given: Any, **named: Any) -> Any:
        made = method(self, *given, **named)
        return Result.of(made) if isinstance(made, xr.Dataset) else made

    return of_result


for _name in ("__copy__", "__deepcopy__", "__getitem__", "chunk", "drop_vars", "isel", "sel", "transpose"):
    setattr(Result, _name, _leaves_numbers(_name))


def _shown(how: str, *given: Any) -> str | None:
    """Return how a result is shown in a terminal or notebook, or None, where too little of it is left to be told."""
    try:
        return import_module(f"probe.reports.glance.{how}").show(*given)
    except Exception:  # nothing that is wrong with a result may keep it from being printed
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Facts:
    """How a result was made: of which model, from which images, and what there was to warn of.

    Attributes
    ----------
    model : str
        Class of the model; empty where a study makes its own.
    weights_digest : str
        Digest of its parameters and buffers.
    n_images : int
        Number of images that were read.
    images_digest : str
        Digest of their pixels, as they were read, and of their numbers; empty where none are.
    device : str
        Where the model ran.
    seed : int
        Of all draws.
    duration_s : float
        Seconds that it took.
    skipped : dict
        Layers that were left out, with the reason.
    corrupt : dict
        Files that could not be read, with the reason.
    warnings : tuple of str
        The warnings that were given.
    """

    model: str = ""
    weights_digest: str = ""
    n_images: int = 0
    images_digest: str = ""
    device: str = ""
    seed: int = 0
    duration_s: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    corrupt: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: xr.Dataset) -> "Facts":
        """Return those of a result."""
        found: dict[str, Any] = {f.name: result.attrs[f.name] for f in fields(cls) if f.name in result.attrs}
        found |= {name: json.loads(found[name]) for name in ("skipped", "corrupt", "warnings") if name in found}
        return cls(**found).warned()

    def warned(self, messages: Iterable[str] = ()) -> "Facts":
        """Return them with further warnings, each once."""
        return replace(self, warnings=tuple(dict.fromkeys([*self.warnings, *messages])))


def finish(
    result: xr.Dataset,
    *,
    kind: str,
    facts: Facts,
    settings: Mapping[str, Any],
    command: str = "",
    **named: Any,
) -> xr.Dataset:
    """Stamp a result: what it is, how it was made, and the long name and units of each variable.

    Parameters
    ----------
    result
        Is changed. Variables that have a long name and units keep them.
    kind
        One of `KINDS`.
    facts
        How it was made.
    settings
        The arguments that numbers depend on.
    command
        The command that was given; by default the call that makes this kind.
    **named
        Further attributes of this kind.

    Returns
    -------
    xarray.Dataset
        The result, with flat attributes: text and numbers as they are, all else as JSON.
    """
    for name, variable in result.data_vars.items():
        if {"long_name", "units"} <= variable.attrs.keys():
            continue
        stem = str(name).rstrip("0123456789").rstrip("_")
        long_name, units = VARIABLES.get(str(name)) or VARIABLES[stem]
        variable.attrs.update(long_name=long_name, units=units)
    stamp = {
        "schema": SCHEMA,
        "kind": kind,
        **named,
        **asdict(facts),
        "settings": dict(settings),
        "confidence": CONFIDENCE,
        "command": command or f"{KINDS[kind]}(...)",
        "versions": versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    for name, value in stamp.items():
        flat = isinstance(value, str | int | float) and not isinstance(value, bool)
        result.attrs[name] = value if flat else json.dumps(value)
    return Result.of(result)


def layer_map(result: xr.Dataset, name: str, layer: str) -> xr.DataArray:
    """Return the variable `name` (``mean_map`` or ``decoded_map``) of a layer.

    Each layer has its own grid, so its maps are a variable of their own, on dimensions of their own; here they are
    called ``channel``, ``row`` and ``column``, of clips and volumes also ``frame``.

    Raises
    ------
    KeyError
        If the result has no such map.
    """
    for key, variable in result.data_vars.items():
        if str(key).startswith(f"{name}_") and variable.attrs.get("layer") == layer:
            return variable.rename({d: str(d).rstrip("0123456789").rstrip("_") for d in variable.dims})
    raise KeyError(f"no {name} of layer {layer!r}; name it in maps=")


def published_table(result: xr.Dataset) -> pd.DataFrame:
    """Return the numbers of a study beside the published ones.

    Parameters
    ----------
    result
        Of a study, with ``published``, ``here`` and ``here_sd``.

    Returns
    -------
    pandas.DataFrame
        A column for each dim of ``here``, then ``published``, ``here``, ``here_sd``, the number of ``seeds`` and the
        ``difference`` here − published. What is neither published nor measured has no row.
    """
    numbers = result[["published", "here", "here_sd"]]
    numbers = numbers.drop_vars(set(numbers.coords) - set(numbers.dims))
    table = numbers.to_dataframe(dim_order=list(result.here.dims)).reset_index()
    table["seeds"] = result.here_by_seed.notnull().sum("seed").values.ravel()
    table["difference"] = table.here - table.published
    return table.dropna(subset=["published", "here"], how="all").reset_index(drop=True)


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
    ResultFileError
        If the file is absent, damaged, or no result of probe.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        result = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except Exception as error:  # netCDF readers raise many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise ResultFileError(
            f"{path}: is damaged or no netCDF file ({reason}). Name the file of a result, .nc, or make it again."
        ) from error
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
            raise ResultFileError(f"{path}: exists already. Pass overwrite=True (--overwrite) to replace it.")
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
