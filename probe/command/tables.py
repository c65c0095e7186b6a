"""A saved result at a glance: its main numbers as a table, and its figures as files. Never loads torch."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from probe.errors import ArgumentError
from probe.intervals import CONFIDENCE, half_width
from probe.results import published_table, write_atomically

__all__ = ["save_figures", "summarise", "write_json", "write_table"]

_SCORES = ("r2", "r2_se", "r2_null", "r2_control", "bits")
_MOST_NAMED = 5


def summarise(result: xr.Dataset) -> pd.DataFrame:
    """Return the main numbers of a result.

    Parameters
    ----------
    result
        From `probe.layerwise`, `probe.channelwise` or `probe.audit`, or of a study.

    Returns
    -------
    pandas.DataFrame
        For layers, a row each layer, stimulus and target (of each network): ``r2``, ``r2_se``, ``r2_null``,
        ``r2_control``, ``bits``. For channels, a row each layer and stimulus: the number of ``channels`` that could be
        scored, the mean and largest of their ``omega2``, and which channel is the ``strongest``. For studies, see
        `probe.results.published_table`. For audits, a row each layer: its input, kernel and stride along rows, and
        the padding of each side, all of it and what is unread of it.

    Raises
    ------
    ArgumentError
        If the result is of neither kind.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> summarise(result).query("layer == 'conv4' and target == 'row'").r2.gt(0.1).tolist()
    [True, True]
    """
    if "unread" in result:
        return _summarise_audit(result)
    if "published" in result and "r2" not in result:
        return published_table(result)
    if "r2" in result and "layer" in result.r2.dims:
        scores = [name for name in _SCORES if name in result]
        frame = result[scores].to_dataframe(dim_order=list(result.r2.dims))
        return frame[scores].reset_index()
    if "omega2" in result and "channel" in result.omega2.dims:
        frame = result["omega2"].to_dataframe().reset_index()
        groups = frame.groupby(["layer", "stimulus"], sort=False)
        return groups[["index", "omega2"]].apply(_summarise_channels).reset_index()
    raise ArgumentError(f"result: no scores of layers or channels among its variables {', '.join(map(str, result))}.")


def _summarise_channels(group: pd.DataFrame) -> pd.Series:
    scored = group.dropna().sort_values("omega2", ascending=False, kind="stable")
    return pd.Series(
        {
            "channels": len(scored),
            "omega2_mean": scored["omega2"].mean(),
            "omega2_max": scored["omega2"].max(),
            "strongest": scored["index"].iloc[0] if len(scored) else None,
        },
        dtype=object,
    )


def _summarise_audit(result: xr.Dataset) -> pd.DataFrame:
    rows = result.sel(axis="row")
    table = pd.DataFrame({"layer": result.layer.values, "input": rows["input_size"].values})
    table["kernel"], table["stride"] = rows["kernel"].values, rows["stride"].values
    for name in ("padding", "unread"):
        for side in map(str, result.side.values):
            table[f"{name}_{side}"] = result[name].sel(side=side).values
    return table


def write_table(result: xr.Dataset, width: int = 120) -> str:
    """Write the main numbers of a result as text, at most `width` characters a line.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.layerwise(CoordinateNet(), noise_images(200), stimuli="rolled", progress=False)
    >>> print(write_table(result))
    R² of position ± 95% interval over 5 folds of images
    stimulus          rolled
    target               row         column
    layer
    input      0.000 ± 0.001  0.000 ± 0.000
    identity   1.000 ± 0.000  1.000 ± 0.000
    """
    summary = summarise(result)
    if "unread" in result:
        title, table = _audit_title(result), _audit_table(result, summary)
    elif "published" in summary:
        about = result.here.attrs
        title = f"{about['long_name']} ({about['units']}), beside the published one"
        table = summary.set_index(list(map(str, result.here.dims)))
    elif "padding" in summary:
        title = f"R² of position, mean over targets and networks ({result.sizes['seed']} for each padding)"
        rows = ["training", "stimulus", "layer"]
        table = summary.pivot_table("r2", rows, "padding", aggfunc="mean", sort=False)
    elif "r2" in summary:
        title = f"R² of position ± {CONFIDENCE:.0%} interval over {result.sizes['fold']} folds of images"
        halves = half_width(summary.r2_se, result.sizes["fold"] - 1)
        summary["text"] = [f"{r2:z.3f} ± {half:.3f}" for r2, half in zip(summary.r2, halves, strict=True)]
        table = summary.pivot_table("text", "layer", ["stimulus", "target"], aggfunc="first", sort=False)
    else:
        title = "share of each channel's variance that position explains (omega2), and the strongest channel"
        table = summary.set_index("layer")
    lines = table.to_string(line_width=width, float_format="{:z.3f}".format).splitlines()
    return "\n".join([title, *(line.rstrip() for line in lines), *_not_scored(result)])


def _audit_title(result: xr.Dataset) -> str:
    """Tell how much padding is unread, and at which sizes none would be."""
    padded = (result.padding > 0).any("side")
    uneven = (result.unread > 0).any("side")
    height, width = json.loads(result.attrs["input_shape"])[1:]
    found = f"images of {height}×{width}: {int(uneven.sum())} of {int(padded.sum())} padded layers leave padding unread"
    if "even_size" not in result or not uneven.any():
        return found
    sizes = [
        " or ".join(f"{size:.0f}" for size in result.even_size.sel(axis=axis).values if size == size)
        for axis in ("row", "column")
    ]
    return f"{found}; nearest sizes that leave none: {sizes[0] or 'none'} rows, {sizes[1] or 'none'} columns"


def _audit_table(result: xr.Dataset, summary: pd.DataFrame) -> pd.DataFrame:
    """Return what is unread of the padding of each side, for the layers that have a stride and padding."""
    sides = [str(side) for side in result.side.values]
    table = summary[["layer", "input", "kernel", "stride"]].copy()
    for side in sides:
        pairs = zip(summary[f"unread_{side}"], summary[f"padding_{side}"], strict=True)
        table[side] = [f"{unread} of {padding}" for unread, padding in pairs]
    strided = (result["stride"] > 1).any("axis").values & (result.padding > 0).any("side").values
    return table[strided].set_index("layer")


def _not_scored(result: xr.Dataset) -> list[str]:
    names = list(json.loads(result.attrs.get("skipped", "{}")))
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [f"not scored: {', '.join(names[:_MOST_NAMED])}{rest}"] if names else []


def write_json(result: xr.Dataset, file: Path | None) -> str:
    """Write the main numbers of a result as JSON, with the layers that were skipped and why, and all warnings.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.layerwise(CoordinateNet(), noise_images(200), stimuli="rolled", progress=False)
    >>> content = json.loads(write_json(result, Path("result.nc")))
    >>> content["skipped"], content["scores"][-1]["layer"]
    ({}, 'identity')
    """
    content = {
        "file": None if file is None else str(file),
        "skipped": json.loads(result.attrs.get("skipped", "{}")),
        "warnings": json.loads(result.attrs["warnings"]),
        "scores": json.loads(summarise(result).to_json(orient="records", double_precision=15)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def save_figures(result: xr.Dataset, folder: Path, stem: str, *, overwrite: bool = False) -> list[Path]:
    """Draw the layers or channels of a result, and the maps of each layer that has some, and save them as PNG.

    Parameters
    ----------
    result
        From `probe.layerwise`, `probe.channelwise` or `probe.audit`.
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
        If the result is of a study, whose figures are in its page.
    ResultFileError
        If a file exists and `overwrite` is false, or cannot be written.
    """
    if "analysis" in result.attrs:
        raise ArgumentError("figures: those of a study are in its page, which `probe report FILE.nc` writes.")
    import matplotlib

    matplotlib.use("agg")
    from probe.plots.auditing import plot_audit, plot_foveation
    from probe.plots.channels import plot_channels
    from probe.plots.maps import plot_maps
    from probe.plots.position import plot_layers

    if "unread" in result:
        figures = {"audit": plot_audit(result), "foveation": plot_foveation(result).flat[0]}
    else:
        figures = {"channels": plot_channels(result)} if "omega2" in result else {"layers": plot_layers(result)}
    for name, variable in result.data_vars.items():
        if str(name).startswith("mean_map_"):
            layer = variable.attrs["layer"]
            part = str(name).replace("mean_map_", "maps-") + "-" + re.sub(r"[^\w.-]+", "_", layer)
            figures[part] = plot_maps(result, layer).flat[0]
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(axes.figure, folder / f"{stem}-{part}.png", overwrite) for part, axes in figures.items()]


def _save(figure: Any, path: Path, overwrite: bool) -> Path:
    import matplotlib.pyplot as plt

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    plt.close(figure)
    return write_atomically(path, content.getvalue(), overwrite=overwrite)
