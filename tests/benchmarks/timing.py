"""Paired timing: two things measured in turn, so that what else the machine does falls on both."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(first: Callable[[], object], second: Callable[[], object], repetitions: int) -> tuple[float, list[float]]:
    """Return the median ratio second/first of repetitions, and all ratios.

    Each time of the second is divided by the mean of the first's just before and just after it: a machine whose speed
    drifts, as that of virtual ones does, then changes both alike.
    """
    before, ratios = seconds(first), []
    for _ in range(repetitions):
        time_of_second, after = seconds(second), seconds(first)
        ratios.append(time_of_second / statistics.mean((before, after)))
        before = after
    return statistics.median(ratios), ratios


def forward_pass(model: nn.Module, images: Tensor, batch_size: int) -> Callable[[], None]:
    """Return the bare forward pass over batches that lie ready in the faster memory format."""
    formats = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        batch = images[:batch_size].contiguous(memory_format=memory_format)
        with torch.inference_mode():
            model(batch)
            formats[memory_format] = min(seconds(lambda batch=batch: model(batch)) for _ in range(3))
    fastest = min(formats, key=lambda memory_format: formats[memory_format])
    batches = [
        images[start : start + batch_size].contiguous(memory_format=fastest)
        for start in range(0, len(images), batch_size)
    ]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    return run


def report(name: str, ratio: float, ratios: list[float], target: str) -> None:
    spread = ", ".join(f"{value:.3f}" for value in ratios)
    print(f"{name}: {ratio:.3f} × the forward pass (of {spread}); {target}", flush=True)
