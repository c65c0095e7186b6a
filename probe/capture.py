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

from torch import Tensor, nn

from probe.errors import ArgumentError, ImagesError, LayerNotCalledError, LayoutError
from probe.layers import INPUT, Layer, is_default_layer, module_names
from probe.layouts import LAYOUTS, as_maps, first_tensor, infer_layout

__all__ = ["LayoutOption", "Receiver", "reading", "survey"]

Receiver = Callable[[Layer, Tensor], None]
LayoutOption = str | Mapping[str, str] | None
Run = Callable[[Tensor], None]


class _PatchGrid:
    """The grid of the last patch embedding (strided convolution) that ran."""

    def __init__(self, model: nn.Module, stack: ExitStack) -> None:
        self.grid: tuple[int, int] | None = None
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
                stack.callback(module.register_forward_hook(self._note).remove)

    def _note(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.grid = (output.shape[-2], output.shape[-1])


@contextmanager
def reading(model: nn.Module, layers: Sequence[Layer], receive: Receiver) -> Iterator[Run]:
    """Hand the maps of chosen layers to `receive` while the model runs.

    Parameters
    ----------
    model
        An eager model.
    layers
        What to read, from `survey`.
    receive
        Called as receive(layer, maps) in order of execution, maps of shape (image, channel, row, column).

    Yields
    ------
    callable
        run(images), which runs the model on images of shape (image, channel, row, column).

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
    size = (0, 0)

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            layer = wanted.get((name, calls[name]))
            calls[name] += 1
            if layer is not None:
                receive(layer, _read(layer, output, patches.grid, size))

        return hook

    def run(images: Tensor) -> None:
        nonlocal size
        calls.clear()
        size = (images.shape[-2], images.shape[-1])
        if ("", 0) in wanted:
            receive(wanted["", 0], images)
        model(images)
        missed = [layer.name for layer in layers if layer.module and calls[layer.module] <= layer.call]
        if missed:
            raise LayerNotCalledError(
                f"layers: {', '.join(missed)} was called for the first image, but not for a later batch. "
                "Leave it out, or pass images that take the same path through the model."
            )

    with ExitStack() as stack:
        patches = _PatchGrid(model, stack)
        for module, name in module_names(model).items():
            if name in modules:
                stack.callback(module.register_forward_hook(hook_for(name)).remove)
        yield run


def _read(layer: Layer, output: Any, patch_grid: tuple[int, int] | None, size: tuple[int, int]) -> Tensor:
    tensor = first_tensor(output)
    maps = None
    if tensor is not None and tensor.ndim == LAYOUTS[layer.layout]:
        maps = as_maps(tensor, layer.layout, patch_grid, size)
    if maps is None:
        shape = None if tensor is None else tuple(tensor.shape)
        raise LayoutError(
            f"{layer.name} ({layer.module_type}): an output of shape {shape} is no map in layout {layer.layout}. "
            f"Pass layout={{{layer.name!r}: ...}}, one of {', '.join(LAYOUTS)}."
        )
    return maps


def survey(model: nn.Module, image: Tensor, layout: LayoutOption = None) -> list[Layer]:
    """Run the model on one image and list every call of every module.

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
        If a layout is unknown.
    ImagesError
        If the model's first convolution expects another number of channels.
    """
    names = module_names(model)
    ancestors = {name: module for module, name in names.items()}
    reserved = {INPUT, *ancestors}
    options = _layout_options(layout)
    calls: Counter[str] = Counter()
    found = [_input_layer(image)]

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
        chosen = [value for pattern, value in options.items() if fnmatchcase(layer.name, pattern)]
        fitting = [value for value in chosen if LAYOUTS[value] == tensor.ndim]
        layout = fitting[0] if fitting else infer_layout(tensor.shape, ancestry(layer.module))
        found.append(replace(layer, **_size(tensor, layout, patches.grid, (image.shape[2], image.shape[3]))))

    with ExitStack() as stack:
        patches = _PatchGrid(model, stack)
        for module in names:
            stack.callback(module.register_forward_hook(hook).remove)
        _run_once(model, image)
    return found


def _size(
    tensor: Tensor, layout: str, patch_grid: tuple[int, int] | None, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Return the facts of an output for a single image, as fields of `Layer`."""
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3, 4):
        return {"problem": f"its output of shape {shape} has {len(shape)} axes; a map has 3 or 4"}
    if shape[1 if layout == "LNC" else 0] != 1:
        return {"problem": f"its output of shape {shape} has no axis for the single image; pass layout="}
    maps = as_maps(tensor, layout, patch_grid, image_size)
    if maps is None:
        return {"problem": f"the {shape[1]} tokens of its output of shape {shape} fit no grid; pass layout="}
    return {"layout": layout, "n_channels": maps.shape[1], "height": maps.shape[2], "width": maps.shape[3]}


def _run_once(model: nn.Module, image: Tensor) -> None:
    try:
        model(image)
    except RuntimeError as error:
        first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.in_channels != image.shape[1]:
            raise ImagesError(
                f"images: found {image.shape[1]} channels, but the model's first convolution expects "
                f"{first.in_channels}. Images are read as (image, channel, row, column)."
            ) from error
        raise


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
