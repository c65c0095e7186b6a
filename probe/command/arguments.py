"""What the commands of `probe` share: options, models, examples in the help, how warnings and errors are told."""

import functools
import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from probe.command.names import CLIP_STIMULI, PADDINGS, POSITION_EMBEDDINGS, SAMPLINGS, STIMULI, TARGETS, near_names
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
from probe.errors import ProbeError, ProbeWarning

if TYPE_CHECKING:
    import xarray as xr

    from probe.command.named_models import ModelSource

__all__ = [
    "COUNT",
    "FILE",
    "FOLDER",
    "NEW_FOLDER",
    "OWN_SIZE",
    "PAGE",
    "RESULT",
    "Program",
    "Studies",
    "Task",
    "choose_device",
    "collecting_options",
    "device_option",
    "frames_option",
    "is_first_rank",
    "json_option",
    "layout_option",
    "max_images_option",
    "measurement_options",
    "model_args_option",
    "model_argument",
    "noise_image",
    "note",
    "open_source",
    "overwrite_option",
    "positions_option",
    "preset_option",
    "reading_options",
    "record",
    "seed_option",
    "several",
    "size_option",
    "source_options",
    "tell",
    "weights_option",
    "with_clips",
]

OWN_SIZE = "own"

_MODELS = """\
resnet18, or another name of torchvision
timm:NAME, a model of timm
hf:FOLDER, a local folder of a Hugging Face model
module:function, your own: nets:make_net calls make_net() in nets.py
"""
_INTERRUPTED = 130
_OF_CLICK = (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError)


class _WithExamples(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what a model may be, where one is taken, and the examples, unwrapped."""
        if any(parameter.name == "model" for parameter in self.params):
            with formatter.section("MODEL is one of"):
                for line in _MODELS.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Program(_WithExamples, click.Group):
    """All commands; keeps the command line, which results record."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line for the commands' ``pass_obj``."""
        ctx.obj = shlex.join(["probe", *args])
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or offer those like it."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{near_names(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


class Studies(_WithExamples, click.Group):
    """Commands by name; what is no name goes to the command ``file``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or that takes it."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        if not args[0].startswith("-") and not Path(args[0]).suffix and not Path(args[0]).exists():
            known = [name for name in self.commands if name != "file"]
            ctx.fail(
                f"{args[0]!r} is neither {' nor '.join(known)}, nor a file.{near_names(args[0], known)} The page of a "
                "saved result is written by `probe report FILE.nc`."
            )
        return super().resolve_command(ctx, ["file", *args])


class Task(_WithExamples):
    """A command that tells warnings and errors in short lines on stderr, and ends with 0, 1 or 130.

    Where `torchrun` starts several, those that can share the images do so, and the first one alone speaks; an error is
    told by the rank that has it.
    """

    def __init__(self, *args: Any, in_ranks: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_ranks = in_ranks
        self.params += [
            click.Option(["--quiet"], is_flag=True, help="Show no progress and no notes; warnings stay."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        debug = ctx.params.pop("debug")
        if n_ranks() > 1 and not self.in_ranks:
            raise click.UsageError(
                f"`probe {self.name}` runs in one process, and {n_ranks()} were started. layerwise, channelwise and "
                "collect share the images."
            )
        ctx.params["quiet"] = ctx.params["quiet"] or not is_first_rank()
        try:
            with _short_warnings():
                return super().invoke(ctx)
        except _OF_CLICK:
            raise
        except KeyboardInterrupt as interrupt:
            click.echo(f"interrupted{f': {interrupt}' if str(interrupt) else ''}", err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if debug:
                raise
            click.echo(f"error: {_describe(error)}", err=True)
            ctx.exit(1)


def n_ranks() -> int:
    """Return how many processes a launcher such as `torchrun` started."""
    return int(os.environ["WORLD_SIZE"]) if "MASTER_ADDR" in os.environ and "WORLD_SIZE" in os.environ else 1


def is_first_rank() -> bool:
    """Tell whether this is the process that speaks and writes."""
    return n_ranks() == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def _short_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("always" if is_first_rank() else "ignore", category=ProbeWarning)
        warnings.showwarning = _show_warning
        yield


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from tqdm import tqdm

    # Beside a progress bar, not into it.
    tqdm.write(f"warning: {message}", file=sys.stderr)


def _describe(error: Exception) -> str:
    """Return the message of an error of probe; for one of the user's code, its kind and where it happened as well."""
    message = str(error) if isinstance(error, ProbeError) else f"{type(error).__name__}: {error}"
    return "\n".join([message, *getattr(error, "__notes__", ())])


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
max_images_option = click.option(
    "--max-images", type=COUNT, metavar="N", help="Read so many, evenly spaced.  [default: all]"
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
    max_images_option,
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
    click.option("--checkpoint-every", type=COUNT, metavar="N", help="In images.  [default: about every two minutes]"),
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


def note(message: str, quiet: bool) -> None:
    """Tell something beside the result, on stderr."""
    if not quiet:
        click.echo(message, err=True)


def tell(result: "xr.Dataset", file: Path | None, as_json: bool) -> None:
    """Print the main numbers of a result, and where it is if it was saved."""
    from probe.command.tables import WIDEST, write_json, write_table

    if as_json:
        click.echo(write_json(result, file))
    else:
        click.echo(write_table(result, min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)))
        if file is not None:
            click.echo(f"result: {file}")
