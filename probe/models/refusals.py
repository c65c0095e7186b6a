"""Why a model does not take the images that it is shown first, and what brings the two together."""

import math
import re

from torch import Tensor, nn

from probe.axes import axes_of_size, sized
from probe.errors import ImagesError, ModelError
from probe.models.blueprint import reason_of
from probe.models.first_layers import first_convolution, first_inputs
from probe.models.layouts import Grid, grid_in
from probe.models.loan import Forward, run_model

__all__ = ["run_first"]

# As timm, Hugging Face and torchvision word it when a model takes one size alone, and the argument that sets it.
_OTHER_SIZE = re.compile(r"doesn't match model|Wrong image (height|width)")
_ARGUMENT_OF_SIZE = {"timm": "img_size", "torchvision": "image_size"}

# As torch words what windows refuse.
_TOO_SMALL = re.compile("Kernel size can't be greater|smaller than kernel size|[Oo]utput size is too small")


def run_first(model: nn.Module, images: Tensor, forward: Forward | None) -> None:
    """Run a model on the first images, and say what is wrong where it does not take them.

    Parameters
    ----------
    model
        An eager model.
    images
        Shape (image, channel, *size).
    forward
        As in `probe.collect`.

    Raises
    ------
    ImagesError
        If the model's first convolution expects another number of channels or of axes, or the images are smaller than
        a window, or of another size than the one that the model takes.
    ModelError
        If the model takes signals of one axis.
    """
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
    if size[-1] != size[-2]:  # the command shows square images alone
        return f"{own}. Or make the model for these, with {argument}={size[-2:]}."
    made = f"{argument}={size[-1]}"
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
