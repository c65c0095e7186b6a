"""The command `plan`: what measuring many images on several devices will take, from a short trial on one."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from probe.command.arguments import (
    COUNT,
    device_option,
    model_args_option,
    model_argument,
    several,
    size_option,
    weights_option,
)
from probe.command.names import STIMULI
from probe.command.sources import (
    choose_device,
    noise_image,
    open_source,
)
from probe.command.tasks import (
    Task,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Plan", "plan", "try_out"]

_LEAST_BATCHES = 3  # the first begins the sums, and the time between two others is taken
_POSITIVE = click.FloatRange(min=0, min_open=True)


@dataclass(frozen=True)
class Plan:
    """What `probe.layerwise` takes of one device, measured, and of several, computed.

    Attributes
    ----------
    images, devices : int
        What was asked for.
    bandwidth : float
        Bytes a second between devices, as stated.
    images_per_second : float
        Of one device, in the trial, without what reads and decodes files.
    scoring_s : float
        Seconds that scoring all layers takes of one.
    sums_bytes : int
        What a device keeps, and a checkpoint or shard holds.
    memory_bytes : int
        What the trial took at most: of a GPU, or of the process.

    Examples
    --------
    >>> plan = Plan(1000, 4, 1e9, images_per_second=50, scoring_s=2, sums_bytes=2_000_000_000, memory_bytes=0)
    >>> plan.reading_s, plan.all_reduce_bytes, plan.all_reduce_s, plan.wall_s
    (5.0, 3000000000, 3.0, 8.5)
    """

    images: int
    devices: int
    bandwidth: float
    images_per_second: float
    scoring_s: float
    sums_bytes: int
    memory_bytes: int

    @property
    def reading_s(self) -> float:
        """Seconds to read a device's share."""
        return -(-self.images // self.devices) / self.images_per_second

    @property
    def all_reduce_bytes(self) -> int:
        """Bytes that each device sends, in a ring: all but its part, twice."""
        return round(2 * (self.devices - 1) / self.devices * self.sums_bytes)

    @property
    def all_reduce_s(self) -> float:
        """Seconds of that at the stated bandwidth."""
        return self.all_reduce_bytes / self.bandwidth

    @property
    def wall_s(self) -> float:
        """Seconds of it all; the devices score in turn."""
        return self.reading_s + self.all_reduce_s + self.scoring_s / self.devices


@click.command(
    cls=Task,
    examples=[
        "probe plan resnet50 --images 1281167 --gpus 8",
        "probe plan vit_b_16 --images 100000000 --gpus 64 --bandwidth 20 --json",
        "probe plan nets:make_net --images 2000 --gpus 2 --device cpu --size 32 --seconds 5",
    ],
)
@model_argument
@weights_option
@model_args_option
@size_option
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(min=_LEAST_BATCHES),
    required=True,
    metavar="N",
    help="How many to measure.",
)
@click.option("--gpus", "n_devices", type=COUNT, default=1, metavar="K", help="On how many devices like this one.")
@click.option("--bandwidth", type=_POSITIVE, default=10.0, metavar="GB/s", help="Between devices.")
@click.option("--seconds", type=_POSITIVE, default=20.0, metavar="S", help="How long to try.")
@click.option("--batch-size", type=COUNT, default=32, metavar="N", help="Images in a batch.")
@several("--layers", metavar="GLOB,...", default=["auto"], help="As in `probe layerwise`.")
@several("--stimuli", metavar="NAME,...", known=STIMULI, default=["natural", "rolled"], help="As in `probe layerwise`.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, and nothing else.")
def plan(
    model: str, weights: str | None, model_args: dict[str, Any], size: int | str | None, n_images: int,
    n_devices: int, bandwidth: float, seconds: float, batch_size: int, layers: tuple[str, ...],
    stimuli: tuple[str, ...], device: str, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Tell what layerwise will take of many images on several devices.

    From a trial with images of noise on one device, computed for the others: that it reads files as fast as the model
    runs is taken for granted.
    """
    source = open_source(model, weights, size, 0, quiet, model_args)
    found = try_out(
        source.model, noise_image(source, None), n_images=n_images, n_devices=n_devices, bandwidth=1e9 * bandwidth,
        seconds=seconds, batch_size=batch_size, layers=layers, stimuli=stimuli, device=choose_device(device),
    )  # fmt: skip
    if as_json:
        computed = {name: getattr(found, name) for name in ("reading_s", "all_reduce_bytes", "all_reduce_s", "wall_s")}
        click.echo(json.dumps({**asdict(found), **computed}, indent=2))
        return
    rows = {
        "images a second, one device (trial)": f"{found.images_per_second:,.1f}",
        "sums a device keeps": f"{found.sums_bytes / 1e6:,.1f} MB",
        "memory at most (trial)": f"{found.memory_bytes / 1e9:,.2f} GB",
        f"reading {found.images:,} images on {found.devices}": f"{found.reading_s:,.1f} s",
        f"all-reduce, at {bandwidth:g} GB/s": f"{found.all_reduce_bytes / 1e6:,.1f} MB, {found.all_reduce_s:,.2f} s",
        f"scoring, shared by {found.devices}": f"{found.scoring_s / found.devices:,.1f} s",
        "in all": f"{found.wall_s:,.1f} s, {found.wall_s / 3600:,.2f} h",
    }
    width = max(map(len, rows))
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))


def try_out(
    model: "nn.Module", image: "Tensor", *, n_images: int, n_devices: int, bandwidth: float, seconds: float,
    batch_size: int, layers: Sequence[str], stimuli: Sequence[str], device: str,
) -> Plan:  # fmt: skip
    """Run a model for some seconds as `probe.layerwise` would for so many images, and score what it has read."""
    import warnings

    import psutil
    import torch

    from probe.errors import IllConditionedError, ProbeWarning
    from probe.measures.scoring import layerwise_result
    from probe.reading.collecting import collect_statistics, statistics_bytes
    from probe.reading.options import Options

    stamps: list[float] = []
    batch_size = max(1, min(batch_size, n_images // _LEAST_BATCHES))
    shown = torch.randn(batch_size, *image.shape[1:], generator=torch.Generator().manual_seed(0), device="cpu")

    def batches() -> Iterator["Tensor"]:
        while len(stamps) < _LEAST_BATCHES or stamps[-1] - stamps[1] < seconds:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            stamps.append(time.perf_counter())
            yield shown

    options = Options(
        layers=layers, stimuli=stimuli, batch_size=batch_size, device=device, max_images=n_images, progress=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        statistics, _ = collect_statistics(model, batches(), options, grams=True, moments=False)
        start = time.perf_counter()
        with suppress(IllConditionedError):  # of few images; the time is what counts
            layerwise_result(statistics, 1e-3, ())
    scoring = time.perf_counter() - start
    on_gpu = device.startswith("cuda")
    return Plan(
        images=n_images,
        devices=n_devices,
        bandwidth=bandwidth,
        images_per_second=batch_size * (len(stamps) - 2) / (stamps[-1] - stamps[1]),
        scoring_s=scoring,
        sums_bytes=statistics_bytes(statistics.layers, options, grams=True, moments=[]),
        memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else psutil.Process().memory_info().rss,
    )
