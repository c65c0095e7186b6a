"""A model at work on images: lent, fed batch by batch in its own precision, and told apart by digests."""

import hashlib
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.errors import ArgumentError, noting, warn
from probe.images.batches import Batch, ImageSource, as_floats, open_images
from probe.models.capture import survey
from probe.models.layers import Layer, LayerSelection, module_names, select_layers, unwrap
from probe.models.loan import borrowed, resolve_device
from probe.reading.options import Options

__all__ = ["Reader", "Staging", "open_reader"]

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
    length : int or None
        Number of images that will be read, where it is known beforehand.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, source: ImageSource, options: Options, stage: Staging | None
    ) -> None:
        self.model, self.warned, self.length = model, source.warned, source.length
        self._stage = stage
        self.device, self._source, self._options = device, source, options
        self._start, self._n_images, self._digest, self._has_warned = time.monotonic(), 0, 0, False
        parameters = [p for p in model.parameters() if p.is_floating_point()]
        self._dtype = parameters[0].dtype if parameters else None
        self.found, self._memory_format = self._survey(source.peek())

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

    def batches(self) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch, and its images as the model takes them."""
        shown = self._options.progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        with tqdm(total=self._source.length, unit="image", desc="probe", disable=not shown) as bar:
            for batch in self._source:
                self._n_images += len(batch.numbers)
                for number, image in zip(batch.numbers, batch.pixels, strict=True):
                    self._digest = (self._digest + zlib.crc32(_bytes_of(image), number & 0xFFFFFFFF)) % 2**64
                yield batch, self._prepared(batch.pixels, batch.numbers, self._memory_format)
                bar.update(len(batch.numbers))

    def facts(self) -> dict[str, Any]:
        """Return the provenance of what was read so far."""
        return {
            "n_images": self._n_images,
            "images_digest": f"{self._digest:016x}",
            "device": str(self.device),
            "duration_s": round(time.monotonic() - self._start, 3),
            "corrupt": self._source.corrupt,
            "warnings": self.warned,
            "model": type(self.model).__name__,
            "weights_digest": self.weights_digest,
            "seed": self._options.seed,
        }

    @cached_property
    def weights_digest(self) -> str:
        """Digest of the model's parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            if isinstance(tensor, Tensor):
                digest.update(_bytes_of(tensor))
        return digest.hexdigest()[:16]

    def _prepared(self, images: Tensor, numbers: Sequence[int], memory_format: torch.memory_format) -> Tensor:
        dtype = self._dtype or (images.dtype if images.is_floating_point() else torch.float32)
        floats, warning = as_floats(images, dtype)
        if warning and not self._has_warned:
            self._has_warned = True
            warn(warning, self.warned)
        shown = floats.to(self.device, non_blocking=True)
        if self._stage is not None:
            shown = self._stage(shown, numbers)
        return shown.contiguous(memory_format=memory_format)

    def _survey(self, image: Tensor) -> tuple[list[Layer], torch.memory_format]:
        """List the layers, and choose the memory format: channels last is faster, unless the model cannot take it."""
        numbers = [self._options.first_image]
        with noting(f"while the model ran on the first image, shape {tuple(image.shape)}"):
            if any(isinstance(module, nn.Conv2d) for module in self.model.modules()):
                try:
                    images = self._prepared(image, numbers, torch.channels_last)
                    return survey(self.model, images, self._options.layout), torch.channels_last
                except RuntimeError:
                    # The same error comes again below, unless it was a view that needs rows to be contiguous.
                    pass
            images = self._prepared(image, numbers, torch.contiguous_format)
            return survey(self.model, images, self._options.layout), torch.contiguous_format


@contextmanager
def open_reader(
    model: nn.Module, images: Any, options: Options, stage: Staging | None = None, *, labels: bool = False
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
    """
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
        )
        yield Reader(model, device, source, options, stage)


def single(layers: Sequence[Layer], request: Any) -> Layer:
    """Return the one layer that was chosen, or raise an `ArgumentError`."""
    if len(layers) > 1:
        names = ", ".join(layer.name for layer in layers[:5])
        raise ArgumentError(f"layer={request!r}: expected one layer, found {len(layers)}: {names}. Name one of them.")
    return layers[0]


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
