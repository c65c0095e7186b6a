"""Networks of clips trained on videos, and the accuracy of clips and of videos, epoch by epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from probe.analyses.actions.clips import middle_clips, scored_starts, training_clips, whole_starts
from probe.analyses.actions.videos import Videos
from probe.analyses.training import ONE_CYCLE, take_steps

__all__ = ["Schedule", "Splits", "score_clips", "score_videos", "train_on_videos"]

_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.1, 0.9, 1e-3  # with as much dampening as momentum
_PATIENCE, _FACTOR = 10, 0.1
_AT_ONCE = 32  # clips that are scored
_WORKERS = 8


@dataclass(frozen=True)
class Splits:
    """Videos to train on, to choose the epoch with, and to test with, and the names of their classes."""

    training: Videos
    validation: Videos
    test: Videos
    classes: Sequence[str]

    def counts(self) -> dict[str, Any]:
        """Return how many videos there are of each."""
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        return {"videos": {name: len(part) for name, part in parts.items()}, "classes": len(self.classes)}


@dataclass(frozen=True)
class Schedule:
    """How networks are trained on videos.

    Attributes
    ----------
    epochs, visits
        Number of epochs, and how often each video is seen in one.
    batch, size
        Clips of a batch, and their rows and columns.
    is_published
        SGD whose learning rate falls where the validation loss does not, with frames read by other processes; else
        AdamW on a one-cycle schedule.
    """

    epochs: int
    visits: int
    batch: int
    size: int
    is_published: bool

    def steps(self, n_videos: int) -> int:
        """Return the steps of one epoch."""
        return self.visits * -(-n_videos // self.batch)


def train_on_videos(
    model: nn.Module,
    splits: Splits,
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    done: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    """Train a network in place, and score it after each epoch.

    Parameters
    ----------
    model
        Takes clips of shape (clip, 3, frame, row, column), gives the scores of classes.
    splits, schedule
        What it is trained with, and how.
    seed
        Of the order of the videos, and of what is taken of them.
    device
        Where it is trained.
    done
        As in `probe.analyses.training.train`.

    Returns
    -------
    dict
        In per cent, ``clips`` and ``videos`` of the test in the ``chosen epoch``, the first with the highest accuracy
        on the clips of validation, and in the ``last epoch``; ``clips, best epoch``: the highest on the test clips;
        ``by_epoch``: of the clips of validation and of test, two lists.
    """
    model.to(device)
    n_steps = schedule.steps(len(splits.training))
    plateau, by_step = None, None
    if schedule.is_published:
        optimiser: Optimizer = SGD(
            model.parameters(), _RATE, momentum=_MOMENTUM, dampening=_MOMENTUM, weight_decay=_WEIGHT_DECAY
        )
        plateau = ReduceLROnPlateau(optimiser, factor=_FACTOR, patience=_PATIENCE)
    else:
        optimiser, by_step = ONE_CYCLE.start(model, schedule.epochs * n_steps)
    workers = _WORKERS if schedule.is_published else 0
    tested_with: dict[str, Any] = {"size": schedule.size, "device": device, "workers": workers}
    curves: tuple[list[float], list[float]] = ([], [])
    scores: dict[str, Any] = {}
    for epoch in range(schedule.epochs):
        visits = range(epoch * schedule.visits, (epoch + 1) * schedule.visits)
        clips = training_clips(
            splits.training,
            visits=visits,
            batch=schedule.batch,
            size=schedule.size,
            seed=seed,
            workers=workers,
        )
        take_steps(model, clips, optimiser, schedule=by_step, done=done)
        loss, accuracy = score_clips(model, splits.validation, **tested_with)
        _, tested = score_clips(model, splits.test, **tested_with)
        if plateau is not None:
            plateau.step(loss)
        is_chosen, is_last = accuracy > max(curves[0], default=-1.0), epoch == schedule.epochs - 1
        curves[0].append(accuracy)
        curves[1].append(tested)
        if is_chosen or is_last:
            of_videos = score_videos(model, splits.test, **tested_with)
            for name in [name for name, wanted in (("chosen", is_chosen), ("last", is_last)) if wanted]:
                scores |= {f"clips, {name} epoch": tested, f"videos, {name} epoch": of_videos}
    model.cpu()
    return {**scores, "clips, best epoch": max(curves[1]), "by_epoch": list(curves)}


def score_clips(
    model: nn.Module, videos: Videos, *, size: int, device: torch.device, workers: int = 0
) -> tuple[float, float]:
    """Return the mean cross-entropy over about three clips of each video, and their accuracy in per cent."""
    starts = [scored_starts(videos.length(index)) for index in range(len(videos))]
    logits = _logits(model, videos, starts, size, device, workers)
    labels = torch.tensor(videos.labels).repeat_interleave(torch.tensor([len(own) for own in logits]))
    scores = torch.cat(logits)
    accuracy = 100 * float((scores.argmax(dim=1) == labels).double().mean())
    return float(functional.cross_entropy(scores, labels)), accuracy


def score_videos(model: nn.Module, videos: Videos, *, size: int, device: torch.device, workers: int = 0) -> float:
    """Return the accuracy of videos, by the mean probability over clips that cover each, in per cent."""
    starts = [whole_starts(videos.length(index)) for index in range(len(videos))]
    logits = _logits(model, videos, starts, size, device, workers)
    predicted = torch.stack([own.softmax(dim=1).mean(dim=0).argmax() for own in logits])
    return 100 * float((predicted == torch.tensor(videos.labels)).double().mean())


def _logits(
    model: nn.Module, videos: Videos, starts: Sequence[range], size: int, device: torch.device, workers: int
) -> list[Tensor]:
    """Return the class scores of the clips of each video, shape (clip, class)."""
    places = [(index, start) for index, own in enumerate(starts) for start in own]
    clips = middle_clips(videos, places, batch=_AT_ONCE, size=size, workers=workers)
    with torch.no_grad():
        found = [model(batch.to(device)).cpu() for batch in clips]
    return list(torch.cat(found).split([len(own) for own in starts]))
