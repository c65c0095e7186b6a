"""A result at a glance: of which model and images it is, what there was to warn of, its main numbers. No torch."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from probe.command.summaries import kind_of

__all__ = ["WIDEST", "summarise", "write_json", "write_table"]

WIDEST = 120
"""Characters in a line of a table, at most."""

_MOST_NAMED = 5
_LONGEST_NAME = 50


def summarise(result: xr.Dataset) -> pd.DataFrame:
    """Return the main numbers of a result, a row each.

    Parameters
    ----------
    result
        Of any kind.

    Returns
    -------
    pandas.DataFrame
        For layers, a row each layer, stimulus and target (of each network): ``r2``, ``r2_se``, ``r2_null``,
        ``r2_control``, ``bits``. For channels, a row each layer and stimulus: the number of ``channels`` that could be
        scored, the mean and largest of their ``omega2``, and which channel is the ``strongest``. For a ranking, a row
        each channel; for several, one each pair. For ablation curves, one each ranking, score and count. For studies,
        see `probe.results.published_table`. For audits, a row each layer: its input, kernel and stride along rows, and
        the padding of each side, all of it and what is unread of it.

    Raises
    ------
    ArgumentError
        If the result is of no kind of probe's.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> result = probe.layerwise(padded_net("zeros"), noise_images(100), progress=False)
    >>> summarise(result).query("layer == 'conv4' and target == 'row'").r2.gt(0.1).tolist()
    [True, True]
    """
    return kind_of(result).rows(result)


def write_table(result: xr.Dataset, width: int = WIDEST) -> str:
    r"""Write a result as text: model, weights, images, warnings, main numbers; at most `width` characters a line.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.layerwise(CoordinateNet(), noise_images(200), stimuli="rolled", progress=False)
    >>> lines = write_table(result).splitlines()
    >>> print(lines[0].partition(",")[0], lines[2], lines[-1], sep="\n")
    model: CoordinateNet
    R² of position ± 95% interval over 5 folds of images
    identity  1.000 ± 0.000  1.000 ± 0.000
    """
    kind = kind_of(result)
    table = kind.table(result, kind.rows(result))
    about = [*_describe_source(result), kind.title(result)]
    if table.empty:
        about, lines = [*about, kind.empty], []
    else:
        table = table.rename(index=_shortened, columns=_shortened)
        lines = table.to_string(line_width=width, float_format="{:z.3f}".format, na_rep="").splitlines()
    return "\n".join(
        [*(part for line in about for part in _wrapped(line, width)), *(line.rstrip() for line in lines)]
        + [part for line in _not_scored(result) for part in _wrapped(line, width)]
    )


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)


def _shortened(name: Any) -> Any:
    """Return a name with its middle left out, if it is too long for a table; both of its ends tell names apart."""
    if not isinstance(name, str) or len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"


def _describe_source(result: xr.Dataset) -> list[str]:
    """Tell of which model and images a result is, whether the weights are random, and what there was to warn of."""
    about = result.attrs
    digest = f"digest {about['weights_digest']}" if about.get("weights_digest") else ""
    if about.get("networks") == "digits":
        model = f"model: {about['model']}, a small network; weights: random at first and trained here"
    elif about.get("model"):
        named = about.get("weights") or "not named where it was measured, so they may be random"
        model = f"model: {about['model']}, weights: {named}{f'; {digest}' if digest else ''}"
    else:
        model = f"model: networks of the study {about.get('analysis', '')}".rstrip()
    n_images = int(about.get("n_images", 0))
    lines = [model]
    if n_images:
        lines.append(f"images: {n_images}, digest {about['images_digest']}")
    else:
        lines.append("images: none were read" if about["kind"] == "audit" else "images: of the study")
    if "eval_n_images" in about:
        lines[-1] += f"; scored on {about['eval_n_images']}, digest {about['eval_images_digest']}"
    return [*lines, *(f"warning: {message}" for message in _attribute(result, "warnings", []))]


def _not_scored(result: xr.Dataset) -> Iterator[str]:
    names = list(_attribute(result, "skipped", {}))
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    if names:
        yield f"not scored: {', '.join(names[:_MOST_NAMED])}{rest}"


def _attribute(result: xr.Dataset, name: str, default: Any) -> Any:
    return json.loads(result.attrs[name]) if name in result.attrs else default


def write_json(result: xr.Dataset, file: Path | None) -> str:
    """Write the main numbers of a result as JSON, with what it is of, the layers that were skipped, and all warnings.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.layerwise(CoordinateNet(), noise_images(200), stimuli="rolled", progress=False)
    >>> content = json.loads(write_json(result, Path("result.nc")))
    >>> content["kind"], content["skipped"], content["scores"][-1]["layer"]
    ('layerwise', {}, 'identity')
    """
    names = ("kind", "model", "weights", "weights_digest", "n_images", "images_digest", "command")
    content = {
        "file": None if file is None else str(file),
        **{name: result.attrs.get(name) for name in names},
        "skipped": _attribute(result, "skipped", {}),
        "warnings": _attribute(result, "warnings", []),
        "scores": json.loads(summarise(result).to_json(orient="records", double_precision=15)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, default=lambda number: number.item())
