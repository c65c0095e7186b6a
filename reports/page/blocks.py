"""What a report's section can hold: text, figures, tables, definitions, code. Ready for the template."""

import base64
import io
import math
import numbers
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from probe.errors import ArgumentError
from probe.reports.page.estimates import Estimate

ImageFormat = Literal["auto", "svg", "png"]

CSS_DPI = 96  # a CSS pixel is 1/96 inch by definition
POINTS_PER_INCH = 72
PICTURE_DPI = 2 * CSS_DPI  # sharp on screens of double density, and when zoomed
MOST_SVG_SHAPES = 1_000  # beyond this a browser becomes slow and the file larger than a picture
PHONE_WIDTH = 290  # CSS pixels that a figure has on a screen of 360
MOST_WIDE_COLUMNS = 8
LONG_TEXT = 24  # characters; longer texts in tables may be broken

# A spreadsheet takes a text that begins with one of these for a formula and runs it.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text; as a note it is set apart."""

    text: str
    kind: Literal["paragraph", "note"] = "paragraph"


@dataclass(frozen=True)
class BulletList:
    """A list of sentences."""

    items: Sequence[str]
    kind: ClassVar = "list"


@dataclass(frozen=True)
class Definitions:
    """Pairs of a term and its meaning; where they are `linked`, the text of the page leads to them."""

    pairs: Sequence[tuple[str, str]]
    linked: bool = False
    kind: ClassVar = "definitions"


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width face, folded away under a title."""

    title: str
    text: str
    kind: ClassVar = "code"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown (None: not defined) and, of a number, what it is sorted by."""

    text: str | None
    value: str | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table as it is shown."""

    name: str
    cells: Sequence[Cell]
    is_number: bool

    @property
    def is_long(self) -> bool:
        """Whether some cell holds a long text, which may then be broken."""
        return any(len(cell.text or "") > LONG_TEXT for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """The first rows of a frame, formatted, and the whole frame as CSV."""

    columns: Sequence[Column]
    n_rows: int
    csv: str = field(repr=False)
    name: str | None = None
    caption: str | None = None
    kind: ClassVar = "table"

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """The cells that are shown, row by row."""
        return zip(*(column.cells for column in self.columns), strict=True)

    @property
    def is_dense(self) -> bool:
        """Whether the columns are so many that they are set close."""
        return len(self.columns) > MOST_WIDE_COLUMNS

    @property
    def n_shown(self) -> int:
        """How many rows are shown."""
        return len(self.columns[0].cells) if self.columns else 0


@dataclass(frozen=True)
class Picture:
    """A figure as the bytes of an image, with its size in CSS pixels."""

    source: str = field(repr=False)
    width: int
    height: int
    caption: str
    alt: str
    table: Table | None = None
    kind: ClassVar = "figure"

    @property
    def is_wide(self) -> bool:
        """Whether it scrolls on the screen of a phone."""
        return self.width > PHONE_WIDTH


Block = Paragraph | BulletList | Definitions | Code | Table | Picture


def draw_picture(figure: Figure, *, caption: str, alt: str, table: Table | None, image_format: ImageFormat) -> Picture:
    """Render a matplotlib figure; "auto" takes SVG for few shapes and PNG for many.

    The figure stays open and matplotlib's settings stay as they were.
    """
    if not isinstance(figure, Figure):
        raise ArgumentError(
            f"figure is a {type(figure).__name__}; a matplotlib Figure was expected (of an Axes, pass axes.figure)"
        )
    if not alt.strip():
        raise ArgumentError(
            f"alt is empty for the figure {caption!r}; say in a sentence what the figure shows, "
            "for readers who cannot see it"
        )
    if image_format not in ("auto", "svg", "png"):
        raise ArgumentError(f'image_format is {image_format!r}; "auto", "svg" or "png" was expected')
    if image_format != "png":
        svg = _render(figure, "svg", Date=None)
        # Every drawn shape carries a style, the glyphs of the labels do not.
        if image_format == "svg" or svg.count(b" style=") <= MOST_SVG_SHAPES:
            width, height = _svg_size(svg)
            return Picture(data_uri("image/svg+xml", svg), width, height, caption, alt, table)
    png = _render(figure, "png")
    width, height = _png_size(png)
    return Picture(data_uri("image/png", png), width, height, caption, alt, table)


def lay_out_table(
    frame: pd.DataFrame,
    *,
    caption: str | None = None,
    name: str | None = None,
    formats: Mapping[str, str] | None = None,
    digits: int = 3,
    max_rows: int = 200,
) -> Table:
    """Format a frame for reading, and write all of it as CSV."""
    if not isinstance(frame, pd.DataFrame):
        raise ArgumentError(f"frame is a {type(frame).__name__}; a pandas DataFrame was expected")
    given = _with_index(frame)
    labels = [label for label, _ in given]
    formats = formats or {}
    if unknown := sorted(set(formats) - set(labels)):
        raise ArgumentError(f"formats names the columns {unknown}; the table has {labels}")
    columns = [_column(label, series.head(max_rows), formats.get(label), digits) for label, series in given]
    return Table(columns, len(frame), data_uri("text/csv;charset=utf-8", _csv(given)), name, caption)


def data_uri(media_type: str, content: bytes) -> str:
    """Return the content as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _render(figure: Figure, image_format: str, **metadata: None) -> bytes:
    buffer = io.BytesIO()
    # Without a salt the ids inside an SVG are drawn at random.
    with matplotlib.rc_context({"svg.hashsalt": "probe"}):
        figure.savefig(buffer, format=image_format, dpi=PICTURE_DPI, bbox_inches="tight", metadata=metadata)
    return buffer.getvalue()


def _svg_size(svg: bytes) -> tuple[int, int]:
    width, height = re.findall(rb'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', svg)[0]
    return round(float(width) * CSS_DPI / POINTS_PER_INCH), round(float(height) * CSS_DPI / POINTS_PER_INCH)


def _png_size(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return round(width * CSS_DPI / PICTURE_DPI), round(height * CSS_DPI / PICTURE_DPI)


def _column(name: str, series: pd.Series, spec: str | None, digits: int) -> Column:
    is_number = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    is_number = is_number or _holds_estimates(series)
    try:
        cells = [_cell(value, spec, digits) for value in series.tolist()]
    except ValueError as error:
        raise ArgumentError(f"formats[{name!r}] is {spec!r}, which does not fit the column: {error}") from error
    return Column(name, cells, is_number)


def _cell(value: Any, spec: str | None, digits: int) -> Cell:
    if isinstance(value, Estimate):
        return Cell(value.formatted(decimals=digits), str(value.mean)) if value.is_known else Cell(None)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return Cell(None)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if not isinstance(value, numbers.Real):
        return Cell(str(value))
    if math.isinf(value):
        return Cell("∞", "Infinity") if float(value) > 0 else Cell("−∞", "-Infinity")
    if spec is None:
        # z: a number that rounds to zero is shown without a sign.
        spec = ",d" if isinstance(value, numbers.Integral) else f"z,.{digits}f"
    return Cell(format(value, spec).replace("-", "−"), str(value))


def _holds_estimates(series: pd.Series) -> bool:
    return len(series) > 0 and all(isinstance(value, Estimate) for value in series)


def _with_index(frame: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Return columns with their labels, those of an index that has names first.

    No frame is made of them: pandas would infer that objects are text, and where it has Arrow, text is Unicode, which
    the name of a file need not be.
    """
    columns = [(str(label), series) for label, series in frame.items()]
    if any(name is not None for name in frame.index.names):
        levels = [frame.index.get_level_values(number) for number in range(frame.index.nlevels)]
        names = [f"level_{number}" if name is None else str(name) for number, name in enumerate(frame.index.names)]
        columns = [(name, pd.Series(level, frame.index)) for name, level in zip(names, levels, strict=True)] + columns
    return columns


def _split(label: str, series: pd.Series) -> list[tuple[str, pd.Series]]:
    """Give the mean and the half width of an interval a column each, as whoever computes with them needs it."""
    if not _holds_estimates(series):
        return [(label, series)]
    return [
        (label, series.map(lambda value: value.mean)),
        (f"{label} ± 95 %", series.map(lambda value: value.half_width)),
    ]


def _csv(columns: Sequence[tuple[str, pd.Series]]) -> bytes:
    split = [part for column in columns for part in _split(*column)]
    frame = pd.DataFrame({number: _without_formulas(series) for number, (_, series) in enumerate(split)})
    header = [_inert(label) for label, _ in split]
    text = frame.to_csv(index=False, header=header, lineterminator="\n") if split else ""
    return text.encode("utf-8", "backslashreplace")


def _without_formulas(series: pd.Series) -> pd.Series:
    if not (series.dtype == object or isinstance(series.dtype, pd.StringDtype | pd.CategoricalDtype)):
        return series
    return pd.Series([_inert(value) for value in series], series.index, dtype=object)


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value
