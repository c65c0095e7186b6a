"""What a page opens with: what the reader must know first, the findings, and a picture among them."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from probe.reports.page.blocks import BulletList, Picture
from probe.reports.page.document import Report, Section
from probe.reports.page.estimates import joined

__all__ = ["PRESET_NOTES", "add_findings", "add_shown", "lead_with_a_picture"]

PRESET_NOTES = {
    "tiny": "A trial: the preset “tiny” is for tests; networks that are trained learn nothing in it.",
    "quick": "The preset “quick” shortens the protocol; “paper” runs it in full.",
}
_BEFORE_THE_PICTURE = 2  # findings
_IMAGE = 1.45  # inches
_MOST_IN_A_ROW = 8
_MOST_IN_TURN = 2  # more names stand above columns of their own
_TITLE = 16  # characters


def add_findings(report: Report, sentences: Sequence[str], notes: Iterable[str] = ()) -> Section:
    """Add the section of the findings, below the notes that limit them."""
    section = report.add_section("Findings")
    for note in notes:
        section.add_note(note)
    for part in (sentences[:_BEFORE_THE_PICTURE], sentences[_BEFORE_THE_PICTURE:]):
        if part:
            section.add_list(part)
    return section


def lead_with_a_picture(report: Report) -> None:
    """Move the first figure of the page between its findings, so that it is on the first screen."""
    first, *others = report.sections
    for section in others:
        for block in section.blocks:
            if isinstance(block, Picture):
                section.blocks.remove(block)
                lists = [place for place, item in enumerate(first.blocks) if isinstance(item, BulletList)]
                first.blocks.insert(lists[0] + 1 if lists else len(first.blocks), block)
                if not section.blocks:
                    report.sections.remove(section)
                return


def add_shown(report: Report, result: xr.Dataset) -> bool:
    """Add a section with the images that the network was shown, if the result holds some; say whether it does."""
    if "shown_image" not in result:
        return False
    names = [str(name) for name in result.shown.values]
    count = result.sizes["shown_number"]
    report.add_section("What the network was shown").add_figure(
        _draw_strip(result.shown_image.transpose("shown_number", "shown", ...).values, names),
        caption=f"What the network was shown: {f'{count} of the images, each as' if count > 1 else 'images'} "
        f"{joined(f'“{name}”' for name in names)}. Small copies, brought to one size, each image on one "
        "scale of brightness.",
        alt=f"{count} {'images' if count > 1 else 'image'}, a picture for each of {', '.join(names)}.",
        image_format="png",
    )
    return True


def _draw_strip(images: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw images of shape (number, name, row, column, colour), side by side, or a row of them for each number."""
    n_numbers, n_names = images.shape[:2]
    n_columns = n_names if n_names > _MOST_IN_TURN or n_numbers * n_names > _MOST_IN_A_ROW else n_numbers * n_names
    n_rows = n_numbers * n_names // n_columns
    figure = Figure(figsize=(_IMAGE * n_columns, (_IMAGE + 0.25) * n_rows), layout="constrained")
    for place, ax in enumerate(figure.subplots(n_rows, n_columns, squeeze=False).ravel()):
        ax.imshow(images[place // n_names, place % n_names], interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        if n_rows == 1 or place < n_names:
            ax.set_title("\n".join(wrap(names[place % n_names], _TITLE)), fontsize="medium", parse_math=False)
    return figure
