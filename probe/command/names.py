"""The names that options take, so that they are checked before anything heavy is loaded; tests hold them true."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CLIP_STIMULI",
    "DEVICES",
    "LAWS",
    "PADDINGS",
    "POSITION_EMBEDDINGS",
    "RANKINGS",
    "SAMPLINGS",
    "SCORES",
    "STIMULI",
    "STUDIES",
    "TARGETS",
    "near_names",
]

TARGETS = ("row", "column", "radius", "border", "gaussian", "stripes_row", "stripes_column", "frame")
STIMULI = ("natural", "rolled", "noise", "constant")
CLIP_STIMULI = ("rolled_space", "rolled_time")
PADDINGS = ("zeros", "reflect", "replicate", "circular", "partial", "valid", "full")
POSITION_EMBEDDINGS = ("zero", "mean", "shuffled")
SAMPLINGS = ("blur", "polyphase")
SCORES = ("accuracy", "miou", "miou:left", "miou:centre", "miou:right", "agreement", "position")
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "npu", "mtia", "maia", "xla")
LAWS = ("crop", "circular", "zero", "zhang", "kayhan", "chaman", "chaman_zero")
_MOVES = ("flip", "shift")
_SIDES = ("left", "right", "top", "bottom", "vertical", "both")
RANKINGS = (*_MOVES, "omega2", "readout", "attribution", *(f"{move}-{side}" for move in _MOVES for side in _SIDES))
STUDIES = (
    "actions",
    "audit",
    "augshift",
    "border_reach",
    "data_efficiency",
    "erasing",
    "gapnet",
    "location_dependent",
    "padding_comparison",
    "patch_matching",
    "posenet",
    "quadrants",
    "red_green",
    "rook",
    "shifts",
    "similarity",
)


def near_names(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that offers names like one that is unknown.

    Examples
    --------
    >>> near_names("pading", ["padding", "channels"])
    ' Did you mean padding?'
    >>> near_names("x", ["padding", "channels"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" Did you mean {', '.join(near)}?" if near else ""
