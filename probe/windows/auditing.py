"""What padding a model reads and what it leaves unread, from its layers alone: no images are needed."""

import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.axes import AXES, axes_of_size
from probe.errors import ArgumentError, ModelError, noting, warn
from probe.models.capture import input_grids, reading
from probe.models.first_layers import axes_taken
from probe.models.layers import Layer, LayerSelection, select_layers
from probe.models.layouts import Grid
from probe.models.loan import borrowed, resolve_device
from probe.models.modules import module_names, unwrap
from probe.models.survey import survey
from probe.models.weights import weights_digest
from probe.results import Facts, finish
from probe.windows.even_sizes import WindowsOf, nearest_even_sizes
from probe.windows.paths import PathCounting, paths_from, paths_in
from probe.windows.windows import WINDOWED, windows_of

__all__ = ["audit"]

_SIDES = {"frame": ("first", "last"), "row": ("top", "bottom"), "column": ("left", "right")}
_FLAT = 1e-10  # share of a map's energy below which its variation is rounding


def audit(
    model: nn.Module,
    input_shape: Sequence[int] = (3, 224, 224),
    *,
    maps: LayerSelection = "auto",
    device: str | torch.device = "auto",
    sizes: bool = True,
) -> xr.Dataset:
    """Find the padding that a model never reads, and what its borders do to its maps. No images are needed.

    The commonest uses::

        probe.audit(model)
        probe.audit(model, (3, 32, 32))
        probe.audit(video_model, (3, 16, 112, 112), sizes=False)

    A layer with stride s on a map of H rows leaves r = (H + padding − dilation·(kernel − 1) − 1) mod s rows unread at
    the bottom. Where these are padding, top and bottom are treated differently: the padding is uneven, kernels become
    asymmetric in training, and small objects can fall into blind spots [1]_.

    Parameters
    ----------
    model
        Any eager model with convolutions or pooling layers. It is left as it was.
    input_shape
        (channel, row, column) of an image, or (channel, frame, row, column) of a clip or volume.
    maps
        Layers with maps: ``"auto"`` takes those with a stride above 1, and the last; else names, globs, types or
        modules, as in `probe.layerwise`.
    device
        As in `probe.layerwise`.
    sizes
        Whether to search the nearest input sizes without unread padding.

    Returns
    -------
    xarray.Dataset
        One entry of ``layer`` for each call of a convolution or pooling layer.

        ``padding``, ``unread``, ``unread_inside`` on (layer, side)
            Rows (top, bottom) or columns (left, right) of padding; those of them that no window reads; and rows or
            columns of the map itself, from that side inwards, that no window reads. Of clips also frames (first, last).
        ``even_size`` on (axis, direction)
            The nearest smaller and larger number of pixels along one axis, the other as given, at which no layer
            leaves padding unread along it, up to 128 pixels away. NaN if there is none, or if the model could run at
            none of them, which a warning tells.
        ``artefact`` on (layer)
            On an image of zeros: variance of the response over positions as a share of its mean square, all channels
            pooled. Without border effects all cells are equal, and it is 0; NaN if the response is 0 everywhere.
        ``asymmetry`` on (layer, axis)
            Share of the variance of the same response to zeros, all channels pooled, that changes its sign when the
            maps are mirrored along the axis: 0 for symmetric maps, 1 for antisymmetric ones. NaN where there is no
            variance. It is no measure of the kernels, nor of foveation.
        ``foveation_i``
            For each layer with maps: the number of paths by which the layer reads each pixel, relative to the mean.
            Weights are set to one, channels averaged, and constants, biases, norms and activations bring no paths; a
            gate or a mean that is smaller than the map is left aside (`probe.windows.paths.PathCounting`). Absent
            behind attention and behind functions of which it is not known what they read, which a warning names.
        ``zero_map_i``
            For each layer with maps: its response to an image of zeros, averaged over channels.

    Raises
    ------
    ArgumentError
        If `input_shape` is no shape of an image or clip, or not of what the model takes.
    ModelError
        If the model has no convolution or pooling layer that could be audited.

    Warns
    -----
    ProbeWarning
        Lists layers that pad in code of their own, which are left out, and what could not be computed.

    Notes
    -----
    Padding done by a separate module or by code between the layers counts as part of the map; see ``unread_inside``.

    References
    ----------
    .. [1] Alsallakh et al., "Mind the Pad: CNNs can develop blind spots", ICLR 2021.

    Examples
    --------
    >>> import probe
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1))
    >>> result = probe.audit(model, (3, 32, 32))
    >>> result.unread.sel(side=["top", "bottom"]).values
    array([[0, 1], [0, 1]])
    >>> result.even_size.sel(axis="row").values
    array([29., 33.])
    """
    started = time.monotonic()
    model = unwrap(model)
    shape = _check_shape(input_shape, axes_taken(model))
    target = resolve_device(device, model)
    warned: list[str] = []
    with borrowed(model, target, 0), noting(f"while the model ran on zeros of shape (1, {', '.join(map(str, shape))})"):
        zeros = _image(model, shape, target, 0)
        found = survey(model, zeros)
        grids = input_grids(model, zeros)
        layers, windows, skipped = _windowed(model, found, grids, shape)
        if skipped:
            warn(f"left out: {'; '.join(f'{name}: {reason}' for name, reason in skipped.items())}.", warned)
        with_maps = _with_maps(maps, layers, windows, model)
        result = _reading_of(layers, windows, grids)
        if sizes:
            result["even_size"] = _even_sizes(model, zeros, windows, warned)
        result = result.merge(_zero_response(model, zeros, layers, with_maps))
        result = result.merge(_foveation(model, _image(model, shape, target, 1).double(), with_maps, warned))
    facts = Facts(
        model=type(model).__name__,
        weights_digest=weights_digest(model),
        device=str(target),
        duration_s=round(time.monotonic() - started, 3),
        skipped=skipped,
        warnings=tuple(warned),
    )
    return finish(
        result,
        kind="audit",
        facts=facts,
        settings={"input_shape": list(shape), "sizes": sizes},
        input_shape=list(shape),
        maps=[layer.name for layer in with_maps],
    )


def _check_shape(input_shape: Any, n_axes: int | None) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(number) for number in input_shape)
    except TypeError:
        shape = ()
    if len(shape) not in (3, 4) or min(shape) < 1 or n_axes not in (None, len(shape) - 1):
        image, clip = "(channel, row, column), for example (3, 224, 224)", "(channel, frame, row, column), for example "
        clip += "(3, 16, 112, 112)"
        expected = {2: image, 3: f"of a model of clips {clip}", None: f"{image}, or of clips {clip}"}[n_axes]
        raise ArgumentError(f"input_shape={input_shape!r}: expected {expected}.")
    return shape


def _image(model: nn.Module, shape: Sequence[int], device: torch.device, value: float) -> Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.full((1, *shape), float(value), dtype=dtype, device=device)


def _windowed(
    model: nn.Module, found: Sequence[Layer], grids: Mapping[tuple[str, int], Grid], shape: Sequence[int]
) -> tuple[list[Layer], WindowsOf, dict[str, str]]:
    """Return the calls of layers with windows, their windows by name of the module, and what is left out and why."""
    modules = {name: module for module, name in module_names(model).items() if isinstance(module, WINDOWED)}
    windows = {name: windows_of(module) for name, module in modules.items()}
    layers, skipped = [], {}
    for layer in found:
        grid = grids.get((layer.module, layer.call))
        if layer.module not in windows or layer.problem or grid is None:
            continue
        along = windows[layer.module]
        if len(along) != len(shape) - 1:
            skipped[layer.name] = (
                f"its windows have {len(along)} axes, and what the model is given has {len(shape) - 1}"
            )
        elif tuple(axis.count(size) for axis, size in zip(along, grid, strict=True)) == layer.size:
            layers.append(layer)
        else:
            skipped[layer.name] = "it pads in code of its own, since its output has another size than its settings give"
    if not layers:
        raise ModelError(
            "model: found no convolution or pooling layer to audit; expected modules of the types "
            f"{', '.join(kind.__name__ for kind in WINDOWED)} that are called on maps (image, channel, "
            f"{', '.join(axes_of_size(shape[1:]))})."
        )
    audited = {layer.module for layer in layers}
    return layers, {name: windows[name] for name in windows if name in audited}, skipped


def _with_maps(maps: LayerSelection, layers: Sequence[Layer], windows: WindowsOf, model: nn.Module) -> list[Layer]:
    if isinstance(maps, str) and maps == "auto":
        strided = [layer for layer in layers if max(axis.stride for axis in windows[layer.module]) > 1]
        last = [layer for layer in layers if not layer.is_single_cell][-1:]
        chosen = {layer.name: layer for layer in [*strided, *last] if not layer.is_single_cell}
        return list(chosen.values())
    if not isinstance(maps, str | type | nn.Module) and not list(maps):
        return []
    return select_layers(maps, layers, module_names(model))[0]


def _reading_of(layers: Sequence[Layer], windows: WindowsOf, grids: Mapping[tuple[str, int], Grid]) -> xr.Dataset:
    """Return what each layer reads of its padding."""
    along = [windows[layer.module] for layer in layers]
    inputs = [grids[layer.module, layer.call] for layer in layers]
    names = axes_of_size(inputs[0])

    def by_side(count: str) -> list[list[int]]:
        return [
            [number for axis, size in zip(axes, grid, strict=True) for number in getattr(axis, count)(size)]
            for axes, grid in zip(along, inputs, strict=True)
        ]

    def by_axis(setting: str) -> tuple[tuple[str, str], list[list[int]]]:
        return ("layer", "axis"), [[getattr(axis, setting) for axis in axes] for axes in along]

    padding = [[number for axis in axes for number in (axis.before, axis.after)] for axes in along]
    rows = {"units": " or ".join(", ".join(names).rsplit(", ", 1))}
    frames = {"frames": ("layer", [layer.frames for layer in layers])} if len(names) == len(AXES) else {}
    return xr.Dataset(
        {
            "padding": (("layer", "side"), padding, {"long_name": "padding", **rows}),
            "unread": (("layer", "side"), by_side("unread"), {"long_name": "padding that no window reads", **rows}),
            "unread_inside": (
                ("layer", "side"),
                by_side("unread_inside"),
                {"long_name": "map that no window reads, from this side inwards", **rows},
            ),
        },
        coords={
            "layer": [layer.name for layer in layers],
            "side": [side for name in names for side in _SIDES[name]],
            "axis": list(names),
            "module_type": ("layer", [layer.module_type for layer in layers]),
            "call": ("layer", [layer.call for layer in layers]),
            "depth": ("layer", [layer.depth for layer in layers]),
            **frames,
            "height": ("layer", [layer.height for layer in layers]),
            "width": ("layer", [layer.width for layer in layers]),
            "input_size": (("layer", "axis"), inputs),
            "kernel": by_axis("kernel"),
            "stride": by_axis("stride"),
            "dilation": by_axis("dilation"),
        },
    )


def _even_sizes(model: nn.Module, zeros: Tensor, windows: WindowsOf, warned: list[str]) -> xr.DataArray:
    try:
        nearest, refused = nearest_even_sizes(model, zeros, windows)
        if refused:
            warn(f"even_size: the model took no other size: {'; '.join(refused)}.", warned)
    except ModelError as error:
        warn(f"even_size: not searched: {error}", warned)
        nearest = np.full((zeros.ndim - 2, 2), np.nan)
    return xr.DataArray(
        nearest,
        dims=("axis", "direction"),
        coords={"axis": list(axes_of_size(zeros.shape[2:])), "direction": ["smaller", "larger"]},
        attrs={"long_name": "nearest input size at which no padding is unread", "units": _unit(zeros)},
    )


def _unit(images: Tensor) -> str:
    return "pixel" if images.ndim == 4 else "pixel or frame"


def _zero_response(model: nn.Module, zeros: Tensor, layers: Sequence[Layer], with_maps: Sequence[Layer]) -> xr.Dataset:
    """Return what the borders do to the maps of an image of zeros."""

    def measure(layer: Layer, maps: Tensor) -> tuple[float, list[float], np.ndarray]:
        values = maps[0].double()
        cells = tuple(range(1, values.ndim))
        varying = values - values.mean(dim=cells, keepdim=True)
        energy, variance = float(values.square().sum()), float(varying.square().sum())
        artefact = variance / energy if energy > 0 else np.nan
        is_flat = not variance > _FLAT * energy
        asymmetry = [
            np.nan if is_flat else float((varying - varying.flip(axis)).square().sum()) / 4 / variance for axis in cells
        ]
        return artefact, asymmetry, values.mean(dim=0).float().cpu().numpy()

    with reading(model, layers, measure) as run:
        responses = run(zeros)
    names = [layer.name for layer in layers]
    artefacts, asymmetries, means = zip(*(responses[name] for name in names), strict=True)
    result = xr.Dataset(
        {
            "artefact": (
                "layer",
                list(artefacts),
                {"long_name": "share of the response to zeros that varies over the map", "units": "1"},
            ),
            "asymmetry": (
                ("layer", "axis"),
                list(asymmetries),
                {"long_name": "antisymmetric share of the response to zeros, channels pooled", "units": "1"},
            ),
        },
        coords={"layer": names, "axis": list(axes_of_size(zeros.shape[2:]))},
    )
    for index, layer in enumerate(with_maps):
        about = {"layer": layer.name, "long_name": "response to zeros, mean over channels", "units": "activation"}
        dims = tuple(f"{axis}_{index}" for axis in axes_of_size(layer.size))
        result[f"zero_map_{index}"] = (dims, means[names.index(layer.name)], about)
    return result


def _foveation(model: nn.Module, ones: Tensor, with_maps: Sequence[Layer], warned: list[str]) -> xr.Dataset:
    """Return by how many paths each layer reads each pixel, as far as paths can be counted."""
    paths: dict[str, Tensor] = {}

    def count(layer: Layer, maps: Tensor) -> None:
        # Kept here, since those that were counted stay where a later layer cannot be; at once, since the maps may be
        # added to in place.
        paths[layer.name] = paths_in(maps, layer.name).mean(dim=1).sum()

    problem = ""
    with torch.enable_grad(), reading(model, with_maps, count) as run:
        counts = ones.requires_grad_().clone()  # a copy, since the model may write into it
        try:
            with PathCounting(model, counts):
                run(counts)
        except (ModelError, RuntimeError) as error:
            problem = str(error).partition("\n")[0]
        result = xr.Dataset()
        for index, layer in enumerate(with_maps):
            if layer.name in paths:
                try:
                    reads = paths_from(ones, paths[layer.name]).sum(dim=(0, 1))
                except ModelError as error:
                    problem = str(error)
                    del paths[layer.name]
                    continue
                about = {"layer": layer.name, "long_name": "paths from each pixel, relative to the mean", "units": "1"}
                values = (reads / reads.mean()).float().cpu().numpy()
                result[f"foveation_{index}"] = (axes_of_size(values.shape), values, about)
    uncounted = [layer.name for layer in with_maps if layer.name not in paths]
    if uncounted:
        warn(f"foveation: not counted for {', '.join(uncounted)}: {problem}", warned)
    return result
