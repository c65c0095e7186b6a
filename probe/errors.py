"""The errors and warnings of probe.

Every message names the argument, the layer or the file, what was found, what was expected, and the cure.
An exception raised by the user's own model or transform is passed on as it is, with a note added.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "ArgumentError",
    "IllConditionedError",
    "ImagesError",
    "LayerNotCalledError",
    "LayerNotFoundError",
    "LayoutError",
    "ModelError",
    "PaddingError",
    "ProbeError",
    "ProbeWarning",
    "RankError",
    "ResultFileError",
    "TooLargeError",
    "counted",
    "left_out",
    "noting",
    "told_once",
    "warn",
]


class ProbeError(Exception):
    """Base of all errors that probe raises itself."""


class ArgumentError(ProbeError, ValueError):
    """An argument has a value that it cannot take."""


class IllConditionedError(ArgumentError):
    """A penalty is too small for channels that depend on each other."""


class ModelError(ProbeError, TypeError):
    """The model cannot be measured, for example because it is scripted."""


class LayerNotFoundError(ProbeError, LookupError):
    """No layer of the model has this name."""


class LayerNotCalledError(ProbeError, LookupError):
    """The layer exists, but the forward pass never calls it."""


class LayoutError(ProbeError, ValueError):
    """A layer's output cannot be brought to (image, channel, row, column)."""


class ImagesError(ProbeError, ValueError):
    """The images cannot be read, or are too few, or do not fit together."""


class PaddingError(ProbeError, ValueError):
    """A model cannot run under the padding asked for, for example because a map would vanish."""


class TooLargeError(ProbeError, MemoryError):
    """What the measurement would have to keep does not fit into memory."""


class RankError(ProbeError, RuntimeError):
    """Another of several processes that measure together has ended."""


class ResultFileError(ProbeError, OSError):
    """A result file cannot be read or written."""


class ProbeWarning(UserWarning):
    """Something was left out or looks wrong; the measurement goes on."""


# contextlib stands between the parts of probe that enter a context manager.
_INNER = {"probe", "contextlib"}


def warn(message: str, warned: list[str]) -> None:
    """Give a `ProbeWarning` at the user's line that called probe, and keep its message for the result's provenance."""
    warned.append(message)
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ProbeWarning, stacklevel=level)


def told_once(told: Iterable[tuple[str, str]]) -> list[str]:
    """Return messages, each once, behind the names of all that had it to say.

    Parameters
    ----------
    told
        Pairs of who said it, and the message.

    Examples
    --------
    >>> told_once([("where", "few images"), ("why", "no padding"), ("why", "few images"), ("where", "few images")])
    ['where, why: few images', 'why: no padding']
    """
    names: dict[str, dict[str, None]] = {}
    for name, message in told:
        names.setdefault(message, {})[name] = None
    return [f"{', '.join(those)}: {message}" for message, those in names.items()]


def counted(number: int, what: str) -> str:
    """Return how many there are of something, as it is written in messages.

    Examples
    --------
    >>> counted(1, "layer"), counted(2, "class"), counted(3, "axis"), counted(0, "image")
    ('1 layer', '2 classes', '3 axes', '0 images')
    """
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what.removesuffix('is') + 'es' if what.endswith('s') else what + 's'}"


def left_out(number: int) -> str:
    """Return that so many were left out.

    Examples
    --------
    >>> left_out(1), left_out(3)
    ('1 is left out', '3 are left out')
    """
    return f"{number} {'is' if number == 1 else 'are'} left out"


@contextmanager
def noting(place: str) -> Iterator[None]:
    """Note on an exception of the user's own code where it arose; its type and traceback stay."""
    try:
        yield
    except Exception as error:
        error.add_note(f"probe: {place}.")
        raise
