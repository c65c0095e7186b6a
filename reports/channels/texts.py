"""What the channel report explains: the rankings, the numbers, and how it was all measured."""

from collections.abc import Iterable
from typing import Any

from probe.reports.page.samples import R2_MEANING

__all__ = ["DEFINITIONS", "methods", "ranking_meanings"]

_RANKINGS = {
    "flip": "Flip-difference (Islam et al. 2021): the channel's output averaged over its map, for the image and its "
    "mirror image; mean of the absolute difference over images. It mixes position with the orientation of content.",
    "shift": "The same with the image rolled by half its size instead of mirrored: position changes, orientation does "
    "not.",
    "omega2": "Share of the channel's variance that position explains on rolled images, linearly or not.",
    "readout": "Held-out R² that the linear readout of position loses without the channel, the others refitted.",
    "attribution": "Mean absolute attribution of the position readout's output to the channel.",
}
_VARIANTS = {
    "vertical": " Here from top to bottom.",
    "both": " Here the mean of left to right and top to bottom.",
    **{
        side: f" Here with its sign: first come channels that answer more to what is at the {side}."
        for side in ("left", "right", "top", "bottom")
    },
}

DEFINITIONS = [
    (
        "channels removed",
        "In the forward pass their output is replaced; weights are never touched. Rankings come from one set of "
        "images, scores from another.",
    ),
    (
        "random channels",
        "As many channels, drawn at random from all of the layer. Band: 5th to 95th percentile of the draws.",
    ),
    (
        "as active",
        "Random draws in which each ranked channel is replaced by one of the same decile of mean |activation|: what "
        "is removed is as much, but not the same.",
    ),
    (
        "more than random",
        "Said where the score falls so far below the random draws that neither their spread (Student's t for one more "
        "draw, and no draw lies as far out) nor the sample of images explains it, by a probability that is corrected "
        "for the number of all comparisons.",
    ),
    (
        "Holm",
        "Correction for many comparisons (Holm 1979): all rankings, counts and scores, beside random and beside as "
        "active channels, are one family; the chance of a single false verdict among all of them is at most 5 %.",
    ),
    ("undecided", "Not told from random channels here, with so many images and draws: no evidence either way."),
    (
        "±",
        "95 % interval over the images that are scored (jackknife over folds); of a difference to random channels, "
        "over their draws too.",
    ),
    (
        "R²",
        f"{R2_MEANING} Stated is the mean of row and column.",
    ),
    (
        "rolled",
        "Images shifted circularly by a random offset each, so that their content cannot tell position. What can "
        "still be read comes from the architecture.",
    ),
    ("rank correlation", "Spearman's, over all channels of the layer."),
    ("split-half stability", "Rank correlation of the same ranking made from two halves of the images."),
    ("mean map", "Mean over images of one channel at each position, about its average over the map."),
    (
        "Δ",
        "Output of the channel averaged over its map, for the image minus for its mirror image. The images shown have "
        "the largest of all those read; their contrast is stretched for display.",
    ),
]


def ranking_meanings(rankings: Iterable[str]) -> list[tuple[str, str]]:
    """Return each ranking with what it orders channels by."""
    pairs = []
    for ranking in rankings:
        method, _, variant = ranking.partition("-")
        pairs.append((ranking, _RANKINGS.get(method, "") + _VARIANTS.get(variant, "")))
    return pairs


def methods(settings: dict[str, Any]) -> list[str]:
    """Tell how channels were removed and position was read."""
    modes = {
        "zero": "set to 0",
        "mean": "replaced by their own mean over the map: position goes, amount stays",
        "resample": "replaced by those of another image",
    }
    mode = settings.get("mode")
    return [
        f"Removed channels are {modes.get(str(mode), mode)}. {settings.get('draws')} random draws for each count, from "
        f"seed {settings.get('seed')}.",
        "The headline is the removal that does the most harm for each channel removed, of those that go beyond random "
        "and as active draws. How many channels are removed for the figures with one count, and to read position, is "
        "settled before the scores are known: the largest count that is no more than half of the channels.",
        "Position is read anew from at most 500 images, with readouts fitted to what is left: they tell whether "
        "position is still there, not whether the model still uses it.",
    ]
