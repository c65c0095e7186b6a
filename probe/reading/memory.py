"""Whether what a measurement keeps fits into memory, asked before the work."""

import psutil
import torch

from probe.errors import TooLargeError

__all__ = ["IMAGES_WHERE_UNKNOWN", "check_memory"]

IMAGES_WHERE_UNKNOWN = 1000
"""Expected of an iterable that does not tell its length."""

_SHARE_OF_MEMORY = 0.8


def check_memory(needed: int, device: torch.device, what: str, cure: str) -> None:
    """Raise unless so many bytes are free on a device.

    Parameters
    ----------
    needed
        Bytes.
    device
        Where they will be.
    what, cure
        For the message: what takes them, and how to need less.

    Raises
    ------
    TooLargeError
        If they would take more than four fifths of what is free.

    Examples
    --------
    >>> check_memory(10**15, torch.device("cpu"), "the sums", "Choose.")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    probe.errors.TooLargeError: the sums would take 1000000.0 GB, and ... GB of memory are free on cpu. Choose.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > _SHARE_OF_MEMORY * free:
        raise TooLargeError(
            f"{what} would take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free on {device}. {cure}"
        )
