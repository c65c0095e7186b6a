"""What the padding report explains: the numbers, the paddings, and how it was all measured."""

from typing import Any

import xarray as xr

from probe.reports.padding_comparison.estimates import is_given
from probe.reports.page.samples import R2_MEANING

__all__ = ["PADDINGS", "definitions", "digit_methods", "given_methods", "readout_methods"]

_DEFINITIONS = [
    (
        "R²",
        f"{R2_MEANING} Stated is the mean of row and column.",
    ),
    ("natural", "The images as they are: content tells position, for example by light from above."),
    (
        "rolled",
        "The same images, each shifted circularly by an offset of its own, uniform on both axes. Content is then "
        "independent of position, and what can still be read comes from the architecture.",
    ),
    (
        "natural − rolled",
        "What content adds, taken within each fold of images, since both stimuli are made from the same images, and "
        "averaged over folds.",
    ),
    ("r2_se", "Standard error of R² of one network: delete-one-fold jackknife over folds of images."),
    ("r2_null", "R² with positions shuffled anew in every image: 0 up to noise."),
    (
        "r2_control",
        "Mean R² of 8 fixed random permutations of the grid. High: a full code of position; low beside a high R²: a "
        "smooth one.",
    ),
    (
        "bits",
        "−½ log₂(1 − R²), at most log₂ of the number of rows or columns: R² on the scale of information, as for "
        "Gaussian variables.",
    ),
    (
        "ω²",
        "Share of the variance of one channel that position explains, linearly or not, in the two-way layout of "
        "positions and images. 0 in expectation where position plays no part.",
    ),
    ("decoded map", "The readout applied to the mean activation at each position: where it believes each cell to be."),
    ("mean activation map", "Mean over images of one channel at each position."),
    ("samples_per_feature", "Cells that the readout saw for each channel. R² is too low where they are fewer than 5."),
]
_OVER_SEEDS = (
    "±",
    "95 % t interval over networks trained from different seeds; of two seeds both values are shown in its place. "
    "Differences between paddings, and between a trained network and its untrained twin, are taken within each seed "
    "first. A difference whose interval contains 0 is called a tie; an R² below 0.01 counts as none.",
)
_OVER_IMAGES = (
    "±",
    "95 % interval over the images (jackknife over folds) of this one network; differences are taken within each "
    "fold. A difference whose interval contains 0 is called a tie; an R² below 0.01 counts as none.",
)
_TWIN = ("untrained", "The same network with the weights that its training started from.")
_GIVEN = [
    ("own padding", "The padding that the model comes with, and its weights belong to."),
    (
        "accuracy",
        "Share of images whose predicted class is their label: the folder that they are in, where there are as many "
        "folders as the model has outputs.",
    ),
    ("predictions as its own", "Share of images with the same predicted class as under the model's own padding."),
    (
        "not ranked",
        "A padding under which the accuracy falls below half of that under the own padding, or is not above that of a "
        "constant answer beyond its error. Where accuracy is not known, or the model as it is does not beat a "
        "constant answer, predictions as its own are judged in the same way.",
    ),
]
PADDINGS = {
    "zeros": "zeros around the map",
    "reflect": "the map mirrored at its border",
    "replicate": "the pixels of the border repeated",
    "circular": "the opposite side of the map",
    "partial": "zeros, with the response re-weighted by the share of the window inside the map (Liu et al. 2018)",
    "valid": "none: the maps shrink",
    "full": "kernel − 1 zeros: every pixel is seen by every weight, and the maps grow (Kayhan and van Gemert 2020)",
}


def definitions(result: xr.Dataset) -> list[tuple[str, str]]:
    """Return the meaning of each term that the page of a result uses."""
    given = is_given(result)
    own = _GIVEN if given else []
    twin = [_TWIN] if "untrained" in result.training else []
    return [*_DEFINITIONS[:4], _OVER_IMAGES if given else _OVER_SEEDS, *own, *twin, *_DEFINITIONS[4:]]


def digit_methods(training: dict[str, Any]) -> list[str]:
    """Tell how the embedded networks are made, trained and shown images."""
    return [
        "The networks have four 3×3 convolutions (16, 24, 32 and 32 channels; strides 2, 1, 2, 1), each with batch "
        "normalisation and ReLU, then the mean over the map and a linear layer. They are made once and converted to "
        f"each padding before training: {training.get('steps')} steps of AdamW on batches of "
        f"{training.get('batch_size')}, on a one-cycle schedule. Networks of one seed start from the same weights and "
        "see the same images in the same order; they differ in padding alone.",
        "The images are scikit-learn's handwritten digits, enlarged to 16×16 pixels and placed on a canvas of 32×32 as "
        "a photographer would: near the middle more often than at the border, on a background lit from above and "
        "somewhat from the left. So position can be told from content, as in photographs. Every fourth digit is held "
        "out, at placements drawn apart from those of training.",
        "Two limits. With even sizes, stride 2 and one pixel of padding, windows reach over the top and the left "
        "border but not over the bottom and the right one, as in most networks for photographs. And the networks are "
        "small: how far a border is felt grows with depth.",
    ]


def given_methods() -> list[str]:
    """Tell what is exchanged in a given model."""
    return [
        "The padding of every convolution and pooling layer of the model that can be converted is exchanged (warnings "
        "name the others); weights and all else stay as "
        "they are, bit for bit. Agreement is measured on up to 1,000 of the images, each rolled twice."
    ]


def readout_methods(probing: dict[str, Any]) -> str:
    """Tell how position is read."""
    return (
        f"Readouts: ridge regression (alpha {probing.get('alpha')}), cross-validated over {probing.get('folds')} folds "
        "of images. Intervals are 95 % t intervals. Layers: the input, and every convolution or transformer block with "
        "a map larger than 1×1."
    )
