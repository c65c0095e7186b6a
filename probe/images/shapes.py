"""Which axes images have, and clips and volumes; and how to mend what has others."""

from typing import Any

from torch import Tensor

from probe.axes import AXES
from probe.errors import ImagesError

__all__ = ["axes_of_row", "channels_first", "check_row", "check_shape"]

_CHANNELS = (1, 3, 4)  # that images have most often
_NO_SIGNALS = " Signals of one axis, such as spectra and sound, are not read."


def axes_of_row(n_axes: int | None) -> int:
    """Return how many axes an image has, its channels among them; where it is not known, what has more is a batch.

    Examples
    --------
    >>> axes_of_row(2), axes_of_row(3), axes_of_row(None)
    (3, 4, 3)
    """
    return 1 + (n_axes or 2)


def _expected(n_axes: int | None, before: tuple[str, ...]) -> str:
    images, clips = (f"({', '.join((*before, 'channel', *AXES[-n:]))})" for n in (2, 3))
    return {2: images, 3: clips, None: f"{images}, of clips {clips}"}[n_axes]


def check_shape(images: Any, n_axes: int | None = 2, from_loader: bool = False) -> Any:
    """Return a batch or all images, if they have the axes of images or of clips, and pixels.

    Parameters
    ----------
    images
        A tensor or array.
    n_axes
        Number of axes of a map: 2, rows and columns, or 3, with frames before them; None for either.
    from_loader
        Whether a DataLoader made the batch, so that its data set is to be mended.

    Raises
    ------
    ImagesError
        If they have not.
    """
    shape = tuple(images.shape)
    if len(shape) not in ((4, 5) if n_axes is None else (2 + n_axes,)):
        cure = _cure_of_loader(shape, n_axes) if from_loader else _cure(shape, n_axes)
        if len(shape) == 3 and n_axes is None:
            cure += _NO_SIGNALS
        raise ImagesError(f"images: expected shape {_expected(n_axes, ('image',))}, found {shape}. {cure}")
    if 0 in shape[1:]:
        raise ImagesError(f"images: shape {shape} holds no pixels. Pass images of at least 1 by 1.")
    return images


def check_row(pixels: Tensor, n_axes: int | None, where: str) -> Tensor:
    """Return one image, if it has the axes of an image or of a clip; `where` tells where to mend it.

    Raises
    ------
    ImagesError
        If it has not.
    """
    shape = tuple(pixels.shape)
    if len(shape) not in ((3, 4) if n_axes is None else (1 + n_axes,)):
        raise ImagesError(
            f"images: an image has the shape {shape}; expected {_expected(n_axes, ())}. "
            f"{_cure_of_row(shape, n_axes, where)}"
        )
    return pixels


def channels_first(pixels: Tensor) -> Tensor:
    """Return a clip of integers with its channels behind, as videos are decoded, with its channels first.

    Bytes become floats in [0, 1], as the pixels of pictures do. All else stays as it is.

    Examples
    --------
    >>> import torch
    >>> channels_first(torch.full((16, 8, 8, 3), 255, dtype=torch.uint8))[:, 0, 0, 0]
    tensor([1., 1., 1.])
    """
    if pixels.ndim != 4 or pixels.is_floating_point() or pixels.is_complex() or pixels.shape[3] not in (1, 3):
        return pixels
    moved = pixels.movedim(3, 0)
    return moved.float() / 255 if str(pixels.dtype) == "torch.uint8" else moved


def _cure(shape: tuple[int, ...], n_axes: int | None) -> str:
    if len(shape) < 2:
        return "These are no images: rows are to be images, or to begin with one, as (image, label)."
    if n_axes == 3 and len(shape) == 4:
        return (
            "The model takes clips: add the missing axis of a single one, images[None], or show images as clips of one "
            "frame, images[:, :, None]."
        )
    if len(shape) == 2:
        return f"Give each image its axes: images.reshape({shape[0]}, channels, rows, columns)."
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return "Add the missing axis of a single image: images[None]."
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return "Move the channels of a single image to the front, and add its axis: images.transpose(2, 0, 1)[None]."
    if len(shape) == 3:
        return "Add the missing axis of the channel, as for greys: images[:, None]."
    if len(shape) == 5 and 1 in shape[:2] and not (n_axes == 2 and shape[1] == 3):
        return f"Drop one axis: {'images[0]' if shape[0] == 1 else 'images[:, 0]'}."
    if len(shape) == 5 and n_axes == 2:
        return (
            "The model's first convolution takes images. Make one axis of the first ones, as for the frames of clips: "
            "images.flatten(0, 1), or images.transpose(1, 2).flatten(0, 1) where channels come before frames; if it "
            "does so itself, forward=lambda model, clips: model(clips)."
        )
    return "Make one axis of the first ones: images.flatten(0, 1)."


def _cure_of_row(shape: tuple[int, ...], n_axes: int | None, where: str) -> str:
    if len(shape) < 2:
        return (
            "It is no image: a row is to be an image, or to begin with one, as (image, label). Of rows (index, image) "
            "name the place of the image: input_key=1."
        )
    if len(shape) == 2:
        return f"Add the axis of the channel {where}: image[None].{_NO_SIGNALS if n_axes is None else ''}"
    if n_axes == 3 and len(shape) == 3:
        return (
            f"The model takes clips: show images as clips of one frame {where}, image[:, None], or read folders of "
            "frames by probe.Clips."
        )
    if shape[0] == 1:
        return f"It has an axis of its own: take image[0] {where}."
    if n_axes == 2 and len(shape) == 4 and shape[0] == 3:
        return (
            f"The model takes images: of clips show one frame each, image[:, 0] {where}, of folders of frames all, by "
            "the folder's path in place of probe.Clips; if the model takes frames apart itself, "
            "forward=lambda model, clips: model(clips)."
        )
    return (
        "Rows that are batches already are read through torch.utils.data.DataLoader(images, batch_size=None), "
        "without transform=."
    )


def _cure_of_loader(shape: tuple[int, ...], n_axes: int | None) -> str:
    if n_axes == 3 and len(shape) == 4:
        return "The model takes clips: show images as clips of one frame in the loader's data set, image[:, None]."
    if n_axes == 2 and len(shape) == 5 and shape[1] == 3:
        return (
            "The model takes images: show one frame of each clip in the loader's data set, clip[:, 0]; if the model "
            "takes frames apart itself, forward=lambda model, clips: model(clips)."
        )
    if len(shape) < 3:
        return "The rows of the loader's data set are to be images, or to begin with one, as (image, label)."
    if len(shape) == 3:
        return "Add the axis of the channel to each row of the loader's data set: image[None]."
    if shape[1] == 1:
        return "Each image has an axis of its own: take image[0] in the loader's data set."
    return "The rows of the loader's data set are batches already: DataLoader(..., batch_size=None)."
