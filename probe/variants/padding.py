"""The same weights under another padding."""

import difflib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from probe.axes import AXES
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.copies import copied
from probe.models.modules import unwrap
from probe.variants.alignment import AlignedForward
from probe.variants.borders import Bordered, convert, is_convertible, is_padded
from probe.variants.obstacles import axes_in, obstacle, padding_in_code
from probe.variants.remarks import listed
from probe.variants.rolling import Findings, bare_twin, roll_images
from probe.variants.samplers import BlurPool

__all__ = ["PADDINGS", "with_padding"]

PADDINGS = ("zeros", "reflect", "replicate", "circular", "partial", "valid", "full")


def with_padding(
    model: nn.Module, padding: str, *, axes: Sequence[str] | None = None, images: Tensor | None = None
) -> nn.Module:
    """Return a copy of a model whose convolutions and pooling layers see another border.

    The commonest uses::

        probe.with_padding(model, "circular")
        probe.layerwise(probe.with_padding(model, "valid"), images)
        probe.with_padding(video_model, "circular", axes=("row", "column"))

    =============  ==============================================  ================================================
    padding        convolutions                                    pooling
    =============  ==============================================  ================================================
    ``zeros``      zeros                                           unchanged
    ``reflect``    the map mirrored at its border                  the same, then pooled
    ``replicate``  the pixels of the border repeated               the same, then pooled
    ``circular``   the opposite side                               the same, then pooled
    ``partial``    zeros, the response without its bias            unchanged
                   re-weighted by taps / taps inside the map
    ``valid``      nothing                                         nothing
    ``full``       dilation · (kernel − 1) zeros                   kernel − 1 of −∞ (average: not counted)
    =============  ==============================================  ================================================

    ``partial`` is that of [1]_, ``full`` that of [2]_.

    A transposed convolution sees the same border where its response reads beyond the map; under ``valid`` that part
    of the response is cut off, and under ``full`` nothing is cut off. What is said of rows and columns goes for the
    frames of clips and the depth of volumes too. With `axes`, layers keep along the other axes the border they had:
    ``axes=("row", "column")`` changes a video network in space alone, ``axes=("frame",)`` in time alone.

    The first five keep the sizes of all maps; what a layer did not pad stays unpadded. Under ``full``, convolutions
    without padding whose windows do not overlap, such as patch embeddings and strided 1 × 1 convolutions, stay as
    they are. Under ``valid`` and ``full`` maps shrink and grow, so the operands of sums and of concatenations of
    channels are aligned about their centres (:class:`probe.variants.alignment.Alignment`). This happens while the
    returned model itself is called; a part of it that is called alone, or traced by ``torch.fx``, is not aligned. Its
    forward is bound to it, so use ``DistributedDataParallel`` on several devices, not ``DataParallel``.

    Where a branch with stride s has lost (``valid``) or gained (``full``) an odd number of cells against the other,
    the centres cannot meet: in a residual block with a 3 × 3 convolution of stride 2 beside a 1 × 1 convolution of
    stride 2, the operands are one input pixel apart, half a cell of the new map. Blocks of stride 1 with odd kernels
    meet exactly.

    Parameters
    ----------
    model : nn.Module
        Any model; of a compiled, ``DataParallel`` or ``DistributedDataParallel`` one, the model inside is copied.
        It stays as it was.
    padding : str
        One of ``probe.PADDINGS``.
    axes : sequence of str, optional
        Some of ``"frame"``, ``"row"`` and ``"column"``; by default all.
    images : torch.Tensor, optional
        Shape (image, channel, row, column), or (image, channel, frame, row, column) for a model of clips or volumes;
        on the first of them the conversion is tried. By default it is noise of a size that is found by trial; give one
        if the warning says that none fits. Its sides are multiples of all strides.

    Returns
    -------
    nn.Module
        A copy with the same classes, names, hooks, modes and bits of weights, sharing no memory. Layers of class
        ``nn.Conv2d``, ``nn.ConvTranspose2d``, ``nn.MaxPool2d`` and ``nn.AvgPool2d`` and of their kin with frames are
        converted, and classes made of these without code of their own; convolutions whatever their padding mode was.

    Raises
    ------
    ArgumentError
        If the padding is unknown, no layer has one of the axes, or `images` are none or have no effect.
    ModelError
        If no layer pads, or none of those that do can be converted, as in a transformer whose patches do not overlap;
        if the model is scripted or traced, cannot be copied, or has been converted already.
    PaddingError
        From the forward pass of the returned model, under ``valid``: if the images are so small that no map is left.
        It names the layer and the smallest size that works.

    Warns
    -----
    ProbeWarning
        Lists what was not converted: other classes of layers that pad, pooling with ``ceil_mode`` or to several
        cells, and padding in the code of ``forward``. Under ``zeros``, layers that
        continue the map; under ``partial``, no pooling. Under ``circular`` it also tells what else than padding tells
        positions apart, such as a table of positions, or why nothing could be tried.

    Notes
    -----
    Padding in code is found in two ways: ``torch.fx`` shows calls of known functions, and a copy under circular padding
    is run once on an image of noise and on the same image rolled by a multiple of all strides, in evaluation mode and
    without hooks. A function whose output does not roll along is listed with its layer, unless it tells positions
    apart without padding: attention, a table of positions, or weights of their own for each place of a map. Only
    what runs on this image is seen.

    References
    ----------
    .. [1] Liu et al., "Partial Convolution based Padding", 2018, arXiv:1811.11718.
    .. [2] Kayhan and van Gemert, "On Translation Invariance in CNNs: Convolutional Layers Can Exploit Absolute
       Spatial Location", CVPR 2020.

    Examples
    --------
    >>> import probe, torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    >>> probe.with_padding(model, "valid")(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 28, 28])
    """
    if padding not in PADDINGS:
        near = difflib.get_close_matches(str(padding), PADDINGS, n=1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"padding={padding!r} is unknown; expected one of {', '.join(PADDINGS)}.{offer}")
    original = unwrap(model)
    chosen = _check_axes(axes, original)
    if images is not None:
        _check_images(images, padding, original)
    if any(_is_converted(module) for module in original.modules()):
        raise ModelError("model: its padding has been converted already. Convert the original model instead.")
    converted = copied(original)
    n_converted = _convert_all(converted, padding, chosen)
    in_code = padding_in_code(original, padding, chosen)
    reasons = {name: obstacle(module, padding, chosen) for name, module in original.named_modules()}
    for name, function in in_code or ():
        reasons[name] = reasons[name] or function
    if not n_converted:
        raise ModelError(_nothing_message(padding, axes, reasons))
    if padding in ("valid", "full"):
        converted.forward = AlignedForward(converted, padding)
    _warn_of_rest(original, padding, chosen, images, reasons, is_traced=in_code is not None)
    return converted


def _check_axes(axes: Any, model: nn.Module) -> tuple[str, ...]:
    """Return the axes to convert, in their order."""
    if axes is None:
        return AXES
    present = axes_in(model)
    given = tuple(axes) if isinstance(axes, Iterable) and not isinstance(axes, str) else (axes,)
    if not given or not set(given) <= set(AXES):
        raise ArgumentError(f"axes={axes!r}: expected some of {', '.join(AXES)}.")
    missing = [axis for axis in given if axis not in present]
    if missing:
        found = f"they slide over {' and '.join(f'{axis}s' for axis in present)}" if present else "none slides a window"
        raise ArgumentError(f"axes={axes!r}: no layer of the model has an axis {missing[0]!r}; {found}.")
    return tuple(axis for axis in AXES if axis in given)


def _check_images(images: Any, padding: str, model: nn.Module) -> None:
    if padding == "zeros":
        raise ArgumentError("images: padding='zeros' is not tried on images, so they would have no effect.")
    axes = axes_in(model) or AXES[-2:]
    if not isinstance(images, Tensor) or images.ndim != 2 + len(axes) or not len(images):
        found = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        shape = ", ".join(("image", "channel", *axes))
        raise ArgumentError(f"images: expected a tensor of shape ({shape}), found {found}.")


def _convert_all(model: nn.Module, padding: str, axes: Collection[str]) -> int:
    """Convert the layers of a model, and return how many of them have the padding that was asked for."""
    count = 0
    for module in model.modules():
        if obstacle(module, padding, axes):
            continue
        if is_convertible(module):
            count += is_padded(module, padding, axes)
            convert(module, padding, axes)
        elif isinstance(module, BlurPool) and {"row", "column"} <= set(axes) and "circular" in (padding, module.border):
            border = "circular" if padding == "circular" else "reflect"
            count += module.border != border
            module.border = border
    return count


def _is_converted(module: nn.Module) -> bool:
    return isinstance(module, Bordered) or isinstance(vars(module).get("forward"), AlignedForward)


def _nothing_message(padding: str, axes: Any, reasons: Mapping[str, str]) -> str:
    along = "" if axes is None else f" along axes={axes!r}"
    kept = listed("not converted", reasons)
    if kept:
        return f"model: padding={padding!r} changes none of its layers{along}; {kept}."
    return (
        f"model: padding={padding!r} has nothing to change: no layer pads{along}. What the model knows of position it "
        "has from elsewhere, such as a table (`with_position_embedding`) or content."
    )


def _warn_of_rest(
    model: nn.Module,
    padding: str,
    axes: Collection[str],
    images: Tensor | None,
    reasons: dict[str, str],
    *,
    is_traced: bool,
) -> None:
    """List in one warning what keeps the border it had, and what else tells positions apart in a circular model."""
    found = _found_by_rolling(model, axes, images) if padding != "zeros" else Findings()
    if not is_traced and found.not_tried:
        reasons[""] = reasons[""] or "torch.fx cannot trace it, so padding in its code would go unseen"
    _add_what_the_trial_found(model, padding, axes, found, reasons)
    parts = [listed("not converted", reasons)]
    if padding == "circular":
        parts.append(listed("positions are told apart otherwise than by padding", found.otherwise))
        if found.not_tried:
            parts.append(
                f"not tried whether a rolled image gives rolled maps: {found.not_tried}. Padding in code that is not "
                "listed would go unseen; pass images= that the model takes, whose sizes are multiples of all strides"
            )
    if any(parts):
        warnings.warn(f"padding={padding!r}: {'. '.join(filter(None, parts))}.", ProbeWarning, stacklevel=3)


def _add_what_the_trial_found(
    model: nn.Module, padding: str, axes: Collection[str], found: Findings, reasons: dict[str, str]
) -> None:
    """Add to the reasons by name of the layer those of which a trial under circular padding tells."""
    layers = {name: model.get_submodule(name) for name in (*reasons, *found.padding)}
    for name, function in found.padding.items():
        # Under partial padding nothing is to be said of pooling.
        if not is_convertible(layers[name]) and not (padding == "partial" and "pool" in function):
            reasons[name] = reasons.get(name) or f"{function} in its code"
    if found.otherwise or any(reason and not is_convertible(layers[name]) for name, reason in reasons.items()):
        return
    # Slices and copies are judged with what is made of them: converted layers themselves move with what they are given.
    for name in found.padding:
        if is_convertible(layers[name]) and not obstacle(layers[name], "circular", axes):
            reasons[name] = reasons.get(name) or "given maps that do not move with the image, as by padding before it"


def _found_by_rolling(model: nn.Module, axes: Collection[str], images: Tensor | None) -> Findings:
    """Convert a throw-away copy to circular padding, in which only padding in code is left, and try it."""
    twin = bare_twin(model)
    _convert_all(twin, "circular", axes)
    return roll_images(twin, images, axes)
