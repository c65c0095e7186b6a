"""Reading the activations of a model: the only file that registers reading hooks.

A hook hands each output on as maps (image, channel, row, column), at once and without a copy, so that what later
overwrites the tensor in place does no harm, and keeps nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, ImagesError, LayerNotCalledError, LayoutError
from probe.models.expansions import Expansion, does_more, expansion_of
from probe.models.layers import INPUT, Layer, is_default_layer, module_names
from probe.models.layouts import LAYOUTS, Grid, as_maps, first_tensor, infer_layout

__all__ = ["LayoutOption", "Reduce", "ReduceExpansion", "Run", "input_grids", "reading", "survey", "survey_fast"]

Reduce = Callable[[Layer, Tensor], Any]
ReduceExpansion = Callable[[Layer, Tensor, Expansion], Any]
LayoutOption = str | Mapping[str, str] | None
Run = Callable[[Tensor], dict[str, Any]]

_MAP_MAKERS = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
)


class _Grids:
    """The sizes of the images and of all maps so far in a forward pass, on which tokens can be laid out."""

    def __init__(self, model: nn.Module, stack: ExitStack) -> None:
        self.sizes: list[Grid] = []
        for module in model.modules():
            if isinstance(module, _MAP_MAKERS):
                stack.callback(module.register_forward_hook(self._note).remove)

    def restart(self, images: Tensor) -> None:
        self.sizes = [(images.shape[2], images.shape[3])]

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        maps = first_tensor(output)
        if maps is not None:
            self.sizes.append((maps.shape[-2], maps.shape[-1]))


@contextmanager
def reading(
    model: nn.Module,
    layers: Sequence[Layer],
    reduce: Reduce,
    reduce_expansion: ReduceExpansion | None = None,
) -> Iterator[Run]:
    """Reduce the maps of chosen layers while the model runs.

    Parameters
    ----------
    model
        An eager model.
    layers
        What to read, from `survey`.
    reduce
        Called as reduce(layer, maps) in order of execution, maps of shape (image, channel, row, column). What it
        returns must not share memory with the maps, which the model may overwrite.
    reduce_expansion
        Called in its place for pointwise expansions, as reduce_expansion(layer, maps, expansion), the sources of
        the expansion as maps of shape (image, source, row, column).

    Yields
    ------
    callable
        run(images), which runs the model on images of shape (image, channel, row, column), and returns what `reduce`
        made of each layer, by its name.

    Examples
    --------
    >>> from probe.testing import noise_images, padded_net
    >>> net, images = padded_net(), noise_images(2)
    >>> with reading(net, survey(net, images[:1])[-1:], lambda layer, maps: maps.mean(dim=(2, 3))) as run:
    ...     means = run(images)
    >>> means["relu4"].shape
    torch.Size([2, 16])

    Raises
    ------
    LayerNotCalledError
        In run, if a layer was not called this time.
    LayoutError
        In run, if an output does not fit its layout.
    """
    wanted = {(layer.module, layer.call): layer for layer in layers}
    modules = {layer.module for layer in layers}
    calls: Counter[str] = Counter()
    n_images = 0
    reduced: dict[str, Any] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            layer = wanted.get((name, calls[name]))
            calls[name] += 1
            if layer is None:
                return
            maps = _read(layer, output, n_images, grids.sizes)
            expansion = None
            if reduce_expansion is not None and layer.n_sources:
                expansion = _expansion(module, inputs, output, layer.layout, grids.sizes)
            if reduce_expansion is None or expansion is None:
                reduced[layer.name] = reduce(layer, maps)
            else:
                reduced[layer.name] = reduce_expansion(layer, maps, expansion)

        return hook

    def run(images: Tensor) -> dict[str, Any]:
        nonlocal n_images
        calls.clear()
        reduced.clear()
        grids.restart(images)
        n_images = len(images)
        if ("", 0) in wanted:
            reduced[INPUT] = reduce(wanted["", 0], images)
        model(images)
        missed = [layer.name for layer in layers if layer.module and calls[layer.module] <= layer.call]
        if missed:
            raise LayerNotCalledError(
                f"layers: {', '.join(missed)} was called for the first image, but not for a later batch. "
                "Leave it out, or pass images that take the same path through the model."
            )
        return dict(reduced)

    with ExitStack() as stack:
        grids = _Grids(model, stack)
        for module, name in module_names(model).items():
            if name in modules:
                stack.callback(module.register_forward_hook(hook_for(name)).remove)
        yield run


def _read(layer: Layer, output: Any, n_images: int, grids: Sequence[Grid]) -> Tensor:
    tensor = first_tensor(output)
    maps = None
    if tensor is not None and tensor.ndim == LAYOUTS[layer.layout]:
        maps = as_maps(tensor, layer.layout, grids)
    if maps is None or maps.shape[:2] != (n_images, layer.n_channels):
        shape = None if tensor is None else tuple(tensor.shape)
        raise LayoutError(
            f"{layer.name} ({layer.module_type}): an output of shape {shape} is no map of {n_images} images with "
            f"{layer.n_channels} channels in layout {layer.layout}, as the first image gave. "
            f"Leave the layer out, or pass layout={{{layer.name!r}: ...}}, one of {', '.join(LAYOUTS)}."
        )
    return maps


def survey(model: nn.Module, image: Tensor, layout: LayoutOption = None) -> list[Layer]:
    """Run the model on two copies of an image and list every call of every module.

    Two copies tell the axis of images from those of windows, heads and parameters, which keep their length or
    multiply it.

    Parameters
    ----------
    model
        An eager model.
    image
        Shape (1, channel, row, column).
    layout
        Layout of all outputs that have its number of axes, or a mapping from names or globs to layouts; what it
        does not settle is inferred.

    Raises
    ------
    ArgumentError
        If a layout is unknown, or given for a layer that there is not.
    ImagesError
        If the model's first convolution expects another number of channels.
    """
    names = module_names(model)
    ancestors = {name: module for module, name in names.items()}
    reserved = {INPUT, *ancestors}
    options = _layout_options(layout)
    calls: Counter[str] = Counter()
    images = torch.cat([image, image])
    found = [_input_layer(image)]
    unsure = {module for module in names if does_more(module)}

    def ancestry(name: str) -> Iterator[nn.Module]:
        while name:
            if name in ancestors:
                yield ancestors[name]
            name = name.rpartition(".")[0]
        yield model

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        call = calls[names[module]]
        calls[names[module]] += 1
        layer = Layer(
            name=_call_name(names[module], call, reserved),
            module=names[module],
            call=call,
            module_type=type(module).__name__,
            depth=len(found),
            default=is_default_layer(module),
        )
        tensor = first_tensor(output)
        if tensor is None:
            found.append(replace(layer, problem="its output holds no tensor"))
            return
        layout = _given_layout(options, layer.name, tensor.ndim)
        if layout is None and tensor.ndim in LAYOUTS.values():
            layout = infer_layout(tensor.shape, len(images), ancestry(layer.module), grids.sizes)
        layer = replace(layer, **_size(tensor, layout, len(images), grids.sizes))
        expansion = None
        if layer.layout and module not in unsure:
            expansion = _expansion(module, inputs, output, layer.layout, grids.sizes)
        found.append(replace(layer, n_sources=0 if expansion is None else expansion.weight.shape[1]))

    with ExitStack() as stack:
        grids = _Grids(model, stack)
        grids.restart(images)
        for module in names:
            stack.callback(module.register_forward_hook(hook).remove)
        _run_once(model, images)
    for pattern in options:
        if not any(fnmatchcase(layer.name, pattern) for layer in found):
            raise ArgumentError(f"layout: no layer is called {pattern!r}. probe.list_layers(model, images) lists them.")
    return found


def survey_fast(
    model: nn.Module, image: Tensor, layout: LayoutOption = None
) -> tuple[list[Layer], torch.memory_format]:
    """List every call of every module, as `survey` does, and choose the memory format that images are shown in.

    Channels last is faster for convolutions, unless the model has views that need rows to be contiguous.
    """
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        try:
            return survey(model, image.contiguous(memory_format=torch.channels_last), layout), torch.channels_last
        except RuntimeError:
            # The same error comes again below, unless it was such a view.
            pass
    return survey(model, image.contiguous(), layout), torch.contiguous_format


def input_grids(model: nn.Module, images: Tensor) -> dict[tuple[str, int], Grid]:
    """Run the model and return the rows and columns of the map that each call of a module is given.

    Parameters
    ----------
    model
        An eager model.
    images
        Shape (image, channel, row, column).

    Returns
    -------
    dict
        By name of the module and number of its call, from 0, as in `Layer`; in order of execution. Calls that are
        given no tensor of four axes are left out.
    """
    names = module_names(model)
    calls: Counter[str] = Counter()
    grids: dict[tuple[str, int], Grid] = {}

    def hook(module: nn.Module, inputs: Any, options: Any, output: Any) -> None:
        name = names[module]
        given = first_tensor((inputs, options))
        if given is not None and given.ndim == 4:
            grids[name, calls[name]] = (given.shape[2], given.shape[3])
        calls[name] += 1

    with ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        model(images)
    return grids


def _size(tensor: Tensor, layout: str | None, n_images: int, grids: Sequence[Grid]) -> dict[str, Any]:
    """Return the layout and the size of an output, or why it is no map, as fields of `Layer`."""
    shape = tuple(tensor.shape)
    if len(shape) == 2:
        return {"layout": "NC", "n_channels": shape[1], "height": 1, "width": 1}
    if len(shape) not in LAYOUTS.values():
        return {"problem": f"its output of shape {shape} has {len(shape)} axes; a map has 3 or 4"}
    if layout is None:
        return {"problem": f"it is not clear where its output of shape {shape} has rows and columns; pass layout="}
    if shape[1 if layout == "LNC" else 0] != n_images:
        return {"problem": f"its output of shape {shape}, for {n_images} images, has no axis for the images"}
    maps = as_maps(tensor, layout, grids)
    if maps is None:
        return {"problem": f"the tokens of its output of shape {shape} fit no grid; pass layout="}
    return {"layout": layout, "n_channels": maps.shape[1], "height": maps.shape[2], "width": maps.shape[3]}


def _expansion(
    module: nn.Module, inputs: tuple[Any, ...], output: Any, layout: str, grids: Sequence[Grid]
) -> Expansion | None:
    """Return the expansion that a module is, with its sources as maps; None if it expands another axis."""
    expansion = expansion_of(module, inputs, output)
    if expansion is None:
        return None
    maps, sources = as_maps(output, layout, grids), as_maps(expansion.sources, layout, grids)
    if maps is None or sources is None:
        return None
    widths = (maps.shape[1], sources.shape[1])
    cells = [(len(read), *read.shape[2:]) for read in (maps, sources)]
    return replace(expansion, sources=sources) if widths == expansion.weight.shape and cells[0] == cells[1] else None


def _run_once(model: nn.Module, images: Tensor) -> None:
    try:
        model(images)
    except RuntimeError as error:
        first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.in_channels != images.shape[1]:
            raise ImagesError(
                f"images: found {images.shape[1]} channels, but the model's first convolution expects "
                f"{first.in_channels}. Images are read as (image, channel, row, column). "
                f"{_cure_of_channels(tuple(images.shape), first.in_channels)}"
            ) from error
        raise


def _cure_of_channels(shape: tuple[int, ...], expected: int) -> str:
    """Return how to bring images of another number of channels to a model; transform= takes one image at a time."""
    if shape[-1] == expected:
        return "Move the channels from the end: images.permute(0, 3, 1, 2), or image.permute(2, 0, 1) in transform=."
    if shape[1] == 1:
        repeated = f"{expected}, -1, -1"
        return f"Repeat the grey: images.expand(-1, {repeated}), or image.expand({repeated}) in transform=."
    if expected == 1:
        return "Make them grey: images.mean(1, keepdim=True), or image.mean(0, keepdim=True) at the end of transform=."
    return f"Bring them to {expected} channels, in transform= where they are rows."


def _input_layer(image: Tensor) -> Layer:
    n_channels, height, width = image.shape[1:]
    return Layer(INPUT, "", 0, "pixels", 0, "NCHW", n_channels, height, width, default=True)


def _call_name(module_name: str, call: int, reserved: set[str]) -> str:
    """Name a call as torchvision does, apart from any module that really has this name."""
    if call == 0:
        return module_name if module_name != INPUT else f"{INPUT}:module"
    name = f"{module_name}_{call}"
    return name if name not in reserved else f"{module_name}:{call}"


def _layout_options(layout: LayoutOption) -> dict[str, str]:
    options = {"*": layout} if isinstance(layout, str) else dict(layout or {})
    for pattern, value in options.items():
        if value not in LAYOUTS:
            raise ArgumentError(f"layout: unknown layout {value!r} for {pattern!r}. Choose from {', '.join(LAYOUTS)}.")
    return options


def _given_layout(options: Mapping[str, str], name: str, n_axes: int) -> str | None:
    """Return the first layout that the user gave for this layer and that has as many axes as its output."""
    fitting = (value for pattern, value in options.items() if fnmatchcase(name, pattern) and LAYOUTS[value] == n_axes)
    return next(fitting, None)
