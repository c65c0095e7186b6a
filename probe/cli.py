"""The command `probe`. What is heavy is imported by the commands that need it, so that help comes at once."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands import (
    COUNT,
    FILE,
    FOLDER,
    Program,
    Studies,
    Task,
    device_option,
    json_option,
    max_images_option,
    measurement_options,
    model_argument,
    overwrite_option,
    positions_option,
    several,
    size_option,
    weights_option,
)
from probe.errors import ResultFileError

if TYPE_CHECKING:
    import xarray as xr

    from probe.model_sources import ModelSource

__all__ = ["main"]

_MOST_FINDINGS = 3
_REPORTS = (
    "probe report padding",
    "probe report padding --model resnet18 --weights resnet18.pth --images photos -o resnet18.html",
    "probe report padding-report.nc -o page.html",
)


@click.group(
    "probe",
    cls=Program,
    context_settings={"show_default": True, "max_content_width": 110},
    examples=[
        "probe layers resnet18",
        "probe layerwise resnet18 --images photos -o resnet18.nc",
        "probe show resnet18.nc",
        "probe report padding",
    ],
)
@click.version_option(package_name="position-probe", prog_name="probe")
def main() -> None:
    """Find where a vision model knows absolute position, why, and what happens without it.

    MODEL is a name of torchvision, such as resnet18, or module:function, such as nets:make_net for make_net() in
    nets.py. Tables go to stdout, all else to stderr. Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.
    """


@main.command(
    cls=Task,
    examples=[
        "probe layers resnet18",
        "probe layers vit_b_16 --json",
        "probe layers nets:make_net --size 64",
    ],
)
@model_argument
@weights_option
@size_option
@json_option
def layers(model: str, weights: str | None, size: int | None, as_json: bool, quiet: bool) -> None:
    """List the layers of a model.

    With type, shape (channel, row, column), calls, whether --layers auto reads them, and the memory (MB) that
    layerwise needs for each.
    """
    import pandas as pd

    import probe

    source = _open(model, weights, size, 0, quiet)
    table = probe.list_layers(source.model, _noise_image(source))
    if as_json:
        click.echo(table.reset_index().to_json(orient="records", indent=2, force_ascii=False))
        return
    table["shape"] = ["" if shape is None else "×".join(map(str, shape)) for shape in table["shape"]]
    with pd.option_context("display.max_colwidth", 60):
        click.echo(table.to_string(na_rep=""))


@main.command(
    cls=Task,
    examples=[
        "probe layerwise resnet18 --images photos -o resnet18.nc --weights IMAGENET1K_V1",
        "probe layerwise nets:make_net --weights trained.pt --images photos -o net.nc \\",
        "    --layers 'layer*.conv1' --targets row,column,radius --maps layer4.1.conv1",
    ],
)
@measurement_options
@positions_option
@click.option("--alpha", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Ridge penalty.")
@click.pass_obj
def layerwise(command: str, **given: Any) -> None:
    """Measure position in each layer.

    How well a linear readout of all channels tells where in the image it is, cross-validated over images.
    """
    import probe

    _measure(probe.layerwise, command, **given)


@main.command(
    cls=Task,
    examples=[
        "probe channelwise resnet18 --images photos -o channels.nc",
        "probe channelwise vgg11 --images photos -o channels.nc --layers 'features.*' --max-images 200",
    ],
)
@measurement_options
@click.pass_obj
def channelwise(command: str, **given: Any) -> None:
    """Measure position in each channel.

    Which share of its variance position explains (omega2), and its squared correlation with each target (r2).
    """
    import probe

    _measure(probe.channelwise, command, **given)


@main.command(cls=Task, examples=["probe show resnet18.nc", "probe show resnet18.nc --figures figures"])
@click.argument("file", type=FILE)
@click.option("--figures", type=FILE, metavar="FOLDER", help="Save figures there, as PNG.")
@overwrite_option
@json_option
def show(file: Path, figures: Path | None, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Show a saved result: table and figures."""
    from probe.results import load
    from probe.showing import save_figures

    result = load(file)
    _tell(result, file, as_json)
    if figures is not None:
        for path in save_figures(result, figures, file.stem, overwrite=overwrite):
            _note(f"figure: {path}", quiet)


@main.group(
    cls=Studies,
    subcommand_metavar="STUDY|FILE.nc [OPTIONS]",
    # Options before a file belong to the command that rebuilds its page.
    context_settings={"ignore_unknown_options": True},
    examples=_REPORTS,
)
def report() -> None:
    """Write the page of a study or of a result."""


@report.command("padding", cls=Task, examples=_REPORTS[:2])
@click.option(
    "-o", "--output", type=FILE, metavar="FILE.html", default="padding-report.html", help="Page; the result is beside."
)
@overwrite_option
@click.option("--model", help="Swap the padding of this MODEL, instead of training small networks.")
@weights_option
@click.option("--images", type=FOLDER, help="Folder of images for --model.")
@size_option
@max_images_option
@device_option
@several("--paddings", metavar="NAME,...", help="Names of probe.PADDINGS.  [default: all]")
@click.option("--seeds", type=COUNT, default=3, help="Small networks to train for each padding.")
@click.option("--preset", default="default", help="How long to train them: default, or tiny for a trial.")
@click.pass_obj
def report_padding(
    command: str,
    output: Path,
    overwrite: bool,
    model: str | None,
    weights: str | None,
    images: Path | None,
    size: int | None,
    max_images: int | None,
    device: str,
    paddings: tuple[str, ...],
    seeds: int,
    preset: str,
    quiet: bool,
) -> None:
    """Compare paddings: which of them gives position away.

    By default small networks are trained on digits under each padding. With --model the given weights, which were
    trained with one padding, are run under each; with --weights, beside the model as it is without them.
    """
    if (model is None) != (images is None) or (model is None and (weights or size or max_images)):
        raise click.UsageError("--model needs --images; and --images, --weights, --size and --max-images need --model.")
    if model is not None and ":" not in model and weights is None:
        raise click.UsageError("--model with a name of torchvision needs --weights: random ones were trained nowhere.")
    result_file = output.with_suffix(".nc")
    if output == result_file:
        raise click.UsageError(f"{output}: is where the result goes; name the page .html.")
    for path in (output, result_file):
        _check_output(path, overwrite)

    import reports
    from analyses import padding_comparison
    from probe.results import save
    from reports.padding import findings

    settings: dict[str, Any] = {"command": command, "progress": not quiet}
    if paddings:
        settings["paddings"] = paddings
    if model is None:
        result = padding_comparison.run(seeds=seeds, preset=preset, **settings)
    else:
        source = _open(model, weights, size, 0, quiet)
        untrained = _open(model, None, size, 0, quiet=True).model if weights else None
        result = padding_comparison.run(
            source.model,
            images,
            untrained=untrained,
            transform=source.transform,
            max_images=max_images,
            device=_choose_device(device),
            **settings,
        )
        result.attrs.update(weights=source.weights, preprocessing=source.preprocessing)
    save(result, result_file, overwrite=overwrite)
    reports.build(result).save(output, overwrite=overwrite)
    for sentence in findings(result)[:_MOST_FINDINGS]:
        click.echo(f"- {sentence}")
    click.echo(f"page: {output}")
    click.echo(f"result: {result_file}")


@report.command("file", cls=Task, examples=_REPORTS[2:])
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, metavar="FILE.html", help="Page to write.  [default: beside FILE]")
@overwrite_option
def report_file(file: Path, output: Path | None, overwrite: bool, quiet: bool) -> None:
    """Rebuild the page of a saved result.

    From the file alone: no model is run. The word "file" may be left out.
    """
    import reports
    from probe.results import load

    result = load(file)
    output = file.with_suffix(".html") if output is None else output
    if output.resolve() == file.resolve():
        raise click.UsageError(f"{output}: is the result itself; name another file for its page.")
    reports.build(result).save(output, overwrite=overwrite)
    click.echo(f"page: {output}")


def _open(model: str, weights: str | None, size: int | None, seed: int, quiet: bool) -> "ModelSource":
    from probe.model_sources import open_model

    source = open_model(model, weights, size=size, seed=seed)
    _note(f"weights: {source.weights}", quiet)
    _note(f"preprocessing: {source.preprocessing}", quiet)
    return source


def _choose_device(device: str) -> str:
    import torch

    return "cuda" if device == "auto" and torch.cuda.is_available() else device


def _noise_image(source: "ModelSource") -> Any:
    """Return an image of noise as the model would see it, shape (1, channel, row, column)."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(256, size=(256, 256, 3), dtype=np.uint8)
    return source.transform(Image.fromarray(pixels))[None]


def _measure(
    measurement: Callable[..., "xr.Dataset"],
    command: str,
    *,
    model: str,
    weights: str | None,
    size: int | None,
    seed: int,
    images: Path,
    output: Path,
    overwrite: bool,
    device: str,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Run `probe.layerwise` or `probe.channelwise`, save what it returns and tell of it."""
    from probe.results import save

    _check_output(output, overwrite)
    source = _open(model, weights, size, seed, quiet)
    result = measurement(
        source.model,
        images,
        transform=source.transform,
        device=_choose_device(device),
        seed=seed,
        progress=not quiet,
        **settings,
    )
    result.attrs.update(command=command, weights=source.weights, preprocessing=source.preprocessing)
    save(result, output, overwrite=overwrite)
    _tell(result, output, as_json)


def _tell(result: "xr.Dataset", file: Path, as_json: bool) -> None:
    """Print the main numbers of a result, and where it is."""
    from probe.showing import write_json, write_table

    if as_json:
        click.echo(write_json(result, file))
    else:
        click.echo(write_table(result, shutil.get_terminal_size((120, 24)).columns))
        click.echo(f"result: {file}")


def _check_output(path: Path, overwrite: bool) -> None:
    """Find out before the work whether a file can be written."""
    if path.exists() and not path.is_file():
        raise ResultFileError(f"{path}: is a folder or device; name a file.")
    if path.exists() and not overwrite:
        raise ResultFileError(f"{path}: exists already. Pass --overwrite to replace it.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be written: {error.strerror or error}.") from error


def _note(message: str, quiet: bool) -> None:
    if not quiet:
        click.echo(message, err=True)
