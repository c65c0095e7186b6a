"""Sums of features after erasing, from those before: erasing is linear, so that no image is read again."""

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.readouts.erasers import Projection
from probe.sums.expansion_gram import ChannelGram
from probe.sums.gram import Gram, symmetric
from probe.sums.moments import PositionMoments
from probe.sums.rounding import ROUNDING_ERRORS

__all__ = ["cells_gram", "erased_gram", "of_neighbourhoods"]


def erased_gram(gram: ChannelGram, projection: Projection, folds: Sequence[int], n_design: int) -> Gram:
    """Return the sums of some folds as they are after erasing.

    A channel of which no more is left than the rounding of its sums counts as one that does not vary.

    Parameters
    ----------
    gram
        Sums before.
    projection
        What is erased.
    folds
        The folds to keep.
    n_design
        Number of design columns to keep, the first ones.

    Examples
    --------
    >>> gram = Gram(n_folds=1, n_design=0, pilot=torch.zeros(2, dtype=torch.float64))
    >>> gram.update(torch.zeros(2, 0), torch.tensor([[5.0, 1.0], [7.0, 2.0]]), parts=[(0, 0, 2)])
    >>> first = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    >>> erased_gram(gram, Projection(torch.zeros(2, dtype=torch.float64), first, first), [0], 0).upper([0]).triu()
    tensor([[2., 0., 3.],
            [0., 0., 0.],
            [0., 0., 5.]], dtype=torch.float64)
    """
    n_columns, first = 1 + n_design + len(gram.pilot), 1 + n_design
    projection = Projection(*(part.to(gram.pilot) for part in (projection.mean, projection.left, projection.right)))
    before = [_columns(symmetric(gram.upper([fold])), n_design, len(gram.pilot)) for fold in folds]
    after = [_erased(sums, projection, projection.mean - gram.pilot, first) for sums in before]
    spread_before, spread_after = (_deviations(torch.stack(sums).sum(dim=0), first) for sums in (before, after))
    rounding = ROUNDING_ERRORS * torch.finfo(gram.kept.dtype).eps
    vanished = spread_after <= rounding * spread_before
    kept = torch.ones(n_columns, dtype=torch.float64, device=gram.pilot.device)
    kept[first:] = torch.where(vanished, 0.0, 1.0)
    return Gram.of_sums([sums * kept * kept[:, None] for sums in after], first - 1, gram.pilot, gram.kept.dtype)


def _columns(sums: Tensor, n_design: int, n_channels: int) -> Tensor:
    """Return the sums of the first design columns and all channels."""
    if len(sums) == 1 + n_design + n_channels:
        return sums
    kept = torch.cat([torch.arange(1 + n_design), torch.arange(len(sums) - n_channels, len(sums))]).to(sums.device)
    return sums[kept[:, None], kept]


def _erased(sums: Tensor, projection: Projection, centre: Tensor, first: int) -> Tensor:
    """Return M·sums·Mᵀ, where M takes the projection out of the features, of which `centre` is the mean."""
    # The part of the features about the mean that is read by each direction, as a combination of the columns.
    reading = torch.cat([-(centre @ projection.right)[None], *_spread(projection, first)])
    written = torch.cat([torch.zeros_like(reading[:first]), projection.left])
    read = reading.T @ sums
    changed = sums - written @ read
    return changed - (changed @ reading) @ written.T


def _spread(projection: Projection, first: int) -> list[Tensor]:
    return [projection.right.new_zeros(first - 1, projection.rank), projection.right]


def _deviations(sums: Tensor, first: int) -> Tensor:
    return sums.diagonal()[first:] - sums[0, first:].square() / sums[0, 0]


def cells_gram(gram: ChannelGram, moments: PositionMoments) -> Gram:
    """Return sums whose design columns tell which cell a sample is from, one for each, in place of the targets.

    The means at each cell are those of every cell; the covariances of channels those of the cells that were drawn for
    the Gram.

    Parameters
    ----------
    gram, moments
        Of one layer under one stimulus, with maps.
    """
    assert moments.maps is not None
    moments = moments.about(gram.pilot)
    assert moments.maps is not None
    n_channels, n_cells = len(gram.pilot), moments.maps[0, 0].numel()
    every = []
    for fold, maps in enumerate(moments.maps.flatten(2)):
        drawn = symmetric(gram.upper([fold]))
        first = len(drawn) - n_channels
        n_images, n_samples = moments.images[fold], moments.images[fold] * n_cells
        mean, drawn_mean = maps.sum(dim=1) / n_samples, drawn[0, first:] / drawn[0, 0]
        products = drawn[first:, first:] / drawn[0, 0] - torch.outer(drawn_mean, drawn_mean) + torch.outer(mean, mean)
        sums = maps.new_zeros(1 + n_cells + n_channels, 1 + n_cells + n_channels)
        sums[0, 0] = n_samples
        sums[0, 1 : 1 + n_cells] = sums[1 : 1 + n_cells, 0] = n_images
        sums[1 : 1 + n_cells, 1 : 1 + n_cells].diagonal().fill_(n_images)
        sums[0, 1 + n_cells :] = sums[1 + n_cells :, 0] = maps.sum(dim=1)
        sums[1 : 1 + n_cells, 1 + n_cells :], sums[1 + n_cells :, 1 : 1 + n_cells] = maps.T, maps
        sums[1 + n_cells :, 1 + n_cells :] = products * n_samples
        every.append(sums)
    return Gram.of_sums(every, n_cells, gram.pilot, gram.kept.dtype)


def of_neighbourhoods(projection: Projection, n_neighbours: int) -> Projection:
    """Return the same map of features for all cells of a neighbourhood, whose features stand channel by channel.

    Examples
    --------
    >>> first = torch.tensor([[1.0], [0.0]])
    >>> of_neighbourhoods(Projection(torch.zeros(2), first, first), 2).left
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.],
            [0., 0.]])
    """
    each = torch.eye(n_neighbours, dtype=projection.left.dtype, device=projection.left.device)
    return Projection(
        projection.mean.repeat_interleave(n_neighbours),
        torch.kron(projection.left, each),
        torch.kron(projection.right, each),
    )
