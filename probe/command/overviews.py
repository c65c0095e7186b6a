"""The commands `probe report model` and `probe report compare`: the page of one model, and of several side by side."""

from pathlib import Path
from typing import Any

import click

from probe.command.arguments import (
    FILE,
    FOLDER,
    OWN_SIZE,
    PAGE,
    device_option,
    max_images_option,
    model_args_option,
    model_argument,
    overwrite_option,
    seed_option,
    size_option,
    weights_option,
)
from probe.command.reports import SEGMENTATION_SCORES, check_page, write_page
from probe.command.sources import (
    choose_device,
    open_source,
    record,
)
from probe.command.tasks import (
    Task,
)

__all__ = ["report_compare", "report_model"]


@click.command(
    "model",
    cls=Task,
    examples=[
        "probe report model resnet18 --weights resnet18.pth --images photos --quick",
        "probe report model nets:make_net --weights net.pt --images val --labels val.csv -o net.html",
        "probe report model nets:camvid --weights camvid.pt --images val --labels valannot --layer backbone.16",
    ],
)
@model_argument
@weights_option
@model_args_option
@click.option(
    "--images",
    type=FOLDER,
    required=True,
    help="Folder of images. Folders in it, as many as the model has outputs, are taken for their classes.",
)
@click.option(
    "--labels",
    type=FILE,
    metavar="DIR|FILE.csv",
    help="PNG files with the class of each pixel, named as the images; or a table of file names and class numbers.",
)
@click.option("--layer", metavar="NAME", help="Where position is erased and channels are ranked.  [default: the last]")
@click.option("--quick", is_flag=True, help="At most 200 images, fewer draws and changes: minutes on two cores.")
@size_option
@max_images_option("all; with --quick 200")
@device_option
@seed_option
@click.option(
    "-o", "--output", type=PAGE, metavar="FILE.html", default="model-report.html", help="Page; the result is beside."
)
@overwrite_option
@click.pass_context
def report_model(
    ctx: click.Context,
    model: str,
    weights: str | None,
    model_args: dict[str, Any],
    images: Path,
    labels: Path | None,
    size: int | str | None,
    device: str,
    seed: int,
    output: Path,
    overwrite: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Write the page of one model: where it knows position, why, and what happens without.

    With --weights, beside the model as it is without them. A part that fails leaves its reason on the page, and the
    command then ends with 1.
    """
    check_page(output, overwrite)

    from probe.analyses.overview import study as overview
    from probe.reports.overview.page import findings

    of_pixels = labels is not None and labels.is_dir()
    labelled = None if labels is None else _labelled(images, labels)
    size = OWN_SIZE if of_pixels and size is None else size
    source = open_source(model, weights, size, seed, quiet, model_args)
    result = overview.run(
        source.model,
        images,
        labelled=labelled,
        score=SEGMENTATION_SCORES if of_pixels else None,
        untrained=open_source(model, None, size, seed, True, model_args).model if weights else None,
        transform=source.transform,
        device=choose_device(device),
        seed=seed,
        command=ctx.obj,
        progress=not quiet,
        **settings,
    )
    record(result, source, ctx.obj)
    write_page(result, findings(result), output, overwrite)
    if result.attrs["failed"] != "{}":
        ctx.exit(1)


def _labelled(images: Path, labels: Path) -> Any:
    """Return the images with their labels: maps of classes from a folder, classes from a table."""
    from probe.analyses.data.labelled import LabelledFolder, LabelTable

    if labels.is_dir():
        return LabelledFolder(images, labels)
    if labels.suffix.lower() != ".csv" or not labels.is_file():
        raise click.UsageError(
            f"--labels {labels}: is neither a folder of PNG files nor a CSV file of file names and class numbers."
        )
    return LabelTable(images, labels)


@click.command(
    "compare",
    cls=Task,
    examples=["probe report compare resnet18.nc resnet50.nc vit.nc -o compare.html"],
)
@click.argument("files", nargs=-1, type=FILE, metavar="FILE.nc ...", required=True)
@click.option(
    "-o", "--output", type=PAGE, metavar="FILE.html", default="compare.html", help="Page; the result is beside."
)
@overwrite_option
@click.pass_obj
def report_compare(command: str, files: tuple[Path, ...], output: Path, overwrite: bool, quiet: bool) -> None:
    """Write the page of several models side by side, from what `probe report model` saved.

    From the files alone: no model is run.
    """
    check_page(output, overwrite)

    from probe.analyses.overview.comparison import compare
    from probe.reports.overview.comparison import findings
    from probe.results import load

    names = _names(files)
    result = compare({name: load(file) for name, file in zip(names, files, strict=True)}, command=command)
    write_page(result, findings(result), output, overwrite)


def _names(files: tuple[Path, ...]) -> list[str]:
    """Return what tells files apart: their names, else their paths."""
    names = [file.stem for file in files]
    if len(set(names)) == len(names):
        return names
    paths = [str(file.with_suffix("")) for file in files]
    if len(set(paths)) < len(paths):
        raise click.UsageError("FILE.nc: one file is named twice.")
    return paths
