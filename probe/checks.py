"""What an argument must be, said in the same words everywhere."""

from numbers import Integral
from typing import Any, TypeGuard

from probe.errors import ArgumentError

__all__ = ["is_whole", "whole_number"]


def is_whole(value: Any) -> TypeGuard[int]:
    """Tell whether a value is a whole number, of Python's or of NumPy's; True and False are none.

    Examples
    --------
    >>> is_whole(4), is_whole(4.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole_number(name: str, value: Any, least: int, *, otherwise: str = "", better: str = "") -> int:
    """Return a whole number as Python's own.

    Parameters
    ----------
    name, value
        Of the argument.
    least
        The smallest that it can be.
    otherwise, better
        What else it could have been, and what is advised, for the message.

    Raises
    ------
    ArgumentError
        If it is no whole number, or a smaller one.

    Examples
    --------
    >>> whole_number("frames", 4, 1)
    4
    """
    if not is_whole(value) or value < least:
        raise ArgumentError(f"{name}={value!r}: expected {otherwise}a whole number of at least {least}{better}.")
    return int(value)
