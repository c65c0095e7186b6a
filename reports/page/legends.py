"""Legends of figures that the library's functions drew into axes of a page."""

import numpy as np
from matplotlib.figure import Figure

__all__ = ["move_legend_above"]

_LETTER = 0.6  # of the size of the text


def move_legend_above(figure: Figure, axes: np.ndarray) -> None:
    """Move the legend of the first axes above all of them, where it hides nothing."""
    first = np.asarray(axes, dtype=object).ravel()[0]
    legend = first.get_legend()
    if legend is None:
        return
    texts = legend.get_texts()
    labels = [text.get_text() for text in texts]
    # A legend's own handles of error bars have lost their markers.
    drawn = dict(zip(*reversed(first.get_legend_handles_labels()), strict=True))
    handles = [drawn.get(label, own) for label, own in zip(labels, legend.legend_handles, strict=True)]
    longest = (max(map(len, labels)) + 6) * _LETTER * texts[0].get_fontsize()  # points, with the line before a label
    columns = max(1, min(len(labels), int(72 * figure.get_figwidth() / longest)))
    columns = -(-len(labels) // -(-len(labels) // columns))  # rows alike
    legend.remove()
    moved = figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize="medium")
    for text in moved.get_texts():
        text.set_parse_math(False)
