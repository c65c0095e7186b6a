"""Layouts as they are written, such as ``NLC[5:201](14, 14)``. No torch: the command checks them before it loads."""

import re
from typing import NamedTuple

__all__ = ["LAYOUTS", "Written", "read_layout"]

LAYOUTS = {"NCHW": 4, "NHWC": 4, "NLC": 3, "LNC": 3, "NC": 2, "NCDHW": 5, "NDHWC": 5}
"""The layouts and their number of axes: N images, C channels, D frames, H rows, W columns, L tokens."""

_WRITTEN = re.compile(
    r"(?P<axes>[A-Z]+)(?P<patches>\[(?P<start>-?\d*):(?P<stop>-?\d*)\](\((?P<grid>\d+(, *\d+){1,2})\))?)?"
)


class Written(NamedTuple):
    """What a layout says.

    Attributes
    ----------
    axes : str
        One of `LAYOUTS`.
    patches : slice or None
        Which tokens are patches; None where it is not said.
    grid : tuple of int or None
        Rows and columns of the patches, or frames, rows and columns; None where they are not said.
    """

    axes: str
    patches: slice | None = None
    grid: tuple[int, ...] | None = None


def read_layout(text: str) -> Written | None:
    """Return what a layout says; None if it is none.

    Examples
    --------
    >>> read_layout("NLC[5:201](14, 14)")
    Written(axes='NLC', patches=slice(5, 201, None), grid=(14, 14))
    >>> read_layout("NCHW"), read_layout("NCHW[5:201]")
    (Written(axes='NCHW', patches=None, grid=None), None)
    """
    parts = _WRITTEN.fullmatch(text)
    if parts is None or parts["axes"] not in LAYOUTS or (parts["patches"] and "L" not in parts["axes"]):
        return None
    if not parts["patches"]:
        return Written(parts["axes"])
    patches = slice(*(int(number) if number else None for number in (parts["start"], parts["stop"])))
    grid = tuple(map(int, parts["grid"].split(","))) if parts["grid"] else None
    return Written(parts["axes"], patches, grid)
