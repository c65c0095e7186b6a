"""The commands `probe analyse` and `probe audit`: studies, and what a model's layers alone tell."""

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from probe.command.arguments import (
    COUNT,
    FOLDER,
    RESULT,
    device_option,
    json_option,
    max_images_option,
    model_args_option,
    model_argument,
    overwrite_option,
    preset_option,
    several,
    size_option,
)
from probe.command.names import PADDINGS, STUDIES, near_names
from probe.command.sources import (
    choose_device,
    open_source,
    record,
)
from probe.command.tasks import (
    Task,
    note,
    tell,
)
from probe.errors import ArgumentError

__all__ = ["analyse", "audit"]


@click.command(
    "analyse",
    cls=Task,
    examples=[
        "probe analyse --list",
        "probe analyse rook --preset paper -o rook.nc",
        "probe analyse similarity --model resnet18 --weights IMAGENET1K_V1 --images photos",
        "probe analyse quadrants --preset paper --weights resnet18=resnet18.pth --images photos",
    ],
)
@click.argument("name", required=False)
@click.option("--list", "as_list", is_flag=True, help="Show all studies, and the time that each preset takes.")
@preset_option
@click.option("--seeds", type=COUNT, metavar="N", help="Repetitions.  [default: those of the preset]")
@click.option("-o", "--output", type=RESULT, metavar="FILE.nc", help="Result file to write.  [default: NAME.nc]")
@overwrite_option
@click.option("--model", metavar="MODEL", help="Model to study, where a study takes one.")
@click.option(
    "--weights",
    metavar="[NET=]FILE[:PART]|NAME",
    multiple=True,
    help="Of --model; or, without it, of the study's own networks: NET=FILE, once for each.",
)
@model_args_option
@click.option("--images", type=FOLDER, help="Folder of images, where a study takes one.")
@click.option("--pair", type=FOLDER, help="Folder of two photographs and their homography, where a study takes one.")
@size_option
@max_images_option("as the study and its preset say")
@several("--layers", metavar="GLOB,...", help="Layers to study, where a study takes some.")
@several(
    "--paddings",
    metavar="NAME,...",
    known=PADDINGS,
    help=f"Some of {', '.join(PADDINGS)}.  [default: those of the study]",
)
@device_option
@json_option
@click.pass_obj
def analyse(
    command: str,
    name: str | None,
    as_list: bool,
    preset: str,
    output: Path | None,
    overwrite: bool,
    model: str | None,
    weights: tuple[str, ...],
    model_args: dict[str, Any],
    size: int | None,
    device: str,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Run a published study, and put its numbers beside the published ones.

    NAME is one of `probe analyse --list`. `probe report FILE.nc` then writes its page.
    """
    if not as_list:
        if name is None:
            raise click.UsageError("NAME is missing; see `probe analyse --list`.")
        if name not in STUDIES:
            raise ArgumentError(
                f"there is no study {name!r}; expected one of {', '.join(STUDIES)}.{near_names(name, STUDIES)}"
                f"{f' The page of a result is written by `probe report {name}`.' if Path(name).is_file() else ''}"
            )
        if model is None and (size or model_args):
            raise click.UsageError(f"{'--size' if size else '--model-args'} needs --model.")

    from probe.analyses.studies import find_studies, find_study

    if as_list or name is None:
        _list(find_studies(), as_json)
        return
    study = find_study(name)
    output = Path(f"{name}.nc") if output is None else output
    # What was not given keeps the study's own default.
    options = {key: value for key, value in given.items() if value not in (None, ())}
    if model is not None:
        options["model"] = model
    elif weights:
        options["weights"] = _by_network(weights)
    if device != "auto":
        options["device"] = device
    _check_options(study, options)
    from probe.results import check_writable, save

    check_writable(output, overwrite=overwrite)
    source = None
    if model is not None:
        source = open_source(model, _single(weights), size, 0, quiet, model_args)
        options |= {"model": source.model, "transform": source.transform, "device": choose_device(device)}
    result = study.run(preset=preset, progress=not quiet, command=command, **options)
    if source is not None:
        record(result, source, command)
    save(result, output, overwrite=overwrite)
    tell(result, output, as_json)
    note(f"for its page: probe report {output}", quiet)


@click.command(
    "audit",
    cls=Task,
    examples=["probe audit resnet50", "probe audit nets:make_net --size 32 --channels 1 -o net.nc"],
)
@model_argument
@model_args_option
@click.option("--size", type=COUNT, default=224, metavar="N", help="Rows and columns of an image.")
@click.option("--frames", type=COUNT, metavar="N", help="Frames of a clip.  [default: 16 if the model takes clips]")
@click.option(
    "--channels", type=COUNT, metavar="N", help="Channels of an image.  [default: 3, or 1 if the model takes greys]"
)
@click.option("-o", "--output", type=RESULT, metavar="FILE.nc", help="Result file to write.  [default: none]")
@overwrite_option
@device_option
@json_option
@click.pass_obj
def audit(
    command: str,
    model: str,
    model_args: dict[str, Any],
    size: int,
    frames: int | None,
    channels: int | None,
    output: Path | None,
    overwrite: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find the padding that a model never reads.

    From its layers alone: no images and no weights are needed. `probe show FILE.nc --figures FOLDER` draws how often
    each pixel is read.
    """
    from probe.results import check_writable

    if output is not None:
        check_writable(output, overwrite=overwrite)
    import probe
    from probe.command.named_models import open_model
    from probe.models.first_layers import axes_taken, takes_grey

    source = open_model(model, arguments=model_args)
    channels = channels or (1 if takes_grey(source.model) else 3)
    if frames is None and axes_taken(source.model) == 3:
        frames = 16
    shape = (channels, size, size) if frames is None else (channels, frames, size, size)
    result = probe.audit(source.model, shape, device=choose_device(device))
    record(result, source, command)
    del result.attrs["preprocessing"]  # no image was read
    if output is not None:
        probe.save(result, output, overwrite=overwrite)
    tell(result, output, as_json)


def _by_network(weights: tuple[str, ...]) -> dict[str, str]:
    """Take NET=FILE apart."""
    pairs = [item.partition("=") for item in weights]
    if not all(sign and file for _, sign, file in pairs):
        raise click.UsageError("--weights needs --model; for networks of the study itself, pass NET=FILE.")
    return {network: file for network, _, file in pairs}


def _single(weights: tuple[str, ...]) -> str | None:
    if len(weights) > 1:
        raise click.UsageError("--weights: with --model, pass them once.")
    return weights[0] if weights else None


def _list(studies: dict[str, ModuleType], as_json: bool) -> None:
    if as_json:
        facts = [{"name": name, "title": m.STUDY.title, "times": dict(m.STUDY.times)} for name, m in studies.items()]
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for name, module in studies.items():
        click.echo(f"{name}: {module.STUDY.title}")
        for preset, duration in module.STUDY.times.items():
            click.echo(f"    {preset:<6} {duration}")


def _check_options(module: ModuleType, options: dict[str, Any]) -> None:
    """Refuse options that a study does not take."""
    parameters = inspect.signature(module.run).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    own = {parameter.name for parameter in parameters}
    for option in options:
        if option not in own:
            raise click.UsageError(f"{module.STUDY.name} takes no --{option.replace('_', '-')}.")
