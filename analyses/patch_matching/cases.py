"""Which networks are trained on how much, and what each scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.analyses.patch_matching.data import ALL, BROWN, Data, Preset
from probe.analyses.patch_matching.nets import HardNet, normalised
from probe.analyses.patch_matching.pair import Pair, found_share
from probe.analyses.patch_matching.patches import in_floats
from probe.analyses.patch_matching.scores import false_positives
from probe.analyses.patch_matching.training import train_descriptors

__all__ = ["STEPS", "Case", "Pixels", "all_cases", "measure", "n_steps", "score"]

STEPS = ("in proportion", "equal")
"""Steps of fewer pairs: as many epochs, or as many steps, as with the most pairs."""

_AT_ONCE = 256  # patches that are described
_LATE = 10  # one part in so many of the steps, whose loss is kept


@dataclass(frozen=True)
class Case:
    """One network and how it is trained; with 0 pairs it is not."""

    seed: int
    net: str
    pairs: int
    steps: str
    batch: int


class Pixels(nn.Module):
    """The descriptor that is the normalised patch itself."""

    def forward(self, patches: Tensor) -> Tensor:
        """Return the pixels of patches, of unit length."""
        return nn.functional.normalize(normalised(patches).flatten(1))


def all_cases(settings: Preset, nets: Sequence[str]) -> Iterator[Case]:
    """Yield each network that is trained; where both numbers of steps are the same, once."""
    for seed, net in product(range(settings.seeds), nets):
        yield Case(seed, net, 0, STEPS[0], settings.batches[0])
        for batch, pairs, steps in product(settings.batches, settings.pairs, STEPS):
            if pairs < max(settings.pairs) or steps == STEPS[0]:
                yield Case(seed, net, pairs, steps, batch)


def n_steps(one: Case, settings: Preset) -> int:
    """Return for how many steps a network is trained."""
    length = one.pairs if one.steps == STEPS[0] else max(settings.pairs)
    return settings.epochs * -(-length // one.batch) if one.pairs else 0


def measure(
    network: HardNet,
    one: Case,
    data: Data,
    pairs: np.ndarray,
    scene: Pair | None,
    settings: Preset,
    device: torch.device,
    done: Callable[[], Any],
) -> dict[str, float]:
    """Train a network in place, and return its scores and its loss in the last steps."""
    network.to(device).eval()
    losses = [float("nan")]
    if steps := n_steps(one, settings):
        chosen = pairs[: one.pairs]
        losses = train_descriptors(network, data.training, chosen, batch=one.batch, steps=steps, done=done)
    found = score(network, data, scene, device)
    network.cpu()
    return {**found, "loss": float(np.mean(losses[-(-len(losses) * (_LATE - 1) // _LATE) :] or losses))}


def score(network: nn.Module, data: Data, scene: Pair | None, device: torch.device) -> dict[str, float]:
    """Return what a network in evaluation mode scores in each test, the spread of its descriptors, and in the pair."""
    describe = partial(_descriptors, network, device=device)
    whole = ALL if ALL in data.tests else BROWN
    found = {whole: float("nan")}
    spreads = []
    for name, (patches, pairs) in data.tests.items():
        descriptors = describe(patches.pixels)
        matching = _between(descriptors, pairs.matching)
        others = {kind: _between(descriptors, these) for kind, these in pairs.others.items()}
        found |= {kind: 100 * false_positives(matching, these) for kind, these in others.items()}
        if name == ALL:
            found[ALL] = 100 * false_positives(matching, np.concatenate(list(others.values())))
        spreads.append(float((1 - descriptors.mean(dim=0).square().sum()).clamp(min=0).sqrt()))
    if whole == BROWN:
        found[BROWN] = float(np.mean([share for kind, share in found.items() if kind != BROWN]))
    found["spread"] = float(np.mean(spreads))
    if scene is not None:
        first, second = (describe(part).numpy() for part in (scene.first, scene.second))
        found["found"] = found_share(first, second, scene.is_right)
    return found


def _descriptors(network: nn.Module, pixels: Tensor, *, device: torch.device) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(in_floats(part).to(device)).cpu() for part in pixels.split(_AT_ONCE)])


def _between(descriptors: Tensor, pairs: np.ndarray) -> np.ndarray:
    first, second = (descriptors[torch.from_numpy(pairs[:, side])] for side in (0, 1))
    return (first - second).norm(dim=1).numpy()
