"""Erasers in the forward pass: of a model for a while, or of a copy for good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.ablation.replacement import check_replaceable, checked_output
from probe.errors import ArgumentError, LayerNotFoundError, LayoutError, counted
from probe.models.copies import copied
from probe.models.hooks import hook_for_good
from probe.models.layers import Layer
from probe.models.layouts import GIVEN, first_tensor, with_first_tensor
from probe.models.modules import unwrap
from probe.readouts.erasers import ErasedPlace, Eraser, Projection, check_features, erased

__all__ = ["Erasing", "check_eraser", "erased_output", "with_erasers"]


def check_eraser(eraser: Eraser, layer: Layer) -> None:
    """Raise an `ArgumentError` unless an eraser was fitted to outputs such as those of a layer."""
    check_replaceable(layer)
    place = ErasedPlace(layer.layout, layer.n_before, layer.n_behind)
    if (eraser.erasure.layer, len(eraser.mean), eraser.place) != (layer.name, layer.n_channels, place):
        raise ArgumentError(
            f"channels: an eraser of {eraser.erasure.layer!r} ({counted(len(eraser.mean), 'channel')}, "
            f"{eraser.place.layout}) was given for {layer.name!r} ({counted(layer.n_channels, 'channel')}, "
            f"{layer.layout}). Fit one to this layer."
        )


def erased_output(output: Any, eraser: Eraser) -> Any:
    """Return the output of a layer with its first tensor erased; the output itself stays as it is."""
    tensor = first_tensor(output)
    if tensor is None:
        raise LayoutError(f"{eraser.erasure.layer}: gave no tensor, as it did for the first image.")
    return with_first_tensor(output, eraser(tensor))


def with_erasers(model: nn.Module, erasers: Mapping[str, Eraser]) -> nn.Module:
    """Return a copy of a model in which position is erased, to keep.

    The commonest uses::

        probe.with_erasers(model, {"layer4": eraser})
        torch.save(probe.with_erasers(model, {"blocks.11": eraser}).state_dict(), "erased.pt")
        torch.compile(probe.with_erasers(model, erasers))

    The copy can be saved, compiled, exported and copied again. What is erased stands in three buffers of the module of
    each layer, ``eraser_mean``, ``eraser_left`` and ``eraser_right``; all other keys of the state dict are as before.
    Of a module that is called several times in a forward pass, each output is erased. A copy that is to run in half
    precision is best made of a model that is in it already: converted afterwards, the eraser itself is rounded, and
    leaves more.

    Parameters
    ----------
    model
        As in `probe.collect`; it stays as it was.
    erasers
        Layer name -> a `probe.Eraser` that was fitted to this layer.

    Returns
    -------
    torch.nn.Module
        Of the same class.

    Raises
    ------
    ArgumentError
        If there is none, one was fitted to another layer, or to what a function made of its output.
    LayerNotFoundError
        If there is no such module: a later call of one, as ``relu_1``, can be erased by `probe.ablate` alone.

    Examples
    --------
    >>> import torch, probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> net, images = CoordinateNet(), noise_images(50)
    >>> statistics = probe.collect(net, images, layers="identity", progress=False)
    >>> without = probe.with_erasers(net, {"identity": probe.fit_eraser(statistics, "identity")})
    >>> net(images)[:, 3:].std().item() > 0.5, without(images)[:, 3:].std().item() < 0.01
    (True, True)
    """
    if not isinstance(erasers, Mapping):
        raise ArgumentError(
            f"erasers: expected {{layer: probe.fit_eraser(statistics, layer)}}, found {type(erasers).__name__}."
        )
    if not erasers:
        raise ArgumentError("erasers: none is given. Pass {layer: probe.fit_eraser(statistics, layer)}.")
    copy = copied(unwrap(model))
    for name, eraser in erasers.items():
        if not isinstance(eraser, Eraser):
            raise ArgumentError(
                f"erasers: expected one of probe.fit_eraser for {name!r}, found {type(eraser).__name__}."
            )
        if eraser.erasure.layer != name:
            raise ArgumentError(
                f"erasers: one of {eraser.erasure.layer!r} was given for {name!r}. Fit one to this layer."
            )
        module = dict(copy.named_modules()).get(name)
        if module is None:
            raise LayerNotFoundError(
                f"erasers: {name!r} is no module of the model. A later call of one, as in 'relu_1', can be erased by "
                "probe.ablate alone."
            )
        if hasattr(module, "eraser_mean"):
            raise ArgumentError(f"erasers: {name!r} has one already. Erase once, from the model as it was.")
        if eraser.place.layout == GIVEN:
            raise ArgumentError(
                f"erasers: {name!r} was read through a function, which does not tell where its channels are put back."
            )
        near = next((tensor.device for tensor in (*module.parameters(), *copy.parameters())), eraser.mean.device)
        for part in ("mean", "left", "right"):
            module.register_buffer(f"eraser_{part}", getattr(eraser, part).to(near, copy=True))
        hook_for_good(module, _Erases(name, eraser.place))
    return copy


@dataclass(frozen=True)
class _Erases:
    """Takes out of the output of a module what its buffers say."""

    name: str
    place: ErasedPlace

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        projection = Projection(module.eraser_mean, module.eraser_left, module.eraser_right)  # type: ignore[arg-type]
        tensor = first_tensor(output)
        assert isinstance(tensor, Tensor)
        check_features(tensor, self.place, len(projection.mean), self.name)
        return with_first_tensor(output, erased(tensor, projection, self.place))


class Erasing:
    """Erases in the output of a layer, by others in each copy of a batch; takes the place of a `Replacement`.

    Parameters
    ----------
    layer
        The layer, from `probe.models.survey.survey`.
    projections
        What can be erased; settings choose among them.
    """

    mode = "erase"

    def __init__(self, layer: Layer, projections: Sequence[Projection]) -> None:
        check_replaceable(layer)
        self.layer, self._projections = layer, list(projections)
        self._place = ErasedPlace(layer.layout, layer.n_before, layer.n_behind)
        self._image_axis = layer.layout.index("N")

    def apply(self, output: Any, chosen: Tensor, n_images: int | None = None) -> Any:
        """Return the output of the layer, erased; the output itself stays as it is.

        Parameters
        ----------
        output
            As in `probe.ablation.replacement.Replacement.apply`.
        chosen
            Shape (setting, projection), true where one is to be applied.
        n_images
            Images in the batch; by default all that the output holds.
        """
        tensor = checked_output(output, self.layer)
        axis = self._image_axis
        copies = tensor.unflatten(axis, (-1, n_images or tensor.shape[axis])).unbind(axis)
        changed = []
        for setting, numbers in enumerate(chosen):
            copy = copies[setting if len(copies) > 1 else 0]
            for number in numbers.nonzero().ravel().tolist():
                copy = erased(copy, self._projections[number], self._place)
            changed.append(copy)
        return with_first_tensor(output, torch.cat(changed, dim=axis))
