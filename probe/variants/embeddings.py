"""The same weights with other position embeddings.

Tables are found by what they are called and by their shape, so that models of any library are served: one entry for
each position (absolute), or one for each offset between two positions (relative).
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.copies import copied
from probe.models.modules import unwrap
from probe.variants.remarks import listed

__all__ = ["POSITION_EMBEDDINGS", "with_position_embedding"]

POSITION_EMBEDDINGS = ("zero", "mean", "shuffled")

_ABSOLUTE = re.compile(r"(^|_)pos(ition(al)?)?_?(emb|enc)|(^|_)(patch|spatial|temporal)_pos$", re.IGNORECASE)
_RELATIVE = re.compile(r"relative_position_bias_table|rel_pos_[hwt]$|attention_biases$|(height|width)_rel$")
_COORDINATES = re.compile(r"rel(ative)?_coord\w*")
_ROTARY = re.compile(r"(^|_)rope|rotary|rot_pos|Rot(ary)?\w*Emb|Rope\w*Emb|RoPE")
_ALIBI = re.compile("alibi", re.IGNORECASE)
_CONVOLUTIONAL = re.compile(r"(^|_)c?r?pe(g|\d*)$|pos_(block|conv)|PEG|PosConv")
_COMPUTED = re.compile(r"(^|_)pos(ition(al)?)?_?(emb|enc|proj)|Pos(ition(al)?)?_?(Emb|Enc)")
_OF_PATCHES_ALONE = re.compile("(spatial|temporal)_pos$")
_OF_TEXT = re.compile("text", re.IGNORECASE)
_MOST_PREFIX_ENTRIES = 16
_MOST_IF_GUESSED = 5  # a class token and four registers


@dataclass(frozen=True)
class _Table:
    """Entries of a tensor, one for each position or offset: those from `start` to `stop` along the flattened axes."""

    name: str
    tensor: Tensor
    axes: tuple[int, ...]
    start: int = 0
    stop: int | None = None

    def entries(self) -> Tensor:
        """Return the entries, shape (position, value)."""
        values = self.tensor.detach().movedim(self.axes, tuple(range(len(self.axes))))
        return values.flatten(0, len(self.axes) - 1).flatten(1)[self.start : self.stop]

    def replace(self, entries: Tensor) -> None:
        """Write other entries in place, so that whatever shares the tensor sees them."""
        places = tuple(range(len(self.axes)))
        values = self.tensor.detach().movedim(self.axes, places)
        changed = values.flatten(0, len(self.axes) - 1).flatten(1).clone()
        changed[self.start : self.stop] = entries
        self.tensor.detach().copy_(changed.reshape(values.shape).movedim(places, self.axes))


def with_position_embedding(model: nn.Module, embedding: str, *, seed: int = 0) -> nn.Module:
    """Return a copy of a transformer whose position embeddings tell no position, or a wrong one.

    The commonest uses::

        probe.with_position_embedding(model, "zero")
        probe.layerwise(probe.with_position_embedding(model, "mean"), images)
        probe.with_position_embedding(model, "shuffled", seed=1)

    ============  ====================================================================================================
    embedding     entries of the patches (absolute tables) or of the offsets between patches (relative tables)
    ============  ====================================================================================================
    ``zero``      0
    ``mean``      their mean, at every place: what the embedding adds on average is kept, and tells no position
    ``shuffled``  permuted at random: as many different values as before, at wrong places
    ============  ====================================================================================================

    Measured by :func:`probe.layerwise` beside the original, on rolled images: what of R² is left under ``zero`` and
    ``mean`` comes from elsewhere, such as padded convolutions. Values that the weights were never trained with can
    break a model; ``mean`` stays nearest to them. ``shuffled`` tells whether the *order* of the table matters: a
    linear readout from as many channels as there are places can still read a shuffled table.

    Changed are parameters, buffers and tensors that are called position embedding or encoding, learned or of fixed
    sines and cosines: of shape (…, position, channel), (1, row, column, channel), (1, channel, row, column), or the
    weight of an ``nn.Embedding``. Entries before the patches (class, distillation and register tokens) keep their
    values. So are relative tables of Swin, BEiT, LeViT, MViT and others, without BEiT's entries for the class token;
    where a network makes the table from coordinates, as in Swin v2, the coordinates are changed, so that ``zero`` and
    ``mean`` give every offset the bias of one.

    Parameters
    ----------
    model : nn.Module
        Any model; of a compiled, ``DataParallel`` or ``DistributedDataParallel`` one, the model inside is copied.
        It stays as it was.
    embedding : str
        One of ``probe.POSITION_EMBEDDINGS``.
    seed : int
        Of ``shuffled``. The global random state plays no part.

    Returns
    -------
    nn.Module
        A copy with the same classes, names, hooks, modes and bits of all other weights, sharing no memory. A table
        that several layers share is changed once, and shared as before.

    Raises
    ------
    ArgumentError
        If the embedding is unknown, or a seed is given that has no effect.
    ModelError
        If nothing is found that can be converted, or the model cannot be copied. It tells what was looked for.

    Warns
    -----
    ProbeWarning
        Lists what else tells position and was not converted: rotary embeddings, ALiBi, encodings by convolutions
        (depthwise ones that pad included), encodings that the code computes, and tables whose entries for patches
        could not be told from others.

    Notes
    -----
    How many patches there are is asked of the patch embedding (``num_patches``, ``grid_size``); the rest of a table
    stands before them. Where no such number fits, the patches are taken to lie on a square.

    Examples
    --------
    >>> import probe, torch
    >>> from torch import nn
    >>> model = nn.Module()
    >>> model.pos_embedding = nn.Parameter(torch.arange(10.0).reshape(1, 5, 2))
    >>> probe.with_position_embedding(model, "mean").pos_embedding[0, :, 0].tolist()
    [0.0, 5.0, 5.0, 5.0, 5.0]
    """
    if embedding not in POSITION_EMBEDDINGS:
        raise ArgumentError(f"embedding={embedding!r} is unknown; expected one of {', '.join(POSITION_EMBEDDINGS)}.")
    if seed and embedding != "shuffled":
        raise ArgumentError(f"seed={seed}: embedding={embedding!r} draws nothing, so it would have no effect.")
    converted = copied(unwrap(model))
    tables, unknown = _tables_of(converted)
    rest = {**unknown, **_otherwise_encoded(converted, {table.name for table in tables})}
    if not tables:
        found = listed("Found and not converted", rest) or "Nothing else that encodes position was found"
        raise ModelError(
            "model: nothing in it is a table of positions. Looked for were parameters, buffers and tensors called "
            "pos_embed, pos_embedding, position_embeddings or alike with an entry for each patch, and tables of "
            f"relative positions. {found}."
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    for table in tables:
        table.replace(_changed(table.entries(), embedding, generator))
    _forget_cached(converted)
    if rest:
        warnings.warn(f"embedding={embedding!r}: {listed('not converted', rest)}.", ProbeWarning, stacklevel=2)
    return converted


def _changed(entries: Tensor, embedding: str, generator: torch.Generator) -> Tensor:
    if embedding == "zero":
        return torch.zeros_like(entries)
    if embedding == "mean":
        return entries.double().mean(dim=0, keepdim=True).to(entries.dtype).expand_as(entries)
    order = torch.randperm(len(entries), generator=generator, device="cpu")
    return entries[order.to(entries.device)]


def _tables_of(model: nn.Module) -> tuple[list[_Table], dict[str, str]]:
    """Return the tables of a model, each once, and by name why others could not be taken for one."""
    numbers = set(_numbers_of_patches(model))
    tables: list[_Table] = []
    unknown: dict[str, str] = {}
    seen = set()
    for name, tensor in _named_tensors(model):
        place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if not tensor.is_meta else id(tensor)
        if place in seen or _OF_TEXT.search(name):
            continue
        seen.add(place)
        # The weight of an embedding, and what stands in a list, are called as these are.
        parents, _, own = re.sub(r"\.(weight|\d+)$", "", name).rpartition(".")
        if _RELATIVE.search(own) or _COORDINATES.fullmatch(own):
            tables.append(_relative_table(name, tensor, own))
        elif _ABSOLUTE.search(own) and not any(_ROTARY.search(part) for part in parents.split(".")):
            table = _absolute_table(name, tensor, numbers)
            if table is None:
                unknown[name] = f"which of its {max(tensor.shape[:-1], default=0)} entries are patches is not known"
            else:
                tables.append(table)
    return tables, unknown


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what may be a table: numbers with at least two axes, kept by a module, or by an embedding inside it."""
    for prefix, module in model.named_modules():
        is_layer = bool(module._parameters) and "weight" in module._parameters
        if is_layer and not isinstance(module, nn.Embedding):
            continue
        kept = {**module._parameters, **module._buffers, **vars(module)}
        for own, tensor in kept.items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel():
                yield f"{prefix}.{own}".removeprefix("."), tensor


def _relative_table(name: str, tensor: Tensor, own: str) -> _Table:
    if _COORDINATES.fullmatch(own):
        return _Table(name, tensor, tuple(range(tensor.ndim - 1)))
    if tensor.ndim == 3 or own == "attention_biases":  # heads come first
        return _Table(name, tensor, tuple(range(1, tensor.ndim)))
    # Offsets within a window of h × w are (2h − 1)(2w − 1), an odd number; three of BEiT's class token stand behind.
    n_behind = 3 if own == "relative_position_bias_table" and len(tensor) % 2 == 0 else 0
    return _Table(name, tensor, (0,), 0, len(tensor) - n_behind)


def _absolute_table(name: str, tensor: Tensor, numbers: Iterable[int]) -> _Table | None:
    lengths = tensor.shape
    first = next((axis for axis, length in enumerate(lengths) if length > 1), 0)
    places = tuple(range(first, tensor.ndim - 1))
    if not places:
        return None
    if len(places) == 2 and _is_map(lengths[-3:-1], numbers):
        return _Table(name, tensor, places)
    if len(places) == 2 and _is_map(lengths[-2:], numbers):
        return _Table(name, tensor, (tensor.ndim - 2, tensor.ndim - 1))
    n_before = 0 if _OF_PATCHES_ALONE.search(name) else _number_before(lengths[-2], numbers)
    if n_before is None or (n_before > 0 and len(places) > 1):
        return None
    return _Table(name, tensor, places, n_before)


def _is_map(grid: Sequence[int], numbers: Iterable[int]) -> bool:
    return grid[0] == grid[1] or math.prod(grid) in numbers


def _number_before(n_entries: int, numbers: Iterable[int]) -> int | None:
    """Return how many entries stand before those of patches."""
    known = [n_entries - number for number in numbers if 0 <= n_entries - number <= _MOST_PREFIX_ENTRIES]
    if known:
        return min(known)
    guesses = range(n_entries, max(n_entries - _MOST_IF_GUESSED - 1, 1), -1)
    return next((n_entries - number for number in guesses if math.isqrt(number) ** 2 == number), None)


def _numbers_of_patches(model: nn.Module) -> Iterator[int]:
    """Yield the numbers of patches that parts of a model tell."""
    for module in model.modules():
        for attribute in ("num_patches", "n_patches", "grid_size", "patches_resolution"):
            value = vars(module).get(attribute)
            for number in value if attribute == "num_patches" and isinstance(value, list | tuple) else (value,):
                if isinstance(number, list | tuple) and all(isinstance(side, int) for side in number):
                    number = math.prod(number)
                if isinstance(number, int) and number > 1:
                    yield number


def _otherwise_encoded(model: nn.Module, converted: Iterable[str]) -> dict[str, str]:
    """Return the modules that tell position in another way, and in which; of nested ones the outermost."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if not name or _OF_TEXT.search(name) or isinstance(module, nn.Dropout | nn.Identity | nn.Embedding):
            continue
        if any(name.startswith(f"{other}.") for other in found) or any(t.startswith(f"{name}.") for t in converted):
            continue
        reason = _encoding_of(name.rpartition(".")[2], module)
        if reason:
            found[name] = reason
    for name, _ in (*model.named_parameters(), *model.named_buffers()):
        if _ALIBI.search(name) and not any(name.startswith(f"{other}.") for other in found):
            found[name] = "ALiBi"
    return found


def _encoding_of(own: str, module: nn.Module) -> str:
    """Say how a module of some name encodes position; empty if it does not."""
    kind = type(module).__name__
    if _ROTARY.search(own) or _ROTARY.search(kind):
        return "rotary embedding"
    if _ALIBI.search(own) or _ALIBI.search(kind):
        return "ALiBi"
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1)]
    says_position = bool(_COMPUTED.search(own) or _COMPUTED.search(kind))
    if convolutions and (says_position or _CONVOLUTIONAL.search(own) or _CONVOLUTIONAL.search(kind)):
        return "encoding by convolutions"
    if isinstance(module, nn.Conv2d) and convolutions and 1 < module.groups == module.in_channels and _pads(module):
        return "depthwise convolution that pads"
    return "computed in its code" if says_position else ""


def _pads(convolution: nn.Conv2d) -> bool:
    return convolution.padding not in ("valid", (0, 0))


def _forget_cached(model: nn.Module) -> None:
    """Empty what LeViT and its kin keep of a table in evaluation mode."""
    for module in model.modules():
        vars(module).get("attention_bias_cache", {}).clear()
