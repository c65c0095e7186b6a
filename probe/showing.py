"""A saved result at a glance: its main numbers as a table, and its figures as files. Never loads torch."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from scipy.special import stdtrit

from probe.errors import ArgumentError
from probe.results import write_atomically

__all__ = ["save_figures", "summarise", "write_json", "write_table"]

_SCORES = ("r2", "r2_se", "r2_null", "r2_control", "bits")
_CONFIDENCE = 0.95
_MOST_NAMED = 5


def summarise(result: xr.Dataset) -> pd.DataFrame:
    """Return the main numbers of a result.

    Parameters
    ----------
    result
        From `probe.layerwise` or `probe.channelwise`, or of a comparison of paddings.

    Returns
    -------
    pandas.DataFrame
        For layers, a row each layer, stimulus and target (of each network): ``r2``, ``r2_se``, ``r2_null``,
        ``r2_control``, ``bits``. For channels, a row each layer and stimulus: the number of ``channels`` that could be
        scored, the mean and largest of their ``omega2``, and which channel is the ``strongest``.

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
    if "padding" in summary:
        title = f"R² of position, mean over targets and networks ({result.sizes['seed']} for each padding)"
        rows = ["training", "stimulus", "layer"]
        table = summary.pivot_table("r2", rows, "padding", aggfunc="mean", sort=False)
    elif "r2" in summary:
        title = f"R² of position ± {_CONFIDENCE:.0%} interval over {result.sizes['fold']} folds of images"
        half_width = stdtrit(result.sizes["fold"] - 1, (1 + _CONFIDENCE) / 2) * summary.r2_se
        summary["text"] = [f"{r2:z.3f} ± {half:.3f}" for r2, half in zip(summary.r2, half_width, strict=True)]
        table = summary.pivot_table("text", "layer", ["stimulus", "target"], aggfunc="first", sort=False)
    else:
        title = "share of each channel's variance that position explains (omega2), and the strongest channel"
        table = summary.set_index("layer")
    lines = table.to_string(line_width=width, float_format="{:z.3f}".format).splitlines()
    return "\n".join([title, *(line.rstrip() for line in lines), *_not_scored(result)])


def _not_scored(result: xr.Dataset) -> list[str]:
    names = list(json.loads(result.attrs["skipped"]))
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [f"not scored: {', '.join(names[:_MOST_NAMED])}{rest}"] if names else []


def write_json(result: xr.Dataset, file: Path) -> str:
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
        "file": str(file),
        "skipped": json.loads(result.attrs["skipped"]),
        "warnings": json.loads(result.attrs["warnings"]),
        "scores": json.loads(summarise(result).to_json(orient="records", double_precision=15)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def save_figures(result: xr.Dataset, folder: Path, stem: str, *, overwrite: bool = False) -> list[Path]:
    """Draw the layers or channels of a result, and the maps of each layer that has some, and save them as PNG.

    Parameters
    ----------
    result
        From `probe.layerwise` or `probe.channelwise`.
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
    from probe.plots import plot_channels, plot_layers, plot_maps

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
