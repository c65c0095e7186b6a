"""What a warning says of the layers that a variant could not change."""

from collections.abc import Mapping

__all__ = ["listed"]


def listed(heading: str, reasons: Mapping[str, str]) -> str:
    """Return a heading and the names of layers, those with the same reason together; nothing if there is no reason.

    Parameters
    ----------
    heading
        What is true of all of them.
    reasons
        By name of the layer, empty for the model itself; a layer whose reason is empty is left out.

    Examples
    --------
    >>> listed("not converted", {"a": "ceil_mode", "b": "", "": "ceil_mode"})
    'not converted: a, the model (ceil_mode)'
    >>> listed("not converted", {"b": ""})
    ''
    """
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_by_reason.setdefault(reason, []).append(name or "the model")
    names_by_reason.pop("", None)
    joined = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in names_by_reason.items())
    return f"{heading}: {joined}" if joined else ""
