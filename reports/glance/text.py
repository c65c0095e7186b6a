"""A result as text: of which model and images it is, what there was to warn of, its main numbers. No torch."""

import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import xarray as xr

from probe.reports.glance.summaries import kind_of

__all__ = ["MOST_ROWS", "WIDEST", "attribute", "describe_source", "show", "whole", "write_table"]

WIDEST = 120
"""Characters in a line of a table, at most."""

MOST_ROWS = 20
"""Rows of the table of a result that shows itself."""

_DIMS = ("layer", "stimulus", "target", "training", "padding", "ranking", "score", "readout", "reference", "subset")
_MOST_NAMED = 5
_LONGEST_NAME = 50


def show(result: xr.Dataset) -> str:
    """Write a result as it shows itself in a terminal: its table, shortened, and what else the Dataset holds.

    Raises
    ------
    Exception
        Of any kind, if so little of the result is left that its numbers cannot be told.
    """
    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    sizes = ", ".join(f"{name} {size}" for name, size in result.sizes.items())
    holds = f"xarray.Dataset ({sizes}) of {', '.join(map(str, result.data_vars))}"
    return "\n".join([write_table(whole(result), width, MOST_ROWS), *_wrapped(holds, width)])


def whole(result: xr.Dataset) -> xr.Dataset:
    """Put back the dims that were selected away, as by ``result.sel(stimulus="rolled")``, each with its one label."""
    selected = [name for name in _DIMS if name in result.coords and not result[name].ndim]
    return result.expand_dims(selected) if selected else result


def write_table(result: xr.Dataset, width: int = WIDEST, max_rows: int | None = None) -> str:
    r"""Write a result as text: model, weights, images, warnings, main numbers; at most `width` characters a line.

    Of more than `max_rows` rows the table shows the first and the last.

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
    about = [*describe_source(result), kind.title(result)]
    if table.empty:
        about, lines = [*about, kind.empty], []
    else:
        table = table.rename(index=_shortened, columns=_shortened)
        lines = table.to_string(
            line_width=width, float_format="{:z.3f}".format, na_rep="", max_rows=max_rows
        ).splitlines()
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


def describe_source(result: xr.Dataset) -> list[str]:
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
    return [*lines, *(f"warning: {message}" for message in attribute(result, "warnings", []))]


def _not_scored(result: xr.Dataset) -> Iterator[str]:
    names = list(attribute(result, "skipped", {}))
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    if names:
        yield f"not scored: {', '.join(names[:_MOST_NAMED])}{rest}"


def attribute(result: xr.Dataset, name: str, default: Any) -> Any:
    """Return an attribute that is kept as JSON."""
    return json.loads(result.attrs[name]) if name in result.attrs else default
