"""Processes that read images: what cannot be sent to them is told by its name.

Python starts them in one of three ways. ``fork`` (Linux, until 3.13) copies what there is; ``forkserver`` (Linux, from
3.14) and ``spawn`` (macOS, Windows) pickle it, and import its classes and functions anew.
"""

import multiprocessing
import pickle
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from probe.errors import ArgumentError, ImagesError

__all__ = ["read_by_workers"]

_NOT_PICKLED = (AttributeError, TypeError, pickle.PicklingError)


def read_by_workers(loader: DataLoader[Any], images: Any, transform: Any) -> Iterator[Any]:
    """Yield what a loader gives; without workers as well.

    Parameters
    ----------
    loader
        Reads `images` and applies `transform`.
    images, transform
        As the user gave them.

    Raises
    ------
    ArgumentError, ImagesError
        If `transform`, or `images`, cannot be sent to the workers.
    """
    if not loader.num_workers:
        yield from loader
        return
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error")  # of torch, which knows no names
            rows = iter(loader)
    except _NOT_PICKLED as error:
        _refuse_unsent(images, transform, error)
        raise
    try:
        yield from rows
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error) or multiprocessing.get_start_method() == "fork":
            raise
        _refuse_unsent(images, transform, error)
        error.add_note(
            "probe: each worker imports anew what it is sent, and may have told above what it lacks. Measure below "
            '``if __name__ == "__main__":`` in a script, or pass num_workers=0.'
        )
        raise


def _refuse_unsent(images: Any, transform: Any, error: Exception) -> None:
    """Raise an error that names what cannot be sent, if it is found."""
    cure = f"Python starts processes by {multiprocessing.get_start_method()!r}, which pickles what they need."
    if problem := _why_not_sent(transform):
        raise ArgumentError(
            f"transform={transform!r} cannot be sent to workers: {problem}. {cure} Pass a function, or an object of a "
            "class, that stands at the top of a module (a .py file that is imported), no lambda; or num_workers=0."
        ) from error
    if problem := _why_not_sent(images):
        raise ImagesError(
            f"images: a {type(images).__name__} cannot be sent to workers: {problem}. {cure} Define its class, and the "
            "functions that it holds, at the top of a module (a .py file that is imported), no lambda, and open files "
            "where a row is read; or pass num_workers=0."
        ) from error


def _why_not_sent(sent: Any) -> str:
    """Return why an object cannot be sent to a process; empty if it can."""
    try:
        _Sender(_Nowhere()).dump(sent)
    except _NOT_PICKLED as error:
        return str(error)
    except Exception:  # what can be pickled only while a process starts, as locks can
        return ""
    return ""


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, part: Any) -> int:
        return len(part)


class _Sender(pickle.Pickler):
    """Refuses what other processes do not see: functions and classes of a notebook, which is no file."""

    def reducer_override(self, obj: Any) -> Any:
        is_by_name = getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__")
        if is_by_name and not hasattr(sys.modules["__main__"], "__file__"):
            raise pickle.PicklingError(f"{obj.__qualname__} is of a notebook or prompt, which they do not see")
        return NotImplemented
