"""The commands `probe report ...`: the pages of studies and of results."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from probe.command.arguments import (
    COUNT,
    FILE,
    FOLDER,
    OWN_SIZE,
    PAGE,
    device_option,
    max_images_option,
    model_args_option,
    model_argument,
    overwrite_option,
    preset_option,
    seed_option,
    several,
    size_option,
    weights_option,
)
from probe.command.names import PADDINGS, RANKINGS, SCORES
from probe.command.sources import choose_device, open_source, record
from probe.command.tasks import Studies, Task

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SEGMENTATION_SCORES", "check_page", "class_folder", "report", "write_page"]

_MOST_FINDINGS = 3
_REPORTS = (
    "probe report padding",
    "probe report padding --model resnet18 --weights resnet18.pth --images photos -o resnet18.html",
    "probe report channels resnet18 --weights resnet18.pth --layer layer4 --images train --eval-images val",
    "probe report channels nets:make_net --layer features.5 --images train --eval-images val --labels val_labels",
    "probe report model resnet18 --weights resnet18.pth --images photos --quick -o resnet18.html",
    "probe report resnet18.nc",
    "probe report padding-report.nc -o page.html",
)
SEGMENTATION_SCORES = ("miou", "miou:left", "miou:centre", "miou:right")
"""Of the whole image and its regions."""


@click.group(
    "report",
    cls=Studies,
    subcommand_metavar="STUDY|FILE.nc [OPTIONS]",
    # Options before a file belong to the command that rebuilds its page.
    context_settings={"ignore_unknown_options": True},
    examples=_REPORTS,
)
def report() -> None:
    """Write the page of a study, or of a saved result of any kind.

    `probe report FILE.nc` writes the page of what `probe layerwise`, `probe analyse` or any other command saved.
    """


@report.command("padding", cls=Task, examples=_REPORTS[:2])
@click.option(
    "-o", "--output", type=PAGE, metavar="FILE.html", default="padding-report.html", help="Page; the result is beside."
)
@overwrite_option
@click.option("--model", metavar="MODEL", help="Swap the padding of this model, instead of training small networks.")
@weights_option
@model_args_option
@click.option("--images", type=FOLDER, help="Folder of images for --model.")
@size_option
@max_images_option()
@device_option
@several("--paddings", metavar="NAME,...", known=PADDINGS, help=f"Some of {', '.join(PADDINGS)}.  [default: all]")
@click.option("--seeds", type=COUNT, help="Small networks to train for each padding.  [default: as the preset says]")
@preset_option
@click.pass_context
def report_padding(
    ctx: click.Context,
    output: Path,
    overwrite: bool,
    model: str | None,
    weights: str | None,
    model_args: dict[str, Any],
    images: Path | None,
    size: int | str | None,
    max_images: int | None,
    device: str,
    paddings: tuple[str, ...],
    seeds: int | None,
    preset: str,
    quiet: bool,
) -> None:
    """Compare paddings: which of them gives position away.

    By default small networks are trained on digits under each padding. With --model the given weights, which were
    trained with one padding, are run under each; with --weights, beside the model as it is without them.
    """
    if (model is None) != (images is None) or (model is None and (weights or model_args or size or max_images)):
        raise click.UsageError(
            "--model needs --images; and --images, --weights, --model-args, --size and --max-images need --model."
        )
    # What has a default is given, as what has none, only where it stands in the command.
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    for name in () if model is None else ("seeds", "preset"):
        if name in given:
            raise click.UsageError(
                f"--{name}: a given --model is not trained, so it would have no effect. Leave it out."
            )
    if model is None and "device" in given:
        raise click.UsageError(
            "--device: small networks are trained on the CPU, so it would have no effect. Leave it out."
        )
    if model is not None and (":" not in model or model.startswith("timm:")) and weights is None:
        raise click.UsageError(f"--model {model} needs --weights: random ones were trained nowhere.")
    check_page(output, overwrite)

    from probe.analyses.padding_comparison import study as padding_comparison
    from probe.reports.padding_comparison.page import findings

    settings: dict[str, Any] = {"command": ctx.obj, "progress": not quiet}
    if paddings:
        settings["paddings"] = paddings
    if model is None:
        result = padding_comparison.run(seeds=seeds, preset=preset, **settings)
    else:
        source = open_source(model, weights, size, 0, quiet, model_args)
        untrained = open_source(model, None, size, 0, True, model_args).model if weights else None
        result = padding_comparison.run(
            source.model,
            images,
            untrained=untrained,
            transform=source.transform,
            max_images=max_images,
            device=choose_device(device),
            **settings,
        )
        record(result, source, ctx.obj)
    write_page(result, findings(result), output, overwrite)


@report.command("channels", cls=Task, examples=_REPORTS[2:4])
@model_argument
@weights_option
@model_args_option
@click.option("--layer", required=True, metavar="NAME", help="Whose channels: a name of `probe layers`.")
@click.option("--images", type=FOLDER, required=True, help="Images to rank the channels on.")
@click.option(
    "--eval-images",
    type=FOLDER,
    required=True,
    help="Others to score the model on: a folder for each class, sorted as the model's outputs are, or anyhow with "
    "--labels.",
)
@click.option(
    "--eval-groups",
    metavar="REGEX",
    help="Evaluation images whose paths give the same first match, as frames of one video, share a fold.",
)
@click.option("--labels", type=FOLDER, help="PNG files with the class of each pixel, named as the --eval-images.")
@several(
    "--score",
    metavar="NAME,...",
    known=SCORES,
    help=f"What to score: some of {', '.join(SCORES)}.  [default: accuracy, miou with --labels]",
)
@several(
    "--methods",
    metavar="NAME,...",
    known=RANKINGS,
    help="Rankings, such as flip or flip-left.  [default: all, by no side]",
)
@several("--counts", metavar="N,...", help="How many channels to remove.  [default: 1/32 to 3/4 of all]")
@click.option("--draws", type=click.IntRange(min=2), default=20, help="Random draws of as many channels.")
@click.option("--mode", type=click.Choice(["zero", "mean", "resample"]), default="zero", help="What replaces them.")
@click.option(
    "--examples", type=click.IntRange(min=0), default=3, help="Small copies of images to keep for each channel."
)
@size_option
@max_images_option()
@click.option("--max-eval-images", type=COUNT, help="Score on so many, evenly spaced.  [default: all]")
@device_option
@seed_option
@click.option(
    "-o", "--output", type=PAGE, metavar="FILE.html", default="channels-report.html", help="Page; the result is beside."
)
@overwrite_option
@click.pass_obj
def report_channels(
    command: str,
    model: str,
    weights: str | None,
    model_args: dict[str, Any],
    images: Path,
    eval_images: Path,
    labels: Path | None,
    eval_groups: str | None,
    score: tuple[str, ...],
    methods: tuple[str, ...],
    counts: tuple[str, ...],
    size: int | str | None,
    device: str,
    seed: int,
    output: Path,
    overwrite: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Find the channels that carry position, and what the model loses without them.

    The channels of a layer are ranked on one folder of images, and removed on another, beside random ones.
    """
    if not all(count.isdecimal() for count in counts):
        raise click.UsageError(f"--counts {','.join(counts)}: expected whole numbers.")
    check_page(output, overwrite)

    from probe.analyses.channels import study as channels
    from probe.reports.channels.page import findings

    scores = score or (SEGMENTATION_SCORES if labels else ("accuracy",))
    scored = _scored_images(eval_images, labels, scores)
    groups = None if eval_groups is None else _groups(scored, eval_images, eval_groups)
    source = open_source(model, weights, OWN_SIZE if labels and size is None else size, seed, quiet, model_args)
    result = channels.run(
        source.model,
        images,
        scored,
        eval_groups=groups,
        score=scores,
        methods=methods or channels.METHODS,
        counts=[int(count) for count in counts] or None,
        transform=source.transform,
        device=choose_device(device),
        seed=seed,
        command=command,
        progress=not quiet,
        **settings,
    )
    record(result, source, command)
    write_page(result, findings(result), output, overwrite)


def _scored_images(folder: Path, labels: Path | None, scores: tuple[str, ...]) -> Any:
    """Return the images with the labels that the scores need."""
    if labels is not None:
        from probe.analyses.data.labelled import LabelledFolder

        return LabelledFolder(folder, labels)
    if not set(scores) & {"accuracy", *SEGMENTATION_SCORES}:
        return folder
    return class_folder(
        folder, "--eval-images", f"--score {','.join(scores)} needs", "or pass --labels or --score agreement"
    )


def class_folder(folder: Path, option: str, need: str, otherwise: str) -> Any:
    """Return the images of a folder for each class, with its number as their label.

    Parameters
    ----------
    folder
        Of folders.
    option, need, otherwise
        For the message where there are none: which option named it, what needs classes, and what else to do.
    """
    if not any(path.is_dir() for path in folder.iterdir()):
        raise click.UsageError(
            f"{option} {folder}: has no folder for each class, which {need}. Sort the images into folders, {otherwise}."
        )
    from probe.analyses.data.labelled import ClassFolder

    return ClassFolder(folder)


def _groups(scored: Any, folder: Path, pattern: str) -> list[str]:
    """Return what a pattern finds first in the path, below the folder, of each scored image."""
    from probe.images.folders import Folder

    try:
        sought = re.compile(pattern)
    except re.error as error:
        raise click.UsageError(f"--eval-groups {pattern}: is no regular expression ({error}).") from None
    paths = (Folder(scored) if isinstance(scored, Path) else scored).paths
    names = [path.relative_to(folder).as_posix() for path in paths]
    found = [sought.search(name) for name in names]
    missing = [name for name, match in zip(names, found, strict=True) if match is None]
    if missing:
        raise click.UsageError(f"--eval-groups {pattern}: matches nothing in {missing[0]}, for one.")
    return [match[0] for match in found if match]


@report.command("file", cls=Task, examples=_REPORTS[5:])
@click.argument("file", type=FILE, metavar="FILE.nc")
@click.option("-o", "--output", type=PAGE, metavar="FILE.html", help="Page to write.  [default: beside FILE]")
@overwrite_option
def report_file(file: Path, output: Path | None, overwrite: bool, quiet: bool) -> None:
    """Rebuild the page of a saved result.

    From the file alone: no model is run. The word "file" may be left out.
    """
    from probe import reports
    from probe.results import load

    result = load(file)
    output = file.with_suffix(".html") if output is None else output
    if output.resolve() == file.resolve():
        raise click.UsageError(f"{output}: is the result itself; name another file for its page.")
    reports.build(result).save(output, overwrite=overwrite)
    click.echo(f"page: {output}")


def check_page(output: Path, overwrite: bool) -> None:
    """Find out before the work whether a page and its result can be written."""
    from probe.results import check_writable

    for path in (output, output.with_suffix(".nc")):
        check_writable(path, overwrite=overwrite)


def write_page(result: "xr.Dataset", sentences: list[str], output: Path, overwrite: bool) -> None:
    """Save a result and its page, and tell the first of the findings."""
    from probe import reports
    from probe.results import save

    file = save(result, output.with_suffix(".nc"), overwrite=overwrite)
    reports.build(result).save(output, overwrite=overwrite)
    for sentence in sentences[:_MOST_FINDINGS]:
        click.echo(f"- {sentence}")
    click.echo(f"page: {output}")
    click.echo(f"result: {file}")
