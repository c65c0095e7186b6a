"""A model at work on images: lent, fed batch by batch in its own precision, and told apart by digests."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from probe.errors import ArgumentError, ImagesError, noting, warn
from probe.images.batches import as_floats, open_images
from probe.images.digests import joined_digests, pixels_digest
from probe.images.sources import Batch, ImageSource
from probe.images.stimuli import apply_stimulus
from probe.models.capture import Reduce, ReduceExpansion, reading
from probe.models.first_layers import axes_taken, takes_grey
from probe.models.layers import Layer, LayerSelection, select_layers
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import module_names, unwrap
from probe.models.survey import survey_fast
from probe.models.weights import modules_digest, weights_digest
from probe.reading.options import Options
from probe.reading.ranks import Share, check_ranks, own_share
from probe.results import Facts

__all__ = ["Reader", "Staging", "noting_images", "open_reader", "single"]

_LOOKED_UP = 4

Staging = Callable[[Tensor, Sequence[int]], Tensor]


class Reader:
    """A model that was lent, and the images that it will be shown; from `open_reader`.

    Attributes
    ----------
    model : torch.nn.Module
        The eager model.
    device : torch.device
        Where it runs.
    found : list of Layer
        Every call of every module for the first image.
    warned : list of str
        The warnings that were given; add one's own with `probe.errors.warn`.
    share : Share
        Which of them this process reads.
    image_at : callable or None
        See `probe.images.sources.ImageSource`.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        source: ImageSource,
        options: Options,
        stage: Staging | None,
        share: Share,
    ) -> None:
        self.share = share
        self.model, self.warned = model, source.warned
        self._stage = stage
        self.device, self._source, self._options = device, source, options
        self._start, self._n_images, self._digest, self._has_warned = time.monotonic(), 0, "0", False
        parameters = [p for p in model.parameters() if p.is_floating_point()]
        self._dtype = parameters[0].dtype if parameters else None
        self._latest: Batch | None = None
        self.image_at = source.image_at
        image = source.peek()
        self._first = Batch([options.first_image], [0], image)
        with noting(f"while the model ran on the first image, shape {tuple(image.shape)}"):
            self.found, self._memory_format = survey_fast(
                model, self._prepared(image, [options.first_image]), options.layout, options.forward
            )

    def layer(self, name: Any) -> Layer:
        """Return the one layer that a name, a glob or a module means.

        Raises
        ------
        ArgumentError
            If it means several.
        LayerNotFoundError, LayerNotCalledError, LayoutError
            If it means none, or its output is no map of more than one cell.
        """
        return single(select_layers(name, self.found, module_names(self.model))[0], name)

    def layers(self, selection: LayerSelection) -> tuple[list[Layer], dict[str, str]]:
        """Return the chosen layers, and why others were left out; see `probe.models.layers.select_layers`."""
        return select_layers(selection, self.found, module_names(self.model))

    @property
    def length(self) -> int | None:
        """Number of images that are read, by this process or by others, where it is known: of a stream, afterwards."""
        return self._source.length

    @property
    def seen(self) -> dict[int, str]:
        """Digests of a few images, by number, which all shares look at.

        Of a stream, those that were read or gone past so far; else, where there are several shares, four images that
        are evenly spaced, the last one among them.
        """
        return self._looked_up if self.image_at is not None else self._source.seen

    @cached_property
    def _looked_up(self) -> dict[int, str]:
        if self.image_at is None or self.share.of == 1 or not self._source.numbers:
            return {}
        numbers = sorted(self._source.numbers)
        chosen = sorted({numbers[(len(numbers) - 1) * part // _LOOKED_UP] for part in range(1, _LOOKED_UP + 1)})
        images = {number: self.image_at(number) for number in chosen}
        return {n: "" if image is None else pixels_digest([image], [n]) for n, image in images.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """What tells whether two readings are of one model and of the same images, by name.

        Of the images these are their number, the first one, and those in `seen` where they can be looked up.
        """
        return {
            "model": type(self.model).__name__,
            "weights_digest": self.weights_digest,
            "modules_digest": self.modules_digest,
            "number of images": self.length,
            "the first image": pixels_digest(self._first.pixels, self._first.numbers),
            **({} if self.image_at is None else _by_name(self.seen)),
        }

    def first(self) -> tuple[Batch, Tensor]:
        """Return the first image of all as a batch, which is not counted as read, and as the model takes it."""
        self._latest = self._first
        return self._first, self._prepared(self._first.pixels, self._first.numbers)

    def batches(self) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch, and its images as the model takes them."""
        shown = (
            self._options.progress and own_share().place == 0 and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        )
        task, phase = self._options.task, self._options.phase
        with tqdm(
            total=self._source.left, unit="image", desc=f"{task}: {phase}" if phase else task, leave=not phase,
            disable=not shown,
        ) as bar:  # fmt: skip
            for batch in self._source:
                self._n_images += len(batch.numbers)
                self._digest = joined_digests(self._digest, pixels_digest(batch.pixels, batch.numbers))
                self._latest = batch
                yield batch, self._prepared(batch.pixels, batch.numbers).contiguous(memory_format=self._memory_format)
                bar.update(len(batch.numbers))
        if self.share.of > 1 and self.image_at is None:
            check_ranks({"number of images": self.length, **_by_name(self.seen)})

    @contextmanager
    def reading(
        self, layers: Sequence[Layer], reduce: Reduce, reduce_expansion: ReduceExpansion | None = None
    ) -> Iterator[Callable[..., dict[str, Any]]]:
        """Reduce the maps of chosen layers while the model runs; see `probe.models.capture.reading`.

        Yields
        ------
        callable
            run(images, stimulus="natural"), for the images of the latest batch: shows them under a stimulus, and
            returns what `reduce` made of each layer, by its name. It notes on an exception of the model which images
            they were.
        """
        with reading(self.model, layers, reduce, reduce_expansion, self._options.forward) as run_model:

            def run(images: Tensor, stimulus: str = "natural") -> dict[str, Any]:
                numbers = self.batch.numbers
                with noting_images(numbers, stimulus, images):
                    return run_model(apply_stimulus(stimulus, images, numbers, self._options.seed))

            yield run

    @property
    def batch(self) -> Batch:
        """The batch that `batches` gave last."""
        assert self._latest is not None
        return self._latest

    def facts(self, skipped: Mapping[str, str] | None = None) -> Facts:
        """Return how what was read so far was read; `skipped` are layers that were left out, with the reason."""
        return Facts(
            model=type(self.model).__name__,
            weights_digest=self.weights_digest,
            n_images=self._n_images,
            images_digest=self._digest,
            device=str(self.device),
            seed=self._options.seed,
            duration_s=round(time.monotonic() - self._start, 3),
            skipped=dict(skipped or {}),
            corrupt=self._source.corrupt,
            warnings=tuple(self.warned),
        )

    @cached_property
    def weights_digest(self) -> str:
        """Digest of the model's parameters and buffers."""
        return weights_digest(self.model)

    @cached_property
    def modules_digest(self) -> str:
        """Digest of the model's modules."""
        return modules_digest(self.model)

    def _prepared(self, images: Tensor, numbers: Sequence[int]) -> Tensor:
        dtype = self._dtype or (images.dtype if images.is_floating_point() else torch.float32)
        floats, warning = as_floats(images, dtype)
        if warning and not self._has_warned:
            self._has_warned = True
            warn(warning, self.warned)
        shown = floats.to(self.device, non_blocking=True)
        return shown if self._stage is None else self._stage(shown, numbers)


def _by_name(digests: Mapping[int, str]) -> dict[str, str]:
    return {f"image {number}": digest for number, digest in digests.items()}


@dataclass(frozen=True)
class _Unread:
    """Which images are still to be read, by their numbers; workers are told as well."""

    share: Share
    first_image: int
    done: frozenset[int]

    def __call__(self, number: int) -> bool:
        return self.share.has(number, self.first_image) and number not in self.done


@contextmanager
def open_reader(
    model: nn.Module,
    images: Any,
    options: Options,
    stage: Staging | None = None,
    *,
    labels: bool = False,
    share: Share | None = None,
    done: frozenset[int] = frozenset(),
) -> Iterator[Reader]:
    """Lend a model, open the images, and list the layers; the model is handed back as it was on any exit.

    Parameters
    ----------
    model, images, options
        See `probe.collect`.
    stage
        (images on the model's device, their numbers) -> what the model is shown in their place, for example each
        image on a canvas.
    labels
        Whether the batches are to hold labels.
    share
        Which images to read of all; None for all. Of a stream the others are gone past.
    done
        Numbers of images that are not to be read again.

    Raises
    ------
    ImagesError
        If there are shares, and the images are those of a loader.
    """
    share = share or Share()
    if share.of > 1 and isinstance(images, DataLoader):
        raise ImagesError(
            f"images: a {type(images).__name__} loads every row in each process, and may leave out or shuffle some by "
            "itself. Pass its data set, of which each process reads its own share, with batch_size= and num_workers=."
        )
    model = unwrap(model)
    device = resolve_device(options.device, model)
    autocast = torch.autocast(device.type, options.precision, enabled=options.precision is not None)
    with borrowed(model, device, options.seed), autocast:
        source = open_images(
            images,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            transform=options.transform,
            input_key=options.input_key,
            max_images=options.max_images,
            first_image=options.first_image,
            fold_of=options.fold_of,
            labels=labels,
            grey=takes_grey(model),
            n_axes=axes_taken(model) if options.forward is None else None,
            wanted=None if share.of == 1 and not done else _Unread(share, options.first_image, done),
        )
        yield Reader(model, device, source, options, stage, share)


@contextmanager
def noting_images(numbers: Sequence[int], stimulus: str, images: Tensor) -> Iterator[None]:
    """Note on an exception of the model on which images it ran, and where memory ended, how to need less."""
    key = f"images {min(numbers)} to {max(numbers)} ({stimulus})"
    try:
        with noting(f"while the model ran on {key}, shape {tuple(images.shape)}"):
            yield
    except torch.OutOfMemoryError as error:
        error.add_note(
            f"probe: memory ended in a batch of {len(images)}. Choose a smaller batch_size=; fewer layers=, stimuli= "
            "and folds= take less as well."
        )
        raise


def single(layers: Sequence[Layer], request: Any) -> Layer:
    """Return the one layer that was chosen, or raise an `ArgumentError`."""
    if len(layers) > 1:
        names = ", ".join(layer.name for layer in layers[:5])
        raise ArgumentError(f"layer={request!r}: expected one layer, found {len(layers)}: {names}. Name one of them.")
    return layers[0]
