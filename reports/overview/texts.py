"""What the page of one model explains besides the terms of its parts, and how all was measured."""

from collections.abc import Mapping
from typing import Any

from probe.reports.overview.parts import LEAST_AGREEMENT, Overview
from probe.reports.page.estimates import joined
from probe.reports.page.provenance import json_attribute

__all__ = ["DEFINITIONS", "methods"]

DEFINITIONS = {
    "untrained": "The same architecture with the random weights of a start.",
    "positions shuffled": "R² with the positions of all cells shuffled anew in every image: 0 up to noise.",
    "any map": "Mean R² of 8 fixed random permutations of the grid: how well any map of the cells can be read. High: a "
    "full code of position; low beside a high R²: a smooth one.",
    "predictions as before": "Share of images with the same predicted class as of the model as it is.",
    "not ranked": f"With fewer than {100 * LEAST_AGREEMENT:.0f} % of the predictions as before, or no more than one "
    "and the same answer to all images would get, a changed model does its task no more: what its features tell of "
    "position means little. Grey in the figure.",
    "decoded position": "The readouts of row and column applied to the mean activation at each cell: an arrow leads "
    "from the cell to where they place it.",
}


_UNLABELLED = {
    "agreement": "agreement is the share of images with the same predicted class after a circular shift by a random "
    "offset (for predictions at every pixel: of pixels, compared where they came from)",
    "cosine": "cosine is the mean cosine similarity of the embeddings of an image and of the same after a circular "
    "shift by a random offset",
}


def methods(whole: Overview, settings: Mapping[str, Any]) -> list[str]:
    """Tell how everything was measured, ready to be pasted into a paper."""
    where = json_attribute(whole.where, "settings")
    paragraphs = [
        f"Absolute position was read from the feature maps of {whole.model} by ridge regression on standardised "
        f"channels (α = {where.get('alpha', '?')}), which predicts the row and the column of each cell from the "
        f"channels at that cell, cross-validated over {where.get('folds', '?')} folds of "
        f"{whole.where.attrs.get('n_images', '?')} images. R² = 1 − SSE/SST of held-out cells, estimated without the "
        "bias of small samples from pairs of readouts that are fitted to disjoint halves of the training folds. "
        "Stated is the mean of row and column, with the 95 % interval over images (jackknife over folds). Images were "
        "shown as they are (natural) and each rolled circularly by a random offset (rolled), which makes content "
        "independent of position, so that what is left comes from the architecture.",
    ]
    if whole.variants:
        paragraphs.append(
            f"The same was read with one thing changed and the weights as they were: {joined(whole.variants)}. "
            "Differences are taken within folds of images. A changed model with fewer than "
            f"{100 * LEAST_AGREEMENT:.0f} % of its predictions as before, or no more than a constant answer would "
            "get, is not ranked."
        )
    if "border" in whole.parts:
        paragraphs.append(
            "How far the border reaches was measured on rolled images: the mean activation at each distance from a "
            "side, in the middle third along it, beside that in the middle third of the map, as a squared difference "
            "over the channel's variance, averaged over channels and sides. It is estimated from products of the means "
            "of different folds of images, so that it is 0 in expectation where position plays no part. It reaches as "
            "far as the lower end of the 95 % interval exceeds "
            f"{100 * float(whole.parts['border'].attrs['threshold']):.3g} % on some side."
        )
    if whole.parts.keys() & {"erasing", "stronger", "rereading"}:
        ranks = joined(map(str, settings.get("ranks", ["?"])))
        paragraphs.append(
            f"Position was erased from {whole.layer} by affine maps of the features of each cell, in closed form from "
            f"their covariances: LEACE (Belrose et al. 2023) of row and column, and of every position; readouts of "
            f"row and column projected out one after the other; and the leading directions of the mean map, at ranks "
            f"{ranks}. Erasers are fitted to some folds of images, and readouts anew to others. Beside them stand "
            f"{settings.get('draws', '?')} random subspaces of each rank. Erasing is linear and cell by cell: what "
            "readouts of neighbourhoods and perceptrons still find is measured beside it."
        )
    if "ablation" in whole.parts:
        paragraphs.append(
            f"Channels of {whole.layer} were ranked by ω² on rolled images and set to 0 in the forward pass, beside "
            f"{max(int(settings.get('draws', 2)), 2)} random draws of as many."
        )
    score = settings.get("score", "?")
    score = score if isinstance(score, str) else joined(score)
    paragraphs.append(
        f"Scores ({score}) are of the same images"
        + (
            "."
            if settings.get("labelled")
            else f"; there are no labels: {_UNLABELLED.get(score, 'they are of the outputs alone')}."
        )
    )
    return paragraphs
