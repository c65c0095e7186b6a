"""Pages from result files. Nothing here loads torch or sees a model."""

from importlib import import_module
from typing import TYPE_CHECKING

from probe.errors import ArgumentError

if TYPE_CHECKING:
    import xarray as xr

    from probe.reports.page.document import Report

__all__ = ["PAGES", "build"]

_PLAIN = (
    "layerwise", "channelwise", "ranking", "rankings", "ablation_curve", "pooled", "similarity", "shift_consistency",
    "neighbours", "audit", "border_profile", "erasure_proof", "erasure_curve", "erasure_matrix", "stronger_readouts",
)  # fmt: skip
PAGES = {
    "overview": "probe.reports.overview.page",
    "comparison": "probe.reports.overview.comparison",
    "channels": "probe.reports.channels.page",
    "padding_comparison": "probe.reports.padding_comparison.page",
    "study": "probe.reports.studies",
    **dict.fromkeys(_PLAIN, "probe.reports.results.page"),
}
"""Kind of result -> the file that has its ``build(result)``, its ``findings`` in sentences, and its ``lead`` figure."""


def build(result: "xr.Dataset") -> "Report":
    """Make the page of any result, told by its attribute ``kind``.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> build(result.assign_attrs(kind="layerwise")).title
    'Where Sequential knows position'

    Raises
    ------
    ArgumentError
        If there is no page of this kind of result.
    """
    attrs = getattr(result, "attrs", {})
    # Files from before there were kinds tell it by their study.
    kind = attrs.get("kind") or ("study" if "question" in attrs else attrs.get("analysis"))
    if kind not in PAGES:
        raise ArgumentError(
            f"result: there is no page of a {type(result).__name__} with kind={kind!r}; expected a result of probe, "
            f"of one of the kinds {', '.join(PAGES)}. If arithmetic dropped its attributes, use "
            "xarray.set_options(keep_attrs=True); a file without a kind is to be made again."
        )
    return import_module(PAGES[kind]).build(result)
