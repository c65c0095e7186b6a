"""How descriptors are trained: batches of pairs in one order, and steps of a size that falls to 0."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from probe.analyses.patch_matching.patches import Patches, taken
from probe.analyses.patch_matching.scores import hardest_in_batch
from probe.analyses.training import take_steps

__all__ = ["train_descriptors"]

_LEARNING_RATE = 10.0
_MOMENTUM = 0.9  # with as much dampening, so that a step is of the size of the learning rate
_WEIGHT_DECAY = 1e-4


def train_descriptors(
    network: nn.Module,
    patches: Patches,
    pairs: np.ndarray,
    *,
    batch: int,
    steps: int,
    done: Callable[[], Any] = lambda: None,
) -> list[float]:
    """Train a network in place, and return the loss of each step; it is left in evaluation mode.

    Parameters
    ----------
    network
        Gives descriptors of unit length.
    patches
        What `pairs` are of.
    pairs
        Shape (pair, 2). They are gone through in order, again and again.
    batch, steps
        Pairs of each step, and the number of steps.
    done
        As in `probe.analyses.training.train`.
    """
    starts = range(0, len(pairs), batch)
    losses = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(steps):
            start = starts[step % len(starts)]
            chosen = pairs[start : start + batch]
            yield taken(patches, chosen[:, 0]), taken(patches, chosen[:, 1])

    def loss(network: nn.Module, anchors: Tensor, positives: Tensor) -> Tensor:
        found = hardest_in_batch(network(anchors), network(positives))
        losses.append(float(found.detach()))
        return found

    optimiser = SGD(
        network.parameters(), _LEARNING_RATE, momentum=_MOMENTUM, dampening=_MOMENTUM, weight_decay=_WEIGHT_DECAY
    )
    falling = LambdaLR(optimiser, lambda step: 1 - step / steps)
    take_steps(network, batches(), optimiser, schedule=falling, loss=loss, done=done)
    return losses
