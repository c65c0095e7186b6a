"""What layers a model has: one forward pass of the first image lists every call of every module, laid out as maps."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, LayoutError, ModelError, counted
from probe.models.blocks import Start, tensors_of, with_blocks
from probe.models.capture import Grids, expansion_in, told_output
from probe.models.expansions import does_more
from probe.models.hooks import hooking
from probe.models.kinds import is_default_layer
from probe.models.layers import INPUT, Layer, View
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
from probe.models.loan import Forward
from probe.models.modules import module_names
from probe.models.notation import LAYOUTS
from probe.models.refusals import run_first
from probe.models.tokens import find_patches

__all__ = ["LayoutOption", "survey", "survey_fast"]

LayoutOption = str | Mapping[str, str | View] | None


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
        expansion = expansion_in(module, inputs, output, layer) if layer.layout and module not in unsure else None
        found.append(replace(layer, n_sources=0 if expansion is None else expansion.weight.shape[1]))

    with hooking(model) as hooks:
        grids = Grids(model, hooks)
        grids.restart(images)
        for module in names:
            hooks.before(module, enter)
            hooks.after(module, hook)
        run_first(model, images, forward)
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


def _checked(layer: Layer, output: Any, n_images: int, grids: Sequence[Grid]) -> Layer:
    """Complete a layer whose maps can be made, by their size."""
    told = told_output(output)
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
