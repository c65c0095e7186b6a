"""Reading the activations of a model: the only file of the library that hands them on through hooks.

A hook hands each output on as maps (image, channel, *size), at once and without a copy, so that what later overwrites
the tensor in place does no harm, and keeps nothing. The size of a map is that of its rows and columns; where a model
sees time or depth, also of the frames before them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from probe.errors import LayerNotCalledError, LayoutError, counted, noting
from probe.models.blocks import tensors_of
from probe.models.expansions import Expansion, expansion_of
from probe.models.hooks import Hooks, hooking
from probe.models.layers import INPUT, Layer
from probe.models.layouts import GIVEN, Grid, as_maps, first_tensor, grid_in
from probe.models.loan import Forward, run_model
from probe.models.modules import module_names
from probe.models.notation import LAYOUTS
from probe.models.tokens import makes_maps

__all__ = ["Grids", "Reduce", "ReduceExpansion", "Run", "expansion_in", "input_grids", "reading", "told_output"]

Reduce = Callable[[Layer, Tensor], Any]
ReduceExpansion = Callable[[Layer, Tensor, Expansion], Any]
Run = Callable[[Tensor], dict[str, Any]]


class Grids:
    """The sizes of the images and of all maps so far in a forward pass, on which tokens can be laid out."""

    def __init__(self, model: nn.Module, hooks: Hooks) -> None:
        self.sizes: list[Grid] = []
        for module in model.modules():
            if makes_maps(module):
                hooks.after(module, self._note)

    def restart(self, images: Tensor) -> None:
        """Forget the maps of the pass before; the images of the next one are given."""
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
        What to read, from `probe.models.survey.survey`.
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
    >>> from probe.models.survey import survey
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
                expansion = expansion_in(module, inputs, output, layer)
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
        grids = Grids(model, hooks)
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
        with noting(f"while layout= was applied to {layer.name}, {told_output(output)}"):
            maps = as_maps(output if layer.layout == GIVEN else tensor, layer, grids)
    if maps is None or maps.shape[:2] != (n_images, layer.n_channels) or maps.ndim - 2 != len(layer.size):
        raise LayoutError(
            f"{layer.name} ({layer.module_type}): an output of shape {shape} is no map of "
            f"{counted(n_images, 'image')} with "
            f"{counted(layer.n_channels, 'channel')} in layout {layer.layout}, as the first image gave. "
            f"Leave the layer out, or pass layout={{{layer.name!r}: ...}}, one of {', '.join(LAYOUTS)}."
        )
    return maps


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


def expansion_in(module: nn.Module, inputs: tuple[Any, ...], output: Any, layer: Layer) -> Expansion | None:
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


def told_output(output: Any) -> str:
    """Return what an output is, as messages tell it."""
    return f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
