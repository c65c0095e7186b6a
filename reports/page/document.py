"""The page every report is: a title, sections, and in them text, figures and tables, all in one HTML file.

The file asks nothing of any network, runs no script but its own, and can be read without scripts. Everything
it shows is escaped: no name of a layer, file or class can become markup.
"""

import base64
import hashlib
import html
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from probe.errors import ArgumentError, ProbeWarning
from probe.reports.page.blocks import (
    Block,
    BulletList,
    Code,
    Definitions,
    ImageFormat,
    Paragraph,
    draw_picture,
    lay_out_table,
)
from probe.results import write_atomically

__all__ = ["Report", "Section"]

SHORT_NAME = 12  # characters; names up to this length stay on one line
LARGE_FILE = 10_000_000  # bytes; beyond this browsers become slow and mail servers refuse the file


class Section:
    """One section of a report, made by `Report.add_section`; its blocks are shown in the order of adding.

    Attributes
    ----------
    title : str
        The heading, also shown in the contents.
    slug : str
        The section's id in the page, for links such as ``report.html#findings``.
    """

    def __init__(self, title: str, slug: str) -> None:
        self.title = title
        self.slug = slug
        self.blocks: list[Block] = []

    @property
    def terms(self) -> list[str]:
        """The terms whose mentions lead to their meaning here."""
        defined = [block for block in self.blocks if isinstance(block, Definitions) and block.linked]
        return [term for block in defined for term, _ in block.pairs]

    def add_paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self.blocks.append(Paragraph(text))

    def add_note(self, text: str) -> None:
        """Add a paragraph that is set apart: a warning, a limit of the method."""
        self.blocks.append(Paragraph(text, kind="note"))

    def add_list(self, sentences: Iterable[str]) -> None:
        """Add a list of sentences; in the first section they are shown large, as the findings."""
        self.blocks.append(BulletList(list(sentences)))

    def add_definitions(self, pairs: Iterable[tuple[str, str]], *, linked: bool = False) -> None:
        """Add pairs of a term and its meaning; `linked`, the first mention of a term in each text leads to it."""
        self.blocks.append(Definitions(list(pairs), linked))

    def add_code(self, title: str, text: str) -> None:
        """Add text in a fixed-width face, folded away under its title."""
        self.blocks.append(Code(title, text))

    def add_json(self, title: str, value: Any) -> None:
        """Add settings as JSON, folded away under their title; NumPy's numbers and arrays are allowed."""
        self.add_code(title, json.dumps(value, indent=2, ensure_ascii=False, default=_plain))

    def add_figure(
        self,
        figure: Figure,
        *,
        caption: str,
        alt: str,
        table: pd.DataFrame | None = None,
        image_format: ImageFormat = "auto",
    ) -> None:
        """Add a figure as it is now; it is neither changed nor closed.

        Parameters
        ----------
        figure : matplotlib.figure.Figure
            Shown on a white plate, in its own size where the page is wide enough.
        caption : str
            What the reader should see. The number of the figure is put before it.
        alt : str
            What the figure shows, with its main numbers, for readers who cannot see it.
        table : pandas.DataFrame, optional
            The numbers plotted, folded away below the figure.
        image_format : {"auto", "svg", "png"}
            "auto" takes SVG up to 1,000 shapes, else PNG at 192 dots an inch.

        Raises
        ------
        ArgumentError
            If `alt` is empty, or `figure` is not a Figure.
        """
        numbers = None if table is None else lay_out_table(table)
        self.blocks.append(draw_picture(figure, caption=caption, alt=alt, table=numbers, image_format=image_format))

    def add_table(
        self,
        frame: pd.DataFrame,
        *,
        caption: str,
        name: str,
        formats: Mapping[str, str] | None = None,
        digits: int = 3,
        max_rows: int = 200,
    ) -> None:
        """Add a table that can be sorted, with all its rows in full precision as CSV.

        Parameters
        ----------
        frame : pandas.DataFrame
            An index with names becomes columns; an index without is not shown.
        caption : str
            What the table holds. The number of the table is put before it.
        name : str
            Of the CSV file, without ending. Texts in it that a spreadsheet would run as a formula begin with '.
        formats : mapping, optional
            Column to format specification, as ``{"p": ".2g"}``.
        digits : int
            Decimals of all other numbers that are not whole.
        max_rows : int
            As many rows are shown; the page says how many there are.

        Raises
        ------
        ArgumentError
            If `formats` names an unknown column, or a format does not fit its column.
        """
        self.blocks.append(
            lay_out_table(frame, caption=caption, name=_slug(name), formats=formats, digits=digits, max_rows=max_rows)
        )


class Report:
    """One self-contained HTML page. The same content gives the same bytes.

    Parameters
    ----------
    title : str
        The page's heading.
    summary : str
        A paragraph below it: what was measured, on what, and what came out.

    Examples
    --------
    >>> report = Report("Padding and position", summary="Three networks, seven paddings.")
    >>> findings = report.add_section("Findings")
    >>> findings.add_list(["Zero padding: R² 0.52. Circular padding: R² 0.00."])
    >>> page = report.html()
    >>> "Circular padding: R² 0.00." in page
    True

    In a notebook the report shows itself; ``report.save("report.html")`` writes it to a file.
    """

    def __init__(self, title: str, *, summary: str = "") -> None:
        self.title = title
        self.summary = summary
        self.sections: list[Section] = []

    def add_section(self, title: str) -> Section:
        """Add an empty section at the end; its id is made from the title, and unique."""
        section = Section(title, _unique(_slug(title), {section.slug for section in self.sections}))
        self.sections.append(section)
        return section

    def html(self) -> str:
        """Return the page."""
        style, script = _template_text("style.css"), _template_text("script.js")
        return _page_template().render(
            report=self,
            terms=[term for section in self.sections for term in section.terms],
            style=Markup(style),
            script=Markup(script),
            policy="; ".join(
                [
                    "default-src 'none'",
                    "img-src data:",
                    f"style-src '{_digest(style)}'",
                    f"script-src '{_digest(script)}'",
                    "base-uri 'none'",
                    "form-action 'none'",
                ]
            ),
        )

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the page to a file, whole or not at all.

        Parameters
        ----------
        path : path
            In a folder that exists.
        overwrite : bool
            Whether an existing file may be replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ResultFileError
            If the file exists, is a folder or cannot be written. An existing file is then as it was.

        Warns
        -----
        ProbeWarning
            If the page is larger than 10 MB.
        """
        path = Path(path)
        # A file name that is not valid Unicode may have come into the text; it becomes a visible sign.
        content = self.html().encode("utf-8", "xmlcharrefreplace")
        if len(content) > LARGE_FILE:
            warnings.warn(
                f"{path} takes {len(content) / 1e6:.1f} MB, more than {LARGE_FILE / 1e6:.0f} MB, and will open "
                'slowly: show fewer figures or rows, or pass image_format="png" to add_figure',
                ProbeWarning,
                stacklevel=2,
            )
        return write_atomically(path, content, overwrite=overwrite)

    def _repr_html_(self) -> str:
        # In a frame of its own, so that neither the notebook's style nor the page's reaches the other.
        return (
            f'<iframe title="{html.escape(self.title)}" sandbox="allow-scripts allow-downloads" '
            f'width="100%" height="720" style="border: 0" srcdoc="{html.escape(self.html())}"></iframe>'
        )


def _page_template() -> Any:
    environment = Environment(
        loader=PackageLoader("probe.reports.page"),
        autoescape=True,  # for every template, whatever its ending
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["anchor"] = _anchor
    environment.filters["linked"] = _linked
    return environment.get_template("page.html.jinja")


def _breakable(text: str) -> Markup:
    """Allow a line to end within a long name, as after the dots of ``features.denseblock4.conv2``."""
    parts = re.split(r"(?<=[._/])(?=[A-Za-z])", text) if len(text) > SHORT_NAME else [text]
    return Markup("<wbr>").join(parts)


def _anchor(term: str) -> str:
    return f"term_{_slug(term)}"


def _linked(text: str, terms: Sequence[str]) -> Markup:
    """Escape a text, and let the first mention of each term in it lead to the meaning of the term."""
    in_words = [term for term in terms if any(sign.isalpha() for sign in term)]
    named = "|".join(re.escape(term) for term in sorted(in_words, key=len, reverse=True))
    if not named:
        return escape(text)
    parts, end, met = [], 0, set()
    # No term within a word, or within the name of a layer.
    for mention in re.finditer(rf"(?<![\w./-])(?:{named})(?![\w/-]|\.\w)", text):
        if mention[0] not in met:
            met.add(mention[0])
            link = Markup('<a class="term" href="#{}">{}</a>').format(_anchor(mention[0]), mention[0])
            parts += [escape(text[end : mention.start()]), link]
            end = mention.end()
    return Markup("").join([*parts, escape(text[end:])])


def _template_text(name: str) -> str:
    return (resources.files("probe.reports.page") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _slug(title: str) -> str:
    """Return lower-case ASCII letters, digits and hyphens; the template's own ids hold an underscore."""
    letters = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-") or "section"


def _unique(slug: str, taken: set[str]) -> str:
    number, candidate = 1, slug
    while candidate in taken:
        number += 1
        candidate = f"{slug}-{number}"
    return candidate


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ArgumentError(f"{value!r} of type {type(value).__name__} has no form in JSON; convert it to text first")
