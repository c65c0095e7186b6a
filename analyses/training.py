"""Training small classifiers, what a classifier predicts, and the time that a device takes."""

import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Event, Lock, local
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR
from tqdm.auto import tqdm

from probe.errors import TooLargeError
from probe.images.batches import as_floats, open_images
from probe.images.stimuli import apply_stimulus
from probe.models.first_layers import takes_grey
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import unwrap
from probe.reading.options import Options

__all__ = [
    "LEARNING_RATE",
    "ONE_CYCLE",
    "Recipe",
    "classification_loss",
    "clock",
    "fitting_into_memory",
    "predict",
    "predicted_classes",
    "rolled_agreement",
    "side_by_side",
    "take_steps",
    "train",
    "training_bar",
    "training_device",
]

LEARNING_RATE = 0.01
"""Highest learning rate of the one-cycle schedule."""

_PREDICTED_AT_ONCE = 256
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


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the predicted class of each image, shape (image,); the model should be in evaluation mode.

    Raises
    ------
    TooLargeError
        If a batch does not fit into memory.
    """
    shape = (min(len(images), _PREDICTED_AT_ONCE), *images.shape[1:])
    with torch.no_grad(), fitting_into_memory(f"testing: a batch of shape {shape}", images.device):
        return torch.cat([model(part).argmax(dim=1) for part in images.split(_PREDICTED_AT_ONCE)])


def predicted_classes(model: nn.Module, images: Any, options: Options) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which class a classifier gives to each image.

    Parameters
    ----------
    model
        Any classifier; it is left as it was found.
    images, options
        As in `probe.collect`.

    Returns
    -------
    tuple
        The image numbers in ascending order, the classes in the same order (−1 where the model gives NaN), and the
        number of classes. Empty, and 0, if the model's output is not one row of logits for each image, or the model
        says with ``num_classes`` that it has none, as timm's do without their head.
    """
    numbers: list[int] = []
    classes: list[Tensor] = [torch.zeros(0, dtype=torch.long)]
    n_classes = 0
    with closing(_outputs(model, images, options, lambda pixels, _: [pixels])) as outputs:
        for these, (logits,) in outputs:
            if not _are_logits(logits) or gives_embedding(model):
                return np.zeros(0, dtype=int), np.zeros(0, dtype=int), 0
            n_classes = logits.shape[1]
            numbers += these
            classes.append(torch.where(logits.isnan().any(dim=1), -1, logits.argmax(dim=1)).cpu())
    order = np.argsort(numbers)
    return np.array(numbers, dtype=int)[order], torch.cat(classes).numpy()[order], n_classes


def gives_embedding(model: nn.Module) -> bool:
    """Return whether a model says that it has no classes, so that its output is an embedding.

    Examples
    --------
    >>> net = nn.Flatten()
    >>> net.num_classes = 0
    >>> gives_embedding(net), gives_embedding(nn.Flatten())
    (True, False)
    """
    return getattr(unwrap(model), "num_classes", None) == 0


def rolled_agreement(model: nn.Module, images: Any, options: Options) -> float:
    """Return the share of images with the same predicted class at two independent circular shifts.

    Parameters
    ----------
    model
        Any classifier; it is left as it was found.
    images, options
        As in `probe.collect`.

    Returns
    -------
    float
        In [0, 1]; NaN if the model's output is not one row of logits for each image.
    """

    def roll_twice(pixels: Tensor, numbers: list[int]) -> list[Tensor]:
        return [apply_stimulus("rolled", pixels, numbers, options.seed + draw) for draw in (0, 1)]

    same = count = 0
    with closing(_outputs(model, images, options, roll_twice)) as outputs:
        for numbers, (first, second) in outputs:
            if not _are_logits(first):
                return float("nan")
            same += int((first.argmax(1) == second.argmax(1)).sum())
            count += len(numbers)
    return same / count if count else float("nan")


def _are_logits(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 2


def _outputs(
    model: nn.Module, images: Any, options: Options, placed: Callable[[Tensor, list[int]], list[Tensor]]
) -> Generator[tuple[list[int], list[Any]]]:
    """Yield the image numbers of each batch, and what the model gives for each placement of its pixels."""
    model = unwrap(model)
    device = resolve_device(options.device, model)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with borrowed(model, device, options.seed):
        for numbers, pixels in _numbered(images, options, takes_grey(model)):
            yield numbers, [model(as_floats(item, dtype)[0].to(device)) for item in placed(pixels, numbers)]


def _numbered(images: Any, options: Options, grey: bool) -> Iterable[tuple[list[int], Tensor]]:
    source = open_images(
        images,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        transform=options.transform,
        input_key=options.input_key,
        max_images=options.max_images,
        first_image=0,
        fold_of=lambda number, origin: 0,
        grey=grey,
    )
    return ((batch.numbers, batch.pixels) for batch in source)
