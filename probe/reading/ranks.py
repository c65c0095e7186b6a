"""Several processes as one: which images each reads, and how their sums become the sums of all.

A process is a rank of a group of `torch.distributed`, as `torchrun` starts them, or alone. What one of them raises ends
it; the launcher then ends the others, and those that wait for it raise a `RankError`.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from probe.errors import ArgumentError, RankError, warn
from probe.results import Facts
from probe.sums.expansion_gram import ChannelGram, ExpansionGram
from probe.sums.moments import PositionMoments
from probe.sums.statistics import Statistics, merged_facts

__all__ = [
    "Share",
    "add_arrays",
    "add_facts",
    "add_statistics",
    "check_ranks",
    "gathered",
    "in_turn",
    "joined_group",
    "own_share",
]

Item = TypeVar("Item")
Found = TypeVar("Found")

_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Share:
    """Every `of`-th image, from the one at place `place` on.

    Examples
    --------
    >>> [number for number in range(100, 110) if Share(2, 4).has(number, first_image=100)]
    [102, 106]
    >>> str(Share(2, 4))
    '3/4'
    """

    place: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.place + 1}/{self.of}"

    def has(self, number: int, first_image: int) -> bool:
        """Tell whether an image is in it."""
        return (number - first_image) % self.of == self.place

    def beside(self, path: Path) -> Path:
        """Return the name of this share's own file, where there are several."""
        return path if self.of == 1 else path.with_name(f"{path.name}.{self.place + 1}-of-{self.of}")


def own_share() -> Share:
    """Return what this rank reads of all; all if it is alone."""
    return Share(dist.get_rank(), dist.get_world_size()) if _is_in_group() else Share()


def _is_in_group() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def joined_group(device: str) -> Iterator[Share]:
    """Join the group of processes that a launcher such as `torchrun` started, if one did, for a block."""
    if not all(name in os.environ for name in _LAUNCHED) or not dist.is_available() or dist.is_initialized():
        yield own_share()
        return
    on_gpu = torch.cuda.is_available() and device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("nccl" if on_gpu else "gloo")
    yield own_share()
    # Not after an error: others may wait for this rank, which is to end.
    dist.barrier()  # one that left early would break the connection of those that still read
    dist.destroy_process_group()


@contextmanager
def _waiting() -> Iterator[None]:
    """Say of what breaks off between ranks that another one has ended."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        raise RankError(
            f"rank {own_share().place}: another rank ended early, or cannot be reached, so there is no result. Its own "
            "message tells why."
        ) from error


def gathered(value: Item) -> list[Item]:
    """Return what each rank has."""
    if not _is_in_group():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    with _waiting():
        dist.all_gather_object(found, value)
    return found


def _everywhere(tensor: Tensor, change: Callable[[Tensor], Any]) -> Tensor:
    """Return a tensor after a collective call that changes it, on the device that it was on."""
    is_nccl = dist.get_backend() == "nccl"
    shown = tensor.cuda() if is_nccl and not tensor.is_cuda else tensor.clone()
    with _waiting():
        change(shown)
    return shown.to(tensor.device)


def check_ranks(what: Mapping[str, Any]) -> None:
    """Raise unless all ranks have the same model, arguments and images, as far as what is given tells.

    Raises
    ------
    ArgumentError
        On every rank, if something differs, which is named.
    """
    every = gathered(dict(what))
    for rank, other in enumerate(every):
        for name, value in every[0].items():
            if other.get(name) != value:
                shown = [
                    text if len(text := repr(one.get(name))) < 80 else f"{text[:80]}…" for one in (every[0], other)
                ]
                raise ArgumentError(
                    f"ranks: {name} differs: {shown[0]} on rank 0 and {shown[1]} on rank {rank}. Give all ranks the "
                    "same model, arguments and images, in the same order; a stream whole, not split by node."
                )


def in_turn(function: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    """Return the function of each item, for which the ranks take turns."""
    share = own_share()
    every = gathered([function(item) for item in items[share.place :: share.of]])
    return [every[place % share.of][place // share.of] for place in range(len(items))]


def add_arrays(arrays: Mapping[str, np.ndarray], share: Share) -> dict[str, np.ndarray]:
    """Return the sums of the arrays of all ranks that have a share, by name; what a rank has not counts as 0."""
    if share.of == 1:
        return dict(arrays)
    every = gathered({name: array.shape for name, array in arrays.items()})
    shapes = dict(sorted(chain(*(shapes.items() for shapes in every))))
    found = {}
    for name, shape in shapes.items():
        mine = torch.from_numpy(np.ascontiguousarray(arrays.get(name, np.zeros(shape)), dtype=np.float64))
        found[name] = _everywhere(mine, dist.all_reduce).numpy()
    return found


def add_facts(facts: Facts, share: Share) -> Facts:
    """Return the facts of what all ranks read; on the first one, warn of what the others were warned of."""
    if share.of == 1:
        return facts
    every = gathered(facts)
    whole = reduce(merged_facts, every)
    for message in whole.warnings:
        if share.place == 0 and message not in facts.warnings:
            warn(message, [])
    return replace(whole, duration_s=max(one.duration_s for one in every))


def add_statistics(statistics: Statistics, share: Share) -> None:
    """Make the sums of this rank the sums of all ranks.

    Sums are taken about a common pilot, that of the first rank, and added in place, one after the other: beside its
    own, a rank keeps twice what the largest block takes.
    """
    if share.of == 1:
        return
    made_by = gathered({key: _made_by(gram) for key, gram in statistics.grams.items()})
    for key, gram in statistics.grams.items():
        if any(other[key] != made_by[0][key] for other in made_by) and isinstance(gram, ExpansionGram):
            gram = statistics.grams[key] = gram.as_gram()
        kept = gram.kept
        kept.move_pilot(_everywhere(kept.pilot, _from_the_first))
        for block in kept.blocks:
            block.copy_(_everywhere(block, dist.all_reduce))
    sizes = gathered({key: _size(moments) for key, moments in statistics.moments.items()})
    for key, moments in statistics.moments.items():
        moved = moments.about(_everywhere(moments.pilot, _from_the_first))
        if any(other[key] != sizes[0][key] for other in sizes):
            moved.maps = None
        statistics.moments[key] = moved.changed(lambda sums: _everywhere(sums, dist.all_reduce))


def _from_the_first(tensor: Tensor) -> None:
    dist.broadcast(tensor, 0)


def _made_by(gram: ChannelGram) -> str:
    """Return a digest of what makes the channels of an expansion."""
    if not isinstance(gram, ExpansionGram):
        return ""
    parts = (tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy() for tensor in gram.made_by)
    return "-".join(f"{zlib.crc32(part.tobytes()):08x}" for part in parts)


def _size(moments: PositionMoments) -> tuple[int, ...] | None:
    return None if moments.maps is None else tuple(moments.maps.shape)
