"""The same crops shown to a model twice: alone, and inside larger images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from probe.analyses.border_reach.profiles import BorderProfile
from probe.errors import ArgumentError, ImagesError, ModelError, warn
from probe.models.capture import reading
from probe.models.layers import INPUT, Layer, LayerSelection
from probe.models.survey import survey
from probe.reading.reader import Reader
from probe.results import Facts
from probe.variants.borders import extend
from probe.windows.crops import Site, align, reading_beyond
from probe.windows.receptive_fields import Window, effective_field, readable_pixels

__all__ = ["CONTEXTS", "UNKNOWN", "Framing", "Reading", "Theory", "read_twice"]

CONTEXTS = ("natural", "circular")

_STEP, _SMALL_STEP = 32, 8  # crops and margins are multiples of it, in large and in small images
_LARGE = 192  # pixels
_SHOWN = 2  # images that are kept
_CLEAR = 0.0455  # of the largest gradient (Luo et al. 2016)


class Framing:
    """Cuts the larger image out of what was read; its crop lies in the middle.

    Parameters
    ----------
    context
        ``"natural"``: the image itself; ``"circular"``: the crop continued periodically.
    crop, margin
        Pixels of the crop, and of the context on each side. What is None is settled by the first images.

    Raises
    ------
    ArgumentError
        If the context is unknown, or crop or margin are below 1.
    """

    def __init__(self, context: str, crop: int | None, margin: int | None) -> None:
        if context not in CONTEXTS:
            raise ArgumentError(f"context={context!r}: expected one of {', '.join(CONTEXTS)}.")
        for name, value in (("crop", crop), ("margin", margin)):
            if value is not None and value < 1:
                raise ArgumentError(f"{name}={value!r}: expected a whole number of pixels of at least 1.")
        self.context, self.crop, self.margin = context, crop or 0, margin or 0

    def __call__(self, images: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return the larger images, shape (image, channel, row, column).

        Raises
        ------
        ImagesError
            If the images are too small.
        """
        size = min(images.shape[2:])
        if self.context == "circular":
            self.crop = self.crop or size
            self.margin = self.margin or self.crop
            needed = self.crop
        else:
            step = _STEP if size >= _LARGE else _SMALL_STEP
            self.margin = self.margin or max(size // 3 // step, 1) * step
            self.crop = self.crop or max((size - 2 * self.margin) // step, 1) * step
            needed = self.crop + 2 * self.margin
        if needed > size:
            raise ImagesError(
                f"images: of {size} pixels, but a crop of {self.crop} in its {self.context} context needs {needed}. "
                'Pass larger images, a smaller crop= or margin=, or context="circular".'
            )
        if self.context == "circular":
            return extend(_middle(images, self.crop), (self.margin,) * 4, "circular")
        return _middle(images, needed)

    def cut(self, larger: Tensor) -> Tensor:
        """Return the crops alone."""
        return _middle(larger, self.crop)


def _middle(images: Tensor, size: int) -> Tensor:
    top, left = ((length - size) // 2 for length in images.shape[2:])
    return images[..., top : top + size, left : left + size]


@dataclass(frozen=True)
class Theory:
    """What the windows of a layer can read.

    Attributes
    ----------
    reach
        Cells from each side that can read a pixel outside the crop.
    field
        Rows and columns of pixels that the middle cell can read; NaN where the larger image does not hold them all.
    meets_outer_border
        Whether the crop's cells can read the border of the larger image.
    """

    reach: np.ndarray
    field: np.ndarray
    meets_outer_border: bool


UNKNOWN = Theory(np.full(4, np.nan), np.full(2, np.nan), False)
"""Where paths cannot be counted."""


@dataclass(frozen=True)
class Reading:
    """What one seed gave, by name of the layer.

    Attributes
    ----------
    sites
        The layers.
    profiles
        The differences between crops alone and inside larger images.
    effective
        Side of the effective receptive field, in pixels.
    theory
        What can be read; empty if paths cannot be counted.
    facts
        Provenance.
    larger
        A few of the larger images.
    """

    sites: list[Site]
    profiles: dict[str, BorderProfile]
    effective: dict[str, float]
    theory: dict[str, Theory]
    facts: Facts
    larger: Tensor


def read_twice(
    reader: Reader, framing: Framing, layers: LayerSelection, *, n_seeds: int, n_gradients: int
) -> list[Reading]:
    """Show each image to the model twice; image number n belongs to seed n modulo their number.

    Parameters
    ----------
    reader
        Opened with `framing` as its stage.
    framing
        Where the crops are.
    layers
        As in `probe.collect`; the pixels themselves are left out.
    n_seeds
        Into how many groups the images are divided.
    n_gradients
        Images of each group from which effective receptive fields are measured.

    Raises
    ------
    ArgumentError
        If no layer's cells correspond.
    ImagesError
        If a group is empty.
    """
    sites: list[Site] = []
    profiles: list[dict[str, BorderProfile]] = []
    kept: list[list[Tensor]] = [[] for _ in range(n_seeds)]
    for batch, larger in reader.batches():
        crops = framing.cut(larger)
        if not sites:
            sites = _find_sites(reader, framing, layers, crops[:1])
            profiles = [{site.layer.name: BorderProfile(site) for site in sites} for _ in range(n_seeds)]
        windows = {site.layer.name: site.window for site in sites}
        alone, inside = _maps(reader.model, sites, crops), _maps(reader.model, sites, larger, windows)
        group = np.array(batch.numbers) % n_seeds
        for seed in np.unique(group):
            members = torch.from_numpy(np.flatnonzero(group == seed)).to(larger.device)
            kept[seed] = [*kept[seed], *larger[members]][:n_gradients]
            for name, profile in profiles[seed].items():
                profile.update(alone[name][members], inside[name][members])
    if not all(kept):
        raise ImagesError(f"images: too few for {n_seeds} seeds, one image each at least. Pass more, or fewer seeds=.")
    theory = _theory(reader, sites, framing, kept[0][0][None])
    effective = [_effective(reader.model, sites, torch.stack(images)) for images in kept]
    facts = reader.facts()
    return [
        Reading(sites, profiles[seed], effective[seed], theory, facts, torch.stack(kept[seed][:_SHOWN]).cpu())
        for seed in range(n_seeds)
    ]


def _find_sites(reader: Reader, framing: Framing, layers: LayerSelection, crop: Tensor) -> list[Site]:
    chosen = [layer for layer in reader.layers(layers)[0] if layer.name != INPUT]
    sites, skipped = align(survey(reader.model, crop), chosen, margin=framing.margin)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    if not sites:
        raise ArgumentError(
            f"margin={framing.margin}: in no layer do the cells of the crop correspond to cells of the larger image. "
            f"Pass a multiple of the total stride, often 32. {reasons}"
        )
    if skipped:
        warn(f"left out: {reasons}.", reader.warned)
    return sites


def _maps(
    model: nn.Module, sites: Sequence[Site], images: Tensor, windows: Mapping[str, Window] | None = None
) -> dict[str, Tensor]:
    """Return the maps of all layers, or windows of them, each of shape (image, channel, row, column)."""

    def cut(layer: Layer, maps: Tensor) -> Tensor:
        return (maps if windows is None else maps[(..., *windows[layer.name])]).clone()

    with reading(model, [site.layer for site in sites], cut) as run:
        return run(images)


def _theory(reader: Reader, sites: Sequence[Site], framing: Framing, larger: Tensor) -> dict[str, Theory]:
    layers = [site.layer for site in sites]
    outside = torch.ones_like(larger)
    framing.cut(outside).zero_()
    try:
        beyond = reading_beyond(reader.model, sites, outside)
        of_crop = readable_pixels(reader.model, layers, {site.layer.name: site.window for site in sites}, larger)
        of_cell = readable_pixels(reader.model, layers, {site.layer.name: site.middle for site in sites}, larger)
    except (ModelError, RuntimeError) as error:
        warn(f"theory: paths cannot be counted: {str(error).partition(chr(10))[0]}", reader.warned)
        return {}
    return {
        site.layer.name: Theory(
            beyond[site.layer.name],
            np.array([_extent(of_cell[site.layer.name], axis) for axis in (0, 1)]),
            any(np.isnan(_extent(of_crop[site.layer.name], axis)) for axis in (0, 1)),
        )
        for site in sites
    }


def _extent(readable: np.ndarray, axis: int) -> float:
    """Return from the first to the last row or column that can be read; NaN if these are the last there are."""
    size = readable.shape[axis]
    places = np.unique(readable.nonzero()[axis])
    if len(places) and (places[0] == 0 or places[-1] == size - 1):
        return float("nan")
    return float(places[-1] - places[0] + 1) if len(places) else 0.0


def _effective(model: nn.Module, sites: Sequence[Site], images: Tensor) -> dict[str, float]:
    layers, middles = [site.layer for site in sites], {site.layer.name: site.middle for site in sites}
    gradients = effective_field(model, layers, middles, images)
    return {
        name: float(np.sqrt((np.sqrt(squares) > _CLEAR * np.sqrt(squares.max())).sum())) if squares.any() else np.nan
        for name, squares in gradients.items()
    }
