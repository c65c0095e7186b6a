"""What commands open: models with their weights, folders of clips, devices; and what results record of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.command.tasks import note

if TYPE_CHECKING:
    import xarray as xr

    from probe.command.named_models import ModelSource

__all__ = ["choose_device", "noise_image", "open_source", "record", "with_clips"]


def with_clips(images: Path | None, frames: int | None, frame_sampling: str | None, **given: Any) -> dict[str, Any]:
    """Return the arguments of a measurement, with the folder of images as one of clips where there are frames."""
    if frames is None and frame_sampling is not None:
        raise click.UsageError("--frame-sampling needs --frames, the number of frames of a clip.")
    if frames is None or images is None:
        return {"images": images, **given}
    from probe.images.clips import Clips

    return {"images": Clips(images, frames=frames, sampling=frame_sampling or "middle"), **given}  # type: ignore[arg-type]


def open_source(
    model: str,
    weights: str | None,
    size: int | str | None,
    seed: int,
    quiet: bool,
    arguments: Mapping[str, Any] | None = None,
) -> "ModelSource":
    """Make a model with its weights, and tell what they are."""
    from probe.command.named_models import open_model

    source = open_model(model, weights, size=size, seed=seed, arguments=arguments)
    note(f"weights: {source.weights}", quiet)
    note(f"preprocessing: {source.preprocessing}", quiet)
    return source


def noise_image(source: "ModelSource", frames: int | None) -> Any:
    """Return an image of noise as the model would see it, shape (1, channel, row, column), or a clip of it."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(256, size=(256, 256, 3), dtype=np.uint8)
    image = source.transform(Image.fromarray(pixels))[None]
    return image if frames is None else image[:, :, None].expand(-1, -1, frames, -1, -1).clone()


def record(result: "xr.Dataset", source: "ModelSource", command: str) -> None:
    """Note in a result what only the command knows: where the weights come from, and what was done to the images."""
    warned = [*json.loads(result.attrs.get("warnings", "[]")), *source.warned]
    result.attrs.update(
        command=command,
        weights=source.weights,
        preprocessing=source.preprocessing,
        warnings=json.dumps(list(dict.fromkeys(warned))),
    )
    if not result.attrs.get("model"):
        result.attrs["model"] = type(source.model).__name__


def choose_device(device: str) -> str:
    """Return the device that `auto` stands for here: a GPU, or where the model is."""
    import torch

    return "cuda" if device == "auto" and torch.cuda.is_available() else device
