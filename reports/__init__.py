"""Pages from result files. Nothing here loads torch or sees a model."""

from importlib import import_module
from typing import TYPE_CHECKING

from probe.errors import ArgumentError

if TYPE_CHECKING:
    import xarray as xr

    from probe.reports.page.document import Report

__all__ = ["build"]

_MODULES = {"channels": "probe.reports.channels.page", "padding_comparison": "probe.reports.padding_comparison.page"}


def build(result: "xr.Dataset") -> "Report":
    """Make the page of any result of a study, told by its attributes ``analysis`` and ``question``.

    Raises
    ------
    ArgumentError
        If there is no report of this kind of result.
    """
    analysis = result.attrs.get("analysis")
    if "question" in result.attrs:
        return import_module("probe.reports.studies").build(result)
    if analysis not in _MODULES:
        raise ArgumentError(
            f"result: there is no report of a result with analysis={analysis!r}; "
            f"expected one of {', '.join(_MODULES)}. `probe show` shows the results of layerwise and channelwise."
        )
    return import_module(_MODULES[analysis]).build(result)
