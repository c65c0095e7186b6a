"""How well a model does: scores from amounts that add up over images, so that memory does not grow with them."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from probe.axes import sized
from probe.errors import ArgumentError, ImagesError, counted
from probe.images.labels import Labels
from probe.images.stimuli import apply_stimulus
from probe.intervals import half_width

__all__ = [
    "REGIONS",
    "SCORES",
    "Accuracy",
    "Agreement",
    "MeanIoU",
    "PerImage",
    "Score",
    "Shown",
    "at_chance",
    "resolve_scores",
]

REGIONS = {"left": (0, 1), "centre": (1, 2), "right": (2, 3)}
"""Thirds of the columns of an image, as their first and last plus one."""

_UNKNOWN = -1

ScoreFunction = Callable[..., Tensor]
Region = str | Sequence[Sequence[bool]] | np.ndarray | Tensor


@dataclass(frozen=True)
class Shown:
    """Some images, and what a model gave for them.

    Attributes
    ----------
    outputs : dict
        Stimulus -> first tensor of the model's output, shape (image, class) or (image, class, *size) for the scores
        that come with probe.
    labels : Labels
        Of each image, as the data set gives them; empty where no score asks for them.
    numbers : list of int
        The image numbers.
    size : tuple of int
        Size of the images: rows and columns, of clips and volumes with frames before them.
    seed : int
        Of the stimuli.
    """

    outputs: Mapping[str, Tensor]
    labels: Sequence[Any]
    numbers: Sequence[int]
    size: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Labels):
            object.__setattr__(self, "labels", Labels(self.labels))

    @cached_property
    def classes(self) -> dict[str, Tensor]:
        """Stimulus -> predicted class, shape (image,) or (image, row, column); −1 where the model gave NaN."""
        return {stimulus: _predicted(output) for stimulus, output in self.outputs.items()}

    @cached_property
    def targets(self) -> Tensor:
        """The classes that the labels of all images are, on the device of the outputs."""
        return self._labels.classes.to(self.outputs["natural"].device)

    @cached_property
    def values(self) -> Tensor | list[Any]:
        """The labels as they are; see `Labels.values`."""
        values = self._labels.values
        return values.to(self.outputs["natural"].device) if isinstance(values, Tensor) else values

    @property
    def _labels(self) -> Labels:
        return cast(Labels, self.labels)


class Score(Protocol):
    """Amounts of each image, which add up, and a value from their sums.

    One that compares classes also has ``margins`` and ``chance``, as `Accuracy`.
    """

    stimuli: tuple[str, ...]
    needs_labels: bool

    def amounts(self, shown: Shown) -> Tensor:
        """Return what to add up, shape (image, amount)."""
        ...

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the score of sums of shape (..., amount), shape (...); NaN where nothing was counted."""
        ...


class Accuracy:
    """Share of images, or of pixels, whose predicted class is their label; labels that are no class are left out."""

    stimuli: tuple[str, ...] = ("natural",)
    needs_labels = True

    def amounts(self, shown: Shown) -> Tensor:
        """Return the number of right predictions and of labels."""
        predicted, targets = _compared(shown)
        known = (targets >= 0) & (targets < shown.outputs["natural"].shape[1])
        right = (predicted == targets) & known
        counts = torch.stack([_by_image(right).sum(dim=1), _by_image(known).sum(dim=1)], dim=1)
        return _nan_where_unknown(counts, predicted)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return right predictions over labels."""
        return _ratio(sums[..., 0], sums[..., 1])

    def margins(self, shown: Shown) -> Tensor:
        """Return how often each class is labelled, and how often predicted, shape (2, class)."""
        return _margins(*_compared(shown), shown.outputs["natural"].shape[1])

    def chance(self, margins: np.ndarray) -> float:
        """Return what is expected of the same predictions, given to images at random."""
        labelled, predicted = margins / margins.sum(axis=1, keepdims=True)
        return float(labelled @ predicted)


class MeanIoU:
    """Mean over classes of intersection over union, from the confusion matrix of all pixels of all images.

    Labels that are no class of the model (void) are left out, and so are classes that are neither labelled nor
    predicted.

    Parameters
    ----------
    region
        ``"left"``, ``"centre"`` or ``"right"`` third of the columns, a mask of shape (row, column) that is true where
        pixels count, or None for all pixels.

    Raises
    ------
    ArgumentError
        If there is no such region.

    Examples
    --------
    >>> import probe, torch
    >>> from probe.testing import noise_images, padded_net
    >>> net, images = padded_net("zeros", width=4), noise_images(4, size=8)
    >>> labelled = torch.utils.data.TensorDataset(images, net(images).argmax(dim=1))  # labels of pixels
    >>> left = torch.arange(8).lt(4).expand(8, 8)
    >>> score = {"left half": probe.MeanIoU(left), "all": probe.MeanIoU()}
    >>> kept = {"score": score, "draws": 2, "progress": False}
    >>> probe.ablation_curve(net, labelled, range(4), layer="conv4", counts=[1], **kept).intact.values
    array([1., 1.])
    """

    stimuli: tuple[str, ...] = ("natural",)
    needs_labels = True

    def __init__(self, region: Region | None = None) -> None:
        if isinstance(region, str) and region not in REGIONS:
            raise ArgumentError(f"score: no region {region!r}; expected {', '.join(REGIONS)} or a mask.")
        self._region = region if region is None or isinstance(region, str) else torch.as_tensor(region).bool()

    def amounts(self, shown: Shown) -> Tensor:
        """Return the confusion matrix of each image, flattened: labels × predictions."""
        predicted, targets = _compared(shown)
        if targets.ndim != 3:
            raise ImagesError("score 'miou': the labels are single classes; expected one for each pixel.")
        n_classes = shown.outputs["natural"].shape[1]
        predicted, targets = self._inside(predicted), self._inside(targets)
        known = (targets >= 0) & (targets < n_classes) & (predicted != _UNKNOWN)
        # What is unknown is counted in one more place, and forgotten.
        pairs = torch.where(known, targets * n_classes + predicted, n_classes**2).flatten(1)
        counts = [torch.bincount(pairs_of_image, minlength=n_classes**2 + 1)[:-1] for pairs_of_image in pairs]
        return _nan_where_unknown(torch.stack(counts), predicted)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean intersection over union."""
        n_classes = round(sums.shape[-1] ** 0.5)
        confusion = sums.reshape(*sums.shape[:-1], n_classes, n_classes)
        both = np.diagonal(confusion, axis1=-2, axis2=-1)
        either = confusion.sum(axis=-1) + confusion.sum(axis=-2) - both
        found = either > 0
        return _ratio(np.where(found, both / np.maximum(either, 1), 0).sum(axis=-1), found.sum(axis=-1))

    def margins(self, shown: Shown) -> Tensor:
        """Return how often each class is labelled, and how often predicted, shape (2, class)."""
        predicted, targets = (self._inside(maps) for maps in _compared(shown))
        return _margins(predicted, targets, shown.outputs["natural"].shape[1])

    def chance(self, margins: np.ndarray) -> float:
        """Return what is expected of the same predictions, given to pixels at random."""
        return float(self.value(np.outer(*margins).ravel() / margins.sum()))

    def _inside(self, maps: Tensor) -> Tensor:
        """Return the pixels of the region, shape (image, ...)."""
        if self._region is None:
            return maps
        if isinstance(self._region, str):
            first, last = (third * maps.shape[2] // 3 for third in REGIONS[self._region])
            return maps[:, :, first:last]
        if self._region.shape != maps.shape[1:]:
            raise ArgumentError(
                f"score: a mask of shape {tuple(self._region.shape)} for labels of {tuple(maps.shape[1:])}."
            )
        return maps[:, self._region.to(maps.device)]


class Agreement:
    """Share of images with the same predicted class after a circular shift by a random offset.

    For predictions at every pixel: share of pixels, compared where they came from.
    """

    stimuli: tuple[str, ...] = ("natural", "rolled")
    needs_labels = False

    def amounts(self, shown: Shown) -> Tensor:
        """Return the share of each image, and 1."""
        natural, rolled = shown.classes["natural"], shown.classes["rolled"]
        if natural.ndim > 1:
            if natural.shape[1:] != shown.size:
                raise ArgumentError(
                    f"score 'agreement': predictions on {sized(natural.shape[1:])} cells cannot be shifted with images "
                    f"of {sized(shown.size)} pixels. Pass a model that predicts every pixel."
                )
            natural = natural.flatten(1).gather(1, self._origins(shown).to(natural.device))
        same = (_by_image(natural) == _by_image(rolled)).double().mean(dim=1)
        shares = torch.stack([same, torch.ones_like(same)], dim=1)
        return _nan_where_unknown(_nan_where_unknown(shares, natural), rolled)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean share."""
        return _ratio(sums[..., 0], sums[..., 1])

    def _origins(self, shown: Shown) -> Tensor:
        """Return which pixel the shift has brought to each place, shape (image, pixel)."""
        pixels = torch.arange(math.prod(shown.size), dtype=torch.float64, device="cpu").reshape(1, 1, *shown.size)
        pixels = pixels.expand(len(shown.numbers), 1, *shown.size)
        return apply_stimulus("rolled", pixels, shown.numbers, shown.seed).long().flatten(1)


class PerImage:
    """The mean over images of a function's values.

    Parameters
    ----------
    name
        For messages.
    function
        (output,) or (output, labels) -> a value for each image, shape (image,). The output is the first tensor of
        the model's. The labels are as the data set gives them: stacked to one tensor where they are numbers or arrays
        of one shape, else a list.
    """

    stimuli: tuple[str, ...] = ("natural",)

    def __init__(self, name: str, function: ScoreFunction) -> None:
        self._name, self._function = name, function
        parameters = inspect.signature(function).parameters.values()
        required = [
            p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        self.needs_labels = len(required) > 1

    def amounts(self, shown: Shown) -> Tensor:
        """Return the value of each image, and 1."""
        output = shown.outputs["natural"]
        values = self._function(output, shown.values) if self.needs_labels else self._function(output)
        values = torch.as_tensor(values, device=output.device)
        if values.shape != (len(output),):
            raise ArgumentError(
                f"score {self._name!r}: it returned shape {tuple(values.shape)} for "
                f"{counted(len(output), 'image')}; expected one value for each image."
            )
        return torch.stack([values.double(), torch.ones_like(values, dtype=torch.float64)], dim=1)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean."""
        return _ratio(sums[..., 0], sums[..., 1])


SCORES: dict[str, Callable[[], Score]] = {
    "accuracy": Accuracy,
    "miou": MeanIoU,
    "miou:left": lambda: MeanIoU("left"),
    "miou:centre": lambda: MeanIoU("centre"),
    "miou:right": lambda: MeanIoU("right"),
    "agreement": Agreement,
}
"""The scores that have a name, and how they are made."""


def resolve_scores(score: Any) -> dict[str, Score]:
    """Return the scores that are asked for, by name.

    Parameters
    ----------
    score
        A name of `SCORES`, a mapping of names to functions, scores or names, or several of these.

    Raises
    ------
    ArgumentError
        If there is none of this name, or it is given twice.

    Examples
    --------
    >>> list(resolve_scores(["miou", {"largest": lambda output: output.amax(dim=1)}]))
    ['miou', 'largest']
    """
    asked = [score] if isinstance(score, str | Mapping) or not isinstance(score, Sequence) else list(score)
    found: dict[str, Score] = {}
    for item in asked:
        for name, meaning in item.items() if isinstance(item, Mapping) else [(item, item)]:
            if name in found:
                raise ArgumentError(f"score: {name!r} is given twice.")
            found[name] = _score_of(name, meaning)
    return found


def at_chance(name: str, value: float, error: float, degrees: int, margins: np.ndarray, score: Any) -> str:
    """Return a warning if the score of the whole model is no better than chance within its error, else an empty text.

    Parameters
    ----------
    name
        Of the score.
    value, error, degrees
        The score, its standard error (NaN: not known) and the error's degrees of freedom.
    margins
        How often each class is labelled, and how often predicted, shape (2, class).
    score
        Has ``chance(margins)``.

    Examples
    --------
    >>> at_chance("accuracy", 0.5, 0.02, 9, np.array([[5, 5], [6, 4]]), Accuracy())[:61]
    "score 'accuracy': 0.5 of the whole model, no better than chan"
    >>> at_chance("accuracy", 0.9, 0.02, 9, np.array([[5, 5], [6, 4]]), Accuracy())
    ''
    """
    if (margins[0] > 0).sum() < 2:
        return ""  # of a single class, chance cannot be told from knowing it
    chance = score.chance(margins)
    if not value - np.nan_to_num(half_width(error, degrees)) <= chance:
        return ""
    return (
        f"score {name!r}: {value:.3g} of the whole model, no better than chance within its error ({chance:.3g}: the "
        "same predictions, given at random), so that no loss can show. Check that labels are numbers of the model's "
        "outputs, that it has its weights, and transform=."
    )


def _score_of(name: Any, meaning: Any) -> Score:
    if isinstance(meaning, str) and meaning in SCORES:
        return SCORES[meaning]()
    if isinstance(name, str) and hasattr(meaning, "amounts") and hasattr(meaning, "value"):
        return meaning
    if callable(meaning) and isinstance(name, str):
        return PerImage(name, meaning)
    raise ArgumentError(
        f"score={meaning!r}: expected one of {', '.join(SCORES)}, or a mapping of a name to a function of the output."
    )


def _predicted(output: Tensor) -> Tensor:
    if output.ndim not in (2, 4, 5):
        raise ArgumentError(
            f"score: the model's output has the shape {tuple(output.shape)}; expected (image, class) or (image, class, "
            "row, column), of volumes with frames before the rows. Pass a function of the output instead."
        )
    if output.shape[1] == 1:
        raise ArgumentError(
            f"score: the model's output has the shape {tuple(output.shape)}, one number instead of one for each class. "
            "Pass a function of the output instead."
        )
    if output.ndim == 2:
        return output.argmax(dim=1).masked_fill(output.isnan().any(dim=1), _UNKNOWN)
    # The first of the largest comes after all classes that stay below; argmax across maps takes seven times as long.
    largest = output.amax(dim=1)
    below = torch.ones_like(largest, dtype=torch.bool)
    classes = torch.zeros_like(largest, dtype=torch.int32)
    for number in range(output.shape[1] - 1):
        below &= output[:, number] < largest
        classes += below
    return classes.masked_fill_(largest.isnan(), _UNKNOWN)


def _nan_where_unknown(amounts: Tensor, predicted: Tensor) -> Tensor:
    """Return the amounts of each image, NaN for those for which the model gave NaN."""
    return amounts.double().masked_fill((_by_image(predicted) == _UNKNOWN).any(dim=1, keepdim=True), torch.nan)


def _compared(shown: Shown) -> tuple[Tensor, Tensor]:
    """Return predicted classes and labels of one shape."""
    predicted, targets = shown.classes["natural"], shown.targets
    if predicted.shape != targets.shape:
        raise ImagesError(
            f"score: predictions of shape {tuple(predicted.shape)} and labels of {tuple(targets.shape)}. "
            "Bring labels to the size of the model's output."
        )
    return predicted, targets


def _margins(predicted: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    known = (targets >= 0) & (targets < n_classes) & (predicted != _UNKNOWN)
    return torch.stack([torch.bincount(classes[known], minlength=n_classes) for classes in (targets, predicted)])


def _by_image(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
