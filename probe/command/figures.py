"""The figures of a saved result, as files. No torch."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import xarray as xr

import probe
from probe.errors import ArgumentError
from probe.results import write_atomically

__all__ = ["FIGURES", "save_figures"]

_MAPS: tuple[Literal["decoded", "mean"], ...] = ("decoded", "mean")


def save_figures(result: xr.Dataset, folder: Path, stem: str, *, overwrite: bool = False) -> list[Path]:
    """Draw what there is to draw of a result, and save it as PNG.

    Parameters
    ----------
    result
        Of one of the kinds in `FIGURES`.
    folder
        Made if it is not there.
    stem
        What all file names begin with.
    overwrite
        Replace existing files.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    ArgumentError
        If its kind has no figures, or nothing in it can be drawn.
    ResultFileError
        If a file exists and `overwrite` is false, or cannot be written.
    """
    kind = result.attrs.get("kind")
    if kind not in FIGURES:
        raise ArgumentError(
            f"figures: a result of kind {kind!r} has none; {', '.join(FIGURES)} have. `probe report FILE.nc` writes "
            "its page, which holds some."
        )
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    try:
        axes = FIGURES[kind](result)
        if not axes:
            raise ArgumentError("figures: no layer with a stride pads, and there are no maps: nothing to draw.")
        folder.mkdir(parents=True, exist_ok=True)
        return [_save(ax.figure, folder / f"{stem}-{part}.png", overwrite) for part, ax in axes.items()]
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _layers(result: xr.Dataset) -> dict[str, Any]:
    return {"layers": probe.plot_layers(result), **_maps(result)}


def _channels(result: xr.Dataset) -> dict[str, Any]:
    return {"channels": probe.plot_channels(result), **_maps(result)}


def _maps(result: xr.Dataset) -> dict[str, Any]:
    """Draw all maps of each layer: what is decoded from them, where there are readouts, and the mean activations."""
    found = {}
    for kind in _MAPS:
        for name, variable in result.data_vars.items():
            if str(name).startswith(f"{kind}_map_"):
                layer, number = variable.attrs["layer"], str(name).removeprefix(f"{kind}_map_")
                part = f"{kind}-maps-{number}-{_as_file_name(layer)}"
                found[part] = probe.plot_maps(result, layer, kind=kind).flat[0]
    return found


def _ranking(result: xr.Dataset) -> dict[str, Any]:
    return {"ranking": probe.plot_ranking(result)}


def _rankings(result: xr.Dataset) -> dict[str, Any]:
    return {"agreement": probe.plot_ranking(result)}


def _curves(result: xr.Dataset) -> dict[str, Any]:
    rankings = [str(name) for name in result.ranking.values] if "ranking" in result.dims else [None]
    return {
        "-".join(["ablation", *(_as_file_name(name) for name in (ranking, score) if name)]): probe.plot_ablation(
            result, score=score, ranking=ranking
        )
        for ranking in rankings
        for score in map(str, result.score.values)
    }


def _pooled(result: xr.Dataset) -> dict[str, Any]:
    return {"pooled": probe.plot_pooled(result)}


def _erasing(result: xr.Dataset) -> dict[str, Any]:
    return {"erasing": probe.plot_erasure(result).flat[0]}


def _erasing_curves(result: xr.Dataset) -> dict[str, Any]:
    return {
        f"erasing-{_as_file_name(score)}": probe.plot_erasure(result, score=score).flat[0]
        for score in map(str, result.score.values)
    }


def _readers(result: xr.Dataset) -> dict[str, Any]:
    return {"readers": probe.plot_erasure(result).flat[0]}


def _audit(result: xr.Dataset) -> dict[str, Any]:
    found = {}
    if ((result["stride"] > 1).any("axis") & (result.padding > 0).any("side")).any():
        found["audit"] = probe.plot_audit(result)
    if any(str(name).startswith("foveation_") for name in result.data_vars):
        found["foveation"] = probe.plot_foveation(result).flat[0]
    return found


def _shifts(result: xr.Dataset) -> dict[str, Any]:
    return {"consistency": probe.plot_consistency(result).flat[0]}


def _neighbours(result: xr.Dataset) -> dict[str, Any]:
    return {"neighbours": probe.plot_neighbours(result)}


def _border(result: xr.Dataset) -> dict[str, Any]:
    return {"border": probe.plot_border(result)}


FIGURES: dict[str, Callable[[xr.Dataset], dict[str, Any]]] = {
    "layerwise": _layers,
    "channelwise": _channels,
    "ranking": _ranking,
    "rankings": _rankings,
    "ablation_curve": _curves,
    "pooled": _pooled,
    "shift_consistency": _shifts,
    "neighbours": _neighbours,
    "erasure_curve": _erasing_curves,
    "erasure_proof": _erasing,
    "erasure_matrix": _erasing,
    "stronger_readouts": _readers,
    "border_profile": _border,
    "audit": _audit,
}
"""Kind -> function from a result to the Axes of each figure, by the name of its file."""


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


def _save(figure: Any, path: Path, overwrite: bool) -> Path:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return write_atomically(path, content.getvalue(), overwrite=overwrite)
