"""Reading the activations of a model: the only file of the library that reads through hooks.

A hook hands each output on as maps (image, channel, *size), at once and without a copy, so that what later overwrites
the tensor in place does no harm, and keeps nothing. The size of a map is that of its rows and columns; where a model
sees time or depth, also of the frames before them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.axes import axes_of_size, sized
from probe.errors import ArgumentError, ImagesError, LayerNotCalledError, LayoutError, ModelError, counted, noting
from probe.models.blocks import Start, tensors_of, with_blocks
from probe.models.blueprint import reason_of
from probe.models.expansions import Expansion, does_more, expansion_of
from probe.models.hooks import Hooks, hooking
from probe.models.layers import INPUT, Layer, View, first_convolution, first_inputs, is_default_layer, module_names
from probe.models.layouts import (
    GIVEN,
    GivenLayout,
    Grid,
    as_maps,
    first_tensor,
    given_layout,
    grid_in,
    infer_layout,
    tensors_in,
)
from probe.models.loan import Forward, run_model
from probe.models.notation import LAYOUTS
from probe.models.tokens import find_patches, makes_maps

__all__ = ["LayoutOption", "Reduce", "ReduceExpansion", "Run", "input_grids", "reading", "survey", "survey_fast"]

Reduce = Callable[[Layer, Tensor], Any]
ReduceExpansion = Callable[[Layer, Tensor, Expansion], Any]
LayoutOption = str | Mapping[str, str | View] | None
Run = Callable[[Tensor], dict[str, Any]]


# As timm, Hugging Face and torchvision word it when a model takes one size alone, and the argument that sets it.
_OTHER_SIZE = re.compile(r"doesn't match model|Wrong image (height|width)")
_ARGUMENT_OF_SIZE = {"timm": "img_size", "torchvision": "image_size"}

# As torch words what windows refuse.
_TOO_SMALL = re.compile("Kernel size can't be greater|smaller than kernel size|[Oo]utput size is too small")


class _Grids:
    """The sizes of the images and of all maps so far in a forward pass, on which tokens can be laid out."""

    def __init__(self, model: nn.Module, hooks: Hooks) -> None:
        self.sizes: list[Grid] = []
        for module in model.modules():
            if makes_maps(module):
                hooks.after(module, self._note)

    def restart(self, images: Tensor) -> None:
        self.sizes = [grid_in(images)]

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        maps = first_tensor(output)
        if maps is not None:
            self.sizes.append(grid_in(maps))


@contextmanager
def reading(
    model: nn.Module,
    layers: Sequence[Layer],
    reduce: Reduce,
    reduce_expansion: ReduceExpansion | None = None,
    forward: Forward | None = None,
) -> Iterator[Run]:
    """Reduce the maps of chosen layers while the model runs.

    Parameters
    ----------
    model
        An eager model.
    layers
        What to read, from `survey`.
    reduce
        Called as reduce(layer, maps) in order of execution, maps of shape (image, channel, *size). What it returns
        must not share memory with the maps, which the model may overwrite.
    reduce_expansion
        Called in its place for pointwise expansions, as reduce_expansion(layer, maps, expansion), the sources of
        the expansion as maps of shape (image, source, *size).
    forward
        As in `probe.collect`.

    Yields
    ------
    callable
        run(images), which runs the model on images of shape (image, channel, *size), and returns what `reduce` made of
        each layer, by its name.

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
    wanted = {(layer.module, layer.call): layer for layer in layers if layer.source is None}
    modules = {name for name, _ in wanted}
    given = {layer.source: layer for layer in layers if layer.source is not None}
    takers = {name for name, *_ in given}
    calls: Counter[str] = Counter()
    starts: Counter[str] = Counter()
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
                expansion = _expansion(module, inputs, output, layer)
            if expansion is not None:
                sources = as_maps(expansion.sources, layer, grids.sizes)
                assert sources is not None
                expansion = replace(expansion, sources=sources)
            if reduce_expansion is None or expansion is None:
                reduced[layer.name] = reduce(layer, maps)
            else:
                reduced[layer.name] = reduce_expansion(layer, maps, expansion)

        return hook

    def take(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = starts[name]
            starts[name] += 1
            for place, tensor in enumerate(tensors_of(args, kwargs)):
                layer = given.get((name, call, place))
                if layer is not None:
                    reduced[layer.name] = reduce(layer, _read(layer, tensor, n_images, grids.sizes))

        return hook

    def run(images: Tensor) -> dict[str, Any]:
        nonlocal n_images
        calls.clear()
        starts.clear()
        reduced.clear()
        grids.restart(images)
        n_images = len(images)
        if ("", 0) in wanted:
            reduced[INPUT] = reduce(wanted["", 0], images)
        run_model(model, images, forward)
        missed = [layer.name for layer in layers if layer.name not in reduced]
        if missed:
            raise LayerNotCalledError(
                f"layers: {', '.join(missed)} was called for the first image, but not for a later batch. "
                "Leave it out, or pass images that take the same path through the model."
            )
        return dict(reduced)

    with hooking(model) as hooks:
        grids = _Grids(model, hooks)
        for module, name in module_names(model).items():
            if name in modules:
                hooks.after(module, hook_for(name))
            if name in takers:
                hooks.before(module, take(name))
        yield run


def _read(layer: Layer, output: Any, n_images: int, grids: Sequence[Grid]) -> Tensor:
    tensor = first_tensor(output)
    shape = None if tensor is None else tuple(tensor.shape)
    maps = None
    if layer.layout == GIVEN or (shape is not None and len(shape) == LAYOUTS[layer.layout]):
        with noting(f"while layout= was applied to {layer.name}, {_told(output)}"):
            maps = as_maps(output if layer.layout == GIVEN else tensor, layer, grids)
    if maps is None or maps.shape[:2] != (n_images, layer.n_channels) or maps.ndim - 2 != len(layer.size):
        raise LayoutError(
            f"{layer.name} ({layer.module_type}): an output of shape {shape} is no map of "
            f"{counted(n_images, 'image')} with "
            f"{counted(layer.n_channels, 'channel')} in layout {layer.layout}, as the first image gave. "
            f"Leave the layer out, or pass layout={{{layer.name!r}: ...}}, one of {', '.join(LAYOUTS)}."
        )
    return maps


def survey(model: nn.Module, image: Tensor, layout: LayoutOption = None, forward: Forward | None = None) -> list[Layer]:
    """Run the model on two copies of an image and list every call of every module.

    Two copies tell the axis of images from those of windows, heads and parameters, which keep their length or
    multiply it. Where outputs are tokens, three more runs tell which of them are patches of the image.

    Parameters
    ----------
    model
        An eager model.
    image
        Shape (1, channel, *size).
    layout
        Layout of all outputs that have its number of axes, or a mapping from names or globs to layouts; what it
        does not settle is inferred. See `probe.collect`.
    forward
        As in `probe.collect`.

    Raises
    ------
    ArgumentError
        If a layout is unknown, or given for a layer that there is not.
    ImagesError
        If the model's first convolution expects another number of channels or of axes, or the images are smaller than
        a window, or of another size than the one that the model takes.
    ModelError
        If the model runs copies of its modules alone.
    """
    names = module_names(model)
    ancestors = {name: module for module, name in names.items()}
    reserved = {INPUT, *ancestors}
    options = _layout_options(layout)
    calls: Counter[str] = Counter()
    images = torch.cat([image, image])
    found = [_input_layer(image)]
    starts: list[Start] = []
    n_starts: Counter[str] = Counter()
    shapes: dict[tuple[str, int], tuple[int, ...]] = {}
    unsure = {module for module in names if does_more(module)}

    def ancestry(name: str) -> Iterator[nn.Module]:
        while name:
            if name in ancestors:
                yield ancestors[name]
            name = name.rpartition(".")[0]
        yield model

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        name = names[module]
        given = tuple(tuple(tensor.shape) for tensor in tensors_of(args, kwargs))
        starts.append(Start(name, n_starts[name], len(found), given))
        n_starts[name] += 1

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
        given = _given_layout(options, layer.name, tensor)
        if tensor is not None:
            shapes[layer.module, layer.call] = tuple(tensor.shape)
        if given is not None and given.view is not None:
            layer = replace(layer, layout=GIVEN, view=given.view)
            found.append(_checked(layer, output, len(images), grids.sizes))
            return
        if tensor is None:
            found.append(replace(layer, problem="its output holds no tensor"))
            return
        axes = given.axes if given is not None else None
        if given is None and tensor.ndim in LAYOUTS.values():
            axes = infer_layout(tensor.shape, len(images), ancestry(layer.module), grids.sizes)
        layer = _sized(layer, tensor, axes, given, len(images), grids.sizes)
        if given is None and (layer.problem or layer.is_single_cell):
            for path, other in list(tensors_in(output))[1:]:
                if _holds_map(other, len(images), ancestry(layer.module), grids.sizes):
                    found.append(replace(layer, layout="", problem=_choice(layer.name, tensor, path, other)))
                    return
        expansion = _expansion(module, inputs, output, layer) if layer.layout and module not in unsure else None
        found.append(replace(layer, n_sources=0 if expansion is None else expansion.weight.shape[1]))

    with hooking(model) as hooks:
        grids = _Grids(model, hooks)
        grids.restart(images)
        for module in names:
            hooks.before(module, enter)
            hooks.after(module, hook)
        _run_once(model, images, forward)
    if hooks.met_copies and len(found) == 1:
        raise ModelError(
            f"model: {type(model).__name__} runs copies of its modules, which cannot be read. Pass the network that it "
            "holds, for example model.model."
        )
    for pattern, meant in options.items():
        named = [layer for layer in found if fnmatchcase(layer.name, pattern)]
        if not named:
            raise ArgumentError(f"layout: no layer is called {pattern!r}. probe.list_layers(model, images) lists them.")
        axes_found = {len(shapes[layer.module, layer.call]) for layer in named if (layer.module, layer.call) in shapes}
        if meant.view is None and LAYOUTS[meant.axes] not in axes_found:
            outputs = "output of the model" if pattern == "*" else f"output of {pattern!r}"
            raise ArgumentError(
                f"layout: {meant.axes} is of {LAYOUTS[meant.axes]} axes, and no {outputs} has as many; they have "
                f"{' or '.join(map(str, sorted(axes_found))) or 'none'}."
            )
    return with_blocks(model, names, _with_patches(model, images, found, forward), starts, shapes)


def _with_patches(model: nn.Module, images: Tensor, found: list[Layer], forward: Forward | None) -> list[Layer]:
    """Complete the layers whose tokens are not yet laid out."""
    open_calls = {(layer.module, layer.call): layer.layout for layer in found if _is_open(layer)}
    if not open_calls:
        return found
    patches = find_patches(model, images, open_calls, module_names(model), forward)
    completed = []
    for layer in found:
        if _is_open(layer):
            place = patches.get((layer.module, layer.call))
            problem = "it was not called again with the same image" if place is None else place.problem
            if place is None or problem:
                said = f"say it by layout=, for example layout={{{layer.name!r}: '{layer.layout}[1:197]'}}"
                cure = said if place is None else place.cure or said
                reason = f"it is not clear where its tokens lie: {problem}; {cure}"
                layer = replace(layer, layout="", n_channels=0, n_sources=0, problem=reason)
            else:
                layer = replace(layer, n_before=place.n_before, n_behind=place.n_behind, size=place.grid)
        completed.append(layer)
    return completed


def _is_open(layer: Layer) -> bool:
    return layer.layout in ("NLC", "LNC") and not layer.size


def survey_fast(
    model: nn.Module, image: Tensor, layout: LayoutOption = None, forward: Forward | None = None
) -> tuple[list[Layer], torch.memory_format]:
    """List every call of every module, as `survey` does, and choose the memory format that images are shown in.

    Channels last is faster for convolutions, unless the model has views that need rows to be contiguous.
    """
    if image.ndim == 4 and any(isinstance(module, nn.Conv2d) for module in model.modules()):
        try:
            shown = image.contiguous(memory_format=torch.channels_last)
            return survey(model, shown, layout, forward), torch.channels_last
        except RuntimeError:
            # The same error comes again below, unless it was such a view.
            pass
    return survey(model, image.contiguous(), layout, forward), torch.contiguous_format


def input_grids(model: nn.Module, images: Tensor) -> dict[tuple[str, int], Grid]:
    """Run the model and return the size of the map that each call of a module is given.

    Parameters
    ----------
    model
        An eager model.
    images
        Shape (image, channel, *size).

    Returns
    -------
    dict
        By name of the module and number of its call, from 0, as in `Layer`; in order of execution. Calls that are
        given no tensor of four axes or five are left out.
    """
    names = module_names(model)
    calls: Counter[str] = Counter()
    grids: dict[tuple[str, int], Grid] = {}

    def hook(module: nn.Module, inputs: Any, options: Any, output: Any) -> None:
        name = names[module]
        given = first_tensor((inputs, options))
        if given is not None and given.ndim in (4, 5):
            grids[name, calls[name]] = grid_in(given)
        calls[name] += 1

    with hooking(model) as hooks:
        for module in names:
            hooks.after_with_options(module, hook)
        run_model(model, images)
    return grids


def _sized(
    layer: Layer, tensor: Tensor, axes: str | None, given: GivenLayout | None, n_images: int, grids: Sequence[Grid]
) -> Layer:
    """Complete a layer by the layout and the size of its output, or why it is no map.

    Tokens whose places are not told have no size yet.
    """
    shape = tuple(tensor.shape)
    if len(shape) == 2 and axes in (None, "NC"):
        return replace(layer, layout="NC", n_channels=shape[1], size=(1, 1))
    most = 2 + max(map(len, grids))
    if not 3 <= len(shape) <= most and given is None:
        expected = "3 or 4" if most == 4 else "3 to 5"
        return replace(
            layer, problem=f"its output of shape {shape} has {counted(len(shape), 'axis')}; a map has {expected}"
        )
    if axes is None:
        problem = f"it is not clear where its output of shape {shape} has rows and columns; pass layout="
        return replace(layer, problem=problem)
    if axes in LAYOUTS and shape[axes.index("N")] != n_images:
        return replace(layer, problem=f"its output of shape {shape}, for {n_images} images, has no axis for the images")
    layer = replace(layer, layout=axes, **(given.patches_of(tensor) if given is not None else {}))
    if axes in ("NLC", "LNC") and (given is None or given.patches is None) and shape[axes.index("L")] > 1:
        return replace(layer, n_channels=shape[2])
    return _checked(layer, tensor, n_images, grids)


def _holds_map(tensor: Tensor, n_images: int, ancestry: Iterator[nn.Module], grids: Sequence[Grid]) -> bool:
    if tensor.ndim not in (4, 5) or len(tensor) != n_images:
        return False
    axes = infer_layout(tensor.shape, n_images, ancestry, grids)
    return axes in ("NCHW", "NCDHW") and math.prod(grid_in(tensor)) > 1


def _choice(name: str, first: Tensor, path: str, other: Tensor) -> str:
    return (
        f"the first tensor of its output, of shape {tuple(first.shape)}, is no map, and {path}, of shape "
        f"{tuple(other.shape)}, is one; choose it by layout={{{name!r}: lambda output: {path}}}"
    )


def _told(output: Any) -> str:
    return f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _checked(layer: Layer, output: Any, n_images: int, grids: Sequence[Grid]) -> Layer:
    """Complete a layer whose maps can be made, by their size."""
    told = _told(output)
    try:
        maps = as_maps(output, layer, grids)
    except Exception as error:
        if layer.layout in LAYOUTS and isinstance(error, RuntimeError):
            problem = f"its output of {told} has no such tokens as layout= says: {error}"
            return replace(layer, layout="", view=None, problem=problem.rstrip("."))
        error.add_note(f"probe: while layout= was applied to {layer.name}, {told}.")
        raise
    if maps is None:
        return replace(layer, layout="", problem=f"the tokens of its output of {told} fit no grid; pass layout=")
    if layer.view is not None and (not isinstance(maps, Tensor) or maps.ndim not in (4, 5) or len(maps) != n_images):
        made = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise LayoutError(
            f"layout: the function for {layer.name!r} made {made} of an output of {told}; expected maps of "
            f"shape (image, channel, row, column), or with frames before the rows, here of {n_images} images."
        )
    return replace(layer, n_channels=maps.shape[1], size=grid_in(maps))


def _expansion(module: nn.Module, inputs: tuple[Any, ...], output: Any, layer: Layer) -> Expansion | None:
    """Return the expansion that a module is; None if it expands another axis than that of the channels."""
    if layer.layout not in LAYOUTS or layer.layout == "NC" or layer.view is not None:
        return None
    expansion = expansion_of(module, inputs, output)
    if expansion is None:
        return None
    made, sources = list(output.shape), list(expansion.sources.shape)
    if len(made) != len(sources):
        return None
    axis = layer.layout.index("C")
    widths = (made.pop(axis), sources.pop(axis))
    return expansion if widths == expansion.weight.shape and made == sources else None


def _run_once(model: nn.Module, images: Tensor, forward: Forward | None) -> None:
    try:
        run_model(model, images, forward)
    except (RuntimeError, ValueError, AssertionError) as error:
        first, size = first_convolution(model), grid_in(images)
        if first is not None and len(size) == len(first.kernel_size) and first.in_channels != images.shape[1]:
            raise ImagesError(
                f"images: found {images.shape[1]} channels, but the model's first convolution expects "
                f"{first.in_channels}. Images are read as (image, channel, {', '.join(axes_of_size(size))}). "
                f"{_cure_of_channels(tuple(images.shape), first.in_channels)}"
            ) from error
        if _TOO_SMALL.search(str(error)):
            longer = " longer or" if len(size) == 3 else ""
            raise ImagesError(
                f"images: those of {sized(size)} ({', '.join(axes_of_size(size))}) are too small for the model: "
                f"{reason_of(error, model)}. Show{longer} larger ones."
            ) from error
        if _OTHER_SIZE.search(str(error)):
            raise ImagesError(
                f"images: those of {sized(size)} ({', '.join(axes_of_size(size))}) are of another size than the model "
                f"takes: {reason_of(error, model)}. {_cure_of_other_size(model, size)}"
            ) from error
        if first is None and "input to conv1d" in str(error):
            raise ModelError(
                f"model: signals of one axis are not supported, and {type(model).__name__} takes them: "
                f"{reason_of(error, model)}. Position is read of images and clips; pass a model of these, or one that "
                "makes its signals of images itself."
            ) from error
        n_shown, n_taken = images[0].numel(), first_inputs(model)
        if first is None and n_taken and n_taken != n_shown:
            raise ImagesError(
                f"images: found {n_shown} numbers an image, shape {tuple(images.shape[1:])}, but the model's first "
                f"weight takes {n_taken}. {_cure_of_size(n_taken)}"
            ) from error
        raise


def _cure_of_other_size(model: nn.Module, size: Grid) -> str:
    """Return how model and images come together."""
    own = "Show the size that it takes, by transform=, or --size of the command"
    argument = _ARGUMENT_OF_SIZE.get(type(model).__module__.partition(".")[0])
    if argument is None:
        return f"{own}."
    made = f"{argument}={size[-1] if size[-1] == size[-2] else size[-2:]}"
    return f"{own}. Or make the model for these, with {made}, --model-args {made} of the command."


def _cure_of_size(n_numbers: int) -> str:
    """Return which images have so many numbers; at the command --size brings them there."""
    for n_channels in (1, 3):
        side = math.isqrt(n_numbers // n_channels)
        if n_channels * side * side == n_numbers:
            return f"Show images of shape ({n_channels}, {side}, {side}): transform=, or --size {side} of the command."
    return "Bring them to as many in transform=, or wrap the model in a function that does (module:function)."


def _cure_of_channels(shape: tuple[int, ...], expected: int) -> str:
    """Return how to bring images of another number of channels to a model; transform= takes one image at a time."""
    if shape[-1] == expected:
        if len(shape) == 5:
            return "Move the channels from the end: images.movedim(-1, 1), or image.movedim(-1, 0) in transform=."
        return "Move the channels from the end: images.permute(0, 3, 1, 2), or image.permute(2, 0, 1) in transform=."
    if len(shape) == 5 and shape[2] == expected:
        return "Move the frames behind the channels: images.transpose(1, 2), or image.transpose(0, 1) in transform=."
    if shape[1] == 1:
        repeated = ", ".join([str(expected), *["-1"] * (len(shape) - 2)])
        return f"Repeat the grey: images.expand(-1, {repeated}), or image.expand({repeated}) in transform=."
    if expected == 1:
        return "Make them grey: images.mean(1, keepdim=True), or image.mean(0, keepdim=True) at the end of transform=."
    return f"Bring them to {expected} channels, in transform= where they are rows."


def _input_layer(image: Tensor) -> Layer:
    layout = "NCHW" if image.ndim == 4 else "NCDHW"
    return Layer(INPUT, "", 0, "pixels", 0, layout, image.shape[1], grid_in(image), default=True)


def _call_name(module_name: str, call: int, reserved: set[str]) -> str:
    """Name a call as torchvision does, apart from any module that really has this name."""
    if call == 0:
        return module_name if module_name != INPUT else f"{INPUT}:module"
    name = f"{module_name}_{call}"
    return name if name not in reserved else f"{module_name}:{call}"


def _layout_options(layout: LayoutOption) -> dict[str, GivenLayout]:
    if layout is not None and not isinstance(layout, str | Mapping):
        raise ArgumentError(
            f"layout: expected a layout or a mapping from names to layouts, found {type(layout).__name__}. A function "
            "is for the layers it is named for: pass layout={name: function}."
        )
    options = {"*": layout} if isinstance(layout, str) else dict(layout or {})
    return {pattern: given_layout(value, pattern) for pattern, value in options.items()}


def _given_layout(options: Mapping[str, GivenLayout], name: str, tensor: Tensor | None) -> GivenLayout | None:
    """Return the first layout that the user gave for this layer and that can be meant for its output's first tensor."""
    for pattern, given in options.items():
        if pattern == name and given.view is not None:
            return given
        if tensor is not None and fnmatchcase(name, pattern) and given.fits(tensor):
            # Of the many layers that a glob finds, some give more than the function is meant for.
            return given if given.view is None else replace(given, view=partial(_of_first, given.view))
    return None


def _of_first(view: View, output: Any) -> Tensor:
    return view(first_tensor(output))
