"""The results that figures take: one, or several by name; others are refused with what they are and what fits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr

from probe.errors import ArgumentError

__all__ = ["Results", "check_alike", "check_result", "is_several", "results_by_name"]

Results = xr.Dataset | Mapping[str, xr.Dataset]
"""One result, or several by name."""


class _Kind(NamedTuple):
    maker: str
    drawn_by: str


_KINDS = {
    "layerwise": _Kind("probe.layerwise", "probe.plot_layers"),
    "channelwise": _Kind("probe.channelwise", "probe.plot_channels"),
    "ranking": _Kind("probe.rank_channels", "probe.plot_ranking"),
    "rankings": _Kind("probe.compare_rankings", "probe.plot_ranking"),
    "ablation_curve": _Kind("probe.ablation_curve", "probe.plot_ablation"),
    "pooled": _Kind("probe.pooled", "probe.plot_pooled"),
    "erasure_curve": _Kind("probe.erasure_curve", "probe.plot_erasure"),
    "erasure_proof": _Kind("probe.erasure_proof", "probe.plot_erasure"),
    "erasure_matrix": _Kind("probe.erasure_matrix", "probe.plot_erasure"),
    "stronger_readouts": _Kind("probe.stronger_readouts", "probe.plot_erasure"),
    "shift_consistency": _Kind("probe.shift_consistency", "probe.plot_consistency"),
    "neighbours": _Kind("probe.neighbours", "probe.plot_neighbours"),
    "border_profile": _Kind("probe.border_profile", "probe.plot_border"),
    "audit": _Kind("probe.audit", "probe.plot_audit"),
}


def check_result(
    result: Any, kind: str | tuple[str, ...], variables: Mapping[str, tuple[str, ...]], *, several: bool = False
) -> xr.Dataset:
    """Return a result whose variables have the dims that a figure draws.

    A dim that was selected away, as by ``result.sel(stimulus="rolled")``, is put back with its one label.

    Parameters
    ----------
    result
        What the user gave.
    kind
        Kinds of results, as in their attribute ``kind``, that the figure takes; the first is recommended.
    variables
        Dims of the variables that the figure draws; ``()`` asks for a variable of any dims.
    several
        Whether the figure takes several results by name.

    Raises
    ------
    ArgumentError
        If it is no such result. It says what was found, and which call makes the right one.
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    wanted = " or ".join(_KINDS[name].maker for name in kinds)
    if not isinstance(result, xr.Dataset):
        raise ArgumentError(f"result: expected a result of {wanted}, {_found(result, several)}")
    found = result.attrs.get("kind")
    if found is not None and found not in kinds:
        raise ArgumentError(f"result: expected a result of {wanted}, found one of kind {found!r}. {_cure(found)}")
    restored = _with_selected_dims(result, {dim for dims in variables.values() for dim in dims})
    for name, dims in variables.items():
        if name not in restored or (dims and set(restored[name].dims) != set(dims)):
            raise ArgumentError(_unlike(result, name, dims, wanted, several))
    return restored


def results_by_name(
    results: Any, kind: str | tuple[str, ...], variables: Mapping[str, tuple[str, ...]]
) -> dict[str, xr.Dataset]:
    """Return several results by name, each checked as by `check_result`; a single one is called ``""``.

    Raises
    ------
    ArgumentError
        If one of them is no such result, or there is none. It says which.
    """
    if not is_several(results):
        return {"": check_result(results, kind, variables, several=True)}
    if not results:
        raise ArgumentError("result: expected at least one result, found an empty dict.")
    checked = {}
    for name, result in results.items():
        try:
            checked[str(name)] = check_result(result, kind, variables)
        except ArgumentError as error:
            raise ArgumentError(f"result[{name!r}]: {str(error).removeprefix('result: ')}") from error
    return checked


def is_several(result: Any, **of_one: Any) -> bool:
    """Return whether results are given by name; arguments `of_one` then have no effect, and are refused.

    Raises
    ------
    ArgumentError
        If one of them is not None.
    """
    several = isinstance(result, Mapping) and not isinstance(result, xr.Dataset)
    if several and any(value is not None for value in of_one.values()):
        raise ArgumentError(
            f"{' and '.join(of_one)}: of a single result; several have the names and looks of the dict."
        )
    return several


def check_alike(results: Mapping[str, xr.Dataset], *coordinates: str) -> None:
    """Raise an ArgumentError unless all results have the same labels on these coordinates."""
    (first, one), *others = results.items()
    for name, other in others:
        for coordinate in coordinates:
            labels, own = (list(map(str, item[coordinate].values)) for item in (one, other))
            if labels != own:
                raise ArgumentError(
                    f"result: {first!r} and {name!r} differ in {coordinate}: "
                    f"{_only(labels, own)} only in {first!r}, {_only(own, labels)} only in {name!r}. Choose what both "
                    f"have with result.sel({coordinate}=[…]), or draw each by itself."
                )


def _only(labels: list[str], others: list[str]) -> str:
    extra = [label for label in dict.fromkeys(labels) if label not in others]
    shown = ", ".join(extra[:3]) + (f" and {len(extra) - 3} more" if len(extra) > 3 else "")
    return shown or ("the order" if len(labels) == len(others) else "nothing")


def _found(result: Any, several: bool) -> str:
    article = "an" if type(result).__name__[0] in "aeiouAEIOU" else "a"
    text = f"found {article} {type(result).__name__}"
    by_name = 'a dict, {"zeros": a, "circular": b}' if several else "one at a time"
    if isinstance(result, list | tuple):
        return f"{text} of {len(result)}. Give several results {'by name in ' if several else ''}{by_name}."
    if isinstance(result, Mapping):
        return f"{text} of {len(result)}. Give results {by_name}."
    if isinstance(result, xr.DataArray):
        return f"{text} named {result.name!r}. Give the whole Dataset."
    if isinstance(result, str) or hasattr(result, "__fspath__"):
        return f"{text}, {str(result)!r}. Open a file with probe.load."
    return f"{text}."


def _cure(kind: str) -> str:
    if kind in _KINDS:
        return f"{_KINDS[kind].drawn_by} draws it."
    if kind in ("study", "padding_comparison", "channels"):
        return "Its figures are in its page: `probe report FILE.nc`."
    return "No function of probe draws it."


def _with_selected_dims(result: xr.Dataset, dims: set[str]) -> xr.Dataset:
    selected = [dim for dim in sorted(dims) if dim in result.coords and result[dim].ndim == 0]
    return result.expand_dims(selected) if selected else result


def _unlike(result: xr.Dataset, name: str, dims: tuple[str, ...], wanted: str, several: bool) -> str:
    found = ", ".join(f"{key} on ({', '.join(map(str, value.dims))})" for key, value in result.data_vars.items())
    expected = f"{name} on ({', '.join(dims)})" if dims else name
    text = f"result: expected {expected}, as {wanted} returns it; found {found or 'no variables'}."
    extra = sorted(set(map(str, result[name].dims)) - set(dims)) if name in result and dims else []
    if extra and several:
        return f'{text} Of several results along {extra[0]}, give a dict, {{"zeros": a, "circular": b}}.'
    if extra:
        return f"{text} Choose one with result.sel({extra[0]}=…)."
    return text
