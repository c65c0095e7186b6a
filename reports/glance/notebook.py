"""A result as a notebook shows it: what it says in a sentence or two, a small table, a figure, and the Dataset."""

import io
from collections.abc import Callable
from html import escape
from importlib import import_module
from types import ModuleType

import xarray as xr
from PIL import Image

from probe import reports
from probe.reports.glance.summaries import kind_of
from probe.reports.glance.text import MOST_ROWS, describe_source, whole
from probe.reports.page.blocks import CSS_DPI, data_uri

__all__ = ["show"]

_DPI = 100  # pixels of the picture for each inch
_COLOURS = 128
_MOST_SENTENCES = 3


def show(result: xr.Dataset, plain: str) -> str:
    """Return a result as HTML, without scripts and styles that reach beyond it.

    What cannot be told or drawn is left out, and says why; the rest stays.

    Parameters
    ----------
    result
        Of any kind.
    plain
        How xarray writes the Dataset, which is folded away below.

    Raises
    ------
    Exception
        Of any kind, if so little of the result is left that its numbers cannot be told.
    """
    result = whole(result)
    kind = kind_of(result)
    table = kind.table(result, kind.rows(result))
    shown = table.to_html(max_rows=MOST_ROWS, float_format="{:z.3f}".format, na_rep="", border=0)
    if table.empty:
        shown = f"<p>{escape(kind.empty)}</p>"
    about = "".join(f"<div>{escape(line)}</div>" for line in describe_source(result))
    parts = [
        _or_why_not(_sentences, result),
        f"<p>{escape(kind.title(result))}</p>{shown}",
        _or_why_not(_figure, result),
        _folded("Model, images and warnings", about),
        _folded("xarray.Dataset", f"<pre>{escape(plain)}</pre>"),
    ]
    return f"<div>{''.join(parts)}</div>"


def _or_why_not(part: Callable[[xr.Dataset], str], result: xr.Dataset) -> str:
    try:
        return part(result)
    except Exception as error:  # whatever a sentence or a figure lacks, the numbers are shown
        return f"<p><i>Not shown: {escape(f'{type(error).__name__}: {error}')}</i></p>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _sentences(result: xr.Dataset) -> str:
    told = _page_of(result).findings(result)[:_MOST_SENTENCES]
    return "".join(f"<p><b>{escape(sentence)}</b></p>" for sentence in told)


def _figure(result: xr.Dataset) -> str:
    figure, drawn, content = _page_of(result).lead(result), io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    # Notebooks are kept with their outputs, and mailed: a palette takes a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(content, format="png", optimize=True)
    width, style = figure.bbox.width / figure.dpi * CSS_DPI, "max-width: 100%; background: white"
    alt = f"Figure of the numbers above ({kind_of(result).title(result)})."
    source = data_uri("image/png", content.getvalue())
    return f'<img src="{source}" alt="{escape(alt)}" width="{width:.0f}" style="{style}">'


def _page_of(result: xr.Dataset) -> ModuleType:
    return import_module(reports.PAGES[result.attrs["kind"]])
