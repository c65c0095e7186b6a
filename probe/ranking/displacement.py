"""How channels answer when an image or clip is mirrored or rolled: the flip-difference of Islam et al. 2021."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError
from probe.images.stimuli import apply_stimulus
from probe.models.layers import Layer
from probe.ranking.strengths import ChannelStrengths
from probe.reading.options import Options
from probe.reading.ranks import add_arrays, add_facts, check_ranks, gathered, own_share
from probe.reading.reader import open_reader
from probe.sums.gram import summing_dtype

__all__ = ["AXES", "DISPLACEMENTS", "score_displacements"]

AXES = {"horizontal": (-1,), "vertical": (-2,), "both": (-1, -2), "time": (-3,)}
"""The dimensions of (image, channel, row, column), or with frames before the rows, that are mirrored or rolled, one at
a time."""


def _mirrored(images: Tensor, dim: int) -> Tensor:
    return images.flip(dim)


def _rolled_by_half(images: Tensor, dim: int) -> Tensor:
    return images.roll(images.shape[dim] // 2, dims=dim)


DISPLACEMENTS: dict[str, Callable[[Tensor, int], Tensor]] = {"flip": _mirrored, "shift": _rolled_by_half}
"""The methods that compare an image with itself displaced: a function (images, dimension) -> images."""


def _pooled(layer: Layer, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of each channel over the map, shape (image, channel), and its range over all images."""
    cells = tuple(range(2, maps.ndim))
    means = maps.mean(dim=cells, dtype=summing_dtype(maps)).double()
    return means, maps.amin(dim=(0, *cells)), maps.amax(dim=(0, *cells))


def score_displacements(
    model: nn.Module, images: Any, options: Options, *, method: str, axis: str, signed: bool
) -> ChannelStrengths:
    """Compare the mean over the map, z, of each channel for x and for x displaced: Δz = z(x) − z(displaced x).

    Parameters
    ----------
    model, images, options
        As in `probe.rank_channels`.
    method
        One of `DISPLACEMENTS`.
    axis
        One of `AXES`; the scores of two axes are averaged.
    signed
        Whether to take the mean of Δz over the images, rather than of its absolute value.

    Raises
    ------
    ArgumentError
        If the axis is time, and the images have no frames, or one.
    """
    displaced = DISPLACEMENTS[method]
    in_halves = replace(options, folds=2)
    with open_reader(model, images, in_halves, share=own_share()) as reader:
        layer = reader.layer(options.layers)
        check_ranks({**reader.identity, "layer": layer.name, "method": method, "seed": options.seed})
        sums = torch.zeros(2, layer.n_channels, dtype=torch.float64, device="cpu")
        counts = torch.zeros(2, 1, dtype=torch.float64, device="cpu")
        low = torch.full((layer.n_channels,), torch.inf, dtype=torch.float64, device="cpu")
        high = -low
        with reader.reading([layer], _pooled) as run:
            for batch, pixels in reader.batches():
                if axis == "time" and (pixels.ndim == 4 or pixels.shape[2] == 1):
                    found = "images have no frames" if pixels.ndim == 4 else "clips of one frame have none"
                    raise ArgumentError(f"axis='time': {found} to play backwards or to roll; longer clips have.")
                shown = apply_stimulus(options.stimulus_names[0], pixels, batch.numbers, options.seed)
                # All are made first: a model may overwrite what it is shown.
                views = [shown, *(displaced(shown, dim) for dim in AXES[axis])]
                means, lows, highs = zip(*(run(view)[layer.name] for view in views), strict=True)
                low = torch.minimum(low, torch.stack(lows).amin(dim=0).cpu())
                high = torch.maximum(high, torch.stack(highs).amax(dim=0).cpu())
                changes = means[0] - torch.stack(means[1:])
                changes = (changes if signed else changes.abs()).mean(dim=0)
                halves = torch.tensor(batch.folds, device="cpu")
                sums.index_add_(0, halves, changes.cpu())
                counts.index_add_(0, halves, torch.ones(len(halves), 1, dtype=torch.float64, device="cpu"))
        added = add_arrays({"sums": sums.numpy(), "counts": counts.numpy()}, reader.share)
        sums, counts = (torch.from_numpy(added[name]) for name in ("sums", "counts"))
        lowest, highest = zip(*gathered((low, high)), strict=True)
        facts = add_facts(reader.facts(), reader.share)
    varies = torch.stack(lowest).amin(dim=0) < torch.stack(highest).amax(dim=0)
    return ChannelStrengths(
        layer=layer,
        scores=torch.where(varies, sums.sum(dim=0) / counts.sum(), torch.nan).numpy(),
        halves=torch.where(varies, sums / counts, torch.nan).numpy(),
        facts=facts,
    )
