"""Where the tokens of a transformer lie: seen from which of them answer when a spot of the image changes.

The number of tokens does not tell which of them are patches, nor their order: there are class, register, prompt,
detection and group tokens, patches may be dropped, and some models keep them in another order. So the model is run on
the same images with one spot of each changed. Before the first attention the token of the changed patch alone
answers; behind it all do, and that token most, beyond what it answers to other spots. Where no token stands out, the
layer is taken to be as the nearest one with as many tokens.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from probe.models.hooks import hooking
from probe.models.kinds import is_convolution
from probe.models.layouts import Grid, first_tensor, grid_in, possible_grids
from probe.models.loan import Forward, run_model, seeded

__all__ = ["Patches", "find_patches", "makes_maps"]

_MAP_MAKERS = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
    nn.Upsample,
)

Call = tuple[str, int]

# Each in a frame, a row and a column of its own, one in each quarter of the image, and none near its edges.
_SPOTS = ((0.55, 0.29, 0.21), (0.15, 0.21, 0.73), (0.85, 0.69, 0.31), (0.35, 0.79, 0.81))
_N_DIRECTIONS = 8
_LEAST_ANSWER = 1e-6  # of what a token holds, above rounding
_ALIKE, _UNLIKE = 0.5, 0.25  # cosines; that of other places is near 0
_KEEP_ALL = (
    "let the model keep all patches, in their order, by forward=, or pass a function in layout= that puts them there"
)
_ALONE = 0.9  # which share of all that a token answers goes to one spot, if it is that spot's own


@dataclass(frozen=True)
class Patches:
    """Which tokens are patches, row by row on which grid; or why that is not known.

    Attributes
    ----------
    n_before, n_behind : int
        Number of other tokens before and behind them.
    grid : tuple of int
        Rows and columns, or frames, rows and columns.
    problem : str
        Empty where it is known.
    cure : str
        What to do where telling which tokens are patches would not be enough.
    """

    n_before: int = 0
    n_behind: int = 0
    grid: Grid = ()
    problem: str = ""
    cure: str = ""


def makes_maps(module: nn.Module) -> bool:
    """Tell a module whose outputs are maps (image, channel, *size), which tell on which grids tokens can lie.

    Examples
    --------
    >>> makes_maps(nn.Conv2d(3, 4, 3)), makes_maps(nn.ReLU())
    (True, False)
    """
    return isinstance(module, _MAP_MAKERS) or is_convolution(module)


def find_patches(
    model: nn.Module, images: Tensor, axes: Mapping[Call, str], names: Mapping[nn.Module, str], forward: Forward | None
) -> dict[Call, Patches]:
    """Find the patches among the tokens that some calls of modules give.

    Parameters
    ----------
    model
        An eager model.
    images
        Two copies of one image, shape (2, channel, *size).
    axes
        Module and number of the call -> ``"NLC"`` or ``"LNC"``.
    names
        The modules of the model and their names.
    forward
        As in `probe.collect`.
    """
    before = _seen(model, images, axes, names, forward)
    n_images = len(images)
    changes = []
    for start in range(0, len(_SPOTS), n_images):
        spots = _SPOTS[start : start + n_images]
        after = _seen(model, _with_spots(images, spots), axes, names, forward)
        changes.append([_change(*pair) for pair in zip(before, after, strict=False)])
    # What was not called in all runs alike is not compared.
    answers = [torch.cat(parts) for parts in zip(*changes, strict=False)]
    return _verdicts(before[: len(answers)], answers, grid_in(images))


@dataclass(frozen=True)
class _Seen:
    """An output of one module, each cell or token of which is put down as a few numbers."""

    call: Call | None
    grid: Grid | None
    cells: Tensor


def _seen(
    model: nn.Module,
    images: Tensor,
    axes: Mapping[Call, str],
    names: Mapping[nn.Module, str],
    forward: Forward | None,
) -> list[_Seen]:
    """Run a model and put down the maps and tokens that it makes, in order; what is random is the same in each run."""
    seen: list[_Seen] = []
    calls: Counter[str] = Counter()
    wanted = {name for name, _ in axes}

    def hook_for(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            call = (name, calls[name])
            calls[name] += 1
            tensor = first_tensor(output)
            if tensor is None:
                return
            if call in axes and tensor.ndim == 3:
                tokens = tensor.transpose(0, 1) if axes[call] == "LNC" else tensor
                seen.append(_Seen(call, None, _condensed(tokens)))
            elif makes_maps(module) and tensor.ndim in (4, 5) and len(tensor) == len(images):
                seen.append(_Seen(None, grid_in(tensor), _condensed(tensor.flatten(2).transpose(1, 2))))

        return hook

    with hooking(model) as hooks, seeded(0):
        for module, name in names.items():
            if name in wanted or makes_maps(module):
                hooks.after(module, hook_for(name))
        run_model(model, images.clone(), forward)
    return seen


def _condensed(cells: Tensor) -> Tensor:
    """Return the channels of each cell, shape (image, cell, channel), along a few fixed directions."""
    generator = torch.Generator("cpu").manual_seed(0)
    directions = torch.randn(cells.shape[2], _N_DIRECTIONS, generator=generator, device="cpu")
    with torch.autocast(cells.device.type, enabled=False):
        return cells.detach().float() @ directions.to(cells.device)


def _with_spots(images: Tensor, spots: Sequence[tuple[float, ...]]) -> Tensor:
    """Change one spot of each image by the range of its values."""
    low, high = images.amin(), images.amax()
    step = high - low if high > low else torch.ones_like(high)
    changed = images.clone()
    for image, place in zip(changed, spots, strict=False):
        size = image.shape[1:]
        side = max(1, min(size) // 64)
        starts = _cell_at(place, size)
        spot = image[(slice(None), *(slice(start, start + side) for start in starts))]
        spot += torch.where(spot > (low + high) / 2, -step, step)
    return changed


def _cell_at(place: tuple[float, ...], size: Sequence[int]) -> tuple[int, ...]:
    """Return the cell of a grid at a place, told as shares of frames, rows and columns."""
    return tuple(int(share * length) for share, length in zip(place[-len(size) :], size, strict=True))


def _change(before: _Seen, after: _Seen) -> Tensor:
    """Return how much each cell of each image changed, shape (image, cell)."""
    if before.call != after.call or before.cells.shape != after.cells.shape:
        return torch.zeros(before.cells.shape[:2], device="cpu")
    change = (after.cells - before.cells).norm(dim=2).nan_to_num(0, 0, 0)
    noise = _LEAST_ANSWER * before.cells.norm(dim=2).nan_to_num(0, 0, 0)
    return torch.where(change > noise, change, 0).double().cpu()


def _verdicts(seen: Sequence[_Seen], answers: Sequence[Tensor], size: Grid) -> dict[Call, Patches]:
    found: dict[Call, Patches | None] = {}
    n_tokens: dict[Call, int] = {}
    maps: dict[Grid, list[Tensor]] = {}
    grids = [size]
    for output, answer in zip(seen, answers, strict=True):
        if output.grid is not None:
            grids.append(output.grid)
            if answer.amax(dim=1).all():
                maps.setdefault(output.grid, []).append(_standing_out(answer))
        elif output.call is not None:
            n_tokens[output.call] = answer.shape[1]
            found[output.call] = _verdict(answer, grids, maps)
    return {call: patches or _nearest(call, found, n_tokens) for call, patches in found.items()}


def _verdict(answer: Tensor, grids: Sequence[Grid], maps: Mapping[Grid, Sequence[Tensor]]) -> Patches | None:
    """Return what the answers of tokens to spots, shape (spot, token), tell; None if they tell nothing."""
    n_tokens = answer.shape[1]
    if not answer.amax(dim=1).all():
        missing = Patches(problem=f"some patches of the image are not among its {n_tokens} tokens", cure=_KEEP_ALL)
        return missing if answer.any() else None
    standing_out = _standing_out(answer)
    possible = possible_grids(n_tokens, grids)
    best = 0.0
    # What a map answered tells more than where a grid that divides the image evenly has the spots; there are so many
    # of those that one fits some of the spots by chance.
    for least, tier in (
        (0.0, [grid for grid in possible if grid in maps]),
        (_UNLIKE, [grid for grid in possible if grid not in maps]),
    ):
        likenesses = [(*_likeness(standing_out, place, least), grid) for grid in tier for place in _places(grid, maps)]
        if not likenesses:
            continue
        likeness, n_before, grid = max(likenesses, key=lambda found: found[0])
        if likeness >= _ALIKE:
            return Patches(n_before, n_tokens - n_before - math.prod(grid), grid)
        best = max(best, likeness)
    strongest = standing_out.argmax(dim=1)
    shares = answer.gather(1, strongest[:, None])[:, 0] / answer[:, strongest].sum(dim=0)
    if best < _UNLIKE and (shares > _ALONE).all():
        problem = f"its {n_tokens} tokens are not in the order of the image's patches, row by row"
        return Patches(problem=problem, cure=_KEEP_ALL)
    return None


def _standing_out(answer: Tensor) -> Tensor:
    """Weigh each answer by the share of it in all that this token answers: some tokens answer whatever changes."""
    weighed = answer * answer / answer.sum(dim=0).clamp_min(torch.finfo(answer.dtype).tiny)
    return weighed / weighed.norm(dim=1, keepdim=True)


def _places(grid: Grid, maps: Mapping[Grid, Sequence[Tensor]]) -> list[Tensor]:
    """Return what cells of a grid answer to spots, shape (spot, cell): in its first map, and in its latest."""
    if grid in maps:
        return [maps[grid][0], maps[grid][-1]]
    cells = [int(np.ravel_multi_index(_cell_at(place, grid), grid)) for place in _SPOTS]
    return [nn.functional.one_hot(torch.tensor(cells, device="cpu"), math.prod(grid)).double()]


def _likeness(tokens: Tensor, cells: Tensor, least: float) -> tuple[float, int]:
    """Return how alike the answers of tokens and of the cells of a map are, and behind how many tokens most so.

    It is the mean cosine over the spots; 0 where the answer to one spot is more like that to another, or one is below
    `least`.
    """
    alike = nn.functional.conv1d(tokens[:, None], cells[:, None]).permute(2, 0, 1)
    own = alike.diagonal(dim1=1, dim2=2)
    is_own = (own >= alike.amax(dim=1)).all(dim=1) | (own >= alike.amax(dim=2)).all(dim=1)
    means = torch.where(is_own & (own.amin(dim=1) >= least), own.mean(dim=1), 0)
    return means.max().item(), int(means.argmax())


def _nearest(call: Call, found: Mapping[Call, Patches | None], n_tokens: Mapping[Call, int]) -> Patches:
    calls = list(found)
    here = calls.index(call)
    for other in _outwards(calls, here):
        patches = found[other]
        if patches is not None and n_tokens[other] == n_tokens[call]:
            return patches
    return Patches(problem=f"none of its {n_tokens[call]} tokens answers to one patch of the image above all")


def _outwards(calls: Sequence[Call], here: int) -> Iterator[Call]:
    yield from reversed(calls[:here])
    yield from calls[here + 1 :]
