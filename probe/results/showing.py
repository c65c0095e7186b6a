"""How a result shows itself, as long as its numbers are those that were measured."""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, cast

import xarray as xr

__all__ = ["Result"]


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
        return Result.of(made) if isinstance(made, xr.Dataset) and not _lacks_folds(made, self) else made

    return of_result


def _lacks_folds(made: xr.Dataset, whole: xr.Dataset) -> bool:
    """Tell a selection of folds, of which R² and its error, which are of all of them, would be told."""
    return "fold" in made.variables and made.sizes.get("fold", 1) < whole.sizes.get("fold", 1)


for _name in ("__copy__", "__deepcopy__", "__getitem__", "chunk", "drop_vars", "isel", "sel", "transpose"):
    setattr(Result, _name, _leaves_numbers(_name))


def _shown(how: str, *given: Any) -> str | None:
    """Return how a result is shown in a terminal or notebook, or None, where too little of it is left to be told."""
    try:
        return import_module(f"probe.reports.glance.{how}").show(*given)
    except Exception:  # nothing that is wrong with a result may keep it from being printed
        return None
