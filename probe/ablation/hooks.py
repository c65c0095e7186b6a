"""Taking channels away: in the forward pass, and in the named output alone. Weights are never touched."""

import re
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from probe.ablation.erasing import check_eraser, erased_output
from probe.ablation.replacement import MODES, AblationMode, check_channels, replacement_for
from probe.errors import ArgumentError, ImagesError, ModelError
from probe.models.hooks import hooking
from probe.models.layers import INPUT, Layer, select_layers
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import module_names, unwrap
from probe.models.survey import LayoutOption, survey
from probe.readouts.erasers import Eraser

__all__ = ["ablate"]


@contextmanager
def ablate(
    model: nn.Module,
    channels: Mapping[str, Iterable[int] | Eraser],
    *,
    mode: AblationMode = "zero",
    reference: xr.Dataset | None = None,
    layout: LayoutOption = None,
) -> Iterator[None]:
    """Run a model without some channels, or without what an eraser takes out.

    The commonest uses::

        with probe.ablate(model, {"layer4": [3, 17]}): output = model(images)
        with probe.ablate(model, {"layer4": probe.fit_eraser(statistics, "layer4")}): output = model(images)
        with probe.ablate(model, {"layer4": [3]}, mode="mean", reference=result): output = model(images)

    Inside the block the channels are replaced, or the eraser applied, wherever the model computes the named outputs;
    nothing else changes.
    Blocks nest, also on one layer, and so do those of several threads that share the model: give each thread a copy.
    Gradients flow through what is left. The first forward pass in a block first looks at the layers, with two copies of
    its first image in evaluation mode.

    Parameters
    ----------
    model
        Any module that takes images of shape (image, channel, row, column); it may be compiled or wrapped, and then
        runs eagerly inside the block.
    channels
        Layer name -> channel numbers, or a `probe.Eraser` that was fitted to this layer. ``relu_1`` is the second call
        of ``relu``, as `probe.list_layers` shows.
    mode
        ``"zero"``: 0, in all tokens; ``"mean"``: the mean over the map, of each image by itself, which removes
        position and keeps the amount (class and register tokens, which lie nowhere on the map, stay);
        ``"resample"``: the values of the next image in the batch, cyclically.
    reference
        For ``"mean"``: a result of `probe.channelwise` with the layers in ``maps=``, whose means over all images
        (natural ones, where it has them) are taken instead.
    layout
        As in `probe.collect`.

    Raises
    ------
    ArgumentError
        If the mode is unknown, a channel is out of range or given twice, the reference or the eraser does not fit, or
        a mode is given where erasers alone are.
    LayerNotFoundError, LayerNotCalledError, LayoutError
        If there is no such layer, the model never calls it, or its output is no map of more than one cell.
    ImagesError
        If ``"resample"`` meets a batch of one image.

    See Also
    --------
    captum.attr.LayerFeatureAblation : the change of the output by each ablation in turn.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> net, images = padded_net("zeros"), noise_images(2)
    >>> with probe.ablate(net, {"relu4": [0, 3]}):
    ...     output = net(images)
    >>> output[:, [0, 3]].abs().max().item(), output[:, 1].equal(net(images)[:, 1])
    (0.0, True)
    """
    ablation = _Ablation(model, channels, mode, reference, layout)
    with ExitStack() as stack:
        if "torch._dynamo.eval_frame" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        hooks = stack.enter_context(hooking(unwrap(model)))
        hooks.before(unwrap(model), ablation.begin)
        for module, name in ablation.modules.items():
            hooks.after(module, ablation.hook_for(name))
        yield


class _Calls(threading.local):
    """How often each module was called in a forward pass, for each thread by itself."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Run a model unseen by the hooks of others, which expect their own images alone."""
    kept = [(module, module._forward_pre_hooks, module._forward_hooks) for module in model.modules()]
    try:
        for module, *_ in kept:
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for module, before, after in kept:
            module._forward_pre_hooks, module._forward_hooks = before, after


class _Ablation:
    """The ablations of one block; its layers are looked up in the first forward pass."""

    def __init__(
        self,
        model: nn.Module,
        channels: Mapping[str, Iterable[int] | Eraser],
        mode: str,
        reference: xr.Dataset | None,
        layout: LayoutOption,
    ) -> None:
        if not isinstance(channels, Mapping):
            raise ArgumentError(f"channels: expected {{layer name: channel numbers}}, found {type(channels).__name__}.")
        self._model = unwrap(model)
        self._names = module_names(self._model)
        self._channels, self._mode, self._reference, self._layout = dict(channels), mode, reference, layout
        if mode not in MODES:
            raise ArgumentError(f"mode={mode!r}: expected one of {', '.join(MODES)}.")
        are_erasers = [isinstance(given, Eraser) for given in self._channels.values()]
        if are_erasers and all(are_erasers) and (mode != "zero" or reference is not None):
            raise ArgumentError("mode, reference: they tell what replaces channels, and only erasers are given.")
        wanted = {_module_of(name, self._names) for name in self._channels}
        self.modules = {module: name for module, name in self._names.items() if name in wanted}
        self._found: dict[tuple[str, int], Callable[[Any], Any]] | None = None
        self._calls_in_a_pass: Counter[str] = Counter()
        self._calls = _Calls()

    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Start a forward pass of the model."""
        if self._found is None:
            self._look_up(args, kwargs)
        self._calls.counts.clear()

    def hook_for(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if self._found is None:
                raise ModelError(
                    f"ablate: {name} was called before the model that was given. Run that model first, as a whole."
                )
            # A module called once in a forward pass is the same layer too when it is called by itself.
            call = self._calls.counts[name] % self._calls_in_a_pass[name]
            self._calls.counts[name] += 1
            return self._found[name, call](output) if (name, call) in self._found else None

        return hook

    def _look_up(self, args: Any, kwargs: Any) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        images = next((value for value in given if value.ndim in (4, 5)), None)
        if images is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in given)
            raise ImagesError(
                f"images: the model was given {shapes or 'no tensor'}; expected images of shape (image, channel, row, "
                "column), or clips with frames before the rows."
            )
        n_images = len(images)

        def as_called(model: nn.Module, shown: Tensor) -> Any:
            def of_shown(value: Any) -> Any:
                if value is images:
                    return shown
                is_by_image = isinstance(value, Tensor) and value.ndim > 0 and len(value) == n_images
                return torch.cat([value[:1]] * len(shown)) if is_by_image else value

            return model(*map(of_shown, args), **{key: of_shown(value) for key, value in kwargs.items()})

        with borrowed(self._model, resolve_device("auto", self._model), seed=0), _without_hooks(self._model):
            layers = survey(self._model, images[:1].detach().clone(), self._layout, as_called)
        found: dict[tuple[str, int], Callable[[Any], Any]] = {}
        for name, channels in self._channels.items():
            layer = select_layers(name, layers, self._names)[0][0]
            if isinstance(channels, Eraser):
                check_eraser(channels, layer)
                found[layer.module, layer.call] = partial(erased_output, eraser=channels)
                continue
            removed = torch.zeros(1, layer.n_channels, dtype=torch.bool, device="cpu")
            removed[0, check_channels(channels, layer)] = True
            if removed.any():
                replacement = replacement_for(layer, self._mode, self._reference)
                found[layer.module, layer.call] = partial(replacement.apply, removed=removed)
        self._calls_in_a_pass = Counter(layer.module for layer in layers)
        self._found = found


def _module_of(name: str, names: Mapping[nn.Module, str]) -> str:
    """Return the module that a layer's name means, before a forward pass has shown its calls."""
    known = list(names.values())
    for candidate in (name, re.sub(r"[_:]\d+$", "", name)):
        if candidate in known:
            return candidate
    if name == INPUT:
        raise ArgumentError("channels: 'input' is no layer's output. Change the images themselves.")
    stand_ins = [Layer(other, other, 0, "", depth) for depth, other in enumerate(known, start=1)]
    select_layers(name, stand_ins, names)
    raise ArgumentError(f"channels: {name!r} means several layers. Name each by itself.")
