"""The options and arguments that several commands of `probe` share."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from probe.command.names import CLIP_STIMULI, PADDINGS, POSITION_EMBEDDINGS, SAMPLINGS, STIMULI, TARGETS
from probe.command.option_types import (
    Device,
    ExistingFolder,
    KeyValues,
    Layout,
    Names,
    PageFile,
    Parts,
    ResultFile,
)

__all__ = [
    "COUNT",
    "FILE",
    "FOLDER",
    "NEW_FOLDER",
    "OWN_SIZE",
    "PAGE",
    "RESULT",
    "collecting_options",
    "device_option",
    "frames_option",
    "json_option",
    "layout_option",
    "max_images_option",
    "measurement_options",
    "model_args_option",
    "model_argument",
    "overwrite_option",
    "positions_option",
    "preset_option",
    "reading_options",
    "seed_option",
    "several",
    "size_option",
    "source_options",
    "weights_option",
]

OWN_SIZE = "own"


def _joined(ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(name for names in values for name in names)


def _parse_positions(ctx: click.Context, param: click.Parameter, value: str) -> str | int | None:
    if value == "auto":
        return value
    if value == "all":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is not auto, all or a whole number of at least 1.")
    return int(value)


def _parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> str | int | None:
    if value is None or value == OWN_SIZE:
        return value
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is not own or a whole number of at least 1, such as 224.")
    return int(value)


FOLDER = ExistingFolder(file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RESULT = ResultFile(path_type=Path)
PAGE = PageFile(path_type=Path)
COUNT = click.IntRange(min=1)


def several(*names: str, known: Sequence[str] = (), **settings: Any) -> Callable[..., Any]:
    """Make an option that takes several words, and may be given several times; of `known` ones where there are."""
    settings = {"callback": _joined, **settings}
    return click.option(*names, type=Names(known) if known else Parts(), multiple=True, **settings)


model_argument = click.argument("model")
weights_option = click.option(
    "--weights",
    metavar="FILE[:PART]|NAME",
    help="A file with a state dict, or one part of it; or weights of torchvision or timm by name, such as "
    "IMAGENET1K_V1, which are downloaded.  [default: random, or as your function gives them]",
)
model_args_option = click.option(
    "--model-args",
    metavar="NAME=VALUE,...",
    type=KeyValues(),
    default=dict,
    show_default=False,
    help="Arguments of the function that makes the model, as Python writes them.",
)
size_option = click.option(
    "--size",
    metavar="N|own",
    callback=_parse_size,
    help="Shorter side in pixels, and crop of the centre; own: take images as large as they are.  [default: as the "
    "weights do, else a shorter side of 256 and a crop of 224]",
)
device_option = click.option(
    "--device",
    type=Device(),
    default="auto",
    metavar="auto|cpu|cuda[:N]|...",
    help="Where to run the model; auto: on a GPU if there is one.",
)
positions_option = click.option(
    "--positions",
    default="auto",
    metavar="auto|all|N",
    callback=_parse_positions,
    help="Cells of each image that are read: all, so many drawn at random, or auto: as many as a precise R² needs.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of all draws and random weights."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, and nothing else.")
preset_option = click.option(
    "--preset",
    type=click.Choice(["tiny", "quick", "paper"]),
    default="quick",
    help="tiny: a trial. quick: minutes on a CPU. paper: the full protocol.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")


def max_images_option(default: str = "all") -> Callable[..., Any]:
    """Make the option that tells how many images to read, and say how many are read without it."""
    return click.option(
        "--max-images", type=COUNT, metavar="N", help=f"Read so many, evenly spaced.  [default: {default}]"
    )


_MODEL = (model_argument, weights_option, model_args_option)
_IMAGES = {"type": FOLDER, "help": "Folder of image files, searched recursively."}
_RESULT = (
    click.option("-o", "--output", type=RESULT, required=True, metavar="FILE.nc", help="Result file to write."),
    overwrite_option,
)
_SOURCE = (*_MODEL, click.option("--images", required=True, **_IMAGES), *_RESULT)  # type: ignore[arg-type]
_READING = (
    click.option("--padding", type=click.Choice(PADDINGS), help="Measure a copy under this padding."),
    click.option(
        "--position-embedding",
        type=click.Choice(POSITION_EMBEDDINGS),
        help="Measure a copy of a transformer whose tables of positions are so.",
    ),
    click.option("--sampling", type=click.Choice(SAMPLINGS), help="Measure a copy that sub-samples so."),
    size_option,
    max_images_option(),
    click.option("--batch-size", type=COUNT, default=32, metavar="N", help="Images in a batch."),
    click.option(
        "--num-workers", type=click.IntRange(min=0), default=0, metavar="N", help="Processes that read images."
    ),
    device_option,
    click.option("--autocast", type=click.Choice(["bfloat16", "float16"]), help="Run in mixed precision."),
    seed_option,
    json_option,
)
layout_option = click.option(
    "--layout",
    type=Layout(),
    metavar="NCHW|NLC[5:201]|...",
    help="Axes of outputs that are not understood: N images, C channels, H rows, W columns, L tokens; and which "
    "of the tokens are patches.",
)
frames_option = click.option(
    "--frames",
    type=COUNT,
    metavar="N",
    help="Show clips of N frames: --images has a folder of frames for each video, such as CLASS/VIDEO/image_00001.jpg.",
)
_COLLECTING = (
    frames_option,
    click.option(
        "--frame-sampling",
        type=click.Choice(["middle", "even"]),
        help="Which --frames of a video: those in its middle, in a row, or evenly spaced ones.  [default: middle]",
    ),
    several(
        "--layers",
        metavar="GLOB,...",
        default=["auto"],
        help="auto (convolutions and blocks), all, or names of `probe layers`, in which * stands for anything.",
    ),
    several(
        "--targets",
        metavar="NAME,...",
        known=TARGETS,
        callback=lambda ctx, param, values: _joined(ctx, param, values) or "auto",
        help=f"What to read of position: some of {', '.join(TARGETS)}.  [default: row, column, and of clips frame]",
    ),
    several(
        "--stimuli",
        metavar="NAME,...",
        known=(*STIMULI, *CLIP_STIMULI),
        default=["natural", "rolled"],
        help="What the model is shown: natural, the images; rolled, each shifted circularly at random, so that their "
        "content cannot tell position; noise; constant; of clips rolled_space and rolled_time roll the image, or the "
        "frames, alone.",
    ),
    click.option(
        "--folds", type=click.IntRange(min=2), default=5, metavar="N", help="Folds of images, for cross-validation."
    ),
    layout_option,
    *_READING,
    click.option(
        "--checkpoint",
        type=FILE,
        metavar="FILE",
        help="Write the sums there every so often; the same command goes on from them after it was killed.",
    ),
    click.option(
        "--checkpoint-every",
        type=COUNT,
        metavar="N",
        help="In images.  [default: about every two minutes, and so seldom that writing takes no more than a hundredth "
        "of the time, but for the first and the last one]",
    ),
)
_MEASUREMENT = (
    *_MODEL,
    click.option("--images", **_IMAGES),  # type: ignore[arg-type]
    *_RESULT,
    several("--maps", metavar="GLOB,...", help="Layers whose maps to keep, which `probe show --figures` draws."),
    *_COLLECTING,
)
_SUMS = (
    *_MODEL,
    click.option("--images", required=True, **_IMAGES),  # type: ignore[arg-type]
    click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="File of sums to write."),
    overwrite_option,
    *_COLLECTING,
)


def _with_options(options: Sequence[Callable[..., Any]], function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


def measurement_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all that `probe.layerwise` and `probe.channelwise` share."""
    return _with_options(_MEASUREMENT, function)


def collecting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all that `probe.collect` takes."""
    return _with_options(_SUMS, function)


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the model, the images and the file that it writes."""
    return _with_options(_SOURCE, function)


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what tells how images are read."""
    return _with_options(_READING, function)
