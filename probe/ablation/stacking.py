"""Many ablations in one forward pass: what precedes the layer is computed once, and the batch repeated behind it.

Where the batch can be repeated depends on the model. A sum that bypasses the layer meets a batch that was not
repeated, so then the batch is repeated at the input of the module around both; statistics over the batch mix the
settings, so then they run one by one. Which it is, is found by comparing with plain forward passes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from probe.ablation.erasing import Erasing
from probe.ablation.replacement import Replacement
from probe.errors import LayerNotCalledError, ModelError, counted
from probe.models.hooks import hooking
from probe.models.layers import Layer
from probe.models.layouts import first_tensor
from probe.models.loan import Forward, run_model
from probe.models.modules import module_names

__all__ = ["Stacked", "stacking"]


class Stacked:
    """Runs a model without some channels, for several choices of channels at once; from `stacking`.

    Attributes
    ----------
    sharing : str
        How the computation before the layer was shared, for the reader of a result.
    """

    def __init__(
        self, model: nn.Module, replacement: Replacement | Erasing, places: Sequence[Layer], forward: Forward | None
    ) -> None:
        self._model, self._replacement, self._layer = model, replacement, replacement.layer
        self._forward = forward
        self._places = list(places)
        self._verified: set[int] = set()
        self._refused: list[str] = []
        self._calls: Counter[str] = Counter()
        self._removed, self._n_images = torch.zeros(1, self._layer.n_channels, dtype=torch.bool, device="cpu"), 0

    @property
    def is_shared(self) -> bool:
        """Whether several settings can run at once."""
        return bool(self._places)

    @property
    def sharing(self) -> str:  # noqa: D102 - described above
        reasons = "; ".join(self._refused)
        if not self._places:
            return f"not shared, every setting ran by itself: {reasons}"
        place = self._places[0]
        where = f"the output of {place.name}" if place == self._layer else f"the input of {place.name}"
        return f"shared: the batch was repeated at {where}" + (f" ({reasons})" if reasons else "")

    def run(self, images: Tensor, removed: Tensor) -> Tensor:
        """Run the model.

        Parameters
        ----------
        images
            Shape (image, channel, row, column).
        removed
            Shape (setting, channel), true where a channel is to be replaced.

        Returns
        -------
        torch.Tensor
            First tensor of the model's output, shape (setting, image, ...).
        """
        if self._places and len(removed) > 1:
            return self._run(images, removed)
        return torch.cat([self._run(images, setting) for setting in removed.split(1)])

    def verify(self, images: Tensor, removed: Tensor) -> None:
        """Make sure that settings at once give what they give one by one; else choose another place, in the end none.

        Parameters
        ----------
        images
            As many as will be run together.
        removed
            Two settings that differ much, shape (setting, channel).
        """
        if len(images) in self._verified:
            return
        expected = torch.cat([self._run(images, setting) for setting in removed.split(1)]) if self._places else None
        while expected is not None and self._places:
            reason = self._misfit(expected, images, removed)
            if not reason:
                break
            self._refused.append(f"at {self._places[0].name} {reason}")
            self._places.pop(0)
        self._verified.add(len(images))

    def _misfit(self, expected: Tensor, images: Tensor, removed: Tensor) -> str:
        """Tell why settings cannot run at once, empty if they can."""
        try:
            found = self._run(images, removed)
        except Exception as error:  # whatever the model checks; setting by setting it has just run
            return f"a repeated batch does not fit: {(str(error) or type(error).__name__).splitlines()[0]}"
        tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max() if expected.is_floating_point() else 0
        if not (found - expected).abs().max() <= tolerance:
            return "a repeated batch gives other results"
        return ""

    def output(self, images: Tensor, removed: Tensor) -> Any:
        """Run the model, and return all that it gives; see `run` for the arguments."""
        self._calls.clear()
        self._removed, self._n_images = removed, len(images)
        # A model may overwrite its input, which is shown again for other settings.
        output = run_model(self._model, images.clone(), self._forward)
        if self._calls[self._layer.module] <= self._layer.call:
            raise LayerNotCalledError(
                f"layer: {self._layer.name} was called for the first image, but not for a later batch. "
                "Pass images that take the same path through the model."
            )
        return output

    def _run(self, images: Tensor, removed: Tensor) -> Tensor:
        output = first_tensor(self.output(images, removed))
        if output is None or output.ndim == 0 or len(output) != len(removed) * len(images):
            shape = None if output is None else tuple(output.shape)
            raise ModelError(
                f"model: an output of shape {shape} has no row for each of {counted(len(images), 'image')}."
            )
        return output.unflatten(0, (len(removed), len(images)))

    def repeat_input(self, name: str) -> Any:
        """Return a hook that repeats the batch in what a module is given, if this is the place."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            place = self._places[0] if self._places else self._layer
            is_place = place != self._layer and (name, self._calls[name]) == (place.module, place.call)
            if not is_place or len(self._removed) == 1:
                return None
            return tuple(map(self._repeated, args)), {key: self._repeated(value) for key, value in kwargs.items()}

        return hook

    def replace_output(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Replace channels in what the layer gave, if this is the call."""
        is_meant = self._calls[self._layer.module] == self._layer.call
        if not is_meant or (len(self._removed) == 1 and not self._removed.any()):
            return None
        return self._replacement.apply(output, self._removed, self._n_images)

    def count(self, name: str) -> Any:
        """Return a hook that counts the calls of a module."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._calls[name] += 1

        return hook

    def _repeated(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == self._n_images:
            return torch.cat([value] * len(self._removed))
        return value


@contextmanager
def stacking(
    model: nn.Module, replacement: Replacement | Erasing, layers: Sequence[Layer], forward: Forward | None = None
) -> Iterator[Stacked]:
    """Prepare a model to run many ablations of one layer at once.

    Parameters
    ----------
    model
        An eager model, in evaluation mode.
    replacement
        What replaces channels of the layer, or erases in it.
    layers
        All layers of the model, from `probe.models.survey.survey`; none to run every setting by itself.
    forward
        As in `probe.collect`.
    """
    places = [replacement.layer, *_around(replacement.layer, layers)]
    stacked = Stacked(model, replacement, places, forward)
    names = {place.module for place in places}
    with hooking(model) as hooks:
        for module, name in module_names(model).items():
            if name in names:
                hooks.before(module, stacked.repeat_input(name))
            if name == replacement.layer.module:
                hooks.after(module, stacked.replace_output)
            if name in names:
                hooks.after(module, stacked.count(name))
        yield stacked


def _around(layer: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """Return the calls of modules within which a layer is called, from the innermost."""
    found = []
    name = layer.module
    while "." in name:
        name = name.rpartition(".")[0]
        # Calls are listed as they end: the first to end after the layer was under way while the layer was called.
        calls = [other for other in layers if other.module == name and other.depth > layer.depth and not other.source]
        if calls:
            found.append(min(calls, key=lambda call: call.depth))
    return found
