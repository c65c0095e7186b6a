"""The `Gram` of channels that a pointwise expansion makes of fewer ones. Torch only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.models.expansions import Expansion
from probe.sums.gram import Gram, Part, gram_bytes, pilot_mean, summing_dtype, symmetric
from probe.sums.rounding import ROUNDING_ERRORS

__all__ = ["ChannelGram", "ExpansionGram", "add_samples", "expansion_gram_bytes", "gives", "gram_from_state", "merged"]

_RELATIVE_ERROR = 1e-3  # of a channel's deviation
_TRIED_SAMPLES = 64


class ExpansionGram:
    """Sums of products of all pairs of [1, design, channels], where the channels are y = W·x + b: kept as those of x.

    What is asked of a `Gram` can be asked of it as well. With q sources for p channels, there are about (q / p)² as
    many products and sums.

    Parameters
    ----------
    sources
        The Gram of x. Its products must be in double precision: where W takes differences of sources that are all but
        equal, nothing is left of single ones.
    weight
        W, shape (channel, source), in the precision of the channels; copied.
    bias
        b, shape (channel,); copied.

    Examples
    --------
    >>> sources = Gram(n_folds=1, n_design=1, pilot=torch.tensor([6.0], dtype=torch.float64))
    >>> gram = ExpansionGram(sources, weight=torch.tensor([[1.0], [2.0], [3.0]]), bias=torch.zeros(3))
    >>> gram.update(design=torch.tensor([[1.0], [3.0]]), features=torch.tensor([[5.0], [7.0]]), parts=[(0, 0, 2)])
    >>> gram.upper([0])
    tensor([[ 2.,  4.,  0.,  0.,  0.],
            [ 4., 10.,  2.,  4.,  6.],
            [ 0.,  2.,  2.,  4.,  6.],
            [ 0.,  4.,  4.,  8., 12.],
            [ 0.,  6.,  6., 12., 18.]], dtype=torch.float64)
    """

    def __init__(self, sources: Gram, weight: Tensor, bias: Tensor) -> None:
        assert sources.dtype == torch.float64
        self.sources, self.weight, self.bias = sources, weight.clone(), bias.clone()

    def update(self, design: Tensor, features: Tensor, parts: Sequence[Part]) -> None:
        """Add samples, of which `features` are the sources, shape (sample, source); see `Gram.update`."""
        self.sources.update(design, features, parts)

    def between_batches(self) -> None:
        """See `Gram.between_batches`."""
        self.sources.between_batches()

    @property
    def kept(self) -> Gram:
        """The Gram whose sums are kept: that of the sources."""
        return self.sources

    @property
    def made_of(self) -> Tensor | None:
        """W, shape (channel, source)."""
        return self.weight

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the channels."""
        return self.weight.dtype

    @property
    def pilot(self) -> Tensor:
        """What the pilot of the sources gives, shape (channel,), double precision."""
        return self.weight.double() @ self.sources.pilot + self.bias.double()

    @property
    def totals(self) -> Tensor:
        """Sums of the columns, shape (fold, column); the first one counts the samples."""
        return self.sources.totals @ self._columns.T

    @property
    def squares(self) -> Tensor:
        """Sums of the squares of the columns, shape (fold, column)."""
        columns = self._columns
        by_fold = [symmetric(self.sources.upper([fold])) for fold in range(len(self.sources.totals))]
        return torch.stack([((columns @ sums) * columns).sum(dim=1) for sums in by_fold])

    @property
    def nbytes(self) -> int:
        """Bytes that the sums and the weights take."""
        return self.sources.nbytes + self.weight.nbytes + self.bias.nbytes

    @property
    def is_finite(self) -> bool:
        """Whether all samples, and their squares, were finite."""
        return self.sources.is_finite

    @property
    def finite_channels(self) -> Tensor:
        """Whether all samples of a channel were finite, shape (channel,): they share their sources."""
        return torch.full_like(self.bias, self.is_finite, dtype=torch.bool)

    def upper(self, folds: Sequence[int], out: Tensor | None = None) -> Tensor:
        """Return the sums over some folds, shape (column, column)."""
        columns = self._columns
        return torch.matmul(columns @ symmetric(self.sources.upper(folds)), columns.T, out=out)

    def of_channels(self, weights: Tensor, live: Tensor) -> Tensor:
        """Return readouts of the channels that are these readouts of the sources.

        Parameters
        ----------
        weights
            Shape (source, readout).
        live
            Shape (channel,). The channels that may be used; the others get 0.
        """
        found = weights.new_zeros(len(live), weights.shape[1])
        # Unlike the others, this driver takes weights of any rank.
        found[live] = torch.linalg.lstsq(self.weight[live].double().T, weights, driver="gelsd").solution
        return found

    def as_gram(self) -> Gram:
        """Return the `Gram` of the channels themselves."""
        n_folds, n_columns = self.totals.shape
        every = [self.upper([fold]) for fold in range(n_folds)]
        return Gram.of_sums(every, n_columns - 1 - len(self.bias), self.pilot, self.dtype)

    @property
    def made_by(self) -> tuple[Tensor, Tensor]:
        """W and b."""
        return self.weight, self.bias

    def is_made_by(self, weight: Tensor, bias: Tensor) -> bool:
        """Tell whether these are its W and b."""
        pairs = zip(self.made_by, (weight, bias), strict=True)
        return all(mine.shape == given.shape and torch.equal(mine, given.to(mine)) for mine, given in pairs)

    def merge(self, other: "ExpansionGram") -> None:
        """Add the sums of `other`, which is left as it is; see `merged` for one of other weights."""
        self.sources.merge(other.sources)

    def state(self, *, settled: bool = True) -> dict[str, Any]:
        """Return what `gram_from_state` restores; see `Gram.state`."""
        return {"sources": self.sources.state(settled=settled), "weight": self.weight, "bias": self.bias}

    @property
    def _columns(self) -> Tensor:
        """The columns as linear maps of those of the sources, shape (column, column of the sources)."""
        weight = self.weight.double()
        kept = self.sources.totals.shape[1] - weight.shape[1]
        return torch.block_diag(torch.eye(kept, dtype=weight.dtype, device=weight.device), weight)


ChannelGram = Gram | ExpansionGram


def merged(mine: ChannelGram, other: ChannelGram) -> ChannelGram:
    """Return the sums of both; `mine` may be changed."""
    if isinstance(mine, ExpansionGram) and isinstance(other, ExpansionGram) and mine.is_made_by(*other.made_by):
        mine.merge(other)
        return mine
    gram, added = (one.as_gram() if isinstance(one, ExpansionGram) else one for one in (mine, other))
    gram.merge(added)
    return gram


def add_samples(
    gram: ChannelGram | None,
    n_folds: int,
    design: Tensor,
    maps: Tensor,
    expansion: Expansion | None,
    read: Callable[[Tensor], Tensor],
    parts: Sequence[Part],
) -> ChannelGram:
    """Add samples of a layer, kept as those of its sources where it is an expansion, and stays one.

    Parameters
    ----------
    gram
        The sums so far; None to begin them.
    n_folds, design, parts
        As in `Gram`.
    maps
        Shape (image, channel, *size).
    expansion
        What made the maps of their sources, if it is known.
    read
        Takes the samples, shape (sample, channel), out of maps or sources.

    Returns
    -------
    Gram or ExpansionGram
        The sums; not always those that were given.
    """
    features = None
    if gram is None:
        dtype = summing_dtype(maps)
        if expansion is not None:
            features, sources = read(maps), read(expansion.sources)
            tried = torch.linspace(
                0, len(features) - 1, min(len(features), _TRIED_SAMPLES), device=features.device
            ).long()
            if gives(expansion, features[tried], sources[tried]):
                kept = Gram(n_folds, design.shape[1], pilot_mean(sources), torch.float64)
                gram = ExpansionGram(kept, expansion.weight, expansion.bias)
        if gram is None:
            features = read(maps) if features is None else features
            gram = Gram(n_folds, design.shape[1], pilot_mean(features), dtype)
    if isinstance(gram, ExpansionGram):
        if expansion is not None and gram.is_made_by(expansion.weight, expansion.bias):
            gram.update(design, read(expansion.sources), parts)
            return gram
        gram = gram.as_gram()
    gram.update(design, read(maps) if features is None else features, parts)
    return gram


def gram_from_state(state: dict[str, Any]) -> ChannelGram:
    """Restore what `Gram.state` or `ExpansionGram.state` returned."""
    if "sources" in state:
        return ExpansionGram(Gram.from_state(state["sources"]), state["weight"], state["bias"])
    return Gram.from_state(state)


def expansion_gram_bytes(n_folds: int, n_design: int, n_channels: int, n_sources: int) -> int:
    """Return what an `ExpansionGram` of channels in single precision takes, in bytes.

    Examples
    --------
    >>> sources = Gram(n_folds=5, n_design=20, pilot=torch.zeros(512, dtype=torch.float64))
    >>> gram = ExpansionGram(sources, torch.zeros(2048, 512), torch.zeros(2048))
    >>> expansion_gram_bytes(5, 20, 2048, 512) == gram.nbytes
    True
    """
    return gram_bytes(n_folds, n_design, n_sources, torch.float64) + 4 * n_channels * (n_sources + 1)


def gives(expansion: Expansion, features: Tensor, sources: Tensor) -> bool:
    """Tell whether features are W·x + b, up to a thousandth of their deviation and to rounding.

    Parameters
    ----------
    expansion
        Has W and b.
    features, sources
        Shape (sample, channel) and (sample, source), of the same samples.

    Examples
    --------
    >>> doubling = Expansion(torch.empty(0), torch.tensor([[2.0], [2.0], [2.0]]), torch.zeros(3))
    >>> x = torch.arange(4.0)[:, None]
    >>> gives(doubling, 2 * x.expand(-1, 3), x), gives(doubling, 3 * x.expand(-1, 3), x)
    (True, False)
    """
    x, weight, bias = sources.double(), expansion.weight.double(), expansion.bias.double()
    rounding = ROUNDING_ERRORS * torch.finfo(features.dtype).eps * (x.abs() @ weight.abs().T + bias.abs())
    deviation = features.double().std(dim=0, correction=0)
    error = (features - (x @ weight.T + bias)).abs()
    return bool((error <= rounding + _RELATIVE_ERROR * deviation).all())
