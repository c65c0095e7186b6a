"""Training small classifiers, one after the other or side by side, and the time that a device takes."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, local
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR
from tqdm.auto import tqdm

from probe.errors import TooLargeError
from probe.models.loan import resolve_device

__all__ = [
    "LEARNING_RATE",
    "ONE_CYCLE",
    "Recipe",
    "classification_loss",
    "clock",
    "fitting_into_memory",
    "side_by_side",
    "take_steps",
    "train",
    "training_bar",
    "training_device",
]

LEARNING_RATE = 0.01
"""Highest learning rate of the one-cycle schedule."""

_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


@dataclass(frozen=True)
class Recipe:
    """How weights are updated.

    Attributes
    ----------
    rate
        Highest learning rate.
    weight_decay
        Of all weights.
    momentum
        Of SGD; None is AdamW.
    drops
        Parts of the steps after which the rate falls to a tenth. Empty is a one-cycle schedule.
    """

    rate: float = LEARNING_RATE
    weight_decay: float = 0.01
    momentum: float | None = None
    drops: tuple[float, ...] = ()

    def start(self, model: nn.Module, steps: int) -> tuple[Optimizer, LRScheduler]:
        """Return an optimiser of a model, and the schedule of its rate over so many steps."""
        given: dict[str, Any] = {"lr": self.rate, "weight_decay": self.weight_decay}
        optimiser: Optimizer = (
            AdamW(model.parameters(), **given)
            if self.momentum is None
            else SGD(model.parameters(), momentum=self.momentum, **given)
        )
        if not self.drops:
            return optimiser, OneCycleLR(optimiser, self.rate, total_steps=steps)
        return optimiser, MultiStepLR(optimiser, [round(part * steps) for part in self.drops], gamma=0.1)


ONE_CYCLE = Recipe()
"""AdamW on a one-cycle schedule: learns most in few steps."""


def classification_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of a classifier."""
    return functional.cross_entropy(model(images), labels)


def train(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    *,
    steps: int,
    recipe: Recipe = ONE_CYCLE,
    loss: Callable[..., Tensor] = classification_loss,
    done: Callable[[], Any] = lambda: None,
) -> None:
    """Train a model in place; it is left in evaluation mode.

    Parameters
    ----------
    model
        Takes images, gives the logits of classes.
    batches
        (images, labels), or whatever `loss` takes; as many as `steps`. They are moved to where the model is.
    steps
        Length of the schedule.
    recipe
        How weights are updated.
    loss
        Of the model and a batch.
    done
        Is called after each step; see `training_bar`.

    Raises
    ------
    TooLargeError
        If a batch does not fit into memory.
    """
    optimiser, schedule = recipe.start(model, steps)
    take_steps(model, batches, optimiser, schedule=schedule, loss=loss, done=done)


def take_steps(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    optimiser: Optimizer,
    *,
    schedule: LRScheduler | None = None,
    loss: Callable[..., Tensor] = classification_loss,
    done: Callable[[], Any] = lambda: None,
) -> None:
    """Train a model in place with an optimiser that has begun, as `train` does, a step for each batch.

    For what a `Recipe` does not say: other optimisers, and networks that are tested after each epoch.

    Parameters
    ----------
    model, batches, loss, done
        As in `train`.
    optimiser
        Of the model.
    schedule
        Of the rate of learning, which changes after each step; by default it does not.

    Raises
    ------
    TooLargeError
        If a batch does not fit into memory.
    """
    device = next(model.parameters()).device
    model.train()
    with torch.enable_grad():
        for batch in batches:
            _check_stopped()
            with fitting_into_memory(f"training: a batch of shape {tuple(batch[0].shape)}", device):
                optimiser.zero_grad()
                loss(model, *(part.to(device, non_blocking=True) for part in batch)).backward()
                optimiser.step()
            if schedule is not None:
                schedule.step()
            done()
    model.eval()


@contextmanager
def fitting_into_memory(what: str, device: torch.device) -> Iterator[None]:
    """Say by name what did not fit, where torch tells of its allocator; what has been told by name stays as it is.

    Raises
    ------
    TooLargeError
        If there was no memory left.
    """
    try:
        yield
    except TooLargeError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise TooLargeError(
            f"{what} does not fit into the memory of {device}. Choose a smaller preset, or another device."
        ) from error


@contextmanager
def training_bar(task: str, steps: int, progress: bool) -> Iterator[Callable[[], None]]:
    """Show how many steps of training are done, and say how far it was where Ctrl-C ends it.

    Parameters
    ----------
    task
        Name of the study.
    steps
        Of all networks together.
    progress
        Show a progress bar on a terminal or in a notebook.

    Yields
    ------
    callable
        To be called after each step, from any thread.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, with a message.
    """
    count, lock = 0, Lock()
    with tqdm(total=steps, unit="step", desc=task, disable=None if progress else True) as bar:

        def done() -> None:
            nonlocal count
            with lock:
                count += 1
                bar.update()

        try:
            yield done
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                f"{task}: stopped after {count:,} of {steps:,} steps of training; no result was written"
            ) from interrupt


def clock(device: torch.device) -> float:
    """Return the time in seconds at which `device` has done all that it was given; only differences mean anything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def side_by_side(device: str | torch.device = "cpu") -> Iterator[Executor]:
    """Give a pool in which several small networks are trained at a time, each on one thread of torch's.

    Small networks gain little from several threads, and lose much where other programs keep the processor busy.
    The number of threads is restored in the end; what has not been started by then is not. After an error or Ctrl-C,
    networks that are being trained stop at their next step, and Ctrl-C has a message.

    Parameters
    ----------
    device
        Where the networks are. On a GPU they are trained one after the other: side by side they would share its
        memory, and gain no speed.

    Raises
    ------
    TooLargeError
        If a network, or what it is trained or tested on, does not fit into memory.
    """
    n_threads = torch.get_num_threads()
    stopped = Event()
    n_workers = n_threads if torch.device(device).type == "cpu" else 1
    pool = ThreadPoolExecutor(n_workers, initializer=_begin, initargs=(stopped,))
    torch.set_num_threads(1)
    try:
        with fitting_into_memory("a network, or what it is trained or tested on,", torch.device(device)):
            yield pool
    except BaseException as error:
        stopped.set()
        if isinstance(error, KeyboardInterrupt) and not str(error):
            raise KeyboardInterrupt("training was stopped; no result was written") from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


_of_thread = local()


def _begin(stopped: Event) -> None:
    _of_thread.stopped = stopped


def _check_stopped() -> None:
    """Leave a thread whose pool has been left by an error or Ctrl-C."""
    stopped: Event | None = getattr(_of_thread, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise CancelledError


def training_device(device: str | torch.device) -> torch.device:
    """Return the device to train on; ``"auto"`` is a GPU where there is one.

    Raises
    ------
    ArgumentError
        If the device is unknown or absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return resolve_device(device, nn.Identity())
