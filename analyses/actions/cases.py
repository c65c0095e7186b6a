"""How much of what is trained: the presets, and each network trained and tested, on moving digits or on videos."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.analyses.actions.digits import DIRECTIONS, TASKS, Clips, shuffled, swapped, task_clips
from probe.analyses.actions.nets import ARMS, make_net
from probe.analyses.actions.training import Schedule, Splits, train_on_videos
from probe.analyses.actions.videos import read_splits
from probe.analyses.data.digits import Digits, load_digits
from probe.analyses.predictions import predict
from probe.analyses.training import side_by_side, train, training_bar

__all__ = [
    "PRESETS",
    "TEST_SEED",
    "Case",
    "Preset",
    "keep_videos",
    "n_classes_of",
    "on_digits",
    "on_videos",
    "one_task",
]

TEST_SEED = 1000


@dataclass(frozen=True)
class Preset:
    """How much is trained and tested.

    Attributes
    ----------
    seeds
        Networks of each kind.
    clips, steps
        To train on, by task of moving digits, and the steps, with batches of `batch`.
    test_clips
        Of each task.
    batch
        Clips of a batch.
    epochs, visits
        Of training on videos, and how often each is seen in one.
    size, short_side
        Rows and columns of clips of videos, and the short side of the frames that are kept in memory; 0: none are.
    """

    seeds: int
    clips: Mapping[str, int]
    steps: Mapping[str, int]
    test_clips: int
    batch: int
    epochs: int
    visits: int
    size: int
    short_side: int


PRESETS = {
    "tiny": Preset(
        seeds=2, clips=dict.fromkeys(TASKS, 8), steps=dict.fromkeys(TASKS, 2), test_clips=8, batch=4, epochs=2,
        visits=1, size=16, short_side=18,
    ),
    "quick": Preset(
        seeds=3, clips={"directions": 3200, "place": 800, "time": 800},
        steps={"directions": 400, "place": 50, "time": 75}, test_clips=400, batch=32, epochs=8, visits=3, size=32,
        short_side=40,
    ),
    "paper": Preset(
        seeds=3, clips={}, steps={}, test_clips=0, batch=32, epochs=150, visits=1, size=112, short_side=0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One network and what it is trained for."""

    seed: int
    data_set: str
    net: str
    arm: str


def on_digits(
    cases: Mapping[str, Sequence[str]], settings: Preset, device: torch.device, progress: bool
) -> dict[Case, dict[str, Any]]:
    """Train and test the networks of some kinds on each task of moving digits; return the accuracies of each."""
    training, held_out = load_digits(enlarged=1)
    tests = {
        task: task_clips(task, held_out, count=settings.test_clips, generator=torch.Generator().manual_seed(TEST_SEED))
        for task in TASKS
    }
    wanted = [
        Case(seed, task, net, arm) for seed, task in product(range(settings.seeds), TASKS) for net in cases
        for arm in cases[net]
    ]  # fmt: skip
    steps = sum(settings.steps[one.data_set] for one in wanted)
    with training_bar("actions", steps, progress) as done, side_by_side(device) as pool:
        # Made here, since the random state is shared by all threads.
        models = [
            make_net(one.net, ARMS[one.arm], n_classes=n_classes_of(one.data_set), n_channels=1, seed=one.seed)
            for one in wanted
        ]
        jobs = [
            pool.submit(one_task, model, one, training, tests[one.data_set], settings, device, done)
            for model, one in zip(models, wanted, strict=True)
        ]
        return {one: job.result() for one, job in zip(wanted, jobs, strict=True)}


def n_classes_of(task: str) -> int:
    """Return how many classes a task of moving digits has."""
    return len(DIRECTIONS) if task == "directions" else 2


def one_task(
    model: nn.Module,
    one: Case,
    digits: Digits,
    test: Clips,
    settings: Preset,
    device: torch.device,
    done: Callable[[], Any],
) -> dict[str, Any]:
    """Train a network in place, and return its accuracies on the test clips, as they are and changed."""
    steps = settings.steps[one.data_set]
    generator = torch.Generator().manual_seed(one.seed)
    known = task_clips(one.data_set, digits, count=settings.clips[one.data_set], generator=generator)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.zeros(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < settings.batch:
                order = torch.randperm(len(known.labels), generator=generator)
            chosen, order = order[: settings.batch], order[settings.batch :]
            yield known.frames[chosen], known.labels[chosen]

    train(model.to(device), batches(), steps=steps, done=done)
    shown = {"as trained": test}
    if one.data_set == "directions":
        shown["frames shuffled"] = shuffled(test, seed=TEST_SEED)
    else:
        shown["swapped"] = swapped(one.data_set, test)
    found = {name: _accuracy(model, clips, device) for name, clips in shown.items()}
    model.cpu()
    return found


def _accuracy(model: nn.Module, clips: Clips, device: torch.device) -> float:
    return 100 * float((predict(model, clips.frames.to(device)).cpu() == clips.labels).float().mean())


def keep_videos(folder: Path, settings: Preset) -> Splits:
    """Read a folder of videos, and keep frames in memory where the preset says so."""
    training, validation, test, classes = read_splits(folder)
    if settings.short_side:
        training, validation, test = (
            part.keep(short_side=settings.short_side) for part in (training, validation, test)
        )
    return Splits(training, validation, test, classes)


def on_videos(
    name: str,
    splits: Splits,
    cases: Mapping[str, Sequence[str]],
    settings: Preset,
    device: torch.device,
    progress: bool,
) -> dict[Case, dict[str, Any]]:
    """Train the networks of some kinds on videos, and return what `train_on_videos` does of each."""
    schedule = Schedule(
        epochs=settings.epochs,
        visits=settings.visits,
        batch=settings.batch,
        size=settings.size,
        is_published=not settings.short_side,
    )
    wanted = [Case(seed, name, net, arm) for seed in range(settings.seeds) for net in cases for arm in cases[net]]
    n_classes = len(splits.classes)
    steps = len(wanted) * schedule.steps(len(splits.training)) * settings.epochs
    with training_bar("actions", steps, progress) as done, side_by_side(device) as pool:
        models = [make_net(one.net, ARMS[one.arm], n_classes=n_classes, n_channels=3, seed=one.seed) for one in wanted]
        jobs = [
            pool.submit(train_on_videos, model, splits, schedule, seed=one.seed, device=device, done=done)
            for model, one in zip(models, wanted, strict=True)
        ]
        return {one: job.result() for one, job in zip(wanted, jobs, strict=True)}
