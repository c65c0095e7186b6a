"""The command `probe`. What is heavy is imported by the commands that need it, so that help comes at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.command.arguments import (
    COUNT,
    FILE,
    NEW_FOLDER,
    frames_option,
    json_option,
    layout_option,
    measurement_options,
    model_args_option,
    model_argument,
    overwrite_option,
    positions_option,
    reading_options,
    several,
    size_option,
    source_options,
    weights_option,
)
from probe.command.names import LAWS
from probe.command.overviews import report_compare, report_model
from probe.command.planning import plan
from probe.command.reports import class_folder, report
from probe.command.sources import (
    choose_device,
    noise_image,
    open_source,
    record,
    with_clips,
)
from probe.command.studies import analyse, audit
from probe.command.sums import collect, is_file_of_sums, measure_sums, merge
from probe.command.tasks import (
    Program,
    Task,
    is_first_rank,
    note,
    tell,
)

if TYPE_CHECKING:
    import xarray as xr


__all__ = ["main"]


@click.group(
    "probe",
    cls=Program,
    context_settings={"show_default": True, "max_content_width": 110, "help_option_names": ["-h", "--help"]},
    examples=[
        "probe layers resnet18",
        "probe layerwise resnet18 --images photos -o resnet18.nc",
        "probe show resnet18.nc --figures figures",
        "probe report resnet18.nc",
        "probe report padding",
        "probe analyse --list",
        "probe audit resnet18",
    ],
)
@click.version_option(package_name="position-probe", prog_name="probe")
def main() -> None:
    """Find where a vision model knows absolute position, why, and what happens without it.

    `probe layers` names the layers of a model, `probe layerwise` measures position in them and saves a result,
    `probe show` prints and draws it, and `probe report` writes its page. MODEL is a name of torchvision, such as
    resnet18; timm:NAME; hf:FOLDER, a local folder of a Hugging Face model; or module:function, such as nets:make_net
    for make_net() in nets.py. Tables go to stdout, all else to stderr. Exit codes: 0 done, 1 error, 2 wrong usage,
    130 interrupted.

    For completion by the shell, put this line into ~/.bashrc (zsh, fish: their names in place of bash):
    eval "$(_PROBE_COMPLETE=bash_source probe)"
    """


@main.command(
    cls=Task,
    examples=[
        "probe layers resnet18",
        "probe layers vit_b_16 --json",
        "probe layers nets:make_net --model-args depth=3,padding=\"'circular'\" --size 64",
        "probe layers r3d_18 --frames 16 --size 112",
    ],
)
@model_argument
@weights_option
@model_args_option
@size_option
@frames_option
@json_option
def layers(
    model: str,
    weights: str | None,
    model_args: dict[str, Any],
    size: int | None,
    frames: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """List the layers of a model.

    With type, shape (channel, row, column), of clips (channel, frame, row, column), calls, whether --layers auto reads
    them, and the memory (MB) that layerwise needs for each.
    """
    import pandas as pd

    import probe

    source = open_source(model, weights, size, 0, quiet, model_args)
    table = probe.list_layers(source.model, noise_image(source, frames))
    if as_json:
        click.echo(table.reset_index().to_json(orient="records", indent=2, force_ascii=False))
        return
    table["shape"] = ["" if shape is None else "×".join(map(str, shape)) for shape in table["shape"]]
    with pd.option_context("display.max_colwidth", 60):
        click.echo(table.to_string(na_rep=""))


@main.command(
    cls=Task,
    in_ranks=True,
    examples=[
        "probe layerwise resnet18 --images photos -o resnet18.nc --weights IMAGENET1K_V1",
        "probe layerwise timm:vit_small_patch16_224 --weights DEFAULT --images photos -o vit.nc --max-images 500",
        "probe layerwise nets:make_net --weights trained.pt --images photos -o net.nc \\",
        "    --layers 'layer*.conv1' --targets row,column,radius --maps layer4.1.conv1",
        "probe layerwise timm:vit_small_patch16_224 --position-embedding mean --images photos -o told-none.nc",
        "probe layerwise r3d_18 --images videos --frames 16 --size 112 -o r3d.nc --stimuli natural,rolled,rolled_space",
        "probe layerwise all.h5 -o resnet18.nc  # of `probe collect` or `probe merge`",
        "torchrun --nproc-per-node 4 -m probe layerwise resnet50 --images photos -o resnet50.nc",
    ],
)
@measurement_options
@positions_option
@click.option(
    "--alpha",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    metavar="X",
    help="Ridge penalty, as a share of the variance of each channel.",
)
@click.pass_obj
def layerwise(command: str, **given: Any) -> None:
    """Measure position in each layer.

    How well a linear readout of all channels tells where in the image it is, cross-validated over images.
    """
    import probe

    _measure(probe.layerwise, command, **with_clips(**given))


@main.command(
    cls=Task,
    in_ranks=True,
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

    _measure(probe.channelwise, command, **with_clips(**given))


@main.command(
    cls=Task,
    examples=[
        "probe neighbours vit_b_16 --images photos -o neighbours.nc --layers encoder.layers.encoder_layer_11",
        "probe neighbours resnet50 --images photos -o neighbours.nc --layers layer3,layer4 --reach 0",
    ],
)
@source_options
@several("--layers", "layer", metavar="GLOB,...", required=True, help="Names, globs, auto, all.")
@several(
    "--stimuli", metavar="NAME,...", known=("natural", "rolled"), default=["natural", "rolled"],
    help="What the other image is shown as.",
)  # fmt: skip
@click.option(
    "--reach", type=click.IntRange(min=0), default=1, metavar="N", help="In cells: how near is the same place."
)
@click.option(
    "--positions", type=COUNT, default=256, metavar="N", help="Cells an image whose nearest is sought, at most."
)
@layout_option
@reading_options
@click.pass_obj
def neighbours(command: str, **given: Any) -> None:
    """Measure how often features match by place.

    How often the features of a cell find their nearest at the same place of another image.
    """
    import probe

    _measure(probe.neighbours, command, **given)


@main.command(
    "shift-consistency",
    cls=Task,
    examples=[
        "probe shift-consistency resnet18 --images photos -o shifts.nc --weights IMAGENET1K_V1 --size 256 --reach 32",
        "probe shift-consistency nets:make_net --images classes -o shifts.nc --law circular --labels",
        "probe shift-consistency vit_b_16 --images photos -o shifts.nc --size 288 --law kayhan",
    ],
)
@source_options
@click.option(
    "--law", type=click.Choice(LAWS), default="crop",
    help="crop: windows of the images, so that --size is what the model takes plus the reach.",
)  # fmt: skip
@click.option(
    "--reach", type=COUNT, metavar="N", help="Largest shift in pixels.  [default: an eighth of the shorter side]"
)
@click.option(
    "--pairs", type=COUNT, metavar="N", help="Pairs of shifts for each image.  [default: as the law has, else 5]"
)
@click.option("--reference", type=click.Choice(["pair", "unshifted"]), default="pair", help="What shifts compare to.")
@click.option("--diagonal/--no-diagonal", default=True, help="Run all shifts along the diagonal.")
@click.option("--labels", is_flag=True, help="Score accuracy too: --images has a folder for each class.")
@click.option("--compare", type=click.Choice(["classes", "embedding"]), default="classes", help="What of the output.")
@click.option(
    "--stride", type=COUNT, metavar="N", help="Pixels from cell to cell of the last map.  [default: from its size]"
)
@reading_options
@click.pass_obj
def shift_consistency(command: str, images: Path, labels: bool, **given: Any) -> None:
    """Measure how often shifts change a prediction.

    The share of pairs of shifts of an image at which the model predicts the same.
    """
    shown = class_folder(images, "--images", "--labels needs", "or leave --labels out") if labels else images
    import probe

    _measure(probe.shift_consistency, command, images=shown, labels=labels, **given)


@main.command(
    cls=Task,
    examples=[
        "probe show resnet18.nc",
        "probe show resnet18.nc --figures figures",
        "probe show resnet18.nc --json > resnet18.json",
    ],
)
@click.argument("file", type=FILE, metavar="FILE.nc")
@click.option("--figures", type=NEW_FOLDER, metavar="FOLDER", help="Save figures there, as PNG.")
@overwrite_option
@json_option
def show(file: Path, figures: Path | None, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Show a saved result of any kind: table and figures."""
    from probe.command.figures import save_figures
    from probe.results import load

    result = load(file)
    tell(result, file, as_json)
    if figures is not None:
        for path in save_figures(result, figures, file.stem, overwrite=overwrite):
            note(f"figure: {path}", quiet)


report.add_command(report_model)
report.add_command(report_compare)
main.add_command(collect)
main.add_command(merge)
main.add_command(plan)
main.add_command(report)
main.add_command(analyse)
main.add_command(audit)


def _measure(
    measurement: Callable[..., "xr.Dataset"],
    command: str,
    *,
    model: str,
    weights: str | None,
    model_args: dict[str, Any],
    size: int | None,
    seed: int,
    images: Any = None,
    output: Path,
    overwrite: bool,
    device: str,
    as_json: bool,
    quiet: bool,
    padding: str | None,
    position_embedding: str | None,
    sampling: str | None,
    **settings: Any,
) -> None:
    """Run a measurement of many images, or of sums, save what it returns and tell of it."""
    is_of_sums = is_file_of_sums(model, images)
    if images is None and not is_of_sums:
        raise click.UsageError("Missing option '--images'. A file of `probe collect` alone does without.")
    from probe.command.named_models import varied
    from probe.reading.ranks import joined_group
    from probe.results import check_writable, save

    if is_first_rank():
        check_writable(output, overwrite=overwrite)
    if is_of_sums and not is_first_rank():
        return
    if is_of_sums:
        result = measure_sums(click.get_current_context(), measurement, model, **settings)
        result.attrs["command"] = command
        save(result, output, overwrite=overwrite)
        tell(result, output, as_json)
        return
    source = open_source(model, weights, size, seed, quiet, model_args)
    source = varied(source, padding=padding, position_embedding=position_embedding, sampling=sampling, seed=seed)
    device = choose_device(device)
    with joined_group(device):
        result = measurement(
            source.model,
            images,
            transform=source.transform,
            device=device,
            seed=seed,
            progress=not quiet,
            **settings,
        )
    if is_first_rank():
        record(result, source, command)
        save(result, output, overwrite=overwrite)
        tell(result, output, as_json)
