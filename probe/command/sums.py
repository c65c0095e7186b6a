"""The commands of sums: collect them, in shards if need be, merge them, and measure what was collected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.command.arguments import (
    FILE,
    collecting_options,
    overwrite_option,
    positions_option,
)
from probe.command.option_types import Shard
from probe.command.sources import (
    choose_device,
    open_source,
    with_clips,
)
from probe.command.tasks import (
    Task,
    is_first_rank,
    note,
)
from probe.errors import counted

if TYPE_CHECKING:
    import xarray as xr

    from probe.sums.statistics import Statistics

__all__ = ["collect", "is_file_of_sums", "measure_sums", "merge"]

_ORIGIN = ("weights", "preprocessing")
_OF_A_RESULT = {"model", "output", "overwrite", "alpha", "maps", "as_json", "quiet", "debug"}


@click.command(
    cls=Task,
    in_ranks=True,
    examples=[
        "probe collect resnet18 --weights IMAGENET1K_V1 --images photos --shard 3/8 -o part3.h5",
        "probe merge part*.h5 -o all.h5",
        "probe layerwise all.h5 -o resnet18.nc",
    ],
)
@collecting_options
@positions_option
@click.option(
    "--shard",
    type=Shard(),
    metavar="K/N",
    help="Read the K-th of N shares: every N-th image, from the K-th on.  [default: all]",
)
def collect(
    model: str, weights: str | None, model_args: dict[str, Any], size: int | str | None, seed: int,
    output: Path, overwrite: bool, device: str, as_json: bool, quiet: bool, padding: str | None,
    position_embedding: str | None, sampling: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Collect the sums behind layerwise and channelwise.

    They add up: `probe merge` makes one file of those of several shares, whatever ran them, and `probe layerwise` and
    `probe channelwise` take it in place of a model.
    """
    import probe
    from probe.command.named_models import varied
    from probe.reading.ranks import joined_group
    from probe.results import check_writable

    if is_first_rank():
        check_writable(output, overwrite=overwrite)
    source = open_source(model, weights, size, seed, quiet, model_args)
    source = varied(source, padding=padding, position_embedding=position_embedding, sampling=sampling, seed=seed)
    device = choose_device(device)
    with joined_group(device):
        statistics = probe.collect(
            source.model,
            transform=source.transform,
            device=device,
            seed=seed,
            progress=not quiet,
            **with_clips(**settings),
        )
    if not is_first_rank():
        return
    # Those of two files that are merged are to agree.
    statistics.settings.update({name: getattr(source, name) for name in _ORIGIN})
    statistics.facts = statistics.facts.warned(source.warned)
    statistics.save(output, overwrite=overwrite)
    _tell(statistics, output, as_json)


@click.command(
    cls=Task,
    examples=[
        "probe merge part*.h5 -o all.h5",
        "probe merge first.h5 second.h5 -o both.h5",
        "probe merge part[1-7].h5 -o seven.h5 --allow-missing",
    ],
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="File of sums to write.")
@overwrite_option
@click.option("--allow-missing", is_flag=True, help="Merge also where shards are missing, which results then tell.")
@click.option("--json", "as_json", is_flag=True, help="Print what was merged as JSON, and nothing else.")
def merge(
    files: tuple[Path, ...], output: Path, overwrite: bool, allow_missing: bool, as_json: bool, quiet: bool
) -> None:
    """Merge sums of different images, such as the shards of one data set.

    Files that overlap are refused, and those of another model or of other arguments; also where images are missing.
    """
    from probe.errors import ArgumentError
    from probe.images.numbering import first_few
    from probe.results import check_writable
    from probe.sums.statistics import Statistics

    check_writable(output, overwrite=overwrite)
    merged: Statistics | None = None
    for file in files:
        part = Statistics.load(file)
        try:
            merged = part if merged is None else merged.merge(part)
        except ArgumentError as error:
            raise ArgumentError(f"{file}: {error}") from error
        note(f"{file}: {counted(part.facts.n_images, 'image')}", quiet)
    assert merged is not None
    if (missing := merged.missing) and not allow_missing:
        raise ArgumentError(
            f"merge: {first_few(missing)} of {sum(map(len, merged.expected))} are missing: shards that were not given. "
            "Give them too, or pass --allow-missing."
        )
    merged.save(output, overwrite=overwrite)
    _tell(merged, output, as_json)


def _tell(statistics: "Statistics", file: Path, as_json: bool) -> None:
    n_images, missing = statistics.facts.n_images, len(statistics.missing)
    if as_json:
        told = {
            "file": str(file),
            "n_images": n_images,
            "missing": missing,
            "layers": [layer.name for layer in statistics.layers],
            "stimuli": statistics.stimuli,
            "targets": statistics.targets,
        }
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    whole = f" of {sum(map(len, statistics.expected))}" if missing else ""
    click.echo(
        f"{n_images}{whole} image{'' if n_images == 1 and not whole else 's'}; "
        f"{counted(len(statistics.layers), 'layer')}; stimuli {', '.join(statistics.stimuli)}; targets "
        f"{', '.join(statistics.targets)}\nsums: {file}"
    )


def is_file_of_sums(model: str, images: Path | None) -> bool:
    """Tell whether a file of sums stands in the place of a model's name."""
    path = Path(model)
    return ":" not in model and (path.suffix in (".h5", ".hdf5") or (images is None and path.is_file()))


def measure_sums(
    ctx: click.Context, measurement: Callable[..., "xr.Dataset"], file: str, **settings: Any
) -> "xr.Dataset":
    """Measure sums that were collected, with what alone has an effect on them.

    Raises
    ------
    click.UsageError
        If something else was given.
    """
    from probe.sums.statistics import Statistics

    given = [
        parameter.opts[-1]
        for parameter in ctx.command.params
        if parameter.name not in _OF_A_RESULT
        and ctx.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: {file} was collected before, so it would change nothing. Give it to `probe collect`."
        )
    statistics = Statistics.load(file)
    allowed = {name: value for name, value in settings.items() if name in _OF_A_RESULT}
    result = measurement(statistics, **allowed)
    result.attrs.update({name: statistics.settings[name] for name in _ORIGIN if name in statistics.settings})
    return result
