"""Tasks on an image that stands in one cell of a canvas: to name the cell, to name its class, to segment it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.analyses.nets import small_net, small_segmenter
from probe.analyses.predictions import predict
from probe.images.canvases import Normalisation, place_on_grid

__all__ = ["CANVASES", "TASKS", "CanvasTask", "LabelledImages", "OnCanvas", "rings"]

TASKS = ("location", "classification", "segmentation")

CANVASES = {"black": "black", "white": "white", "mean": "zero"}
"""Colours, by what they are called before normalisation; normalisation makes the mean zero."""

_STRIDE = 4  # of the networks
_TESTED_AT_ONCE = 256


@dataclass(frozen=True)
class LabelledImages:
    """Normalised images of shape (image, channel, row, column), their labels, and how they were normalised."""

    images: Tensor
    labels: Tensor
    normalisation: Normalisation
    n_classes: int


@dataclass(frozen=True)
class CanvasTask:
    """What is asked of images on canvases of one colour with `grid` × `grid` cells.

    ``location``: the cell. ``classification``: the class of the image. ``segmentation``: for each pixel the class of
    the image that it belongs to, plus one, or 0 for the background.
    """

    name: str
    canvas: str
    grid: int

    def n_answers(self, n_classes: int) -> int:
        """Return the number of different answers."""
        return {"location": self.grid**2, "classification": n_classes, "segmentation": n_classes + 1}[self.name]

    def network(self, data: LabelledImages, *, width: int, seed: int) -> nn.Module:
        """Make an untrained network for the task."""
        make = small_segmenter if self.name == "segmentation" else small_net
        n_channels = data.images.shape[1]
        return make(n_classes=self.n_answers(data.n_classes), n_channels=n_channels, width=width, seed=seed)

    def pose(self, data: LabelledImages, images: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Put images, given by their numbers, into cells; return the canvases and the right answers."""
        device = data.images.device
        images, cells = images.to(device), cells.to(device)
        pixels, classes = data.images[images], data.labels[images]
        colour = CANVASES[self.canvas]
        canvases = place_on_grid(pixels, cells, self.grid, colour, normalisation=data.normalisation)
        if self.name == "location":
            return canvases, cells
        if self.name == "classification":
            return canvases, classes
        squares = (classes + 1)[:, None, None, None].expand(-1, 1, *pixels.shape[2:])
        return canvases, place_on_grid(squares, cells, self.grid)[:, 0]

    def confusion(self, model: nn.Module, data: LabelledImages) -> Tensor:
        """Count the answers of a model on all images in every cell, shape (cell, right answer, its answer)."""
        n_answers = self.n_answers(data.n_classes)
        counts = torch.zeros(self.grid**2, n_answers**2, dtype=torch.long)
        for cell in range(self.grid**2):
            for images in torch.arange(len(data.labels)).split(_TESTED_AT_ONCE):
                canvases, right = self.pose(data, images, torch.full_like(images, cell))
                pairs = n_answers * right + predict(model, canvases)
                counts[cell] += torch.bincount(pairs.flatten().cpu(), minlength=n_answers**2)
        return counts.reshape(-1, n_answers, n_answers)

    def score(self, confusion: Tensor) -> float:
        """Return in percent the share of right answers, or of segmentation the mean intersection over union.

        Parameters
        ----------
        confusion
            Shape (right answer, its answer). The mean is that over classes that occur, background included.

        Examples
        --------
        >>> CanvasTask("segmentation", "black", grid=2).score(torch.tensor([[2, 1], [0, 1]])) / 100
        0.5833333333333333
        """
        right = confusion.diagonal().double()
        if self.name != "segmentation":
            return 100 * float(right.sum() / confusion.sum())
        union = confusion.sum(dim=0) + confusion.sum(dim=1) - right
        return 100 * float((right / union)[confusion.sum(dim=1) > 0].mean())

    def chance(self, n_classes: int) -> float:
        """Return the score, in percent, of the best constant answer; all classes being equally frequent."""
        if self.name == "segmentation":
            return 100 * (1 - 1 / self.grid**2) / (n_classes + 1)
        return 100 / self.n_answers(n_classes)


class OnCanvas(nn.Module):
    """Lays the map of scores of a segmenter on the canvas that it was made of, middle on middle.

    Parameters
    ----------
    segmenter
        From `probe.analyses.nets.small_segmenter`, under any padding. What of its map lies beyond the canvas, as under
        full padding, is cut off; where the map is too small, as without padding, its border is repeated.

    Examples
    --------
    >>> OnCanvas(small_segmenter(n_classes=3))(torch.zeros(1, 1, 24, 24)).shape
    torch.Size([1, 3, 24, 24])
    """

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, canvases: Tensor) -> Tensor:
        """Return the scores, shape (image, class, row, column)."""
        scores = functional.interpolate(self.segmenter(canvases), scale_factor=_STRIDE, mode="bilinear")
        size, canvas = scores.shape[-1], canvases.shape[-1]
        places = (torch.arange(canvas, device=scores.device) + (size - canvas) // 2).clamp(0, size - 1)
        return scores[:, :, places[:, None], places]


def rings(grid: int) -> Tensor:
    """Return how many cells lie between each cell of a grid and the border, row by row.

    Examples
    --------
    >>> rings(3)
    tensor([0, 0, 0, 0, 1, 0, 0, 0, 0])
    """
    along = torch.minimum(torch.arange(grid), torch.arange(grid).flip(0))
    return torch.minimum(along[:, None], along).flatten()
